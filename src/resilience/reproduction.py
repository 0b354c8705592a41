"""The published numbers beside ours: the same statistic of the same comparison, in every run that has it.

The published numbers were read off the figures of the original code, so each has an accuracy of its own. They are peaks of
densities (Fig. 2), medians (Fig. 3 and 14) of paired differences of LRP robustness, and correlations (Fig. 4).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from resilience.comparisons.statistics import resamples
from resilience.intervals import Resampled, interval
from resilience.tables import Measured

if TYPE_CHECKING:
    import pandas as pd

#: What is said of each published number for each run.
KEYS = ("", "_low", "_high", "_draws", "_seeds", "_points", "_classified", "_agreement")
AGREES, SAME_SIDE, DIFFERS, NOT_RUN = "agrees", "same side", "differs", "not run"


def compare(published: pd.DataFrame, runs: Mapping[str, Measured], measure: str, confidence: float = 0.95) -> pd.DataFrame:
    """One row for each published number, with what each run gives.

    Parameters
    ----------
    published
        ``figure``, ``dataset``, ``network``, ``attack``, ``training``, ``draws``, ``reference``, ``explanation``,
        ``layer``,
        ``statistic`` (``mode``, ``median`` or ``correlation``), ``value``, ``accuracy`` and ``note``.
    runs
        The tables by the name of the run.
    measure
        What the published numbers are about: the overlap of the top 20 %.
    confidence
        Of the intervals, which count points and seeds.

    Returns
    -------
    pandas.DataFrame
        The rows of ``published``, and for each run ``{run}``, ``{run}_low``, ``{run}_high``, ``{run}_draws``,
        ``{run}_seeds``, ``{run}_points`` and ``{run}_agreement``: ``agrees`` if the published number lies in the interval
        widened by its accuracy, ``same side`` if at least both lie on the same side of zero, else ``differs``;
        ``not run`` where a run has no such comparison. ``{run}_classified`` is the share of the clean points that the
        network classifies rightly; what a network that has learned nothing explains is worth little.
    """
    result = published.copy()
    for run, measured in runs.items():
        found = [_found(row, measured, measure, confidence) for row in published.to_dict("records")]
        for key in KEYS:
            result[run + key] = [row[key] for row in found]
    return result


def agreement(value: float, accuracy: float, low: float, high: float) -> str:
    """Whether an interval holds a number that is known to an accuracy, or at least lies on its side of zero."""
    if low - accuracy <= value <= high + accuracy:
        return AGREES
    return SAME_SIDE if min(low, value) > 0 or max(high, value) < 0 else DIFFERS


def _found(row: Mapping[str, Any], measured: Measured, measure: str, confidence: float) -> dict[str, Any]:
    """What a run gives for one published number."""
    tables = measured.of(row["explanation"], row["layer"])
    here = tables[(tables["dataset"] == row["dataset"]) & (tables["network"] == row["network"])]
    here = here[here["attack"] == row["attack"]]
    values = _values(here, row["training"], row["draws"], measure)
    reference = _values(here, row["reference"], 1, measure) if row["statistic"] != "correlation" else values
    if values is None or reference is None:
        return dict.fromkeys(KEYS, np.nan) | {"_draws": 0, "_seeds": 0, "_points": 0, "_agreement": NOT_RUN}
    draws, model = values
    of_model = here[(here["training"] == row["training"]) & (here["draws"] == draws)]
    if row["statistic"] == "correlation":
        second = _values(here, row["training"], row["draws"], "softmax_robustness")
        assert second is not None
        statistic = pearson(model, second[1])
    else:
        statistic = STATISTICS[row["statistic"]](model - reference[1])
    found = interval(statistic, confidence)
    return {
        "": found.estimate,
        "_low": found.low,
        "_high": found.high,
        "_draws": draws,
        "_seeds": len(statistic.by_seed),
        "_points": statistic.points,
        "_classified": float((of_model["label"] == of_model["prediction"]).mean()),
        "_agreement": agreement(row["value"], row["accuracy"], found.low, found.high),
    }


def _values(tables: pd.DataFrame, training: str, draws: int, name: str) -> tuple[int, np.ndarray] | None:
    """A column of one training as [seeds, points]; with the most draws that are not more than ``draws``, and how many."""
    table = tables[tables["training"] == training]
    if name not in table or table[name].isna().all():
        return None
    table = table[table[name].notna()]
    fewer = table["draws"][table["draws"] <= draws]
    used = int(fewer.max() if len(fewer) else table["draws"].min())
    pivot = table[table["draws"] == used].pivot(index="seed", columns="index", values=name)
    return used, pivot.to_numpy(dtype=float)


def median(values: np.ndarray) -> Resampled:
    """Median of values [seeds, points]."""
    by_both = np.array([_resampled_median(of_seed[None]) for of_seed in values])
    by_seed = np.median(values, axis=1)
    return Resampled(float(np.median(values)), _resampled_median(values), by_seed, by_both, values.shape[1])


def _resampled_median(values: np.ndarray) -> np.ndarray:
    """Median of values [seeds, points] in each resample of the points."""
    order = np.argsort(values, axis=None, kind="stable")
    heights = np.cumsum(np.tile(resamples(values.shape[1]), len(values))[:, order], axis=1)
    return values.ravel()[order][(heights >= heights[:, -1:] / 2).argmax(1)]


def mode(values: np.ndarray) -> Resampled:
    """Peak of the density of values [seeds, points], on a grid of hundredths with a kernel by Silverman's rule."""
    grid = np.linspace(-1, 1, 201)
    width = max(1.06 * float(values.std()) * values.size**-0.2, 0.01)
    kernels = np.exp(-(((grid - values[:, :, None]) / width) ** 2) / 2)
    densities = resamples(values.shape[1]) @ kernels
    estimate = float(grid[kernels.sum((0, 1)).argmax()])
    by_point, by_both = grid[densities.sum(0).argmax(1)], grid[densities.argmax(2)]
    return Resampled(estimate, by_point, grid[kernels.sum(1).argmax(1)], by_both, values.shape[1])


def pearson(first: np.ndarray, second: np.ndarray) -> Resampled:
    """Mean over seeds of Pearson's correlation, as in the published figures, of two quantities [seeds, points]."""
    once, weights = np.ones((1, first.shape[1])), resamples(first.shape[1])
    pairs = list(zip(first, second, strict=True))
    by_seed = np.array([_weighted_pearson(one, two, once)[0] for one, two in pairs])
    by_both = np.array([_weighted_pearson(one, two, weights) for one, two in pairs])
    return Resampled(float(by_seed.mean()), by_both.mean(0), by_seed, by_both, first.shape[1])


def _weighted_pearson(first: np.ndarray, second: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Pearson's correlation in each resample [B]; none where a quantity does not vary."""
    total = weights.sum(1)
    means = [weights @ values / total for values in (first, second)]
    variances = [weights @ values**2 / total - mean**2 for values, mean in zip((first, second), means, strict=True)]
    covariance = weights @ (first * second) / total - means[0] * means[1]
    spread = np.sqrt(np.clip(variances[0] * variances[1], 0, None))
    return np.divide(covariance, spread, out=np.zeros_like(covariance), where=spread > 1e-12)


STATISTICS: dict[str, Callable[[np.ndarray], Resampled]] = {"median": median, "mode": mode}


def summarise(compared: pd.DataFrame, runs: list[str]) -> pd.DataFrame:
    """How many of the published numbers of each figure agree, lie on the same side, differ or were not run, by run.

    ``distance`` is the median of how far our numbers are from the published ones: with few seeds intervals are wide, and a
    wide one agrees easily.
    """
    import pandas as pd

    rows = []
    for figure, part in compared.groupby("figure", sort=False):
        for run in runs:
            counts = part[f"{run}_agreement"].value_counts()
            kinds = (AGREES, SAME_SIDE, DIFFERS, NOT_RUN)
            distance = (pd.to_numeric(part[run], errors="coerce") - pd.to_numeric(part["value"])).abs().median()
            numbers = {kind: int(counts.get(kind, 0)) for kind in kinds}
            rows.append({"figure": figure, "run": run, **numbers, "distance": round(float(distance), 2)})
    return pd.DataFrame(rows).set_index(["figure", "run"])
