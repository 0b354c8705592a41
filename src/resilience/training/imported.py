"""Weights that were trained elsewhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from resilience import artifacts, networks
from resilience.artifacts import ArtifactError
from resilience.catalog import entry
from resilience.networks import Weights
from resilience.parameters import Count, OwnFile
from resilience.posterior import DRAWS, POINT
from resilience.progress import logger
from resilience.training.fit import Fit, Task, TrainingError

#: Endings of files that torch.save writes.
PICKLED = (".pt", ".pth")
HOW_TO_SAVE = "save its weights alone, torch.save(network.state_dict(), 'weights.pt')"
#: What training on several GPUs puts before every name.
PARALLEL = "module."
#: How many names a refusal lists.
NAMED = 3


@entry(draws=1, role="role")
def imported_point(task: Task, *, file: OwnFile, role: Literal["deterministic", "adversarial", "control"]) -> Fit:
    """A network that was trained elsewhere: a file with its ``state_dict``, parameters and batch statistics.

    A prefix ``module.`` before all names is taken off, and whole numbers, which count batches, do not matter.

    Parameters
    ----------
    file
        ``.safetensors``, or ``.pt`` or ``.pth`` of ``torch.save(network.state_dict(), …)``, which is read without running
        code. With several seeds, datasets or networks there is one for each, and its path has ``{seed}``, ``{dataset}`` or
        ``{network}`` where they differ.
    role
        What claims compare it with: how it was trained.

    Raises
    ------
    TrainingError
        If the file cannot be read or does not fit the network.
    """
    weights = _read(file, task)
    _refuse_other_shapes(weights, task, leading=(), file=file)
    return Fit(weights, POINT, task.judged({name: value[None] for name, value in weights.items()}))


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
    return Fit(used, DRAWS, task.judged(used))


def _read(file: str, task: Task) -> Weights:
    """The tensors of a file as float32, by the names of the network's weights."""
    network = task.network()
    expected = networks.weights_of(network)
    tensors = _by_the_networks_names(_tensors(file), set(expected), file)
    left_out = tuple(getattr(network, "left_out", ()))
    # Whole numbers count batches, and auxiliary heads are not in the network.
    extra = [
        name
        for name, value in tensors.items()
        if name not in expected and value.is_floating_point() and not name.startswith(left_out)
    ]
    if missing := [name for name in expected if name not in tensors]:
        raise TrainingError(f"{file}: has no tensor {_first(missing)}; found {_first(sorted(tensors)) or 'none'}")
    if extra:
        raise TrainingError(f"{file}: has a tensor {_first(extra)}; the network's are {_first(list(expected))}")
    for name in expected:
        if not tensors[name].is_floating_point():
            raise TrainingError(f"{file}: {name} is {tensors[name].dtype}; expected floats")
    return {name: tensors[name].float().to(task.x.device) for name in expected}


def _tensors(file: str) -> Weights:
    """What a file of safetensors, or of ``torch.save`` by its name, holds."""
    if Path(file).suffix in PICKLED:
        return _pickled(file)
    try:
        return {name: torch.from_numpy(array) for name, array in artifacts.read_foreign_tensors(file).items()}
    except (ArtifactError, TypeError) as error:
        raise TrainingError(
            f"{file}: cannot be used; expected safetensors of finite floats, or a state_dict in a file that ends in "
            f"{' or '.join(PICKLED)} ({error})"
        ) from error


def _pickled(file: str) -> Weights:
    """The tensors of a ``state_dict``. No code is run, so a pickled network is refused."""
    try:
        held = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:
        # Whatever torch raises while it reads, the file is not as it should be.
        if type(error).__name__ == "UnpicklingError":
            raise TrainingError(
                f"{file}: holds more than tensors, such as a whole network, which would be code; {HOW_TO_SAVE}"
            ) from error
        raise TrainingError(f"{file}: cannot be read by torch.load ({str(error).partition(chr(10))[0]})") from error
    if not isinstance(held, Mapping) or not all(isinstance(value, Tensor) for value in held.values()):
        inside = f"the entries {_first(list(map(str, held)))}" if isinstance(held, Mapping) else f"a {type(held).__name__}"
        raise TrainingError(f"{file}: holds {inside}, which are no tensors by name; {HOW_TO_SAVE}")
    for name, value in held.items():
        if value.is_floating_point() and not value.isfinite().all():
            raise TrainingError(f"{file}: {name} has values that are not finite; expected finite floats")
    return {str(name): value for name, value in held.items()}


def _by_the_networks_names(tensors: Weights, expected: set[str], file: str) -> Weights:
    """Without the prefix that training on several GPUs puts before every name, if that is all that differs."""
    bare = {name.removeprefix(PARALLEL): value for name, value in tensors.items()}
    if expected <= set(tensors) or not expected <= set(bare):
        return tensors
    logger.info("%s: names begin with %r, which is taken off", file, PARALLEL)
    return bare


def _first(names: Sequence[str]) -> str:
    """The first few names, and how many more there are."""
    shown = ", ".join(names[:NAMED])
    return f"{shown} and {len(names) - NAMED} more" if len(names) > NAMED else shown


def _refuse_other_shapes(weights: Weights, task: Task, leading: tuple[int, ...], file: str) -> None:
    for name, value in networks.weights_of(task.network()).items():
        found, shape = tuple(weights[name].shape), (*leading, *value.shape)
        if found != shape:
            own = tuple(value.shape)
            of_classes = own[:1] == (task.classes,) and found[len(leading) + 1 :] == own[1:]
            hint = f", since the dataset has {task.classes} classes" if of_classes else ""
            raise TrainingError(f"{file}: {name} has shape {found}; the network needs {shape}{hint}")
