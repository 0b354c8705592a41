"""What a manifold of data is to everything that asks for one: images near it, and how far others are from these."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from resilience.training.fit import Task

#: How many images it takes to say how far images of a split are from a manifold.
IMAGES_OF_A_SPLIT = 1000


class ImagesError(ValueError):
    """Images that a manifold cannot be learned from. The message says which key asks for it, and what they allow."""


class Manifold(ABC):
    """A set of images near which those of a dataset lie; :mod:`resilience.manifolds.saving` keeps it in one file."""

    #: What the file says that it is.
    kind: ClassVar[str]
    #: Whether :meth:`reconstruct` draws at random.
    is_random: ClassVar[bool] = False

    @abstractmethod
    def project(self, x: Tensor) -> Tensor:
        """The nearest images on the manifold.

        Parameters
        ----------
        x
            Images [N, C, H, W] in [0, 1].

        Returns
        -------
        Tensor
            [N, C, H, W], of which a plane may leave [0, 1].
        """

    def reconstruct(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """Images on the manifold near ``x`` [N, C, H, W], drawn at random where the manifold does that."""
        return self.project(x)

    def sample(self, count: int, generator: torch.Generator) -> Tensor | None:
        """Images drawn from the manifold, [count, C, H, W] in [0, 1]; None where there is no distribution on it."""
        return None

    @abstractmethod
    def stored(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Tensors and settings, from which :meth:`restored` makes the manifold again."""

    @classmethod
    @abstractmethod
    def restored(cls, tensors: Mapping[str, Tensor], settings: Mapping[str, Any]) -> Manifold:
        """The manifold that :meth:`stored` says."""


@dataclass(frozen=True)
class Learned:
    """What learning gives: a manifold, and a row for each epoch, or one row where there are none."""

    manifold: Manifold
    history: list[dict[str, float]]


def distances(manifold: Manifold, x: Tensor, reconstructions: int, seed: int) -> Tensor:
    """Euclidean distance of images to the manifold, d(x) = ‖x − projection(x)‖₂ in pixels of [0, 1].

    Where a manifold reconstructs at random, it is the mean of ‖x − G(μ(x) + σ(x) η)‖₂ over draws of η. Kim et al. 2019
    (Sec. 2.1) take one draw.

    Parameters
    ----------
    manifold
        On the device of the images.
    x
        Images [N, C, H, W] in [0, 1].
    reconstructions
        How many draws; 0 takes the projection itself, η = 0, as for a manifold without chance.
    seed
        Of the draws: the same ones for any images that are as many.

    Returns
    -------
    Tensor
        float64 [N].
    """
    generator = torch.Generator().manual_seed(seed)
    drawn = range(reconstructions if manifold.is_random else 0)
    near = (manifold.reconstruct(x, generator) for _ in drawn) if drawn else iter([manifold.project(x)])
    return torch.stack([(x.double() - images).flatten(1).norm(dim=1) for images in near]).mean(0)


def mean_distances(manifold: Manifold, task: Task) -> dict[str, float]:
    """How far images are from their projections, on average: at most a thousand of each split, evenly spaced in it."""
    found = {}
    for name, images in (("training_distance", task.x), ("validation_distance", task.validation_x)):
        chosen = torch.linspace(0, len(images) - 1, min(len(images), IMAGES_OF_A_SPLIT)).long().to(images.device)
        found[name] = float(distances(manifold, images[chosen], 0, 0).mean())
    return found
