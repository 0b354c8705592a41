"""Datasets as their authors published them, through torchvision, byte for byte."""

from __future__ import annotations

import hashlib
import os
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
}


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
    """Fashion-MNIST: 60,000 + 10,000 pictures of clothes, 28 × 28 pixels, 10 classes.

    Parameters
    ----------
    folder
        Where torchvision keeps its files: those of Fashion-MNIST lie in ``FashionMNIST/raw`` below it. ``~`` and ``$NAME``
        are expanded.
    """
    return _torchvision("FashionMNIST", folder, download)


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
