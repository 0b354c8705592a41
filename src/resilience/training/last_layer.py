"""The last linear layer alone as a network on features: a posterior of it is cheap, since all before is computed once.

See Kristiadi et al. 2020 ("Being Bayesian, even just a bit, fixes overconfidence in ReLU networks").
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor, nn

from resilience import networks, posterior, sizes
from resilience.catalog import entry
from resilience.graphs import reading_of
from resilience.networks import Weights
from resilience.operations import Linear
from resilience.parameters import Count, Positive, TrainingName
from resilience.posterior import IMAGES_AT_A_TIME, Posterior
from resilience.seeding import seed_of
from resilience.training import chains
from resilience.training import prior as priors
from resilience.training.fit import Fit, Task, TrainingError
from resilience.training.prior import Prior

#: What the layer's parameters are called in a network of it alone.
ALONE = "1."


@dataclass(frozen=True)
class OfFeatures(Task):
    """A task whose images are features [N, F, 1, 1], and whose network is a linear layer."""

    bias: bool = True

    def network(self, seed: int | None = None) -> nn.Module:
        """That layer. Its initial weights are of no account."""
        layer = nn.Linear(self.x.shape[1], self.classes, self.bias, device=self.x.device, dtype=self.x.dtype)
        return nn.Sequential(nn.Flatten(), layer).eval()


@dataclass(frozen=True)
class LastLayer:
    """The last layer of the network that a task starts from, and the rest of it.

    Parameters
    ----------
    task
        The layer's own: features in place of images.
    weights
        Its parameters at the start, by the names that they have in the task's network.
    prior
        Of these.
    name
        What the layer is called in the whole network.
    rest
        All other weights, by their names in the whole network.
    """

    task: OfFeatures
    weights: Weights
    prior: Prior
    name: str
    rest: Weights

    def whole(self, draws: Weights) -> Weights:
        """Draws [S, …] of all weights from draws of this layer's, which all others share."""
        count = len(next(iter(draws.values())))
        last = {f"{self.name}.{key.removeprefix(ALONE)}": value for key, value in draws.items()}
        return last | posterior.shared(self.rest, count)


def last_layer_of(task: Task, weights: Weights, prior: Prior) -> LastLayer:
    """The last layer of a network with given weights, by ``state_dict`` name, and under a prior of all its parameters.

    Raises
    ------
    TrainingError
        If the network does not end in a linear layer of a vector.
    """
    network = task.network()
    last = reading_of(network, task.x.shape[1:]).parts[-1]
    name = last.modules[-1] if last.modules else ""
    layer = network.get_submodule(name)
    if last.kind is not Linear or not isinstance(layer, nn.Linear):
        raise TrainingError(
            f"{task.settings['architecture']} does not end in a linear layer of a vector; take a posterior of all weights"
        )
    features = [_features(network, layer, weights, x) for x in (task.x, task.validation_x)]
    own = {f"{ALONE}{key}": weights[f"{name}.{key}"] for key, _ in layer.named_parameters()}
    whole = {key: f"{name}.{key.removeprefix(ALONE)}" for key in own}
    of_layer = Prior(*({key: of[whole[key]] for key in own} for of in (prior.means, prior.deviations)))
    rest = {key: value for key, value in weights.items() if key not in whole.values()}
    given = {
        field: getattr(task, field)
        for field in ("settings", "y", "validation_y", "classes", "seed", "checkpoints", "recipe")
    }
    alone = OfFeatures(x=features[0], validation_x=features[1], bias=layer.bias is not None, **given)
    return LastLayer(alone, own, of_layer, name, rest)


@torch.no_grad()
def _features(network: nn.Module, layer: nn.Linear, weights: Weights, x: Tensor) -> Tensor:
    """What a layer gets [N, F, 1, 1] when images pass the network."""
    seen: list[Tensor] = []
    hook = layer.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].clone()))
    try:
        for part in x.split(IMAGES_AT_A_TIME):
            networks.logits(network, weights, part)
    finally:
        hook.remove()
    return torch.cat(seen)[:, :, None, None]


def the_start(task: Task) -> Weights:
    """The weights of the point estimate that a task starts from.

    Raises
    ------
    TrainingError
        If it starts from none, or from several.
    """
    if task.start is None or len(task.start) != 1:
        raise TrainingError(f"start has {len(task.start or ())} draws; name a training with one, a point estimate")
    return next(iter(task.start))


@entry(at_most="draws", shared_by="chains", role="bayesian", from_point=True, share=True)
def last_layer_hmc(
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
    """Hamiltonian Monte Carlo over the last linear layer, all others as in a point estimate.

    Its posterior has a single mode, since minus the log-density is convex. So chains start at draws from the prior, far from
    one another, and R-hat says whether they have met.

    Parameters
    ----------
    prior, prior_scale
        See :func:`resilience.training.prior.prior_of`; the layer's part of it.
    chains
        Number of independent chains.
    draws
        Draws of all chains together, a multiple of ``chains``; the file has them in turn, one of each chain.
    warmup
        Iterations of each chain that are thrown away.
    step_size, leapfrog_steps
        Of the integrator; see Neal 2011.
    start
        A point estimate with the same prior, or without one, whose other layers compute the features.
    """
    return _hmc(task, prior, prior_scale, chains, draws, warmup, step_size, leapfrog_steps)


def _hmc(
    task: Task, prior: str, prior_scale: float, count: int, draws: int, warmup: int, step_size: float, leapfrog_steps: int
) -> Fit:
    network = task.network()
    last = last_layer_of(task, the_start(task), priors.prior_of(network, prior, prior_scale))
    sizes.refuse_draws(network, draws, [f"{last.name}.{key.removeprefix(ALONE)}" for key in last.weights])
    starts = {name: torch.stack([_from_prior(last, name, index) for index in range(count)]) for name in last.weights}
    alone = replace(last.task, start=Posterior(last.task.network(), starts))
    fit = chains.run(alone, chains.FixedLength(step_size, leapfrog_steps), last.prior, count, draws, warmup)
    return replace(fit, weights=last.whole(fit.weights))


def _from_prior(last: LastLayer, name: str, index: int) -> Tensor:
    like = last.weights[name]
    generator = torch.Generator().manual_seed(seed_of(last.task.seed, "start", index, name))
    noise = torch.randn(like.shape, generator=generator, dtype=like.dtype).to(like.device)
    return last.prior.means[name] + last.prior.deviations[name] * noise
