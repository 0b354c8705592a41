"""Claims select exactly the comparisons that they are about, among planted ones of every kind."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pandas as pd
import pytest

from resilience import artifacts, catalog
from resilience.compared import Compared, the_other_way_round

ABOUT = {
    "explanation": "epsilon",
    "measure": "top20",
    "by_rules": ["epsilon", "gamma", "fixed"],
    "otherwise": ["gradient"],
    "of_clean_class": ["fixed"],
    "matched_size": ["matched"],
    "noise": ["random"],
    "outputs": {"fc2": "3", "conv": "7"},
}
#: The last is a control, which no claim is about.
EXPLANATIONS = ("epsilon", "gamma", "fixed", "gradient", "random")
MODELS = (("svi", "bayesian", 10), ("svi", "bayesian", 50), ("map", "control", 1))
REFERENCES = (
    *(("det", "deterministic", 1), ("adv", "adversarial", 1), ("map", "control", 1)),
    *(("svi", "bayesian", 5), ("svi", "bayesian", 10), ("hmc", "bayesian", 50)),
)


def planted() -> Iterator[dict[str, Any]]:
    """A row of every kind that there is, and of some that there is not."""
    for attack in ("pgd", "matched", "random"):
        for training, role, draws in MODELS:
            for reference, reference_role, reference_draws in REFERENCES:
                pair = {
                    "dataset": "digits",
                    "network": "fc2",
                    "attack": attack,
                    "training": training,
                    "role": role,
                    "draws": draws,
                    "reference": reference,
                    "reference_role": reference_role,
                    "reference_draws": reference_draws,
                }
                yield pair | {"measure": "softmax_robustness", "explanation": "", "layer": "3", "subset": "all"}
                for explanation in EXPLANATIONS:
                    for layer in ("1", "3"):
                        here = pair | {"explanation": explanation, "layer": layer}
                        for measure in ("top20", "top10"):
                            yield here | {"measure": measure, "subset": "all"}
                            yield here | {"measure": measure, "subset": "unbroken"}
                            yield here | {"measure": f"correlation with {measure}", "subset": "all"}
    for training, role in (("svi", "bayesian"), ("ensemble", "control")):
        yield {
            "dataset": "digits",
            "network": "fc2",
            "attack": "clean",
            "measure": "cancellation",
            "explanation": "",
            "layer": "3",
            "subset": "all",
            "training": training,
            "role": role,
            "draws": 50,
            "reference": training,
            "reference_role": "normal part",
            "reference_draws": 50,
        }


@pytest.fixture(params=["as compared", "as read from the file"])
def table(request, tmp_path) -> pd.DataFrame:
    made = pd.DataFrame(planted())
    if request.param == "as compared":
        return made
    artifacts.write_table(tmp_path / "comparisons.csv", made)
    return artifacts.read_table(tmp_path / "comparisons.csv")


MAIN = {
    "attack": "pgd",
    "training": "svi",
    "draws": 50,
    "reference": "det",
    "measure": "top20",
    "explanation": "epsilon",
    "layer": "3",
    "subset": "all",
}
#: What each claim of the paper is about.
CLAIMS: dict[str, dict[str, Any]] = {
    "more_robust": MAIN,
    "inner_layers": MAIN | {"layer": "1"},
    "all_rules": MAIN | {"explanation": "gamma"},
    "failed_attacks": MAIN | {"subset": "unbroken"},
    "fixed_class": MAIN | {"explanation": "fixed"},
    "other_explanations": MAIN | {"explanation": "gradient"},
    "other_explanations_controls": MAIN | {"explanation": "gradient", "reference": "map"},
    "above_adversarial": MAIN | {"reference": "adv"},
    "predictions": {key: MAIN[key] for key in ("attack", "training", "draws", "reference")}
    | {"measure": "softmax_robustness"},
    "correlation": MAIN | {"measure": "correlation with top20"},
    "correlation_and_draws": MAIN | {"measure": "correlation with top20", "reference": "svi", "reference_draws": 5},
    "not_only_controls": MAIN | {"reference": "map"},
    "equally_far": MAIN | {"attack": "matched"},
    "equally_far_controls": MAIN | {"attack": "matched", "reference": "map"},
    "under_noise": MAIN | {"attack": "random"},
    "theorem": {"attack": "clean", "training": "svi", "measure": "cancellation"},
}


def test_every_claim_of_the_paper_is_here():
    assert set(CLAIMS) == set(catalog.claims_of(["carbone2021"]))


@pytest.mark.parametrize("claim", CLAIMS)
def test_a_claim_gives_exactly_the_comparisons_that_it_is_about(claim, table):
    expected = table
    for name, value in CLAIMS[claim].items():
        expected = expected[expected[name] == value]
    assert len(expected) == 1
    found = catalog.load("statements", claim)(Compared(table, **ABOUT))
    assert list(found.index) == list(expected.index)


def test_the_last_layer_is_that_of_each_network(table):
    wider = table.assign(network="conv", layer=table["layer"].map({"1": "3", "3": "7"}))
    compared = Compared(pd.concat([table, wider], ignore_index=True), **ABOUT)
    found = compared.explanations(compared.attacked(), "deterministic")
    assert dict(zip(found["network"], found["layer"], strict=True)) == {"fc2": "3", "conv": "7"}
    inner = compared.explanations(compared.attacked(), "deterministic", layers="inner")
    assert dict(zip(inner["network"], inner["layer"], strict=True)) == {"fc2": "1", "conv": "3"}


def test_the_main_explanation_is_no_other_rule_and_of_no_fixed_class(table):
    compared = Compared(table, **(ABOUT | {"explanation": "fixed"}))
    assert (compared.other_rules, compared.of_fixed_class) == ({"epsilon", "gamma"}, set())
    assert compared.other_ways == {"gradient"}
    assert Compared(table, **(ABOUT | {"explanation": "gradient"})).other_ways == set()


def test_the_other_way_round_is_the_comparison_of_the_other_two():
    rows = pd.DataFrame(
        {
            "training": ["adv"],
            "reference": ["det"],
            "role": ["adversarial"],
            "reference_role": ["deterministic"],
            "draws": [1],
            "reference_draws": [2],
            "mean": [0.2],
            "mean_reference": [0.5],
            "relevant": [0.9],
            "relevant_reference": [0.8],
            "estimate": [-0.3],
            "low": [-0.4],
            "high": [-0.1],
            "low_points": [-0.35],
            "high_points": [-0.2],
            "effect_size": [-1.5],
            "p": [0.01],
            "p_mann_whitney": [0.99],
        }
    )
    turned = the_other_way_round(rows).iloc[0]
    assert (turned.training, turned.reference, turned.role, turned.draws) == ("det", "adv", "deterministic", 2)
    assert (turned["mean"], turned.mean_reference, turned.relevant) == (0.5, 0.2, 0.8)
    assert (turned.estimate, turned.low, turned.high) == (0.3, 0.1, 0.4)
    assert (turned.low_points, turned.high_points, turned.effect_size) == (0.2, 0.35, 1.5)
    assert (turned.p, turned.p_mann_whitney) == (0.01, pytest.approx(0.01))
    assert the_other_way_round(the_other_way_round(rows)).equals(rows[list(rows)])
