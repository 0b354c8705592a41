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
}


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
    return _published("MNIST", folder, download)


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
    return _published("FashionMNIST", folder, download)


def _published(name: str, folder: str, download: bool) -> Source:
    root = Path(os.path.expandvars(folder)).expanduser()
    raw = root if any(_place(root, file) for file in DIGESTS[name]) else root / name / "raw"
    if download and not raw.exists():
        _download(name, raw)
    remedy = "put the published files there" if raw == root else f"remove {raw} to load them"
    contents = {file: _content(raw, file, name, remedy) for file in DIGESTS[name]}
    return Source(_images(contents, "train"), _images(contents, "t10k"))


def _download(name: str, raw: Path) -> None:
    """Load the files of a dataset; their folder appears when it has all of them, so a job that is killed leaves no half."""
    from torchvision import datasets

    try:
        raw.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(prefix=".partial.", dir=raw.parent) as partial:
            getattr(datasets, name)(root=partial, download=True)
            with suppress(OSError):  # Another job that needs the same files was faster.
                Path(partial, name, "raw").rename(raw)
    except (OSError, RuntimeError) as error:
        raise DataError(
            f"{name} cannot be downloaded: {' '.join(str(error).split())}; without a network, put its files, "
            f"{', '.join(DIGESTS[name])}, unpacked or gzipped, into {raw}"
        ) from error


def _place(folder: Path, file: str) -> Path | None:
    """Where a file lies in a folder: unpacked, or else gzipped."""
    return next((path for path in (folder / file, folder / f"{file}.gz") if path.is_file()), None)


def _content(raw: Path, file: str, name: str, remedy: str) -> bytes:
    """One of the published files of a dataset, unpacked; a :class:`DataError` if it is missing, or differs by a byte."""
    path = _place(raw, file)
    if path is None:
        files = ", ".join(DIGESTS[name])
        raise DataError(f"{raw / file}: is missing; {name} has {files}, unpacked or gzipped, in that folder; {remedy}")
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
