"""Explanations by gradients of one draw's output with respect to the image: one pass up the stack and one down for each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from resilience.catalog import entry
from resilience.explanations.quantities import gradient_of
from resilience.parameters import Count, Fraction, Share
from resilience.stacks import Layer


@entry()
def gradient(
    stack: Sequence[Layer],
    x: Tensor,
    explained: Tensor,
    *,
    of: Literal["logit", "probability", "log_probability", "loss"] = "logit",
) -> Tensor:
    """Gradient of the explained class's output, ∂f_c(x) / ∂x (Simonyan et al. 2014, Sec. 3).

    Parameters
    ----------
    of
        What is differentiated: the class's ``logit``, ``probability``, ``log_probability``, or ``loss``, minus that.
    """
    return gradient_of(of, stack, x, explained)


@entry()
def gradient_times_input(
    stack: Sequence[Layer],
    x: Tensor,
    explained: Tensor,
    *,
    of: Literal["logit", "probability", "log_probability", "loss"] = "logit",
) -> Tensor:
    """Gradient times input, x ∂f_c(x) / ∂x (Shrikumar et al. 2016; Kim et al. 2019, Sec. 3.1).

    Of a network without biases whose activations are ReLU or LeakyReLU, the logit is the sum of this map.

    Parameters
    ----------
    of
        See :func:`gradient`.
    """
    return x * gradient_of(of, stack, x, explained)


@entry()
def integrated_gradients(
    stack: Sequence[Layer],
    x: Tensor,
    explained: Tensor,
    *,
    steps: Count = 32,
    baseline: Fraction = 0.0,
    rule: Literal["midpoint", "right"] = "midpoint",
    of: Literal["logit", "probability", "log_probability", "loss"] = "logit",
) -> Tensor:
    """Integrated gradients, (x − a) (1 / m) Σ_j ∂f_c(a + t_j (x − a)) / ∂x (Sundararajan et al. 2017, Eq. 1 and 3).

    The sum of the map is f_c(x) − f_c(a), but for the error of m steps (completeness).

    Parameters
    ----------
    steps
        m, the steps of the straight path from a to x.
    baseline
        a, the same for every pixel: 0 is black.
    rule
        Where in each step the gradient is taken: ``midpoint``, t_j = (j − 1/2) / m, or ``right``, t_j = j / m, as in
        Boopathy et al. 2020, Sec. 2.
    of
        See :func:`gradient`.
    """
    shift = 0.5 if rule == "midpoint" else 0.0
    total = torch.zeros_like(x)
    for step in range(1, steps + 1):
        total += gradient_of(of, stack, baseline + (step - shift) / steps * (x - baseline), explained)
    return (x - baseline) * total / steps


@entry()
def smooth_grad(
    stack: Sequence[Layer],
    x: Tensor,
    explained: Tensor,
    generator: torch.Generator,
    *,
    noise: Share = 0.15,
    samples: Count = 25,
    of: Literal["logit", "probability", "log_probability", "loss"] = "logit",
) -> Tensor:
    """SmoothGrad, the mean gradient over noisy images, (1 / n) Σ_i ∂f_c(x + g_i) / ∂x (Smilkov et al. 2017, Sec. 3).

    Noise is not clipped: a network is defined beyond [0, 1], too.

    Parameters
    ----------
    noise
        Standard deviation of g, as a share of the image's largest minus its smallest pixel.
    samples
        n.
    of
        See :func:`gradient`; Zhang & Zhu 2019 take the ``loss``.
    """
    spread = noise * (x.amax((1, 2, 3)) - x.amin((1, 2, 3)))[:, None, None, None]
    total = torch.zeros_like(x)
    for _ in range(samples):
        drawn = torch.randn(x.shape, generator=generator, dtype=x.dtype).to(x)
        total += gradient_of(of, stack, x + spread * drawn, explained)
    return total / samples
