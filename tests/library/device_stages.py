"""All that the workflow computes in torch, in little, as functions of the device that it is computed on.

The list follows the catalogue: each training, attack, rule and explanation is here with each value of each choice that it
offers, so one that is added is on the list by itself. What the catalogue cannot know is a value for a setting without a
default: a new name of such a setting needs an entry of :data:`VALUES`.
"""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args
from unittest import mock

import numpy as np
import torch
from torch import Tensor

from resilience import cancellation, catalog, explain, posterior, retraining
from resilience.artifacts import write_tensors
from resilience.attacks import saliency
from resilience.attacks.gradient import LossGradient
from resilience.data import SPLITS
from resilience.explanations import lrp
from resilience.lrp_composites import AnyRule
from resilience.manifolds import loading, saving
from resilience.manifolds.manifold import distances
from resilience.networks import learnable_layers
from resilience.posterior import Posterior
from resilience.training import checkpoints
from resilience.training.fit import Fit, Task
from tests.conftest import double_network, noisy_posterior
from tests.library.lrp_stacks import STACKS
from tests.library.lrp_stacks import images as rectangular_images

#: Computes on a device, and gives what it found.
Stage = Callable[[torch.device], dict[str, Any]]

NETWORKS = {
    "fc2": {"architecture": "fc2", "width": 6},
    "conv": {"architecture": "conv", "width": 5},
    "pooled": {"architecture": "pooled", "width": 4},
}
#: Trainings without steps, so that there is nothing to go on from.
AT_ONCE = ("laplace", "prior_draws")
#: Trainings that start at one network, not at as many as there are chains.
FROM_A_POINT = ("svi", "laplace", "last_layer_hmc")
LAYERS = {"fc2": ("1", "3", "5"), "conv": ("0", "3", "7"), "pooled": ("0", "3", "7")}
#: The last one is only for what needs it.
EVERYTHING_ON = ("fc2", "conv")
SHAPE, CLASSES, DRAWS = (1, 6, 6), 3, 3
#: Trainings that read a file, and the axes that its tensors lead with.
IMPORTED: dict[str, tuple[int, ...]] = {"imported_point": (), "imported_draws": (2,)}
FGSM = {"method": "fgsm", "epsilon": 0.1}
MAP = {"method": "maximum_a_posteriori", "prior": "he", "epochs": 2, "learning_rate": 0.01, "batch_size": 16}
#: For settings without a default, and for those whose default takes long; names of files and trainings mean nothing.
VALUES: dict[str, Any] = {
    "attack": FGSM,
    "batch_size": 16,
    "chains": 2,
    "components": 5,
    "draws": 8,
    "epochs": 2,
    "epsilon": 0.1,
    "file": "",
    "leapfrog_steps": 3,
    "learning_rate": 0.01,
    "max_tree_depth": 2,
    "members": 2,
    "of": MAP,
    "queries": 20,
    "restarts": 2,
    "rule": {"rule": "epsilon"},
    "samples": 3,
    "shards": 2,
    "start": "",
    "step_size": 0.01,
    "steps": 3,
    "stride": 3,
    "warmup": 2,
}


def stages() -> Iterator[tuple[str, Stage]]:
    """Every stage, by a name."""
    for name, settings in entries("trainings"):
        if settings["method"] not in IMPORTED:
            yield name, training("fc2", settings)
    for network in EVERYTHING_ON:
        for name, settings in without_further_choices("trainings"):
            if settings["method"] not in (*IMPORTED, *AT_ONCE):
                yield f"{name}, {network}, stopped and resumed", resumed(network, settings)
        for method, leading in IMPORTED.items():
            yield f"{method}, {network}", imported(network, method, leading)
        for name, settings in entries("attacks"):
            if can_have(network, "attacks", settings):
                yield f"{name}, {network}", attack(network, settings)
        for name, settings in entries("rules"):
            yield f"{name}, {network}", maps(network, settings)
        for name, settings in entries("explanations"):
            if can_have(network, "explanations", settings):
                yield f"explained by {name}, {network}", explanation(network, settings)
        yield f"explained classes, {network}", explained(network)
        yield f"predictions, {network}", predictions(network)
        yield f"cancellation, {network}", gradients(network)
        yield f"retrained, {network}", retrained(network)
    for section, stage, what in (("attacks", attack, ""), ("explanations", explanation, "explained by ")):
        for name, settings in entries(section):
            if not any(can_have(network, section, settings) for network in EVERYTHING_ON):
                yield f"{what}{name}, pooled", stage("pooled", settings)
    for name, settings in entries("manifolds"):
        yield f"manifold by {name}", manifold(settings)
    for stack in STACKS:
        yield f"layers of {stack}", other_layers(stack)
    yield "a mean-field posterior from a file", mean_field


def entries(section: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """An entry of the config for each function of a section, and one more for each further value of a choice."""
    key = catalog.SECTIONS[section].key
    for name, function in catalog.functions(section).items():
        if function.traits.get("derived"):
            continue
        options, choices = {}, {}
        for option, parameter in function.parameters.items():
            if values := parameter.schema.get("enum"):
                choices[option] = values
                options[option] = values[0]
            elif section != "rules" and (option in VALUES or parameter.required):
                options[option] = VALUES[option]
        yield name, {key: name, **options}
        for option, values in choices.items():
            for value in values[1:]:
                yield f"{name} with {option} {value}", {key: name, **options, option: value}


def without_further_choices(section: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """The first entry of each function."""
    return (entry for entry in entries(section) if entry[0] in catalog.functions(section))


def training(network: str, settings: Mapping[str, Any]) -> Stage:
    """A training from its start to its end."""
    return lambda device: outcome(fit(task(network, device), settings))


def resumed(network: str, settings: Mapping[str, Any]) -> Stage:
    """A training that is stopped after its fourth checkpoint, of which every step writes one, and goes on from there."""

    def stage(device: torch.device) -> dict[str, Any]:
        with tempfile.TemporaryDirectory() as folder, mock.patch.object(checkpoints, "SECONDS_BETWEEN", 0.0):
            kept = replace(task(network, device), checkpoints=Path(folder))
            try:
                with mock.patch.object(checkpoints.Checkpoint, "write", stopping_after(4)):
                    fit(kept, settings)
            except InterruptedError:
                return outcome(fit(kept, settings))
        raise AssertionError("it was not stopped")

    return stage


def stopping_after(count: int) -> Callable[..., None]:
    """:meth:`Checkpoint.write` that fails after some calls."""
    write, calls = checkpoints.Checkpoint.write, []

    def writing(self: checkpoints.Checkpoint, *state: Any) -> None:
        write(self, *state)
        calls.append(state)
        if len(calls) == count:
            raise InterruptedError

    return writing


def imported(network: str, method: str, leading: tuple[int, ...]) -> Stage:
    """Weights from a file, whose tensors lead with some axes."""

    def stage(device: torch.device) -> dict[str, Any]:
        with tempfile.TemporaryDirectory() as folder:
            here = task(network, device)
            weights = {name: value.cpu().numpy() for name, value in given(network, 2).weights.items()}
            file = Path(folder) / "weights.safetensors"
            write_tensors(file, {name: value if leading else value[0] for name, value in weights.items()}, {})
            # Weights from elsewhere are read as float32, and so are images.
            here = replace(here, x=here.x.float(), validation_x=here.validation_x.float())
            draws = {"draws": 2} if leading else {}
            return outcome(catalog.load("trainings", method)(here, file=str(file), role="control", **draws))

    return stage


def manifold(settings: Mapping[str, Any]) -> Stage:
    """A manifold from its start to its file, and the distances of images to what is read from there."""

    def stage(device: torch.device) -> dict[str, Any]:
        generator = torch.Generator().manual_seed(0)
        x = torch.rand(60, 1, 8, 8, generator=generator, dtype=torch.get_default_dtype())
        here = replace(task("fc2", device), x=x[:40].to(device), validation_x=x[40:].to(device))
        learned = catalog.bound("manifolds", dict(settings))(task=here)
        with tempfile.TemporaryDirectory() as folder:
            saving.save(file := Path(folder) / "manifold.safetensors", learned.manifold, 1, {})
            found, seed = loading.load(file, device)
        sample = found.sample(3, torch.Generator().manual_seed(2))
        return {
            "projection": found.project(here.validation_x),
            "distances": distances(found, here.validation_x, 2, seed),
            "history": learned.history,
            **({} if sample is None else {"sample": sample}),
        }

    return stage


def attack(network: str, settings: Mapping[str, Any]) -> Stage:
    """Attacked images, and the gradient that is looked at beside them."""

    def stage(device: torch.device) -> dict[str, Any]:
        x, y = images(device)
        victim = given(network).to(device)
        make = catalog.bound("attacks", dict(settings))
        attacked = make(posterior=victim, x=x, y=y, generator=torch.Generator().manual_seed(1))
        gradient = LossGradient(victim, SHAPE, settings.get("objective", "likelihood"))(x, y)
        return {"x": attacked, "gradient": gradient}

    return stage


def maps(network: str, settings: Mapping[str, Any]) -> Stage:
    """Maps by a rule with every unit, start and way of activations, and of a class for each draw."""

    def stage(device: torch.device) -> dict[str, Any]:
        x, y = images(device)
        explaining = given(network).to(device)
        rule = ruling(settings)
        found = {"of each draw": lrp.heat_maps(explaining, x, y.expand(DRAWS, -1), rule, LAYERS[network])}
        for by_slope, unit, start in itertools.product((False, True), ("strongest", "all"), ("one", "value")):
            here = replace(rule, by_slope=by_slope)
            found[f"{by_slope}, {unit}, {start}"] = lrp.heat_maps(explaining, x, y, here, LAYERS[network], unit, start)
        return {name: torch.stack(list(relevance.values())) for name, relevance in found.items()}

    return stage


def ruling(settings: Mapping[str, Any]) -> AnyRule:
    """The rule that an entry names; one that knows the pixels alone as that of the first layer."""
    known = settings["rule"] == "zbox"
    return catalog.bound("rules", {"rule": "composite", "first": dict(settings)} if known else dict(settings))()


def can_have(network: str, section: str, settings: Mapping[str, Any]) -> bool:
    """Whether a network has what an explanation or an attack needs."""
    needs = catalog.named(section, dict(settings)).traits.get("needs")
    return needs is None or needs in catalog.named("networks", NETWORKS[network]).traits.get("has", ())


def explanation(network: str, settings: Mapping[str, Any]) -> Stage:
    """Explanations of all draws, put together in every way."""

    def stage(device: torch.device) -> dict[str, Any]:
        x, y = images(device)
        function = catalog.bound("explanations", dict(settings))
        arguments = (given(network).to(device), x, y, function, LAYERS[network])
        return {over: explain.explain(*arguments, over, 7) for over in get_args(explain.Over)}

    return stage


def other_layers(stack: str) -> Stage:
    """Maps and gradients of the layers that a network of the user's own may have: strides, groups, padding, averages."""

    def stage(device: torch.device) -> dict[str, Any]:
        build, shape = STACKS[stack]
        network = double_network(build(True), 0)
        own, x = noisy_posterior(network, 2).to(device), rectangular_images(shape, 0).to(device)
        y = posterior.predict(own, x).argmax(1)
        layers = learnable_layers(network)
        rules = {name: ruling({"rule": name}) for name in catalog.functions("rules")}
        found = {name: torch.stack(list(lrp.heat_maps(own, x, y, rule, layers).values())) for name, rule in rules.items()}
        with_graph = saliency.explanation(own, x, 0.1)
        return {**found, "with a graph": with_graph, "gradient": LossGradient(own, shape, "likelihood")(x, y)}

    return stage


def explained(network: str) -> Stage:
    """Classes that are explained, by every choice of them."""

    def stage(device: torch.device) -> dict[str, Any]:
        x, y = images(device)
        explaining = given(network).to(device)
        return {
            choice: explain.explained_classes(choice, explaining, x.flip(0), x, y) for choice in get_args(explain.Explained)
        }

    return stage


def predictions(network: str) -> Stage:
    """Probabilities and accuracy."""

    def stage(device: torch.device) -> dict[str, Any]:
        x, y = images(device)
        predicting = given(network).to(device)
        return {"p": posterior.predict(predicting, x), "accuracy": posterior.accuracy(predicting, x, y)}

    return stage


def gradients(network: str) -> Stage:
    """How far gradients cancel, with the planes that are tangent to the data."""

    def stage(device: torch.device) -> dict[str, Any]:
        x, y = images(device)
        tangents = cancellation.tangent_spaces(x, task(network, device).x, 10, 4)
        measured = cancellation.measure(given(network).to(device), x, y, tangents, [1, DRAWS])
        # A direction is known up to its sign, so planes are compared by what they project.
        return measured | {"planes": tangents.transpose(1, 2) @ tangents}

    return stage


def retrained(network: str) -> Stage:
    """A network that learns again, in single precision, without the pixels that matter most, and with them alone."""

    def stage(device: torch.device) -> dict[str, Any]:
        torch.set_default_dtype(torch.float32)
        of_task = task(network, torch.device("cpu"))
        x, y = of_task.validation_x.numpy().astype(np.float32), of_task.validation_y.numpy()
        arrays = {f"{split}.{key}": value for split in SPLITS for key, value in (("x", x), ("y", y))}
        relevance = {f"{split}.relevance": x - x.mean(0) for split in SPLITS}
        settings = {"method": "deterministic", "epochs": 2, "learning_rate": 0.01, "batch_size": 16}
        learn = retraining.Retraining(NETWORKS[network], settings, CLASSES, device)
        found = retraining.retrain(arrays, relevance, [0.3], [1], learn, [network])
        return {name: right.tolist() for name, right in found.items()}

    return stage


def mean_field(device: torch.device) -> dict[str, Any]:
    """Draws that are made where the parameters lie, and draws from a file that are moved there."""
    weights = {name: value[0] for name, value in given("fc2", 1).weights.items()}
    parameters = {f"{name}.loc": value for name, value in weights.items()}
    parameters |= {f"{name}.scale": value.abs() for name, value in weights.items()}
    there = {name: value.to(device) for name, value in parameters.items()}
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "weights.safetensors"
        network = {**NETWORKS["fc2"], "shape": list(SHAPE), "classes": CLASSES}
        posterior.save(file, there, posterior.MEAN_FIELD, network, 3)
        loaded = posterior.load(file, 2).to(device)
    made = posterior.sample_mean_field(there, list(weights), 3, 2)
    return {f"made {name}": value for name, value in made.items()} | {
        f"loaded {name}": value for name, value in loaded.weights.items()
    }


def task(network: str, device: torch.device) -> Task:
    """Sixty noisy images of three classes, and two networks to start from."""
    generator = np.random.default_rng(0)
    y = np.arange(60) % CLASSES
    x = np.clip(generator.normal(0.3, 0.1, (60, *SHAPE)) + 0.4 * (np.arange(6) % CLASSES == y[:, None, None, None]), 0, 1)
    arrays = {"train.x": x[:40], "train.y": y[:40], "validation.x": x[40:], "validation.y": y[40:]}
    return Task.of(NETWORKS[network], arrays, 5, given(network, 2), device)


def images(device: torch.device) -> tuple[Tensor, Tensor]:
    """Twenty images and their labels."""
    of_task = task("fc2", torch.device("cpu"))
    return of_task.validation_x.to(device), of_task.validation_y.to(device)


def given(network: str, draws: int = DRAWS) -> Posterior:
    """Draws of weights that are the same each time, on the CPU."""
    settings = NETWORKS[network]
    made = catalog.load("networks", settings["architecture"])(SHAPE, CLASSES, width=settings["width"])
    generator = torch.Generator().manual_seed(2)
    for value in made.parameters():
        value.data = 0.4 * torch.randn(value.shape, generator=generator, dtype=torch.get_default_dtype())
    return noisy_posterior(made, draws)


def fit(at: Task, settings: Mapping[str, Any]) -> Fit:
    if settings["method"] in FROM_A_POINT and at.start:
        at = replace(at, start=next(at.start.alone()))
    return catalog.load("trainings", settings["method"])(at, **catalog.options("trainings", dict(settings)))


def outcome(found: Fit) -> dict[str, Any]:
    """All that a training hands on: weights, course and diagnostics."""
    return {**found.weights, "history": found.history, "diagnostics": found.diagnostics, "warnings": found.warnings}
