"""What a training gets and what it returns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from resilience import networks, posterior
from resilience.artifacts import Arrays
from resilience.data import unit_interval
from resilience.networks import Weights
from resilience.posterior import Posterior
from resilience.readable import refuse_unreadable


class TrainingError(RuntimeError):
    """A training that cannot start or went wrong. The message says what happened and what to change."""


@dataclass(frozen=True)
class Task:
    """A network to train, or a manifold to learn.

    Its config entry, the training and validation images, and the seed of everything random.

    A training that takes long keeps how far it has come in the folder ``checkpoints``, if there is one, and goes on from
    there under the same ``recipe``: a text that changes with the training's settings and code.
    """

    settings: Mapping[str, Any]
    x: Tensor
    y: Tensor
    validation_x: Tensor
    validation_y: Tensor
    classes: int
    seed: int
    start: Posterior | None = None
    checkpoints: Path | None = None
    recipe: str = ""

    @staticmethod
    def of(
        settings: Mapping[str, Any],
        arrays: Arrays,
        seed: int,
        start: Posterior | None,
        device: torch.device,
        classes: int | None = None,
    ) -> Task:
        """The task that a network's config entry and a dataset file make.

        Parameters
        ----------
        settings
            ``{architecture: …, width: …}``.
        arrays
            ``train.x``, ``train.y``, ``validation.x``, ``validation.y`` of :func:`resilience.data.split`.
        seed
            Seed of initial weights, batches and draws.
        start
            Weights that the training starts from, if it starts from another training.
        device
            Where to train.
        classes
            How many classes the network tells apart; as many as there are labels if not given.
        """
        parts = {
            key: torch.from_numpy(unit_interval(array) if key.endswith(".x") else array).to(device)
            for key, array in arrays.items()
        }
        return Task(
            settings,
            parts["train.x"],
            parts["train.y"],
            parts["validation.x"],
            parts["validation.y"],
            classes or int(arrays["train.y"].max()) + 1,
            seed,
            start.to(device) if start else None,
        )

    def network(self, seed: int | None = None) -> nn.Module:
        """The network with initial weights that follow from the seed; one that cannot be explained is refused here."""
        built = networks.build(dict(self.settings), self.x.shape[1:], self.classes, self.seed if seed is None else seed)
        refuse_unreadable(built, self.x.shape[1:])
        return built.to(self.x.device)

    def judged(self, draws: Weights) -> list[dict[str, float]]:
        """How good draws are together, as the history of a training that has no course."""
        found = posterior.accuracy(Posterior(self.network(), draws), self.validation_x, self.validation_y)
        return [{"draws": len(next(iter(draws.values()))), "validation_accuracy": found}]

    def about(self) -> dict[str, Any]:
        """What a weights file needs so that the network can be rebuilt without the config."""
        return {**self.settings, "shape": list(self.x.shape[1:]), "classes": self.classes}


@dataclass
class Fit:
    """The outcome of a training: weights of a kind (see :mod:`resilience.posterior`), its course and its diagnostics."""

    weights: Weights
    kind: str
    history: list[dict[str, float]]
    diagnostics: dict[str, Any] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
