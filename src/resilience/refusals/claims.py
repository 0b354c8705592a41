"""What claims cannot be about."""

from __future__ import annotations

from typing import Any

from resilience.grid import Grid, GridError


def check_claims(grid: Grid, claims: dict[str, Any]) -> None:
    """Claims are about an explanation, measures and places that experiments have."""
    if claims["explanation"] not in {explanation for _, explanation in grid.explained()}:
        raise GridError(f"claims.explanation: no experiment has {claims['explanation']}; add it to one")
    of_maps = grid.measures("maps")
    of_all = of_maps | grid.measures("predictions") | grid.measures("network")
    for key, names, known in (("measure", [claims["measure"]], of_maps), ("also", claims.get("also", []), of_all)):
        for name in names:
            if name not in known:
                kind = "heat maps" if known is of_maps else "heat maps, predictions or a network"
                raise GridError(
                    f"claims.{key}: {name} is no measure of {kind}, by which models are compared; name {' or '.join(known)}"
                )
    cancelled = {(dataset, network) for dataset, network, _ in grid.cancelled()}
    for number, series in enumerate(claims["growing"]):
        seeds = {place["dataset"]: grid.seeds_of(place["dataset"]) for place in series}
        if len({tuple(of_dataset) for of_dataset in seeds.values()}) > 1:
            said = ", ".join(f"{dataset}: {of_dataset}" for dataset, of_dataset in seeds.items())
            raise GridError(f"claims.growing[{number}]: compared are networks of equal seeds, and these differ ({said})")
        for place in series:
            if (place["dataset"], place["network"]) not in cancelled:
                raise GridError(
                    f"claims.growing[{number}]: nothing says how far gradients cancel in {place['network']} on "
                    f"{place['dataset']}; add it to an experiment with several draws, and the section cancellation"
                )
