"""How good an explanation is by networks that learned from what it leaves: ROAR and KAR scores (Kim et al. 2019, Sec. 3.2).

ROAR replaces the pixels that an explanation calls most important, KAR all others, and a network learns again from what is
left. Accuracies are functions of q, the share of the pixels that are replaced, from 0 to 1, and the scores are areas between
the curve of the explanation and that of a random map, such that more is better:

    I_ROAR = ∫ [acc_random(q) − acc_explanation(q)] dq        I_KAR = ∫ [acc_explanation(q) − acc_random(q)] dq

Both are means over test images, so each image has a score of its own: the same area, of whether it is classified rightly.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import pandas as pd

ROAR, KAR = "roar", "kar"
PROTOCOLS = (ROAR, KAR)
#: What comparisons call the score of each.
SCORES = {ROAR: "ROAR score", KAR: "KAR score"}
#: What curves have of an explanation as little as of another: images as they are, and such of one colour.
NONE_REPLACED, ALL_REPLACED = "none_replaced", "all_replaced"
#: What scores are correlated with.
STRENGTH, TEST_ACCURACY = "strength", "test accuracy"
#: Of a table of retrained networks, what tells an image of one network with one seed.
IMAGE = ["dataset", "network", "seed", "index"]


def column(protocol: str, share: float) -> str:
    """The column of what a protocol leaves with a share of pixels that count as important: ``roar_0.1``."""
    return f"{protocol}_{share:g}"


def curve(protocol: str, shares: Sequence[float]) -> dict[float, str]:
    """By q, the share of the pixels that are replaced, ascending from 0 to 1, the column of what is then classified rightly.

    ROAR replaces the share that counts as important, KAR what remains.
    """
    replaced = {share if protocol == ROAR else round(1 - share, 9): column(protocol, share) for share in shares}
    return {0.0: NONE_REPLACED, **dict(sorted(replaced.items())), 1.0: ALL_REPLACED}


def area(places: Sequence[float], heights: np.ndarray) -> np.ndarray:
    """The area [N] under lines between ``heights`` [q, N] at ascending ``places`` [q], by the trapezoidal rule."""
    gaps = np.diff(np.asarray(places, dtype=float))
    return np.asarray((gaps[:, None] * (heights[1:] + heights[:-1]) / 2).sum(0))


def with_scores(retrained: pd.DataFrame, shares: Sequence[float], random: str) -> pd.DataFrame:
    """Tables of retrained networks with the scores of each image beside.

    Parameters
    ----------
    retrained
        One row per explanation of a model and test image: ``dataset``, ``network``, ``training``, ``seed``, ``draws``,
        ``explanation``, ``index`` and the columns of both curves (see :func:`curve`): in which share of repeats the image
        was classified rightly.
    shares
        Of the pixels that count as important.
    random
        The explanation that is a random map, of which each (dataset, network) has one, that all its models share.

    Returns
    -------
    pandas.DataFrame
        The same rows with ``roar`` and ``kar``, from −1 to 1; 0 for the random map.
    """
    curves = {protocol: curve(protocol, shares) for protocol in PROTOCOLS}
    columns = sorted({name for of_protocol in curves.values() for name in of_protocol.values()})
    by_chance = retrained.loc[retrained["explanation"] == random, [*IMAGE, *columns]]
    beside = retrained[IMAGE].merge(by_chance, on=IMAGE, how="left", validate="many_to_one")
    found = {}
    for protocol, of_protocol in curves.items():
        names = list(of_protocol.values())
        above = retrained[names].to_numpy(dtype=float).T - beside[names].to_numpy(dtype=float).T
        found[protocol] = area(list(of_protocol), above if protocol == KAR else -above)
    return retrained.assign(**found)


def attack_of(strength: Mapping[str, Any]) -> str:
    """What a training is trained against, as a row names it: its norm, and its objective if that is not the likelihood."""
    norm, objective = strength["norm"], strength["objective"]
    return f"{norm} {objective}" if objective not in ("", "likelihood") else str(norm)


def correlation_name(kind: str, protocol: str, against: str) -> str:
    """The measure of a correlation of scores: ``rank correlation of ROAR score with strength``."""
    return f"{kind} of {SCORES[protocol]} with {against}"
