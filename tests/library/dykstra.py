"""The nearest point of two convex sets at once, slowly: what projections are checked against."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

#: Of a point the nearest one of a set.
Projection = Callable[[np.ndarray], np.ndarray]


def nearest_in_both(point: np.ndarray, first: Projection, second: Projection, rounds: int = 3000) -> np.ndarray:
    """By Dykstra's alternating projections (Boyle & Dykstra 1986), which end at the nearest point of both sets."""
    here, of_first, of_second = point, np.zeros_like(point), np.zeros_like(point)
    for _ in range(rounds):
        between = first(here + of_first)
        of_first = here + of_first - between
        here = second(between + of_second)
        of_second = between + of_second - here
    return here
