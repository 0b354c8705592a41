"""Maps that say nothing of the network: what stands beside every explanation, so that one that says nothing is found out."""

from __future__ import annotations

import torch
from torch import Tensor

from resilience.catalog import entry


@entry(control=True)
def random_map(x: Tensor, generator: torch.Generator) -> Tensor:
    """Independent normal numbers, others for every image and after an attack: what is left of it is left by chance."""
    return torch.randn(x.shape, generator=generator, dtype=x.dtype).to(x)


@entry(control=True)
def constant_map(x: Tensor) -> Tensor:
    """The same relevance of every pixel of every image: it survives any attack, and says nothing."""
    return torch.ones_like(x)
