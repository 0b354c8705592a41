"""What the draws of a posterior answer on average, for a chunk of images, by the fast path."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from resilience.graphs import Graph, knowing_what_they_share, trace


@torch.no_grad()
def mean_logits(graphs: Sequence[Graph], x: Tensor) -> Tensor:
    """E_w[f(x, w)]: float64 [N, classes] from the graphs of all draws and images [N, C, H, W]."""
    outputs = (trace(graph, x).output.double() for graph in knowing_what_they_share(graphs, x))
    return sum(outputs, start=x.new_zeros(())) / len(graphs)


@torch.no_grad()
def mean_probabilities(graphs: Sequence[Graph], x: Tensor) -> Tensor:
    """E_w[softmax f(x, w)], the posterior predictive: float64 [N, classes], from the graphs of all draws and images."""
    outputs = (trace(graph, x).output.double().softmax(1) for graph in knowing_what_they_share(graphs, x))
    return sum(outputs, start=x.new_zeros(())) / len(graphs)
