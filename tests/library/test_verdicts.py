"""Verdicts on the comparisons that claims select."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from resilience import verdicts
from resilience.multiple_testing import holm

ABOUT = {"paper": "someone2020", "sentence": "It is so.", "place": "Sec. 1", "published": "0.5"}


def comparisons(*p: float, **values: object) -> pd.DataFrame:
    """Comparisons with these p-values, above zero."""
    return pd.DataFrame({"estimate": 0.2, "low": 0.1, "high": 0.3, "p": p, "seeds": 5, "dataset": "digits", **values})


def test_each_row_says_which_claim_it_decides():
    rows = {"one": comparisons(0.001), "two": comparisons(0.002, 0.9, draws=50)}
    claims = {name: {"claim": name, **ABOUT} for name in rows}
    table = verdicts.judge(claims, rows.__getitem__, 0.95)
    assert list(table) == verdicts.COLUMNS
    assert list(table["claim"]) == ["one", "two", "two"]
    for name, value in ABOUT.items():
        assert set(table[name]) == {value}
    assert list(table["verdict"]) == [verdicts.HOLDS, verdicts.HOLDS, verdicts.INCONCLUSIVE]


def test_p_values_are_corrected_for_all_rows_of_all_claims():
    rows = {"one": comparisons(0.02), "two": comparisons(0.03, 0.04)}
    table = verdicts.judge({name: {"claim": name, **ABOUT} for name in rows}, rows.__getitem__, 0.95)
    assert np.allclose(table["p_corrected"], holm(np.array([0.02, 0.03, 0.04])))
    assert set(table["verdict"]) == {verdicts.INCONCLUSIVE}
    alone = verdicts.judge({"one": {"claim": "one", **ABOUT}}, rows.__getitem__, 0.95)
    assert list(alone["verdict"]) == [verdicts.HOLDS]


def test_a_claim_that_gives_no_comparisons_is_refused_by_name():
    with pytest.raises(verdicts.ClaimError, match="mine: gives a table without low, p; return rows of `compared`"):
        verdicts.judge({"mine": ABOUT}, lambda _: comparisons(0.1).drop(columns=["low", "p"]), 0.95)


def test_each_claim_is_counted_once_and_all_its_rows():
    rows = {"one": comparisons(0.001), "two": comparisons(0.002, 0.9), "three": comparisons(0.001, low=-0.3, high=-0.1)}
    table = verdicts.judge({name: {"claim": name, **ABOUT} for name in rows}, rows.__getitem__, 0.95)
    counted = {row["claim"]: (row["holds"], row["reversed"], row["inconclusive"]) for row in verdicts.summarise(table)}
    assert counted == {"one": (1, 0, 0), "two": (1, 0, 1), "three": (0, 1, 0)}
    assert verdicts.summarise(table)[0]["sentence"] == "It is so."


@pytest.mark.parametrize(
    ("low", "high", "p", "seeds", "expected"),
    [
        (0.1, 0.3, 0.01, 5, verdicts.HOLDS),
        (-0.3, -0.1, 0.01, 5, verdicts.REVERSED),
        (-0.1, 0.3, 0.2, 5, verdicts.INCONCLUSIVE),
        (0.1, 0.3, 0.06, 5, verdicts.INCONCLUSIVE),
        (0.1, 0.3, 0.01, 3, verdicts.HOLDS),
        (0.1, 0.3, 0.01, 2, verdicts.INCONCLUSIVE),
    ],
)
def test_verdict(low, high, p, seeds, expected):
    assert verdicts.verdict(low, high, p, seeds, 0.05) == expected
