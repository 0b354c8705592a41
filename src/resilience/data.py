"""Datasets, their splits, and the test points that are attacked and explained.

A dataset is a set of images in [0, 1] with integer labels, split into train, validation and test. The test split serves
the measurements and the figures; whatever is selected is selected on the validation split.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from resilience.artifacts import Arrays
from resilience.catalog import entry
from resilience.parameters import Count, Folder, Fraction, NonNegative
from resilience.seeding import generator_of

#: MD5 of the unpacked files as their authors published them.
DIGESTS = {
    "MNIST": {
        "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
        "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
        "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
        "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
    },
    "FashionMNIST": {
        "train-images-idx3-ubyte": "f4a8712d7a061bf5bd6d2ca38dc4d50a",
        "train-labels-idx1-ubyte": "9018921c3c673c538a1fc5bad174d6f9",
        "t10k-images-idx3-ubyte": "8181f5470baa50b63fa0f6fddb340f0a",
        "t10k-labels-idx1-ubyte": "15d484375f8d13e6eb1aabb0c3f46965",
    },
}


class DataError(ValueError):
    """Data that cannot be used. The message says which file or class, and what was expected."""


@dataclass(frozen=True)
class Images:
    """Images ``x`` [N, C, H, W] (float32 in [0, 1], or uint8 in 0 … 255) with labels ``y`` [N] (int64)."""

    x: np.ndarray
    y: np.ndarray

    def __len__(self) -> int:
        return len(self.y)

    def __getitem__(self, index: np.ndarray) -> Images:
        return Images(self.x[index], self.y[index])


@dataclass(frozen=True)
class Source:
    """What a source delivers: images to learn from and images to test on."""

    train: Images
    test: Images


@entry()
def digits(*, test_share: Fraction = 0.2) -> Source:
    """Scikit-learn's bundled handwritten digits: 1,797 images of 8 × 8 pixels, 10 classes.

    Parameters
    ----------
    test_share
        Share of all images that make the test split, the same of each class.
    """
    from sklearn.datasets import load_digits

    bunch = load_digits()
    x = (bunch.images / 16).astype(np.float32)[:, None]
    return _separate(Images(x, bunch.target.astype(np.int64)), test_share, "digits")


@entry()
def half_moons(*, points: Count = 2000, noise: NonNegative = 0.1, test_share: Fraction = 0.2) -> Source:
    """Two interleaved half circles in the plane, as images of 1 × 2 pixels scaled to [0, 1], 2 classes.

    Parameters
    ----------
    points
        Number of points of both classes together.
    noise
        Standard deviation of the normal noise that is added, in units of the circles' radius.
    """
    from sklearn.datasets import make_moons

    x, y = make_moons(points, noise=noise, random_state=int(generator_of("half_moons").integers(2**31)))
    x = (x - x.min()) / (x.max() - x.min())
    return _separate(Images(x.astype(np.float32)[:, None, None], y.astype(np.int64)), test_share, "half_moons")


@entry()
def mnist(*, folder: Folder = "data", download: bool = True) -> Source:
    """MNIST: 60,000 + 10,000 handwritten digits of 28 × 28 pixels, 10 classes.

    Parameters
    ----------
    folder
        Where torchvision keeps its files: those of MNIST lie in ``MNIST/raw`` below it. ``~`` and ``$NAME`` are expanded.
    download
        Whether files that are not there are downloaded.
    """
    return _torchvision("MNIST", folder, download)


@entry()
def fashion_mnist(*, folder: Folder = "data", download: bool = True) -> Source:
    """Fashion-MNIST: 60,000 + 10,000 pictures of clothes, 28 × 28 pixels, 10 classes."""
    return _torchvision("FashionMNIST", folder, download)


def _torchvision(name: str, folder: str, download: bool) -> Source:
    from torchvision import datasets

    root = Path(os.path.expandvars(folder)).expanduser()
    raw = root / name / "raw"
    if download and not raw.exists():
        getattr(datasets, name)(root=str(root), download=True)
    _refuse_other_files(raw, name)
    parts = [getattr(datasets, name)(root=str(root), train=train) for train in (True, False)]
    return Source(*(Images(part.data.numpy()[:, None], part.targets.numpy().astype(np.int64)) for part in parts))


def _refuse_other_files(raw: Path, name: str) -> None:
    """Raise a :class:`DataError` unless a folder holds the published files of a dataset, byte for byte."""
    for file, expected in DIGESTS[name].items():
        path = raw / file
        if not path.is_file():
            raise DataError(f"{path}: is missing; {name} has {', '.join(DIGESTS[name])}, unpacked, in that folder")
        with path.open("rb") as content:
            found = hashlib.file_digest(content, "md5").hexdigest()
        if found != expected:
            raise DataError(
                f"{path}: is not the published file; its MD5 is {found}, not {expected}; remove {raw} to load it"
            )


def split(source: Source, validation: float, train_points: int | None, name: str) -> Arrays:
    """Train, validation and test images of a source.

    Parameters
    ----------
    source
        Images to learn from and to test on.
    validation
        Share of each class of the training images that is held out, in (0, 0.5].
    train_points
        Number of training points, balanced by class; None for all that validation leaves.
    name
        Name of the dataset: the seed of the split.

    Returns
    -------
    dict
        ``{train, validation, test}.{x, y}``.
    """
    remainder, held_out = _split_by_class(source.train.y, validation, name, "validation")
    if train_points is not None:
        remainder = remainder[balanced_points(source.train.y[remainder], train_points, name, "train")]
    parts = {"train": source.train[remainder], "validation": source.train[held_out], "test": source.test}
    return {f"{part}.{key}": getattr(images, key) for part, images in parts.items() for key in ("x", "y")}


def balanced_points(labels: np.ndarray, count: int, *identity: str) -> np.ndarray:
    """Indices of ``count`` points, equally many of each class, drawn without replacement.

    Parameters
    ----------
    labels
        int64 [N].
    count
        A multiple of the number of classes.
    identity
        What the points are for: the seed of the draw.

    Returns
    -------
    numpy.ndarray
        int64 [count], sorted by class and then by index.

    Raises
    ------
    DataError
        If ``count`` is no multiple of the number of classes, or a class has too few points.
    """
    classes = np.unique(labels)
    each, rest = divmod(count, len(classes))
    if rest:
        raise DataError(f"{identity[0]}: {count} points cannot be balanced over {len(classes)} classes; use a multiple")
    generator = generator_of(*identity)
    chosen = []
    for label in classes:
        members = np.flatnonzero(labels == label)
        if len(members) < each:
            raise DataError(f"{identity[0]}: class {label} has {len(members)} points, {each} are needed")
        chosen.append(np.sort(generator.choice(members, each, replace=False)))
    return np.concatenate(chosen)


def unit_interval(x: np.ndarray) -> np.ndarray:
    """Images as float32 in [0, 1], from float32 or from uint8 in 0 … 255."""
    return x.astype(np.float32) / 255 if x.dtype == np.uint8 else x


def _separate(images: Images, test_share: float, name: str) -> Source:
    train, test = _split_by_class(images.y, test_share, name, "test")
    return Source(images[train], images[test])


def _split_by_class(labels: np.ndarray, share: float, *identity: str) -> tuple[np.ndarray, np.ndarray]:
    """Indices of (what remains, what is held out): the same share of each class, at least one point."""
    generator = generator_of(*identity)
    held_out = []
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        held_out.append(generator.choice(members, max(1, round(share * len(members))), replace=False))
    chosen = np.sort(np.concatenate(held_out))
    return np.setdiff1d(np.arange(len(labels)), chosen), chosen
