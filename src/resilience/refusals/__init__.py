"""Combinations that cannot work, refused before anything runs: each function here knows one reason."""

from __future__ import annotations

from typing import Any

from resilience.grid import Grid
from resilience.refusals.attacks import check_other_draws, check_source
from resilience.refusals.claims import check_claims
from resilience.refusals.datasets import (
    check_balance,
    check_class_names,
    check_derived,
    check_explainer,
    check_patches,
    check_size,
)
from resilience.refusals.figures import check_figure, check_page
from resilience.refusals.measures import check_cancellation, check_judged_images, check_manifold, check_measures
from resilience.refusals.needs import check_bounds, check_inner, check_needs
from resilience.refusals.retraining import check_retraining
from resilience.refusals.trainings import check_chains, check_own_files, check_start


def grid_of(config: dict[str, Any]) -> Grid:
    """The grid of a config whose entries and names are known to be right.

    Raises
    ------
    GridError
        If a combination cannot be built. The message names the key, the value and what would be accepted.
    """
    for section in ("attacks", "trainings"):
        for name, settings in config[section].items():
            check_inner(section, settings, f"{section}.{name}")
    for dataset in config["datasets"]:
        check_derived(config["datasets"], dataset)
    grid = Grid(config)
    for attack in config["attacks"]:
        check_source(grid, attack)
    for training in config["trainings"]:
        check_chains(grid, training)
        check_start(grid, training)
    for dataset in config["datasets"]:
        check_balance(grid, dataset)
        check_class_names(grid, dataset)
        if by := grid.explainer(dataset):
            check_explainer(grid, dataset, by)
        if divided := grid.function("datasets", dataset).traits.get("divides"):
            check_patches(grid, dataset, divided)
    for training in config["trainings"]:
        check_own_files(grid, training)
    for dataset, network in sorted({(cell.dataset, cell.network) for cell in grid.cells}):
        check_size(grid, dataset, network)
    for network, explanation in grid.explained():
        check_needs(grid, network, "explanations", explanation)
    for network, attack in sorted({(cell.network, cell.attack) for cell in grid.cells}):
        check_needs(grid, network, "attacks", attack)
    for training, attack, draws in sorted({(cell.training, cell.attack, cell.draws) for cell in grid.cells}):
        check_other_draws(grid, training, attack, draws)
    for explanation in config["explanations"]:
        check_bounds(grid, explanation)
    for manifold in config["manifolds"]:
        check_manifold(grid, manifold)
    check_measures(grid)
    for measure in grid.measures("predictions"):
        check_judged_images(grid, measure)
    if "claims" in config:
        check_claims(grid, config["claims"])
    if "cancellation" in config:
        check_cancellation(grid)
    if "retraining" in config:
        check_retraining(grid)
    for name, figure in config["figures"].items():
        check_figure(grid, name, figure)
    for name, page in config["explore"].items():
        check_page(grid, name, page)
    return grid
