"""Means over points and seeds, against the same by hand."""

from __future__ import annotations

import numpy as np
import pytest

from resilience.outcomes import outcomes
from tests.library.test_comparisons import robustness_tables


def test_outcomes_are_means_over_points_and_seeds():
    tables = robustness_tables(0.1).assign(zero_gradient=False)
    tables["mean_change"] = np.arange(len(tables)) / len(tables)
    found = outcomes(tables, {"fc2": (1, 3)}, "epsilon", 20).set_index(["training", "draws"])
    assert set(found.index) == {("det", 1), ("map", 1), ("adv", 1), ("hmc", 10), ("hmc", 50)}
    rows = tables[(tables.training == "hmc") & (tables.draws == 50)]
    row = found.loc[("hmc", 50)]
    assert (row["seeds"], row["points"]) == (5, 60)
    assert row["right_attacked"] == pytest.approx((rows.prediction_attacked == rows.label).mean())
    assert 0 < row["right_attacked"] < row["right"]
    for name in ("mean_change", "softmax_robustness"):
        assert row[name] == pytest.approx(rows[name].mean())
    assert row["lrp_robustness"] == pytest.approx(rows["lrp_epsilon_layer3_top20"].mean())
    assert row["relevant"] == pytest.approx(rows["relevant_epsilon_layer3"].mean())


def test_a_rule_that_was_not_used_leaves_its_columns_empty():
    found = outcomes(robustness_tables(0.1).assign(zero_gradient=False, mean_change=0.1), {"fc2": (1, 3)}, "other", 20)
    assert found[["lrp_robustness", "relevant"]].isna().all(axis=None)
    assert found["softmax_robustness"].notna().all()
