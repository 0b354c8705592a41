"""Markov chains: draws from the posterior of all weights given the full training set (paper, Sec. VII-E)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Literal

import pyro
import torch
from pyro.infer import HMC, MCMC, NUTS
from torch import Tensor
from torch.nn.functional import cross_entropy

from resilience import networks
from resilience.catalog import entry
from resilience.networks import Weights
from resilience.parameters import Count, Fraction, Positive, TrainingName
from resilience.posterior import DRAWS
from resilience.progress import steps
from resilience.seeding import seed_of
from resilience.training import diagnostics
from resilience.training import prior as priors
from resilience.training.fit import Fit, Task, TrainingError


@entry(at_most="draws", role="bayesian")
def hmc(
    task: Task,
    *,
    prior: Literal["unit", "he", "lecun"],
    prior_scale: Positive = 1.0,
    chains: Count,
    draws: Count,
    warmup: Count,
    step_size: Positive,
    leapfrog_steps: Count,
    start: TrainingName,
) -> Fit:
    """Hamiltonian Monte Carlo with a fixed step size and number of leapfrog steps.

    Parameters
    ----------
    prior, prior_scale
        See :func:`resilience.training.prior.standard_deviations`.
    chains
        Number of independent chains.
    draws
        Draws of all chains together, a multiple of ``chains``; the file has them in turn, one of each chain.
    warmup
        Iterations of each chain that are thrown away.
    step_size, leapfrog_steps
        Of the integrator; see Neal 2011.
    start
        A training with the same prior: chain c starts at its draw c, so that R-hat compares chains from other modes.
    """

    def kernel(potential: Callable[[Weights], Tensor]) -> HMC:
        return HMC(
            potential_fn=potential,
            step_size=step_size,
            num_steps=leapfrog_steps,
            adapt_step_size=False,
            adapt_mass_matrix=False,
        )

    return _run(task, kernel, priors.standard_deviations(task.network(), prior, prior_scale), chains, draws, warmup)


@entry(at_most="draws", role="bayesian")
def nuts(
    task: Task,
    *,
    prior: Literal["unit", "he", "lecun"],
    prior_scale: Positive = 1.0,
    chains: Count,
    draws: Count,
    warmup: Count,
    step_size: Positive,
    max_tree_depth: Count = 6,
    target_acceptance: Fraction = 0.8,
    start: TrainingName,
) -> Fit:
    """The No-U-Turn sampler: HMC that chooses the length of its trajectories and adapts its step size while warming up.

    Parameters
    ----------
    prior, prior_scale, chains, draws, warmup, start
        See :func:`hmc`.
    step_size
        Initial step size.
    max_tree_depth
        A trajectory has at most 2 to this power leapfrog steps.
    target_acceptance
        Acceptance that the adaptation aims at.
    """

    def kernel(potential: Callable[[Weights], Tensor]) -> NUTS:
        return _nuts_kernel(potential, step_size, max_tree_depth, target_acceptance)

    return _run(task, kernel, priors.standard_deviations(task.network(), prior, prior_scale), chains, draws, warmup)


@entry(at_most="draws", role="bayesian")
def nuts_on_shards(
    task: Task,
    *,
    prior: Literal["unit", "he", "lecun"],
    prior_scale: Positive = 1.0,
    shards: Count,
    draws: Count,
    warmup: Count,
    step_size: Positive,
    max_tree_depth: Count = 6,
    target_acceptance: Fraction = 0.8,
    start: TrainingName,
) -> Fit:
    """What the published code calls HMC: NUTS on each of several parts of the training set alone.

    Each shard has a chain of its own with the whole prior, so none of the draws is one from the posterior given the training
    set. The draws of a shard are drawn from its chain with replacement, and the file has them shard after shard.

    Parameters
    ----------
    prior, prior_scale, warmup, start
        See :func:`hmc`.
    shards
        Number of parts, in the order of the training set.
    draws
        Draws of all shards together, a multiple of ``shards``.
    step_size, max_tree_depth, target_acceptance
        See :func:`nuts`.
    """
    if draws % shards:
        raise TrainingError(f"{draws} draws cannot be shared by {shards} shards; use a multiple")
    deviations = priors.standard_deviations(task.network(), prior, prior_scale)
    starts = _starts(task, shards)
    parts = zip(task.x.tensor_split(shards), task.y.tensor_split(shards), strict=True)
    found = []
    for index, (x, y) in enumerate(parts):
        potential = potential_energy(replace(task, x=x, y=y), deviations)
        kernel = _nuts_kernel(potential, step_size, max_tree_depth, target_acceptance)
        chain, facts = sample_chain(kernel, starts[index], draws // shards, warmup, task.seed, index)
        generator = torch.Generator().manual_seed(seed_of(task.seed, "shard", index))
        chosen = torch.randint(0, len(chain), (len(chain),), generator=generator).to(chain.device)
        found.append((chain[chosen], facts))
    return _fit(task, [facts for _, facts in found], torch.stack([chain for chain, _ in found]), torch.arange(draws))


def _nuts_kernel(
    potential: Callable[[Weights], Tensor], step_size: float, max_tree_depth: int, target_acceptance: float
) -> NUTS:
    return NUTS(
        potential_fn=potential,
        step_size=step_size,
        adapt_step_size=True,
        adapt_mass_matrix=False,
        max_tree_depth=max_tree_depth,
        target_accept_prob=target_acceptance,
    )


def potential_energy(task: Task, deviations: dict[str, float]) -> Callable[[Weights], Tensor]:
    """U(w) = −log p(D | w) − log p(w), up to a constant, of the full training set.

    The weights come as one vector, ``{"weights": vector}``: a chain moves one site faster than many.
    """
    network = task.network()
    like = dict(network.state_dict())
    scale = networks.flat({name: torch.full_like(value, deviations[name]) for name, value in like.items()})

    def potential(site: Weights) -> Tensor:
        vector = site["weights"]
        logits = networks.logits(network, networks.by_name(vector, like), task.x)
        return cross_entropy(logits, task.y, reduction="sum") + (vector / scale).square().sum() / 2

    return potential


def _run(
    task: Task,
    kernel: Callable[[Callable[[Weights], Tensor]], HMC],
    deviations: dict[str, float],
    chains: int,
    draws: int,
    warmup: int,
) -> Fit:
    if draws % chains:
        raise TrainingError(f"{draws} draws cannot be shared by {chains} chains; use a multiple")
    starts = _starts(task, chains)
    potential = potential_energy(task, deviations)
    each = draws // chains
    found = [sample_chain(kernel(potential), starts[index], each, warmup, task.seed, index) for index in range(chains)]
    # One draw of each chain in turn, so that the first n draws are of all chains.
    in_turn = torch.arange(draws).view(chains, each).T.flatten()
    return _fit(task, [facts for _, facts in found], torch.stack([chain for chain, _ in found]), in_turn)


def _starts(task: Task, chains: int) -> list[Tensor]:
    """Vectors that chains start from, each a draw of the training that the task starts from."""
    if task.start is None or len(task.start) < chains:
        raise TrainingError(
            f"{chains} chains need as many starts, and the training named by start has {len(task.start or ())}"
        )
    like = dict(task.network().state_dict())
    return [networks.flat({name: start[name] for name in like}) for start in task.start]


def _fit(task: Task, facts: list[dict[str, float]], vectors: Tensor, order: Tensor) -> Fit:
    """The outcome of chains with draws ``vectors`` [chains, draws, P]; ``order`` says which of all draws comes where."""
    network = task.network()
    like = dict(network.state_dict())
    drawn = [networks.by_name(vector, like) for vector in vectors.flatten(0, 1)]
    with torch.no_grad():
        predictions = torch.stack([networks.logits(network, draw, task.validation_x).softmax(1) for draw in drawn])
    report = diagnostics.of_chains(facts, predictions.unflatten(0, vectors.shape[:2]))
    history = [
        {"draws": count, "validation_accuracy": _accuracy(predictions[order[:count]], task.validation_y)}
        for count in range(1, len(drawn) + 1)
    ]
    weights = {name: torch.stack([drawn[place][name] for place in order]) for name in like}
    return Fit(weights, DRAWS, history, report, diagnostics.warnings(report))


def sample_chain(
    kernel: HMC, start: Tensor, draws: int, warmup: int, seed: int, index: int
) -> tuple[Tensor, dict[str, float]]:
    """One chain.

    Parameters
    ----------
    kernel
        Of a potential of ``{"weights": vector}``.
    start
        Vector [P].
    draws, warmup
        Iterations that are kept, and that are thrown away before.
    seed, index
        Of the fit and of this chain: they make the chain's random numbers.

    Returns
    -------
    tuple
        Draws [draws, P], and the chain's ``acceptance`` (for NUTS the share of iterations that moved) and ``divergences``.
    """
    facts: dict[str, Any] = {}
    pyro.set_rng_seed(seed_of(seed, "chain", index) % 2**32)
    with steps(warmup + draws, f"chain {index + 1}") as advance:

        def hook(state: HMC, _samples: Any, stage: str, _iteration: int) -> None:
            advance()
            if stage.startswith("Sample"):
                facts.update(state.diagnostics())

        mcmc = MCMC(
            kernel,
            num_samples=draws,
            warmup_steps=warmup,
            initial_params={"weights": start.clone()},
            hook_fn=hook,
            disable_progbar=True,
        )
        mcmc.run()
    report = {"acceptance": float(facts["acceptance rate"]), "divergences": float(len(facts["divergences"]))}
    return mcmc.get_samples()["weights"].detach(), report


def _accuracy(predictions: Tensor, y: Tensor) -> float:
    return float((predictions.mean(0).argmax(1) == y).double().mean())
