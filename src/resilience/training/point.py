"""Point estimates: one set of weights, found by descent."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from resilience import catalog, networks, posterior
from resilience.catalog import entry
from resilience.parameters import AttackEntry, Count, Positive, Share
from resilience.posterior import POINT
from resilience.seeding import seed_of
from resilience.training import modes
from resilience.training import prior as priors
from resilience.training.epochs import Descent, run
from resilience.training.fit import Fit, Task

#: Loss of a network on a batch of images and labels.
Loss = Callable[[nn.Module, Tensor, Tensor], Tensor]


@entry(draws=1, role="deterministic")
def deterministic(
    task: Task, *, epochs: Count, learning_rate: Positive = 0.001, decay: Share = 1.0, batch_size: Count = 128
) -> Fit:
    """Adam on the cross-entropy."""
    return descend(task, _cross_entropy, epochs, learning_rate, decay, batch_size)


@entry(draws=1, role="adversarial")
def adversarial(
    task: Task,
    *,
    attack: AttackEntry,
    epochs: Count,
    learning_rate: Positive = 0.001,
    decay: Share = 1.0,
    batch_size: Count = 128,
) -> Fit:
    """Adam on the cross-entropy of attacked images only; each batch is attacked with the weights of the moment.

    The network that is attacked is the one that is evaluated: with running averages and without dropout.

    Parameters
    ----------
    attack
        The attack of each batch.
    """
    make = catalog.bound("attacks", attack)
    generator = torch.Generator().manual_seed(seed_of(task.seed, "attack"))

    def loss(network: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        with modes.evaluated(network):
            attacked = make(posterior=posterior.point(network), x=x, y=y, generator=generator)
        return _cross_entropy(network, attacked, y)

    return descend(task, loss, epochs, learning_rate, decay, batch_size, generator)


@entry(draws=1, role="control")
def maximum_a_posteriori(
    task: Task,
    *,
    prior: Literal["unit", "he", "lecun"],
    prior_scale: Positive = 1.0,
    epochs: Count,
    learning_rate: Positive = 0.001,
    decay: Share = 1.0,
    batch_size: Count = 128,
) -> Fit:
    """Adam on −log p(w | D): the cross-entropy of the training set plus the energy of the posterior's own prior."""
    of_weights = priors.prior_of(task.network(), prior, prior_scale)

    def loss(network: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        energy = of_weights.energy(dict(network.named_parameters()))
        return _cross_entropy(network, x, y) + energy / len(task.x)

    return descend(task, loss, epochs, learning_rate, decay, batch_size)


def descend(
    task: Task,
    loss: Loss,
    epochs: int,
    learning_rate: float,
    decay: float,
    batch_size: int,
    generator: torch.Generator | None = None,
) -> Fit:
    """Minimise a loss with Adam over shuffled batches.

    Parameters
    ----------
    task
        What to train.
    loss
        Of the network on a batch; it is called while the network learns, see :mod:`resilience.training.modes`.
    epochs
        Passes over the training set.
    learning_rate
        Of the first epoch.
    decay
        What is left of the learning rate at the end; it falls exponentially. 1 keeps it constant, as the paper does.
    batch_size
        Images in a batch.
    generator
        Of the random numbers that the loss draws, if it does, so that a training that was stopped goes on with them.

    Raises
    ------
    TrainingError
        If the loss is no longer finite.
    """
    network = task.network()
    torch.manual_seed(seed_of(task.seed, "dropout") % 2**32)
    optimiser = torch.optim.Adam(network.parameters(), lr=learning_rate)
    schedule = torch.optim.lr_scheduler.ExponentialLR(optimiser, decay ** (1 / epochs))

    def step(x: Tensor, y: Tensor) -> Tensor:
        with modes.learning(network, len(x)):
            value = loss(network, x, y)
        optimiser.zero_grad()
        value.backward()
        optimiser.step()
        return value.detach() * len(x)

    def end_epoch(_: int) -> float:
        schedule.step()
        return posterior.accuracy(posterior.point(network), task.validation_x, task.validation_y)

    def state() -> dict[str, Any]:
        parts = {"network": network.state_dict(), "optimiser": optimiser.state_dict(), "schedule": schedule.state_dict()}
        return parts | {"generator": generator.get_state() if generator else None}

    def restore(kept: dict[str, Any]) -> None:
        network.load_state_dict(kept["network"])
        optimiser.load_state_dict(kept["optimiser"])
        schedule.load_state_dict(kept["schedule"])
        if generator:
            generator.set_state(kept["generator"])

    history = run(task, Descent(step, end_epoch, state, restore), epochs, batch_size, "training")
    return Fit({name: value.clone() for name, value in networks.weights_of(network).items()}, POINT, history)


def _cross_entropy(network: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    return cross_entropy(network(networks.channels_last(x)), y)
