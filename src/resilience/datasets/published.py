"""Datasets as their authors published them, byte for byte; torchvision downloads them."""

from __future__ import annotations

import gzip
import hashlib
import os
import zlib
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from resilience.catalog import entry
from resilience.data import DataError, Images, Source
from resilience.parameters import Folder

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
    "CIFAR10": {
        "data_batch_1": "c99cafc152244af753f735de768cd75f",
        "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
        "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
        "data_batch_4": "634d18415352ddfa80567beed471001a",
        "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
        "test_batch": "40351d587109b95175f43aff81a1287e",
        "batches.meta": "5ff9c542aee3614f3951f8cda6e48888",
    },
}
#: Where torchvision keeps the files of each, below the folder that it is given.
PLACES = {"MNIST": "MNIST/raw", "FashionMNIST": "FashionMNIST/raw", "CIFAR10": "cifar-10-batches-py"}
#: Whose files may be gzipped each by itself.
GZIPPED = ("MNIST", "FashionMNIST")

CLOTHES = ("T-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot")
ANIMALS_AND_VEHICLES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


@entry(classes=10, side=28)
def mnist(*, folder: Folder = "data", download: bool = True) -> Source:
    """MNIST: 60,000 + 10,000 handwritten digits of 28 × 28 pixels, 10 classes.

    Parameters
    ----------
    folder
        Holds the four published files, unpacked or gzipped; or is where torchvision keeps them, in ``MNIST/raw`` below it.
        ``~`` and ``$NAME`` are expanded.
    download
        Whether torchvision downloads them where there are none.
    """
    return _source(_published("MNIST", folder, download))


@entry(classes=10, side=28)
def fashion_mnist(*, folder: Folder = "data", download: bool = True) -> Source:
    """Fashion-MNIST: 60,000 + 10,000 pictures of clothes, 28 × 28 pixels, 10 classes.

    Parameters
    ----------
    folder
        Holds the four published files, unpacked or gzipped, as ``/usr/share/datasets/fashion-mnist`` does that Debian's
        package ``dataset-fashion-mnist`` brings; or is where torchvision keeps them, in ``FashionMNIST/raw`` below it. ``~``
        and ``$NAME`` are expanded.
    download
        Whether torchvision downloads them where there are none.
    """
    return _source(_published("FashionMNIST", folder, download), CLOTHES)


@entry(classes=10, side=32)
def cifar10(*, folder: Folder = "data", download: bool = True) -> Source:
    """CIFAR-10: 50,000 + 10,000 photographs of animals and vehicles, 32 × 32 pixels in colour, 10 classes.

    Parameters
    ----------
    folder
        Holds the published files of the version for Python, ``data_batch_1`` to ``5``, ``test_batch`` and ``batches.meta``;
        or is where torchvision keeps them, in ``cifar-10-batches-py`` below it. ``~`` and ``$NAME`` are expanded.
    download
        Whether torchvision downloads them where there are none.
    """
    _published("CIFAR10", folder, download)
    raw, _ = _found("CIFAR10", folder)
    return Source(_photographs(raw, train=True), _photographs(raw, train=False), ANIMALS_AND_VEHICLES)


def _found(name: str, folder: str) -> tuple[Path, str]:
    """Where the files of a dataset lie, or will lie, and what to do if they are not as they should be."""
    root = Path(os.path.expandvars(folder)).expanduser()
    here = any(_place(root, file, name) for file in DIGESTS[name])
    raw = root if here else root / PLACES[name]
    return raw, "put the published files there" if here else f"remove {raw} to load them"


def _published(name: str, folder: str, download: bool) -> dict[str, bytes]:
    """The files of a dataset by name, downloaded if there are none, each as it was published."""
    raw, remedy = _found(name, folder)
    if download and not raw.exists():
        _download(name, raw)
    return {file: _content(raw, file, name, remedy) for file in DIGESTS[name]}


def _source(contents: dict[str, bytes], class_names: tuple[str, ...] | None = None) -> Source:
    return Source(_images(contents, "train"), _images(contents, "t10k"), class_names)


def _photographs(raw: Path, train: bool) -> Images:
    """One part of CIFAR-10. Its files are pickled: torchvision reads them, once they are known to be the published ones."""
    from torchvision import datasets

    class Here(datasets.CIFAR10):
        base_folder = raw.name

    part = Here(root=raw.parent, train=train)
    return Images(np.ascontiguousarray(part.data.transpose(0, 3, 1, 2)), np.array(part.targets, np.int64))


def _download(name: str, raw: Path) -> None:
    """Load the files of a dataset; their folder appears when it has all of them, so a job that is killed leaves no half."""
    from torchvision import datasets

    try:
        raw.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(prefix=".partial.", dir=raw.parent) as partial:
            getattr(datasets, name)(root=partial, download=True)
            with suppress(OSError):  # Another job that needs the same files was faster.
                Path(partial, PLACES[name]).rename(raw)
    except (OSError, RuntimeError) as error:
        raise DataError(
            f"{name} cannot be downloaded: {' '.join(str(error).split())}; without a network, put its files, "
            f"{_files(name)}, into {raw}"
        ) from error


def _files(name: str) -> str:
    """The files of a dataset in words."""
    return f"{', '.join(DIGESTS[name])}, unpacked{' or gzipped' if name in GZIPPED else ''}"


def _place(folder: Path, file: str, name: str) -> Path | None:
    """Where a file of a dataset lies in a folder: unpacked, or else gzipped."""
    places = (folder / file, folder / f"{file}.gz") if name in GZIPPED else (folder / file,)
    return next((path for path in places if path.is_file()), None)


def _content(raw: Path, file: str, name: str, remedy: str) -> bytes:
    """One of the published files of a dataset, unpacked; a :class:`DataError` if it is missing, or differs by a byte."""
    path = _place(raw, file, name)
    if path is None:
        raise DataError(f"{raw / file}: is missing; {name} has {_files(name)}, in that folder; {remedy}")
    content = path.read_bytes()
    try:
        content = gzip.decompress(content) if path.suffix == ".gz" else content
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: is not the published file; it cannot be unpacked ({error}); {remedy}") from error
    if (found := hashlib.md5(content).hexdigest()) != DIGESTS[name][file]:
        raise DataError(f"{path}: is not the published file; its MD5 is {found}, not {DIGESTS[name][file]}; {remedy}")
    return content


def _images(contents: dict[str, bytes], part: str) -> Images:
    """The images and labels of one part; with the published bytes, the headers of the files are known."""
    x = np.frombuffer(contents[f"{part}-images-idx3-ubyte"], np.uint8, offset=16).reshape(-1, 1, 28, 28)
    return Images(x, np.frombuffer(contents[f"{part}-labels-idx1-ubyte"], np.uint8, offset=8).astype(np.int64))
