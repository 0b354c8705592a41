"""The Laplace approximation: a normal around a mode of the posterior, as narrow as the density is curved there."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor

from resilience import networks, sizes
from resilience.catalog import entry
from resilience.networks import Weights
from resilience.parameters import Count, Positive, TrainingName
from resilience.posterior import DRAWS, IMAGES_AT_A_TIME, shared
from resilience.seeding import seed_of
from resilience.training import curvature
from resilience.training import prior as priors
from resilience.training.curvature import Curvature
from resilience.training.fit import Fit, Task
from resilience.training.last_layer import last_layer_of, the_start
from resilience.training.prior import Prior

STRUCTURES: dict[str, Callable[..., list[Curvature]]] = {
    "full": lambda *known: [curvature.full(*known)],
    "kronecker": curvature.kronecker,
    "diagonal": lambda *known: [curvature.diagonal(*known)],
}


@entry(at_most="draws", role="bayesian", from_point=True, share=True)
def laplace(
    task: Task,
    *,
    prior: Literal["unit", "he", "lecun"],
    prior_scale: Positive = 1.0,
    draws: Count,
    start: TrainingName,
    weights: Literal["last_layer", "all"] = "last_layer",
    structure: Literal["full", "kronecker", "diagonal"] = "kronecker",
) -> Fit:
    """Laplace approximation (MacKay 1992) around a point estimate, with the Gauss-Newton matrix of the whole training set.

    Parameters
    ----------
    prior, prior_scale
        See :func:`resilience.training.prior.prior_of`.
    draws
        How many; the first of a larger number are always the same.
    start
        A training of one network with the same prior: the mode that maximum_a_posteriori finds. Weights that were found
        without a prior are taken for the mode, which they are not.
    weights
        Which are drawn; all others, and the statistics of batch normalisation, are those of the start.
    structure
        Of the precision matrix: ``full`` for up to 10,000 parameters; ``kronecker``, a Kronecker product for each linear
        layer and convolution (Ritter et al. 2018), and a diagonal for other parameters; or ``diagonal``.
    """
    network, point = task.network(), the_start(task)
    of_weights = priors.prior_of(network, prior, prior_scale)
    if weights == "last_layer":
        last = last_layer_of(task, point, of_weights)
        sizes.refuse_draws(network, draws, [f"{last.name}.weight", f"{last.name}.bias"])
        drawn, history = _draw(last.task, last.weights, {}, last.prior, structure, draws)
        return Fit(last.whole(drawn), DRAWS, history)
    sizes.refuse_draws(network, draws)
    parameters = {name: point[name] for name in networks.parameters_of(network)}
    statistics = {name: point[name] for name in networks.statistics_of(network)}
    drawn, history = _draw(task, parameters, statistics, of_weights, structure, draws)
    return Fit(drawn | shared(statistics, draws), DRAWS, history)


def _draw(
    task: Task, mode: Weights, statistics: Weights, prior: Prior, structure: str, draws: int
) -> tuple[Weights, list[dict[str, Any]]]:
    """Draws [draws, …] around a mode, and the validation accuracy of the first 1, 2, … of them."""
    blocks = STRUCTURES[structure](task.network(), mode | statistics, task.x, prior.deviations)
    stacks: dict[str, list[Tensor]] = {name: [] for name in mode}
    for index in range(draws):
        generator = torch.Generator().manual_seed(seed_of(task.seed, "laplace", index))
        for block in blocks:
            noise = torch.randn(block.size, generator=generator, dtype=torch.float64)
            for name, step in block.noise_to_draw(noise.to(task.x.device)).items():
                stacks[name].append(mode[name] + step.to(mode[name]))
    found = {name: torch.stack(values) for name, values in stacks.items()}
    return found, _course(task, found, statistics)


@torch.no_grad()
def _course(task: Task, draws: Weights, statistics: Weights) -> list[dict[str, Any]]:
    network, count = task.network(), len(next(iter(draws.values())))
    total: Tensor | float = 0.0
    history: list[dict[str, Any]] = []
    for index in range(count):
        weights = {name: value[index] for name, value in draws.items()} | statistics
        parts = [networks.logits(network, weights, part).softmax(1) for part in task.validation_x.split(IMAGES_AT_A_TIME)]
        total = total + torch.cat(parts)
        accuracy = float((total.argmax(1) == task.validation_y).double().mean())
        history.append({"draws": index + 1, "validation_accuracy": accuracy})
    return history
