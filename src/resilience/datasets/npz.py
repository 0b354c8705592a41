"""Datasets of one's own, as arrays in a file; nothing in it is trusted."""

from __future__ import annotations

from typing import Literal

import numpy as np

from resilience.artifacts import Arrays
from resilience.catalog import entry
from resilience.data import DataError, Images, Source
from resilience.datasets.listed_classes import names_of
from resilience.parameters import ClassName, OwnFile

#: An array may unpack to so many bytes, or to so many times what it takes in the file, whichever is more.
LARGEST_UNSEEN = 2**28
MOST_TIMES = 100


@entry()
def npz(
    *,
    file: OwnFile,
    channels: Literal["first", "last"] | None = None,
    classes: list[ClassName] | OwnFile | None = None,
) -> Source:
    """Arrays of your own: ``x_train``, ``y_train``, ``x_test`` and ``y_test`` in a file of :func:`numpy.savez`.

    Parameters
    ----------
    file
        The ``.npz`` file. Images are [N, H, W] or [N, C, H, W], as uint8 or as floats in [0, 1]; labels are the integers
        0, 1, 2 … [N]. Every class has at least two training images and one test image. Other arrays do not matter.
    channels
        ``first`` for images [N, C, H, W], ``last`` for [N, H, W, C]. Without a value they come first, but images
        whose last axis looks rather like the channels, at most 4 where the second is not 1, 3 or 4, are refused.
    classes
        All classes of the networks on these images, in their order, where the images show only some of them: a list of
        names, or a text file with a name on each line. Labels are their places in it, from 0 on, and may leave some out.

    Raises
    ------
    DataError
        If it cannot be read, or an array is missing or not as described.
    """
    arrays = {name: _array(file, name) for name in ("x_train", "y_train", "x_test", "y_test")}
    train, test = (_images(arrays, part, file, channels) for part in ("train", "test"))
    if train.x.shape[1:] != test.x.shape[1:]:
        raise DataError(
            f"{file}: x_test has images of shape {test.x.shape[1:]}, but x_train {train.x.shape[1:]}; both must be equal"
        )
    names, seen = names_of(classes) if classes else None, np.unique(train.y)
    if names and not (len(seen) >= 2 and seen[0] >= 0 and seen[-1] < len(names)):
        raise DataError(
            f"{file}: y_train has the classes {_some(seen)}; expected at least two from 0 to {len(names) - 1}, as "
            f"{len(names)} are listed"
        )
    if not names and (len(seen) < 2 or not np.array_equal(seen, np.arange(len(seen)))):
        raise DataError(
            f"{file}: y_train has the classes {_some(seen)}; expected 0, 1, … without a gap, at least two; if these are "
            "some of a network's, list all under `classes`"
        )
    if not np.array_equal(np.unique(test.y), seen):
        raise DataError(
            f"{file}: y_test has the classes {_some(np.unique(test.y))}; expected those of y_train, {_some(seen)}"
        )
    if rare := [int(label) for label in seen if (train.y == label).sum() < 2]:
        raise DataError(f"{file}: y_train has class {rare[0]} once; expected at least twice, to train and to validate")
    return Source(train, test, names)


def _array(file: str, name: str) -> np.ndarray:
    """An array of the file; nothing is unpickled."""
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


def _images(arrays: Arrays, part: str, file: str, channels: str | None) -> Images:
    """The images and labels of one part of the file, each alone as it should be."""
    x, y = arrays[f"x_{part}"], arrays[f"y_{part}"]
    if x.ndim not in (3, 4) or 0 in x.shape:
        raise DataError(f"{file}: x_{part} has shape {x.shape}; expected [N, C, H, W] or [N, H, W], none of them zero")
    if channels is None and x.ndim == 4 and x.shape[1] not in (1, 3, 4) and x.shape[3] <= 4:
        _, count, height, width = x.shape
        raise DataError(
            f"{file}: x_{part} has shape {x.shape}, as [N, C, H, W] {count} channels of {height} × {width} pixels; "
            "add `channels: last` to the dataset if it is [N, H, W, C], or else `channels: first`"
        )
    if x.dtype.kind != "f" and x.dtype != np.uint8:
        raise DataError(f"{file}: x_{part} has type {x.dtype}; expected uint8, or floats in [0, 1]")
    if x.dtype.kind == "f" and not ((x >= 0) & (x <= 1)).all():
        raise DataError(
            f"{file}: x_{part} has values from {x.min():g} to {x.max():g}; expected floats in [0, 1], or uint8 in 0 … 255"
        )
    if x.dtype == np.uint8 and x.max() == 1:
        raise DataError(f"{file}: x_{part} is uint8 with values up to 1 of 255; if 1 is white, save x_{part}.astype(float)")
    if y.dtype.kind not in "iu" or y.shape != x.shape[:1]:
        raise DataError(f"{file}: y_{part} is {y.dtype} {y.shape}; expected integers {x.shape[:1]}, one for each image")
    if x.ndim == 3:
        x = x[:, None]
    elif channels == "last":
        x = x.transpose(0, 3, 1, 2)
    return Images(np.ascontiguousarray(x, np.uint8 if x.dtype == np.uint8 else np.float32), y.astype(np.int64))


def _some(classes: np.ndarray) -> str:
    return ", ".join(map(str, classes[:10])) + (" …" if len(classes) > 10 else "")
