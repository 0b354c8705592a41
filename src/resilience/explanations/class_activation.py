"""Explanations by class activation maps: which places of the last convolution speak for a class, enlarged to the image."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

from resilience.calls import LayerError
from resilience.catalog import entry
from resilience.explanations.quantities import slope
from resilience.graphs import Graph, Passed, gradient_at, trace
from resilience.operations import Averaged, AveragePool, Convolution, Flatten, Linear, Rectifier, Scaling, Smooth, Sum

#: What belongs to the maps of a convolution that it reads alone: in a residual network the sum with the shortcut.
BEHIND_A_CONVOLUTION = (Rectifier, Smooth, Scaling, Sum)


@entry(needs="pooled_head")
def cam(
    graph: Graph,
    x: Tensor,
    explained: Tensor,
    *,
    enlarged: Literal["bilinear", "nearest"] = "bilinear",
) -> Tensor:
    """Class activation map, (1 / u) Σ_k w_k^c A_k (Zhou et al. 2016, Eq. 2; with 1 / u as in Boopathy et al. 2020, Sec. 2).

    A are the maps that the global average pooling takes, with u places, and w the weights of the linear layer behind it.
    Before it is enlarged, the map's sum is the logit without its bias.

    Parameters
    ----------
    graph
        The network with the weights of one draw; it ends in an average pooling of whole maps and a linear layer.
    x
        Images [N, C, H, W].
    explained
        Classes [N].
    enlarged
        How the map is enlarged to the size of the image.

    Returns
    -------
    Tensor
        Relevance [N, 1, H, W], of either sign.

    Raises
    ------
    LayerError
        If the network does not end that way.
    """
    passed = trace(graph, x)
    node, head = before_pooled_head(passed, "cam", "explain this one by grad_cam, which needs a convolution only")
    maps = passed.steps[node].z
    relevance = (head.weight[explained][:, :, None, None] * maps).sum(1, keepdim=True) / math.prod(maps.shape[2:])
    return _enlarged(relevance, x, enlarged)


@entry(needs="convolution")
def grad_cam(
    graph: Graph,
    x: Tensor,
    explained: Tensor,
    *,
    negative: Literal["cut", "kept"] = "cut",
    enlarged: Literal["bilinear", "nearest"] = "bilinear",
) -> Tensor:
    """Grad-CAM, ReLU(Σ_k a_k^c A_k) with a_k^c = (1 / u) Σ_i ∂f_c / ∂A_ki (Selvaraju et al. 2017, Eq. 1 and 2).

    A are the maps of the last convolution after its activation, with u places.

    Parameters
    ----------
    graph
        The network with the weights of one draw, with a convolution in it.
    x, explained
        See :func:`cam`.
    negative
        Whether what speaks against the class is ``cut`` by the ReLU, as in the paper, or ``kept``.
    enlarged
        See :func:`cam`.

    Returns
    -------
    Tensor
        Relevance [N, 1, H, W], none of it below zero if that is cut.

    Raises
    ------
    LayerError
        If the network has no convolution.
    """
    maps, derivative = _last_convolution(trace(graph, x), explained)
    weights = derivative.mean((2, 3), keepdim=True)
    return _enlarged(_signed((weights * maps).sum(1, keepdim=True), negative), x, enlarged)


@entry(needs="convolution")
def grad_cam_plus_plus(
    graph: Graph,
    x: Tensor,
    explained: Tensor,
    *,
    negative: Literal["cut", "kept"] = "cut",
    enlarged: Literal["bilinear", "nearest"] = "bilinear",
) -> Tensor:
    """Grad-CAM++, ReLU(Σ_k w_k A_k), w_k = Σ_i α ReLU(g), α = g² / (2 g² + g³ Σ A) (Chattopadhyay et al. 2018, Eq. 19).

    g is ∂f_c / ∂A_ki. The fraction is reduced to 1 / (2 + g Σ_i A), since powers of small derivatives are no numbers any
    more; where it has no value, it counts as 0. The paper explains exp(f_c), which would multiply the whole map of an image
    and a draw by exp(f_c): here it is left out, so that a mean over draws is not that of the most confident one alone.

    Parameters
    ----------
    graph, x, explained, negative, enlarged
        See :func:`grad_cam`.

    Returns
    -------
    Tensor
        Relevance [N, 1, H, W].

    Raises
    ------
    LayerError
        If the network has no convolution.
    """
    maps, derivative = _last_convolution(trace(graph, x), explained)
    positive = derivative.clamp(min=0)
    below = 2 + positive * maps.sum((2, 3), keepdim=True)
    weights = torch.where(below != 0, positive / below, 0.0).sum((2, 3), keepdim=True)
    return _enlarged(_signed((weights * maps).sum(1, keepdim=True), negative), x, enlarged)


def before_pooled_head(passed: Passed, method: str, instead: str) -> tuple[int, Linear]:
    """The node whose maps [N, K, h, w] a global average pooling takes, and the linear layer behind that.

    Raises
    ------
    LayerError
        If the network does not end that way; it names the ``method`` that needs it, and what to do ``instead``.
    """
    node, head = _pooled_node(passed), passed.graph.nodes[-1].operation
    if node is None or not isinstance(head, Linear):
        raise LayerError(
            f"{method} needs a network that ends in an average pooling of whole maps and one nn.Linear, such as pooled; "
            f"{instead}"
        )
    return node, head


def _pooled_node(passed: Passed) -> int | None:
    """What a global average pooling takes before the last node, flattened or not; None if there is no such pooling."""
    graph = passed.graph
    node = graph.nodes[-1].inputs[0]
    if isinstance(graph.nodes[node].operation, Flatten):
        node = graph.nodes[node].inputs[0]
    match graph.nodes[node].operation:
        case Averaged():
            return graph.nodes[node].inputs[0]
        case AveragePool(window=(kernel, _, padding)) if padding == (0, 0) and kernel == passed.steps[node].a.shape[2:]:
            return graph.nodes[node].inputs[0]
    return None


def _last_convolution(passed: Passed, classes: Tensor) -> tuple[Tensor, Tensor]:
    """A [N, K, h, w] of the last convolution after its activation, and ∂f_c / ∂A of the logits of some classes [N]."""
    node = _behind_last_convolution(passed.graph)
    return passed.steps[node].z, gradient_at(passed, slope("logit", passed.output, classes), node)


def _behind_last_convolution(graph: Graph) -> int:
    """The last convolution, or what follows it alone: the sum that it adds to, batch normalisation, an activation."""
    found = [place for place, node in enumerate(graph.nodes) if isinstance(node.operation, Convolution)]
    if not found:
        raise LayerError("the network has no convolution, whose maps this explanation shows; explain it by another method")
    place = found[-1]
    while True:
        readers = [reader for reader, node in enumerate(graph.nodes) if place in node.inputs]
        if len(readers) != 1 or not isinstance(graph.nodes[readers[0]].operation, BEHIND_A_CONVOLUTION):
            return place
        place = readers[0]


def _signed(relevance: Tensor, negative: Literal["cut", "kept"]) -> Tensor:
    return relevance.clamp(min=0) if negative == "cut" else relevance


def _enlarged(relevance: Tensor, x: Tensor, how: Literal["bilinear", "nearest"]) -> Tensor:
    """Maps [N, 1, h, w] at the size of the images, [N, 1, H, W].

    By the kernels themselves: on a GPU, torch.nn.functional.interpolate avoids the one whose gradient is not deterministic,
    and no gradient is taken here.
    """
    size = list(x.shape[2:])
    if how == "nearest":
        return torch.ops.aten.upsample_nearest2d(relevance, size)
    return torch.ops.aten.upsample_bilinear2d(relevance, size, False)
