"""The training images themselves as a manifold: between those that are nearest to an image it is taken for flat."""

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

#: How many images are looked up at a time.
IMAGES_AT_A_TIME = 64
#: Singular values below this share of the largest one are those of neighbours that say nothing new.
RANK = 1e-9


@entry(span="neighbours")
def nearest_neighbours(task: Task, *, of: DatasetName | list[DatasetName], neighbours: Count = 10) -> Learned:
    """The affine span of the training images nearest to an image; the image is projected on it at right angles.

    One neighbour is the nearest training image itself, two are the line through both, and so on, as in locally linear
    embedding (Roweis & Saul 2000). The mean of the neighbours would be further away the more there are of them, since it
    blurs; their span is nearer.

    Parameters
    ----------
    of
        The dataset whose training images these are; of several names, each has a manifold of its own.
    neighbours
        How many, by Euclidean distance: fewer than pixels, and no more than training images.

    Raises
    ------
    ImagesError
        If there are fewer training images than neighbours, or as many neighbours as pixels.
    """
    number, pixels = len(task.x), task.x[0].numel()
    if neighbours > number or neighbours >= pixels:
        raise ImagesError(
            f"neighbours: {neighbours} is too many; take fewer than there are pixels, {pixels}, and at most as many as "
            f"training images, {number}"
        )
    manifold = Neighbours(task.x, neighbours)
    return Learned(manifold, [mean_distances(manifold, task)])


@dataclass(frozen=True)
class Neighbours(Manifold):
    """Training images [M, C, H, W] in [0, 1], and how many of them are near an image."""

    images: Tensor
    neighbours: int
    kind: ClassVar[str] = "neighbours"

    def project(self, x: Tensor) -> Tensor:
        """Orthogonal projection on the affine span of the nearest."""
        return torch.cat([self._projected(part) for part in x.split(IMAGES_AT_A_TIME)])

    def _projected(self, x: Tensor) -> Tensor:
        known = self.images.flatten(1).to(x.dtype)
        nearest = torch.cdist(x.flatten(1), known).topk(self.neighbours, largest=False).indices
        first, *_ = around = known[nearest].double().transpose(0, 1)
        if self.neighbours == 1:
            return first.view(x.shape).to(x.dtype)
        _, sizes, directions = torch.linalg.svd((around[1:] - first).transpose(0, 1), full_matrices=False)
        # Neighbours that are alike span less than they could.
        directions = directions * (sizes > RANK * sizes[:, :1])[:, :, None]
        along = torch.einsum("ndp,np->nd", directions, x.flatten(1).double() - first)
        return (first + torch.einsum("nd,ndp->np", along, directions)).view(x.shape).to(x.dtype)

    def stored(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """The images, as bytes where these are all that there is to them."""
        levels = (255 * self.images).round().to(torch.uint8)
        lossless = torch.equal(levels.to(self.images.dtype) / 255, self.images)
        return {"images": levels if lossless else self.images}, {"neighbours": self.neighbours}

    @classmethod
    def restored(cls, tensors: Mapping[str, Tensor], settings: Mapping[str, Any]) -> Neighbours:
        """Images from a file."""
        images = tensors["images"]
        return cls(images.float() / 255 if images.dtype == torch.uint8 else images, settings["neighbours"])
