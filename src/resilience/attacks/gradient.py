"""Gradient attacks on the posterior predictive (paper, Sec. II-B, II-C and VII-B).

The gradient of the loss of the mean prediction, full step: sign ∇ₓ L(E_w[p(x, w)], y). A point estimate is a posterior of
one draw, so the same functions attack both. Gradients are summed draw by draw, so memory does not grow with their number.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from resilience.attacks.ball import Ball, ball_step, refuse_no_gradient
from resilience.catalog import entry
from resilience.computing import in_chunks
from resilience.networks import Shape, image_shape
from resilience.parameters import Count, Fraction
from resilience.posterior import Posterior
from resilience.progress import track
from resilience.stacks import chunk_of, input_gradient, stacks_of, trace

Objective = Literal["likelihood", "margin", "saturating"]


@entry()
def fgsm(
    posterior: Posterior,
    x: Tensor,
    y: Tensor,
    generator: torch.Generator,
    *,
    epsilon: Fraction,
    objective: Literal["likelihood", "margin", "saturating"] = "likelihood",
) -> Tensor:
    """Fast Gradient Sign Method: x + epsilon · sign ∇ₓ L, clamped to [0, 1] (paper, Sec. VII-B).

    Where rounding would take a pixel further than epsilon, it ends at the number before.

    Parameters
    ----------
    posterior
        The network under attack.
    x, y
        Images [N, C, H, W] in [0, 1] and labels [N].
    generator
        Not used: the attack has no random start.
    epsilon
        Largest change of a pixel.
    objective
        The loss; see :class:`LossGradient`.

    Returns
    -------
    Tensor
        Attacked images [N, C, H, W] in [0, 1].
    """
    gradient = LossGradient(posterior, image_shape(x), objective)
    return Ball(x, epsilon).project(x + epsilon * gradient(x, y).sign())


@entry()
def pgd(
    posterior: Posterior,
    x: Tensor,
    y: Tensor,
    generator: torch.Generator,
    *,
    epsilon: Fraction,
    steps: Count = 40,
    step_size: Fraction | None = None,
    objective: Literal["likelihood", "margin", "saturating"] = "likelihood",
) -> Tensor:
    """Projected Gradient Descent: a random start in the epsilon-ball, then steps of FGSM, each projected back.

    Parameters
    ----------
    posterior, x, y, epsilon, objective
        See :func:`fgsm`.
    generator
        For the random start, uniform in the ball.
    steps
        Number of steps.
    step_size
        Size of a step; 2.5 · epsilon / steps if None (Madry et al. 2018).

    Returns
    -------
    Tensor
        Attacked images [N, C, H, W] in [0, 1].
    """
    ball, size = Ball(x, epsilon), ball_step(step_size, epsilon, steps)
    attacked = ball.start(generator)
    gradient = LossGradient(posterior, image_shape(x), objective)
    for _ in track(range(steps), "PGD"):
        attacked = ball.project(attacked + size * gradient(attacked, y).sign())
    return attacked


class LossGradient:
    """Direction of ∇ₓ L(E_w[p(x, w)], y), the gradient of the loss of the posterior predictive.

    With u_s the value of the objective in draw s, the gradient is Σ_s c_s ∇u_s, where

    * ``likelihood``: L = −log E_w[p_y], u = log Σ_{j≠y} exp(z_j − z_y), p_y = σ(−u) and c ∝ p_y (1 − p_y). Written in u it
      does not saturate: the derivative of −log p_y underflows for a confident network, that of u does not.
    * ``margin``: L = E_w[u] with u = max_{j≠y} z_j − z_y, and c is the same for all draws.
    * ``saturating``: the likelihood as automatic differentiation computes it, through the softmax in float32. It is exactly
      zero for a confident network, so an attack does nothing. The published code has it; use it to measure what that hides.

    Each image's gradient comes out up to a positive factor, which an attack that takes its sign does not see.

    Parameters
    ----------
    posterior
        S draws.
    shape
        (channels, height, width) of the images.
    objective
        ``likelihood``, ``margin`` or ``saturating``.
    """

    def __init__(self, posterior: Posterior, shape: Shape, objective: Objective):
        self._stacks = stacks_of(posterior, shape)
        self._chunk = chunk_of(posterior.network, shape)
        self._measure = {"likelihood": _likelihood, "margin": _margin, "saturating": _saturating}[objective]

    @torch.no_grad()
    def __call__(self, x: Tensor, y: Tensor) -> Tensor:
        """The gradient [N, C, H, W] at images [N, C, H, W] with labels [N].

        Raises
        ------
        AttackError
            If it is not finite: its sign would count as zero, and the attack would leave the image as it is.
        """
        total = torch.zeros_like(x)

        def work(part: slice) -> None:
            total[part] = self._sum_over_draws(x[part], y[part])

        in_chunks(work, len(x), self._chunk)
        refuse_no_gradient(total)
        return total

    def _sum_over_draws(self, x: Tensor, y: Tensor) -> Tensor:
        total = torch.zeros_like(x, memory_format=torch.channels_last)
        largest = torch.full((len(x),), -torch.inf, dtype=x.dtype, device=x.device)
        for stack in self._stacks:
            steps = trace(stack, x)
            slope, log_weight = self._measure(steps[-1].z, y)
            gradient = input_gradient(steps, slope)
            # The weights span hundreds of orders of magnitude, so they are kept relative to the largest one so far.
            present = torch.maximum(largest, log_weight)
            total *= _per_image(torch.exp(largest - present))
            total += gradient * _per_image(torch.exp(log_weight - present))
            largest = present
        return total


def _likelihood(logits: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """∂u/∂z [N, classes] for u = log Σ_{j≠y} exp(z_j − z_y), and the log of the weight σ(u) σ(−u) [N]."""
    others = logits.scatter(1, y[:, None], -torch.inf)
    value = others.logsumexp(1) - logits.gather(1, y[:, None])[:, 0]
    return others.softmax(1).scatter(1, y[:, None], -1.0), logsigmoid(value) + logsigmoid(-value)


def _margin(logits: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """∂u/∂z [N, classes] for u = max_{j≠y} z_j − z_y, and the log of the weight, 0 [N]."""
    runner_up = logits.scatter(1, y[:, None], -torch.inf).argmax(1, keepdim=True)
    slope = torch.zeros_like(logits).scatter(1, runner_up, 1.0).scatter(1, y[:, None], -1.0)
    return slope, torch.zeros_like(slope[:, 0])


def _saturating(logits: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """∂(−log p_y)/∂z = p − 1_y [N, classes], and log p_y [N]: exactly zero where p_y rounds to one."""
    log_probabilities = logits.log_softmax(1)
    one_hot = torch.zeros_like(logits).scatter(1, y[:, None], 1.0)
    return log_probabilities.exp() - one_hot, log_probabilities.gather(1, y[:, None])[:, 0]


def _per_image(factor: Tensor) -> Tensor:
    return factor[:, None, None, None]
