"""Measures that compute in torch find on a pretended GPU what they find on the CPU, to the last bit."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from resilience.measures import networks, sanity
from tests.conftest import double_network, noisy_posterior
from tests.library.pretend_device import CPU, pretend_device

X = torch.rand(5, 1, 6, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
RELEVANCE = (8 * X).round() - 4  # with ties
CLASSES = torch.arange(5) % 3


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


MEASURES = {
    "deletion": lambda p, x, r, y: sanity.deletion(p, x, r, y, generator(), steps=4),
    "deletion to the mean": lambda p, x, r, y: sanity.deletion(p, x, r, y, generator(), steps=4, baseline="mean"),
    "insertion": lambda p, x, r, y: sanity.insertion(p, x, r, y, generator(), steps=4, values="absolute"),
    "randomisation": lambda p, x, r, y: sanity.randomisation(
        p, r, lambda other: r * sum(value.sum() for value in other.weights.values()) + x, generator()
    ),
    "gradient_norm": lambda p, x, r, y: networks.gradient_norm(p, x, y, norm="linf"),
    "gradient_norm of draws": lambda p, x, r, y: networks.gradient_norm(p, x, y, loss="draws"),
    "cancellation_ratio": lambda p, x, r, y: networks.cancellation_ratio(p, x, y),
    "local_lipschitz": lambda p, x, r, y: networks.local_lipschitz(p, x, generator(), epsilon=0.1, samples=2),
    "local_lipschitz of logits": lambda p, x, r, y: networks.local_lipschitz(
        p, x, generator(), epsilon=0.1, samples=2, norm="l2", output="logits"
    ),
}


def measured(name: str, device: torch.device) -> np.ndarray:
    layers = [nn.Conv2d(1, 3, 3), nn.LeakyReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(12, 3)]
    posterior = noisy_posterior(double_network(layers, 1), 3).to(device)
    return MEASURES[name](posterior, X.to(device), RELEVANCE.to(device), CLASSES.to(device))


@pytest.mark.parametrize("name", MEASURES)
def test_a_pretended_gpu_measures_what_the_cpu_measures(name):
    expected = measured(name, CPU)
    with pretend_device() as device:
        torch.use_deterministic_algorithms(True)
        found = measured(name, device)
    assert np.isfinite(expected).all()
    assert np.array_equal(found, expected)
