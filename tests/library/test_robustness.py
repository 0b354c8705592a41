"""Robustness measures against a brute-force count."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from resilience import robustness


def brute_force_top(values: list[float], count: int) -> set[int]:
    """The pixels that fewer than ``count`` others precede: those of larger size, or of the same size and smaller index."""

    def precedes(i: int, j: int) -> bool:
        return abs(values[i]) > abs(values[j]) or (abs(values[i]) == abs(values[j]) and i < j)

    return {j for j in range(len(values)) if sum(precedes(i, j) for i in range(len(values))) < count}


MAPS = arrays.arrays(np.float32, (3, 1, 4, 5), elements=st.sampled_from([-2.0, -1.0, -0.5, 0.0, 0.5, 1.0, 2.0, 3.0]))


@settings(max_examples=100, deadline=None)
@given(MAPS, MAPS, st.sampled_from([1, 5, 10, 20, 33, 50, 100]))
def test_lrp_robustness_equals_a_count(clean, attacked, percent):
    count = max(1, int(20 * percent / 100 + 1e-9))
    expected = []
    for before, after in zip(clean, attacked, strict=True):
        tops = [brute_force_top(list(part.ravel()), count) for part in (before, after)]
        assert all(len(top) == count for top in tops)
        expected.append(len(tops[0] & tops[1]) / count)
    assert np.allclose(robustness.lrp_robustness(clean, attacked, percent), expected, atol=1e-15)


@settings(max_examples=50, deadline=None)
@given(MAPS, MAPS, st.sampled_from([10, 20, 30]))
def test_extreme_halves_are_as_many_of_either_end(clean, attacked, percent):
    count = max(1, int(20 * percent / 2 / 100 + 1e-9))
    expected = []
    for before, after in zip(clean, attacked, strict=True):
        ends = []
        for part in (before, after):
            order = sorted(range(20), key=lambda i, part=part: (part.ravel()[i], i))
            ends.append({*order[:count], *order[-count:]})
        expected.append(len(ends[0] & ends[1]) / (2 * count))
    found = robustness.lrp_robustness(clean, attacked, percent, "extreme_halves")
    assert np.allclose(found, expected, atol=1e-15)


def test_a_pixel_that_turns_its_sign_stays_among_the_extreme_halves():
    clean = np.array([[[[5.0, -5.0, 0.1, 0.0]]]])
    assert robustness.lrp_robustness(clean, -clean, 50, "extreme_halves")[0] == 1


@pytest.mark.parametrize(
    ("pixels", "percent", "count"), [(784, 20, 156), (64, 20, 12), (64, 1, 1), (100, 29, 29), (10, 100, 10)]
)
def test_number_of_top_pixels(pixels, percent, count):
    assert robustness.number_of_top_pixels(pixels, percent) == count


def test_chance_level_is_k():
    generator = np.random.default_rng(0)
    first, second = generator.normal(size=(2, 2000, 1, 10, 10))
    assert abs(robustness.lrp_robustness(first, second, 20).mean() - 0.2) < 0.01


def test_softmax_robustness_is_zero_between_opposite_certainties():
    one, other, half = np.array([[1.0, 0.0]]), np.array([[0.0, 1.0]]), np.array([[0.5, 0.5]])
    assert robustness.softmax_robustness(one, other) == 0
    assert robustness.softmax_robustness(one, one) == 1
    assert robustness.softmax_robustness(one, half) == 0.5


def test_table_has_a_row_for_each_point():
    x = np.zeros((2, 1, 2, 2), dtype=np.float32)
    attacked = x.copy()
    attacked[0, 0, 0] = [0.5, 0.1]
    relevance = np.array([[[[4, 3], [2, 0]]], [[[1, 2], [3, 4]]]], dtype=np.float32)
    table = robustness.table(
        {"x": x, "y": np.array([0, 1]), "index": np.array([7, 9])},
        {"x": attacked, "zero_gradient": np.array([False, True])},
        (np.array([[0.9, 0.1], [0.2, 0.8]]), np.array([[0.3, 0.7], [0.2, 0.8]])),
        {("epsilon", 5): (relevance, relevance[:, :, ::-1])},
        [25, 50],
        "absolute",
        {"training": "det"},
    )
    assert list(table["index"]) == [7, 9]
    assert list(table["training"]) == ["det", "det"]
    assert list(table["prediction"]) == [0, 1]
    assert list(table["prediction_attacked"]) == [1, 1]
    assert np.allclose(table["softmax_robustness"], [0.4, 1.0])
    assert np.allclose(table["largest_change"], [0.5, 0])
    assert np.allclose(table["mean_change"], [0.15, 0])
    assert list(table["zero_gradient"]) == [False, True]
    assert list(table["relevant_epsilon_layer5"]) == [0.75, 1.0]
    assert list(table["lrp_epsilon_layer5_top25"]) == [0, 0]
    assert list(table["lrp_epsilon_layer5_top50"]) == [0.0, 0.0]
