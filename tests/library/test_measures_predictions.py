"""Measures of predictions, where the answer is known and against slow forms."""

from __future__ import annotations

import math

import numpy as np

from resilience.measures import predictions

BEFORE = np.array([[0.9, 0.1], [0.2, 0.8], [0.4, 0.6], [0.3, 0.7]], dtype=np.float32)
AFTER = np.array([[0.3, 0.7], [0.2, 0.8], [0.7, 0.3], [0.6, 0.4]], dtype=np.float32)
LABELS = np.array([0, 1, 0, 0])


def images() -> tuple[np.ndarray, np.ndarray]:
    first, second = np.random.default_rng(0).random((2, 3, 2, 4, 5)).astype(np.float32)
    return first, second


def test_softmax_robustness_is_zero_between_opposite_certainties():
    one, other, half = np.array([[1.0, 0.0]]), np.array([[0.0, 1.0]]), np.array([[0.5, 0.5]])
    assert predictions.softmax_robustness(one, other) == 0
    assert predictions.softmax_robustness(one, one) == 1
    assert predictions.softmax_robustness(one, half) == 0.5


def test_softmax_robustness_is_one_minus_the_largest_change():
    expected = [
        1 - max(abs(float(p) - float(q)) for p, q in zip(*pair, strict=True)) for pair in zip(BEFORE, AFTER, strict=True)
    ]
    assert np.array_equal(predictions.softmax_robustness(BEFORE, AFTER), expected)


def test_accuracy_is_judged_after_the_attack():
    assert list(predictions.accuracy(AFTER, LABELS)) == [0, 1, 1, 1]


def test_conditional_accuracy_has_no_value_where_the_clean_prediction_is_wrong():
    found = predictions.conditional_accuracy(BEFORE, AFTER, LABELS)
    assert np.array_equal(found, [0, 1, np.nan, np.nan], equal_nan=True)


def test_of_equally_probable_classes_the_first_is_predicted():
    assert list(predictions.accuracy(np.array([[0.5, 0.5]]), np.array([0]))) == [1]


def test_changes_are_their_norms():
    x, attacked = images()
    for row, pair in enumerate(zip(x, attacked, strict=True)):
        change = [float(b) - float(a) for a, b in zip(*(part.ravel() for part in pair), strict=True)]
        assert predictions.largest_change(x, attacked)[row] == max(map(abs, change))
        assert math.isclose(predictions.mean_change(x, attacked)[row], sum(map(abs, change)) / len(change))
        assert math.isclose(predictions.l2_change(x, attacked)[row], math.sqrt(sum(one**2 for one in change)))


def test_what_has_not_changed_has_no_size():
    x, _ = images()
    for measure in (predictions.largest_change, predictions.mean_change, predictions.l2_change):
        assert list(measure(x, x)) == [0, 0, 0]


def test_every_measure_is_float64():
    x, attacked = images()
    of_images = [
        measure(x, attacked) for measure in (predictions.largest_change, predictions.mean_change, predictions.l2_change)
    ]
    of_probabilities = [
        predictions.softmax_robustness(BEFORE, AFTER),
        predictions.accuracy(AFTER, LABELS),
        predictions.conditional_accuracy(BEFORE, AFTER, LABELS),
    ]
    assert {found.dtype for found in of_images + of_probabilities} == {np.dtype(np.float64)}
