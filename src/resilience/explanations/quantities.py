"""What of a network's output is explained: a logit, a probability, its logarithm, or the loss."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from resilience.graphs import Graph, input_gradient, trace

Quantity = Literal["logit", "probability", "log_probability", "loss"]


def gradient_of(of: Quantity, graph: Graph, x: Tensor, classes: Tensor) -> Tensor:
    """Gradient [N, C, H, W] of a quantity of some classes [N] with respect to images [N, C, H, W]."""
    passed = trace(graph, x)
    return input_gradient(passed, slope(of, passed.output, classes))


def value(of: Quantity, logits: Tensor, classes: Tensor) -> Tensor:
    """The quantity [N] of some classes [N], from logits [N, classes]."""
    match of:
        case "logit":
            found = logits
        case "probability":
            found = logits.softmax(1)
        case _:
            found = logits.log_softmax(1)
    chosen = found.gather(1, classes[:, None])[:, 0]
    return -chosen if of == "loss" else chosen


def slope(of: Quantity, logits: Tensor, classes: Tensor) -> Tensor:
    """Its derivative [N, classes] with respect to the logits.

    With p the softmax and q = 1 − p_c, ∂ log p_c / ∂z_j is q for the class itself and −p_j for every other one, and that of
    p_c is p_c times this. q is the sum of the other probabilities, so that it does not become zero where p_c rounds to one:
    it does where all of them are smaller than the smallest number there is, in single precision e^−103.
    """
    one_hot = torch.zeros_like(logits).scatter(1, classes[:, None], 1.0)
    if of == "logit":
        return one_hot
    probabilities = logits.softmax(1)
    others = probabilities * (1 - one_hot)
    of_log = torch.where(one_hot > 0, others.sum(1, keepdim=True), -probabilities)
    if of == "loss":
        return -of_log
    return of_log * probabilities.gather(1, classes[:, None]) if of == "probability" else of_log
