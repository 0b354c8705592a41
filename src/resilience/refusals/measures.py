"""What cannot be measured, and from which manifolds."""

from __future__ import annotations

import math

from resilience.grid import Grid, GridError, number_in
from resilience.refusals.datasets import shorter_side

#: The most channels that images have.
COLOURS = 3


def check_measures(grid: Grid) -> None:
    """Every attack is judged by heat maps; what an explanation says is measured of one class, and of layers there are."""
    if not grid.measures("maps"):
        raise GridError("measures: none is of heat maps, which every attack is judged by; add one, such as overlap")
    for name, measure in grid.measures("explanation").items():
        for network, explanation in grid.explained():
            if grid.config["explanations"][explanation]["explained"] == "own":
                raise GridError(
                    f"measures.{name}: {explanation} explains each draw's own class, and it is measured of one; take out "
                    "explained: own, or the measure"
                )
            layers = grid.function("networks", network).traits["layers"]
            counted = all(isinstance(layer, int) for layer in layers)  # A stack says all that it has.
            if counted and (measure.get("layers") or 0) > (there := len(layers)):
                raise GridError(f"measures.{name}.layers: {measure['layers']} is more than networks.{network} has, {there}")


def check_manifold(grid: Grid, manifold: str) -> None:
    """A manifold is learned from images of a size that it takes, and spanned by fewer of them than there are."""
    function, settings = grid.function("manifolds", manifold), grid.config["manifolds"][manifold]
    place, sides, key = f"manifolds.{manifold}", function.traits.get("sides"), function.traits.get("span")
    for dataset in grid.learned_from(manifold):
        side = shorter_side(grid, dataset)
        if sides and math.isfinite(side) and side not in sides:
            raise GridError(
                f"{place}.of: images of {dataset} have {side} pixels a side, and {function.name} takes those of "
                f"{', '.join(map(str, sides))}; name another dataset, or another manifold, such as principal_components"
            )
        points = grid.config["datasets"][grid.root(dataset)].get("train_points", math.inf)
        # Images whose side is known here are square, or have two pixels; how many channels they have is not.
        for most, what in ((points, "training images"), (COLOURS * side**2 - 1, "directions")) if key else ():
            if (number := number_in(function, settings, str(key))) > most:
                raise GridError(f"{place}.{key}: {number} is more than {dataset} has {what}, {most}; take at most that")


def check_judged_images(grid: Grid, measure: str) -> None:
    """A manifold judges images of datasets that it is learned from, and a judge is a single network trained on them."""
    manifold, judge = grid.manifold_of(measure), grid.judge_of(measure)
    datasets = sorted({cell.dataset for cell in grid.cells})
    if manifold and not any(dataset in grid.learned_from(manifold) for dataset in datasets):
        raise GridError(
            f"measures.{measure}.manifold: {manifold} is learned from other images than it judges, "
            f"{', '.join(grid.learned_from(manifold))}; name one that is of {' or '.join(datasets)}"
        )
    if judge is None:
        return
    if grid.function("trainings", judge).traits.get("draws") != 1:
        raise GridError(f"measures.{measure}.judge: {judge} is no point estimate; name one, such as deterministic")
    trained = grid.trained()
    for dataset, network in sorted({(cell.dataset, cell.network) for cell in grid.cells}):
        here = (grid.trained_on(dataset), network, judge)
        if measure in grid.measured_predictions(dataset) and here not in trained:
            raise GridError(f"measures.{measure}.judge: no experiment has {', '.join(here)}; add it to experiments")


def check_cancellation(grid: Grid) -> None:
    """Gradients cancel in several draws, and a manifold has fewer dimensions than neighbours span it."""
    section = grid.config["cancellation"]
    if not grid.cancelled():
        raise GridError("cancellation: no experiment has a posterior or an ensemble of several draws, which could cancel")
    for training in sorted({training for _, _, training in grid.cancelled()}):
        if grid.cancelled_draws(training)[-1] < 2:
            raise GridError(
                f"cancellation.draws: {section['draws']} has no number above one, and nothing cancels in one draw"
            )
    if section["dimensions"] >= section["neighbours"]:
        raise GridError(
            f"cancellation.dimensions: {section['dimensions']} directions need more than that many neighbours, "
            f"not {section['neighbours']}"
        )
