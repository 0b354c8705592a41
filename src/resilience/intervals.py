"""Intervals and p-values that count both test points and seeds as sources of chance.

The same points are used with every seed, so each value is known for every seed and point. A statistic varies because other
points could have been drawn and because other seeds could have been:

    Var = V_p + V_s − V_ps

V_p is its variance over points for the seeds at hand, V_s that of what each seed alone gives divided by the number of seeds,
and V_ps, what seeds and points have in common, is in both. With five seeds the estimate of V_s can be far too small by
chance. So what it could really have been is integrated over: V_s (S − 1) / χ² with χ² of S − 1 degrees of freedom, a
generalised p-value (Tsui and Weerahandi 1989). Where only points move a statistic, or only seeds do, that is the t-test of
their mean; where both do, the test rejects less often than promised, not more. Welch-Satterthwaite's one t distribution does
the opposite with few seeds, above all at the small levels that a correction for many tests asks for.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from scipy import optimize, stats
from scipy.special import stdtr

#: What is left out of the distribution of χ² on either side, and the number of its values that are summed over.
TAIL, VALUES = 1e-12, 128
#: A variance below this is rounding.
NO_VARIANCE = 1e-24


@dataclass(frozen=True)
class Resampled:
    """A statistic, in resamples of the points and in single seeds.

    ``estimate`` is its value, ``by_point`` [resamples] that in each resample of the points, ``by_seed`` [seeds] that of
    each seed alone, and ``by_both`` [seeds, resamples] that of each seed alone in each resample. ``points`` says how many
    points count.
    """

    estimate: float
    by_point: np.ndarray
    by_seed: np.ndarray
    by_both: np.ndarray
    points: int

    def __sub__(self, other: Resampled) -> Resampled:
        return Resampled(
            self.estimate - other.estimate,
            self.by_point - other.by_point,
            self.by_seed - other.by_seed,
            self.by_both - other.by_both,
            self.points,
        )


@dataclass(frozen=True)
class Interval:
    """An estimate with its interval and two-sided p-value against zero.

    ``low`` and ``high`` count points and seeds; ``low_points`` and ``high_points`` are the percentile bootstrap over points
    for the seeds at hand; ``seed_sd`` is the standard deviation of what each seed alone gives.
    """

    estimate: float
    low: float
    high: float
    low_points: float
    high_points: float
    seed_sd: float
    p: float


def interval(statistic: Resampled, confidence: float) -> Interval:
    """Interval of a resampled statistic; see the head of this module. With a single seed, only points count."""
    margin = (1 - confidence) / 2
    estimate, variances = statistic.estimate, variances_of(statistic)
    seed_sd = float(statistic.by_seed.std(ddof=1)) if variances.seeds > 1 else 0.0
    low_points, high_points = (float(value) for value in np.quantile(statistic.by_point, [margin, 1 - margin]))
    if variances.of_points + variances.of_seeds < NO_VARIANCE:
        return Interval(estimate, estimate, estimate, low_points, high_points, seed_sd, float(abs(estimate) < 1e-12))
    half, p = half_width(variances, confidence), p_value(abs(estimate), variances)
    return Interval(estimate, estimate - half, estimate + half, low_points, high_points, seed_sd, p)


@dataclass(frozen=True)
class Variances:
    """V_p, V_s and V_ps of a statistic, as the head of this module has them, and how many points and seeds they rest on."""

    of_points: float
    of_seeds: float
    shared: float
    points: int
    seeds: int


def variances_of(statistic: Resampled) -> Variances:
    """The variances of a statistic.

    In one seed alone, the variance over points is V_p + (S − 1) V_ps, which gives V_ps.
    """
    seeds, points = len(statistic.by_seed), statistic.points
    # A resample of n points varies (n − 1) / n times as much as n points do.
    unbiased = points / max(points - 1, 1)
    of_points = unbiased * float(statistic.by_point.var(ddof=1))
    if seeds == 1:
        return Variances(of_points, 0.0, 0.0, points, seeds)
    of_mean = unbiased * float(statistic.by_both.mean(0).var(ddof=1))
    alone = unbiased * float(statistic.by_both.var(axis=1, ddof=1).mean())
    of_seeds = float(statistic.by_seed.var(ddof=1)) / seeds
    return Variances(of_points, of_seeds, max(alone - of_mean, 0.0) / (seeds - 1), points, seeds)


def p_value(size: float, variances: Variances) -> float:
    """The probability that chance alone moves a statistic with these variances by ``size`` ≥ 0 or more, up or down."""
    possible, weights = np.array([variances.of_points]), np.ones(1)
    if variances.seeds > 1:
        chi_squares, weights = _chi_squares(variances.seeds - 1)
        of_seeds = variances.of_seeds * (variances.seeds - 1) / chi_squares
        possible = variances.of_points + np.maximum(of_seeds - variances.shared, 0)
    possible = np.maximum(possible, NO_VARIANCE)
    # Only V_p is an estimate here, on points − 1 degrees of freedom; what else there is, is given.
    with np.errstate(divide="ignore"):
        freedom = max(variances.points - 1, 1) * (possible / np.float64(variances.of_points)) ** 2
    return float(2 * weights @ stdtr(np.minimum(freedom, 1e9), -size / np.sqrt(possible)))


def half_width(variances: Variances, confidence: float) -> float:
    """How far chance alone moves a statistic with these variances at most, with a probability of ``confidence``."""
    least = max(min(variances.points, variances.seeds if variances.seeds > 1 else variances.points) - 1, 1)
    most = 2 * float(stats.t.isf((1 - confidence) / 2, least)) * (variances.of_points + variances.of_seeds) ** 0.5
    return float(optimize.brentq(lambda size: p_value(size, variances) - (1 - confidence), 0, most))


@cache
def _chi_squares(freedom: int) -> tuple[np.ndarray, np.ndarray]:
    """Values of χ², evenly spaced in their logarithm, and the probability of each."""
    low, high = np.log(stats.chi2.ppf(TAIL, freedom)), np.log(stats.chi2.isf(TAIL, freedom))
    values = np.exp(np.linspace(low, high, VALUES))
    weights = stats.chi2.pdf(values, freedom) * values
    return values, weights / weights.sum()
