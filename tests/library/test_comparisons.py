"""Statistics against scipy, brute force and simulation."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from resilience import artifacts, claims, comparisons
from resilience.multiple_testing import holm
from resilience.robustness import column, relevant


def grid(seeds: int, points: int, seed: int, of_seed=0.0, of_point=0.0, noise=1.0, mean=0.0) -> np.ndarray:
    generator = np.random.default_rng(seed)
    by_seed = of_seed * generator.normal(size=(seeds, 1))
    return mean + by_seed + of_point * generator.normal(size=(1, points)) + noise * generator.normal(size=(seeds, points))


def test_mean_leaves_out_what_does_not_count():
    values = grid(3, 20, 0)
    values[0, :5] = np.nan
    statistic = comparisons.mean(values)
    assert statistic.estimate == pytest.approx(np.nanmean(values))
    assert np.allclose(statistic.by_seed, np.nanmean(values, axis=1))


def test_correlation_is_scipys():
    generator = np.random.default_rng(0)
    first, second = np.round(generator.normal(size=(2, 3, 50)), 1)
    second += first
    statistic = comparisons.correlation(first, second)
    expected = [stats.spearmanr(one, two).statistic for one, two in zip(first, second, strict=True)]
    assert np.allclose(statistic.by_seed, expected, atol=1e-12)
    assert statistic.estimate == pytest.approx(np.mean(expected))


def test_correlation_of_a_resample_is_that_of_the_points_drawn():
    generator = np.random.default_rng(0)
    first, second = np.round(generator.normal(size=(2, 30)), 1)
    weights = generator.multinomial(30, np.full(30, 1 / 30), 5).astype(float)
    found = comparisons._spearman(first, second, weights)
    for value, counts in zip(found, weights.astype(int), strict=True):
        drawn = np.repeat(np.arange(30), counts)
        assert value == pytest.approx(stats.spearmanr(first[drawn], second[drawn]).statistic, abs=1e-12)


def test_a_constant_has_no_correlation():
    assert comparisons.correlation(np.ones((2, 10)), np.random.default_rng(0).normal(size=(2, 10))).estimate == 0


def test_holm():
    found = holm(np.array([0.01, 0.04, np.nan, 0.03, 0.005]))
    assert np.allclose(found, [0.03, 0.06, np.nan, 0.06, 0.02], equal_nan=True)


# ---------------------------------------------------------------- the tables


def robustness_tables(advantage: float, seeds: int = 5, points: int = 60) -> pd.DataFrame:
    """Tables of a deterministic, a MAP, an adversarially trained and a Bayesian network; the latter is more robust."""
    rows = []
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
            table = {
                "dataset": "digits",
                "network": "fc2",
                "training": training,
                "seed": seed,
                "attack": "pgd",
                "draws": draws,
                "index": np.arange(points),
                "label": 1,
                "prediction": 1,
                "prediction_attacked": np.where(np.arange(points) < 20, 1, 0),
                "softmax_robustness": softmax,
            }
            for rule in ("epsilon", "gamma"):
                for layer in (1, 3):
                    # In the first layer fewer pixels have relevance than the top 20 % need.
                    table[relevant(rule, layer)] = 0.1 if layer == 1 else 0.5
                    noise = generator.normal(0, 0.05, points)
                    table[column(rule, layer, 20)] = base + gain + noise + (0.3 * softmax if training == "hmc" else 0)
            rows.append(pd.DataFrame(table))
    return pd.concat(rows, ignore_index=True)


ROLES = {"det": "deterministic", "map": "control", "adv": "adversarial", "hmc": "bayesian"}


@pytest.fixture(scope="module")
def compared():
    return comparisons.compare(robustness_tables(0.1), ROLES, {"fc2": (1, 3)}, 20, 0.95)


def only(table, **values):
    for name, value in values.items():
        table = table[table[name] == value]
    assert len(table) == 1
    return table.iloc[0]


def test_differences_are_paired_and_equal_the_plain_ones(compared):
    tables = robustness_tables(0.1)
    setting = {
        "rule": "epsilon",
        "layer": 3,
        "training": "hmc",
        "draws": 50,
        "reference": "det",
        "measure": "lrp_robustness",
    }
    row = only(compared, subset="all", **setting)
    name = column("epsilon", 3, 20)
    hmc = tables[(tables.training == "hmc") & (tables.draws == 50)].set_index(["seed", "index"])[name]
    det = tables[tables.training == "det"].set_index(["seed", "index"])[name]
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
    tables = robustness_tables(0.1)
    found = comparisons.compare(tables[tables["training"] == "det"], ROLES, {"fc2": (1, 3)}, 20, 0.95)
    artifacts.write_table(tmp_path / "comparisons.csv", found)
    judged = claims.judge(artifacts.read_table(tmp_path / "comparisons.csv"), "epsilon", 20, 0.95)
    assert (len(judged), list(judged)) == (0, claims.COLUMNS)
    assert claims.summarise(judged) == []


def test_rules_that_one_model_lacks_are_not_compared():
    tables = robustness_tables(0.1)
    tables.loc[tables.training == "hmc", [column("gamma", layer, 20) for layer in (1, 3)]] = np.nan
    found = comparisons.compare(tables, ROLES, {"fc2": (1, 3)}, 20, 0.95)
    assert set(found[found.training == "hmc"]["rule"]) == {"", "epsilon"}
    assert set(found[found.training == "adv"]["rule"]) == {"", "epsilon", "gamma"}


def test_a_fixed_class_is_a_claim_of_its_own_and_no_other_rule(compared):
    table = claims.judge(compared, "epsilon", 20, 0.95, ["gamma"])
    assert set(table[table["claim"] == "fixed_class"]["rule"]) == {"gamma"}
    assert "all_rules" not in set(table["claim"])


def test_attacks_of_matched_size_are_claims_of_their_own():
    tables = pd.concat([robustness_tables(0.1), robustness_tables(0.1).assign(attack="matched")])
    found = comparisons.compare(tables, ROLES, {"fc2": (1, 3)}, 20, 0.95)
    table = claims.judge(found, "epsilon", 20, 0.95, matched_size=["matched"])
    matched = table["claim"].isin(["equally_far", "equally_far_controls"])
    assert set(table[matched]["attack"]) == {"matched"}
    assert dict(zip(table[matched]["claim"], table[matched]["reference"], strict=True)) == {
        "equally_far": "det",
        "equally_far_controls": "map",
    }
    assert set(table[~matched]["attack"]) == {"pgd"}


def test_noise_is_a_claim_of_its_own_and_no_attack():
    tables = pd.concat([robustness_tables(0.1), robustness_tables(0.1).assign(attack="random")])
    found = comparisons.compare(tables, ROLES, {"fc2": (1, 3)}, 20, 0.95)
    table = claims.judge(found, "epsilon", 20, 0.95, noise=["random"])
    noisy = table["claim"] == "under_noise"
    assert set(table[noisy]["attack"]) == {"random"}
    assert set(table[noisy]["reference"]) == {"det"}
    assert set(table[~noisy]["attack"]) == {"pgd"}


def test_claims_follow_the_numbers(compared):
    table = claims.judge(compared, "epsilon", 20, 0.95)
    verdicts = {(row.claim, row.reference): row.verdict for row in table.itertuples()}
    assert verdicts["more_robust", "det"] == claims.HOLDS
    assert (
        verdicts["above_adversarial", "adv"] == claims.INCONCLUSIVE
        or verdicts["above_adversarial", "adv"] == claims.REVERSED
    )
    assert verdicts["not_only_controls", "map"] == claims.HOLDS
    assert verdicts["correlation", "det"] == claims.HOLDS
    assert verdicts["predictions", "det"] == claims.INCONCLUSIVE
    assert set(table["claim"]) == {claim.name for claim in claims.CLAIMS} - {
        "fixed_class",
        "theorem",
        "equally_far",
        "equally_far_controls",
        "under_noise",
    }
    assert set(table[table["claim"] == "more_robust"]["draws"]) == {50}
    assert set(table[table["claim"] == "inner_layers"]["layer"]) == {1}
    assert set(table[table["claim"] == "all_rules"]["rule"]) == {"gamma"}


def test_claims_turn_round_with_the_effect():
    table = claims.judge(comparisons.compare(robustness_tables(-0.6), ROLES, {"fc2": (1, 3)}, 20, 0.95), "epsilon", 20, 0.95)
    assert set(table[table["claim"] == "more_robust"]["verdict"]) == {claims.REVERSED}


@pytest.mark.parametrize("seeds", [1, 2])
def test_too_few_seeds_give_no_verdict(seeds):
    found = comparisons.compare(robustness_tables(0.3, seeds=seeds), ROLES, {"fc2": (1, 3)}, 20, 0.95)
    assert set(claims.judge(found, "epsilon", 20, 0.95)["verdict"]) == {claims.INCONCLUSIVE}


@pytest.mark.parametrize(
    ("low", "high", "p", "seeds", "expected"),
    [
        (0.1, 0.3, 0.01, 5, claims.HOLDS),
        (-0.3, -0.1, 0.01, 5, claims.REVERSED),
        (-0.1, 0.3, 0.2, 5, claims.INCONCLUSIVE),
        (0.1, 0.3, 0.06, 5, claims.INCONCLUSIVE),
        (0.1, 0.3, 0.01, 3, claims.HOLDS),
        (0.1, 0.3, 0.01, 2, claims.INCONCLUSIVE),
    ],
)
def test_verdict(low, high, p, seeds, expected):
    assert claims.verdict(low, high, p, seeds, 0.05) == expected
