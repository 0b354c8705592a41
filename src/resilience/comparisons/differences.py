"""How far two quantities differ that are known for the same seeds and points: what a row of a comparison says."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np
from scipy import stats

from resilience.comparisons.statistics import mean
from resilience.intervals import Resampled, interval


def both(first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Two quantities [seeds, points] with zeros in the place of what is undefined in one of them, and where both are not."""
    known = np.isfinite(first) & np.isfinite(second)
    return np.where(known, first, 0), np.where(known, second, 0), known


def difference(first: np.ndarray, second: np.ndarray, counts: np.ndarray, confidence: float) -> dict[str, Any]:
    """Of two quantities [seeds, points] where they count: mean difference, interval, effect size and tests, as columns."""
    statistic = mean(np.where(counts, first - second, np.nan))
    kept = counts.any(0)
    weights = counts[:, kept] / counts[:, kept].sum(0)
    of_points = [(part[:, kept] * weights).sum(0) for part in (first, second)]
    of_each = of_points[0] - of_points[1]
    spread = float(of_each.std(ddof=1)) if len(of_each) > 1 else 0.0
    return {
        "mean": float(first[counts].mean()),
        "mean_reference": float(second[counts].mean()),
        **asdict(interval(statistic, confidence)),
        "effect_size": float(of_each.mean() / spread) if spread > 0 else 0.0,
        "seeds": len(first),
        "points": int(kept.sum()),
        "p_wilcoxon": float(stats.wilcoxon(of_each).pvalue) if of_each.any() else 1.0,
        "p_mann_whitney": float(stats.mannwhitneyu(*of_points, alternative="greater").pvalue),
    }


def difference_of_correlations(first: Resampled, second: Resampled, confidence: float) -> dict[str, Any]:
    """Of two correlations: their difference with its interval, as columns."""
    return {
        "mean": first.estimate,
        "mean_reference": second.estimate,
        **asdict(interval(first - second, confidence)),
        "seeds": len(first.by_seed),
        "points": first.points,
    }
