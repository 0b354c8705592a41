"""Draws of the prior: networks that have learned nothing, beside which a posterior shows what the data did."""

from __future__ import annotations

from typing import Literal

import torch

from resilience import networks
from resilience.catalog import entry
from resilience.parameters import Count, Positive
from resilience.posterior import DRAWS
from resilience.seeding import seed_of
from resilience.training import prior as priors
from resilience.training.fit import Fit, Task


@entry(at_most="draws", role="control")
def prior_draws(task: Task, *, prior: Literal["unit", "he", "lecun"], prior_scale: Positive = 1.0, draws: Count) -> Fit:
    """Independent draws of the prior, which no image has a part in.

    Parameters
    ----------
    prior, prior_scale
        See :func:`resilience.training.parallel_chains.parallel_hmc`.
    draws
        How many.
    """
    network = task.network()
    like = networks.weights_of(network)
    of_weights = priors.prior_of(network, prior, prior_scale)
    generator = torch.Generator().manual_seed(seed_of(task.seed, "prior"))

    def drawn(name: str) -> torch.Tensor:
        noise = torch.randn((draws, *like[name].shape), generator=generator).to(like[name])
        return of_weights.means[name] + of_weights.deviations[name] * noise

    found = {name: drawn(name) for name in like}
    return Fit(found, DRAWS, task.judged(found))
