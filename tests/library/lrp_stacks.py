"""Stacks of layers, rules and images that relevance is computed for in tests: small, and with every kind of layer."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import nn

from resilience import lrp_rules

#: Large enough that no denominator is so near zero that rounding errors grow beyond the bound of the comparison.
STABILISER = 1e-2


def conv_stack(bias: bool) -> list[nn.Module]:
    return [
        nn.Conv2d(1, 3, 3, bias=bias),
        nn.LeakyReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(3, 4, 2, bias=bias),
        nn.LeakyReLU(),
        nn.MaxPool2d(2, stride=1),
        nn.Flatten(),
        nn.Linear(4, 3, bias=bias),
    ]


def strided_stack(bias: bool) -> list[nn.Module]:
    return [
        nn.Conv2d(2, 4, 3, stride=2, padding=1, bias=bias),
        nn.ReLU(),
        nn.AvgPool2d(2, stride=1),
        nn.Conv2d(4, 4, (2, 1), padding=(1, 0), groups=2, bias=bias),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(4 * 4 * 3, 5, bias=bias),
        nn.LeakyReLU(0.2),
        nn.Linear(5, 4, bias=bias),
    ]


def dilated_stack(bias: bool) -> list[nn.Module]:
    return [
        nn.Conv2d(1, 2, 2, dilation=2, padding=1, bias=bias),
        nn.LeakyReLU(),
        nn.MaxPool2d(3, stride=2, padding=1),
        nn.AvgPool2d(2, padding=1),
        nn.Flatten(),
        nn.Linear(2 * 3 * 3, 3, bias=bias),
    ]


def linear_stack(bias: bool) -> list[nn.Module]:
    return [
        nn.Flatten(),
        nn.Linear(12, 6, bias=bias),
        nn.LeakyReLU(),
        nn.Linear(6, 5, bias=bias),
        nn.ReLU(),
        nn.Linear(5, 3, bias=bias),
    ]


STACKS = {
    "conv": (conv_stack, (1, 8, 8)),
    "strided": (strided_stack, (2, 7, 7)),
    "dilated": (dilated_stack, (1, 8, 8)),
    "linear": (linear_stack, (1, 3, 4)),
}
RULES = {
    "epsilon": lrp_rules.epsilon(epsilon=0.1),
    "gamma": lrp_rules.gamma(gamma=0.3, stabiliser=STABILISER),
    "alpha1beta0": lrp_rules.alpha1beta0(stabiliser=STABILISER),
}
#: Rules of the published code.
PUBLISHED = {
    "squared_gamma": lrp_rules.squared_gamma(gamma=0.3, stabiliser=STABILISER),
    "alpha1beta0_without_bias": lrp_rules.alpha1beta0_without_bias(stabiliser=STABILISER),
    "epsilon by slope": replace(lrp_rules.epsilon(epsilon=0.1), by_slope=True),
}


def end_of(network: nn.Sequential, layer: str) -> int:
    """How many layers there are up to one of them and the activation that follows it."""
    index = int(layer) + 1
    return index + (index < len(network) and isinstance(network[index], nn.ReLU | nn.LeakyReLU))


def images(shape: tuple[int, ...], seed: int, count: int = 4) -> torch.Tensor:
    return torch.rand(count, *shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
