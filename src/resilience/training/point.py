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
from resilience.progress import track
from resilience.seeding import seed_of
from resilience.training import prior as priors
from resilience.training.fit import Fit, Task, TrainingError

#: Loss of a network on a batch of images and labels.
Loss = Callable[[nn.Sequential, Tensor, Tensor], Tensor]


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

    Parameters
    ----------
    attack
        The attack of each batch.
    """
    make = catalog.load("attacks", attack["method"])
    options = catalog.options("attacks", attack)
    generator = torch.Generator().manual_seed(seed_of(task.seed, "attack"))

    def loss(network: nn.Sequential, x: Tensor, y: Tensor) -> Tensor:
        return _cross_entropy(network, make(posterior.point(network), x, y, generator, **options), y)

    return descend(task, loss, epochs, learning_rate, decay, batch_size)


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
    deviations = priors.standard_deviations(task.network(), prior, prior_scale)

    def loss(network: nn.Sequential, x: Tensor, y: Tensor) -> Tensor:
        energy = priors.energy(dict(network.named_parameters()), deviations)
        return _cross_entropy(network, x, y) + energy / len(task.x)

    return descend(task, loss, epochs, learning_rate, decay, batch_size)


def descend(task: Task, loss: Loss, epochs: int, learning_rate: float, decay: float, batch_size: int) -> Fit:
    """Minimise a loss with Adam over shuffled batches.

    Parameters
    ----------
    task
        What to train.
    loss
        Of the network on a batch.
    epochs
        Passes over the training set.
    learning_rate
        Of the first epoch.
    decay
        What is left of the learning rate at the end; it falls exponentially. 1 keeps it constant, as the paper does.
    batch_size
        Images in a batch.

    Raises
    ------
    TrainingError
        If the loss is no longer finite.
    """
    network = task.network()
    optimiser = torch.optim.Adam(network.parameters(), lr=learning_rate)
    schedule = torch.optim.lr_scheduler.ExponentialLR(optimiser, decay ** (1 / epochs))
    generator = torch.Generator().manual_seed(seed_of(task.seed, "batches"))
    history: list[dict[str, Any]] = []
    for epoch in track(range(1, epochs + 1), "training"):
        total = torch.zeros((), device=task.x.device)
        for batch in torch.randperm(len(task.x), generator=generator).to(task.x.device).split(batch_size):
            value = loss(network, task.x[batch], task.y[batch])
            optimiser.zero_grad()
            value.backward()
            optimiser.step()
            total += value.detach() * len(batch)
        schedule.step()
        mean = float(total) / len(task.x)
        if not torch.isfinite(total):
            raise TrainingError(f"the loss is {mean} in epoch {epoch}; a smaller learning_rate may help")
        history.append({"epoch": epoch, "loss": mean, "validation_accuracy": _validate(task, network)})
    return Fit({name: value.clone() for name, value in network.state_dict().items()}, POINT, history)


def _cross_entropy(network: nn.Sequential, x: Tensor, y: Tensor) -> Tensor:
    return cross_entropy(network(networks.channels_last(x)), y)


def _validate(task: Task, network: nn.Sequential) -> float:
    return posterior.accuracy(posterior.point(network), task.validation_x, task.validation_y)
