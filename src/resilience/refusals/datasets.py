"""What datasets cannot be: without a beginning, unbalanced, too small for a network."""

from __future__ import annotations

import math
from typing import Any

from resilience.grid import Grid, GridError
from resilience.refusals.needs import check_needs


def check_derived(datasets: dict[str, Any], dataset: str) -> None:
    """A derived dataset goes back to one that is read, and what is trained elsewhere needs the same classes."""
    seen = [dataset]
    while source := datasets[seen[-1]].get("of"):
        if source in seen:
            raise GridError(f"datasets.{dataset}.of: {' is made from '.join([*seen, source])}, which has no beginning")
        seen.append(source)
    trained_on = datasets[dataset].get("trained_on", dataset)
    if trained_on != dataset and datasets[trained_on].get("trained_on", trained_on) != trained_on:
        raise GridError(f"datasets.{dataset}.trained_on: nothing is trained on {trained_on} itself; name what that names")
    if trained_on != dataset and "seeds" in datasets[dataset]:
        raise GridError(f"datasets.{dataset}.seeds: networks learn on {trained_on}; put the key there")
    if len(seen) > 1 and "train_points" in datasets[dataset]:
        raise GridError(f"datasets.{dataset}.train_points: its splits are those of {seen[1]}; take the key out")
    if "by" in datasets[dataset] and datasets[source := seen[1]].get("trained_on", source) != source:
        raise GridError(f"datasets.{dataset}.by: nothing is trained on {source} itself, so no network explains it")


def check_explainer(grid: Grid, dataset: str, by: dict[str, Any]) -> None:
    """What explains a dataset has a map for all draws, one of the seeds, and what its explanation needs."""
    place = f"datasets.{dataset}.by"
    if by["seed"] not in (seeds := grid.seeds_of(grid.config["datasets"][dataset]["of"])):
        raise GridError(f"{place}.seed: {by['seed']} is not one of the seeds; name one of {seeds}")
    if grid.config["explanations"][by["explanation"]]["over"] == "each":
        raise GridError(f"{place}.explanation: {by['explanation']} has a map for each draw, and one is needed; name another")
    check_needs(grid, by["network"], "explanations", by["explanation"])


def check_patches(grid: Grid, dataset: str, key: str) -> None:
    """An image is cut into patches of equal size."""
    number = grid.config["datasets"][dataset][key]
    pixels = shorter_side(grid, dataset)
    if math.isfinite(pixels) and pixels % number:
        raise GridError(f"datasets.{dataset}.{key}: {number} does not divide {pixels} pixels a side; name a divisor")


def shorter_side(grid: Grid, dataset: str) -> float:
    """The pixels of an image's shorter side, infinity where nothing says how many there are."""
    root = grid.root(dataset)
    side = grid.function("datasets", root).traits.get("side", math.inf)
    return grid.config["datasets"][root][side] if isinstance(side, str) else side


def check_balance(grid: Grid, dataset: str) -> None:
    """Points are chosen equally many of each class."""
    settings = grid.config["datasets"][dataset]
    classes = grid.function("datasets", grid.root(dataset)).traits.get("classes", 1)
    for key in ("test_points", "train_points"):
        if settings.get(key, classes) % classes:
            raise GridError(
                f"datasets.{dataset}.{key}: {settings[key]} cannot be balanced over {classes} classes; use a multiple"
            )


def check_class_names(grid: Grid, dataset: str) -> None:
    """Each class has one name."""
    names = grid.config["datasets"][dataset].get("class_names")
    classes = grid.function("datasets", grid.root(dataset)).traits.get("classes")
    if names and classes and len(names) != classes:
        raise GridError(f"datasets.{dataset}.class_names: {len(names)} names for {classes} classes; give each class one")


def check_size(grid: Grid, dataset: str, network: str) -> None:
    """A network needs images that are large enough for it."""
    least = grid.function("networks", network).traits.get("least_side", 1)
    if shorter_side(grid, dataset) < least:
        raise GridError(
            f"networks.{network}: needs images of at least {least} pixels a side, which {dataset} has not; use fc2 there"
        )
