"""Rules that replace an integral by a sum, against integrals that are known."""

from __future__ import annotations

import math
from typing import get_args

import pytest
from threadpoolctl import threadpool_limits

from resilience.explanations.quadrature import Rule, places_and_weights

RULES = get_args(Rule)


def integral(rule, steps, function):
    return sum(weight * function(place) for place, weight in places_and_weights(rule, steps))


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("steps", [1, 2, 7, 50])
def test_places_lie_on_the_path_and_weights_sum_to_one(rule, steps):
    pairs = places_and_weights(rule, steps)
    assert len(pairs) == steps + (rule == "trapezoid")
    assert all(0 <= place <= 1 and weight > 0 for place, weight in pairs)
    assert math.isclose(sum(weight for _, weight in pairs), 1, rel_tol=1e-14)


@pytest.mark.parametrize(("rule", "degree"), [("right", 0), ("midpoint", 1), ("trapezoid", 1), ("gauss_legendre", 9)])
def test_a_rule_is_exact_up_to_its_degree_and_no_further(rule, degree):
    for power in range(degree + 1):
        assert math.isclose(integral(rule, 5, lambda t, power=power: t**power), 1 / (power + 1), rel_tol=1e-13)
    beyond = degree + 1
    assert not math.isclose(integral(rule, 5, lambda t: t**beyond), 1 / (beyond + 1), rel_tol=1e-9)


@pytest.mark.parametrize(("rule", "order"), [("right", 1), ("midpoint", 2), ("trapezoid", 2)])
def test_twice_as_many_steps_have_the_smaller_error_of_the_rules_order(rule, order):
    errors = [abs(integral(rule, steps, math.exp) - math.expm1(1)) for steps in (64, 128)]
    assert math.isclose(errors[0] / errors[1], 2**order, rel_tol=0.02)


def test_right_places_are_those_of_boopathy():
    assert places_and_weights("right", 4) == [(0.25, 0.25), (0.5, 0.25), (0.75, 0.25), (1.0, 0.25)]


@pytest.mark.parametrize("steps", [16, 300])
def test_places_are_the_same_with_any_number_of_threads(steps):
    found = []
    for threads in (1, 4):
        with threadpool_limits(threads):
            found.append(places_and_weights("gauss_legendre", steps))
    assert found[0] == found[1]
