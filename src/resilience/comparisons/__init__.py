"""Paired comparisons of models, point by point and seed by seed; :mod:`resilience.intervals` says how sure they are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from resilience.comparisons.gradients import compare_gradients
from resilience.comparisons.networks import compare_networks
from resilience.comparisons.scores import Scored, compare_scores
from resilience.comparisons.under_attack import compare_under_attack
from resilience.multiple_testing import holm
from resilience.tables import Measured

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = [
    *("dataset", "network", "attack", "measure", "explanation", "layer", "subset", "training", "role", "draws"),
    *("reference", "reference_role", "reference_draws", "mean", "mean_reference", "estimate", "low", "high"),
    *("low_points", "high_points", "seed_sd", "p", "effect_size", "seeds", "points", "p_wilcoxon", "p_mann_whitney"),
    *("relevant", "relevant_reference", "p_corrected", "p_wilcoxon_corrected", "p_mann_whitney_corrected"),
]


def compare(
    measured: Measured,
    roles: Mapping[str, str],
    layers: Mapping[str, Sequence[str]],
    measures: Sequence[str],
    confidence: float,
    cancellation: pd.DataFrame | None = None,
    of_predictions: Sequence[str] = (),
    growing: Sequence[Sequence[Sequence[str]]] = (),
    networks: pd.DataFrame | None = None,
    of_networks: Sequence[str] = (),
    series: Sequence[Sequence[str]] = (),
    scored: Scored | None = None,
) -> pd.DataFrame:
    """Every comparison of two models under one attack, of expected gradients of the loss, and of scores of explanations.

    Parameters
    ----------
    measured
        The tables of all models.
    roles
        Role of each training: deterministic, adversarial, control or bayesian.
    layers
        Learnable layers of each network.
    measures
        Those of heat maps that are compared.
    confidence
        Of the intervals.
    cancellation
        The cancellation tables of all models, under one another, if there are any.
    of_predictions
        Measures of predictions that are compared beside softmax robustness, and with nothing: with zero.
    growing
        Series of places (dataset, network) from small to large, between whose ends expected gradients are compared.
    networks
        The tables of what is measured of networks on clean inputs, under one another, if there are any.
    of_networks
        Measures of networks that are compared.
    series
        Series of trainings from weak to strong, along which models are compared, too.
    scored
        The ROAR and KAR scores of explanations, if networks learned again.

    Returns
    -------
    pandas.DataFrame
        One row per comparison, none where no two models can be compared; ``estimate`` is model minus reference. ``measure``
        is one of ``measures``, ``softmax_robustness``, ``correlation with`` one of ``measures`` (Spearman's, of softmax
        robustness), one of ``of_predictions`` or ``of_networks``, or of the loss gradients g of the draws, on clean inputs,
        ``cancellation`` (κ = ‖mean g‖ / mean ‖g‖), ``gradient_size`` (mean ‖g‖), ``expected_size`` (‖mean g‖) or
        ``expected_largest`` (‖mean g‖_∞). ``reference_role`` then says what is compared: the tangent part of g minus its
        ``normal part``, after most draws, so above zero where the normal part cancels more; after some draws minus after
        ``more draws``; or of a model minus of a ``larger`` one, or one that has learned from more, whose network and dataset
        ``reference`` names. ``nothing`` is zero. Of scores, ``measure`` is ``ROAR score`` or ``KAR score``, where
        ``reference`` is a training, or in the same model an ``other explanation`` or a ``control explanation``; or ``rank
        correlation of`` or ``linear correlation of`` one of both ``with strength`` or ``with test accuracy`` over the
        trainings against an attack, whose norm ``training`` names, and that without one. ``subset`` is
        ``all`` points or ``unbroken``: those that both models classify rightly before and after the attack.
        ``effect_size`` is the mean difference over its standard deviation among points; ``p`` belongs to the interval;
        ``p_wilcoxon`` and ``p_mann_whitney`` compare the means over seeds of each point, the latter as the paper does:
        one-sided, model above reference. Each is also given corrected for the number of rows. ``relevant`` and
        ``relevant_reference`` are the shares of pixels with any relevance before the attack: where one is below k, ties at
        zero fill the top k and raise the overlap.
    """
    import pandas as pd

    rows = list(compare_under_attack(measured, roles, layers, measures, of_predictions, series, confidence))
    if cancellation is not None:
        rows.extend(compare_gradients(cancellation, roles, layers, growing, confidence))
    if networks is not None:
        rows.extend(compare_networks(networks, roles, layers, of_networks, series, confidence))
    if scored is not None:
        rows.extend(compare_scores(scored, roles, layers, series, confidence))
    result = pd.DataFrame(rows, columns=COLUMNS)
    for name in ("p", "p_wilcoxon", "p_mann_whitney"):
        result[f"{name}_corrected"] = holm(result[name].to_numpy(dtype=float))
    return result
