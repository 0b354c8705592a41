"""Explanations by class activation maps: which places of the last convolution speak for a class, enlarged to the image."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from resilience.catalog import entry
from resilience.explanations.quantities import slope
from resilience.stacks import Activation, Affine, Flatten, Layer, LayerError, Step, input_gradient, trace

NO_POOLED_HEAD = "cam needs global average pooling and one linear layer behind the last convolution; use grad_cam"


@entry(needs="pooled_head")
def cam(
    stack: Sequence[Layer],
    x: Tensor,
    explained: Tensor,
    *,
    enlarged: Literal["bilinear", "nearest"] = "bilinear",
) -> Tensor:
    """Class activation map, (1 / u) Σ_k w_k^c A_k (Zhou et al. 2016, Eq. 2; with 1 / u as in Boopathy et al. 2020, Sec. 2).

    A are the maps of the last convolution after its activation, with u places, and w the weights of the linear layer behind
    the global average pooling. Before it is enlarged, the map's sum is the logit without its bias.

    Parameters
    ----------
    enlarged
        How the map is enlarged to the size of the image.
    """
    steps = trace(stack, x)
    maps = _maps(steps)
    behind = steps[_behind_last_convolution(steps) :]
    kinds = [type(step.layer) for step in behind]
    pooling, head = behind[0].layer, behind[-1].layer
    if kinds != [Affine, Flatten, Affine] or not isinstance(pooling, Affine) or not isinstance(head, Affine):
        raise LayerError(NO_POOLED_HEAD)
    if not pooling.pooling or behind[0].z.shape[2:].numel() != 1:
        raise LayerError(NO_POOLED_HEAD)
    weights = head.weight[explained]
    return _enlarged((maps * weights[:, :, None, None]).sum(1, keepdim=True) / _places(maps), x, enlarged)


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
    negative
        Whether what speaks against the class is ``cut`` by the ReLU, as in the paper, or ``kept``.
    enlarged
        See :func:`cam`.
    """
    steps = trace(stack, x)
    maps, derivative = _maps(steps), _derivative(steps, explained)
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
    """Grad-CAM++, w_k = Σ α ReLU(g) with α = g² / (2 g² + Σ A g³) (Chattopadhyay et al. 2018, Sec. 3.2).

    g is the derivative of the logit with respect to A. The paper explains exp(logit), whose factor is the same everywhere.

    Parameters
    ----------
    negative, enlarged
        See :func:`grad_cam`.
    """
    steps = trace(stack, x)
    maps, derivative = _maps(steps), _derivative(steps, explained)
    square, cube = derivative**2, derivative**3
    below = 2 * square + maps.sum((2, 3), keepdim=True) * cube
    alpha = torch.where(below != 0, square / torch.where(below != 0, below, torch.ones_like(below)), torch.zeros_like(below))
    weights = (alpha * derivative.clamp(min=0)).sum((2, 3), keepdim=True)
    return _enlarged(_signed((weights * maps).sum(1, keepdim=True), negative), x, enlarged)


def _behind_last_convolution(steps: Sequence[Step]) -> int:
    """Index of the first step behind the last convolution with weights of its own and the activation that follows it."""
    found = [
        index
        for index, step in enumerate(steps)
        if isinstance(step.layer, Affine) and step.layer.convolution is not None and not step.layer.pooling
    ]
    if not found:
        raise LayerError("the network has no convolution whose maps could be looked at; explain it in another way")
    behind = found[-1] + 1
    return behind + (behind < len(steps) and isinstance(steps[behind].layer, Activation))


def _maps(steps: Sequence[Step]) -> Tensor:
    """A [N, K, h, w] of the last convolution, after its activation."""
    return steps[_behind_last_convolution(steps)].a


def _derivative(steps: Sequence[Step], classes: Tensor) -> Tensor:
    """∂f_c / ∂A [N, K, h, w] of the logits of some classes [N]."""
    behind = list(steps)[_behind_last_convolution(steps) :]
    return input_gradient(behind, slope("logit", steps[-1].z, classes))


def _signed(relevance: Tensor, negative: Literal["cut", "kept"]) -> Tensor:
    return relevance.clamp(min=0) if negative == "cut" else relevance


def _places(maps: Tensor) -> int:
    return math.prod(maps.shape[2:])


def _enlarged(relevance: Tensor, x: Tensor, how: Literal["bilinear", "nearest"]) -> Tensor:
    """Maps [N, 1, h, w] at the size of the images, [N, 1, H, W]."""
    return interpolate(relevance, size=x.shape[2:], mode=how)
