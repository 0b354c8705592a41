"""The control that stands beside every attack: a change as large that knows nothing of the network."""

from __future__ import annotations

import torch
from torch import Tensor

from resilience.attacks.ball import Ball, random_signs
from resilience.catalog import entry
from resilience.parameters import Fraction


@entry()
def noise(x: Tensor, generator: torch.Generator, *, epsilon: Fraction) -> Tensor:
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
