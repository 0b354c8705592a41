"""Rules that replace an integral over [0, 1] by a weighted sum of values at some places."""

from __future__ import annotations

from typing import Literal

import numpy as np

Rule = Literal["midpoint", "right", "trapezoid", "gauss_legendre"]


def places_and_weights(rule: Rule, steps: int) -> list[tuple[float, float]]:
    """Where to look, and what each value counts: pairs (t_j, w_j) with t_j in [0, 1] and Σ_j w_j = 1.

    Parameters
    ----------
    rule
        ``midpoint``: t_j = (j − 1/2) / m. ``right``: t_j = j / m. ``trapezoid``: the ends of all steps, the first and the
        last by half. ``gauss_legendre``: exact for polynomials up to degree 2m − 1 (Abramowitz and Stegun 1964, 25.4.30).
    steps
        m > 0. There are m pairs, for ``trapezoid`` m + 1.
    """
    match rule:
        case "midpoint":
            return [((step + 0.5) / steps, 1 / steps) for step in range(steps)]
        case "right":
            return [((step + 1) / steps, 1 / steps) for step in range(steps)]
        case "trapezoid":
            return [(step / steps, (0.5 if step in (0, steps) else 1.0) / steps) for step in range(steps + 1)]
        case "gauss_legendre":
            places, weights = np.polynomial.legendre.leggauss(steps)  # On [−1, 1].
            return list(zip(((places + 1) / 2).tolist(), (weights / 2).tolist(), strict=True))
