"""What an attack does to two models, point by point: heat maps, predictions, and how the two go together."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from typing import Any

import numpy as np

from resilience.comparisons.differences import both, difference, difference_of_correlations
from resilience.comparisons.models import Model, about_pair, pairs
from resilience.tables import CORRELATION, NOTHING, SETTING, Measured


def compare_under_attack(
    measured: Measured,
    roles: Mapping[str, str],
    layers: Mapping[str, Sequence[str]],
    measures: Sequence[str],
    of_predictions: Sequence[str],
    series: Sequence[Sequence[str]],
    confidence: float,
) -> Iterator[dict[str, Any]]:
    """The rows of all pairs of models under one attack, and of each model beside zero.

    See :func:`resilience.comparisons.compare` for what it is given.
    """
    for (dataset, network, attack), group in _models(measured, roles).items():
        about = {"dataset": dataset, "network": network, "attack": attack}
        for model, reference in pairs(group, series):
            for row in _compare_pair(model, reference, layers[network][-1], measures, of_predictions, confidence):
                yield about | row
        for model in group:
            for row in _compare_with_nothing(model, layers[network][-1], of_predictions, confidence):
                yield about | row


def _models(measured: Measured, roles: Mapping[str, str]) -> dict[tuple[str, str, str], list[Model]]:
    """The models of each (dataset, network, attack)."""
    explained = {
        (str(dataset), str(network), str(attack), str(training), int(draws), (str(explanation), str(layer))): part
        for (dataset, network, attack, training, draws, explanation, layer), part in measured.maps.groupby(
            [*SETTING, "explanation", "layer"], sort=True
        )
    }
    models: dict[tuple[str, str, str], list[Model]] = defaultdict(list)
    for (dataset, network, attack, training, draws), part in measured.predictions.groupby(SETTING, sort=True):
        here = (dataset, network, attack, training, draws)
        places = {place: table for (*setting, place), table in explained.items() if tuple(setting) == here}
        models[dataset, network, attack].append(Model(training, roles[training], draws, part, places))
    return models


def _compare_pair(
    model: Model,
    reference: Model,
    output: str,
    measures: Sequence[str],
    of_predictions: Sequence[str],
    confidence: float,
) -> Iterator[dict[str, Any]]:
    about = about_pair(model, reference)
    unbroken = model.stayed_right() & reference.stayed_right()
    everything = np.ones_like(unbroken)
    for name in ("softmax_robustness", *of_predictions):
        first, second, known = both(model.values(name), reference.values(name))
        if known.any(1).all():
            found = difference(first, second, known, confidence)
            yield {"measure": name, "explanation": "", "layer": output, "subset": "all", **about, **found}
    for place, measure in product(sorted(model.places & reference.places), measures):
        explanation, layer = place
        shares = [float(part.values("relevant", place).mean()) for part in (model, reference)]
        here = {"explanation": explanation, "layer": layer, **about, "relevant": shares[0], "relevant_reference": shares[1]}
        pair = (model.values(measure, place), reference.values(measure, place))
        known = np.isfinite(pair[0]) & np.isfinite(pair[1])
        for subset, counts in {"all": everything & known, "unbroken": unbroken & known}.items():
            if counts.any(1).all():
                first, second = (np.where(known, values, 0) for values in pair)
                found = difference(first, second, counts, confidence)
                yield {"measure": measure, "subset": subset, **here, **found}
        if known.all():
            correlations = (model.correlation(place, measure), reference.correlation(place, measure))
            name = f"{CORRELATION}{measure}"
            yield {"measure": name, "subset": "all", **here, **difference_of_correlations(*correlations, confidence)}


def _compare_with_nothing(
    model: Model, output: str, of_predictions: Sequence[str], confidence: float
) -> Iterator[dict[str, Any]]:
    """The measures of a model's predictions with zero."""
    for name in of_predictions:
        values, zeros, known = both(model.values(name), np.zeros_like(model.values(name)))
        if known.any(1).all():
            yield {
                "measure": name,
                "explanation": "",
                "layer": output,
                "subset": "all",
                "training": model.training,
                "role": model.role,
                "draws": model.draws,
                "reference": "",
                "reference_role": NOTHING,
                "reference_draws": model.draws,
                **difference(values, zeros, known, confidence),
            }
