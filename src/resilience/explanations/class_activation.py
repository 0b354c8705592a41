"""Explanations by class activation maps: which places of the last convolution speak for a class, enlarged to the image."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from resilience.catalog import entry
from resilience.explanations.quantities import slope
from resilience.stacks import Activation, Affine, Flatten, Layer, LayerError, Step, input_gradient, trace


@entry(needs="pooled_head")
def cam(
    stack: Sequence[Layer],
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
    stack
        The layers of one draw, whose last three are an average pooling of whole maps, flattening and a linear layer.
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
    steps = trace(stack, x)
    maps, head = _before_pooled_head(steps)
    relevance = (head.weight[explained][:, :, None, None] * maps).sum(1, keepdim=True) / math.prod(maps.shape[2:])
    return _enlarged(relevance, x, enlarged)


@entry(needs="convolution")
def grad_cam(
    stack: Sequence[Layer],
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
    stack
        The layers of one draw, with a convolution among them.
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
    maps, derivative = _last_convolution(trace(stack, x), explained)
    weights = derivative.mean((2, 3), keepdim=True)
    return _enlarged(_signed((weights * maps).sum(1, keepdim=True), negative), x, enlarged)


@entry(needs="convolution")
def grad_cam_plus_plus(
    stack: Sequence[Layer],
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
    stack, x, explained, negative, enlarged
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
    maps, derivative = _last_convolution(trace(stack, x), explained)
    positive = derivative.clamp(min=0)
    below = 2 + positive * maps.sum((2, 3), keepdim=True)
    weights = torch.where(below != 0, positive / below, 0.0).sum((2, 3), keepdim=True)
    return _enlarged(_signed((weights * maps).sum(1, keepdim=True), negative), x, enlarged)


def _before_pooled_head(steps: Sequence[Step]) -> tuple[Tensor, Affine]:
    """The maps [N, K, h, w] that a global average pooling takes, and the linear layer behind it."""
    match [step.layer for step in steps[-3:]]:
        case [Affine(convolution=dict(window), pooling=True) as pooling, Flatten(), Affine(convolution=None) as head]:
            maps = steps[-3].a
            if pooling.weight.shape[2:] == maps.shape[2:] and window["padding"] == (0, 0):
                return maps, head
    raise LayerError(
        "cam needs a network that ends in nn.AvgPool2d of whole maps, nn.Flatten and one nn.Linear; "
        "explain this one by grad_cam, which needs a convolution only"
    )


def _last_convolution(steps: list[Step], classes: Tensor) -> tuple[Tensor, Tensor]:
    """A [N, K, h, w] of the last convolution after its activation, and ∂f_c / ∂A of the logits of some classes [N]."""
    behind = steps[_behind_last_convolution(steps) :]
    return behind[0].a, input_gradient(behind, slope("logit", steps[-1].z, classes))


def _behind_last_convolution(steps: Sequence[Step]) -> int:
    """Index of the first step behind the last convolution with weights of its own and the activation that follows it."""
    found = [
        index
        for index, step in enumerate(steps)
        if isinstance(step.layer, Affine) and step.layer.convolution is not None and not step.layer.pooling
    ]
    if not found:
        raise LayerError("the network has no convolution, whose maps this explanation shows; explain it by another method")
    behind = found[-1] + 1
    return behind + isinstance(steps[behind].layer, Activation)


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
