"""Explanations by gradients of one draw's output with respect to the image: one pass up and one down for each."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from resilience.catalog import entry
from resilience.explanations.quadrature import places_and_weights
from resilience.explanations.quantities import gradient_of
from resilience.graphs import Graph
from resilience.parameters import Count, Fraction, Share


@entry()
def gradient(
    graph: Graph,
    x: Tensor,
    explained: Tensor,
    *,
    of: Literal["logit", "probability", "log_probability", "loss"] = "logit",
) -> Tensor:
    """Gradient of the explained class's output, ∂f_c(x) / ∂x (Simonyan et al. 2014, Sec. 3).

    Parameters
    ----------
    graph
        The network with the weights of one draw.
    x
        Images [N, C, H, W].
    explained
        Classes [N].
    of
        What is differentiated: the class's ``logit``, ``probability``, ``log_probability``, or ``loss``, minus that.

    Returns
    -------
    Tensor
        Relevance [N, C, H, W]: how the quantity changes with each value of the image.
    """
    return gradient_of(of, graph, x, explained)


@entry()
def gradient_times_input(
    graph: Graph,
    x: Tensor,
    explained: Tensor,
    *,
    baseline: Fraction = 0.0,
    of: Literal["logit", "probability", "log_probability", "loss"] = "logit",
) -> Tensor:
    """Gradient times input, (x − a) ∂f_c(x) / ∂x (Shrikumar et al. 2016; Kim et al. 2019, Sec. 3.1).

    Of a network without biases whose activations are ReLU or LeakyReLU, the logit is the sum of this map where a = 0.

    Parameters
    ----------
    graph, x, explained, of
        See :func:`gradient`.
    baseline
        a, what counts as no input: 0 is black. Kim et al. 2019 scale images to [−1, 1], where x' ∂L / ∂x' is this with 0.5,
        since x' = 2 x − 1 and so ∂x / ∂x' = 1 / 2.

    Returns
    -------
    Tensor
        Relevance [N, C, H, W]. A pixel like the baseline has none.
    """
    return (x - baseline) * gradient_of(of, graph, x, explained)


@entry()
def integrated_gradients(
    graph: Graph,
    x: Tensor,
    explained: Tensor,
    *,
    steps: Count = 32,
    baseline: Fraction = 0.0,
    rule: Literal["midpoint", "right", "trapezoid", "gauss_legendre"] = "midpoint",
    of: Literal["logit", "probability", "log_probability", "loss"] = "logit",
) -> Tensor:
    """Integrated gradients, (x − a) Σ_j w_j ∂f_c(a + t_j (x − a)) / ∂x (Sundararajan et al. 2017, Eq. 1 and 3).

    The path from a to x is straight. The sum of the map is f_c(x) − f_c(a), but for the error of the rule (completeness).

    Parameters
    ----------
    graph, x, explained
        See :func:`gradient`.
    steps
        m, into how many steps the path is cut: as many passes up and down, and one more for ``trapezoid``.
    baseline
        a, the same for every pixel: 0 is black.
    rule
        Where gradients are taken: ``midpoint``, t_j = (j − 1/2) / m; ``right``, t_j = j / m, as in Boopathy et al. 2020,
        Sec. 2; ``trapezoid``, at both ends of each step; ``gauss_legendre``, at the m places best for smooth functions.
    of
        See :func:`gradient`.

    Returns
    -------
    Tensor
        Relevance [N, C, H, W]. A pixel like the baseline has none.
    """
    total = torch.zeros_like(x)
    for place, weight in places_and_weights(rule, steps):
        total += weight * gradient_of(of, graph, baseline + place * (x - baseline), explained)
    return (x - baseline) * total


@entry()
def smooth_grad(
    graph: Graph,
    x: Tensor,
    explained: Tensor,
    generator: torch.Generator,
    *,
    noise: Share = 0.15,
    samples: Count = 25,
    of: Literal["logit", "probability", "log_probability", "loss"] = "logit",
) -> Tensor:
    """SmoothGrad, the mean gradient over noisy images, (1 / n) Σ_i ∂f_c(x + g_i) / ∂x (Smilkov et al. 2017, Sec. 3).

    Noise is not clipped: a network is defined beyond [0, 1], too. An image without contrast gets none.

    Parameters
    ----------
    graph, x, explained
        See :func:`gradient`.
    generator
        Of the noise, on the CPU.
    noise
        Standard deviation of g, as a share of the image's largest minus its smallest pixel.
    samples
        n.
    of
        See :func:`gradient`; Zhang & Zhu 2019 take the ``loss``.

    Returns
    -------
    Tensor
        Relevance [N, C, H, W].
    """
    spread = noise * (x.amax((1, 2, 3)) - x.amin((1, 2, 3)))[:, None, None, None]
    total = torch.zeros_like(x)
    for _ in range(samples):
        drawn = torch.randn(x.shape, generator=generator, dtype=x.dtype).to(x)
        total += gradient_of(of, graph, x + spread * drawn, explained)
    return total / samples
