"""Datasets that are made from others: each view against a slow one, pixel by pixel."""

from __future__ import annotations

import numpy as np
import pytest
import yaml

from resilience import catalog, data
from resilience.config import ConfigError, check
from resilience.data import DataError
from tests.conftest import ROOT

SCHEMA = yaml.safe_load((ROOT / "workflow/schemas/config.schema.yaml").read_text(encoding="utf-8"))


def images(count=6, channels=3, side=8):
    return np.random.default_rng(0).random((count, channels, side, side), dtype=np.float32)


def change(source, x, y=None, relevance=None, **options):
    make = catalog.bound("datasets", {"source": source, "of": "other", **options})
    mean = x.mean((0, 2, 3))
    return make(x=x, y=y, relevance=relevance, mean=mean, generator=np.random.default_rng(1))


@pytest.mark.parametrize("level", [1, 2, 8, 1024])
def test_saturation_is_the_formula(level):
    x = images()
    slow = [np.sign(2 * v - 1) * abs(2 * v - 1) ** (2 / level) / 2 + 0.5 for v in x.astype(float).ravel()]
    assert np.allclose(change("saturated", x, level=level).ravel(), slow, atol=1e-6)


def test_saturation_of_two_changes_nothing_and_of_much_leaves_two_values():
    x = images()
    assert np.allclose(change("saturated", x, level=2), x, atol=1e-6)
    assert set(np.round(np.unique(change("saturated", x, level=1e6)), 3)) == {0, 1}


@pytest.mark.parametrize("patches", [2, 4])
def test_shuffling_moves_whole_patches_of_each_image(patches):
    x, side = images(), 8 // patches
    shuffled = change("patch_shuffle", x, patches=patches)
    orders = []
    for before, after in zip(x, shuffled, strict=True):
        places = [(row, column) for row in range(0, 8, side) for column in range(0, 8, side)]
        cut = [before[:, row : row + side, column : column + side].tobytes() for row, column in places]
        found = [after[:, row : row + side, column : column + side].tobytes() for row, column in places]
        assert sorted(cut) == sorted(found)
        orders.append(tuple(cut.index(patch) for patch in found))
    assert len(set(orders)) > 1


def test_patches_that_do_not_fit_are_refused():
    with pytest.raises(DataError, match="cannot be cut into 3 × 3"):
        change("patch_shuffle", images(), patches=3)


@pytest.mark.parametrize("keep", ["rest", "top"])
def test_occlusion_replaces_the_most_relevant_pixels_or_all_others(keep):
    x, relevance = images(), np.random.default_rng(2).normal(size=(6, 3, 8, 8))
    found = change("occluded", x, relevance=relevance, by={}, share=0.25, keep=keep)
    mean = x.mean((0, 2, 3))
    for image, before, of_image in zip(found, x, relevance, strict=True):
        ranked = sorted(
            ((row, column) for row in range(8) for column in range(8)), key=lambda p: -abs(of_image[:, *p].sum())
        )
        for place in ranked:
            gone = (place in ranked[:16]) == (keep == "rest")
            assert np.allclose(image[:, *place], mean if gone else before[:, *place])


def test_ties_are_broken_at_random():
    x = images()
    found = change("occluded", x, relevance=np.zeros_like(x), by={}, share=0.5)
    gone = (found != x).any(1)
    assert (gone.sum((1, 2)) == 32).all()
    assert len({mask.tobytes() for mask in gone}) == len(gone)


def test_textures_fill_the_silhouette_and_agree_as_often_as_asked():
    x = np.zeros((2000, 1, 8, 8), np.float32)
    x[:, :, 1:7, 1:7] = 1
    y = np.arange(2000) % 10
    filled = change("texture_filled", x, y=y, agreement=0.75)
    assert ((filled > 0) == (x > 0)).all()
    # Two images of a class share their texture, up to a shift, or they do not: rows are all alike under texture 0.
    inside = filled[y == 0][:, 0, 1:7, 1:7]
    of_its_class = (inside == inside[:, :, :1]).all((1, 2)) & (inside[:, 0] != inside[:, 2]).any(1)
    assert abs(of_its_class.mean() - 0.75) < 0.15


def test_a_derived_dataset_has_the_splits_and_labels_of_its_source():
    parts = {split: (images(count), np.arange(count)) for split, count in zip(data.SPLITS, (5, 3, 4), strict=True)}
    source = {f"{split}.{key}": value for split, pair in parts.items() for key, value in zip("xy", pair, strict=True)}
    arrays = data.derive(source, {}, lambda x, **_: 1 - x, "negative")
    assert arrays.keys() == source.keys()
    for split, (x, y) in parts.items():
        assert np.array_equal(arrays[f"{split}.x"], 1 - x)
        assert np.array_equal(arrays[f"{split}.y"], y)


@pytest.mark.parametrize("wrong", [lambda x, **_: x[:1], lambda x, **_: x + 1, lambda x, **_: x * np.nan])
def test_a_change_that_gives_no_images_is_refused(wrong):
    source = {f"{split}.{key}": value for split in data.SPLITS for key, value in (("x", images()), ("y", np.arange(6)))}
    with pytest.raises(DataError, match="negative: changed images"):
        data.derive(source, {}, wrong, "negative")


DERIVED = {
    "a circle": ({"source": "saturated", "of": "one", "level": 8}, "two is made from one is made from two"),
    "a level of nothing": (
        {"source": "saturated", "of": "digits", "level": 0},
        "datasets.two.level: 0 must be greater than 0",
    ),
    "patches that do not divide": ({"source": "patch_shuffle", "of": "digits", "patches": 3}, "3 does not divide 8 pixels"),
    "no such source": ({"source": "saturated", "of": "digit", "level": 8}, "did you mean digits"),
    "splits of its own": ({"source": "saturated", "of": "digits", "level": 8, "train_points": 100}, "take the key out"),
    "an explanation that is not there": (
        {
            "source": "occluded",
            "of": "digits",
            "share": 0.3,
            "by": {"network": "fc2", "training": "det", "explanation": "epsilom"},
        },
        "datasets.two.by.explanation: 'epsilom' is not one of the explanations; did you mean epsilon",
    ),
    "a seed that is not there": (
        {
            "source": "occluded",
            "of": "digits",
            "share": 0.3,
            "by": {"network": "fc2", "training": "det", "explanation": "epsilon", "seed": 99},
        },
        "99 is not one of the seeds",
    ),
    "trained on nothing": (
        {"source": "saturated", "of": "digits", "level": 8, "trained_on": "three"},
        "'three' is not one of the datasets",
    ),
}


@pytest.mark.parametrize(("two", "says"), DERIVED.values(), ids=DERIVED)
def test_what_cannot_be_derived_is_refused_before_anything_runs(two, says):
    config = yaml.safe_load((ROOT / "tests/config.yaml").read_text(encoding="utf-8"))
    one = {"source": "saturated", "of": "two", "level": 8, "test_points": 20} if says.startswith("two") else {}
    config["datasets"] |= {"two": {**two, "test_points": 20}} | ({"one": one} if one else {})
    with pytest.raises(ConfigError) as refused:
        check(config, SCHEMA)
    assert says in str(refused.value)
