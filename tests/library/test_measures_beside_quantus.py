"""Measures against those of Quantus and scikit-image, where these are installed: ``pip install quantus``."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from resilience import posterior
from resilience.measures import maps, networks, sanity
from tests.conftest import double_network

quantus = pytest.importorskip("quantus")
metrics = pytest.importorskip("skimage.metrics")

CLEAN, ATTACKED = np.random.default_rng(0).normal(size=(2, 6, 1, 8, 9))
FLAT = list(zip(CLEAN.reshape(6, -1), ATTACKED.reshape(6, -1), strict=True))


@pytest.mark.parametrize(
    ("measure", "theirs"),
    [
        (maps.spearman, "correlation_spearman"),
        (maps.kendall_tau, "correlation_kendall_tau"),
        (lambda a, b: 1 - maps.cosine(a, b), "cosine"),
        (lambda a, b: maps.l1_distance(a, b, scale="none"), "distance_manhattan"),
        (lambda a, b: maps.l2_distance(a, b, scale="none"), "distance_euclidean"),
    ],
)
def test_similarities_are_those_of_quantus(measure, theirs):
    expected = [getattr(quantus.similarity_func, theirs)(*pair) for pair in FLAT]
    assert np.allclose(measure(CLEAN, ATTACKED), expected)


def test_ssim_is_that_of_scikit_image():
    """With its border: scikit-image leaves that out of the mean, so its map of similarities is averaged here."""
    shape = (6, 1, 14, 15)
    clean, attacked = np.random.default_rng(0).normal(size=(2, *shape))
    pictures = [(part / np.abs(part).max((1, 2, 3), keepdims=True) + 1) / 2 for part in (clean, attacked)]
    expected = [
        metrics.structural_similarity(
            a[0], b[0], gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=1, full=True
        )[1].mean()
        for a, b in zip(*pictures, strict=True)
    ]
    assert np.allclose(maps.ssim(clean, attacked), expected)


def test_overlap_is_the_intersection_of_quantus():
    """Which counts how many of the top k lie in a mask; here that of the clean map."""
    masks = np.abs(CLEAN) >= np.sort(np.abs(CLEAN).reshape(6, -1))[:, -18, None, None, None]
    metric = quantus.TopKIntersection(k=18, abs=True, normalise=False, disable_warnings=True)
    expected = metric(model=None, x_batch=CLEAN, y_batch=np.zeros(6, int), a_batch=ATTACKED, s_batch=masks)
    assert np.allclose(maps.overlap(CLEAN, ATTACKED, top_k=25), expected)


@pytest.mark.parametrize("values", ["signed", "absolute"])
def test_deletion_is_the_area_under_pixel_flipping_of_quantus(values):
    network = double_network([nn.Flatten(), nn.Linear(72, 9), nn.LeakyReLU(), nn.Linear(9, 3)], 0).float()
    x, explained = np.random.default_rng(1).random((6, 1, 8, 9), dtype=np.float32), np.arange(6) % 3
    x[..., 0, 0] = 0.0  # Black is the least value of an image there.
    single = posterior.point(network.requires_grad_(False))
    metric = quantus.PixelFlipping(abs=values == "absolute", normalise=False, disable_warnings=True)
    curves = metric(model=network, x_batch=x, y_batch=explained, a_batch=CLEAN, softmax=True, channel_first=True)
    first = posterior.predict(single, torch.from_numpy(x)).numpy()[np.arange(6), explained]
    expected = np.trapezoid(np.column_stack([first, np.array(curves)]), dx=1 / 72, axis=1)
    relevance = torch.from_numpy(CLEAN)
    numbers = torch.Generator().manual_seed(0)
    found = sanity.deletion(
        single, torch.from_numpy(x), relevance, torch.from_numpy(explained), numbers, steps=72, values=values
    )
    assert np.allclose(found, expected, atol=1e-6)


def test_local_lipschitz_is_the_ratio_of_quantus():
    network = double_network([nn.Flatten(), nn.Linear(72, 3)], 0)
    x = torch.rand(6, 1, 8, 9, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    noise = 2 * torch.rand(x.shape, generator=torch.Generator().manual_seed(1)).double() - 1
    changed = (x + 0.3 * noise).clamp(0, 1)
    answers = [network(images).softmax(1).detach().numpy() for images in (x, changed)]
    expected = [
        quantus.similarity_func.lipschitz_constant(
            a, b, image.ravel(), other.ravel(), norm_numerator=quantus.similarity_func.distance_euclidean
        )
        for a, b, image, other in zip(*answers, x.numpy(), changed.numpy(), strict=True)
    ]
    single = posterior.point(network.requires_grad_(False))
    numbers = torch.Generator().manual_seed(1)
    found = networks.local_lipschitz(single, x, numbers, epsilon=0.3, samples=1, norm="l2")
    assert np.allclose(found, expected)
