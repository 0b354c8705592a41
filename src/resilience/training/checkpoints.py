"""Where a chain or a descent stands, on disk, so that a job that was killed goes on after its last finished iteration.

What goes on gives the bytes of what was never stopped: weights and random numbers, and what a kernel or an optimiser has
counted and adapted, are all restored as they were. Draws are written once, in pieces, so that what is written at a time is
what is new and one state.
"""

from __future__ import annotations

import hashlib
import shutil
import time
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from resilience.artifacts import Arrays, ArtifactError, digest_of, read_about, read_tensors, write_tensors
from resilience.training.fit import Task

SECONDS_BETWEEN = 30.0


@dataclass(frozen=True)
class Standing:
    """Where a chain or a descent was found: its finished iterations, its state, and its draws so far [draws, P]."""

    iteration: int
    state: Any
    draws: Tensor


class Checkpoint:
    """The files of one chain or descent in a folder, or nothing at all where there is no folder.

    Parameters
    ----------
    folder
        Of everything that a job keeps.
    identity
        Of everything that decides the outcome; see :func:`checkpoint_of`. Files with another one count for nothing.
    name
        What its files begin with.
    """

    def __init__(self, folder: Path | None = None, identity: str = "", name: str = "") -> None:
        self.folder, self.identity, self.name = folder, identity, name
        self._pieces: list[str] = []
        self._written = time.monotonic()

    @property
    def due(self) -> bool:
        """Whether the last one is old enough for another."""
        return self.folder is not None and time.monotonic() - self._written >= SECONDS_BETWEEN

    @property
    def iteration(self) -> int:
        """How many iterations are finished."""
        try:
            return self._read(self._state)[1]["iteration"] if self.folder else 0
        except ValueError:
            return 0

    def read(self) -> Standing | None:
        """Where it stands. Files that are damaged or of another identity are deleted."""
        if self.folder is None:
            return None
        try:
            arrays, about = self._read(self._state)
            pieces = [self._read(self._piece(number)) for number in range(len(about["pieces"]))]
            if [piece["digest"] for _, piece in pieces] != about["pieces"]:
                raise ArtifactError(f"{self._state}: belongs to other draws")
        except ValueError:
            for file in self.folder.glob(f"{self.name}.*"):
                file.unlink()
            return None
        self._pieces = about["pieces"]
        draws = _joined([piece["draws"] for piece, _ in pieces])
        return Standing(about["iteration"], _unpacked(about["state"], arrays), draws)

    def write(self, iteration: int, state: Any, new: Tensor | None = None) -> None:
        """Keep the state after an iteration, and the draws that came since the last time. What is not finite is not kept.

        Parameters
        ----------
        iteration
            How many are finished.
        state
            Tensors and whatever JSON holds, in lists and dictionaries.
        new
            Draws [count, P].
        """
        if self.folder is None:
            return
        arrays: Arrays = {}
        packed = _packed(state, arrays)
        if not all(np.isfinite(array).all() for array in arrays.values() if array.dtype.kind == "f"):
            return
        # Draws first: until the state counts them they are not there, and are overwritten by those of the next job.
        if new is not None:
            self._pieces.append(self._write(self._piece(len(self._pieces)), {"draws": new.cpu().numpy()}, {}))
        about = {"iteration": iteration, "pieces": self._pieces, "state": packed}
        self._write(self._state, arrays, about)
        self._written = time.monotonic()

    @property
    def _state(self) -> Path:
        return self._file("state")

    def _piece(self, number: int) -> Path:
        return self._file(f"draws{number:05d}")

    def _file(self, name: str) -> Path:
        assert self.folder is not None
        return self.folder / f"{self.name}.{name}.safetensors"

    def _write(self, path: Path, arrays: Arrays, about: dict[str, Any]) -> str:
        about = {**about, "identity": self.identity}
        write_tensors(path, arrays, about)
        return digest_of(arrays, about)

    def _read(self, path: Path) -> tuple[Arrays, dict[str, Any]]:
        """What :meth:`_write` wrote, or a ValueError."""
        arrays, about = read_tensors(path), read_about(path)
        if about.get("identity") != self.identity:
            raise ArtifactError(f"{path}: is of something else")
        return arrays, {**about, "digest": digest_of(arrays, about)}


def checkpoint_of(task: Task, name: str, settings: Iterable[object], tensors: Iterable[Tensor]) -> Checkpoint:
    """The checkpoint of a chain or a descent of a task.

    Parameters
    ----------
    task
        Its folder, if it has one, its recipe and its data.
    name
        Of this chain or descent among those of the task.
    settings, tensors
        What else decides the outcome.
    """
    if task.checkpoints is None:
        return Checkpoint()
    versions = (torch.__version__, version("pyro-ppl"), task.x.device.type)
    of_task = (task.recipe, dict(task.settings), task.classes, task.seed)
    digest = hashlib.sha256("\x1f".join(str(part) for part in [*of_task, *settings, *versions]).encode())
    for tensor in (task.x, task.y, *tensors):
        digest.update(digest_of({"": tensor.cpu().numpy()}, {}).encode())
    return Checkpoint(task.checkpoints, digest.hexdigest(), name)


def random_numbers(device: torch.device) -> list[Tensor]:
    """Where PyTorch's own random numbers stand, on the CPU and on the device of a training."""
    return [torch.get_rng_state(), *([torch.cuda.get_rng_state(device)] if device.type == "cuda" else [])]


def restore_random_numbers(states: list[Tensor], device: torch.device) -> None:
    """Put :func:`random_numbers` back."""
    torch.set_rng_state(states[0])
    for state in states[1:]:
        torch.cuda.set_rng_state(state, device)


def discard(folder: Path) -> None:
    """Delete the checkpoints of a training whose weights have been written."""
    shutil.rmtree(folder, ignore_errors=True)


def _packed(value: Any, arrays: Arrays, name: str = "state") -> Any:
    """A state as JSON, with the tensors put into ``arrays`` under the names that stand in their place."""
    match value:
        case Tensor():
            arrays[name] = np.atleast_1d(value.detach().cpu().numpy())
            return {"tensor": name, "shape": list(value.shape)}
        case dict():
            return {"pairs": [[key, _packed(item, arrays, f"{name}.{key}")] for key, item in value.items()]}
        case list() | tuple():
            return {"list": [_packed(item, arrays, f"{name}.{index}") for index, item in enumerate(value)]}
        case _:
            return {"plain": value}


def _unpacked(packed: Any, arrays: Arrays) -> Any:
    """What :func:`_packed` was given, with tensors on the CPU."""
    match packed:
        case {"tensor": name, "shape": shape}:
            return torch.from_numpy(arrays[name]).reshape(shape)
        case {"pairs": pairs}:
            return {key: _unpacked(item, arrays) for key, item in pairs}
        case {"list": items}:
            return [_unpacked(item, arrays) for item in items]
        case _:
            return packed["plain"]


def _joined(pieces: list[np.ndarray]) -> Tensor:
    return torch.from_numpy(np.concatenate(pieces)) if pieces else torch.empty(0)
