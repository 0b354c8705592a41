"""Manifolds as files: tensors, and in the header what kind of manifold they are and what its draws are seeded with.

It stands apart from :mod:`resilience.manifolds.loading`, which knows all kinds: learning one does not depend on the others.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from resilience.artifacts import write_tensors
from resilience.history import History
from resilience.manifolds.manifold import Manifold


def save(path: str | Path, manifold: Manifold, seed: int, about: Mapping[str, Any], history: History | None = None) -> None:
    """Write a manifold.

    Parameters
    ----------
    path
        A safetensors file.
    manifold
        Of a kind that :mod:`resilience.manifolds.loading` knows.
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
