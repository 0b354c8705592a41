"""Descent over shuffled batches, epoch after epoch, that goes on where a job was killed."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from resilience.progress import logger, steps
from resilience.seeding import seed_of
from resilience.training.checkpoints import checkpoint_of, random_numbers, restore_random_numbers
from resilience.training.fit import Task, TrainingError


@dataclass(frozen=True)
class Descent:
    """What descends, as functions.

    Parameters
    ----------
    step
        Descends on a batch of images and labels; returns what the batch adds to the sum of the loss over all points.
    end_epoch
        Called after the last batch of an epoch with its number, from 1; returns the validation accuracy.
    state
        All that these two change, in lists and dictionaries.
    restore
        Puts such a state back.
    """

    step: Callable[[Tensor, Tensor], Tensor | float]
    end_epoch: Callable[[int], float]
    state: Callable[[], dict[str, Any]]
    restore: Callable[[dict[str, Any]], None]


def run(task: Task, descent: Descent, epochs: int, batch_size: int, label: str) -> list[dict[str, Any]]:
    """Descend; keep the state at most every half minute, where the task has a folder for it, and go on from what is there.

    Returns
    -------
    list
        Epoch, loss and validation accuracy of each epoch.

    Raises
    ------
    TrainingError
        If the loss is no longer finite.
    """
    device, points = task.x.device, len(task.x)
    batches = -(-points // batch_size)
    generator = torch.Generator().manual_seed(seed_of(task.seed, "batches"))
    done: int = 0
    total: Tensor | float = 0.0
    history: list[dict[str, Any]] = []
    of_start = task.start.weights.values() if task.start else ()
    settings, tensors = (label, epochs, batch_size), (task.validation_x, task.validation_y, *of_start)
    checkpoint = checkpoint_of(task, "descent", settings, tensors)
    if found := checkpoint.read():
        done, total, history = found.iteration, _on(device, found.state["total"]), found.state["history"]
        generator.set_state(found.state["generator"])
        descent.restore(found.state["descent"])
        restore_random_numbers(found.state["random"], device)
        logger.info("%s goes on after batch %d of %d", label, done, epochs * batches)
    with steps(epochs - done // batches, label) as advance:
        for epoch in range(done // batches + 1, epochs + 1):
            # From here the order of the epoch is drawn again when it goes on.
            shuffled = generator.get_state()
            order = torch.randperm(points, generator=generator).to(device).split(batch_size)
            for batch in order[done % batches :]:
                total = total + descent.step(task.x[batch], task.y[batch])
                done += 1
                if done % batches == 0:
                    loss = float(total) / points
                    if not math.isfinite(loss):
                        raise TrainingError(f"the loss is {loss} in epoch {epoch}; a smaller learning_rate may help")
                    history.append({"epoch": epoch, "loss": loss, "validation_accuracy": descent.end_epoch(epoch)})
                    total, shuffled = 0.0, generator.get_state()
                    advance()
                if checkpoint.due or done == epochs * batches:
                    state = {
                        "total": total,
                        "history": history,
                        "generator": shuffled,
                        "descent": descent.state(),
                        "random": random_numbers(device),
                    }
                    checkpoint.write(done, state)
    return history


def _on(device: torch.device, total: Tensor | float) -> Tensor | float:
    return total.to(device) if isinstance(total, Tensor) else total
