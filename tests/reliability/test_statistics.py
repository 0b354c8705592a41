"""Intervals and tests on simulated data whose truth is known: coverage, false findings, power.

The simulated overlaps look like those of the default run: multiples of 1/12 in [0, 1], with effects of seeds, of points and
of both. Rates are held against what is promised by a binomial margin: a right method fails one time in a thousand, if the
random numbers were drawn anew. `-s` prints what docs/reliability.md says.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from scipy import stats
from threadpoolctl import threadpool_limits

from resilience import reproduction, verdicts
from resilience.comparisons import statistics
from resilience.intervals import interval, p_value, variances_of
from resilience.multiple_testing import holm

LEVEL = 0.05
#: How many tests the default run corrects for.
FAMILY = 134


@pytest.fixture(autouse=True)
def one_thread():
    """Products this small are slower on two threads than on one."""
    with threadpool_limits(1):
        yield


@dataclass(frozen=True)
class World:
    """Where overlaps come from: standard deviations of what seeds, points and both move, and the model's advantage."""

    seeds: int
    points: int
    of_seed: float
    effect: float = 0.0
    of_point: float = 0.1
    of_both: float = 0.14
    skewed: bool = False

    def difference(self, generator: np.random.Generator) -> np.ndarray:
        """Overlaps of a model minus those of a reference, [seeds, points], on the same points."""
        shared = generator.normal(size=(1, self.points))
        model = self._overlaps(generator, shared, self.effect, self.skewed)
        return model - self._overlaps(generator, shared, 0.0, False)

    def truth(self) -> float:
        """The mean difference over all seeds and points that there could be."""
        many = World(2_000_000, 1, self.of_seed, self.effect, self.of_point, self.of_both, self.skewed)
        generator = np.random.default_rng(0)
        shared = generator.normal(size=(many.seeds, 1))
        model = many._overlaps(generator, shared, self.effect, self.skewed)
        return float((model - many._overlaps(generator, shared, 0.0, False)).mean())

    def _overlaps(self, generator, shared, effect: float, skewed: bool) -> np.ndarray:
        shape = (self.seeds, self.points)
        by_seed = generator.exponential(size=(self.seeds, 1)) - 1 if skewed else generator.normal(size=(self.seeds, 1))
        # Half of what a point does is the same for both models, the rest is each model's own and the same for all seeds.
        own = generator.normal(size=(1, self.points)) if len(shared) == 1 else generator.normal(size=shape)
        of_points = self.of_point * (shared + 0.5 * own)
        values = 0.65 + effect + self.of_seed * by_seed + of_points + self.of_both * generator.normal(size=shape)
        return np.clip(np.round(12 * values), 0, 12) / 12


def at_most(rate: float, trials: int) -> float:
    """The largest rate among ``trials`` that a method with this rate exceeds one time in a thousand."""
    return float(stats.binom.ppf(0.999, trials, rate)) / trials


def p_values(world: World, trials: int, truth: float = 0.0, seed: int = 0) -> np.ndarray:
    """The p-value of the truth in each trial: below the level where the interval misses it."""
    generator = np.random.default_rng(seed)
    found = [statistics.mean(world.difference(generator)) for _ in range(trials)]
    return np.array([p_value(abs(statistic.estimate - truth), variances_of(statistic)) for statistic in found])


@pytest.mark.parametrize("of_seed", [0.0, 0.012, 0.03, 0.1])
@pytest.mark.parametrize(("seeds", "points"), [(5, 200), (3, 100), (2, 100)])
def test_intervals_cover_the_truth_as_often_as_they_promise(seeds, points, of_seed):
    world = World(seeds, points, of_seed, effect=0.08)
    missed = (p_values(world, 1000, world.truth()) < LEVEL).mean()
    print(f"\ncoverage, {seeds} seeds × {points} points, sd of seeds {of_seed}: {1 - missed:.3f}")
    assert missed <= at_most(LEVEL, 1000)


def test_an_interval_misses_zero_where_its_p_value_is_below_the_level():
    generator = np.random.default_rng(0)
    for _ in range(100):
        found = interval(statistics.mean(World(3, 60, 0.03, effect=0.05).difference(generator)), 1 - LEVEL)
        assert (found.low > 0 or found.high < 0) == (found.p < LEVEL)


def test_intervals_without_seeds_as_a_source_would_not_cover():
    generator = np.random.default_rng(0)
    found = [interval(statistics.mean(World(5, 200, 0.03).difference(generator)), 1 - LEVEL) for _ in range(300)]
    covered = np.mean([one.low_points <= 0 <= one.high_points for one in found])
    print(f"\ncoverage of a bootstrap over points alone, 5 seeds × 200 points, sd of seeds 0.03: {covered:.2f}")
    assert covered < 0.8


def test_seeds_that_are_not_normal_cost_coverage():
    """A limit, not a promise: with five seeds, no method knows what a sixth that is quite different would do."""
    world = World(5, 200, 0.1, effect=0.08, skewed=True)
    covered = 1 - (p_values(world, 1000, world.truth()) < LEVEL).mean()
    print(f"\ncoverage, 5 seeds × 200 points, exponential seeds of the model alone with sd 0.1: {covered:.3f}")
    assert covered > 0.88


@pytest.mark.parametrize("of_seed", [0.0, 0.012, 0.1])
def test_intervals_of_a_subset_that_differs_from_seed_to_seed_cover_as_well(of_seed):
    """As of the unbroken points: some points count with most seeds, others with hardly any."""
    world, generator, missed = World(5, 200, of_seed), np.random.default_rng(0), 0
    for _ in range(1000):
        often = generator.beta(0.5, 1, size=(1, world.points))
        counts = generator.uniform(size=(world.seeds, world.points)) < often
        statistic = statistics.mean(np.where(counts, world.difference(generator), np.nan))
        missed += p_value(abs(statistic.estimate), variances_of(statistic)) < LEVEL
    print(f"\ncoverage on a third of the points, 5 seeds × 200 points, sd of seeds {of_seed}: {1 - missed / 1000:.3f}")
    assert missed / 1000 <= at_most(LEVEL, 1000)


@pytest.mark.parametrize(("seeds", "points", "of_seed"), [(5, 200, 0.03), (3, 100, 0.03)])
def test_false_verdicts_are_as_rare_as_promised(seeds, points, of_seed):
    """Where nothing differs, at most one table of claims in twenty holds a verdict other than inconclusive."""
    families = 100
    p = p_values(World(seeds, points, of_seed), families * FAMILY).reshape(families, FAMILY)
    each = (p < LEVEL).mean()
    wrong = np.mean([(holm(family) < LEVEL).any() for family in p])
    print(f"\nfalse findings, {seeds} seeds × {points} points, sd of seeds {of_seed}: ", end="")
    print(f"{each:.4f} of tests, {wrong:.2f} of tables of {FAMILY}")
    assert each <= at_most(LEVEL, p.size)
    assert wrong <= at_most(LEVEL, families)


@pytest.mark.parametrize(("seeds", "points"), [(5, 200), (3, 100)])
def test_what_is_large_is_found_and_on_its_side(seeds, points):
    found = {}
    for effect in (0.05, 0.1, -0.1):
        world, generator = World(seeds, points, 0.012, effect), np.random.default_rng(0)
        intervals = [interval(statistics.mean(world.difference(generator)), 1 - LEVEL) for _ in range(200)]
        for number in (1, FAMILY):
            said = [verdicts.verdict(one.low, one.high, min(number * one.p, 1), seeds, LEVEL) for one in intervals]
            rates = {name: said.count(name) / len(said) for name in (verdicts.HOLDS, verdicts.REVERSED)}
            print(f"\nverdicts, {seeds} seeds × {points} points, effect {effect}, one of {number}: {rates}")
            found[effect, number] = rates
    assert found[0.1, 1][verdicts.HOLDS] > 0.8
    assert found[-0.1, 1][verdicts.REVERSED] > 0.8
    assert seeds < 5 or found[0.1, FAMILY][verdicts.HOLDS] > 0.35
    assert found[0.1, 1][verdicts.REVERSED] == found[-0.1, 1][verdicts.HOLDS] == 0


def test_differences_of_correlations_cover_the_truth():
    """Two models of the same kind: the difference of their correlations is zero."""
    generator, trials, wrong = np.random.default_rng(0), 200, 0
    for _ in range(trials):
        both = []
        for _model in range(2):
            strength = 0.5 + 0.2 * generator.normal(size=(3, 1))
            softmax = generator.beta(0.5, 0.5, size=(3, 60))
            overlap = np.round(12 * np.clip(0.5 + strength * (softmax - 0.5) + 0.2 * generator.normal(size=(3, 60)), 0, 1))
            both.append(statistics.correlation(overlap / 12, softmax))
        difference = both[0] - both[1]
        wrong += p_value(abs(difference.estimate), variances_of(difference)) < LEVEL
    print(f"\ncoverage of a difference of correlations, 3 seeds × 60 points: {1 - wrong / trials:.3f}")
    assert wrong / trials <= at_most(LEVEL, trials)


def test_medians_cover_the_truth():
    """Of what published numbers are compared with. Overlaps are multiples of 1/12, and so are medians of differences."""
    generator, world, trials, wrong = np.random.default_rng(0), World(3, 100, 0.03), 200, 0
    for _ in range(trials):
        median = reproduction.median(world.difference(generator))
        wrong += abs(median.estimate) > 1e-12 and p_value(abs(median.estimate), variances_of(median)) < LEVEL
    print(f"\ncoverage of a median, 3 seeds × 100 points, sd of seeds 0.03: {1 - wrong / trials:.3f}")
    assert wrong / trials <= at_most(LEVEL, trials)


def test_the_tests_of_the_paper_take_seeds_for_no_chance():
    """They stand beside the interval and give no verdict: with seeds that differ they find what is not there."""
    generator, wilcoxon, mann_whitney = np.random.default_rng(0), [], []
    for _ in range(500):
        difference = World(5, 200, 0.03).difference(generator).mean(0)
        wilcoxon.append(stats.wilcoxon(difference).pvalue)
        mann_whitney.append(stats.mannwhitneyu(difference, np.zeros_like(difference), alternative="greater").pvalue)
    rates = [float(np.mean(np.array(p) < LEVEL)) for p in (wilcoxon, mann_whitney)]
    print(f"\nfalse findings of Wilcoxon's test, 5 seeds × 200 points, sd of seeds 0.03: {rates[0]:.2f}")
    assert rates[0] > 0.2
