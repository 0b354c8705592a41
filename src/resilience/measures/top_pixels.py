"""The pixels of a heat map with the most relevance (paper, Def. IV.1: Top_k)."""

from __future__ import annotations

import numpy as np


def number_of_top_pixels(pixels: int, percent: float) -> int:
    """How many pixels ``percent`` % of them are: rounded down, at least one."""
    return max(1, int(pixels * percent / 100 + 1e-9))


def top_pixels(relevance: np.ndarray, percent: float) -> np.ndarray:
    """Which pixels are among the top ``percent`` % in absolute relevance (paper, Def. IV.1: Top_k).

    Parameters
    ----------
    relevance
        [N, …]; everything behind the first axis counts as pixels. Ties go to the smaller pixel index.
    percent
        In (0, 100].

    Returns
    -------
    numpy.ndarray
        bool, of the shape of ``relevance``.
    """
    flat = np.abs(relevance.reshape(len(relevance), -1))
    count = number_of_top_pixels(flat.shape[1], percent)
    least = np.partition(flat, -count, axis=1)[:, -count, None]
    chosen, tied = flat > least, flat == least
    chosen |= tied & (np.cumsum(tied, axis=1) <= count - chosen.sum(1, keepdims=True))
    return chosen.reshape(relevance.shape)


def extreme_halves(relevance: np.ndarray, percent: float) -> np.ndarray:
    """Which pixels are among the ``percent`` / 2 % most positive or most negative ones, as in the published code.

    The same number of either sign, however small they are: a pixel that turns from one to the other stays. Parameters and
    result as in :func:`top_pixels`.
    """
    flat = relevance.reshape(len(relevance), -1)
    count = number_of_top_pixels(flat.shape[1], percent / 2)
    order = np.argsort(flat, axis=1, kind="stable")
    chosen = np.zeros(flat.shape, dtype=bool)
    np.put_along_axis(chosen, np.concatenate([order[:, :count], order[:, -count:]], 1), True, axis=1)
    return chosen.reshape(relevance.shape)


#: Which pixels count as the top k, by the name that a config gives.
PIXELS = {"absolute": top_pixels, "extreme_halves": extreme_halves}


def chance(percent: float) -> float:
    """The overlap of the top pixels of two heat maps that have nothing to do with each other, on average."""
    return percent / 100
