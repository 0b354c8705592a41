"""Weights that were trained elsewhere."""

from __future__ import annotations

from typing import Literal

import torch

from resilience import artifacts, posterior
from resilience.artifacts import ArtifactError
from resilience.catalog import entry
from resilience.networks import Weights
from resilience.parameters import Count, OwnFile
from resilience.posterior import DRAWS, POINT, Posterior
from resilience.training.fit import Fit, Task, TrainingError


@entry(draws=1, role="role")
def imported_point(task: Task, *, file: OwnFile, role: Literal["deterministic", "adversarial", "control"]) -> Fit:
    """A network that was trained elsewhere: a safetensors file with one tensor per parameter under its ``state_dict`` name.

    Parameters
    ----------
    file
        The ``.safetensors`` file. With several seeds, datasets or networks there is one for each, and its path has
        ``{seed}``, ``{dataset}`` or ``{network}`` where they differ.
    role
        What claims compare it with: how it was trained.

    Raises
    ------
    TrainingError
        If the file cannot be read or does not fit the network.
    """
    weights = _read(file, task)
    _refuse_other_shapes(weights, task, leading=(), file=file)
    return Fit(weights, POINT, _course({name: value[None] for name, value in weights.items()}, task))


@entry(at_most="draws", role="role")
def imported_draws(task: Task, *, file: OwnFile, draws: Count, role: Literal["bayesian", "control"]) -> Fit:
    """Draws from a posterior, or members of an ensemble, made elsewhere: as a point, but each tensor leads with their axis.

    Parameters
    ----------
    draws
        How many are used, the first of those in the file.

    Raises
    ------
    TrainingError
        If the file cannot be read, does not fit the network, or has fewer draws.
    """
    weights = _read(file, task)
    available = min(len(value) if value.ndim else 0 for value in weights.values())
    if available < draws:
        raise TrainingError(f"{file}: has {available} draws; draws asks for {draws}")
    _refuse_other_shapes(weights, task, leading=(len(next(iter(weights.values()))),), file=file)
    used = {name: value[:draws].clone() for name, value in weights.items()}
    return Fit(used, DRAWS, _course(used, task))


def _read(file: str, task: Task) -> Weights:
    """The tensors of a file as float32, which have the names of the network's parameters and no others."""
    try:
        tensors = {name: torch.from_numpy(array) for name, array in artifacts.read_foreign_tensors(file).items()}
    except (ArtifactError, TypeError) as error:
        raise TrainingError(f"{file}: cannot be used; expected safetensors of finite floats ({error})") from error
    expected = task.network().state_dict()
    for name in expected:
        if name not in tensors:
            raise TrainingError(f"{file}: has no tensor {name}; found {', '.join(sorted(tensors)) or 'none'}")
    for name, value in tensors.items():
        if name not in expected:
            raise TrainingError(f"{file}: has a tensor {name}; the network's are {', '.join(expected)}")
        if not value.is_floating_point():
            raise TrainingError(f"{file}: {name} is {value.dtype}; expected floats")
    return {name: tensors[name].float().to(task.x.device) for name in expected}


def _refuse_other_shapes(weights: Weights, task: Task, leading: tuple[int, ...], file: str) -> None:
    for name, value in task.network().state_dict().items():
        shape = (*leading, *value.shape)
        if weights[name].shape != shape:
            raise TrainingError(f"{file}: {name} has shape {tuple(weights[name].shape)}; the network needs {tuple(shape)}")


def _course(draws: Weights, task: Task) -> list[dict[str, float]]:
    """How good the draws are together; of how they became so nothing is known."""
    count = len(next(iter(draws.values())))
    found = posterior.accuracy(Posterior(task.network(), draws), task.validation_x, task.validation_y)
    return [{"draws": count, "validation_accuracy": found}]
