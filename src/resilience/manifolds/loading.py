"""Manifolds from files; see :mod:`resilience.manifolds.saving`."""

from __future__ import annotations

from pathlib import Path

import torch

from resilience.artifacts import ArtifactError, read_about, read_tensors
from resilience.manifolds.manifold import Manifold
from resilience.manifolds.nearest_neighbours import Neighbours
from resilience.manifolds.principal_components import Plane
from resilience.manifolds.vae_gan import VaeGan

KINDS: dict[str, type[Manifold]] = {"plane": Plane, "neighbours": Neighbours, "vae_gan": VaeGan}


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
