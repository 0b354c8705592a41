"""How many weights fit: what no machine is expected to hold is refused before any of it is made."""

from __future__ import annotations

from collections.abc import Callable, Collection

import torch
from torch import nn

#: Of one network: 4 GB as float32, and while it is trained its gradients and their moments take three times that beside it.
MOST_IN_A_NETWORK = 10**9
#: Of all draws from a posterior, or members of an ensemble, together: 40 GB. Jobs hold all of them at once.
MOST_IN_ALL_DRAWS = 10**10


class SizeError(ValueError):
    """More weights than fit anywhere. The message says how many there would be, how many may be, and what to change."""


def refuse_network(build: Callable[[], object]) -> None:
    """Refuse a network with too many weights.

    Parameters
    ----------
    build
        Makes the network. Here it does so on PyTorch's ``meta`` device, where weights have shapes and take no memory.

    Raises
    ------
    SizeError
        If it has more than :data:`MOST_IN_A_NETWORK`.
    """
    try:
        with torch.random.fork_rng(devices=[]), torch.device("meta"):
            network = build()
    except (RuntimeError, TypeError, ValueError) as error:
        if "overflow" in str(error):
            raise SizeError(f"the network has more weights than can be counted; {_may_have()}") from error
        # It reads the values of its weights, which have none here, or cannot be built at all: then it cannot be in earnest.
        return
    if isinstance(network, nn.Module) and (count := _weights(network)) > MOST_IN_A_NETWORK:
        raise SizeError(f"the network has {count:,} weights ({_bytes(count)}); {_may_have()}")


def refuse_draws(network: nn.Module, draws: int, drawn: Collection[str] | None = None) -> None:
    """Refuse more draws of the weights of a network than fit.

    Parameters
    ----------
    network
        Whose weights they are.
    draws
        How many.
    drawn
        Names of the weights that differ from draw to draw; those of all draws lie in memory once. All if None.

    Raises
    ------
    SizeError
        If together they have more than :data:`MOST_IN_ALL_DRAWS`.
    """
    each = _weights(network, drawn)
    count = draws * each
    if count > MOST_IN_ALL_DRAWS:
        raise SizeError(
            f"{draws:,} draws of {each:,} weights take {_bytes(count)}; together they may have "
            f"{MOST_IN_ALL_DRAWS:,} ({_bytes(MOST_IN_ALL_DRAWS)}); take fewer, or make the network narrower"
        )


def _weights(network: nn.Module, names: Collection[str] | None = None) -> int:
    return sum(value.numel() for name, value in network.named_parameters() if names is None or name in names)


def _may_have() -> str:
    return f"one may have {MOST_IN_A_NETWORK:,} ({_bytes(MOST_IN_A_NETWORK)}); make it narrower, or the images smaller"


def _bytes(weights: int) -> str:
    """The size of so many float32."""
    size, units = 4.0 * weights, ["kB", "MB", "GB", "TB", "PB"]
    while (size := size / 1000) >= 1000 and len(units) > 1:
        units.pop(0)
    return f"{size:,.3g} {units[0]}"
