"""What trainings cannot start from, share, or read."""

from __future__ import annotations

from typing import Any

from resilience.catalog import paths, stored_draws, value_in
from resilience.grid import Grid, GridError, number_in


def check_start(grid: Grid, training: str) -> None:
    """A training starts from one that has a beginning, with as many networks as it needs, under its prior."""
    seen = [training]
    while start := grid.start(seen[-1]):
        if start in seen:
            raise GridError(f"trainings.{training}.start: {' starts from '.join([*seen, start])}, which has no beginning")
        seen.append(start)
    if len(seen) > 1:
        _check_number_of_starts(grid, training, seen[1])
        _check_prior(grid, training, seen[1])


def _check_number_of_starts(grid: Grid, training: str, start: str) -> None:
    """Each chain starts from another draw of the training that it starts from, which must so have a last one."""
    traits = grid.function("trainings", training).traits
    place, chains = f"trainings.{training}.start", traits.get("shared_by")
    there = stored_draws(grid.config["trainings"][start])
    if traits.get("from_point") and there != 1:
        raise GridError(f"{place}: {start} is no point estimate; name a training of one network")
    if chains is None or traits.get("from_point"):
        return
    needed = number_in(grid.function("trainings", training), grid.config["trainings"][training], chains)
    if there is None:
        raise GridError(f"{place}: {start} is a distribution without a last draw; name a point estimate or an ensemble")
    if there < needed:
        raise GridError(f"{place}: {start} has {there} draws, and each of the {needed} {chains} needs one to start from")


def _check_prior(grid: Grid, training: str, start: str) -> None:
    """Chains start near modes of their own posterior; weights that were found without a prior do not contradict that."""
    for key in ("prior", "prior_scale"):
        here, there = (value_in("trainings", grid.config["trainings"][name], key) for name in (training, start))
        if None not in (here, there) and here != there:
            raise GridError(
                f"trainings.{training}.{key}: {here} is not that of {start}, {there}, whose weights it starts from; "
                "give both the same, or name another start"
            )


def check_chains(grid: Grid, training: str) -> None:
    """Chains share their draws equally."""
    function, settings = grid.function("trainings", training), grid.config["trainings"][training]
    if chains := function.traits.get("shared_by"):
        bound = function.traits["at_most"]
        draws, number = number_in(function, settings, bound), number_in(function, settings, chains)
        if draws % number:
            raise GridError(f"trainings.{training}.{bound}: {draws} cannot be shared by {number} {chains}; use a multiple")


def check_own_files(grid: Grid, training: str) -> None:
    """Weights belong to one network that was trained once, so several of these need several files."""
    settings = grid.config["trainings"][training]
    uses = [place for place in grid.trained() if place[2] == training]
    several: dict[str, set[Any]] = {
        "dataset": {dataset for dataset, *_ in uses},
        "network": {network for _, network, _ in uses},
        "seed": {seed for dataset, *_ in uses for seed in grid.seeds_of(dataset)},
    }
    for key in paths("trainings", settings):
        for axis, values in several.items():
            if len(values) > 1 and f"{{{axis}}}" not in settings[key]:
                named = ", ".join(map(str, sorted(values)))
                raise GridError(
                    f"trainings.{training}.{key}: {settings[key]!r} would serve the {axis}s {named} alike; "
                    f"put {{{axis}}} into the path and give each a file of its own"
                )
