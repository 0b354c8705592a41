from __future__ import annotations

import numpy as np
import pytest

from resilience import data
from resilience.data import DataError, Images, Source
from resilience.datasets.half_moons import half_moons


def source_of(counts: list[int]) -> Source:
    y = np.repeat(np.arange(len(counts)), counts)
    x = np.arange(len(y), dtype=np.float32)[:, None, None, None]
    return Source(Images(x, y), Images(x[:3], y[:3]))


def test_split_keeps_every_point_once_and_every_class_in_each_part():
    arrays = data.split(source_of([50, 30, 20]), 0.2, None, "name")
    values = np.concatenate([arrays["train.x"], arrays["validation.x"]]).ravel()
    assert sorted(values) == list(range(100))
    assert list(np.bincount(arrays["validation.y"])) == [10, 6, 4]
    assert len(arrays["test.x"]) == 3


def test_split_follows_from_the_name_of_the_dataset():
    first, second, other = (data.split(source_of([50, 50]), 0.2, None, name) for name in ("a", "a", "b"))
    assert np.array_equal(first["validation.x"], second["validation.x"])
    assert not np.array_equal(first["validation.x"], other["validation.x"])


def test_train_points_are_balanced():
    arrays = data.split(source_of([50, 30, 40]), 0.1, 60, "name")
    assert list(np.bincount(arrays["train.y"])) == [20, 20, 20]
    assert not set(arrays["train.x"].ravel()) & set(arrays["validation.x"].ravel())


def test_points_are_balanced_distinct_and_sorted_by_class():
    labels = np.array([0, 1, 2] * 20)
    index = data.balanced_points(labels, 30, "name", "points")
    assert len(set(index)) == 30
    assert list(labels[index]) == [0] * 10 + [1] * 10 + [2] * 10
    assert np.array_equal(index, data.balanced_points(labels, 30, "name", "points"))
    assert not np.array_equal(index, data.balanced_points(labels, 30, "name", "other"))


def test_every_point_is_as_likely():
    labels = np.array([0, 1] * 50)
    counts = np.zeros(100)
    for number in range(400):
        counts[data.balanced_points(labels, 20, str(number))] += 1
    # Each is drawn with probability 0.2: 80 times of 400, with a standard deviation of 8.
    assert counts.min() > 80 - 40
    assert counts.max() < 80 + 40


@pytest.mark.parametrize(
    ("count", "message"), [(10, "cannot be balanced over 3 classes"), (90, "class 0 has 20 points, 30")]
)
def test_points_that_cannot_be_balanced_are_refused(count, message):
    with pytest.raises(DataError, match=message):
        data.balanced_points(np.array([0, 1, 2] * 20), count, "name")


def test_unit_interval():
    assert np.array_equal(data.unit_interval(np.array([0, 255], dtype=np.uint8)), np.array([0, 1], dtype=np.float32))
    assert np.array_equal(data.unit_interval(np.array([0.5], dtype=np.float32)), np.array([0.5], dtype=np.float32))


@pytest.mark.parametrize(("sizes", "share"), [([50, 1], 0.1), ([50, 50], 0.995), ([3, 3], 0.9)])
def test_a_split_that_leaves_nothing_to_learn_from_is_refused(sizes, share):
    images = source_of(sizes).train
    with pytest.raises(DataError, match=r"name: of class \d, (\d+) of \1 points would be held out \(test\), and none"):
        data.with_test_split(images, share, "name")
    with pytest.raises(DataError, match=r"would be held out \(validation\)"):
        data.split(Source(images, images), share, None, "name")


@pytest.mark.parametrize(("points", "share"), [(6, 0.2), (6, 0.4), (20, 0.05)])
def test_as_few_half_moons_as_the_config_allows_can_be_split(points, share):
    parts = data.split(half_moons(points=points, test_share=share), 0.1, None, "name")
    assert all(set(parts[f"{part}.y"]) == {0, 1} for part in ("train", "validation", "test"))


@pytest.mark.parametrize(
    ("train", "test", "said"),
    [
        ((6, 4, 8, 8), (6, 4, 8, 8), r"the train images have 4 channels; expected 1, grey, or 3, red, green and blue"),
        ((6, 3, 8, 8), (6, 2, 8, 8), r"the test images have 2 channels"),
        ((6, 8, 8), (6, 8, 8), r"the train images have shape \(6, 8, 8\); expected \[N, C, H, W\]"),
        (
            (6, 3, 8, 8),
            (6, 3, 9, 8),
            r"the test images are \[3, 9, 8\], the train images \[3, 8, 8\] .*; all must be of one size",
        ),
        ((6, 3, 8, 8), (6, 1, 8, 8), r"the test images are \[1, 8, 8\], the train images \[3, 8, 8\]"),
    ],
)
def test_images_of_the_wrong_size_or_number_of_channels_are_refused_by_key(train, test, said):
    labels = np.arange(6) % 2
    source = Source(*(Images(np.zeros(shape, np.float32), labels) for shape in (train, test)))
    with pytest.raises(DataError, match=rf"^datasets\.own\.source: {said}"):
        data.split(source, 0.1, None, "own")


def test_classes_have_the_names_of_the_config_or_else_those_of_the_source():
    labels = np.array([0, 1, 2] * 4)
    assert data.class_names_of(labels, None, None, "own") is None
    assert data.class_names_of(labels, None, ("ape", "bee", "cat"), "own") == ["ape", "bee", "cat"]
    assert data.class_names_of(labels, ["a", "b", "c"], ("ape", "bee", "cat"), "own") == ["a", "b", "c"]
    assert (data.about_classes(None), data.about_classes(["a", "b"])) == ({}, {"class_names": ["a", "b"]})


@pytest.mark.parametrize("names", [["ape", "bee"], ["ape", "bee", "cat", "dog"]])
def test_names_that_do_not_match_the_classes_are_refused(names):
    with pytest.raises(DataError, match=rf"^datasets\.own\.class_names: {len(names)} names for 3 classes; give each"):
        data.class_names_of(np.array([0, 1, 2] * 4), names, None, "own")
