"""Attacks by someone who has not all the draws that the prediction is made of, or has others."""

from __future__ import annotations

import torch
from torch import Tensor

from resilience import catalog
from resilience.catalog import entry
from resilience.parameters import AttackEntry, Count
from resilience.posterior import Posterior


@entry()
def with_fewer_draws(
    posterior: Posterior, x: Tensor, y: Tensor, generator: torch.Generator, *, attack: AttackEntry, draws: Count
) -> Tensor:
    """An attack on some of the draws alone, judged by all of them: S_attack ≠ S_defence (Carbone et al. 2020, Sec. 5.3).

    Parameters
    ----------
    posterior, x, y
        See :func:`resilience.attacks.gradient.fgsm`.
    generator
        For whatever is random in the attack.
    attack
        What is done to the network of these draws.
    draws
        S_attack: the first so many draws of the posterior, or all of them where there are not more.

    Returns
    -------
    Tensor
        Attacked images [N, C, H, W] in [0, 1].
    """
    some = posterior.part(0, draws)
    return torch.as_tensor(catalog.bound("attacks", attack)(posterior=some, x=x, y=y, generator=generator))


@entry(others="draws")
def with_other_draws(
    posterior: Posterior, x: Tensor, y: Tensor, generator: torch.Generator, *, attack: AttackEntry, draws: Count
) -> Tensor:
    """An attack on draws of the same posterior that the prediction has none of (Carbone et al. 2020, Sec. 5.3).

    It asks of a posterior what transfer asks of single networks. Ensembles and single networks have no other draws.

    Parameters
    ----------
    posterior
        The draws that follow those of the prediction.
    x, y, generator, attack
        See :func:`with_fewer_draws`.
    draws
        S_attack: how many these are.

    Returns
    -------
    Tensor
        Attacked images [N, C, H, W] in [0, 1].
    """
    return torch.as_tensor(catalog.bound("attacks", attack)(posterior=posterior, x=x, y=y, generator=generator))
