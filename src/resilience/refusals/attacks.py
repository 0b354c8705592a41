"""What attacks cannot be made from."""

from __future__ import annotations

from resilience.catalog import other_draws, stored_draws
from resilience.grid import Grid, GridError


def check_source(grid: Grid, attack: str) -> None:
    """An attack that is made from another needs one on a network, and is transferred from a single one."""
    settings, place = grid.config["attacks"][attack], f"attacks.{attack}"
    if not grid.derived(settings):
        return
    inner, source = settings["attack"], settings["source"]
    if grid.derived(grid.config["attacks"][inner]):
        raise GridError(f"{place}.attack: {inner} is itself made from another; name an attack on a network")
    if settings["method"] == "transfer" and grid.function("trainings", source).traits.get("draws") != 1:
        raise GridError(f"{place}.source: {source} is no point estimate; attacks are transferred from a single network")


def check_other_draws(grid: Grid, training: str, attack: str, draws: int) -> None:
    """An attack from draws that the prediction has none of needs a posterior with so many more."""
    others, stored = other_draws(grid.config["attacks"][attack]), stored_draws(grid.config["trainings"][training])
    if others and stored is not None and draws + others > stored:
        raise GridError(
            f"attacks.{attack}.draws: {others} draws beyond the {draws} of the prediction are more than "
            f"trainings.{training} has, {stored}; ask for fewer, or attack posteriors that have more"
        )
