"""Datasets that come with scikit-learn."""

from __future__ import annotations

import hashlib

import numpy as np

from resilience.catalog import entry
from resilience.data import DataError, Images, Source, with_test_split
from resilience.parameters import NonNegative, Part, Points
from resilience.seeding import generator_of

#: SHA-256 of scikit-learn's digits, the images and then the labels, a byte for each pixel and each label.
DIGITS = "87ff0c9e40dc7e2c0e34e7257799c2e3f3aec1a016363bb11cad869ec428a826"


@entry(classes=10, side=8)
def digits(*, test_share: Part = 0.2) -> Source:
    """Scikit-learn's bundled handwritten digits: 1,797 images of 8 × 8 pixels, 10 classes.

    Parameters
    ----------
    test_share
        Share of all images that make the test split, the same of each class.
    """
    from sklearn.datasets import load_digits

    bunch = load_digits()
    content = np.concatenate([bunch.images.ravel(), bunch.target]).astype(np.uint8).tobytes()
    if (found := hashlib.sha256(content).hexdigest()) != DIGITS:
        raise DataError(f"scikit-learn's digits are not those it is published with; install it again ({found})")
    x = (bunch.images / 16).astype(np.float32)[:, None]
    return with_test_split(Images(x, bunch.target.astype(np.int64)), test_share, "digits")


@entry(classes=2, side=1)
def half_moons(*, points: Points = 2000, noise: NonNegative = 0.1, test_share: Part = 0.2) -> Source:
    """Two interleaved half circles in the plane, as images of 1 × 2 pixels scaled to [0, 1], 2 classes.

    Parameters
    ----------
    points
        Number of points of both classes together; three of each are the fewest that can be split.
    noise
        Standard deviation of the normal noise that is added, in units of the circles' radius.
    """
    from sklearn.datasets import make_moons

    x, y = make_moons(points, noise=noise, random_state=int(generator_of("half_moons").integers(2**31)))
    x = (x - x.min()) / (x.max() - x.min())
    return with_test_split(Images(x.astype(np.float32)[:, None, None], y.astype(np.int64)), test_share, "half_moons")
