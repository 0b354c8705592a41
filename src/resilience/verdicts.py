"""Verdicts on claims: of each comparison that decides one, whether it holds.

A claim holds when the interval of its estimate lies above zero and its p-value, corrected for the number of claims that
are judged, is below the level; it is reversed when the interval lies below zero likewise; else it is inconclusive. The
intervals count seeds as a source of chance, so an effect smaller than what the seed alone moves is not a finding, and with
fewer than three seeds nothing is: of two, what they differ may be next to nothing by coincidence, and at the small levels of
many tests such coincidences are most of what is found.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from resilience.multiple_testing import holm

if TYPE_CHECKING:
    import pandas as pd

HOLDS, REVERSED, INCONCLUSIVE = "holds", "reversed", "inconclusive"
SEEDS_FOR_A_VERDICT = 3
#: What a verdict needs of a comparison.
NEEDED = ("estimate", "low", "high", "p", "seeds")
ABOUT = ("paper", "claim", "sentence", "place")

COLUMNS = [
    *("paper", "claim", "sentence", "place", "published"),
    *("dataset", "network", "attack", "training", "draws", "reference", "reference_draws"),
    *("measure", "explanation", "layer", "subset", "mean", "mean_reference", "estimate", "low", "high"),
    *("relevant", "relevant_reference", "low_points", "high_points", "seed_sd", "effect_size", "seeds", "points"),
    *("p", "p_corrected", "p_wilcoxon", "p_mann_whitney", "verdict"),
]


class ClaimError(ValueError):
    """A claim of the user's own that cannot be judged. The message says which."""


def judge(
    claims: Mapping[str, Mapping[str, str]], rows_of: Callable[[str], pd.DataFrame], confidence: float
) -> pd.DataFrame:
    """One row for each comparison that decides a claim, with its verdict.

    Parameters
    ----------
    claims
        What each claim says, see :func:`resilience.catalog.statement`.
    rows_of
        Gives the comparisons that decide a claim.
    confidence
        Of the intervals; the level of the verdicts is one minus this.

    Returns
    -------
    pandas.DataFrame
        ``paper``, ``claim``, its ``sentence``, ``place`` in the paper and ``published`` value, the setting, the estimate
        (model minus reference) with its interval, ``seeds``, ``points``, ``p``, ``p_corrected`` (Holm, over the rows of this
        table) and ``verdict``.

    Raises
    ------
    ClaimError
        If a function gives anything but comparisons.
    """
    import pandas as pd

    parts = []
    for name, about in claims.items():
        rows = rows_of(name)
        if missing := [column for column in NEEDED if column not in rows]:
            raise ClaimError(f"{name}: gives a table without {', '.join(missing)}; return rows of `compared`")
        parts.append(rows.assign(**about))
    table = pd.concat(parts, ignore_index=True)
    table["p_corrected"] = holm(table["p"].to_numpy(dtype=float))
    table["verdict"] = [verdict(row.low, row.high, row.p_corrected, row.seeds, 1 - confidence) for row in table.itertuples()]
    return table.reindex(columns=COLUMNS)


def verdict(low: float, high: float, p: float, seeds: int, level: float) -> str:
    """holds, reversed or inconclusive; see the head of this module."""
    if seeds < SEEDS_FOR_A_VERDICT or p >= level:
        return INCONCLUSIVE
    if low > 0:
        return HOLDS
    return REVERSED if high < 0 else INCONCLUSIVE


def summarise(claims: pd.DataFrame) -> list[dict[str, Any]]:
    """Each claim once: ``paper``, name, ``sentence``, ``place``, and how often it holds or not."""
    found = []
    for about, rows in claims.groupby(list(ABOUT), sort=False):
        counts = {outcome: int((rows["verdict"] == outcome).sum()) for outcome in (HOLDS, REVERSED, INCONCLUSIVE)}
        found.append({**dict(zip(ABOUT, about, strict=True)), **counts})
    return found
