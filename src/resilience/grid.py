"""The combinations that a config asks for: which networks are trained, attacked, explained, and with how many draws."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from typing import Any

from resilience.catalog import Function, default, functions

CLEAN = "clean"


class GridError(ValueError):
    """A combination that cannot be built. The message names the key, the value and what would be accepted."""


@dataclass(frozen=True, order=True)
class Cell:
    """A (dataset, network, training) that is attacked through ``draws`` posterior draws and explained by one rule."""

    dataset: str
    network: str
    training: str
    attack: str
    draws: int
    rule: str


class Grid:
    """All cells of a config, the union of its experiments.

    Raises
    ------
    GridError
        If an experiment asks for more draws than a training yields, or a figure for a cell that no experiment has.
    """

    def __init__(self, config: dict[str, Any]):
        self.config = config
        self.seeds: list[int] = sorted(config["seeds"])
        self.cells = frozenset(self._cells())
        for name, figure in config["figures"].items():
            self._check_figure(name, figure)

    def _cells(self) -> Iterator[Cell]:
        for name, experiment in self.config["experiments"].items():
            axes = (experiment[key] for key in ("datasets", "networks", "trainings", "attacks", "lrp"))
            for dataset, network, training, attack, rule in product(*axes):
                for draws in self.draws(training, experiment["draws"], f"experiments.{name}.draws"):
                    yield Cell(dataset, network, training, attack, draws, rule)
                    if source := self.source(attack):
                        yield Cell(dataset, network, source, self.config["attacks"][attack]["attack"], 1, rule)

    def function(self, section: str, name: str) -> Function:
        """What the catalogue says of the function that an entry names."""
        key = {"networks": "architecture", "trainings": "method", "attacks": "method", "lrp": "rule"}[section]
        return functions(section)[self.config[section][name][key]]

    def layers(self, network: str) -> tuple[int, ...]:
        """Indices of the learnable layers of a network, first to last."""
        return tuple(self.function("networks", network).traits["layers"])

    def role(self, training: str) -> str:
        """deterministic, adversarial, control or bayesian."""
        return self.function("trainings", training).traits["role"]

    def start(self, training: str) -> str | None:
        """The training whose weights this one starts from, if any."""
        return self.config["trainings"][training].get("start")

    def source(self, attack: str) -> str | None:
        """The training that a transferred attack is made on, or None for an attack on the network itself."""
        return self.config["attacks"][attack].get("source")

    def epsilon(self, attack: str) -> float | None:
        """Strength of an attack, or of the attack that it transfers."""
        settings = self.config["attacks"][attack]
        return self.epsilon(settings["attack"]) if self.source(attack) else settings.get("epsilon")

    def draws(self, training: str, requested: list[int], place: str) -> list[int]:
        """The numbers of draws that a training is used with: its own if it has a fixed one, else the requested ones."""
        function = self.function("trainings", training)
        settings = self.config["trainings"][training]
        fixed = function.traits.get("draws")
        if isinstance(fixed, str):
            return [_value(function, settings, fixed)]
        if fixed is not None:
            return [fixed]
        if bound := function.traits.get("at_most"):
            limit = _value(function, settings, bound)
            if too_many := [number for number in requested if number > limit]:
                raise GridError(f"{place}: {too_many[0]} is more than trainings.{training}.{bound}, {limit}")
        return sorted(requested)

    def trained(self) -> list[tuple[str, str, str]]:
        """Every (dataset, network, training) that is needed, those that others start from included."""
        needed = {(cell.dataset, cell.network, cell.training) for cell in self.cells}
        for dataset, network, training in sorted(needed):
            while (training := self.start(training) or "") and (dataset, network, training) not in needed:
                needed.add((dataset, network, training))
        return sorted(needed)

    def attacked(self) -> list[tuple[str, str, str, str, int]]:
        """Every (dataset, network, training, attack, draws)."""
        return sorted({(c.dataset, c.network, c.training, c.attack, c.draws) for c in self.cells})

    def rules(self, dataset: str, network: str, training: str, attack: str, draws: int) -> list[str]:
        """The LRP rules by which one attacked model is explained."""
        here = (dataset, network, training, attack, draws)
        return sorted(c.rule for c in self.cells if (c.dataset, c.network, c.training, c.attack, c.draws) == here)

    def draws_of(self, dataset: str, network: str, training: str, attack: str) -> list[int]:
        """The numbers of draws with which one model is attacked."""
        here = (dataset, network, training, attack)
        return sorted({c.draws for c in self.cells if (c.dataset, c.network, c.training, c.attack) == here})

    def _check_figure(self, name: str, figure: dict[str, Any]) -> None:
        for number, panel in enumerate(figure.get("panels", [])):
            for training in panel["trainings"]:
                if not self.draws_of(panel["dataset"], panel["network"], training, panel["attack"]):
                    where = f"{panel['dataset']}, {panel['network']}, {training}, {panel['attack']}"
                    raise GridError(f"figures.{name}.panels[{number}]: no experiment has {where}; add it to experiments")


def _value(function: Function, settings: dict[str, Any], parameter: str) -> int:
    return int(settings.get(parameter, default(function, parameter)))
