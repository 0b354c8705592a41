"""Markov chains: draws from the posterior of all weights given the full training set (paper, Sec. VII-E)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import pyro
import torch
from pyro.infer import HMC, NUTS
from pyro.ops.integrator import potential_grad
from torch import Tensor
from torch.nn.functional import cross_entropy

from resilience import networks
from resilience.catalog import entry
from resilience.computing import denormals_flushed
from resilience.networks import Weights
from resilience.parameters import Count, Fraction, Positive, TrainingName
from resilience.posterior import DRAWS
from resilience.progress import logger, steps
from resilience.seeding import seed_of
from resilience.training import cost, diagnostics, kernels
from resilience.training import prior as priors
from resilience.training.checkpoints import Checkpoint, checkpoint_of
from resilience.training.fit import Fit, Task, TrainingError
from resilience.training.prior import Prior


@entry(at_most="draws", shared_by="chains", role="bayesian")
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

    A chain normalises batches by the running averages of its start, from its beginning to its end.

    Parameters
    ----------
    prior, prior_scale
        See :func:`resilience.training.prior.prior_of`.
    chains
        Number of independent chains.
    draws
        Draws of all chains together, a multiple of ``chains``; the file has them in turn, one of each chain.
    warmup
        Iterations of each chain that are thrown away.
    step_size, leapfrog_steps
        Of the integrator; see Neal 2011.
    start
        A training with the same prior, or without one: chain c starts at its draw c, so that R-hat compares chains from
        other modes.
    """
    sampler = FixedLength(step_size, leapfrog_steps)
    return run(task, sampler, priors.prior_of(task.network(), prior, prior_scale), chains, draws, warmup)


@entry(at_most="draws", shared_by="chains", role="bayesian")
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
    sampler = NoUTurn(step_size, max_tree_depth, target_acceptance)
    return run(task, sampler, priors.prior_of(task.network(), prior, prior_scale), chains, draws, warmup)


@entry(at_most="draws", shared_by="shards", role="bayesian")
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
        Number of parts, drawn at random: a training set may be sorted by class.
    draws
        Draws of all shards together, a multiple of ``shards``.
    step_size, max_tree_depth, target_acceptance
        See :func:`nuts`.
    """
    if draws % shards:
        raise TrainingError(f"{draws} draws cannot be shared by {shards} shards; use a multiple")
    sampler = NoUTurn(step_size, max_tree_depth, target_acceptance)
    of_weights = priors.prior_of(task.network(), prior, prior_scale)
    order = torch.randperm(len(task.x), generator=torch.Generator().manual_seed(seed_of(task.seed, "shards")))
    parts = [(task.x[part], task.y[part]) for part in order.to(task.x.device).tensor_split(shards)]
    vectors, facts = _sample(task, sampler, of_weights, parts, draws // shards, warmup)
    for index, chain in enumerate(vectors):
        generator = torch.Generator().manual_seed(seed_of(task.seed, "shard", index))
        chosen = torch.randint(0, len(chain), (len(chain),), generator=generator).to(chain.device)
        vectors[index] = chain[chosen]
    return _fit(task, facts, vectors, torch.arange(draws))


@dataclass(frozen=True)
class FixedLength:
    """HMC: every trajectory has as many leapfrog steps."""

    step_size: float
    leapfrog_steps: int
    fixed: ClassVar = True

    def kernel(self, potential: Callable[[Weights], Tensor]) -> HMC:
        """The kernel of pyro."""
        return HMC(
            potential_fn=potential,
            step_size=self.step_size,
            # Pyro divides by the step size and rounds down, which from the product alone would sometimes lose a step.
            trajectory_length=self.step_size * (self.leapfrog_steps + 0.5),
            adapt_step_size=False,
            adapt_mass_matrix=False,
        )

    @property
    def gradients(self) -> int:
        """How many an iteration takes."""
        return self.leapfrog_steps


@dataclass(frozen=True)
class NoUTurn:
    """NUTS: a trajectory ends where it turns back, and the step size is adapted while warming up."""

    step_size: float
    max_tree_depth: int
    target_acceptance: float
    fixed: ClassVar = False

    def kernel(self, potential: Callable[[Weights], Tensor]) -> NUTS:
        """The kernel of pyro."""
        return NUTS(
            potential_fn=potential,
            step_size=self.step_size,
            adapt_step_size=True,
            adapt_mass_matrix=False,
            max_tree_depth=self.max_tree_depth,
            target_accept_prob=self.target_acceptance,
        )

    @property
    def gradients(self) -> int:
        """How many an iteration takes at most."""
        return int(2**self.max_tree_depth)


def potential_energy(task: Task, prior: Prior, statistics: Weights | None = None) -> Callable[[Weights], Tensor]:
    """U(w) = −log p(D | w) − log p(w), up to a constant, of the full training set.

    The parameters come as one vector, ``{"weights": vector}``: a chain moves one site faster than many. Statistics of batch
    normalisation, such as those of a chain's start, are constants: only so is U a function of w.
    """
    network = task.network()
    like, constant = networks.parameters_of(network), statistics or {}
    mean, scale = prior.flat(like)

    def potential(site: Weights) -> Tensor:
        vector = site["weights"]
        logits = networks.logits(network, networks.by_name(vector, like) | constant, task.x)
        return cross_entropy(logits, task.y, reduction="sum") + ((vector - mean) / scale).square().sum() / 2

    return potential


def run(
    task: Task,
    sampler: FixedLength | NoUTurn,
    prior: Prior,
    chains: int,
    draws: int,
    warmup: int,
) -> Fit:
    """Chains by a sampler that start at draws of the task's start, and learn from all of its images; see :func:`hmc`."""
    if draws % chains:
        raise TrainingError(f"{draws} draws cannot be shared by {chains} chains; use a multiple")
    each = draws // chains
    vectors, facts = _sample(task, sampler, prior, [(task.x, task.y)] * chains, each, warmup)
    # One draw of each chain in turn, so that the first n draws are of all chains.
    in_turn = torch.arange(draws).view(chains, each).T.flatten()
    return _fit(task, facts, vectors, in_turn)


def _sample(
    task: Task,
    sampler: FixedLength | NoUTurn,
    prior: Prior,
    parts: list[tuple[Tensor, Tensor]],
    draws: int,
    warmup: int,
) -> tuple[Tensor, list[dict[str, float]]]:
    """Draws [chains, draws, P] and facts of one chain for each of ``parts``, the images and labels that it learns from."""
    starts = start_vectors(task, len(parts))
    statistics = statistics_of_starts(task, len(parts))
    potentials = [
        potential_energy(replace(task, x=x, y=y), prior, constant)
        for (x, y), constant in zip(parts, statistics, strict=True)
    ]
    settings = (sampler, prior, len(parts), draws, warmup)
    decisive = [*starts, *(value for constant in statistics for value in constant.values())]
    checkpoints = [checkpoint_of(task, f"chain{index}", settings, decisive) for index in range(len(parts))]
    if left := len(parts) * (warmup + draws) - sum(checkpoint.iteration for checkpoint in checkpoints):
        cost.announce(
            lambda: potential_grad(potentials[0], {"weights": starts[0].clone()}),
            task.network(),
            parts[0][0],
            left * sampler.gradients,
            at_most=not sampler.fixed,
        )
    found = [
        sample_chain(sampler.kernel(potential), start, draws, warmup, task.seed, index, checkpoint)
        for index, (potential, start, checkpoint) in enumerate(zip(potentials, starts, checkpoints, strict=True))
    ]
    return torch.stack([chain for chain, _ in found]), [facts for _, facts in found]


def start_vectors(task: Task, chains: int) -> list[Tensor]:
    """Vectors that chains start from, each a draw of the training that the task starts from."""
    if task.start is None or len(task.start) < chains:
        raise TrainingError(
            f"{chains} chains need as many starts, and the training named by start has {len(task.start or ())}"
        )
    like = networks.parameters_of(task.network())
    return [networks.flat({name: start[name] for name in like}) for start, _ in zip(task.start, range(chains), strict=False)]


def statistics_of_starts(task: Task, chains: int) -> list[Weights]:
    """Those of batch normalisation for each chain, by which it normalises from its start to its end."""
    names = networks.statistics_of(task.network())
    return [{name: start[name] for name in names} for start, _ in zip(task.start or (), range(chains), strict=False)]


def _fit(task: Task, facts: list[dict[str, float]], vectors: Tensor, order: Tensor) -> Fit:
    """The outcome of chains with draws ``vectors`` [chains, draws, P]; ``order`` says which of all draws comes where."""
    network = task.network()
    like = networks.parameters_of(network)
    drawn = [
        networks.by_name(vector, like) | constant
        for chain, constant in zip(vectors, statistics_of_starts(task, len(vectors)), strict=True)
        for vector in chain
    ]
    with torch.no_grad():
        predictions = torch.stack([networks.logits(network, draw, task.validation_x).softmax(1) for draw in drawn])
    report = diagnostics.of_chains(facts, predictions.unflatten(0, vectors.shape[:2]))
    history = [
        {"draws": count, "validation_accuracy": _accuracy(predictions[order[:count]], task.validation_y)}
        for count in range(1, len(drawn) + 1)
    ]
    weights = {name: torch.stack([drawn[place][name] for place in order]) for name in drawn[0]}
    return Fit(weights, DRAWS, history, report, diagnostics.warnings(report))


def sample_chain(
    kernel: HMC, start: Tensor, draws: int, warmup: int, seed: int, index: int, checkpoint: Checkpoint | None = None
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
    checkpoint
        Where to keep how far the chain has come, and to go on from.

    Returns
    -------
    tuple
        Draws [draws, P], and the chain's ``acceptance`` (for NUTS the share of iterations that moved) and ``divergences``.

    Raises
    ------
    TrainingError
        If the chain stands still, see :func:`resilience.training.diagnostics.collapse`.
    """
    checkpoint = checkpoint or Checkpoint()
    found = checkpoint.read()
    pyro.set_rng_seed(seed_of(seed, "chain", index) % 2**32)
    # The energy sums the gradients of all images and of the prior, and the smallest are lost in that sum.
    with pyro.validation_enabled(False), denormals_flushed():
        kernel.initial_params = {"weights": (found.state["position"].to(start.device) if found else start).clone()}
        kernel.setup(warmup)
        if not kernel._potential_energy_last.isfinite():
            raise TrainingError(f"chain {index + 1}: the posterior density is zero where it starts; choose another start")
        drawn: list[Tensor] = []
        done, written = 0, 0
        if found:
            kernels.restore(kernel, found.state)
            drawn.extend(found.draws.to(start.device))
            done, written = found.iteration, len(drawn)
            logger.info("chain %d goes on after iteration %d of %d", index + 1, done, warmup + draws)
        with steps(warmup + draws - done, f"chain {index + 1}") as advance:
            for finished in range(done + 1, warmup + draws + 1):
                position = kernel.sample(kernel.initial_params)["weights"].detach()
                if finished > warmup:
                    drawn.append(position.clone())
                if reason := diagnostics.collapse(kernel, start, position, finished):
                    raise TrainingError(f"chain {index + 1} has collapsed: {reason}")
                if checkpoint.due or finished == warmup + draws:
                    new = torch.stack(drawn[written:]) if len(drawn) > written else None
                    checkpoint.write(finished, kernels.state_of(kernel), new)
                    written = len(drawn)
                advance()
    facts = kernel.diagnostics()
    report = {"acceptance": float(facts["acceptance rate"]), "divergences": float(len(facts["divergences"]))}
    return torch.stack(drawn), report


def _accuracy(predictions: Tensor, y: Tensor) -> float:
    return float((predictions.mean(0).argmax(1) == y).double().mean())
