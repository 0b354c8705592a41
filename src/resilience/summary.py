"""Every measure of every explanation in one table: means over test points and seeds, with their intervals."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from resilience.comparisons.statistics import mean
from resilience.intervals import interval

if TYPE_CHECKING:
    import pandas as pd

SETTING = ["dataset", "network", "training", "attack", "draws", "explanation", "layer"]
#: Of what tables have anyway, what is measured.
STANDING = ("relevant", "softmax_robustness", "largest_change", "mean_change")


def summarise(tables: Iterable[pd.DataFrame], measures: Collection[str], confidence: float = 0.95) -> pd.DataFrame:
    """One row for each measure of each explanation of a layer, of the predictions, or of a network.

    Parameters
    ----------
    tables
        Of maps, predictions, explanations and networks, in any order; see :mod:`resilience.tables`.
    measures
        The names of those of the config.
    confidence
        Of the intervals, which count points and seeds.

    Returns
    -------
    pandas.DataFrame
        ``dataset``, ``network``, ``training``, ``attack`` (``clean`` where nothing was attacked), ``draws``,
        ``explanation`` and ``layer`` (empty for predictions and networks), ``measure``, its ``mean`` and interval ``low``
        to ``high``, ``seeds`` and ``points``. A point that has no value does not count.
    """
    import pandas as pd

    rows: list[dict[str, Any]] = []
    everything = pd.concat(
        [table.assign(**{key: "" for key in ("explanation", "layer") if key not in table}) for table in tables],
        ignore_index=True,
    )
    for setting, group in everything.groupby(SETTING, sort=True):
        for measure in (*STANDING, *sorted(measures)):
            values = group.dropna(subset=[measure]) if measure in group else group.iloc[:0]
            if len(values):
                found = mean(values.pivot(index="seed", columns="index", values=measure).to_numpy(dtype=float))
                between = asdict(interval(found, confidence))
                rows.append(
                    {
                        **dict(zip(SETTING, setting, strict=True)),
                        "measure": measure,
                        "mean": found.estimate,
                        **{key: between[key] for key in ("low", "high")},
                        "seeds": int(values["seed"].nunique()),
                        "points": int(values["index"].nunique()),
                    }
                )
    columns = [*SETTING, "measure", "mean", "low", "high", "seeds", "points"]
    return pd.DataFrame(rows, columns=columns)
