"""What entries ask of networks, of their own parameters, and of the entries that they hold."""

from __future__ import annotations

import math
from typing import Any

from resilience.catalog import inner_entries, named, value_in
from resilience.grid import Grid, GridError

#: What an explanation, or an attack on one, may need of a network, in words.
NEEDED = {"convolution": "a convolution", "pooled_head": "global average pooling before one linear layer"}


def check_needs(grid: Grid, network: str, section: str, name: str) -> None:
    """An explanation by class activation maps, or an attack on one, needs a network that has such maps."""
    needing, function = grid.function(section, name), grid.function("networks", network)
    needs = needing.traits.get("needs")
    if needs is not None and needs not in function.traits.get("has", ()):
        known = grid.config["networks"]
        able = [other for other in known if needs in grid.function("networks", other).traits.get("has", ())]
        done = "explain" if section == "explanations" else "attack"
        others = f"{done} {' or '.join(able)} by it" if able else f"name a network that says @entry(has=({needs!r},))"
        raise GridError(
            f"{section}.{name}: {needing.name} needs {NEEDED.get(needs, needs)}, which networks.{network} ({function.name}) "
            f"has not; {others}"
        )


def check_bounds(grid: Grid, explanation: str) -> None:
    """A parameter that another one bounds, such as a window that a stride must not jump over, here or in a rule."""
    settings = grid.config["explanations"][explanation]
    for section, entry in [("explanations", settings), *inner_entries("explanations", settings)]:
        function = named(section, entry)
        place = f"explanations.{explanation}" if entry is settings else f"explanations.{explanation}: {function.name}"
        for larger, smaller in function.traits.get("at_least", {}).items():
            values = [value_in(section, entry, key) for key in (larger, smaller)]
            if values[0] < values[1]:
                raise GridError(f"{place}.{smaller}: {values[1]} is more than {larger}, {values[0]}; take at most that")
        for larger, smaller in function.traits.get("one_more", {}).items():
            values = [value_in(section, entry, key) for key in (larger, smaller)]
            if not math.isclose(values[0], values[1] + 1):
                raise GridError(f"{place}.{larger}: {values[0]} is not one more than {smaller}, {values[1]}; make it so")


def check_inner(section: str, settings: dict[str, Any], place: str) -> None:
    """An ensemble is made of point estimates, and an attack within an entry is one on a network."""
    for inner, entry in inner_entries(section, settings):
        function = named(inner, entry)
        if inner == "trainings" and function.traits.get("draws") != 1:
            raise GridError(f"{place}: holds {function.name}, which is no point estimate; name one, such as deterministic")
        if inner == "attacks" and function.traits.get("derived"):
            raise GridError(
                f"{place}: holds {function.name}, which is made from attacked inputs; name an attack on a network"
            )
