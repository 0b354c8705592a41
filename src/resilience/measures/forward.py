"""What the draws of a posterior answer on average, for a chunk of images, by the fast path."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from resilience.stacks import Layer, trace


@torch.no_grad()
def mean_logits(stacks: Sequence[list[Layer]], x: Tensor) -> Tensor:
    """E_w[f(x, w)]: float64 [N, classes] from the stacks of all draws and images [N, C, H, W]."""
    total = trace(stacks[0], x)[-1].z.double()
    for stack in stacks[1:]:
        total = total + trace(stack, x)[-1].z
    return total / len(stacks)


@torch.no_grad()
def mean_probabilities(stacks: Sequence[list[Layer]], x: Tensor) -> Tensor:
    """E_w[softmax f(x, w)], the posterior predictive: float64 [N, classes], from the stacks of all draws and images."""
    total = trace(stacks[0], x)[-1].z.double().softmax(1)
    for stack in stacks[1:]:
        total = total + trace(stack, x)[-1].z.double().softmax(1)
    return total / len(stacks)
