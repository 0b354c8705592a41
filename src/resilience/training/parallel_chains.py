"""Markov chains that run side by side: one batch of matrix products for all of them, which small networks need to be quick.

Chains move in units of the prior's standard deviations, z = (w − μ) / σ. Where the step size is adapted, that is by the
acceptance of all chains together while they warm up, and it is fixed from then on.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from resilience import networks
from resilience.catalog import entry
from resilience.computing import denormals_flushed
from resilience.parameters import Count, Fraction, Positive, TrainingName
from resilience.posterior import DRAWS
from resilience.progress import logger, steps
from resilience.seeding import seed_of
from resilience.training import cost, diagnostics
from resilience.training import prior as priors
from resilience.training.chains import start_vectors, statistics_of_starts
from resilience.training.checkpoints import checkpoint_of
from resilience.training.fit import Fit, Task, TrainingError
from resilience.training.prior import Prior

#: Hoffman & Gelman 2014, Sec. 3.2.1: how strongly a step size follows the acceptance, how much the first iterations weigh,
#: and how fast they are forgotten. The first steps tried are larger than the one that was given, by LARGER.
FOLLOWING, FIRST_ITERATIONS, FORGETTING, LARGER = 0.05, 10.0, 0.75, 10.0

#: Of positions [chains, P], the energies [chains] and their gradients [chains, P].
Energy = Callable[[Tensor], tuple[Tensor, Tensor]]


@entry(at_most="draws", shared_by="chains", role="bayesian")
def parallel_hmc(
    task: Task,
    *,
    prior: Literal["unit", "he", "lecun"],
    prior_scale: Positive = 1.0,
    chains: Count,
    draws: Count,
    warmup: Count,
    step_size: Positive,
    leapfrog_steps: Count,
    target_acceptance: Fraction = 0.8,
    start: TrainingName | None = None,
) -> Fit:
    """Hamiltonian Monte Carlo on the whole training set, all chains in one batch, with a step size adapted while warming up.

    A chain that starts from another of its kind goes on where that has warmed up, so that a grid over warm-ups takes each
    step of the longest one once.

    Parameters
    ----------
    prior, prior_scale
        See :func:`resilience.training.prior.prior_of`.
    chains
        Number of independent chains.
    draws
        Draws of all chains together, a multiple of ``chains``; the file has them in turn, one of each chain.
    warmup
        Iterations that are thrown away, in which the step size is adapted by dual averaging (Hoffman & Gelman 2014,
        Sec. 3.2.1).
    step_size
        Of the integrator, where the adaptation begins: the same for all chains, in standard deviations of the prior.
    leapfrog_steps
        Of each iteration; see Neal 2011.
    target_acceptance
        Mean acceptance of all chains that the adaptation aims at.
    start
        A training with the same prior, or without one: chain c starts at its draw c. At draws from the prior if absent.
    """
    of_weights = priors.prior_of(task.network(), prior, prior_scale)
    sampler = Sampler(step_size, leapfrog_steps, target_acceptance)
    vectors, facts = sample(task, of_weights, sampler, chains, draws, warmup)
    return fit_of(task, facts, vectors)


@dataclass(frozen=True)
class Sampler:
    """HMC with so many leapfrog steps, whose step size begins at ``step_size`` and aims at an acceptance."""

    step_size: float
    leapfrog_steps: int
    target_acceptance: float


@dataclass
class DualAveraging:
    """The logarithm of a step size that makes the acceptance what it shall be (Hoffman & Gelman 2014, Eq. 6)."""

    centre: float
    target: float
    iterations: int = 0
    shortfall: float = 0.0
    averaged: float = 0.0

    def update(self, acceptance: float) -> float:
        """The step size of the next iteration, after one with a mean acceptance."""
        self.iterations += 1
        weight = 1 / (self.iterations + FIRST_ITERATIONS)
        self.shortfall += weight * (self.target - acceptance - self.shortfall)
        present = self.centre - math.sqrt(self.iterations) / FOLLOWING * self.shortfall
        share = self.iterations**-FORGETTING
        self.averaged += share * (present - self.averaged)
        return math.exp(present)

    @property
    def settled(self) -> float:
        """The step size to go on with: the average of those so far, the last ones above all."""
        return math.exp(self.averaged)


def energy_of(task: Task, prior: Prior, statistics: list[networks.Weights]) -> Energy:
    """U(z) = −log p(D | w) − log p(w) of each chain, up to a constant, and its gradient with respect to z = (w − μ) / σ.

    Statistics of batch normalisation are constants, those of each chain's start. Energies are summed in double precision,
    since a proposal is judged by a difference of large ones.
    """
    network = task.network()
    like = networks.parameters_of(network)
    mean, scale = prior.flat(like)
    constant = {name: torch.stack([each[name] for each in statistics]) for name in (statistics[0] if statistics else {})}

    def logits(vector: Tensor, fixed: networks.Weights) -> Tensor:
        return networks.logits(network, networks.by_name(vector, like) | fixed, task.x)

    of_chains = torch.func.vmap(logits)

    def energy(position: Tensor) -> tuple[Tensor, Tensor]:
        variable = position.detach().requires_grad_()
        with torch.enable_grad():
            found = of_chains(mean + scale * variable, constant)
            losses = cross_entropy(found.flatten(0, 1), task.y.repeat(len(position)), reduction="none")
            losses = losses.view(len(position), -1).double().sum(1)
            (gradient,) = torch.autograd.grad(losses.sum(), variable)
        return losses.detach() + position.double().square().sum(1) / 2, gradient + position

    return energy


def sample(
    task: Task, prior: Prior, sampler: Sampler, chains: int, draws: int, warmup: int
) -> tuple[Tensor, list[dict[str, float]]]:
    """Chains side by side.

    Returns
    -------
    tuple
        Weights as vectors [chains, draws / chains, P], and each chain's ``acceptance`` after the warm-up, ``divergences``
        and the common ``step_size``.

    Raises
    ------
    TrainingError
        If the draws cannot be shared by the chains, or no step is small enough.
    """
    if draws % chains:
        raise TrainingError(f"{draws} draws cannot be shared by {chains} chains; use a multiple")
    like = networks.parameters_of(task.network())
    mean, scale = prior.flat(like)
    generator = torch.Generator().manual_seed(seed_of(task.seed, "parallel chains"))
    if task.start is None:
        position = torch.randn((chains, len(mean)), generator=generator, dtype=mean.dtype).to(mean)
        statistics = [networks.statistics_of(task.network())] * chains
    else:
        position = (torch.stack(start_vectors(task, chains)) - mean) / scale
        statistics = statistics_of_starts(task, chains)
    energy = energy_of(task, prior, statistics)
    settings = ("parallel", sampler, sorted(prior.deviations.items()), chains, draws, warmup)
    checkpoint = checkpoint_of(task, "chains", settings, [position, *(v for each in statistics for v in each.values())])
    standing = checkpoint.read()
    moving = Moving(energy, position, sampler, warmup, generator)
    drawn: list[Tensor] = []
    total, done, written = warmup + draws // chains, 0, 0
    if standing:
        moving.restore(standing.state)
        drawn.extend(standing.draws.to(position.device))
        done, written = standing.iteration, len(drawn)
        logger.info("%d chains go on after iteration %d of %d", chains, done, total)
    if total > done:
        gradients = (total - done) * sampler.leapfrog_steps * chains
        of_one = energy_of(task, prior, statistics[:1])
        cost.announce(lambda: of_one(position[:1]), task.network(), task.x, gradients)
    with denormals_flushed(), steps(total - done, f"{chains} chains") as advance:
        for finished in range(done + 1, total + 1):
            moving.iterate()
            if finished > warmup:
                drawn.append(moving.position)
            if checkpoint.due or finished == total:
                new = torch.stack(drawn[written:]) if len(drawn) > written else None
                checkpoint.write(finished, moving.state(), new)
                written = len(drawn)
            advance()
    return mean + scale * torch.stack(drawn, 1), moving.facts()


class Moving:
    """Where chains stand, and how they go on.

    Parameters
    ----------
    energy
        Of positions.
    position
        Where they start, [chains, P].
    sampler, warmup
        How they move, and for how many iterations the step size is adapted.
    generator
        Of the momenta and of the decisions, on the CPU.
    """

    def __init__(self, energy: Energy, position: Tensor, sampler: Sampler, warmup: int, generator: torch.Generator):
        self._energy, self._sampler, self._warmup, self._generator = energy, sampler, warmup, generator
        self.position = position
        self._value, self._gradient = energy(position)
        if not self._value.isfinite().all():
            raise TrainingError("the posterior density is zero where a chain starts; choose another start")
        self._step_size = sampler.step_size
        self._adaptation = DualAveraging(math.log(LARGER * sampler.step_size), sampler.target_acceptance)
        self._iterations = 0
        self._accepted = torch.zeros(len(position), dtype=torch.float64)
        self._divergent = torch.zeros(len(position), dtype=torch.float64)

    def iterate(self) -> None:
        """One trajectory of each chain, accepted with the probability of Metropolis."""
        momentum = self._normal()
        proposed, value, gradient, end = self._trajectory(momentum)
        error = (value - self._value) + (end.double().square().sum(1) - momentum.double().square().sum(1)) / 2
        probability = torch.exp(-error.nan_to_num(nan=math.inf).clamp(min=0)).cpu()
        accepted = torch.rand(len(probability), generator=self._generator, dtype=torch.float64) < probability
        chosen = accepted.to(self.position.device)
        self.position = torch.where(chosen[:, None], proposed, self.position)
        self._value = torch.where(chosen, value, self._value)
        self._gradient = torch.where(chosen[:, None], gradient, self._gradient)
        self._iterations += 1
        if self._iterations > self._warmup:
            self._accepted += probability
            # As pyro counts them: energy grew by more than a trajectory can that follows the dynamics at all.
            self._divergent += (error.cpu() > 1000) | ~error.cpu().isfinite()
        else:
            self._adapt(float(probability.mean()))

    def _trajectory(self, momentum: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The end of a trajectory: position, energy, its gradient, and momentum."""
        step, position, gradient = self._step_size, self.position, self._gradient
        momentum = momentum - step / 2 * gradient
        for number in range(self._sampler.leapfrog_steps):
            position = position + step * momentum
            value, gradient = self._energy(position)
            last = number == self._sampler.leapfrog_steps - 1
            momentum = momentum - (step / 2 if last else step) * gradient
        return position, value, gradient, momentum

    def _adapt(self, acceptance: float) -> None:
        self._step_size = self._adaptation.update(acceptance)
        if self._iterations == self._warmup:
            self._step_size = self._adaptation.settled
        if self._step_size < diagnostics.SMALLEST_STEP_SIZE:
            raise TrainingError(
                f"the chains have collapsed: their step size fell to {self._step_size:.0e}; another start or a narrower "
                "prior may help"
            )

    def _normal(self) -> Tensor:
        return torch.randn(self.position.shape, generator=self._generator, dtype=self.position.dtype).to(self.position)

    def facts(self) -> list[dict[str, float]]:
        """Acceptance, divergences and step size of each chain."""
        after = max(1, self._iterations - self._warmup)
        return [
            {"acceptance": float(accepted) / after, "divergences": float(divergent), "step_size": self._step_size}
            for accepted, divergent in zip(self._accepted, self._divergent, strict=True)
        ]

    def state(self) -> dict[str, Any]:
        """All that changes."""
        adaptation = self._adaptation
        return {
            "position": self.position,
            "energy": self._value,
            "gradient": self._gradient,
            "adaptation": [adaptation.iterations, adaptation.shortfall, adaptation.averaged],
            "numbers": [self._step_size, self._iterations],
            "counts": [self._accepted, self._divergent],
            "random": self._generator.get_state(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Put :meth:`state` back."""
        device = self.position.device
        self.position, self._value, self._gradient = (state[name].to(device) for name in ("position", "energy", "gradient"))
        adaptation = self._adaptation
        adaptation.iterations, adaptation.shortfall, adaptation.averaged = state["adaptation"]
        self._step_size, self._iterations = state["numbers"]
        self._accepted, self._divergent = state["counts"]
        self._generator.set_state(state["random"])


def fit_of(task: Task, facts: list[dict[str, float]], vectors: Tensor) -> Fit:
    """The outcome of chains with draws ``vectors`` [chains, draws, P]; the file has one of each chain in turn."""
    network = task.network()
    like = networks.parameters_of(network)
    chains = len(vectors)
    fixed = statistics_of_starts(task, chains) if task.start else [networks.statistics_of(network)] * chains
    drawn = [
        networks.by_name(vector, like) | fixed[place % chains]
        for place, vector in enumerate(vectors.transpose(0, 1).flatten(0, 1))
    ]
    with torch.no_grad():
        predictions = torch.stack([networks.logits(network, draw, task.validation_x).softmax(1) for draw in drawn])
    report = diagnostics.of_chains(facts, predictions.unflatten(0, (-1, chains)).transpose(0, 1))
    report["step_size"] = facts[0]["step_size"]
    of_one = _accuracies(predictions, task.validation_y)
    of_all = _accuracies(torch.stack(list(accumulate(predictions))), task.validation_y)
    history = [
        {"draws": count, "validation_accuracy": together, "accuracy_of_draw": alone}
        for count, (together, alone) in enumerate(zip(of_all, of_one, strict=True), start=1)
    ]
    weights = {name: torch.stack([draw[name] for draw in drawn]) for name in drawn[0]}
    return Fit(weights, DRAWS, history, report, diagnostics.warnings(report))


def _accuracies(scores: Tensor, y: Tensor) -> list[float]:
    """The share of images that scores [draws, N, classes] put into the class of their label, for each draw."""
    return [float(share) for share in (scores.argmax(2) == y).double().mean(1)]
