"""Networks that learn again from what an explanation leaves of the images (ROAR and KAR, Kim et al. 2019, Sec. 3.2).

What comes of the tables stands in :mod:`resilience.scores`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from resilience import catalog, posterior
from resilience.artifacts import Arrays
from resilience.data import SPLITS, mean_of_training, unit_interval
from resilience.datasets.occluded import Keep, by_importance, occlude
from resilience.posterior import Posterior
from resilience.progress import steps
from resilience.scores import ALL_REPLACED, KAR, NONE_REPLACED, ROAR, column
from resilience.seeding import generator_of, seed_of
from resilience.training.fit import Task

#: What a protocol leaves of an image.
LEFT: Mapping[str, Keep] = {ROAR: "rest", KAR: "top"}
#: Learns from ``{train, validation, test}.{x, y}`` with a seed, and says which test images it classifies rightly, [N].
Learner = Callable[[Arrays, int, str], np.ndarray]


def occluded_datasets(
    source: Arrays, relevance: Arrays, shares: Sequence[float], identity: Sequence[object]
) -> Iterator[tuple[str, Arrays]]:
    """What an explanation leaves of a dataset, by the columns of :mod:`resilience.scores`, one dataset at a time.

    Parameters
    ----------
    source
        ``{train, validation, test}.{x, y}``; see :func:`resilience.data.split`.
    relevance
        ``{train, validation, test}.relevance`` of these images.
    shares
        Of the pixels that count as important.
    identity
        Of the explanation: with the split the seed of the order among pixels of equal importance, one for all shares.
    """
    x = {split: unit_interval(source[f"{split}.x"]) for split in SPLITS}
    mean = mean_of_training(source)
    order = {split: by_importance(relevance[f"{split}.relevance"], generator_of(*identity, split)) for split in SPLITS}

    labels = {f"{split}.y": source[f"{split}.y"] for split in SPLITS}

    def left(keep: Keep, share: float) -> Arrays:
        return labels | {f"{split}.x": occlude(x[split], order[split], mean, share, keep) for split in SPLITS}

    yield NONE_REPLACED, labels | {f"{split}.x": x[split] for split in SPLITS}
    for protocol, keep in LEFT.items():
        for share in shares:
            yield column(protocol, share), left(keep, share)
    nothing = mean[:, None, None]
    yield ALL_REPLACED, labels | {f"{split}.x": np.broadcast_to(nothing, x[split].shape).copy() for split in SPLITS}


def retrain(
    source: Arrays,
    relevance: Arrays,
    shares: Sequence[float],
    seeds: Sequence[int],
    learn: Learner,
    identity: Sequence[object],
) -> dict[str, np.ndarray]:
    """Which test images networks classify rightly that learned from what an explanation leaves, and from all and nothing.

    Parameters
    ----------
    source, relevance, shares, identity
        See :func:`occluded_datasets`.
    seeds
        Of the repeats: the same for all that is left, so that networks start alike and see their batches alike.
    learn
        Trains a network, see :class:`Retraining`.

    Returns
    -------
    dict
        By column, [N] the share of the repeats in which each test image is classified rightly, without its important pixels
        or with these alone, as in training.
    """
    found = {}
    with steps((2 + 2 * len(shares)) * len(seeds), "retrainings") as advance:
        for name, images in occluded_datasets(source, relevance, shares, identity):
            repeats = []
            for repeat, seed in enumerate(seeds):
                repeats.append(learn(images, seed, f"{name}_repeat{repeat}"))
                advance()
            found[name] = np.mean(repeats, axis=0, dtype=float)
    return found


def seeds_of(place: Mapping[str, Any], by: Mapping[str, Any], repeats: int) -> list[int]:
    """The seeds of the repeats of a retraining: those of the dataset, the seed, and of what learns, of no explanation."""
    return [
        seed_of("retraining", place["dataset"], by["network"], by["training"], place["seed"], repeat)
        for repeat in range(repeats)
    ]


@dataclass(frozen=True)
class Retraining:
    """How networks learn from what is left.

    Parameters
    ----------
    network, training
        Their entries in the config; the training is that of a point estimate.
    classes
        How many the network tells apart.
    device
        Where they learn.
    checkpoints, recipe
        Where they keep how far they have come, and under what; see :class:`resilience.training.fit.Task`.
    """

    network: Mapping[str, Any]
    training: Mapping[str, Any]
    classes: int
    device: torch.device
    checkpoints: Path | None = None
    recipe: str = ""

    def __call__(self, images: Arrays, seed: int, name: str) -> np.ndarray:
        """Which test images a network classifies rightly that has learned from the training images, [N]."""
        learning = {name: array for name, array in images.items() if not name.startswith("test.")}
        task = Task.of(self.network, learning, seed, None, self.device, self.classes)
        task = replace(task, checkpoints=self.checkpoints and self.checkpoints / name, recipe=self.recipe)
        fit = catalog.bound("trainings", dict(self.training))(task=task)
        trained = Posterior(task.network(), {key: value[None] for key, value in fit.weights.items()})
        return right(trained, images, self.device)


def right(trained: Posterior, images: Arrays, device: torch.device) -> np.ndarray:
    """Which test images a network, or the mean of several draws, classifies rightly, [N]."""
    x = torch.from_numpy(unit_interval(images["test.x"])).to(device)
    return (posterior.predict(trained, x).argmax(1).cpu().numpy() == images["test.y"]).astype(float)
