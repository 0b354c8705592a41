"""The control that stands beside every attack: a change as large that knows nothing of the network."""

from __future__ import annotations

import torch
from torch import Tensor

from resilience.attacks.ball import Ball, NormBall, random_signs
from resilience.attacks.loop import normalised, steepest
from resilience.catalog import entry
from resilience.parameters import Positive, Share


@entry(noise=True)
def noise(x: Tensor, generator: torch.Generator, *, epsilon: Share) -> Tensor:
    """Random noise of an attack's size: each pixel goes up or down by epsilon, as likely, and is clamped to [0, 1].

    What an attack does to an explanation is the attack's only in so far as noise of the same epsilon does less.

    Parameters
    ----------
    x, epsilon
        See :func:`resilience.attacks.gradient.fgsm`.
    generator
        For the signs.

    Returns
    -------
    Tensor
        Noisy images [N, C, H, W] in [0, 1].
    """
    return Ball(x, epsilon).project(x + epsilon * random_signs(tuple(x.shape), generator).to(x))


@entry(noise=True, norm="l2")
def noise_l2(x: Tensor, generator: torch.Generator, *, epsilon: Positive) -> Tensor:
    """Random noise of ℓ2 norm epsilon, in a uniform direction, and clamped to [0, 1]: the control of attacks in that ball.

    Parameters
    ----------
    x, epsilon
        See :func:`resilience.attacks.gradient.pgd_l2`.
    generator
        For the direction.
    """
    drawn = torch.randn(x.shape, generator=generator).to(x)
    return NormBall(x, epsilon, 2).project(x + epsilon * normalised(drawn))


@entry(noise=True, norm="l1")
def noise_l1(x: Tensor, generator: torch.Generator, *, epsilon: Positive) -> Tensor:
    """Random noise of ℓ1 norm epsilon on a random twentieth of the pixels, clamped: the control of attacks in that ball.

    Parameters
    ----------
    x, epsilon
        See :func:`resilience.attacks.gradient.pgd_l1`.
    generator
        For pixels and signs.
    """
    drawn = torch.randn(x.shape, generator=generator).to(x)
    return NormBall(x, epsilon, 1).project(x + epsilon * steepest(drawn))
