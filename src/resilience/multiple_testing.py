"""p-values of many tests at once, corrected for their number."""

from __future__ import annotations

import numpy as np


def holm(p: np.ndarray) -> np.ndarray:
    """p-values corrected for their number (Holm 1979); NaN stays NaN and does not count."""
    corrected = np.full_like(p, np.nan)
    known = np.flatnonzero(np.isfinite(p))
    order = known[np.argsort(p[known], kind="stable")]
    scaled = np.maximum.accumulate(p[order] * (len(order) - np.arange(len(order))))
    corrected[order] = np.minimum(scaled, 1)
    return corrected
