"""Variational inference: the nearest mean-field normal to the posterior (paper, Sec. VII-E)."""

from __future__ import annotations

import math
from typing import Any, Literal

import pyro
import pyro.distributions as dist
import torch
from pyro.infer import SVI, TraceMeanField_ELBO
from pyro.optim import ExponentialLR  # type: ignore[attr-defined]
from torch import Tensor, nn

from resilience import networks, posterior
from resilience.catalog import entry
from resilience.networks import Weights
from resilience.parameters import Count, Positive, Share, TrainingName
from resilience.posterior import MEAN_FIELD, Posterior
from resilience.seeding import seed_of
from resilience.training import modes
from resilience.training import prior as priors
from resilience.training.epochs import Descent, run
from resilience.training.fit import Fit, Task
from resilience.training.last_layer import the_start

#: Draws used to follow the accuracy while training.
DRAWS_FOR_ACCURACY = 10
#: What pyro calls the parameters of the guide.
SITES = ("loc", "log_scale")
#: Of the prior's share: the least initial deviation of a weight that starts near 0, from which it could not grow.
LEAST_SHARE = 0.01
#: Whether distributions check their arguments: a descent that diverges ends by its loss, with a sentence, and not in there.
CHECKED = False


@entry(role="bayesian", from_point=True)
def svi(
    task: Task,
    *,
    prior: Literal["unit", "he", "lecun"],
    prior_scale: Positive = 1.0,
    epochs: Count,
    learning_rate: Positive = 0.01,
    decay: Share = 1.0,
    batch_size: Count = 128,
    initial_scale: Positive = 0.1,
    initial_scale_of: Literal["prior", "weights"] = "prior",
    likelihood_of: Literal["dataset", "batch"] = "dataset",
    start: TrainingName | None = None,
) -> Fit:
    """Stochastic variational inference with a mean-field normal of all parameters, those of batch normalisation included.

    Its running averages follow the batches under the draws of the moment, and are the same for all draws of the posterior.

    Parameters
    ----------
    prior, prior_scale
        See :func:`resilience.training.prior.prior_of`.
    decay
        What is left of the learning rate at the end; it falls exponentially. 1 keeps it constant, as the paper does.
    initial_scale, initial_scale_of
        Initial standard deviation of the guide, as a share of the prior's or of each weight's absolute value, no less then
        than a hundredth of such a share of the prior's.
    likelihood_of
        What the likelihood of a batch is scaled to. ``batch``: not at all, as in the published code, where the prior
        therefore weighs as many times too much as there are batches.
    start
        A point estimate whose weights the means start at, and the running averages; those of a new network if absent. With
        ``initial_scale_of: weights`` that is MOPED (Krishnan et al. 2020), but that the prior stays as it is.
    """
    network = task.network()
    if start is not None:
        network.load_state_dict(the_start(task), strict=False)
    initial = networks.parameters_of(network)
    mean, scale = priors.prior_of(network, prior, prior_scale).flat(initial)
    first = networks.flat(initial)
    first_scale = initial_scale * scale
    if initial_scale_of == "weights":
        first_scale = torch.maximum(initial_scale * first.abs(), LEAST_SHARE * first_scale)
    points = len(task.x)

    # All weights are one site, since each site costs as much time as the small networks themselves.
    def model(x: Tensor, y: Tensor) -> None:
        weights = pyro.sample("weights", dist.Normal(mean, scale, validate_args=CHECKED).to_event(1))
        with pyro.plate("data", points if likelihood_of == "dataset" else len(x), subsample=x):
            with modes.normalising_by_batch(network, len(x)):
                logits = networks.logits(network, networks.by_name(weights, initial), x)
            pyro.sample("y", dist.Categorical(logits=logits, validate_args=CHECKED), obs=y)

    def guide(x: Tensor, y: Tensor) -> None:
        loc = pyro.param("loc", first)
        log_scale = pyro.param("log_scale", first_scale.log())
        pyro.sample("weights", dist.Normal(loc, log_scale.exp(), validate_args=CHECKED).to_event(1))

    pyro.clear_param_store()
    pyro.set_rng_seed(seed_of(task.seed, "guide") % 2**32)
    settings = {"optimizer": torch.optim.Adam, "optim_args": {"lr": learning_rate}, "gamma": decay ** (1 / epochs)}
    optimiser = ExponentialLR(settings)
    inference = SVI(model, guide, optimiser, TraceMeanField_ELBO())

    def step(x: Tensor, y: Tensor) -> float:
        return inference.step(x, y) * len(x) / points

    def end_epoch(epoch: int) -> float:
        optimiser.step()
        if epoch == epochs or epoch % max(1, epochs // 20) == 0:
            return _validate(task, network, _parameters(network, initial))
        return math.nan

    def state() -> dict[str, Any]:
        store = pyro.get_param_store()
        kept = {"parameters": {name: store[name] for name in SITES}, "optimiser": optimiser.get_state()}
        return kept | {"buffers": dict(network.named_buffers())}

    def restore(kept: dict[str, Any]) -> None:
        for name in SITES:
            pyro.param(name, kept["parameters"][name].to(task.x.device))
        optimiser.set_state(kept["optimiser"])
        for name, value in network.named_buffers():
            value.copy_(kept["buffers"][name])

    history = run(task, Descent(step, end_epoch, state, restore), epochs, batch_size, "SVI")
    return Fit(_parameters(network, initial), MEAN_FIELD, history)


def _parameters(network: nn.Module, initial: Weights) -> Weights:
    """Means and standard deviations of the parameters, and the statistics that all draws share."""
    store = pyro.get_param_store()
    loc, scale = store["loc"].detach().clone(), store["log_scale"].detach().exp()
    locations = {f"{name}.loc": value for name, value in networks.by_name(loc, initial).items()}
    scales = {f"{name}.scale": value for name, value in networks.by_name(scale, initial).items()}
    return locations | scales | {name: value.clone() for name, value in networks.statistics_of(network).items()}


def _validate(task: Task, network: nn.Module, parameters: Weights) -> float:
    names = sorted(networks.parameters_of(network))
    draws = posterior.sample_mean_field(parameters, names, seed_of(task.seed, "validation"), DRAWS_FOR_ACCURACY)
    draws |= posterior.shared(networks.statistics_of(network), DRAWS_FOR_ACCURACY)
    return posterior.accuracy(Posterior(network, draws), task.validation_x, task.validation_y)
