"""Prior of the weights: independent normals with mean 0 and one standard deviation for each layer."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from resilience.networks import Weights


def standard_deviations(network: nn.Module, prior: str, prior_scale: float = 1.0) -> dict[str, float]:
    """Standard deviation of the prior of each parameter, by ``state_dict`` name.

    Parameters
    ----------
    network
        Its layers give the fan-in: the number of inputs of one unit.
    prior
        Standard deviation of a weight. ``unit``: 1, as in the original code. ``he``: sqrt(2 / fan-in), under which
        activations keep their scale (He et al. 2015). ``lecun``: sqrt(1 / fan-in). A bias has that of its layer's weights.
    prior_scale
        Factor of all deviations.
    """
    gain = {"unit": None, "he": 2.0, "lecun": 1.0}[prior]
    deviations = {}
    for layer, module in network.named_modules():
        for name, _ in module.named_parameters(prefix=layer, recurse=False):
            fan_in = math.prod(next(module.parameters(recurse=False)).shape[1:])
            deviations[name] = prior_scale * (1.0 if gain is None else math.sqrt(gain / fan_in))
    return deviations


def energy(weights: Weights, deviations: dict[str, float]) -> Tensor:
    """−log p(w) without its constant: Σ (w / σ)² / 2."""
    return torch.stack([(weights[name] / sigma).square().sum() for name, sigma in deviations.items()]).sum() / 2
