"""Deep ensembles: several point estimates that differ in their initial weights and batches only."""

from __future__ import annotations

from dataclasses import replace

import torch

from resilience import catalog
from resilience.catalog import entry
from resilience.parameters import Count, TrainingEntry
from resilience.posterior import DRAWS, POINT
from resilience.seeding import seed_of
from resilience.training.fit import Fit, Task, TrainingError


@entry(draws="members", role="control")
def ensemble(task: Task, *, members: Count, of: TrainingEntry) -> Fit:
    """Deep ensemble (Lakshminarayanan et al. 2017): the same training ``members`` times, from other seeds.

    Parameters
    ----------
    members
        Number of networks.
    of
        Their training, a point estimate.
    """
    train = catalog.bound("trainings", of)
    fits = [train(task=_member(task, index)) for index in range(members)]
    if any(fit.kind != POINT for fit in fits):
        raise TrainingError(f"the members of an ensemble are point estimates, which {of['method']} is not")
    weights = {name: torch.stack([fit.weights[name] for fit in fits]) for name in fits[0].weights}
    history = [{"member": index, **row} for index, fit in enumerate(fits) for row in fit.history]
    return Fit(weights, DRAWS, history)


def _member(task: Task, index: int) -> Task:
    """The task of a member, with a seed and a folder for checkpoints of its own."""
    folder = task.checkpoints / f"member{index}" if task.checkpoints else None
    return replace(task, seed=seed_of(task.seed, "member", index), checkpoints=folder)
