"""What cannot be learned again."""

from __future__ import annotations

from resilience.catalog import paths
from resilience.grid import Grid, GridError
from resilience.refusals.datasets import check_size
from resilience.refusals.needs import check_needs


def check_retraining(grid: Grid) -> None:
    """Each explanation has one map of an image, a random one stands beside, and what learns from it learns by itself."""
    section, config = grid.config["retraining"], grid.config
    for dataset in section["datasets"]:
        if (elsewhere := grid.trained_on(dataset)) != dataset:
            raise GridError(
                f"retraining.datasets: {dataset} is judged by what learned on {elsewhere}, and nothing is trained on it "
                f"itself; name {elsewhere}"
            )
        for network in (*section["networks"], section["by"]["network"]):
            check_size(grid, dataset, network)
    for explanation in section["explanations"]:
        if config["explanations"][explanation]["over"] == "each":
            raise GridError(
                f"retraining.explanations: {explanation} has a map for each draw, and one says which pixels go; name another"
            )
        for network in section["networks"]:
            check_needs(grid, network, "explanations", explanation)
    if grid.random_map() is None:
        known = [name for name, entry in config["explanations"].items() if entry["method"] == "random_map"]
        raise GridError(
            f"retraining.explanations: none of {', '.join(section['explanations'])} is a random map, which scores are "
            f"measured from; add {' or '.join(known) or 'one, {method: random_map}'}"
        )
    _check_what_learns_again(grid, section["by"]["training"])


def _check_what_learns_again(grid: Grid, training: str) -> None:
    function, place = grid.function("trainings", training), "retraining.by.training"
    if function.traits.get("draws") != 1:
        raise GridError(f"{place}: {training} is no point estimate, as what learns again is; name one")
    if paths("trainings", grid.config["trainings"][training]) or grid.start(training):
        raise GridError(f"{place}: {training} does not learn from images alone; name a training that does")
