"""Means over points and seeds, against the same by hand."""

from __future__ import annotations

import numpy as np
import pytest

from resilience import outcomes
from resilience.tables import Measured
from tests.library.test_comparisons import assign, robustness_tables, together, without


def predicted(measured: Measured, **values: object) -> Measured:
    """The same with other values in columns of the predictions."""
    return Measured(measured.maps, measured.predictions.assign(**values), measured.measures)


def outcomes_of(measured: Measured, explanation: str = "epsilon", **noise: str | None):
    """What the attacks did, by the overlap of the top pixels."""
    return outcomes.outcomes(measured, {"fc2": ("1", "3")}, explanation, "top20", {"pgd": None} | noise)


def test_outcomes_are_means_over_points_and_seeds():
    measured = robustness_tables(0.1)
    rising = np.arange(len(measured.predictions)) / len(measured.predictions)
    measured = predicted(measured, zero_gradient=False, mean_change=rising)
    found = outcomes_of(measured).set_index(["training", "draws"])
    assert set(found.index) == {("det", 1), ("map", 1), ("adv", 1), ("hmc", 10), ("hmc", 50)}
    rows = measured.predictions[(measured.predictions.training == "hmc") & (measured.predictions.draws == 50)]
    row = found.loc[("hmc", 50)]
    assert (row["seeds"], row["points"]) == (5, 60)
    assert (row["explanation"], row["measure"]) == ("epsilon", "top20")
    assert row["right_attacked"] == pytest.approx((rows.prediction_attacked == rows.label).mean())
    assert 0 < row["right_attacked"] < row["right"]
    for name in ("mean_change", "softmax_robustness"):
        assert row[name] == pytest.approx(rows[name].mean())
    maps = measured.maps[(measured.maps.training == "hmc") & (measured.maps.draws == 50)]
    output = maps[(maps.explanation == "epsilon") & (maps.layer == "3")]
    assert row["left"] == pytest.approx(output["top20"].mean())
    assert row["relevant"] == pytest.approx(output["relevant"].mean())


def test_an_explanation_that_was_not_made_leaves_its_columns_empty():
    found = outcomes_of(predicted(robustness_tables(0.1), zero_gradient=False, mean_change=0.1), "other")
    assert found[["left", "relevant"]].isna().all(axis=None)
    assert found["softmax_robustness"].notna().all()


def test_an_attack_stands_beside_noise_on_the_same_network():
    attacked = predicted(robustness_tables(0.1), zero_gradient=False, mean_change=0.1)
    noisy = predicted(assign(without(attacked, training="map"), attack="random"), softmax_robustness=0.9)
    found = outcomes_of(together(attacked, noisy), pgd="random", random="random")
    rows = found.set_index(["attack", "training", "draws"])
    assert rows.loc[("pgd", "hmc", 50), "softmax_robustness_noise"] == pytest.approx(0.9)
    assert rows.loc[("pgd", "hmc", 50), "softmax_robustness"] < 0.9
    assert rows.loc[("pgd", "hmc", 50), "left_noise"] == rows.loc[("random", "hmc", 50), "left"]
    assert rows.loc[("random", "hmc", 50), "left_noise"] == rows.loc[("random", "hmc", 50), "left"]
    assert np.isnan(rows.loc[("pgd", "map", 1), "left_noise"])
