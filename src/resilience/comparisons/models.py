"""Models as they are compared: the tables of one training, and which of them stand against each other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from resilience.comparisons.statistics import correlation
from resilience.intervals import Resampled

if TYPE_CHECKING:
    import pandas as pd

#: An explanation and a layer.
Place = tuple[str, str]


class Model:
    """One training with one number of draws under one attack: its tables of all seeds."""

    def __init__(
        self, training: str, role: str, draws: int, predictions: pd.DataFrame, explained: dict[Place, pd.DataFrame]
    ):
        self.training, self.role, self.draws = training, role, draws
        self._predictions, self._explained = predictions, explained
        self._correlations: dict[tuple[Place, str], Resampled] = {}

    def values(self, name: str, place: Place | None = None) -> np.ndarray:
        """A column as [seeds, points]: of the predictions, or of an explanation of a layer."""
        table = self._predictions if place is None else self._explained[place]
        return _by_seed(table, table[name]).astype(float)

    def stayed_right(self) -> np.ndarray:
        """Whether both predictions are the label, [seeds, points]."""
        table = self._predictions
        right = table[["prediction", "prediction_attacked"]].eq(table["label"], axis=0).all(axis=1)
        return _by_seed(table, right).astype(bool)

    def correlation(self, place: Place, name: str) -> Resampled:
        """Spearman's correlation of a measure of an explanation with softmax robustness."""
        if (place, name) not in self._correlations:
            self._correlations[place, name] = correlation(self.values(name, place), self.values("softmax_robustness"))
        return self._correlations[place, name]

    @property
    def places(self) -> set[Place]:
        """The explanations of this model, and the layers that each has."""
        return set(self._explained)


def _by_seed(table: pd.DataFrame, values: pd.Series) -> np.ndarray:
    ordered = table.assign(_=values).sort_values(["seed", "index"])["_"].to_numpy()
    return ordered.reshape(table["seed"].nunique(), -1)


def pairs(models: list[Model], series: Sequence[Sequence[str]] = ()) -> Iterator[tuple[Model, Model]]:
    """What the paper or an objection to it compares: a model with those of simpler roles, and more draws with fewer.

    Along each of ``series``, trainings from weak to strong, also a training with the one before it, and the last with the
    first.
    """
    order = {"deterministic": 0, "adversarial": 1, "control": 1, "bayesian": 2}
    along = {pair for trainings in series for pair in (*pairwise(trainings), (trainings[0], trainings[-1]))}
    for model in models:
        for reference in models:
            simpler = order[reference.role] < order[model.role]
            more_draws = reference.training == model.training and reference.draws < model.draws
            if simpler or more_draws or (reference.training, model.training) in along:
                yield model, reference


def about_pair(model: Model, reference: Model) -> dict[str, Any]:
    """Which two models a comparison is of, as columns."""
    return {
        "training": model.training,
        "role": model.role,
        "draws": model.draws,
        "reference": reference.training,
        "reference_role": reference.role,
        "reference_draws": reference.draws,
    }
