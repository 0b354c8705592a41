"""What an attack does to predictions, and how much it changes the input, point by point.

All measures return float64 [N], NaN where they are undefined. Nothing here needs torch.
"""

from __future__ import annotations

import numpy as np

from resilience.catalog import entry
from resilience.parameters import Fraction


@entry(of="predictions")
def softmax_robustness(probabilities: np.ndarray, probabilities_attacked: np.ndarray) -> np.ndarray:
    """How little the predicted probabilities change, 1 − ‖p(x) − p(x̃)‖_∞ (Carbone et al. 2021, Sec. II-B).

    Parameters
    ----------
    probabilities, probabilities_attacked
        [N, classes] before and after the attack.

    Returns
    -------
    numpy.ndarray
        [N], from 0 (fragile) to 1 (unchanged).
    """
    return 1 - np.abs(probabilities.astype(np.float64) - probabilities_attacked).max(1)


@entry(of="predictions")
def accuracy(probabilities_attacked: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Whether the most probable class after the attack is the label: 1 or 0; their mean is the adversarial accuracy.

    Parameters
    ----------
    probabilities_attacked
        [N, classes] after the attack.
    y
        Labels [N].

    Returns
    -------
    numpy.ndarray
        [N], 1 or 0. Of equally probable classes the first counts.
    """
    return (probabilities_attacked.argmax(1) == y).astype(np.float64)


@entry(of="predictions")
def conditional_accuracy(probabilities: np.ndarray, probabilities_attacked: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Whether the class is right after the attack where it was right before: 1 or 0, and no value where it was wrong.

    The mean is the share of right predictions that withstand the attack, 1 − the attack's success rate.

    Parameters
    ----------
    probabilities, probabilities_attacked
        [N, classes] before and after the attack.
    y
        Labels [N].

    Returns
    -------
    numpy.ndarray
        [N], 1 or 0; NaN where the clean prediction is wrong.
    """
    return np.where(probabilities.argmax(1) == y, accuracy(probabilities_attacked, y), np.nan)


@entry(of="predictions")
def lost_beyond(
    probabilities: np.ndarray, probabilities_attacked: np.ndarray, y: np.ndarray, *, share: Fraction = 0.5
) -> np.ndarray:
    """By how much an attack takes more than a share of what was classified rightly: (1 − share) · before − after.

    In the mean, the accuracy that the attack would have had to leave minus the one that it left: above zero where it broke
    the network, for what counts as broken.

    Parameters
    ----------
    probabilities, probabilities_attacked
        [N, classes] before and after the attack.
    y
        Labels [N].
    share
        Of the right predictions; a network counts as broken that has lost more.

    Returns
    -------
    numpy.ndarray
        [N], from −1 to 1 − share.
    """
    return (1 - share) * accuracy(probabilities, y) - accuracy(probabilities_attacked, y)


@entry(of="predictions")
def second_softmax(probabilities: np.ndarray, probabilities_attacked: np.ndarray) -> np.ndarray:
    """Softmax robustness as the code of Carbone et al. 2020 has it for posteriors, whose probabilities it takes for logits.

    1 − ‖softmax(p(x)) − softmax(p(x̃))‖_∞, which cannot fall below 1 − (e − 1) / (e + classes − 1): .538 for two classes,
    .853 for ten, whatever is done to a network.

    Parameters
    ----------
    probabilities, probabilities_attacked
        [N, classes] before and after the attack.

    Returns
    -------
    numpy.ndarray
        [N], from that bound to 1 (unchanged).
    """
    return softmax_robustness(*(_softmax(part) for part in (probabilities, probabilities_attacked)))


@entry(of="predictions")
def accuracy_by_logits(logits_attacked: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Whether the largest mean logit after the attack is that of the label, as for the ensembles of Carbone et al. 2020.

    Parameters
    ----------
    logits_attacked
        Mean over draws of the logits [N, classes] after the attack.
    y
        Labels [N].

    Returns
    -------
    numpy.ndarray
        [N], 1 or 0. Of equally large logits the first counts.
    """
    return accuracy(logits_attacked, y)


@entry(of="predictions")
def softmax_robustness_by_logits(logits: np.ndarray, logits_attacked: np.ndarray) -> np.ndarray:
    """How little the softmax of the mean logits z̄ = E_w[z] changes, 1 − ‖softmax z̄(x) − softmax z̄(x̃)‖_∞.

    What the code of Carbone et al. 2020 measures of ensembles.

    Parameters
    ----------
    logits, logits_attacked
        Mean over draws of the logits [N, classes] before and after the attack.

    Returns
    -------
    numpy.ndarray
        [N], from 0 (fragile) to 1 (unchanged).
    """
    return softmax_robustness(*(_softmax(part) for part in (logits, logits_attacked)))


@entry(of="predictions")
def largest_change(x: np.ndarray, x_attacked: np.ndarray) -> np.ndarray:
    """Largest change of a pixel, ‖x̃ − x‖_∞, over all C · H · W of them.

    Parameters
    ----------
    x, x_attacked
        Images [N, C, H, W] before and after the attack.

    Returns
    -------
    numpy.ndarray
        [N], from 0 to 1.
    """
    return np.abs(_change(x, x_attacked)).max(1)


@entry(of="predictions")
def mean_change(x: np.ndarray, x_attacked: np.ndarray) -> np.ndarray:
    """Mean change of a pixel, ‖x̃ − x‖₁ / (C · H · W).

    Parameters
    ----------
    x, x_attacked
        Images [N, C, H, W] before and after the attack.

    Returns
    -------
    numpy.ndarray
        [N], from 0 to 1.
    """
    return np.abs(_change(x, x_attacked)).mean(1)


@entry(of="predictions")
def l2_change(x: np.ndarray, x_attacked: np.ndarray) -> np.ndarray:
    """Euclidean size of the change, ‖x̃ − x‖₂, over all C · H · W pixels.

    Parameters
    ----------
    x, x_attacked
        Images [N, C, H, W] before and after the attack.

    Returns
    -------
    numpy.ndarray
        [N], from 0 to √(C · H · W).
    """
    return np.sqrt((_change(x, x_attacked) ** 2).sum(1))


def _softmax(values: np.ndarray) -> np.ndarray:
    """Softmax of values [N, classes], in float64."""
    raised = np.exp(values.astype(np.float64) - values.max(1, keepdims=True))
    return np.asarray(raised / raised.sum(1, keepdims=True))


def _change(x: np.ndarray, x_attacked: np.ndarray) -> np.ndarray:
    """x̃ − x as float64 [N, C · H · W]."""
    return (x_attacked.astype(np.float64) - x).reshape(len(x), -1)
