"""Measures of networks against automatic differentiation and slow forms, and where the answer is known."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from resilience import cancellation, computing, posterior
from resilience.attacks.ball import Ball
from resilience.attacks.gradient import LossGradient
from resilience.graphs import graphs_of
from resilience.measures import forward, networks
from resilience.networks import logits
from resilience.posterior import Posterior
from tests.conftest import double_network, noisy_posterior

SHAPE, POINTS, CLASSES = (1, 4, 4), 6, 3
X = torch.rand((POINTS, *SHAPE), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
Y = torch.arange(POINTS) % CLASSES
ORDERS = {"l1": 1, "l2": 2, "linf": np.inf}


def layers() -> list[nn.Module]:
    return [nn.Conv2d(1, 3, 3, padding=1), nn.LeakyReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(12, CLASSES)]


def several(draws: int = 4) -> Posterior:
    return noisy_posterior(double_network(layers(), 1), draws, noise=0.5)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def shifted(network: Posterior, name: str, by: list[float]) -> Posterior:
    weights = {key: value.clone() for key, value in network.weights.items()}
    weights[name] += torch.tensor(by, dtype=torch.float64)
    return Posterior(network.network, weights)


def gradients(network: Posterior, x: Tensor, y: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """∇ₓ(−log E_w[p_y]) and E_w[∇ₓ(−log p_y)], [N, pixels], by automatic differentiation of one image at a time."""
    of_predictive, of_draws = [], []
    for image, label in zip(x, y, strict=True):
        image = image[None].clone().requires_grad_()
        probabilities = torch.stack([logits(network.network, draw, image).softmax(1)[0, label] for draw in network])
        for loss, found in ((-probabilities.mean().log(), of_predictive), (-probabilities.log().mean(), of_draws)):
            found.append(torch.autograd.grad(loss, image, retain_graph=True)[0].flatten().numpy())
    return np.array(of_predictive), np.array(of_draws)


# ---------------------------------------------------------------- gradients


@pytest.mark.parametrize("norm", ORDERS)
@pytest.mark.parametrize("draws", [1, 4])
def test_norms_are_those_of_automatic_differentiation(norm, draws):
    network = several(draws)
    for loss, expected in zip(("predictive", "draws"), gradients(network, X, Y), strict=True):
        found = networks.gradient_norm(network, X, Y, norm=norm, loss=loss)
        assert np.allclose(found, np.linalg.norm(expected, ORDERS[norm], axis=1), rtol=1e-9)
        assert found.dtype == np.float64


def test_the_predictive_gradient_is_the_one_that_attacks_follow():
    network = several()
    direction = LossGradient(network, SHAPE, "likelihood")(X, Y).flatten(1).numpy()
    expected, _ = gradients(network, X, Y)
    ratio = np.linalg.norm(direction, axis=1) / networks.gradient_norm(network, X, Y)
    assert np.allclose(direction, expected * ratio[:, None])


def test_a_confident_network_has_a_gradient():
    """Where automatic differentiation finds none through the softmax of a job; written in 1 − p_y = σ(u), it does."""
    network, y = shifted(several(), "4.bias", [150.0, 0.0, 0.0]), torch.zeros(POINTS, dtype=torch.int64)
    x = X.clone().requires_grad_()
    z = torch.stack([logits(network.network, draw, x) for draw in network])
    missing = torch.sigmoid(z[..., 1:].logsumexp(2) - z[..., 0]).mean(0)
    (expected,) = torch.autograd.grad(-torch.log1p(-missing).sum(), x)
    single = Posterior(network.network.float(), {name: value.float() for name, value in network.weights.items()})
    assert (gradients(single, X.float(), y)[0] == 0).all()
    found = networks.gradient_norm(single, X.float(), y)
    assert np.allclose(found, expected.flatten(1).norm(dim=1), rtol=1e-3, atol=0)


def test_a_network_that_is_confidently_wrong_has_the_gradient_of_its_margin():
    """L = u there, be the label's probability e⁻¹⁰⁰ or 0 in double precision."""
    y = torch.zeros(POINTS, dtype=torch.int64)
    wrong, hopeless = (shifted(several(1), "4.bias", [by, 0.0, 0.0]) for by in (-100.0, -2000.0))
    expected = networks.gradient_norm(wrong, X, y)
    assert (expected > 0.01).all()
    assert np.allclose(networks.gradient_norm(hopeless, X, y), expected)


def test_a_draw_that_gives_the_label_no_chance_does_not_count():
    network, y = several(2), torch.zeros(POINTS, dtype=torch.int64)
    weights = {name: value.clone() for name, value in network.weights.items()}
    weights["4.bias"][1, 0] -= 300
    one = Posterior(network.network, {name: value[:1] for name, value in network.weights.items()})
    both = Posterior(network.network, weights)
    assert np.allclose(networks.gradient_norm(both, X, y), networks.gradient_norm(one, X, y))
    assert not np.allclose(networks.gradient_norm(both, X, y, loss="draws"), networks.gradient_norm(one, X, y, loss="draws"))


def test_cancellation_is_the_ratio_of_the_formula():
    network = several()
    found = networks.cancellation_ratio(network, X, Y)
    of_draws = np.array([gradients(draw, X, Y)[1] for draw in network.alone()])
    expected = np.linalg.norm(of_draws.mean(0), axis=1) / np.linalg.norm(of_draws, axis=2).mean(0)
    assert np.allclose(found, expected)
    assert (found < 1).all()
    assert np.allclose(networks.cancellation_ratio(several(1), X, Y), 1)


def test_a_network_without_gradients_has_no_ratio():
    network = several(2)
    flat = Posterior(network.network, {name: torch.zeros_like(value) for name, value in network.weights.items()})
    assert np.isnan(networks.cancellation_ratio(flat, X, Y)).all()
    assert (networks.gradient_norm(flat, X, Y) == 0).all()


# ---------------------------------------------------------------- Lipschitz


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("output", ["probabilities", "logits"])
def test_local_lipschitz_is_the_largest_ratio_of_the_samples(norm, output):
    network = several()

    def f(image: Tensor) -> np.ndarray:
        draws = [logits(network.network, draw, image[None])[0] for draw in network]
        return np.mean([draw.softmax(0).numpy() if output == "probabilities" else draw.numpy() for draw in draws], 0)

    found = networks.local_lipschitz(network, X, generator(), epsilon=0.2, samples=4, norm=norm, output=output)
    numbers, ratios = generator(), []
    for _ in range(4):
        changed = Ball(X, 0.2).start(numbers)
        orders = (1, np.inf) if norm == "linf" else (2, 2)
        pairs = zip(X, changed, strict=True)
        ratios.append(
            [np.linalg.norm(f(b) - f(a), orders[0]) / np.linalg.norm((b - a).numpy().ravel(), orders[1]) for a, b in pairs]
        )
    assert np.allclose(found, np.max(ratios, 0))


def linear(weight: list[list[float]]) -> Posterior:
    network = nn.Sequential(nn.Flatten(), nn.Linear(len(weight[0]), len(weight))).double()
    with torch.no_grad():
        network[1].weight.copy_(torch.tensor(weight, dtype=torch.float64))
    return posterior.point(network.requires_grad_(False))


def test_of_one_pixel_the_constant_is_the_slope():
    """As long as some change leads inside [0, 1]; at the border half of them lead nowhere."""
    x = torch.tensor([0.0, 0.5, 1.0], dtype=torch.float64).view(3, 1, 1, 1)
    network = linear([[2.0], [-3.0]])
    found = networks.local_lipschitz(network, x, generator(), epsilon=0.1, output="logits")
    assert np.allclose(found, 5)
    found = networks.local_lipschitz(network, x, generator(), epsilon=0.1, norm="l2", output="logits")
    assert np.allclose(found, math.sqrt(13))


def test_a_change_that_leads_nowhere_has_no_ratio():
    network, x = linear([[2.0], [-3.0]]), torch.zeros(40, 1, 1, 1, dtype=torch.float64)
    found = networks.local_lipschitz(network, x, generator(), epsilon=0.1, samples=1, output="logits")
    assert 5 < np.isnan(found).sum() < 35
    assert np.allclose(found[~np.isnan(found)], 5)


def test_the_estimate_is_a_lower_bound_that_grows_with_the_samples():
    weight = torch.randn(CLASSES, 16, generator=generator(), dtype=torch.float64)
    network = linear(weight.tolist())

    def estimate(samples: int, norm: str) -> np.ndarray:
        return networks.local_lipschitz(network, X, generator(), epsilon=0.1, samples=samples, norm=norm, output="logits")

    assert (estimate(50, "l2") <= float(torch.linalg.matrix_norm(weight, 2))).all()
    assert (estimate(50, "linf") <= float(weight.abs().sum())).all()
    assert (estimate(50, "l2") >= estimate(5, "l2")).all()
    assert estimate(50, "l2").mean() > estimate(5, "l2").mean()


# ---------------------------------------------------------------- all of them

OF_NETWORKS = {
    "gradient_norm": lambda network, x, y: networks.gradient_norm(network, x, y),
    "gradient_norm of draws": lambda network, x, y: networks.gradient_norm(network, x, y, loss="draws"),
    "cancellation_ratio": networks.cancellation_ratio,
    "local_lipschitz": lambda network, x, _: networks.local_lipschitz(network, x, generator(), epsilon=0.1, samples=3),
}


@pytest.mark.parametrize("measure", OF_NETWORKS.values(), ids=OF_NETWORKS)
def test_neither_chunks_nor_threads_change_anything(monkeypatch, measure):
    network = several()
    whole = measure(network, X, Y)
    for module in (networks, cancellation):
        monkeypatch.setattr(module, "chunk_of", lambda *_: 4)
    by_one = measure(network, X, Y)
    computing.prepare(3)
    assert np.array_equal(by_one, measure(network, X, Y))
    assert np.allclose(whole, by_one, rtol=1e-9)
    assert whole.shape == (POINTS,)
    assert whole.dtype == np.float64


def test_mean_answers_are_those_of_the_posterior():
    network = several()
    stacks = graphs_of(network, SHAPE)
    assert torch.allclose(forward.mean_probabilities(stacks, X), posterior.predict(network, X))
    expected = torch.stack([logits(network.network, draw, X) for draw in network]).mean(0)
    assert torch.allclose(forward.mean_logits(stacks, X), expected)
