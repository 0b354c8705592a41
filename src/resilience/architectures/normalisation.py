"""Normalisation of pixels as a layer of the network: images stay in [0, 1] for attacks, and relevance ends at pixels."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from resilience.networks import NetworkError

#: What the layer is called in its network.
LAYER = "normalisation"


class Normalisation(nn.Module):
    """(x − mean) / deviation, channel by channel.

    Both are settings and not weights: they are buffers, so that they follow the network to its device, and no ``state_dict``
    has them, so that weights from elsewhere need not.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, mean: Sequence[float], deviation: Sequence[float]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean).view(-1, 1, 1), persistent=False)
        self.register_buffer("deviation", torch.tensor(deviation).view(-1, 1, 1), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Of images [N, C, H, W]."""
        return (x - self.mean) / self.deviation


def normalised(
    network: nn.Module, channels: int, mean: Sequence[float] | None, deviation: Sequence[float] | None
) -> nn.Module:
    """The network behind a layer that normalises, or as it is if neither mean nor deviation is given.

    Its other layers keep their names, which a wrapper around it would change.

    Parameters
    ----------
    network
        What gets the normalised images.
    channels
        Of the images.
    mean, deviation
        One for each channel, or one for all; 0 and 1 if None.

    Raises
    ------
    NetworkError
        If there is neither one nor one for each channel, or a deviation is not positive.
    """
    if mean is None and deviation is None:
        return network
    mean, deviation = list(mean or [0.0]), list(deviation or [1.0])
    for name, values in (("mean", mean), ("deviation", deviation)):
        if len(values) not in (1, channels):
            raise NetworkError(f"{name} has {len(values)} values and images have {channels} channels; give one for each")
    if min(deviation) <= 0:
        raise NetworkError(f"deviation: {min(deviation)} divides nothing; every deviation must be above 0")
    network.add_module(LAYER, Normalisation(mean, deviation))
    kind = type(network)

    def forward(self: nn.Module, x: Tensor) -> Tensor:
        return kind.forward(self, getattr(self, LAYER)(x))

    network.__class__ = type(kind.__name__, (kind,), {"forward": forward})
    return network
