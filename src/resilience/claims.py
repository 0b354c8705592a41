"""The paper's claims, each as a comparison whose outcome is computed.

A claim holds when the interval of its estimate lies above zero and its p-value, corrected for the number of claims that
are judged, is below the level; it is reversed when the interval lies below zero likewise; else it is inconclusive. The
intervals count seeds as a source of chance, so an effect smaller than what the seed alone moves is not a finding, and with
fewer than three seeds nothing is: of two, what they differ may be next to nothing by coincidence, and at the small levels of
many tests such coincidences are most of what is found.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from resilience.multiple_testing import holm

if TYPE_CHECKING:
    import pandas as pd

HOLDS, REVERSED, INCONCLUSIVE = "holds", "reversed", "inconclusive"
SEEDS_FOR_A_VERDICT = 3
#: Measures that no LRP rule takes part in.
WITHOUT_RULE = ("softmax_robustness", "cancellation")

COLUMNS = [
    *("claim", "sentence", "source", "dataset", "network", "attack", "training", "draws", "reference", "reference_draws"),
    *("measure", "rule", "layer", "top_k", "subset", "mean", "mean_reference", "estimate", "low", "high"),
    *("relevant", "relevant_reference", "low_points", "high_points", "seed_sd", "effect_size", "seeds", "points"),
    *("p", "p_corrected", "p_wilcoxon", "p_mann_whitney", "verdict"),
]


@dataclass(frozen=True)
class Claim:
    """A sentence, where it stands, and the comparisons that decide it: each a value that should be above zero."""

    name: str
    sentence: str
    source: str
    measure: str
    reference: str
    subset: str = "all"
    layers: str = "output"
    rules: str = "main"
    attacks: str = "main"
    draws: str = "most"


CLAIMS = (
    Claim(
        "more_robust",
        "Bayesian explanations are more robust under attack than deterministic ones.",
        "Sec. V-A",
        "lrp_robustness",
        "deterministic",
    ),
    Claim(
        "inner_layers",
        "Bayesian explanations are more robust than deterministic ones in the internal layers, too.",
        "Sec. V-A",
        "lrp_robustness",
        "deterministic",
        layers="inner",
    ),
    Claim(
        "all_rules",
        "Bayesian explanations are more robust than deterministic ones under the other LRP rules, too.",
        "Sec. V-A",
        "lrp_robustness",
        "deterministic",
        rules="others",
    ),
    Claim(
        "failed_attacks",
        "Bayesian explanations are more robust than deterministic ones even where the attack fails.",
        "Abstract, Sec. I",
        "lrp_robustness",
        "deterministic",
        subset="unbroken",
    ),
    Claim(
        "fixed_class",
        "Bayesian explanations of the class before the attack are more robust than deterministic ones, too.",
        "not in the paper",
        "lrp_robustness",
        "deterministic",
        rules="fixed class",
    ),
    Claim(
        "above_adversarial",
        "Adversarially trained networks have low LRP robustness compared to Bayesian ones.",
        "Sec. V-A",
        "lrp_robustness",
        "adversarial",
    ),
    Claim(
        "predictions",
        "Bayesian predictions are more robust under attack than deterministic ones.",
        "Sec. II-C, V-B",
        "softmax_robustness",
        "deterministic",
    ),
    Claim(
        "correlation",
        "LRP robustness grows with softmax robustness in Bayesian networks more than in deterministic ones.",
        "Sec. V-B",
        "correlation",
        "deterministic",
    ),
    Claim(
        "correlation_and_draws",
        "The correlation of LRP and softmax robustness grows with the number of posterior draws.",
        "Sec. V-B",
        "correlation",
        "fewest draws",
    ),
    Claim(
        "not_only_controls",
        "The advantage is the posterior's: it remains over networks that share its prior or its averaging.",
        "not in the paper",
        "lrp_robustness",
        "control",
    ),
    Claim(
        "equally_far",
        "Bayesian explanations are more robust than deterministic ones that are pushed equally far.",
        "not in the paper",
        "lrp_robustness",
        "deterministic",
        attacks="matched size",
    ),
    Claim(
        "equally_far_controls",
        "Pushed equally far, the advantage remains over networks that share the posterior's prior or its averaging.",
        "not in the paper",
        "lrp_robustness",
        "control",
        attacks="matched size",
    ),
    Claim(
        "under_noise",
        "Bayesian explanations are more robust than deterministic ones under random noise, too, which is no attack.",
        "not in the paper",
        "lrp_robustness",
        "deterministic",
        attacks="noise",
    ),
    Claim(
        "theorem",
        "In the mean over draws, gradients of the loss cancel more across the data manifold than along it.",
        "Sec. IV-B, Theorem IV.1",
        "cancellation",
        "normal part",
    ),
)


def judge(
    comparisons: pd.DataFrame,
    rule: str,
    top_k: float,
    confidence: float,
    fixed_class: Iterable[str] = (),
    matched_size: Iterable[str] = (),
    noise: Iterable[str] = (),
) -> pd.DataFrame:
    """One row per claim and setting, with its verdict.

    Parameters
    ----------
    comparisons
        The table of :func:`resilience.comparisons.compare`.
    rule
        The rule of every claim that is not about rules.
    top_k
        Percentage of most relevant pixels, for the record.
    confidence
        Of the intervals; the level of the verdicts is one minus this.
    fixed_class
        The rules that explain the class of the clean image after the attack, too.
    matched_size
        The attacks that push all networks equally far.
    noise
        The attacks that are random noise.

    Returns
    -------
    pandas.DataFrame
        ``claim``, ``sentence``, ``source``, the setting, the estimate (model minus reference) with its interval,
        ``seeds``, ``points``, ``p``, ``p_corrected`` (Holm, over the rows of this table) and ``verdict``.
    """
    import pandas as pd

    matched, noisy = (comparisons["attack"].isin(set(names)) for names in (matched_size, noise))
    attacked = {"main": ~matched & ~noisy, "matched size": matched, "noise": noisy}
    parts = [
        _rows(claim, comparisons[attacked[claim.attacks]], rule, set(fixed_class)).assign(
            claim=claim.name, sentence=claim.sentence, source=claim.source
        )
        for claim in CLAIMS
    ]
    table = pd.concat(parts, ignore_index=True)
    table["top_k"] = top_k
    table["p_corrected"] = holm(table["p"].to_numpy(dtype=float))
    table["verdict"] = [verdict(row.low, row.high, row.p_corrected, row.seeds, 1 - confidence) for row in table.itertuples()]
    return table[COLUMNS]


def verdict(low: float, high: float, p: float, seeds: int, level: float) -> str:
    """holds, reversed or inconclusive; see the head of this module."""
    if seeds < SEEDS_FOR_A_VERDICT or p >= level:
        return INCONCLUSIVE
    if low > 0:
        return HOLDS
    return REVERSED if high < 0 else INCONCLUSIVE


def summarise(claims: pd.DataFrame) -> list[dict[str, Any]]:
    """Each claim once: its name, ``sentence`` and ``source``, and how often it holds, is reversed or inconclusive."""
    found = []
    for (name, sentence, source), rows in claims.groupby(["claim", "sentence", "source"], sort=False):
        counts = {outcome: int((rows["verdict"] == outcome).sum()) for outcome in (HOLDS, REVERSED, INCONCLUSIVE)}
        found.append({"claim": name, "sentence": sentence, "source": source, **counts})
    return found


def _rows(claim: Claim, comparisons: pd.DataFrame, rule: str, fixed_class: set[str]) -> pd.DataFrame:
    """The comparisons that decide a claim."""
    table = comparisons[(comparisons["role"] == "bayesian") & (comparisons["measure"] == claim.measure)]
    table = table[table["subset"] == claim.subset]
    output = table.groupby("network")["layer"].transform("max")
    table = table[table["layer"] == output] if claim.layers == "output" else table[table["layer"] < output]
    if claim.measure not in WITHOUT_RULE:
        fixed = table["rule"].isin(fixed_class - {rule})
        wanted = {"main": table["rule"] == rule, "fixed class": fixed, "others": (table["rule"] != rule) & ~fixed}
        table = table[wanted[claim.rules]]
    setting = ["dataset", "network", "attack", "training"]
    table = table[table["draws"] == table.groupby(setting)["draws"].transform("max")]
    if claim.reference == "fewest draws":
        table = table[table["reference"] == table["training"]]
        fewest = table.groupby([*setting, "rule", "layer"])["reference_draws"].transform("min")
        return table[table["reference_draws"] == fewest]
    return table[table["reference_role"] == claim.reference]
