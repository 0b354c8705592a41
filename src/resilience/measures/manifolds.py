"""How far images are from the manifold of the data, before and after an attack (Kim et al. 2019, Sec. 2.1), point by point.

Both measures return float64 [N], NaN where a point does not count.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import numpy as np
import torch

from resilience.catalog import entry
from resilience.manifolds.loading import load
from resilience.manifolds.manifold import distances
from resilience.parameters import ManifoldName, NonNegativeCount, TrainingName


@entry(of="predictions")
def distance_to_manifold(
    x: np.ndarray,
    x_attacked: np.ndarray,
    probabilities: np.ndarray,
    probabilities_attacked: np.ndarray,
    learned: Mapping[str, str],
    judgements: Mapping[str, tuple[np.ndarray, np.ndarray]],
    device: torch.device,
    *,
    manifold: ManifoldName,
    of: Literal["attacked", "clean"] = "attacked",
    judge: Literal["none", "itself"] | TrainingName = "none",
    reconstructions: NonNegativeCount = 10,
) -> np.ndarray:
    """Distance of an image to its projection on the manifold of the data, d(x) = ‖x − projection(x)‖₂ (Kim et al. 2019).

    Parameters
    ----------
    x, x_attacked
        Images [N, C, H, W] in [0, 1] before and after the attack.
    probabilities, probabilities_attacked
        Of the classes [N, classes] by the attacked network.
    learned
        Files of manifolds by their names.
    judgements
        Probabilities [N, classes] before and after the attack by the networks of other trainings.
    device
        Where to compute.
    manifold
        Which manifold. Only datasets that it is learned from have this measure.
    of
        Whose distance: that of the ``attacked`` image, or of the ``clean`` one.
    judge
        Which points count: all (``none``), those whose prediction the attack changed, as the attacked network sees it
        (``itself``), or as that of another training does, of the same seed: success by transfer, as published.
    reconstructions
        Where a manifold reconstructs at random, the distance is the mean over so many draws; published is 1. With 0 there is
        no chance: the mean latent vector is decoded. Other manifolds have no use for it.

    Returns
    -------
    numpy.ndarray
        [N], at least 0, in pixels of [0, 1]; NaN where a point does not count.
    """
    counts = _changed(judge, (probabilities, probabilities_attacked), judgements)
    images = x_attacked if of == "attacked" else x
    return np.where(counts, _distances(learned[manifold], images, reconstructions, device), np.nan)


@entry(of="predictions")
def farther_from_manifold(
    x: np.ndarray,
    x_attacked: np.ndarray,
    probabilities: np.ndarray,
    probabilities_attacked: np.ndarray,
    learned: Mapping[str, str],
    judgements: Mapping[str, tuple[np.ndarray, np.ndarray]],
    device: torch.device,
    *,
    manifold: ManifoldName,
    judge: Literal["none", "itself"] | TrainingName = "none",
    reconstructions: NonNegativeCount = 10,
) -> np.ndarray:
    """How much farther from the manifold of the data an attack has taken an image, d(x̃) − d(x) (after Kim et al. 2019).

    Parameters
    ----------
    x, x_attacked, probabilities, probabilities_attacked, learned, judgements, device, manifold, judge, reconstructions
        See :func:`distance_to_manifold`. Both distances are measured with the same draws.

    Returns
    -------
    numpy.ndarray
        [N], below 0 where the attack has brought the image nearer; NaN where a point does not count.
    """
    counts = _changed(judge, (probabilities, probabilities_attacked), judgements)
    before, after = (_distances(learned[manifold], images, reconstructions, device) for images in (x, x_attacked))
    return np.where(counts, after - before, np.nan)


def _distances(path: str, x: np.ndarray, reconstructions: int, device: torch.device) -> np.ndarray:
    """Distances [N] of images to the manifold in a file."""
    manifold, seed = load(path, device)
    return distances(manifold, torch.from_numpy(x).to(device), reconstructions, seed).cpu().numpy()


def _changed(
    judge: str, own: tuple[np.ndarray, np.ndarray], judgements: Mapping[str, tuple[np.ndarray, np.ndarray]]
) -> np.ndarray:
    """Whether a point counts [N]: whether its prediction was changed, as the judge sees it."""
    if judge == "none":
        return np.ones(len(own[0]), bool)
    before, after = own if judge == "itself" else judgements[judge]
    return np.asarray(before.argmax(1) != after.argmax(1))
