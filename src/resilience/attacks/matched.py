"""Attacks of matched size: what a network withstands, compared where all are pushed equally far."""

from __future__ import annotations

import numpy as np

from resilience.catalog import entry
from resilience.parameters import AttackName, Count, TrainingName


@entry(derived=True)
def match_size(
    x: np.ndarray, own: np.ndarray, others: np.ndarray, *, attack: AttackName, source: TrainingName, draws: Count
) -> np.ndarray:
    """The network's own attack, shrunk image by image to the size that the same attack has on another training.

    Two networks under an attack of one epsilon need not be pushed equally far: signs that differ between draws cancel, and
    gradients vanish. Here each image is moved along the line to what the attack made of it, ``x + c (x̃ - x)``, just so far
    that its mean absolute change is the source's; where its own attack moved it less than that, not at all further.

    Parameters
    ----------
    attack
        The attack, itself made on a network.
    source
        The training whose size is taken, with the same seed.
    draws
        Number of draws from it.
    """
    size_own, size_others = (np.abs(attacked - x).mean((1, 2, 3)) for attacked in (own, others))
    shares = np.divide(size_others, size_own, out=np.ones_like(size_own), where=size_own > size_others)
    # Between x and its attacked image, but for rounding.
    return np.clip(x + shares[:, None, None, None] * (own - x), np.minimum(x, own), np.maximum(x, own))
