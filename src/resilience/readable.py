"""Whether a network can be attacked and explained: asked before it is trained, which takes long.

It changes no result, so that a training is not made anew whenever the code changes that reads networks.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from resilience.reading import read

#: What networks consist of that could be read: reading many layers takes seconds, and a training builds its network often.
_accepted: set[str] = set()


def refuse_unreadable(network: nn.Module, shape: Sequence[int]) -> None:
    """Refuse a network with a layer that no gradient and no relevance can pass.

    Parameters
    ----------
    network
        Ready for evaluation.
    shape
        (channels, height, width) of the images.

    Raises
    ------
    LayerError
        The message names the layer and what it computes.
    """
    described = f"{tuple(shape)} {network}"
    if described not in _accepted:
        read(network, shape)
        _accepted.add(described)
