"""Intervals against the t-tests that they are where only points or only seeds move a statistic."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import integrate, stats

from resilience.comparisons import statistics
from resilience.intervals import Variances, half_width, interval, p_value, variances_of


def grid(seeds: int, points: int, seed: int, of_seed=0.0, of_point=0.0, noise=1.0, mean=0.0) -> np.ndarray:
    generator = np.random.default_rng(seed)
    by_seed = of_seed * generator.normal(size=(seeds, 1))
    return mean + by_seed + of_point * generator.normal(size=(1, points)) + noise * generator.normal(size=(seeds, points))


def test_interval_of_one_seed_is_the_t_interval_of_its_points():
    values = grid(1, 400, 0, mean=0.3)
    found = interval(statistics.mean(values), 0.95)
    low, high = stats.t.interval(0.95, 399, values.mean(), stats.sem(values[0]))
    assert found.low == pytest.approx(low, abs=0.01)
    assert found.high == pytest.approx(high, abs=0.01)
    assert found.p == pytest.approx(stats.ttest_1samp(values[0], 0).pvalue, rel=0.5)


def test_interval_of_seeds_alone_is_their_t_interval():
    values = grid(5, 300, 1, of_seed=1.0, noise=1e-9)
    found = interval(statistics.mean(values), 0.95)
    low, high = stats.t.interval(0.95, 4, values[:, 0].mean(), stats.sem(values[:, 0]))
    assert found.low == pytest.approx(low, abs=1e-6)
    assert found.high == pytest.approx(high, abs=1e-6)
    assert found.p == pytest.approx(stats.ttest_1samp(values[:, 0], 0).pvalue, rel=1e-4)


def test_no_difference_at_all():
    found = interval(statistics.mean(np.zeros((3, 10))), 0.95)
    assert (found.estimate, found.low, found.high, found.p) == (0, 0, 0, 1)


def test_variances_are_those_of_a_crossed_design():
    values = grid(4, 300, 0, of_seed=0.1, of_point=0.8, noise=1.2)
    found = variances_of(statistics.mean(values))
    rest = values - values.mean(0) - values.mean(1, keepdims=True) + values.mean()
    assert found.of_points == pytest.approx(values.mean(0).var(ddof=1) / 300, rel=0.15)
    assert found.of_seeds == pytest.approx(values.mean(1).var(ddof=1) / 4)
    assert found.shared == pytest.approx((rest**2).sum() / (3 * 299) / (4 * 300), rel=0.15)
    assert (found.points, found.seeds) == (300, 4)


@pytest.mark.parametrize("seeds", [2, 3, 5, 12])
@pytest.mark.parametrize("confidence", [0.5, 0.95, 0.9999])
def test_students_t_is_reached_at_either_end(seeds, confidence):
    for of_points, of_seeds, freedom in ((4.0, 0.0, 59), (0.0, 4.0, seeds - 1)):
        variances = Variances(of_points, of_seeds, 0.0, 60, seeds)
        quantile = 2 * stats.t.isf((1 - confidence) / 2, freedom)
        assert half_width(variances, confidence) == pytest.approx(quantile, rel=1e-7)
        assert p_value(quantile, variances) == pytest.approx(1 - confidence, rel=1e-7)


@pytest.mark.parametrize("seeds", [2, 5])
@pytest.mark.parametrize("size", [0.5, 2.0, 8.0])
def test_p_value_is_the_integral_over_what_the_variance_of_seeds_could_be(seeds, size):
    variances = Variances(0.6, 0.7, 0.3, 10**9, seeds)

    def at(chi_square: float) -> float:
        possible = 0.6 + max(0.7 * (seeds - 1) / chi_square - 0.3, 0)
        return 2 * stats.norm.sf(size / possible**0.5) * stats.chi2.pdf(chi_square, seeds - 1)

    kink = 0.7 * (seeds - 1) / 0.3
    expected = sum(integrate.quad(at, *ends, limit=500)[0] for ends in ((0, 1e-3), (1e-3, kink), (kink, np.inf)))
    assert p_value(size, variances) == pytest.approx(expected, rel=2e-3)


def test_what_seeds_and_points_share_counts_once():
    apart, shared = Variances(0.6, 0.7, 0.0, 100, 5), Variances(0.6, 0.7, 0.3, 100, 5)
    assert half_width(shared, 0.95) < half_width(apart, 0.95)
    assert half_width(shared, 0.95) > half_width(Variances(0.6, 0.0, 0.0, 100, 5), 0.95)
