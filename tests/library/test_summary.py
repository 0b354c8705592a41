"""One table of all measures, against means by hand."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from resilience import summary
from resilience.comparisons.statistics import mean
from resilience.intervals import interval
from tests.library.test_comparisons import only, robustness_tables

PLACE = {"dataset": "digits", "network": "fc2", "training": "hmc", "attack": "pgd", "draws": 50}


@pytest.fixture(scope="module")
def measured():
    return robustness_tables(0.1, seeds=3, points=20)


@pytest.fixture(scope="module")
def clean():
    """A table of explanations and one of networks, at the clean inputs."""
    generator = np.random.default_rng(0)
    point = {**PLACE, "attack": "clean", "seed": np.repeat([0, 1], 10), "index": np.tile(np.arange(10), 2)}
    of_explanations = {"explanation": "epsilon", "layer": "3", "deletion": generator.normal(size=20)}
    return [pd.DataFrame(point | of_explanations), pd.DataFrame(point | {"norm": generator.normal(size=20)})]


def test_every_measure_of_every_explanation_has_a_row(measured, clean):
    tables = [measured.maps, measured.predictions, *clean]
    found = summary.summarise(tables, ["top20", "deletion", "norm"])
    assert list(found) == [*summary.SETTING, "measure", "mean", "low", "high", "seeds", "points"]
    rows = {(row.attack, row.explanation, str(row.layer), row.measure) for row in found.itertuples()}
    of_maps = {("pgd", name, layer, key) for name in ("epsilon", "gamma") for layer in "13" for key in ("relevant", "top20")}
    of_clean = {("clean", "epsilon", "3", "deletion"), ("clean", "", "", "norm")}
    assert rows == of_maps | of_clean | {("pgd", "", "", "softmax_robustness")}
    assert not found.duplicated([*summary.SETTING, "measure"]).any()


def test_means_and_intervals_count_points_and_seeds(measured):
    found = summary.summarise([measured.predictions, measured.maps], ["top20"], 0.9)
    row = only(found, **PLACE, explanation="gamma", layer="1", measure="top20")
    table = measured.of("gamma", "1")
    values = table[(table.training == "hmc") & (table.draws == 50)].pivot(index="seed", columns="index", values="top20")
    assert row["mean"] == pytest.approx(values.to_numpy().mean())
    expected = interval(mean(values.to_numpy()), 0.9)
    assert (row["low"], row["high"]) == pytest.approx((expected.low, expected.high))
    assert (row["seeds"], row["points"]) == (3, 20)
    wider = summary.summarise([measured.maps], ["top20"], 0.99)
    wide = only(wider, **PLACE, explanation="gamma", layer="1", measure="top20")
    assert wide["low"] < row["low"] < row["mean"] < row["high"] < wide["high"]


def test_points_without_a_value_do_not_count(measured):
    lacking = measured.maps.copy()
    lacking.loc[(lacking["index"] < 5) & (lacking["seed"] == 1), "top20"] = np.nan
    lacking.loc[lacking["index"] == 7, "top20"] = np.nan
    here = lacking[(lacking.training == "hmc") & (lacking.draws == 50)]
    here = here[(here.explanation == "epsilon") & (here.layer == "3")]
    row = only(summary.summarise([lacking], ["top20"]), **PLACE, explanation="epsilon", layer="3", measure="top20")
    assert row["mean"] == pytest.approx(here["top20"].mean())
    assert (row["seeds"], row["points"]) == (3, 19)


def test_a_measure_that_has_no_value_anywhere_has_no_row(measured):
    found = summary.summarise([measured.maps.assign(top20=np.nan)], ["top20", "unknown"])
    assert set(found["measure"]) == {"relevant"}
