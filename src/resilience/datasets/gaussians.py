"""Two flat normal distributions in the plane, which a straight line tells apart in many ways (Kim et al. 2019, Sec. 2.2)."""

from __future__ import annotations

import numpy as np

from resilience.catalog import entry
from resilience.data import DataError, Images, Source, with_test_split
from resilience.parameters import DatasetName, NonNegativeCount, Part, Points

#: Means of class 0, to the right, and of class 1, and the covariance of both.
MEANS = np.array([[1.2, 0.1], [-1.2, -0.1]])
COVARIANCE = np.array([[0.1, -0.01], [-0.01, 0.002]])


@entry(classes=2, side=1)
def gaussians(*, points: Points = 6000, test_share: Part = 0.2, seed: NonNegativeCount = 0) -> Source:
    """Two flat normal distributions in the plane, as images of 1 × 2 pixels scaled to [0, 1], 2 classes.

    Both coordinates are scaled alike, by the least and the greatest of all, so that angles stay what they are (Kim et al.
    2019, Sec. 2.2, where they end in [−1, 1]: lengths there are twice those here). The manifold of a class is known: the
    line along which it varies most.

    Parameters
    ----------
    points
        Number of points of both classes together.
    test_share
        Share of all points that make the test split, the same of each class.
    seed
        Of the points.
    """
    generator = np.random.default_rng(seed)
    y = np.arange(points) % 2
    x = MEANS[y] + generator.normal(size=(points, 2)) @ np.linalg.cholesky(COVARIANCE).T
    low, size = x.min(), x.max() - x.min()
    images = Images(((x - low) / size).astype(np.float32)[:, None, None], y.astype(np.int64))
    source = with_test_split(images, test_share, "gaussians")
    along = np.linalg.eigh(COVARIANCE)[1][:, -1]
    return Source(source.train, source.test, tangents=np.tile(along, (len(source.test), 1, 1)))


@entry()
def plane(x: np.ndarray, *, of: DatasetName) -> np.ndarray:
    """A regular grid over the unit square in the place of points in the plane: what a network says everywhere.

    The number of points and their labels, which mean nothing here, stay: n points are the first n of ⌈√n⌉ rows of ⌈√n⌉,
    from the lower left corner.

    Parameters
    ----------
    of
        A dataset of points in the plane, such as ``gaussians``.

    Raises
    ------
    DataError
        If images have another number of pixels than two.
    """
    if x[0].size != 2:
        raise DataError(f"a plane has points of two coordinates; images of {x.shape[1:]} have {x[0].size}")
    side = int(np.ceil(np.sqrt(len(x))))
    axis = np.linspace(0, 1, side, dtype=np.float32)
    first, second = np.meshgrid(axis, axis)
    return np.stack([first.ravel(), second.ravel()], axis=1)[: len(x)].reshape(x.shape)
