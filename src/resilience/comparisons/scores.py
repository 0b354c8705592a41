"""What ROAR and KAR scores say: of two models, of two explanations of one, and along trainings from weak to strong."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import combinations, product
from typing import TYPE_CHECKING, Any

import numpy as np

from resilience.comparisons.differences import both, difference
from resilience.comparisons.models import Model, Place, pairs
from resilience.comparisons.statistics import correlation_along, mean
from resilience.grid import CLEAN
from resilience.intervals import Resampled, interval
from resilience.scores import PROTOCOLS, SCORES, STRENGTH, TEST_ACCURACY, attack_of, correlation_name
from resilience.tables import CONTROL, NOTHING, OTHER_EXPLANATION

if TYPE_CHECKING:
    import pandas as pd

#: How many trainings of different strengths a correlation needs at least.
STRENGTHS = 3
#: The correlations of scores, and whether each is one of ranks.
CORRELATIONS = {"rank correlation": True, "linear correlation": False}


@dataclass(frozen=True)
class Scored:
    """The scores of images (see :func:`resilience.scores.with_scores`), and what its names are about.

    Parameters
    ----------
    table
        One row per explanation of a model and test image.
    explanations
        In the order in which they are compared: each with those before it.
    controls
        Those that say nothing of a network, which the first model has for all.
    strengths
        Of the trainings that have one, see :meth:`resilience.grid.Grid.strengths`.
    """

    table: pd.DataFrame
    explanations: Sequence[str]
    controls: Collection[str]
    strengths: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


def compare_scores(
    scored: Scored,
    roles: Mapping[str, str],
    layers: Mapping[str, Sequence[str]],
    series: Sequence[Sequence[str]],
    confidence: float,
) -> Iterator[dict[str, Any]]:
    """The rows of scores: of pairs of models, of pairs of explanations of each, and correlations over trainings.

    See :func:`resilience.comparisons.compare` for what it is given.
    """
    for (dataset, network), table in scored.table.groupby(["dataset", "network"], sort=True):
        about = {"dataset": dataset, "network": network, "attack": CLEAN, "subset": "all"}
        output = str(layers[network][-1])
        says_nothing = table["explanation"].isin(set(scored.controls))
        controls = dict(list(table[says_nothing].groupby("explanation", sort=True)))
        models = [
            Model(training, roles[training], int(draws), part, _by_place(part, output))
            for (training, draws), part in table[~says_nothing].groupby(["training", "draws"], sort=True)
        ]
        for row in (
            *_compare_models(models, series, confidence),
            *_compare_explanations(models, scored.explanations, controls, confidence),
            *_correlate(models, scored.strengths, confidence),
        ):
            yield about | {"layer": output} | row


def _by_place(table: pd.DataFrame, layer: str) -> dict[Place, pd.DataFrame]:
    return {(str(explanation), layer): part for explanation, part in table.groupby("explanation", sort=True)}


def _compare_models(models: list[Model], series: Sequence[Sequence[str]], confidence: float) -> Iterator[dict[str, Any]]:
    """The same explanation of two models."""
    for model, reference in pairs(models, series):
        for place, protocol in product(sorted(model.places & reference.places), PROTOCOLS):
            yield {
                **_of(model, place, protocol),
                "reference": reference.training,
                "reference_role": reference.role,
                "reference_draws": reference.draws,
                **_difference(model.values(protocol, place), reference.values(protocol, place), confidence),
            }


def _compare_explanations(
    models: list[Model], order: Sequence[str], controls: Mapping[str, pd.DataFrame], confidence: float
) -> Iterator[dict[str, Any]]:
    """Two explanations of the same model, the later minus the earlier one, and each minus what says nothing of the model."""
    for model, protocol in product(models, PROTOCOLS):
        places = sorted(model.places, key=lambda place: order.index(place[0]))
        others = [
            (later, earlier[0], OTHER_EXPLANATION, model.values(protocol, earlier))
            for earlier, later in combinations(places, 2)
        ]
        beside = [
            (place, name, CONTROL, Model("", "", 1, table, {}).values(protocol))
            for place in places
            for name, table in controls.items()
        ]
        for place, reference, role, values in (*others, *beside):
            yield {
                **_of(model, place, protocol),
                "reference": reference,
                "reference_role": role,
                "reference_draws": model.draws,
                **_difference(model.values(protocol, place), values, confidence),
            }


def _correlate(
    models: list[Model], strengths: Mapping[str, Mapping[str, Any]], confidence: float
) -> Iterator[dict[str, Any]]:
    """How scores go with the strength of adversarial training, and with test accuracy, over the trainings of each attack."""
    rated = [model for model in models if model.training in strengths]
    attacks = {name: attack_of(strengths[name]) for name in strengths}
    for attack in sorted({attacks[model.training] for model in rated} - {""}):
        members = [model for model in rated if attacks[model.training] in (attack, "")]
        degrees = [float(strengths[model.training]["strength"]) for model in members]
        if len(set(degrees)) < STRENGTHS:
            continue
        places = set.intersection(*(model.places for model in members))
        for place, protocol in product(sorted(places), PROTOCOLS):
            scores = [mean(model.values(protocol, place)) for model in members]
            accuracies = [mean(model.values("right", place)) for model in members]
            against: dict[str, Sequence[Resampled | float]] = {STRENGTH: degrees, TEST_ACCURACY: accuracies}
            for name, values in against.items():
                for kind, ranks in CORRELATIONS.items():
                    yield {
                        "measure": correlation_name(kind, protocol, name),
                        "explanation": place[0],
                        "training": attack,
                        "role": "adversarial",
                        "draws": 1,
                        "reference": "",
                        "reference_role": NOTHING,
                        "reference_draws": 1,
                        **_beside_zero(correlation_along(values, scores, ranks), confidence),
                    }


def _of(model: Model, place: Place, protocol: str) -> dict[str, Any]:
    return {
        "measure": SCORES[protocol],
        "explanation": place[0],
        "training": model.training,
        "role": model.role,
        "draws": model.draws,
    }


def _difference(first: np.ndarray, second: np.ndarray, confidence: float) -> dict[str, Any]:
    return difference(*both(first, second), confidence)


def _beside_zero(statistic: Resampled, confidence: float) -> dict[str, Any]:
    return {
        "mean": statistic.estimate,
        "mean_reference": 0.0,
        **asdict(interval(statistic, confidence)),
        "seeds": len(statistic.by_seed),
        "points": statistic.points,
    }
