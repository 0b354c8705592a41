"""Where a chain stands, on disk, so that a job that was killed goes on after its last finished iteration.

A chain that goes on gives the bytes of one that was never stopped: its position and random numbers, what its kernel has
counted and what it has adapted are all restored as they were. Draws are written once, in pieces, so that what is written
at a time is what is new and the state of one chain.
"""

from __future__ import annotations

import hashlib
import shutil
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from resilience.artifacts import Arrays, ArtifactError, digest_of, read_about, read_tensors, write_tensors

if TYPE_CHECKING:
    from pyro.infer import HMC

SECONDS_BETWEEN = 30.0

#: What a kernel of pyro counts, and what it knows of its step size. The mass matrix is never adapted here.
COUNTED = ("_t", "_accept_cnt", "_mean_accept_prob", "_divergences")
ADAPTED = ("step_size", "_current_window")
AVERAGED = ("prox_center", "_x_avg", "_g_avg", "_x_t", "_t")


@dataclass(frozen=True)
class Standing:
    """Where a chain was found: its finished iterations, its draws so far [draws, P], and the state of its kernel."""

    iteration: int
    draws: Tensor
    arrays: Arrays
    kernel: dict[str, Any]

    @property
    def position(self) -> Tensor:
        """Weights [P]."""
        return torch.from_numpy(self.arrays["position"])

    def restore(self, kernel: HMC) -> None:
        """Put a kernel that was set up at the position into the state that it was in, and random numbers likewise.

        The gradient there is not computed anew but the one that was kept, since its last digits could differ.
        """
        like = kernel.initial_params["weights"]
        gradient = torch.from_numpy(self.arrays["gradient"]).to(like.device)
        energy = torch.from_numpy(self.arrays["energy"]).to(like.device).reshape(())
        kernel._cache({"weights": like}, energy, {"weights": gradient})
        for part, names in _parts(kernel):
            for name, value in zip(names, self.kernel[type(part).__name__], strict=True):
                if value is not None:
                    setattr(part, name, value)
        torch.set_rng_state(torch.from_numpy(self.arrays["random"]))
        if like.is_cuda:
            torch.cuda.set_rng_state(torch.from_numpy(self.arrays["random_cuda"]), like.device)


class Checkpoint:
    """The files of one chain in a folder, or nothing at all where there is no folder.

    Parameters
    ----------
    folder
        Of all chains of a job.
    identity
        Of everything that decides the chain; see :func:`identity_of`. Files with another one count for nothing.
    chain
        Its number.
    """

    def __init__(self, folder: Path | None = None, identity: str = "", chain: int = 0) -> None:
        self.folder, self.identity, self.chain = folder, identity, chain
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
        """Where the chain stands. Files that are damaged or of another chain are deleted."""
        if self.folder is None:
            return None
        try:
            arrays, about = self._read(self._state)
            pieces = [self._read(self._piece(number)) for number in range(len(about["pieces"]))]
            if [piece["digest"] for _, piece in pieces] != about["pieces"]:
                raise ArtifactError(f"{self._state}: belongs to other draws")
        except ValueError:
            for file in self.folder.glob(f"chain{self.chain}.*"):
                file.unlink()
            return None
        self._pieces = about["pieces"]
        return Standing(about["iteration"], _joined([piece["draws"] for piece, _ in pieces]), arrays, about["kernel"])

    def write(self, kernel: HMC, iteration: int, new: list[Tensor]) -> None:
        """Keep the state after an iteration, and the draws that came since the last time."""
        if self.folder is None:
            return
        # Draws first: until the state counts them they are not there, and are overwritten by those of the next job.
        if new:
            self._pieces.append(self._write(self._piece(len(self._pieces)), {"draws": torch.stack(new).cpu().numpy()}, {}))
        position, energy, gradient = kernel._fetch_from_cache()
        state = {
            "position": position["weights"].cpu().numpy(),
            "gradient": gradient["weights"].cpu().numpy(),
            "energy": energy.cpu().numpy().reshape(1),
            "random": torch.get_rng_state().numpy(),
        }
        if position["weights"].is_cuda:
            state["random_cuda"] = torch.cuda.get_rng_state(position["weights"].device).numpy()
        of_kernel = {type(part).__name__: [getattr(part, name, None) for name in names] for part, names in _parts(kernel)}
        self._write(self._state, state, {"iteration": iteration, "pieces": self._pieces, "kernel": of_kernel})
        self._written = time.monotonic()

    @property
    def _state(self) -> Path:
        return self._file("state")

    def _piece(self, number: int) -> Path:
        return self._file(f"draws{number:05d}")

    def _file(self, name: str) -> Path:
        assert self.folder is not None
        return self.folder / f"chain{self.chain}.{name}.safetensors"

    def _write(self, path: Path, arrays: Arrays, about: dict[str, Any]) -> str:
        about = {**about, "identity": self.identity}
        write_tensors(path, arrays, about)
        return digest_of(arrays, about)

    def _read(self, path: Path) -> tuple[Arrays, dict[str, Any]]:
        """What :meth:`_write` wrote, or a ValueError."""
        arrays, about = read_tensors(path), read_about(path)
        if about.get("identity") != self.identity:
            raise ArtifactError(f"{path}: is of another chain")
        return arrays, {**about, "digest": digest_of(arrays, about)}


def identity_of(settings: Iterable[object], tensors: Iterable[Tensor]) -> str:
    """A digest of everything that decides chains: their settings, and the data and weights that they start from."""
    digest = hashlib.sha256("\x1f".join(str(setting) for setting in settings).encode())
    for tensor in tensors:
        digest.update(digest_of({"": tensor.cpu().numpy()}, {}).encode())
    return digest.hexdigest()


def discard(folder: Path) -> None:
    """Delete the checkpoints of a training whose weights have been written."""
    shutil.rmtree(folder, ignore_errors=True)


def _parts(kernel: HMC) -> list[tuple[Any, tuple[str, ...]]]:
    """The objects of a kernel that change while it runs, each with the names of what changes."""
    parts: list[tuple[Any, tuple[str, ...]]] = [(kernel, COUNTED), (kernel._adapter, ADAPTED)]
    if kernel._adapter.adapt_step_size:
        parts.append((kernel._adapter._step_size_adapt_scheme, AVERAGED))
    return parts


def _joined(pieces: list[np.ndarray]) -> Tensor:
    return torch.from_numpy(np.concatenate(pieces)) if pieces else torch.empty(0)
