"""What the code of Carbone et al. 2020 calls HMC, whose chains know the last mini-batch alone."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import torch

from resilience.catalog import entry
from resilience.parameters import Count, Fraction, Positive, TrainingName
from resilience.seeding import seed_of
from resilience.training import prior as priors
from resilience.training.fit import Fit, Task, TrainingError
from resilience.training.parallel_chains import Sampler, fit_of, sample


@entry(at_most="draws", shared_by="chains", role="bayesian")
def hmc_on_last_batch(
    task: Task,
    *,
    prior: Literal["unit", "he", "lecun"],
    prior_scale: Positive = 1.0,
    batch_size: Count,
    chains: Count,
    draws: Count,
    warmup: Count,
    step_size: Positive,
    leapfrog_steps: Count,
    target_acceptance: Fraction = 0.8,
    start: TrainingName | None = None,
) -> Fit:
    """What the code of Carbone et al. 2020 calls HMC: chains on the last batch of the training set alone, drawn from again.

    Each batch starts its chains anew, and those of the last one are kept; of the draws that were asked for, each batch makes
    its share and one more, and the number that was asked for is then drawn from them with replacement.

    Parameters
    ----------
    prior, prior_scale, chains, warmup, step_size, leapfrog_steps, target_acceptance, start
        See :func:`resilience.training.parallel_chains.parallel_hmc`.
    batch_size
        Images of a batch; the last one has what remains. Which images it has is drawn at random.
    draws
        Draws of all chains together, a multiple of ``chains``, most of them repetitions.
    """
    if draws % chains:
        raise TrainingError(f"{draws} draws cannot be shared by {chains} chains; use a multiple")
    order = torch.randperm(len(task.x), generator=torch.Generator().manual_seed(seed_of(task.seed, "batches")))
    batches = order.split(batch_size)
    last = batches[-1].to(task.x.device)
    each = draws // chains
    of_weights = priors.prior_of(task.network(), prior, prior_scale)
    sampler = Sampler(step_size, leapfrog_steps, target_acceptance)
    on_batch = replace(task, x=task.x[last], y=task.y[last])
    vectors, facts = sample(on_batch, of_weights, sampler, chains, chains * (each // len(batches) + 1), warmup)
    generator = torch.Generator().manual_seed(seed_of(task.seed, "with replacement"))
    chosen = torch.randint(0, vectors.shape[1], (chains, each), generator=generator).to(vectors.device)
    drawn = torch.stack([chain[places] for chain, places in zip(vectors, chosen, strict=True)])
    return fit_of(task, facts, drawn)
