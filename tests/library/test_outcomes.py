"""Means over points and seeds, against the same by hand."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from resilience.outcomes import outcomes
from tests.library.test_comparisons import robustness_tables


def test_outcomes_are_means_over_points_and_seeds():
    tables = robustness_tables(0.1).assign(zero_gradient=False)
    tables["mean_change"] = np.arange(len(tables)) / len(tables)
    found = outcomes(tables, {"fc2": (1, 3)}, "epsilon", 20, {"pgd": None}).set_index(["training", "draws"])
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
    tables = robustness_tables(0.1).assign(zero_gradient=False, mean_change=0.1)
    found = outcomes(tables, {"fc2": (1, 3)}, "other", 20, {"pgd": None})
    assert found[["lrp_robustness", "relevant"]].isna().all(axis=None)
    assert found["softmax_robustness"].notna().all()


def test_an_attack_stands_beside_noise_on_the_same_network():
    attacked = robustness_tables(0.1).assign(zero_gradient=False, mean_change=0.1)
    noisy = attacked[attacked["training"] != "map"].assign(attack="random", softmax_robustness=0.9)
    tables = pd.concat([attacked, noisy])
    found = outcomes(tables, {"fc2": (1, 3)}, "epsilon", 20, {"pgd": "random", "random": "random"})
    rows = found.set_index(["attack", "training", "draws"])
    assert rows.loc[("pgd", "hmc", 50), "softmax_robustness_noise"] == pytest.approx(0.9)
    assert rows.loc[("pgd", "hmc", 50), "softmax_robustness"] < 0.9
    assert rows.loc[("random", "hmc", 50), "lrp_robustness_noise"] == rows.loc[("random", "hmc", 50), "lrp_robustness"]
    assert np.isnan(rows.loc[("pgd", "map", 1), "lrp_robustness_noise"])
