"""Statistics against scipy, brute force and simulation."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from resilience import artifacts, catalog, comparisons, tables, verdicts
from resilience.compared import Compared
from resilience.comparisons import statistics
from resilience.multiple_testing import holm
from resilience.tables import Measured


def grid(seeds: int, points: int, seed: int, of_seed=0.0, of_point=0.0, noise=1.0, mean=0.0) -> np.ndarray:
    generator = np.random.default_rng(seed)
    by_seed = of_seed * generator.normal(size=(seeds, 1))
    return mean + by_seed + of_point * generator.normal(size=(1, points)) + noise * generator.normal(size=(seeds, points))


def test_mean_leaves_out_what_does_not_count():
    values = grid(3, 20, 0)
    values[0, :5] = np.nan
    statistic = statistics.mean(values)
    assert statistic.estimate == pytest.approx(np.nanmean(values))
    assert np.allclose(statistic.by_seed, np.nanmean(values, axis=1))


def test_correlation_is_scipys():
    generator = np.random.default_rng(0)
    first, second = np.round(generator.normal(size=(2, 3, 50)), 1)
    second += first
    statistic = statistics.correlation(first, second)
    expected = [stats.spearmanr(one, two).statistic for one, two in zip(first, second, strict=True)]
    assert np.allclose(statistic.by_seed, expected, atol=1e-12)
    assert statistic.estimate == pytest.approx(np.mean(expected))


def test_correlation_of_a_resample_is_that_of_the_points_drawn():
    generator = np.random.default_rng(0)
    first, second = np.round(generator.normal(size=(2, 30)), 1)
    weights = generator.multinomial(30, np.full(30, 1 / 30), 5).astype(float)
    found = statistics._spearman(first, second, weights)
    for value, counts in zip(found, weights.astype(int), strict=True):
        drawn = np.repeat(np.arange(30), counts)
        assert value == pytest.approx(stats.spearmanr(first[drawn], second[drawn]).statistic, abs=1e-12)


def test_a_constant_has_no_correlation():
    assert statistics.correlation(np.ones((2, 10)), np.random.default_rng(0).normal(size=(2, 10))).estimate == 0


def test_holm():
    found = holm(np.array([0.01, 0.04, np.nan, 0.03, 0.005]))
    assert np.allclose(found, [0.03, 0.06, np.nan, 0.06, 0.02], equal_nan=True)


# ---------------------------------------------------------------- the tables


MEASURES = {"top20": {"measure": "overlap", "top_k": 20}}


def robustness_tables(advantage: float, seeds: int = 5, points: int = 60) -> Measured:
    """Tables of a deterministic, a MAP, an adversarially trained and a Bayesian network; the latter is more robust."""
    parts = []
    for seed in range(seeds):
        generator = np.random.default_rng(seed)
        base = generator.uniform(0.3, 0.6, points)
        for training, draws, gain in (
            ("det", 1, 0),
            ("map", 1, 0),
            ("adv", 1, 0.3),
            ("hmc", 10, advantage / 2),
            ("hmc", 50, advantage),
        ):
            softmax = generator.uniform(0, 1, points)
            point = {
                "dataset": "digits",
                "network": "fc2",
                "training": training,
                "seed": seed,
                "attack": "pgd",
                "draws": draws,
                "index": np.arange(points),
            }
            prediction = {
                "label": 1,
                "prediction": 1,
                "prediction_attacked": np.where(np.arange(points) < 20, 1, 0),
                "softmax_robustness": softmax,
            }
            parts.append(pd.DataFrame(point | prediction))
            for explanation in ("epsilon", "gamma"):
                for layer in ("1", "3"):
                    noise = generator.normal(0, 0.05, points)
                    of_map = {
                        "explanation": explanation,
                        "layer": layer,
                        # In the first layer fewer pixels have relevance than the top 20 % need.
                        "relevant": 0.1 if layer == "1" else 0.5,
                        "top20": base + gain + noise + (0.3 * softmax if training == "hmc" else 0),
                    }
                    parts.append(pd.DataFrame(point | of_map))
    return tables.gather(parts, MEASURES)


def assign(measured: Measured, **values: object) -> Measured:
    """The same with other values in a column of both tables."""
    return Measured(measured.maps.assign(**values), measured.predictions.assign(**values), measured.measures)


def together(*measured: Measured) -> Measured:
    """Tables under one another."""
    return tables.gather([table for part in measured for table in (part.maps, part.predictions)], measured[0].measures)


def without(measured: Measured, **values: object) -> Measured:
    """The tables but for the rows in which all of these columns have these values."""

    def kept(table: pd.DataFrame) -> pd.DataFrame:
        return table[~pd.concat([table[name] == value for name, value in values.items()], axis=1).all(axis=1)]

    predictions = measured.predictions if values.keys() - set(measured.predictions) else kept(measured.predictions)
    return Measured(kept(measured.maps), predictions, measured.measures)


def compare(measured: Measured, cancellation: pd.DataFrame | None = None) -> pd.DataFrame:
    """All comparisons by the overlap of the top pixels."""
    return comparisons.compare(measured, ROLES, {"fc2": ("1", "3")}, ["top20"], 0.95, cancellation)


def judge(compared: pd.DataFrame, **about: object) -> pd.DataFrame:
    """All claims of the paper, about the epsilon rule and the overlap of the top pixels."""
    known = Compared(compared, "epsilon", "top20", **({"by_rules": {"epsilon", "gamma"}, "outputs": {"fc2": "3"}} | about))
    claims = {name: catalog.statement(name) for name in catalog.claims_of(["carbone2021"])}
    return verdicts.judge(claims, lambda name: catalog.load("statements", name)(known), 0.95)


ROLES = {"det": "deterministic", "map": "control", "adv": "adversarial", "hmc": "bayesian"}


@pytest.fixture(scope="module")
def compared():
    return compare(robustness_tables(0.1))


def only(table, **values):
    for name, value in values.items():
        table = table[table[name] == value]
    assert len(table) == 1
    return table.iloc[0]


def test_differences_are_paired_and_equal_the_plain_ones(compared):
    maps = robustness_tables(0.1).of("epsilon", "3")
    setting = {
        "explanation": "epsilon",
        "layer": "3",
        "training": "hmc",
        "draws": 50,
        "reference": "det",
        "measure": "top20",
    }
    row = only(compared, subset="all", **setting)
    hmc = maps[(maps.training == "hmc") & (maps.draws == 50)].set_index(["seed", "index"])["top20"]
    det = maps[maps.training == "det"].set_index(["seed", "index"])["top20"]
    assert row["estimate"] == pytest.approx((hmc - det).mean())
    assert row["mean"] == pytest.approx(hmc.mean())
    by_point = (hmc - det).groupby("index").mean()
    assert row["effect_size"] == pytest.approx(by_point.mean() / by_point.std())
    assert row["p_wilcoxon"] == pytest.approx(stats.wilcoxon(by_point).pvalue)
    means = [part.groupby("index").mean() for part in (hmc, det)]
    assert row["p_mann_whitney"] == pytest.approx(stats.mannwhitneyu(*means, alternative="greater").pvalue)
    unbroken = only(compared, subset="unbroken", **setting)
    kept = (hmc - det)[(hmc - det).index.get_level_values("index") < 20]
    assert unbroken["estimate"] == pytest.approx(kept.mean())
    assert (row["points"], unbroken["points"]) == (60, 20)
    assert (row["relevant"], row["relevant_reference"]) == pytest.approx((0.5, 0.5))


def test_pairs_are_those_that_mean_something(compared):
    pairs = set(
        zip(compared["training"], compared["draws"], compared["reference"], compared["reference_draws"], strict=True)
    )
    assert pairs == {
        ("map", 1, "det", 1),
        ("adv", 1, "det", 1),
        *(("hmc", draws, reference, 1) for draws in (10, 50) for reference in ("det", "map", "adv")),
        ("hmc", 50, "hmc", 10),
    }


def test_a_model_alone_gives_tables_without_rows(tmp_path):
    alone = robustness_tables(0.1)
    for training in ("map", "adv", "hmc"):
        alone = without(alone, training=training)
    artifacts.write_table(tmp_path / "comparisons.csv", compare(alone))
    judged = judge(artifacts.read_table(tmp_path / "comparisons.csv"))
    assert (len(judged), list(judged)) == (0, verdicts.COLUMNS)
    assert verdicts.summarise(judged) == []


def test_explanations_that_one_model_lacks_are_not_compared():
    found = compare(without(robustness_tables(0.1), training="hmc", explanation="gamma"))
    assert set(found[found.training == "hmc"]["explanation"]) == {"", "epsilon"}
    assert set(found[found.training == "adv"]["explanation"]) == {"", "epsilon", "gamma"}


def test_points_at_which_a_measure_has_no_value_do_not_count_and_leave_no_correlation():
    measured = robustness_tables(0.1)
    nowhere = (measured.maps["training"] == "hmc") & (measured.maps["index"] < 5) & (measured.maps["layer"] == "3")
    measured.maps.loc[nowhere & (measured.maps["explanation"] == "epsilon"), "top20"] = np.nan
    found = compare(measured)
    here = {"training": "hmc", "draws": 50, "reference": "det", "explanation": "epsilon", "layer": "3"}
    row = only(found, measure="top20", subset="all", **here)
    pair = [
        measured.of("epsilon", "3").query(f"training == '{name}' and draws == {n}") for name, n in (("hmc", 50), ("det", 1))
    ]
    hmc, det = (part.set_index(["seed", "index"])["top20"] for part in pair)
    assert row["estimate"] == pytest.approx((hmc - det).mean())
    assert (row["points"], row["seeds"]) == (55, 5)
    correlated = found[found["measure"] == "correlation with top20"]
    for name, value in here.items():
        correlated = correlated[correlated[name] == value]
    assert len(correlated) == 0
    only(found, measure="correlation with top20", **(here | {"explanation": "gamma"}))


def test_each_measure_is_compared_by_its_name():
    measured = robustness_tables(0.1)
    measured = Measured(measured.maps.assign(top10=0.5 * measured.maps["top20"]), measured.predictions, measured.measures)
    found = comparisons.compare(measured, ROLES, {"fc2": ("1", "3")}, ["top20", "top10"], 0.95)
    here = {"training": "hmc", "draws": 50, "reference": "det", "explanation": "epsilon", "layer": "3", "subset": "all"}
    wide, narrow = (only(found, measure=measure, **here) for measure in ("top20", "top10"))
    assert narrow["estimate"] == pytest.approx(0.5 * wide["estimate"])
    correlated = [f"correlation with {measure}" for measure in ("top10", "top20")]
    assert set(found["measure"]) == {"softmax_robustness", "top10", "top20", *correlated}


def test_a_fixed_class_is_a_claim_of_its_own_and_no_other_rule(compared):
    table = judge(compared, of_clean_class={"gamma"})
    assert set(table[table["claim"] == "fixed_class"]["explanation"]) == {"gamma"}
    assert "all_rules" not in set(table["claim"])


def test_attacks_of_matched_size_are_claims_of_their_own():
    found = compare(together(robustness_tables(0.1), assign(robustness_tables(0.1), attack="matched")))
    table = judge(found, matched_size={"matched"})
    matched = table["claim"].isin(["equally_far", "equally_far_controls"])
    assert set(table[matched]["attack"]) == {"matched"}
    assert dict(zip(table[matched]["claim"], table[matched]["reference"], strict=True)) == {
        "equally_far": "det",
        "equally_far_controls": "map",
    }
    assert set(table[~matched]["attack"]) == {"pgd"}


def test_noise_is_a_claim_of_its_own_and_no_attack():
    found = compare(together(robustness_tables(0.1), assign(robustness_tables(0.1), attack="random")))
    table = judge(found, noise={"random"})
    noisy = table["claim"] == "under_noise"
    assert set(table[noisy]["attack"]) == {"random"}
    assert set(table[noisy]["reference"]) == {"det"}
    assert set(table[~noisy]["attack"]) == {"pgd"}


def test_claims_follow_the_numbers(compared):
    table = judge(compared)
    found = {(row.claim, row.reference): row.verdict for row in table.itertuples()}
    assert found["more_robust", "det"] == verdicts.HOLDS
    assert (
        found["above_adversarial", "adv"] == verdicts.INCONCLUSIVE or found["above_adversarial", "adv"] == verdicts.REVERSED
    )
    assert found["not_only_controls", "map"] == verdicts.HOLDS
    assert found["correlation", "det"] == verdicts.HOLDS
    assert found["predictions", "det"] == verdicts.INCONCLUSIVE
    assert set(table["claim"]) == set(catalog.claims_of(["carbone2021"])) - {
        "fixed_class",
        "other_explanations",
        "other_explanations_controls",
        "theorem",
        "equally_far",
        "equally_far_controls",
        "under_noise",
    }
    assert set(table[table["claim"] == "more_robust"]["draws"]) == {50}
    assert set(table[table["claim"] == "inner_layers"]["layer"]) == {"1"}
    assert set(table[table["claim"] == "all_rules"]["explanation"]) == {"gamma"}


def test_claims_turn_round_with_the_effect():
    table = judge(compare(robustness_tables(-0.6)))
    assert set(table[table["claim"] == "more_robust"]["verdict"]) == {verdicts.REVERSED}


@pytest.mark.parametrize("seeds", [1, 2])
def test_too_few_seeds_give_no_verdict(seeds):
    found = compare(robustness_tables(0.3, seeds=seeds))
    assert set(judge(found)["verdict"]) == {verdicts.INCONCLUSIVE}


def test_networks_are_compared_by_what_is_measured_of_them_on_clean_points():
    generator = np.random.default_rng(0)
    parts = [
        pd.DataFrame(
            {
                "dataset": "digits",
                "network": "fc2",
                "training": training,
                "seed": seed,
                "attack": "clean",
                "draws": 1,
                "index": np.arange(20),
                "tilt": generator.normal(level, 1, 20),
                "unknown": np.nan,
            }
        )
        for training, level in (("det", 40), ("adv", 10))
        for seed in range(3)
    ]
    table = pd.concat(parts, ignore_index=True)
    here = {"networks": table, "of_networks": ["tilt", "unknown"]}
    compared = comparisons.compare(robustness_tables(0.1), ROLES, {"fc2": ("1", "3")}, ["top20"], 0.95, **here)
    row = only(compared, measure="tilt", attack="clean")
    assert (row.training, row.reference, row.reference_role, row.layer) == ("adv", "det", "deterministic", "3")
    means = table.groupby("training")["tilt"].mean()
    assert row.estimate == pytest.approx(means["adv"] - means["det"])
    assert "unknown" not in set(compared["measure"])
