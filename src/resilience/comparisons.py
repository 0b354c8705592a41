"""Paired comparisons of models, point by point and seed by seed; :mod:`resilience.intervals` says how sure they are."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from functools import cache
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import stats

from resilience.grid import CLEAN
from resilience.intervals import Resampled, interval
from resilience.multiple_testing import holm
from resilience.seeding import generator_of
from resilience.tables import CORRELATION, SETTING, Measured

if TYPE_CHECKING:
    import pandas as pd

RESAMPLES = 1000
#: An explanation and a layer.
Place = tuple[str, str]

COLUMNS = [
    *("dataset", "network", "attack", "measure", "explanation", "layer", "subset", "training", "role", "draws"),
    *("reference", "reference_role", "reference_draws", "mean", "mean_reference", "estimate", "low", "high"),
    *("low_points", "high_points", "seed_sd", "p", "effect_size", "seeds", "points", "p_wilcoxon", "p_mann_whitney"),
    *("relevant", "relevant_reference", "p_corrected", "p_wilcoxon_corrected", "p_mann_whitney_corrected"),
]


def mean(values: np.ndarray) -> Resampled:
    """Mean of values [seeds, points]; NaN where a point does not count for a seed."""
    counts = np.isfinite(values)
    filled = np.where(counts, values, 0.0)
    weights = resamples(values.shape[1])
    totals, numbers = filled @ weights.T, counts @ weights.T
    by_seed = filled.sum(1) / counts.sum(1)
    # A seed of which a resample has no point is taken as it is.
    by_both = np.divide(totals, numbers, out=np.repeat(by_seed[:, None], len(weights), 1), where=numbers > 0)
    estimate = filled.sum() / counts.sum()
    drawn = numbers.sum(0)
    by_point = np.divide(totals.sum(0), drawn, out=np.full(len(weights), estimate), where=drawn > 0)
    return Resampled(float(estimate), by_point, by_seed, by_both, int(counts.any(0).sum()))


def correlation(first: np.ndarray, second: np.ndarray) -> Resampled:
    """Mean over seeds of Spearman's rank correlation of two quantities [seeds, points]."""
    once = np.ones((1, first.shape[1]))
    by_seed = np.array([_spearman(one, two, once)[0] for one, two in zip(first, second, strict=True)])
    weights = resamples(first.shape[1])
    by_both = np.array([_spearman(one, two, weights) for one, two in zip(first, second, strict=True)])
    return Resampled(float(by_seed.mean()), by_both.mean(0), by_seed, by_both, first.shape[1])


@cache
def resamples(points: int) -> np.ndarray:
    """How often each point is drawn in each resample, [RESAMPLES, points]: the same for all statistics."""
    return generator_of("bootstrap", points).multinomial(points, np.full(points, 1 / points), RESAMPLES).astype(float)


def _spearman(first: np.ndarray, second: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Spearman's correlation in each resample [B], of values [points] that are drawn ``weights`` [B, points] times."""
    total = weights.sum(1)
    ranks = [_ranks(values, weights) for values in (first, second)]
    centred = [rank - ((rank * weights).sum(1) / total)[:, None] for rank in ranks]
    squares = [(rank * rank * weights).sum(1) for rank in centred]
    spread = np.sqrt(squares[0] * squares[1])
    product = (centred[0] * centred[1] * weights).sum(1)
    # A quantity that does not vary has no rank correlation; it counts as none.
    return np.divide(product, spread, out=np.zeros_like(product), where=spread > 1e-9)


def _ranks(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Mean ranks [B, points] among points that are drawn ``weights`` times."""
    _, group = np.unique(values, return_inverse=True)
    of_group = np.zeros((len(weights), group.max() + 1))
    np.add.at(of_group.T, group, weights.T)
    below = np.cumsum(of_group, 1) - of_group
    return (below + (of_group + 1) / 2)[:, group]


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


def compare(
    measured: Measured,
    roles: dict[str, str],
    layers: dict[str, Sequence[str]],
    measures: list[str],
    confidence: float,
    cancellation: pd.DataFrame | None = None,
) -> pd.DataFrame:
    """Every comparison of two models under one attack, and of the tangent with the normal part of one model's gradients.

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

    Returns
    -------
    pandas.DataFrame
        One row per comparison, none where no two models can be compared; ``estimate`` is model minus reference. ``measure``
        is one of ``measures``, ``softmax_robustness``, ``correlation with`` one of ``measures`` (Spearman's, of softmax
        robustness), or ``cancellation`` (tangent minus normal part, after most draws, so above zero where the normal part
        cancels more). ``subset`` is
        ``all`` points or ``unbroken``: those that both models classify rightly before and after the attack.
        ``effect_size`` is the mean difference over its standard deviation among points; ``p`` belongs to the interval;
        ``p_wilcoxon`` and ``p_mann_whitney`` compare the means over seeds of each point, the latter as the paper does:
        one-sided, model above reference. Each is also given corrected for the number of rows. ``relevant`` and
        ``relevant_reference`` are the shares of pixels with any relevance before the attack: where one is below k, ties at
        zero fill the top k and raise the overlap.
    """
    import pandas as pd

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
    rows = []
    for (dataset, network, attack), group in models.items():
        for model, reference in _pairs(group):
            for row in _compare_pair(model, reference, layers[network][-1], measures, confidence):
                rows.append({"dataset": dataset, "network": network, "attack": attack, **row})
    if cancellation is not None:
        rows.extend(_compare_parts(cancellation, roles, layers, confidence))
    result = pd.DataFrame(rows, columns=COLUMNS)
    for name in ("p", "p_wilcoxon", "p_mann_whitney"):
        result[f"{name}_corrected"] = holm(result[name].to_numpy(dtype=float))
    return result


def _pairs(models: list[Model]) -> Iterator[tuple[Model, Model]]:
    """What the paper or an objection to it compares: a model with those of simpler roles, more draws with fewer."""
    order = {"deterministic": 0, "adversarial": 1, "control": 1, "bayesian": 2}
    for model in models:
        for reference in models:
            simpler = order[reference.role] < order[model.role]
            if simpler or (reference.training == model.training and reference.draws < model.draws):
                yield model, reference


def _compare_pair(
    model: Model, reference: Model, output: str, measures: list[str], confidence: float
) -> Iterator[dict[str, Any]]:
    about = {
        "training": model.training,
        "role": model.role,
        "draws": model.draws,
        "reference": reference.training,
        "reference_role": reference.role,
        "reference_draws": reference.draws,
    }
    unbroken = model.stayed_right() & reference.stayed_right()
    everything = np.ones_like(unbroken)
    softmax = (model.values("softmax_robustness"), reference.values("softmax_robustness"))
    difference = _difference(*softmax, everything, confidence)
    yield {"measure": "softmax_robustness", "explanation": "", "layer": output, "subset": "all", **about, **difference}
    for place, measure in product(sorted(model.places & reference.places), measures):
        explanation, layer = place
        shares = [float(part.values("relevant", place).mean()) for part in (model, reference)]
        here = {"explanation": explanation, "layer": layer, **about, "relevant": shares[0], "relevant_reference": shares[1]}
        pair = (model.values(measure, place), reference.values(measure, place))
        known = np.isfinite(pair[0]) & np.isfinite(pair[1])
        for subset, counts in {"all": everything & known, "unbroken": unbroken & known}.items():
            if counts.any(1).all():
                first, second = (np.where(known, values, 0) for values in pair)
                difference = _difference(first, second, counts, confidence)
                yield {"measure": measure, "subset": subset, **here, **difference}
        if known.all():
            correlations = (model.correlation(place, measure), reference.correlation(place, measure))
            name = f"{CORRELATION}{measure}"
            yield {"measure": name, "subset": "all", **here, **_correlations(*correlations, confidence)}


def _compare_parts(
    tables: pd.DataFrame, roles: dict[str, str], layers: dict[str, Sequence[str]], confidence: float
) -> Iterator[dict[str, Any]]:
    """The tangent with the normal part of each model's own gradients, on clean inputs after most draws."""
    for (dataset, network, training), group in tables.groupby(["dataset", "network", "training"], sort=True):
        draws = int(group["draws"].max())
        model = Model(training, roles[training], draws, group[group["draws"] == draws], {})
        tangent, normal = model.values("cancellation_tangent"), model.values("cancellation_normal")
        known = np.isfinite(tangent) & np.isfinite(normal)
        if known.any(1).all():
            yield {
                "dataset": dataset,
                "network": network,
                "attack": CLEAN,
                "measure": "cancellation",
                "explanation": "",
                "layer": layers[network][-1],
                "subset": "all",
                "training": training,
                "role": model.role,
                "draws": draws,
                "reference": training,
                "reference_role": "normal part",
                "reference_draws": draws,
                **_difference(np.where(known, tangent, 0), np.where(known, normal, 0), known, confidence),
            }


def _difference(first: np.ndarray, second: np.ndarray, counts: np.ndarray, confidence: float) -> dict[str, Any]:
    statistic = mean(np.where(counts, first - second, np.nan))
    kept = counts.any(0)
    weights = counts[:, kept] / counts[:, kept].sum(0)
    of_points = [(part[:, kept] * weights).sum(0) for part in (first, second)]
    difference = of_points[0] - of_points[1]
    spread = float(difference.std(ddof=1)) if len(difference) > 1 else 0.0
    return {
        "mean": float(first[counts].mean()),
        "mean_reference": float(second[counts].mean()),
        **asdict(interval(statistic, confidence)),
        "effect_size": float(difference.mean() / spread) if spread > 0 else 0.0,
        "seeds": len(first),
        "points": int(kept.sum()),
        "p_wilcoxon": float(stats.wilcoxon(difference).pvalue) if difference.any() else 1.0,
        "p_mann_whitney": float(stats.mannwhitneyu(*of_points, alternative="greater").pvalue),
    }


def _correlations(first: Resampled, second: Resampled, confidence: float) -> dict[str, Any]:
    return {
        "mean": first.estimate,
        "mean_reference": second.estimate,
        **asdict(interval(first - second, confidence)),
        "seeds": len(first.by_seed),
        "points": first.points,
    }
