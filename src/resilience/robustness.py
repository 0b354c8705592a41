"""How much of an explanation survives an attack, point by point (paper, Sec. II-B and IV-A)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import pandas as pd


class RelevanceError(ValueError):
    """Heat maps that cannot be compared. The message says which."""


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
    order = np.argsort(-flat, axis=1, kind="stable")[:, :count]
    chosen = np.zeros(flat.shape, dtype=bool)
    np.put_along_axis(chosen, order, True, axis=1)
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


def lrp_robustness(clean: np.ndarray, attacked: np.ndarray, percent: float, pixels: str = "absolute") -> np.ndarray:
    """|Top_k(R(x)) ∩ Top_k(R(x̃))| / k (paper, Def. IV.1 and Eq. 2).

    Parameters
    ----------
    clean, attacked
        Heat maps [N, C, H, W] before and after the attack.
    percent
        k, the percentage of most relevant pixels.
    pixels
        Which those are; see :data:`PIXELS`.

    Returns
    -------
    numpy.ndarray
        [N], from 0 (no pixel in common) to 1 (all of them). Two random maps reach k / 100 on average.

    Raises
    ------
    RelevanceError
        If a value is NaN or infinite, which has no rank among others.
    """
    for name, relevance in (("clean", clean), ("attacked", attacked)):
        if broken := int((~np.isfinite(relevance)).any(tuple(range(1, relevance.ndim))).sum()):
            raise RelevanceError(f"{broken} of {len(relevance)} {name} heat maps have values that are not finite")
    before, after = (PIXELS[pixels](relevance, percent) for relevance in (clean, attacked))
    axes = tuple(range(1, clean.ndim))
    return (before & after).sum(axes) / before.sum(axes)


def chance(percent: float) -> float:
    """LRP robustness of two heat maps that have nothing to do with each other, on average."""
    return percent / 100


def softmax_robustness(clean: np.ndarray, attacked: np.ndarray) -> np.ndarray:
    """1 − ‖p(x) − p(x̃)‖_∞ (paper, Sec. II-B), for probabilities [N, classes]; from 0 (fragile) to 1 (unchanged)."""
    return 1 - np.abs(clean.astype(np.float64) - attacked).max(1)


def column(rule: str, layer: int, percent: float) -> str:
    """Name of the column of LRP robustness for a rule, a layer and a percentage."""
    return f"lrp_{rule}_layer{layer}_top{percent:g}"


def relevant(rule: str, layer: int) -> str:
    """Name of the column with the share of pixels that have any relevance before the attack.

    Where it is below k, pixels without relevance fill the top k in the order of their index and count as surviving.
    """
    return f"relevant_{rule}_layer{layer}"


def rules_in(measured: pd.DataFrame, layer: int, percent: float) -> list[str]:
    """The rules for which a table holds the LRP robustness of a layer; a column without any value does not count."""
    start, end = column("|", layer, percent).split("|")
    names = [str(name) for name in measured.dropna(axis=1, how="all").columns]
    return [name[len(start) : -len(end)] for name in names if name.startswith(start) and name.endswith(end)]


def table(
    points: Mapping[str, np.ndarray],
    attacked: Mapping[str, np.ndarray],
    predictions: tuple[np.ndarray, np.ndarray],
    maps: Mapping[tuple[str, int], tuple[np.ndarray, np.ndarray]],
    percentages: Iterable[float],
    pixels: str,
    identity: Mapping[str, Any],
) -> pd.DataFrame:
    """One row per test point.

    Parameters
    ----------
    points
        ``x`` [N, C, H, W], ``y`` [N] and ``index`` [N] of the test points.
    attacked
        ``x`` and ``zero_gradient`` [N] of the attacked inputs.
    predictions
        Probabilities [N, classes] before and after the attack.
    maps
        Heat maps before and after the attack, by rule and layer.
    percentages
        The values of k.
    pixels
        Which pixels are the top k; see :data:`PIXELS`.
    identity
        What the table is about; each becomes a column, so that tables can be put under one another.

    Returns
    -------
    pandas.DataFrame
        ``index`` into the test split, ``label``, predicted classes, softmax robustness, largest and mean change of a pixel,
        whether the gradient of the attack's loss was exactly zero at the clean input, and for each rule and layer the share
        of pixels with any relevance before the attack (where it is below k, ties at zero fill the top k) and the LRP
        robustness for each k.
    """
    import pandas as pd

    before, after = predictions
    change = np.abs(attacked["x"].astype(np.float64) - points["x"]).reshape(len(points["y"]), -1)
    columns: dict[str, Any] = {
        **identity,
        "index": points["index"],
        "label": points["y"],
        "prediction": before.argmax(1),
        "prediction_attacked": after.argmax(1),
        "softmax_robustness": softmax_robustness(before, after),
        "largest_change": change.max(1),
        "mean_change": change.mean(1),
        "zero_gradient": attacked["zero_gradient"],
    }
    for (rule, layer), (clean, under_attack) in maps.items():
        columns[relevant(rule, layer)] = (clean.reshape(len(clean), -1) != 0).mean(1)
        for percent in percentages:
            columns[column(rule, layer, percent)] = lrp_robustness(clean, under_attack, percent, pixels)
    return pd.DataFrame(columns)
