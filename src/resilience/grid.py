"""The combinations that a config asks for: which networks are trained, attacked, explained, and with how many draws."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from typing import Any

from resilience.catalog import Function, default, inner_entries, named, paths, stored_draws, value_in

CLEAN = "clean"
#: The method of the attack that is every other one's control.
NOISE = "noise"
#: What a figure can draw that is not made without a section of the config, and that section.
DRAWN = {"cancellation": "cancellation", "comparisons": "claims", "claims": "claims"}


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
        If an experiment or an attack asks for more draws than a training yields, a figure or a page to explore for something
        that no experiment has, or a training or an attack rests on what cannot carry it; if one file of weights is to serve
        several networks; if points cannot be balanced over the classes of a dataset, or its images are too small for a
        network; or if nothing could cancel where cancellation is to be measured.
    """

    def __init__(self, config: dict[str, Any]):
        self.config = config
        self.seeds: list[int] = sorted(config["seeds"])
        self._top_k: list[float] = config["robustness"]["top_k"]
        for section, entries in (("attacks", config["attacks"]), ("trainings", config["trainings"])):
            for name, settings in entries.items():
                _check_inner(section, settings, f"{section}.{name}")
        for attack in config["attacks"]:
            self._check_source(attack)
        for training in config["trainings"]:
            self._check_chains(training)
            self._check_start(training)
        for dataset in config["datasets"]:
            self._check_balance(dataset)
        self.cells = frozenset(self._cells())
        self._draws: dict[tuple[str, str, str, str], set[int]] = defaultdict(set)
        self._rules: dict[tuple[str, str, str, str, int], set[str]] = defaultdict(set)
        for cell in self.cells:
            place = (cell.dataset, cell.network, cell.training, cell.attack)
            self._draws[place].add(cell.draws)
            self._rules[*place, cell.draws].add(cell.rule)
        for training in config["trainings"]:
            self._check_own_files(training)
        for dataset, network in sorted({(cell.dataset, cell.network) for cell in self.cells}):
            self._check_size(dataset, network)
        if "claims" in config and config["claims"]["lrp"] not in {cell.rule for cell in self.cells}:
            raise GridError(f"claims.lrp: no experiment explains by the rule {config['claims']['lrp']}; add it to one")
        if "cancellation" in config:
            self._check_cancellation()
        for name, figure in config["figures"].items():
            self._check_figure(name, figure)
        for name, page in config["explore"].items():
            self._check_page(name, page)

    def _cells(self) -> Iterator[Cell]:
        for name, experiment in self.config["experiments"].items():
            axes = (experiment[key] for key in ("datasets", "networks", "trainings", "attacks", "lrp"))
            for dataset, network, training, attack, rule in product(*axes):
                for draws in self.draws(training, experiment["draws"], f"experiments.{name}.draws"):
                    yield Cell(dataset, network, training, attack, draws, rule)
                    for made in self.made_from(training, attack, draws):
                        yield Cell(dataset, network, *made, rule)

    def function(self, section: str, name: str) -> Function:
        """What the catalogue says of the function that an entry names."""
        return named(section, self.config[section][name])

    @property
    def shown(self) -> dict[str, Any]:
        """The rule and the k of what is shown for one of each: those of the claims, or without any the first and least."""
        rules, measured = (cell.rule for cell in self.cells), self.config["robustness"]["top_k"]
        return (
            {key: self.config["claims"][key] for key in ("lrp", "top_k")}
            if "claims" in self.config
            else {"lrp": min(rules), "top_k": min(measured)}
        )

    def layers(self, network: str) -> tuple[int, ...]:
        """Indices of the learnable layers of a network, first to last."""
        return tuple(self.function("networks", network).traits["layers"])

    def role(self, training: str) -> str:
        """deterministic, adversarial, control or bayesian."""
        function = self.function("trainings", training)
        role = function.traits["role"]
        return self.config["trainings"][training][role] if role in function.parameters else role

    def start(self, training: str) -> str | None:
        """The training whose weights this one starts from, if any."""
        return self.config["trainings"][training].get("start")

    def made_from(self, training: str, attack: str, draws: int) -> list[tuple[str, str, int]]:
        """The attacked inputs that an attack is made from, each a (training, attack, draws); none if from a network.

        The last are those of its source.
        """
        settings = self.config["attacks"][attack]
        match settings["method"]:
            case "transfer":
                return [(settings["source"], settings["attack"], 1)]
            case "match_size":
                [of_source] = self.draws(settings["source"], [settings["draws"]], f"attacks.{attack}.draws")
                return [(training, settings["attack"], draws), (settings["source"], settings["attack"], of_source)]
        return []

    def epsilon(self, attack: str) -> float | None:
        """Strength of an attack, or of the attack that it is made from or averages."""
        settings = self.config["attacks"][attack]
        if self._derived(settings):
            return self.epsilon(settings["attack"])
        return value_in("attacks", settings, "epsilon")

    def noise(self, attack: str) -> str | None:
        """The random noise of an attack's epsilon, if the config has any; that of noise is itself."""
        attacks, epsilon = self.config["attacks"], self.epsilon(attack)
        if attacks[attack]["method"] == NOISE:
            return attack
        noises = (name for name, settings in attacks.items() if settings["method"] == NOISE)
        return min((name for name in noises if self.epsilon(name) == epsilon), default=None)

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
            while start := self.start(training):
                needed.add((dataset, network, start))
                training = start
        return sorted(needed)

    def cancelled(self) -> list[tuple[str, str, str]]:
        """Every (dataset, network, training) with several draws, whose gradients can cancel; none without the section."""
        if "cancellation" not in self.config:
            return []
        return sorted({(cell.dataset, cell.network, cell.training) for cell in self.cells if cell.draws > 1})

    def cancelled_draws(self, training: str) -> list[int]:
        """The numbers of draws after which cancellation is measured; those of an ensemble end with the number of members."""
        requested = sorted(self.config["cancellation"]["draws"])
        most = self.draws(training, requested, "cancellation.draws")[-1]
        return [*(number for number in requested if number < most), most]

    def attacked(self) -> list[tuple[str, str, str, str, int]]:
        """Every (dataset, network, training, attack, draws)."""
        return sorted(self._rules)

    def rules(self, dataset: str, network: str, training: str, attack: str, draws: int) -> list[str]:
        """The LRP rules by which one attacked model is explained."""
        return sorted(self._rules.get((dataset, network, training, attack, draws), ()))

    def draws_of(self, dataset: str, network: str, training: str, attack: str) -> list[int]:
        """The numbers of draws with which one model is attacked."""
        return sorted(self._draws.get((dataset, network, training, attack), ()))

    def _derived(self, attack: dict[str, Any]) -> bool:
        """Whether an attack is made from attacked inputs, not from a network."""
        return named("attacks", attack).traits.get("derived", False)

    def _check_source(self, attack: str) -> None:
        settings, place = self.config["attacks"][attack], f"attacks.{attack}"
        if not self._derived(settings):
            return
        inner, source = settings["attack"], settings["source"]
        if self._derived(self.config["attacks"][inner]):
            raise GridError(f"{place}.attack: {inner} is itself made from another; name an attack on a network")
        if settings["method"] == "transfer" and self.function("trainings", source).traits.get("draws") != 1:
            raise GridError(f"{place}.source: {source} is no point estimate; attacks are transferred from a single network")

    def _check_start(self, training: str) -> None:
        seen = [training]
        while start := self.start(seen[-1]):
            if start in seen:
                raise GridError(
                    f"trainings.{training}.start: {' starts from '.join([*seen, start])}, which has no beginning"
                )
            seen.append(start)
        if len(seen) > 1:
            self._check_number_of_starts(training, seen[1])
            self._check_prior(training, seen[1])

    def _check_number_of_starts(self, training: str, start: str) -> None:
        """Each chain starts from another draw of the training that it starts from, which must so have a last one."""
        place, chains = f"trainings.{training}.start", self.function("trainings", training).traits.get("shared_by")
        if chains is None:
            return
        needed = _value(self.function("trainings", training), self.config["trainings"][training], chains)
        there = stored_draws(self.config["trainings"][start])
        if there is None:
            raise GridError(f"{place}: {start} is a distribution without a last draw; name a point estimate or an ensemble")
        if there < needed:
            raise GridError(f"{place}: {start} has {there} draws, and each of the {needed} {chains} needs one to start from")

    def _check_prior(self, training: str, start: str) -> None:
        """Chains start near modes of their own posterior; weights that were found without a prior do not contradict that."""
        for key in ("prior", "prior_scale"):
            here, there = (value_in("trainings", self.config["trainings"][name], key) for name in (training, start))
            if None not in (here, there) and here != there:
                raise GridError(
                    f"trainings.{training}.{key}: {here} is not that of {start}, {there}, whose weights it starts from; "
                    "give both the same, or name another start"
                )

    def _check_chains(self, training: str) -> None:
        function, settings = self.function("trainings", training), self.config["trainings"][training]
        if chains := function.traits.get("shared_by"):
            bound = function.traits["at_most"]
            draws, number = _value(function, settings, bound), _value(function, settings, chains)
            if draws % number:
                raise GridError(
                    f"trainings.{training}.{bound}: {draws} cannot be shared by {number} {chains}; use a multiple"
                )

    def _check_balance(self, dataset: str) -> None:
        settings, classes = self.config["datasets"][dataset], self.function("datasets", dataset).traits.get("classes", 1)
        for key in ("test_points", "train_points"):
            if settings.get(key, classes) % classes:
                raise GridError(
                    f"datasets.{dataset}.{key}: {settings[key]} cannot be balanced over {classes} classes; use a multiple"
                )

    def _check_size(self, dataset: str, network: str) -> None:
        least, side = (
            self.function("networks", network).traits.get("least_side", 1),
            self.function("datasets", dataset).traits.get("side", math.inf),
        )
        pixels = self.config["datasets"][dataset][side] if isinstance(side, str) else side
        if pixels < least:
            raise GridError(
                f"networks.{network}: needs images of at least {least} pixels a side, which {dataset} has not; use fc2 there"
            )

    def _check_own_files(self, training: str) -> None:
        """Weights belong to one network that was trained once, so several of these need several files."""
        settings = self.config["trainings"][training]
        uses = [place for place in self.trained() if place[2] == training]
        several: dict[str, set[Any]] = {
            "dataset": {dataset for dataset, *_ in uses},
            "network": {network for _, network, _ in uses},
            "seed": set(self.seeds),
        }
        for key in paths("trainings", settings):
            for axis, values in several.items():
                if len(values) > 1 and f"{{{axis}}}" not in settings[key]:
                    named = ", ".join(map(str, sorted(values)))
                    raise GridError(
                        f"trainings.{training}.{key}: {settings[key]!r} would serve the {axis}s {named} alike; "
                        f"put {{{axis}}} into the path and give each a file of its own"
                    )

    def _check_cancellation(self) -> None:
        section = self.config["cancellation"]
        if not self.cancelled():
            raise GridError(
                "cancellation: no experiment has a posterior or an ensemble of several draws, which could cancel"
            )
        for training in sorted({training for _, _, training in self.cancelled()}):
            if self.cancelled_draws(training)[-1] < 2:
                raise GridError(
                    f"cancellation.draws: {section['draws']} has no number above one, and nothing cancels in one draw"
                )
        if section["dimensions"] >= section["neighbours"]:
            raise GridError(
                f"cancellation.dimensions: {section['dimensions']} directions need more than that many neighbours, "
                f"not {section['neighbours']}"
            )

    def _check_figure(self, name: str, figure: dict[str, Any]) -> None:
        function = named("figures", figure)
        panels, place = figure.get("panels", []), f"figures.{name}"
        if "panels" in function.inputs and not panels:
            raise GridError(f"{place}: the key 'panels' is missing; add it")
        for drawn, section in DRAWN.items():
            if drawn in function.inputs and section not in self.config:
                raise GridError(f"{place}: {figure['figure']} draws what the section {section!r} asks for, which is missing")
        if len(panels) > function.traits.get("panels", len(panels)):
            raise GridError(f"{place}.panels: {figure['figure']} draws {function.traits['panels']} panel, not {len(panels)}")
        wanted = {key: figure.get(key, default(function, key)) for key in ("rule", "top_k") if key in function.parameters}
        if wanted.get("top_k", self._top_k[0]) not in self._top_k:
            raise GridError(f"{place}.top_k: {wanted['top_k']} is not measured; robustness.top_k has {self._top_k}")
        for number, panel in enumerate(panels):
            self._check_panel(f"{place}.panels[{number}]", panel, function, wanted.get("rule"))

    def _check_panel(self, place: str, panel: dict[str, Any], function: Function, rule: str | None) -> None:
        least = function.traits.get("trainings", 1)
        if len(panel["trainings"]) < least:
            raise GridError(f"{place}.trainings: {function.name} needs at least {least} trainings, the reference first")
        for training in panel["trainings"]:
            here = (panel["dataset"], panel["network"], training, panel["attack"])
            draws = self.draws_of(*here)
            if not draws:
                raise GridError(f"{place}: no experiment has {', '.join(here)}; add it to experiments")
            if rule and rule not in self.rules(*here, draws[-1]):
                raise GridError(
                    f"{place}: no experiment explains {', '.join(here)} by the rule {rule}; add it to experiments"
                )

    def explored(self, page: dict[str, Any]) -> list[tuple[str, int]]:
        """The models that a page to explore shows, as (training, draws): the reference with most draws, then the other."""
        place, attack = (page["dataset"], page["network"]), page["attack"]
        reference = self.draws_of(*place, page["reference"], attack)[-1:]
        others = self.draws_of(*place, page["training"], attack)
        return [*((page["reference"], draws) for draws in reference), *((page["training"], draws) for draws in others)]

    def _check_page(self, name: str, page: dict[str, Any]) -> None:
        place, (dataset, network, attack) = f"explore.{name}", (page["dataset"], page["network"], page["attack"])
        if page["training"] == page["reference"]:
            raise GridError(f"{place}.reference: {page['reference']} cannot stand beside itself; name another training")
        for key in ("training", "reference"):
            if not self.draws_of(dataset, network, page[key], attack):
                here = f"{dataset}, {network}, {page[key]}, {attack}"
                raise GridError(f"{place}.{key}: no experiment has {here}; add it to experiments")
        (reference, of_reference), *models = self.explored(page)
        known = self.rules(dataset, network, reference, attack, of_reference)
        for training, draws in models:
            for rule in self.rules(dataset, network, training, attack, draws):
                if rule not in known:
                    here = f"{dataset}, {network}, {reference}, {attack}, {of_reference} draws"
                    raise GridError(
                        f"{place}.reference: no experiment explains {here} by the rule {rule}, as it does {training}; "
                        "add it to experiments"
                    )
        test_points = self.config["datasets"][dataset]["test_points"]
        if page.get("points", 1) > test_points:
            raise GridError(f"{place}.points: {page['points']} is more than datasets.{dataset}.test_points, {test_points}")


def _check_inner(section: str, settings: dict[str, Any], place: str) -> None:
    """An ensemble is made of point estimates, and an attack within an entry is one on a network."""
    for inner, entry in inner_entries(section, settings):
        function = named(inner, entry)
        if inner == "trainings" and function.traits.get("draws") != 1:
            raise GridError(f"{place}: holds {function.name}, which is no point estimate; name one, such as deterministic")
        if inner == "attacks" and function.traits.get("derived"):
            raise GridError(
                f"{place}: holds {function.name}, which is made from attacked inputs; name an attack on a network"
            )


def _value(function: Function, settings: dict[str, Any], parameter: str) -> int:
    return int(settings.get(parameter, default(function, parameter)))
