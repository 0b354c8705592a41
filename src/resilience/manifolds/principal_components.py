"""The plane along which training images vary most: a manifold without chance and without learning by descent."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from resilience.catalog import entry
from resilience.manifolds.manifold import ImagesError, Learned, Manifold, mean_distances
from resilience.parameters import Count, DatasetName
from resilience.training.fit import Task


@entry(span="components")
def principal_components(task: Task, *, of: DatasetName | list[DatasetName], components: Count = 20) -> Learned:
    """The plane through the mean training image along the first principal directions; images are projected at right angles.

    Parameters
    ----------
    of
        The dataset whose training images it is learned from; of several names, each has a manifold of its own.
    components
        How many directions: fewer than pixels and than training images.

    Raises
    ------
    ImagesError
        If there are as many directions as pixels or images, or more.
    """
    images = task.x.flatten(1).double()
    number, pixels = images.shape
    if components >= min(number, pixels):
        raise ImagesError(
            f"components: {components} directions need more than that many pixels and training images, and there are "
            f"{pixels} and {number}"
        )
    mean = images.mean(0)
    # The triangular factor has the principal directions of the images, and at most as many rows as there are pixels.
    triangle = torch.linalg.qr(images - mean, mode="r").R
    plane = Plane(mean, torch.linalg.svd(triangle, full_matrices=False).Vh[:components])
    return Learned(plane, [mean_distances(plane, task)])


@dataclass(frozen=True)
class Plane(Manifold):
    """A plane through ``mean`` [pixels] along orthonormal ``directions`` [components, pixels], both float64."""

    mean: Tensor
    directions: Tensor
    kind: ClassVar[str] = "plane"

    def project(self, x: Tensor) -> Tensor:
        """Orthogonal projection on the plane."""
        centred = x.flatten(1).double() - self.mean
        return (self.mean + centred @ self.directions.T @ self.directions).view(x.shape).to(x.dtype)

    def stored(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """The plane itself."""
        return {"mean": self.mean, "directions": self.directions}, {}

    @classmethod
    def restored(cls, tensors: Mapping[str, Tensor], settings: Mapping[str, Any]) -> Plane:
        """A plane from a file."""
        return cls(tensors["mean"], tensors["directions"])
