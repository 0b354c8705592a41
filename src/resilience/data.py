"""Images with labels, their splits, and the test points that are attacked and explained.

A dataset is a set of images in [0, 1] with integer labels, split into train, validation and test. The test split serves
the measurements and the figures; whatever is selected is selected on the validation split. Where datasets come from stands
in :mod:`resilience.datasets`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from resilience.artifacts import Arrays
from resilience.seeding import generator_of

SPLITS = ("train", "validation", "test")
#: Directions along the data manifold at the test images, where the source knows them.
TANGENTS = "test.tangents"
#: The key of the names of the classes in the header of a file.
CLASS_NAMES = "class_names"


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
    """What a source delivers: images to learn from and images to test on, and what it knows beside them.

    ``class_names`` is what the classes are called, and ``tangents`` [N, D, C · H · W] the orthonormal directions along the
    data manifold at each test image, where that is known.
    """

    train: Images
    test: Images
    class_names: tuple[str, ...] | None = None
    tangents: np.ndarray | None = None


def with_test_split(images: Images, test_share: float, name: str) -> Source:
    """Images that come without a test split, separated into those to learn from and those to test on.

    Parameters
    ----------
    images
        All images.
    test_share
        Share of each class that is held out to test on, in (0, 1).
    name
        Name of the source: the seed of the choice.

    Returns
    -------
    Source
        Both parts, in the order of ``images``.

    Raises
    ------
    DataError
        If nothing would be left of a class to learn from.
    """
    train, test = _split_by_class(images.y, test_share, name, "test")
    return Source(images[train], images[test])


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
        ``{train, validation, test}.{x, y}``, and ``test.tangents`` if the source knows the data manifold.

    Raises
    ------
    DataError
        If images are not grey or RGB [N, C, H, W], all of one size; or if nothing would be left of a class to learn from, or
        it has fewer points than were asked for.
    """
    _refuse_unfit_images(source, name)
    remainder, held_out = _split_by_class(source.train.y, validation, name, "validation")
    if train_points is not None:
        remainder = remainder[balanced_points(source.train.y[remainder], train_points, name, "train")]
    parts = {"train": source.train[remainder], "validation": source.train[held_out], "test": source.test}
    found = {f"{part}.{key}": getattr(images, key) for part, images in parts.items() for key in ("x", "y")}
    return found if source.tangents is None else {**found, TANGENTS: source.tangents}


def _refuse_unfit_images(source: Source, name: str) -> None:
    """Refuse images that are no batch of grey or RGB images of one size."""
    place = f"datasets.{name}.source"
    for part, images in (("train", source.train), ("test", source.test)):
        if images.x.ndim != 4:
            raise DataError(f"{place}: the {part} images have shape {images.x.shape}; expected [N, C, H, W]")
        if (channels := images.x.shape[1]) not in (1, 3):
            raise DataError(
                f"{place}: the {part} images have {channels} channels; expected 1, grey, or 3, red, green and blue, without "
                "transparency and further bands"
            )
    if source.train.x.shape[1:] != source.test.x.shape[1:]:
        (_, *train), (_, *test) = source.train.x.shape, source.test.x.shape
        raise DataError(f"{place}: the test images are {test}, the train images {train} (C, H, W); all must be of one size")


def class_names_of(
    labels: np.ndarray, given: Sequence[str] | None, known: Sequence[str] | None, name: str
) -> list[str] | None:
    """What the classes are called: as a config says, or else as the source does; None where neither does.

    Parameters
    ----------
    labels
        Of all training images, [N].
    given, known
        The names by the config and by the source, one for each class 0, 1, 2 …; a source that has names may have more
        than there are among the labels.
    name
        Name of the dataset.

    Raises
    ------
    DataError
        If there are more or fewer names than classes.
    """
    names = given if given is not None else known
    if names is None:
        return None
    if len(names) != (classes := len(known) if known else len(np.unique(labels))):
        raise DataError(
            f"datasets.{name}.class_names: {len(names)} names for {classes} classes; give each class one, not {names}"
        )
    return list(names)


def about_classes(names: list[str] | None) -> dict[str, Any]:
    """What the header of a file says of the classes: nothing where they have no names."""
    return {CLASS_NAMES: names} if names else {}


def derive(source: Arrays, relevance: Arrays, change: Callable[..., np.ndarray], name: str) -> Arrays:
    """A dataset made from another one: the same splits and labels, with images that are changed.

    Parameters
    ----------
    source
        ``{train, validation, test}.{x, y}``; see :func:`split`.
    relevance
        ``{train, validation, test}.relevance`` of an explanation of these images, if the change asks for it.
    change
        Gets ``x`` [N, C, H, W] in [0, 1], ``y`` [N], ``relevance``, the ``mean`` [C] of the training images and a
        ``generator`` by name, and returns images of the same shape in [0, 1].
    name
        Name of the new dataset: with the split the seed of what is random.

    Returns
    -------
    dict
        ``{train, validation, test}.{x, y}``.

    Raises
    ------
    DataError
        If the changed images are not of that shape, or not in [0, 1].
    """
    mean = mean_of_training(source)
    found: Arrays = {}
    for part in SPLITS:
        x, y = unit_interval(source[f"{part}.x"]), source[f"{part}.y"]
        known = {"x": x, "y": y, "relevance": relevance.get(f"{part}.relevance"), "mean": mean}
        changed = np.asarray(change(**known, generator=generator_of(name, part)), np.float32)
        if changed.shape != x.shape:
            raise DataError(f"{name}: changed images have shape {changed.shape}, the images {x.shape}")
        if not (np.isfinite(changed).all() and changed.min() >= 0 and changed.max() <= 1):
            raise DataError(f"{name}: changed images are not all in [0, 1]")
        found |= {f"{part}.x": changed, f"{part}.y": y}
    return found


def mean_of_training(source: Arrays) -> np.ndarray:
    """The mean of each channel of the training images of a dataset (see :func:`split`), float32 [C] in [0, 1]."""
    return unit_interval(source["train.x"]).mean((0, 2, 3), dtype=np.float64).astype(np.float32)


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


def _split_by_class(labels: np.ndarray, share: float, *identity: str) -> tuple[np.ndarray, np.ndarray]:
    """Indices of (what remains, what is held out): the same share of each class, at least one point on either side."""
    generator = generator_of(*identity)
    held_out = []
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        count = max(1, round(share * len(members)))
        if count >= len(members):
            raise DataError(
                f"{identity[0]}: of class {label}, {count} of {len(members)} points would be held out ({identity[-1]}), and"
                " none would be left to learn from; hold out a smaller share or bring more points"
            )
        held_out.append(generator.choice(members, count, replace=False))
    chosen = np.sort(np.concatenate(held_out))
    return np.setdiff1d(np.arange(len(labels)), chosen), chosen
