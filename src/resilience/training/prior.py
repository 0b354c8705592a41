"""Prior of the parameters: independent normals with one standard deviation for each layer.

Their mean is 0, but for the factors γ of normalisation it is 1, what makes them do nothing (Ioffe & Szegedy 2015): a mean of
0 would pull the branches of a residual network out of it, since there γ is the scale of a branch.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from resilience import networks
from resilience.networks import Weights

#: Layers whose ``weight`` is a factor γ and whose ``bias`` is a shift β.
NORMALISING = (nn.modules.batchnorm._NormBase, nn.LayerNorm, nn.GroupNorm)


@dataclass(frozen=True)
class Prior:
    """Mean and standard deviation of each parameter, by ``state_dict`` name."""

    means: dict[str, float]
    deviations: dict[str, float]

    def energy(self, weights: Weights) -> Tensor:
        """−log p(w) without its constant: Σ ((w − μ) / σ)² / 2."""
        parts = [((weights[name] - self.means[name]) / sigma).square().sum() for name, sigma in self.deviations.items()]
        return torch.stack(parts).sum() / 2

    def flat(self, like: Weights) -> tuple[Tensor, Tensor]:
        """Means and standard deviations of the parameters of ``like``, each as a vector in its order."""
        vectors = [
            networks.flat({name: torch.full_like(value, by_name[name]) for name, value in like.items()})
            for by_name in (self.means, self.deviations)
        ]
        return vectors[0], vectors[1]


def prior_of(network: nn.Module, prior: str, prior_scale: float = 1.0) -> Prior:
    """The prior of a network's parameters.

    Parameters
    ----------
    network
        Its layers give the fan-in: the number of inputs of one unit.
    prior
        Standard deviation of a weight. ``unit``: 1, as in the original code. ``he``: sqrt(2 / fan-in), under which
        activations keep their scale (He et al. 2015). ``lecun``: sqrt(1 / fan-in). A bias has that of its layer's weights;
        a unit of batch or layer normalisation has one input.
    prior_scale
        Factor of all deviations.
    """
    gain = {"unit": None, "he": 2.0, "lecun": 1.0}[prior]
    means, deviations = {}, {}
    for layer, module in network.named_modules():
        for name, _ in module.named_parameters(prefix=layer, recurse=False):
            normalises = isinstance(module, NORMALISING)
            fan_in = 1 if normalises else math.prod(next(module.parameters(recurse=False)).shape[1:])
            deviations[name] = prior_scale * (1.0 if gain is None else math.sqrt(gain / fan_in))
            means[name] = 1.0 if normalises and name.endswith("weight") else 0.0
    return Prior(means, deviations)
