"""The tables of measures, one row for each test point: what they hold, and how they are put beside each other.

Beside the maps of an explanation under attack lies a table with a row for each layer and point, beside the attacked inputs
one of predictions with a row for each point. Both have a column for each measure of the config that concerns them, so that
a new explanation, or a new measure, adds to what is there and recomputes nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from resilience import catalog
from resilience.measures import top_pixels
from resilience.measures.maps import relevant
from resilience.measures.predictions import largest_change, mean_change, softmax_robustness

if TYPE_CHECKING:
    import pandas as pd

#: What an attacked model is, and a point of it.
MODEL = ["dataset", "network", "training", "seed", "attack", "draws"]
POINT = [*MODEL, "index"]
#: What models of all seeds share that are compared.
SETTING = ["dataset", "network", "attack", "training", "draws"]
#: What stands before the measure whose correlation with softmax robustness is compared.
CORRELATION = "correlation with "
#: What stands for the role of a reference that is no other model.
NORMAL_PART, MORE_DRAWS, LARGER, NOTHING = "normal part", "more draws", "larger", "nothing"
OTHER_EXPLANATION, CONTROL = "other explanation", "control explanation"
#: What tables have beside the measures of the config.
OF_MAPS = [*MODEL, "explanation", "layer", "index", "relevant"]
OF_PREDICTIONS = [
    *(*POINT, "label", "prediction", "prediction_attacked", "zero_gradient"),
    *("softmax_robustness", "largest_change", "mean_change"),
]
COLUMNS = frozenset([*OF_MAPS, *OF_PREDICTIONS])
#: Of the classes [N, classes], before and after an attack.
Probabilities = tuple[np.ndarray, np.ndarray]
#: The settings of measures by the names that the config gives them.
Measures = Mapping[str, Mapping[str, Any]]


def table_of_maps(
    index: np.ndarray, clean: np.ndarray, attacked: np.ndarray, measures: Measures, identity: Mapping[str, Any]
) -> pd.DataFrame:
    """What is left of one explanation of one layer.

    Parameters
    ----------
    index
        [N] of the test points in the test split.
    clean, attacked
        Relevance [N, C, H, W] before and after the attack, or [N, S, C, H, W] where each draw has its own map; a measure is
        then the mean over draws.
    measures
        Those of maps.
    identity
        What the maps are about; each becomes a column.

    Returns
    -------
    pandas.DataFrame
        ``index``, the share of ``relevant`` pixels before the attack (where it is below k, ties at zero fill the top k), and
        each measure.
    """
    import pandas as pd

    pairs = [(clean, attacked)]
    if clean.ndim == 5:
        pairs = [(clean[:, draw], attacked[:, draw]) for draw in range(clean.shape[1])]

    def over_draws(values: Iterable[np.ndarray]) -> np.ndarray:
        return np.mean(list(values), axis=0)

    measured = {name: catalog.bound("measures", dict(settings)) for name, settings in measures.items()}
    return pd.DataFrame(
        {
            **identity,
            "index": index,
            "relevant": over_draws(relevant(before) for before, _ in pairs),
            **{
                name: over_draws(measure(clean=before, attacked=after) for before, after in pairs)
                for name, measure in measured.items()
            },
        }
    )


def table_of_predictions(
    points: Mapping[str, np.ndarray],
    attacked: Mapping[str, np.ndarray],
    probabilities: Probabilities,
    measures: Measures,
    identity: Mapping[str, Any],
    beside: Mapping[str, Any] | None = None,
) -> pd.DataFrame:
    """What an attack did to the predictions of one model, and how far it went.

    Parameters
    ----------
    points
        ``x`` [N, C, H, W], ``y`` [N] and ``index`` [N] of the test points.
    attacked
        ``x`` and ``zero_gradient`` [N] of the attacked inputs.
    probabilities
        Of the classes [N, classes], before and after the attack.
    measures
        Those of predictions.
    identity
        What the table is about; each becomes a column.
    beside
        What measures may ask for beside the above: the mean ``logits`` [N, classes], and ``logits_attacked``; the files of
        manifolds that are ``learned`` by their names; ``judgements``, the probabilities by other networks, by their
        trainings; and the ``device`` to compute on.

    Returns
    -------
    pandas.DataFrame
        ``index``, ``label``, predicted classes, whether the gradient of the attack's loss was exactly zero at the clean
        input, softmax robustness, largest and mean change of a pixel, and each measure.
    """
    import pandas as pd

    before, after = probabilities
    known = {
        "probabilities": before,
        "probabilities_attacked": after,
        "y": points["y"],
        "x": points["x"],
        "x_attacked": attacked["x"],
        "zero_gradient": attacked["zero_gradient"],
        **(beside or {}),
    }
    return pd.DataFrame(
        {
            **identity,
            "index": points["index"],
            "label": points["y"],
            "prediction": before.argmax(1),
            "prediction_attacked": after.argmax(1),
            "zero_gradient": attacked["zero_gradient"],
            "softmax_robustness": softmax_robustness(before, after),
            "largest_change": largest_change(points["x"], attacked["x"]),
            "mean_change": mean_change(points["x"], attacked["x"]),
            **{name: catalog.bound("measures", dict(settings))(**known) for name, settings in measures.items()},
        }
    )


def table_of_clean(
    index: np.ndarray,
    measures: Measures,
    known: Mapping[str, Any],
    generator: Callable[[], Any],
    identity: Mapping[str, Any],
) -> pd.DataFrame:
    """What is measured where nothing was attacked: of an explanation and the network that it explains, or of a network.

    Parameters
    ----------
    index
        [N] of the test points in the test split.
    measures
        Those of explanations, or those of networks.
    known
        What measures of this kind may ask for, but for their ``generator``. ``relevance`` [N, S, C, H, W] is that of each
        draw; a measure is then the mean over draws.
    generator
        Makes the generator of each measure, all with the same seed.
    identity
        What the table is about; each becomes a column.
    """
    import pandas as pd

    relevance = known.get("relevance")
    ways = [known]
    if relevance is not None and relevance.ndim == 5:
        explain = known["explain"]
        ways = [
            {**known, "relevance": relevance[:, draw], "explain": lambda other, draw=draw: explain(other)[:, draw]}
            for draw in range(relevance.shape[1])
        ]
    columns = {}
    for name, settings in measures.items():
        measure = catalog.bound("measures", dict(settings))
        columns[name] = np.mean([np.asarray(measure(**way, generator=generator())) for way in ways], axis=0)
    return pd.DataFrame({**identity, "index": index, **columns})


def gather(tables: Iterable[pd.DataFrame], measures: Measures | None = None) -> Measured:
    """Tables of maps and of predictions, in any order, with the settings of the measures in them."""
    import pandas as pd

    of_maps: list[pd.DataFrame] = []
    of_predictions: list[pd.DataFrame] = []
    for table in tables:
        (of_maps if "explanation" in table else of_predictions).append(table)
    predictions = pd.concat(of_predictions, ignore_index=True)
    # Where nothing is explained there is no table of maps.
    maps = pd.concat(of_maps, ignore_index=True) if of_maps else pd.DataFrame(columns=[*OF_MAPS, *(measures or {})])
    return Measured(maps, predictions, measures or {})


@dataclass(frozen=True)
class Measured:
    """Tables of maps and of predictions, each under one another, with the settings of the measures in them."""

    maps: pd.DataFrame
    predictions: pd.DataFrame
    measures: Measures

    def of(self, explanation: str, layer: str) -> pd.DataFrame:
        """One explanation of one layer, with the predictions beside it: a row for each point of each model."""
        return self._by_layer.get((explanation, layer), self._empty)

    def explanations(self, layer: str) -> list[str]:
        """The explanations that a layer has."""
        return sorted(explanation for explanation, of_layer in self._by_layer if of_layer == layer)

    def chance(self, measure: str) -> float | None:
        """What a measure gives, on average, for two maps that have nothing to do with each other; None if nobody knows."""
        settings = self.measures[measure]
        return top_pixels.chance(settings["top_k"]) if settings["measure"] == "overlap" else None

    def title(self, measure: str) -> str:
        """A measure as an axis names it."""
        settings = self.measures[measure]
        return f"overlap of the top {settings['top_k']:g} % of pixels" if settings["measure"] == "overlap" else measure

    @cached_property
    def _by_layer(self) -> dict[tuple[str, str], pd.DataFrame]:
        groups = self.maps.groupby(["explanation", "layer"], sort=True)
        return {
            (str(explanation), str(layer)): part.dropna(axis=1, how="all").merge(self.predictions, on=POINT)
            for (explanation, layer), part in groups
        }

    @property
    def _empty(self) -> pd.DataFrame:
        return self.maps.iloc[:0].merge(self.predictions.iloc[:0], on=POINT)
