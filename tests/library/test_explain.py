"""Explanations of single draws put together, against one image and one draw at a time."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from resilience import computing, explain, graphs, networks
from resilience.posterior import Posterior
from tests.conftest import double_network, noisy_posterior
from tests.library.lrp_stacks import conv_stack, images

LAYERS, DRAWS, COUNT = (0, 3, 7), 6, 11


def of_each_layer(graph, x: Tensor, explained: Tensor, layers, **_: object) -> Tensor:
    """Pixels times the explained logit, of either sign or zero, times one more than the layer."""
    logit = graphs.trace(graph, x).output.gather(1, explained[:, None])[:, 0]
    relevance = x * torch.where(logit > 0.5, logit, logit.clamp(max=0))[:, None, None, None]
    return torch.stack([(layer + 1) * relevance for layer in layers])


def of_the_output(graph, x: Tensor, explained: Tensor, **_: object) -> Tensor:
    return of_each_layer(graph, x, explained, LAYERS[-1:])[0]


def random(x: Tensor, generator: torch.Generator, **_: object) -> Tensor:
    return torch.randn(x.shape, generator=generator, dtype=torch.float64).to(x)


@pytest.fixture(scope="module")
def posterior() -> Posterior:
    return noisy_posterior(double_network(conv_stack(True), 0), DRAWS, noise=0.3)


@pytest.fixture(scope="module")
def x() -> Tensor:
    return images((1, 8, 8), 0, count=COUNT)


@pytest.fixture(scope="module", params=["one class", "a class for each draw"])
def explained(request) -> Tensor:
    classes = torch.arange(COUNT) % 3
    return classes if request.param == "one class" else (torch.arange(DRAWS)[:, None] + classes) % 3


def slow(posterior: Posterior, x: Tensor, explained: Tensor) -> np.ndarray:
    """The maps of each draw: [layers, images, draws, C, H, W]."""
    found = np.zeros((len(LAYERS), COUNT, DRAWS, *x.shape[1:]))
    for number, image in enumerate(x):
        for draw, weights in enumerate(posterior):
            target = explained[draw, number] if explained.dim() == 2 else explained[number]
            logit = float(networks.logits(posterior.network, weights, image[None])[0, target])
            logit = logit if logit > 0.5 or logit < 0 else 0.0
            for place, layer in enumerate(LAYERS):
                found[place, number, draw] = (layer + 1) * image.numpy() * logit
    return found


def most_frequent_sign(maps: np.ndarray) -> np.ndarray:
    found = np.zeros((*maps.shape[:2], *maps.shape[3:]))
    for index in np.ndindex(*found.shape):
        signs = [np.sign(maps[(*index[:2], draw, *index[2:])]) for draw in range(DRAWS)]
        found[index] = max(signs.count(sign) for sign in (-1, 0, 1)) / DRAWS
    return found


SLOW = {
    "mean": lambda maps: maps.mean(2),
    "median": lambda maps: np.median(maps, axis=2),
    "sign_agreement": most_frequent_sign,
    "each": lambda maps: maps,
}


@pytest.mark.parametrize("over", SLOW)
def test_draws_are_put_together_as_by_hand(over, posterior, x, explained):
    expected = SLOW[over](slow(posterior, x, explained))
    found = explain.explain(posterior, x, explained, of_each_layer, LAYERS, over)
    assert found.shape == expected.shape
    assert np.allclose(found.numpy(), expected, rtol=0, atol=1e-12)
    output = explain.explain(posterior, x, explained, of_the_output, LAYERS, over)
    assert torch.equal(output, found[-1:])


def test_the_example_has_something_to_agree_on(posterior, x):
    maps = slow(posterior, x, torch.arange(COUNT) % 3)
    agreeing = {round(value * DRAWS) for value in most_frequent_sign(maps)[:, (x > 0).numpy()].ravel()}
    assert min(agreeing) < DRAWS - 1
    assert max(agreeing) == DRAWS
    assert {-1, 0, 1} <= set(np.sign(maps).ravel())


@pytest.mark.parametrize("over", SLOW)
def test_chunks_and_threads_change_nothing(over, posterior, x, explained, monkeypatch):
    arguments = (posterior, x, explained, of_each_layer, LAYERS, over)
    whole = explain.explain(*arguments)
    for size in (1, 4, 5):
        monkeypatch.setattr(explain, "chunk_of", lambda *_, size=size: size)
        alone = explain.explain(*arguments)
        torch.testing.assert_close(alone, whole, rtol=0, atol=1e-13)
        monkeypatch.setattr(computing, "_workers", 3)
        assert torch.equal(explain.explain(*arguments), alone)
        monkeypatch.setattr(computing, "_workers", 1)


@pytest.mark.parametrize("over", [over for over in SLOW if over != "mean"])
def test_maps_that_are_kept_take_no_more_memory_than_allowed(over, posterior, x, monkeypatch):
    sizes = []

    def watched(graph, x: Tensor, **rest: object) -> Tensor:
        sizes.append(len(x))
        return of_each_layer(graph, x, **rest)

    arguments = (posterior, x, torch.arange(COUNT) % 3, watched, LAYERS, over)
    whole = explain.explain(*arguments)
    assert set(sizes) == {COUNT}
    sizes.clear()
    monkeypatch.setattr(explain, "KEPT_IMAGES", 3)
    torch.testing.assert_close(explain.explain(*arguments), whole, rtol=0, atol=1e-13)
    assert max(sizes) == 3


def test_the_first_draws_are_explained_alike_however_many_there_are(posterior, x, monkeypatch):
    monkeypatch.setattr(explain, "KEPT_IMAGES", 3)
    classes = torch.zeros(COUNT, dtype=torch.int64)
    fewer = Posterior(posterior.network, {name: value[:2] for name, value in posterior.weights.items()})
    few, many = (explain.explain(some, x, classes, random, LAYERS, "each", seed=3) for some in (fewer, posterior))
    assert torch.equal(few, many[:, :, :2])


@pytest.mark.parametrize("over", SLOW)
@pytest.mark.parametrize("workers", [1, 3])
def test_random_maps_follow_from_the_seed_alone(over, workers, posterior, x, monkeypatch):
    monkeypatch.setattr(explain, "chunk_of", lambda *_: 4)
    arguments = (posterior, x, torch.zeros(COUNT, dtype=torch.int64), random, LAYERS, over)
    first = explain.explain(*arguments, seed=3)
    monkeypatch.setattr(computing, "_workers", workers)
    torch.rand(5)  # random numbers of others mean nothing
    assert torch.equal(explain.explain(*arguments, seed=3), first)
    assert not torch.equal(explain.explain(*arguments, seed=4), first)


def test_each_draw_has_random_numbers_of_its_own_however_many_there_are(posterior, x):
    classes = torch.zeros(COUNT, dtype=torch.int64)
    (each,) = explain.explain(posterior, x, classes, random, LAYERS, "each", seed=3)
    assert each.shape == (COUNT, DRAWS, 1, 8, 8)
    flat = each.transpose(0, 1).flatten(1)
    assert (torch.corrcoef(flat) - torch.eye(DRAWS, dtype=torch.float64)).abs().max() < 0.2
    few = Posterior(posterior.network, {name: value[:2] for name, value in posterior.weights.items()})
    assert torch.equal(explain.explain(few, x, classes, random, LAYERS, "each", seed=3)[0], each[:, :2])
    mean = explain.explain(posterior, x, classes, random, LAYERS, "mean", seed=3)[0]
    torch.testing.assert_close(mean, each.mean(1), rtol=0, atol=1e-15)


def test_images_of_other_chunks_have_other_random_numbers(posterior, x, monkeypatch):
    monkeypatch.setattr(explain, "chunk_of", lambda *_: 4)
    (maps,) = explain.explain(posterior, x, torch.zeros(COUNT, dtype=torch.int64), random, LAYERS, seed=3)
    assert len({relevance.numpy().tobytes() for relevance in maps}) == COUNT


def test_a_map_of_one_draw_is_the_mean_the_median_and_each(posterior, x):
    one = Posterior(posterior.network, {name: value[:1] for name, value in posterior.weights.items()})
    arguments = (one, x, torch.arange(COUNT) % 3, of_each_layer, LAYERS)
    mean, median, each = (explain.explain(*arguments, over) for over in ("mean", "median", "each"))
    assert torch.equal(mean, median)
    assert torch.equal(mean, each[:, :, 0])
    assert set(explain.explain(*arguments, "sign_agreement").ravel().tolist()) == {1.0}
