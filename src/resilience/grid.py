"""The combinations that a config asks for: which networks are trained, attacked, explained, and with how many draws."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from typing import Any

from resilience.catalog import Function, default, inner_entries, named, stored_draws, value_in

CLEAN = "clean"
#: In the place of an explanation where an experiment has none.
NO_EXPLANATION = ""
#: The name of what a network returns, beside those of its layers.
OUTPUT = "output"


class GridError(ValueError):
    """A combination that cannot be built. The message names the key, the value and what would be accepted."""


@dataclass(frozen=True, order=True)
class Cell:
    """A (dataset, network, training) that is attacked through ``draws`` posterior draws and explained in one way or in none.

    Where nothing is explained, ``explanation`` is empty.
    """

    dataset: str
    network: str
    training: str
    attack: str
    draws: int
    explanation: str


class Grid:
    """All cells of a config, the union of its experiments.

    Whether these can be built is checked in :mod:`resilience.refusals`.

    Raises
    ------
    GridError
        If an experiment asks for more draws than a training yields.
    """

    def __init__(self, config: dict[str, Any]):
        self.config = config
        self.seeds: list[int] = sorted(config["seeds"])
        self.cells = frozenset(self._cells())
        self._draws: dict[tuple[str, str, str, str], set[int]] = defaultdict(set)
        self._explanations: dict[tuple[str, str, str, str, int], set[str]] = defaultdict(set)
        for cell in self.cells:
            place = (cell.dataset, cell.network, cell.training, cell.attack)
            self._draws[place].add(cell.draws)
            self._explanations[*place, cell.draws].update({cell.explanation} - {NO_EXPLANATION})

    def _cells(self) -> Iterator[Cell]:
        for name, experiment in self.config["experiments"].items():
            axes = (experiment[key] for key in ("datasets", "networks", "trainings", "attacks"))
            explanations = experiment["explanations"] or [NO_EXPLANATION]
            for dataset, network, training, attack, explanation in product(*axes, explanations):
                for draws in self.draws(training, experiment["draws"], f"experiments.{name}.draws"):
                    yield Cell(dataset, network, training, attack, draws, explanation)
                    for made in self.made_from(training, attack, draws):
                        yield Cell(dataset, network, *made, explanation)

    def function(self, section: str, name: str) -> Function:
        """What the catalogue says of the function that an entry names."""
        return named(section, self.config[section][name])

    @property
    def shown(self) -> dict[str, str]:
        """The explanation and the measure of what is shown for one of each: those of the claims, or else the first."""
        if "claims" in self.config:
            return {key: self.config["claims"][key] for key in ("explanation", "measure")}
        explained = [explanation for _, explanation in self.explained()]
        return {"explanation": min(explained, default=NO_EXPLANATION), "measure": min(self.measures("maps"))}

    @property
    def titles(self) -> dict[str, str]:
        """What figures and pages call the datasets that they do not call by their name."""
        return {name: dataset["title"] for name, dataset in self.config["datasets"].items() if "title" in dataset}

    def network(self, name: str) -> dict[str, Any]:
        """What a network is, whichever of its layers are explained."""
        return {key: value for key, value in self.config["networks"][name].items() if key != "layers"}

    def layers(self, network: str) -> tuple[str, ...]:
        """Names of the layers of a network that are explained, first to last; the last one stands for its output."""
        chosen = self.config["networks"][network].get("layers") or self.function("networks", network).traits["layers"]
        return tuple(map(str, chosen))

    def explained_layers(self, network: str, explanation: str) -> tuple[str, ...]:
        """The layers that an explanation has maps of: all, or the last alone, which stands for the output."""
        layers = self.layers(network)
        return layers if "layers" in self.function("explanations", explanation).inputs else layers[-1:]

    def measures(self, kind: str) -> dict[str, dict[str, Any]]:
        """The measures of one kind, of maps, predictions, an explanation or a network, with their settings."""
        measures = self.config["measures"]
        return {name: settings for name, settings in measures.items() if named("measures", settings).traits["of"] == kind}

    def compared(self, kind: str) -> list[str]:
        """The measures of one kind that models are compared by; none without claims."""
        claims = self.config.get("claims")
        names = [claims["measure"], *claims.get("also", [])] if claims else []
        return [name for name in names if name in self.measures(kind)]

    def manifold_of(self, measure: str) -> str | None:
        """The manifold that a measure asks for, if any."""
        return self.config["measures"][measure].get("manifold")

    def judge_of(self, measure: str) -> str | None:
        """The training whose networks say for a measure which points count, if that is another one's business."""
        judge = self.config["measures"][measure].get("judge")
        return judge if judge in self.config["trainings"] else None

    def learned_from(self, manifold: str) -> list[str]:
        """The datasets that a manifold is learned from, each by itself."""
        of = self.config["manifolds"][manifold]["of"]
        return [of] if isinstance(of, str) else list(of)

    def measured_predictions(self, dataset: str) -> dict[str, dict[str, Any]]:
        """The measures of predictions on a dataset: those of a manifold only where that is learned from it."""
        return {
            name: settings
            for name, settings in self.measures("predictions").items()
            if (manifold := self.manifold_of(name)) is None or dataset in self.learned_from(manifold)
        }

    def role(self, training: str) -> str:
        """deterministic, adversarial, control or bayesian."""
        function = self.function("trainings", training)
        role = function.traits["role"]
        return self.config["trainings"][training][role] if role in function.parameters else role

    def start(self, training: str) -> str | None:
        """The training whose weights this one starts from, if any."""
        return self.config["trainings"][training].get("start")

    def source(self, dataset: str) -> str | None:
        """The dataset that a derived one is made from."""
        return self.config["datasets"][dataset].get("of")

    def root(self, dataset: str) -> str:
        """The dataset that a derived one goes back to, which is read and not made; that of such a one is itself."""
        while source := self.source(dataset):
            dataset = source
        return dataset

    def trained_on(self, dataset: str) -> str:
        """The dataset that the networks have learned on which are judged on this one."""
        return self.config["datasets"][dataset].get("trained_on", dataset)

    def seeds_of(self, dataset: str) -> list[int]:
        """The seeds of the networks that are judged on a dataset: those of the one that they learn on, if it has its own."""
        return sorted(self.config["datasets"][self.trained_on(dataset)].get("seeds", self.seeds))

    def explainer(self, dataset: str) -> dict[str, Any] | None:
        """Whose explanation a derived dataset is made by, with its seed and number of draws; None if it is made by none."""
        settings = self.config["datasets"][dataset]
        if "by" not in settings:
            return None
        by = {"seed": self.seeds_of(settings["of"])[0], "draws": 1, **settings["by"]}
        [draws] = self.draws(by["training"], [by["draws"]], f"datasets.{dataset}.by.draws")
        return {**by, "draws": draws}

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
        if self.derived(settings):
            return self.epsilon(settings["attack"])
        return value_in("attacks", settings, "epsilon")

    def norm(self, attack: str) -> str:
        """The norm that an attack, or the one that it is made from or averages, keeps below its epsilon."""
        settings = self.config["attacks"][attack]
        if self.derived(settings):
            return self.norm(settings["attack"])
        return _norm_of(settings)

    def is_noise(self, attack: str) -> bool:
        """Whether an attack is the control of others: random, of their size."""
        return bool(self.function("attacks", attack).traits.get("noise"))

    def noise(self, attack: str) -> str | None:
        """The random noise of an attack's epsilon and norm, if the config has any; that of noise is itself."""
        if self.is_noise(attack):
            return attack
        size = (self.epsilon(attack), self.norm(attack))
        noises = (name for name in self.config["attacks"] if self.is_noise(name))
        return min((name for name in noises if (self.epsilon(name), self.norm(name)) == size), default=None)

    def draws(self, training: str, requested: list[int], place: str) -> list[int]:
        """The numbers of draws that a training is used with: its own if it has a fixed one, else the requested ones."""
        function = self.function("trainings", training)
        settings = self.config["trainings"][training]
        fixed = function.traits.get("draws")
        if isinstance(fixed, str):
            return [number_in(function, settings, fixed)]
        if fixed is not None:
            return [fixed]
        if bound := function.traits.get("at_most"):
            limit = number_in(function, settings, bound)
            if too_many := [number for number in requested if number > limit]:
                raise GridError(f"{place}: {too_many[0]} is more than trainings.{training}.{bound}, {limit}")
        return sorted(requested)

    def trained(self) -> list[tuple[str, str, str]]:
        """Every (dataset, network, training) that is needed, those that others start from included."""
        needed = {(self.trained_on(cell.dataset), cell.network, cell.training) for cell in self.cells}
        needed |= {(dataset, network, training) for dataset, network, training, *_ in self.retrained()}
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
        """The numbers of draws after which cancellation is measured; where there are fewer, they end with all of them."""
        requested = sorted(self.config["cancellation"]["draws"])
        most = min(requested[-1], stored_draws(self.config["trainings"][training]) or requested[-1])
        return [*(number for number in requested if number < most), most]

    def retrained(self) -> list[tuple[str, str, str, int, str]]:
        """Every (dataset, network, training, draws, explanation) that networks learn again after; none without the section.

        What says nothing of a network stands beside the explanations of all, and so the first training alone has it.
        """
        if not (section := self.config.get("retraining")):
            return []
        found = set()
        for dataset, network, training in product(section["datasets"], section["networks"], section["trainings"]):
            draws = self.draws(training, section["draws"], "retraining.draws")
            for explanation in section["explanations"]:
                if not self.is_control(explanation):
                    found |= {(dataset, network, training, number, explanation) for number in draws}
                elif training == section["trainings"][0]:
                    found.add((dataset, network, training, draws[-1], explanation))
        return sorted(found)

    def random_map(self) -> str | None:
        """The explanation that all others are scored against: a random one that says nothing of the network, if any is."""
        explanations = self.config["retraining"]["explanations"]
        random = (name for name in explanations if "generator" in self.function("explanations", name).inputs)
        return next((name for name in random if self.is_control(name)), None)

    def is_control(self, explanation: str) -> bool:
        """Whether an explanation says nothing of the network."""
        return bool(self.function("explanations", explanation).traits.get("control"))

    def strengths(self) -> dict[str, dict[str, Any]]:
        """Of trainings without an attack, and of those against one, how strong it is.

        ``strength`` is the attack's epsilon over the largest that any adversarial training of its ``norm`` has, 0 without
        an attack, and ``objective`` what the attack raises. Neither posteriors nor controls have any.
        """
        trainings = self.config["trainings"]
        against = {
            name: attack
            for name, entry in trainings.items()
            if self.role(name) == "adversarial" and (attack := _attack_within(entry))
        }
        epsilons = {
            name: (_norm_of(attack), value_in("attacks", attack, "epsilon") or 0) for name, attack in against.items()
        }
        found: dict[str, dict[str, Any]] = {
            name: {"norm": "", "objective": "", "strength": 0.0} for name in trainings if self.role(name) == "deterministic"
        }
        for name, (norm, epsilon) in epsilons.items():
            largest = max(other for kind, other in epsilons.values() if kind == norm)
            objective = value_in("attacks", against[name], "objective") or ""
            found[name] = {"norm": norm, "objective": objective, "strength": epsilon / largest if largest else 0.0}
        return found

    def attacked(self) -> list[tuple[str, str, str, str, int]]:
        """Every (dataset, network, training, attack, draws)."""
        return sorted(self._explanations)

    def explained(self) -> list[tuple[str, str]]:
        """Every (network, explanation) that is combined."""
        return sorted({(cell.network, cell.explanation) for cell in self.cells if cell.explanation != NO_EXPLANATION})

    def explanations(self, dataset: str, network: str, training: str, attack: str, draws: int) -> list[str]:
        """The explanations of one attacked model."""
        return sorted(self._explanations.get((dataset, network, training, attack, draws), ()))

    def draws_of(self, dataset: str, network: str, training: str, attack: str) -> list[int]:
        """The numbers of draws with which one model is attacked."""
        return sorted(self._draws.get((dataset, network, training, attack), ()))

    def derived(self, attack: dict[str, Any]) -> bool:
        """Whether an attack is made from attacked inputs, not from a network."""
        return named("attacks", attack).traits.get("derived", False)

    def explored(self, page: dict[str, Any]) -> list[tuple[str, int]]:
        """The models that a page to explore shows, as (training, draws): the reference with most draws, then the other."""
        place, attack = (page["dataset"], page["network"]), page["attack"]
        reference = self.draws_of(*place, page["reference"], attack)[-1:]
        others = self.draws_of(*place, page["training"], attack)
        return [*((page["reference"], draws) for draws in reference), *((page["training"], draws) for draws in others)]


def number_in(function: Function, settings: dict[str, Any], parameter: str) -> int:
    """The whole number that an entry, or else its function's default, gives a parameter."""
    return int(settings.get(parameter, default(function, parameter)))


def _attack_within(training: dict[str, Any]) -> dict[str, Any] | None:
    """The attack that a training holds, if it holds one."""
    return next((entry for section, entry in inner_entries("trainings", training) if section == "attacks"), None)


def _norm_of(attack: dict[str, Any]) -> str:
    """The norm that an attack's entry, or one that it holds, keeps below its epsilon."""
    entries = [attack, *(entry for section, entry in inner_entries("attacks", attack) if section == "attacks")]
    norms = (named("attacks", entry).traits.get("norm") for entry in entries)
    return next((norm for norm in norms if norm), "linf")
