"""Manifolds as files: tensors, and in the header what kind of manifold they are and what its draws are seeded with."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from resilience.artifacts import ArtifactError, read_about, read_tensors, write_tensors
from resilience.history import History
from resilience.manifolds.manifold import Manifold
from resilience.manifolds.nearest_neighbours import Neighbours
from resilience.manifolds.principal_components import Plane
from resilience.manifolds.vae_gan import VaeGan

KINDS: dict[str, type[Manifold]] = {"plane": Plane, "neighbours": Neighbours, "vae_gan": VaeGan}


def save(path: str | Path, manifold: Manifold, seed: int, about: Mapping[str, Any], history: History | None = None) -> None:
    """Write a manifold.

    Parameters
    ----------
    path
        A safetensors file.
    manifold
        Of a kind in :data:`KINDS`.
    seed
        Of the draws that are made whenever distances to it are measured.
    about
        What the header says beside this: dataset, name and seed.
    history
        Of the learning.
    """
    tensors, settings = manifold.stored()
    header = {**about, "kind": manifold.kind, "settings": settings, "draws": seed}
    write_tensors(path, {name: value.detach().cpu().numpy() for name, value in tensors.items()}, header, history)


def load(path: str | Path, device: torch.device) -> tuple[Manifold, int]:
    """Read a manifold, and the seed of its draws.

    Raises
    ------
    ArtifactError
        If the file is damaged, or holds no manifold.
    """
    about, arrays = read_about(path), read_tensors(path)
    if about.get("kind") not in KINDS:
        raise ArtifactError(f"{path}: holds no manifold; its header says kind {about.get('kind')!r}")
    tensors = {name: torch.from_numpy(array).to(device) for name, array in arrays.items()}
    return KINDS[about["kind"]].restored(tensors, about["settings"]), int(about["draws"])
