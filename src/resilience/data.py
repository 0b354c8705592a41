"""Datasets, their splits, and the test points that are attacked and explained.

A dataset is a set of images in [0, 1] with integer labels, split into train, validation and test. The test split serves
the measurements and the figures; whatever is selected is selected on the validation split.
"""

from __future__ import annotations

import hashlib
import os
import warnings
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

import numpy as np

from resilience.artifacts import Arrays
from resilience.catalog import entry
from resilience.parameters import Count, Folder, Fraction, NonNegative, OwnFile, OwnFolder, Side
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
#: SHA-256 of scikit-learn's digits, the images and then the labels, a byte for each pixel and each label.
DIGITS = "87ff0c9e40dc7e2c0e34e7257799c2e3f3aec1a016363bb11cad869ec428a826"


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


@entry(classes=10, side=8)
def digits(*, test_share: Fraction = 0.2) -> Source:
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
    return _separate(Images(x, bunch.target.astype(np.int64)), test_share, "digits")


@entry(classes=2, side=1)
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


@entry(classes=10, side=28)
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


@entry(classes=10, side=28)
def fashion_mnist(*, folder: Folder = "data", download: bool = True) -> Source:
    """Fashion-MNIST: 60,000 + 10,000 pictures of clothes, 28 × 28 pixels, 10 classes."""
    return _torchvision("FashionMNIST", folder, download)


@entry()
def npz(*, file: OwnFile) -> Source:
    """Arrays of your own: ``x_train``, ``y_train``, ``x_test`` and ``y_test`` in a file of :func:`numpy.savez`.

    Parameters
    ----------
    file
        The ``.npz`` file. Images are [N, H, W] or [N, C, H, W], as uint8 or as floats in [0, 1]; labels are the integers
        0, 1, 2 … [N]. Every class has at least two training images and one test image. Other arrays do not matter.

    Raises
    ------
    DataError
        If it cannot be read, or an array is missing or not as described.
    """
    arrays = {name: _array_of_npz(file, name) for name in ("x_train", "y_train", "x_test", "y_test")}
    train, test = (_own_images(arrays, part, file) for part in ("train", "test"))
    if train.x.shape[1:] != test.x.shape[1:]:
        raise DataError(
            f"{file}: x_test has images of shape {test.x.shape[1:]}, but x_train {train.x.shape[1:]}; both must be equal"
        )
    classes = np.unique(train.y)
    if len(classes) < 2 or not np.array_equal(classes, np.arange(len(classes))):
        raise DataError(f"{file}: y_train has the classes {_some(classes)}; expected 0, 1, … without a gap, at least two")
    if not np.array_equal(np.unique(test.y), classes):
        raise DataError(
            f"{file}: y_test has the classes {_some(np.unique(test.y))}; expected those of y_train, {_some(classes)}"
        )
    if rare := [int(label) for label in classes if (train.y == label).sum() < 2]:
        raise DataError(f"{file}: y_train has class {rare[0]} once; expected at least twice, to train and to validate")
    return Source(train, test)


#: An array may unpack to so many bytes, or to so many times what it takes in the file, whichever is more.
LARGEST_UNSEEN = 2**28
MOST_TIMES = 100


def _array_of_npz(file: str, name: str) -> np.ndarray:
    """An array of an ``.npz`` file; nothing is unpickled."""
    # Whatever numpy, zipfile or zlib raise while they read, the file is not as it should be.
    try:
        with open(file, "rb") as content, np.lib.npyio.NpzFile(content, allow_pickle=False) as archive:
            if name not in archive.files:
                raise DataError(f"{file}: has no array {name}; found {', '.join(sorted(archive.files)) or 'none'}")
            assert archive.zip is not None
            packed = archive.zip.getinfo(f"{name}.npy")
            if packed.file_size > max(LARGEST_UNSEEN, MOST_TIMES * packed.compress_size):
                times = packed.file_size // max(packed.compress_size, 1)
                raise DataError(
                    f"{file}: {name} unpacks to {packed.file_size >> 20} MiB, {times} times what it takes; "
                    "if that is meant, write it with numpy.savez alone"
                )
            return archive[name]
    except DataError:
        raise
    except Exception as error:
        raise DataError(f"{file}: {name} cannot be read; expected numbers in a file of numpy.savez ({error})") from error


def _own_images(arrays: Arrays, part: str, file: str) -> Images:
    """The images and labels of one part of an ``.npz`` file, each alone as it should be."""
    x, y = arrays[f"x_{part}"], arrays[f"y_{part}"]
    if x.ndim not in (3, 4) or 0 in x.shape:
        raise DataError(f"{file}: x_{part} has shape {x.shape}; expected [N, C, H, W] or [N, H, W], none of them zero")
    if x.dtype.kind != "f" and x.dtype != np.uint8:
        raise DataError(f"{file}: x_{part} has type {x.dtype}; expected uint8, or floats in [0, 1]")
    if x.dtype.kind == "f" and not ((x >= 0) & (x <= 1)).all():
        raise DataError(
            f"{file}: x_{part} has values from {x.min():g} to {x.max():g}; expected floats in [0, 1], or uint8 in 0 … 255"
        )
    if y.dtype.kind not in "iu" or y.shape != x.shape[:1]:
        raise DataError(f"{file}: y_{part} is {y.dtype} {y.shape}; expected integers {x.shape[:1]}, one for each image")
    shape = x.shape if x.ndim == 4 else (len(x), 1, *x.shape[1:])
    return Images((x if x.dtype == np.uint8 else x.astype(np.float32)).reshape(shape), y.astype(np.int64))


def _some(classes: np.ndarray) -> str:
    return ", ".join(map(str, classes[:10])) + (" …" if len(classes) > 10 else "")


#: What the files of an image folder may be, by their content.
PICTURES = ("PNG", "JPEG", "BMP", "TIFF", "WEBP")
#: How Pillow calls pictures of 8 bits or fewer, which alone convert to grey or RGB without loss of range.
EIGHT_BITS = frozenset({"1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr"})


@entry(side="size")
def image_folder(*, folder: OwnFolder, size: Side, channels: Literal[1, 3] = 1) -> Source:
    """Pictures of your own, in ``train/{class}/`` and ``test/{class}/``: PNG, JPEG, BMP, TIFF or WebP of 8 bits.

    Parameters
    ----------
    folder
        Holds ``train`` and ``test``. The classes are the names of the folders in these, sorted; there are at least two, the
        same in both parts, with two training pictures and one test picture or more. Names that start with a dot do not
        count. Of several frames the first counts, and transparency is dropped.
    size
        Height and width to which every picture is resized.
    channels
        1 for grey, 3 for RGB.

    Raises
    ------
    DataError
        If a part or a class is missing or empty, a file is no such picture or is too large to unpack safely, or a link
        leads out of the folder.
    """
    root = Path(folder)
    train, test = (_classes(root, root / part) for part in ("train", "test"))
    if list(train) != list(test):
        different = sorted(set(train) ^ set(test))[0]
        there, missing = ("train", "test") if different in train else ("test", "train")
        raise DataError(f"{root / missing / different}: is missing; {there} has a class of that name")
    if len(train) < 2:
        raise DataError(f"{root / 'train'}: has the classes {', '.join(train) or 'none'}; expected at least two folders")
    for name, files in train.items():
        if len(files) < 2:
            raise DataError(
                f"{root / 'train' / name}: has a single picture; expected at least two, to train and to validate"
            )
    return Source(*(_pictures(part, size, channels) for part in (train, test)))


def _classes(root: Path, part: Path) -> dict[str, list[Path]]:
    """The files of each class folder, both sorted by name."""
    found = {}
    for place in _inside(root, part):
        if not place.is_dir():
            raise DataError(f"{place}: lies beside the class folders; expected {part}/{{class}}/ with pictures")
        found[place.name] = list(_inside(root, place))
        if not found[place.name]:
            raise DataError(f"{place}: is empty; expected pictures of the class {place.name}")
    return found


def _inside(root: Path, place: Path) -> Iterator[Path]:
    """What lies in a folder below ``root``, sorted by name, as long as no link leads out of ``root``."""
    if not place.is_dir():
        raise DataError(f"{place}: is missing; expected a folder")
    for path in (place, *sorted(place.iterdir())):
        if not path.resolve().is_relative_to(root.resolve()):
            raise DataError(f"{path}: leads out of {root}, to {path.resolve()}; expected a file or folder that lies there")
        if path != place and not path.name.startswith("."):
            yield path


def _pictures(classes: dict[str, list[Path]], size: int, channels: int) -> Images:
    x = [_picture(path, size, channels) for files in classes.values() for path in files]
    y = np.repeat(np.arange(len(classes)), [len(files) for files in classes.values()])
    return Images(np.stack(x), y.astype(np.int64))


def _picture(path: Path, size: int, channels: int) -> np.ndarray:
    """A picture as uint8 [channels, size, size]."""
    from PIL import Image

    if not path.is_file():
        raise DataError(f"{path}: is no file; expected a picture")
    # Whatever Pillow raises while it reads, the file is not as it should be. It only warns of the smaller of the pictures
    # that would fill the memory once unpacked.
    with warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        try:
            with Image.open(path, formats=PICTURES) as picture:
                if picture.mode not in EIGHT_BITS:
                    raise DataError(
                        f"{path}: is a picture of mode {picture.mode}; expected 8 bits a channel, grey or colour"
                    )
                converted = picture.convert("L" if channels == 1 else "RGB")
        except DataError:
            raise
        except Exception as error:
            raise DataError(f"{path}: is no picture that can be read; expected {', '.join(PICTURES)} ({error})") from error
    pixels = np.asarray(converted.resize((size, size), Image.Resampling.BILINEAR))
    return np.ascontiguousarray(pixels.reshape(size, size, channels).transpose(2, 0, 1))


def _torchvision(name: str, folder: str, download: bool) -> Source:
    from torchvision import datasets

    root = Path(os.path.expandvars(folder)).expanduser()
    raw = root / name / "raw"
    if download and not raw.exists():
        _download(name, raw)
    _refuse_other_files(raw, name)
    parts = [getattr(datasets, name)(root=str(root), train=train) for train in (True, False)]
    return Source(*(Images(part.data.numpy()[:, None], part.targets.numpy().astype(np.int64)) for part in parts))


def _download(name: str, raw: Path) -> None:
    """Load the files of a dataset; their folder appears when it has all of them, so a job that is killed leaves no half."""
    from torchvision import datasets

    raw.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=".partial.", dir=raw.parent) as partial:
        try:
            getattr(datasets, name)(root=partial, download=True)
        except (OSError, RuntimeError) as error:
            raise DataError(
                f"{name} cannot be downloaded: {' '.join(str(error).split())}; without a network, put its files, "
                f"{', '.join(DIGESTS[name])}, into {raw}"
            ) from error
        with suppress(OSError):  # Another job that needs the same files was faster.
            Path(partial, name, "raw").rename(raw)


def _refuse_other_files(raw: Path, name: str) -> None:
    """Raise a :class:`DataError` unless a folder holds the published files of a dataset, byte for byte."""
    for file, expected in DIGESTS[name].items():
        path = raw / file
        if not path.is_file():
            files = ", ".join(DIGESTS[name])
            raise DataError(f"{path}: is missing; {name} has {files}, unpacked, in that folder; remove {raw} to load them")
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
