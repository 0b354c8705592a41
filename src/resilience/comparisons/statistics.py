"""Statistics of quantities that are known for each seed and point, in resamples of the points."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np
from scipy import stats

from resilience.intervals import Resampled
from resilience.seeding import generator_of

RESAMPLES = 1000
#: What varies less is taken to be the same everywhere.
NO_SPREAD = 1e-9


def mean(values: np.ndarray) -> Resampled:
    """Mean of values [seeds, points]; NaN where a point does not count for a seed."""
    counts = np.isfinite(values)
    filled = np.where(counts, values, 0.0)
    weights = resamples(values.shape[1])
    totals, numbers = filled @ weights.T, counts @ weights.T
    by_seed = filled.sum(1) / counts.sum(1)
    # A seed of which a resample has no point is taken as it is.
    by_both = np.divide(totals, numbers, out=np.repeat(by_seed[:, None], len(weights), 1), where=numbers > 0)
    estimate = filled.sum() / counts.sum()
    drawn = numbers.sum(0)
    by_point = np.divide(totals.sum(0), drawn, out=np.full(len(weights), estimate), where=drawn > 0)
    return Resampled(float(estimate), by_point, by_seed, by_both, int(counts.any(0).sum()))


def correlation(first: np.ndarray, second: np.ndarray) -> Resampled:
    """Mean over seeds of Spearman's rank correlation of two quantities [seeds, points]."""
    once = np.ones((1, first.shape[1]))
    by_seed = np.array([_spearman(one, two, once)[0] for one, two in zip(first, second, strict=True)])
    weights = resamples(first.shape[1])
    by_both = np.array([_spearman(one, two, weights) for one, two in zip(first, second, strict=True)])
    return Resampled(float(by_seed.mean()), by_both.mean(0), by_seed, by_both, first.shape[1])


def correlation_along(first: Sequence[Resampled | float], second: Sequence[Resampled], ranks: bool) -> Resampled:
    """Mean over seeds of the correlation, over models, of two statistics of each, or of a number with one.

    Parameters
    ----------
    first, second
        Of each model; those of all are of the same seeds and points. What is drawn anew in an interval are seeds and points,
        not the models.
    ranks
        Whether it is Spearman's, else Pearson's. What does not vary has no correlation; it counts as none.
    """
    shape = second[0].by_both.shape
    by_seed, by_both = (
        _pearson(*(stats.rankdata(part, axis=0) if ranks else part for part in pair))
        for pair in (
            [_stacked(one, "by_seed", shape[:1]) for one in (first, second)],
            [_stacked(one, "by_both", shape) for one in (first, second)],
        )
    )
    return Resampled(float(by_seed.mean()), by_both.mean(0), by_seed, by_both, second[0].points)


def _stacked(statistics: Sequence[Resampled | float], name: str, shape: tuple[int, ...]) -> np.ndarray:
    """A field of statistics [models, …], a number in the place of one the same everywhere."""
    found = [getattr(one, name) if isinstance(one, Resampled) else np.full(shape, one) for one in statistics]
    return np.stack(found)


def _pearson(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Pearson's correlation over the first axis."""
    centred = [part - part.mean(0) for part in (first, second)]
    spread = np.sqrt((centred[0] ** 2).sum(0) * (centred[1] ** 2).sum(0))
    together = (centred[0] * centred[1]).sum(0)
    return np.divide(together, spread, out=np.zeros_like(together), where=spread > NO_SPREAD)


@cache
def resamples(points: int) -> np.ndarray:
    """How often each point is drawn in each resample, [RESAMPLES, points]: the same for all statistics."""
    return generator_of("bootstrap", points).multinomial(points, np.full(points, 1 / points), RESAMPLES).astype(float)


def _spearman(first: np.ndarray, second: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Spearman's correlation in each resample [B], of values [points] that are drawn ``weights`` [B, points] times."""
    total = weights.sum(1)
    ranks = [_ranks(values, weights) for values in (first, second)]
    centred = [rank - ((rank * weights).sum(1) / total)[:, None] for rank in ranks]
    squares = [(rank * rank * weights).sum(1) for rank in centred]
    spread = np.sqrt(squares[0] * squares[1])
    product = (centred[0] * centred[1] * weights).sum(1)
    # A quantity that does not vary has no rank correlation; it counts as none.
    return np.divide(product, spread, out=np.zeros_like(product), where=spread > NO_SPREAD)


def _ranks(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Mean ranks [B, points] among points that are drawn ``weights`` times."""
    _, group = np.unique(values, return_inverse=True)
    of_group = np.zeros((len(weights), group.max() + 1))
    np.add.at(of_group.T, group, weights.T)
    below = np.cumsum(of_group, 1) - of_group
    return (below + (of_group + 1) / 2)[:, group]
