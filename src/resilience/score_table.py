"""ROAR and KAR scores of each explanation of each model in one table, with the accuracies that they are made of."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from resilience.comparisons.models import Model
from resilience.comparisons.statistics import mean
from resilience.intervals import interval
from resilience.scores import PROTOCOLS, curve

if TYPE_CHECKING:
    import pandas as pd

CONFIDENCE = 0.95


def summarise(
    scored: pd.DataFrame,
    shares: Sequence[float],
    roles: Mapping[str, str],
    strengths: Mapping[str, Mapping[str, Any]],
    controls: Collection[str],
) -> pd.DataFrame:
    """The scores of each explanation of each model, and the accuracies that they are made of.

    Parameters
    ----------
    scored
        What :func:`resilience.scores.with_scores` gives.
    shares
        Of the pixels that count as important.
    roles
        Of each training: deterministic, adversarial, control or bayesian.
    strengths
        Of the trainings that have one, see :meth:`resilience.grid.Grid.strengths`.
    controls
        The explanations that say nothing of a network; each was made for one training, and stands beside all.

    Returns
    -------
    pandas.DataFrame
        One row per (dataset, network, training, draws, explanation, protocol): ``role``, whether it is a ``control``,
        ``norm``, ``objective`` and ``strength`` of the attack that was trained against, the ``test_accuracy`` of the
        explained network, the ``score`` with its 95 % interval ``low`` to ``high`` and ``p``, ``seeds``, ``points``, and
        ``accuracy_q`` for each share q of replaced pixels, empty where the protocol has none.
    """
    import pandas as pd

    rows: list[dict[str, Any]] = []
    setting = ["dataset", "network", "training", "draws", "explanation"]
    for (dataset, network, training, draws, explanation), table in scored.groupby(setting, sort=True):
        model = Model(training, roles[training], draws, table, {})
        for protocol in PROTOCOLS:
            found = asdict(interval(score := mean(model.values(protocol)), CONFIDENCE))
            rows.append(
                {
                    "dataset": dataset,
                    "network": network,
                    "training": training,
                    "role": model.role,
                    "draws": draws,
                    "explanation": explanation,
                    "control": explanation in controls,
                    "protocol": protocol,
                    **{key: strengths.get(training, {}).get(key) for key in ("norm", "objective", "strength")},
                    "test_accuracy": float(table["right"].mean()),
                    "score": found["estimate"],
                    **{key: found[key] for key in ("low", "high", "low_points", "high_points", "seed_sd", "p")},
                    "seeds": len(score.by_seed),
                    "points": score.points,
                    **{f"accuracy_{q:g}": float(table[name].mean()) for q, name in curve(protocol, shares).items()},
                }
            )
    replaced = sorted({q for protocol in PROTOCOLS for q in curve(protocol, shares)})
    accuracies = [f"accuracy_{q:g}" for q in replaced]
    others = [name for name in rows[0] if name not in accuracies]
    return pd.DataFrame(rows, columns=[*others, *accuracies])
