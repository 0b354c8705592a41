"""The state of a kernel of pyro: what a chain needs to go on as if it had never been stopped."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import Tensor

from resilience.training.checkpoints import random_numbers, restore_random_numbers

if TYPE_CHECKING:
    from pyro.infer import HMC

#: What a kernel counts, and what it knows of its step size. The mass matrix is never adapted here.
COUNTED = ("_t", "_accept_cnt", "_mean_accept_prob", "_divergences")
ADAPTED = ("step_size", "_current_window")
AVERAGED = ("prox_center", "_x_avg", "_g_avg", "_x_t", "_t")


def state_of(kernel: HMC) -> dict[str, Any]:
    """The state of a kernel of a potential of ``{"weights": vector}``, and where random numbers stand."""
    position, energy, gradient = kernel._fetch_from_cache()
    return {
        "position": position["weights"],
        "energy": energy,
        "gradient": gradient["weights"],
        "parts": {type(part).__name__: [getattr(part, name, None) for name in names] for part, names in _parts(kernel)},
        "random": random_numbers(position["weights"].device),
    }


def restore(kernel: HMC, state: dict[str, Any]) -> None:
    """Put a kernel that was set up at the position of a state into that state, and random numbers likewise.

    The gradient there is not computed anew but the one that was kept, since its last digits could differ.
    """
    like: Tensor = kernel.initial_params["weights"]
    kernel._cache({"weights": like}, state["energy"].to(like.device), {"weights": state["gradient"].to(like.device)})
    for part, names in _parts(kernel):
        for name, value in zip(names, state["parts"][type(part).__name__], strict=True):
            if value is not None:
                setattr(part, name, value)
    restore_random_numbers(state["random"], like.device)


def _parts(kernel: HMC) -> list[tuple[Any, tuple[str, ...]]]:
    """The objects of a kernel that change while it runs, each with the names of what changes."""
    parts: list[tuple[Any, tuple[str, ...]]] = [(kernel, COUNTED), (kernel._adapter, ADAPTED)]
    if kernel._adapter.adapt_step_size:
        parts.append((kernel._adapter._step_size_adapt_scheme, AVERAGED))
    return parts
