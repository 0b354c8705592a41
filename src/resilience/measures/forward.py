"""What the draws of a posterior answer on average, for a chunk of images, by the fast path."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from resilience.graphs import Graph, trace


@torch.no_grad()
def mean_logits(graphs: Sequence[Graph], x: Tensor) -> Tensor:
    """E_w[f(x, w)]: float64 [N, classes] from the graphs of all draws and images [N, C, H, W]."""
    total = trace(graphs[0], x).output.double()
    for graph in graphs[1:]:
        total = total + trace(graph, x).output
    return total / len(graphs)


@torch.no_grad()
def mean_probabilities(graphs: Sequence[Graph], x: Tensor) -> Tensor:
    """E_w[softmax f(x, w)], the posterior predictive: float64 [N, classes], from the graphs of all draws and images."""
    total = trace(graphs[0], x).output.double().softmax(1)
    for graph in graphs[1:]:
        total = total + trace(graph, x).output.double().softmax(1)
    return total / len(graphs)
