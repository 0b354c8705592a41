"""What the published numbers were made with in place of an attack on a posterior: a mean of attacks on its draws."""

from __future__ import annotations

import torch
from torch import Tensor

from resilience import catalog
from resilience.catalog import entry
from resilience.parameters import AttackEntry
from resilience.posterior import Posterior


@entry()
def mean_of_attacks(
    posterior: Posterior, x: Tensor, y: Tensor, generator: torch.Generator, *, attack: AttackEntry
) -> Tensor:
    """The mean of the images that an attack makes on each draw alone, as in the published code.

    Not the paper's attack on a posterior: the signs of different draws cancel in the mean, so the perturbation shrinks as
    the number of draws grows. On a point estimate it is the attack itself.

    Parameters
    ----------
    posterior, x, y
        See :func:`resilience.attacks.gradient.fgsm`.
    generator
        For whatever is random in the attack.
    attack
        The attack on each draw.

    Returns
    -------
    Tensor
        Attacked images [N, C, H, W] in [0, 1].
    """
    make = catalog.bound("attacks", attack)
    total, least, most = torch.zeros_like(x), x, x
    for draw in posterior.alone():
        attacked = make(posterior=draw, x=x, y=y, generator=generator)
        total += attacked
        least, most = torch.minimum(least, attacked), torch.maximum(most, attacked)
    # A mean lies between its parts, but for rounding.
    return (total / len(posterior)).clamp(least, most)
