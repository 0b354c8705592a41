"""A bound on the largest singular value of the weights of a layer (spectral normalisation, Miyato et al. 2018)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize
from torch.nn.utils import parametrize


class SpectralBound(nn.Module):
    """W / max(σ, 1), with σ the largest singular value of W, found by one step of power iteration each time that W is used.

    Other than usual (there W / σ), a W whose σ is below 1 stays as it is, as in the code of Kim et al. 2019.
    """

    direction: Tensor

    def __init__(self, weight: Tensor):
        super().__init__()
        start = torch.randn(len(weight), dtype=weight.dtype, device=weight.device)
        self.register_buffer("direction", normalize(start, dim=0))

    def forward(self, weight: Tensor) -> Tensor:
        """The bounded weights; the direction moves on while the network learns."""
        matrix = weight.flatten(1)
        with torch.no_grad():
            right = normalize(matrix.T @ self.direction, dim=0)
            left = normalize(matrix @ right, dim=0) if self.training else self.direction
        self.direction = left
        return weight / (left @ (matrix @ right)).clamp(min=1)


def spectrally_bounded(layer: nn.Module) -> nn.Module:
    """A layer whose weights are bounded."""
    weight = layer.weight
    assert isinstance(weight, Tensor)
    return parametrize.register_parametrization(layer, "weight", SpectralBound(weight.detach()))
