"""Half-moons: their points, their known manifold, and what the stages make of it."""

from __future__ import annotations

import math

import numpy as np
import pytest

from resilience import data
from resilience.datasets.half_moons import directions, half_moons


def nearest_by_search(point):
    """Tangent and normal at the nearest of many points of both half circles, by their parametrisation in scikit-learn."""
    angles = np.linspace(0, math.pi, 20001)
    arcs = {
        "upper": (np.stack([np.cos(angles), np.sin(angles)], 1), np.stack([-np.sin(angles), np.cos(angles)], 1)),
        "lower": (np.stack([1 - np.cos(angles), 0.5 - np.sin(angles)], 1), np.stack([np.sin(angles), -np.cos(angles)], 1)),
    }
    found = []
    for places, tangents in arcs.values():
        distances = np.linalg.norm(places - point, axis=1)
        found.append((distances.min(), tangents[distances.argmin()]))
    distance, tangent = min(found, key=lambda pair: pair[0])
    return distance, tangent


def test_directions_are_those_at_the_nearest_point_of_the_circles():
    points = np.random.default_rng(0).uniform([-1.6, -1.1], [2.6, 1.6], (300, 2))
    tangents, normals = directions(points)
    assert np.allclose(np.linalg.norm(tangents, axis=1), 1)
    assert np.allclose((tangents * normals).sum(1), 0)
    for point, tangent in zip(points, tangents, strict=True):
        _, expected = nearest_by_search(point)
        assert abs(tangent @ expected) == pytest.approx(1, abs=1e-3), point


def test_points_of_a_seed_are_the_same_whatever_is_learnt_from():
    few, many = (data.split(half_moons(points=400, test_share=0.1), 0.1, count, "moons") for count in (40, 200))
    assert np.array_equal(few["test.x"], many["test.x"])
    assert np.array_equal(few[data.TANGENTS], many[data.TANGENTS])
    assert (len(few["train.y"]), len(many["train.y"])) == (40, 200)
    other = half_moons(points=400, test_share=0.1, seed=1)
    assert not np.array_equal(other.test.x, few["test.x"])


def test_tangents_belong_to_their_points():
    """Without noise, a step along the tangent stays on the circle to first order, and one across it does not."""
    source = half_moons(points=2000, noise=0, test_share=0.05)
    known = source.train.x.reshape(-1, 2)
    assert source.tangents is not None
    for point, tangent in zip(source.test.x.reshape(-1, 2), source.tangents[:, 0], strict=True):
        across = np.array([-tangent[1], tangent[0]])
        distances = [
            min(np.linalg.norm(known - (point + sign * 0.02 * step), axis=1).min() for sign in (-1, 1))
            for step in (tangent, across)
        ]
        assert distances[0] < 0.006 < 0.015 < distances[1]


def test_a_source_that_knows_no_manifold_has_no_tangents():
    source = half_moons(points=100)
    plain = data.Source(source.train, source.test)
    assert data.TANGENTS not in data.split(plain, 0.1, None, "moons")
