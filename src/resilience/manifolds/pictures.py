"""What a manifold looks like: test images, what it makes of them, and images drawn from it."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from resilience.artifacts import Arrays
from resilience.manifolds.manifold import Manifold
from resilience.seeding import seed_of

#: How many test images are shown, and how many samples.
SHOWN = 20


def of_every_class(labels: np.ndarray) -> np.ndarray:
    """Indices of the first test image of each class, then of the second of each, and so on: at most :data:`SHOWN`."""
    order = np.argsort(labels, kind="stable")
    ranks = np.empty(len(labels), int)
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        ranks[members] = np.arange(len(members))
    return order[np.argsort(ranks[order], kind="stable")][:SHOWN]


def pictures(manifold: Manifold, x: Tensor, index: np.ndarray, seed: int) -> Arrays:
    """``x`` [N, C, H, W] in [0, 1] and its ``index`` [N], its ``projection``, and ``sample`` where there can be any."""
    found = {"x": x, "projection": manifold.project(x)}
    sample = manifold.sample(SHOWN, torch.Generator().manual_seed(seed_of(seed, "sample")))
    if sample is not None:
        found["sample"] = sample
    return {"index": index, **{name: images.detach().cpu().numpy() for name, images in found.items()}}
