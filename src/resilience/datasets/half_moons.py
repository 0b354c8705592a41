"""Half-moons: two classes of points along two half circles, a dataset whose manifold is known."""

from __future__ import annotations

import numpy as np

from resilience.catalog import entry
from resilience.data import Images, Source, with_test_split
from resilience.parameters import NonNegative, NonNegativeCount, Part, Points

#: Centre of each half circle of radius 1, and whether it is the upper half, as scikit-learn's ``make_moons`` has them.
CENTRES = np.array([[0.0, 0.0], [1.0, 0.5]])
UPPER = np.array([True, False])


@entry(classes=2, side=1)
def half_moons(
    *, points: Points = 2000, noise: NonNegative = 0.1, test_share: Part = 0.2, seed: NonNegativeCount = 0
) -> Source:
    """Two interleaved half circles in the plane, as images of 1 × 2 pixels scaled to [0, 1], 2 classes.

    Both coordinates are scaled alike, so that directions stay what they are; those along the circles are known
    (Carbone et al. 2020, Sec. 5.1).

    Parameters
    ----------
    points
        Number of points of both classes together; three of each are the fewest that can be split.
    noise
        Standard deviation of the normal noise that is added, in units of the circles' radius.
    test_share
        Share of all points that make the test split, the same of each class.
    seed
        Of the noise. Datasets of one seed and one number of points have the same points to learn from and to test on,
        however many of them ``train_points`` takes.
    """
    from sklearn.datasets import make_moons

    x, y = make_moons(points, noise=noise, random_state=seed)
    low, size = x.min(), x.max() - x.min()
    images = Images(((x - low) / size).astype(np.float32)[:, None, None], y.astype(np.int64))
    source = with_test_split(images, test_share, "half_moons")
    at = source.test.x.reshape(-1, 2).astype(np.float64) * size + low
    return Source(source.train, source.test, tangents=directions(at)[0][:, None])


def directions(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The directions along the half circles and across them, where these are nearest to each point.

    Parameters
    ----------
    points
        [N, 2], in the coordinates of the circles, whose radius is 1.

    Returns
    -------
    tuple of numpy.ndarray
        Unit vectors [N, 2]: the tangent, counter-clockwise, and the normal, away from the centre. Beyond an end of a half
        circle they are those at the end.
    """
    offsets = points[None] - CENTRES[:, None]
    angles = np.arctan2(offsets[..., 1], offsets[..., 0])
    low = np.where(UPPER, 0.0, -np.pi)[:, None]
    # The nearest angle of the half circle: its own within it, and else the nearer end, that to the right or to the left.
    ends = np.where(np.cos(angles) >= 0, 0.0, np.where(UPPER, np.pi, -np.pi)[:, None])
    angles = np.where((angles >= low) & (angles <= low + np.pi), angles, ends)
    radial = np.stack([np.cos(angles), np.sin(angles)], axis=2)
    nearest = np.linalg.norm(offsets - radial, axis=2).argmin(0)
    normal = radial[nearest, np.arange(len(points))]
    return np.stack([-normal[:, 1], normal[:, 0]], axis=1), normal
