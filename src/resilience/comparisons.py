"""Paired comparisons of models, point by point and seed by seed; :mod:`resilience.intervals` says how sure they are."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from functools import cache
from itertools import pairwise, product
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import stats

from resilience.grid import CLEAN
from resilience.intervals import Resampled, interval
from resilience.multiple_testing import holm
from resilience.seeding import generator_of
from resilience.tables import CORRELATION, LARGER, MORE_DRAWS, NORMAL_PART, NOTHING, SETTING, Measured

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
    of_predictions: Sequence[str] = (),
    growing: Sequence[Sequence[Sequence[str]]] = (),
) -> pd.DataFrame:
    """Every comparison of two models under one attack, and of the expected gradients of the loss of one model.

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

    Returns
    -------
    pandas.DataFrame
        One row per comparison, none where no two models can be compared; ``estimate`` is model minus reference. ``measure``
        is one of ``measures``, ``softmax_robustness``, ``correlation with`` one of ``measures`` (Spearman's, of softmax
        robustness), one of ``of_predictions``, or of the loss gradients g of the draws, on clean inputs, ``cancellation``
        (κ = ‖mean g‖ / mean ‖g‖), ``gradient_size`` (mean ‖g‖), ``expected_size`` (‖mean g‖) or ``expected_largest``
        (‖mean g‖_∞). ``reference_role`` then says what is compared: the tangent part of g minus its ``normal part``, after
        most draws, so above zero where the normal part cancels more; after some draws minus after ``more draws``; or of a
        model minus of a ``larger`` one, or one that has learned from more, whose network and dataset ``reference`` names.
        ``nothing`` is zero. ``subset`` is
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
            for row in _compare_pair(model, reference, layers[network][-1], measures, of_predictions, confidence):
                rows.append({"dataset": dataset, "network": network, "attack": attack, **row})
        for model in group:
            for row in _compare_with_nothing(model, layers[network][-1], of_predictions, confidence):
                rows.append({"dataset": dataset, "network": network, "attack": attack, **row})
    if cancellation is not None:
        rows.extend(_compare_parts(cancellation, roles, layers, confidence))
        rows.extend(_compare_draws(cancellation, roles, layers, confidence))
        for series in growing:
            rows.extend(_compare_ends(cancellation, series, roles, layers, confidence))
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
    model: Model,
    reference: Model,
    output: str,
    measures: list[str],
    of_predictions: Sequence[str],
    confidence: float,
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
    for name in ("softmax_robustness", *of_predictions):
        first, second, known = _both(model.values(name), reference.values(name))
        if known.any(1).all():
            difference = _difference(first, second, known, confidence)
            yield {"measure": name, "explanation": "", "layer": output, "subset": "all", **about, **difference}
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


def _compare_with_nothing(
    model: Model, output: str, of_predictions: Sequence[str], confidence: float
) -> Iterator[dict[str, Any]]:
    """The measures of a model's predictions with zero."""
    for name in of_predictions:
        values, zeros, known = _both(model.values(name), np.zeros_like(model.values(name)))
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
                **_difference(values, zeros, known, confidence),
            }


def _compare_draws(
    tables: pd.DataFrame, roles: dict[str, str], layers: dict[str, Sequence[str]], confidence: float
) -> Iterator[dict[str, Any]]:
    """Expected gradients after each number of draws with those after the next larger one, and of the first with the last."""
    for (dataset, network, training), group in tables.groupby(["dataset", "network", "training"], sort=True):
        numbers = sorted(int(number) for number in group["draws"].unique())
        models = {
            number: Model(training, roles[training], number, group[group["draws"] == number], {}) for number in numbers
        }
        pairs = dict.fromkeys([*pairwise(numbers), (numbers[0], numbers[-1])]) if len(numbers) > 1 else {}
        for fewer, more in pairs:
            about = {"dataset": dataset, "network": network, "layer": layers[network][-1]}
            about |= {"reference": training, "reference_role": MORE_DRAWS, "reference_draws": more}
            yield from _compare_gradients(models[fewer], models[more], about, confidence)


def _compare_ends(
    tables: pd.DataFrame,
    series: Sequence[Sequence[str]],
    roles: dict[str, str],
    layers: dict[str, Sequence[str]],
    confidence: float,
) -> Iterator[dict[str, Any]]:
    """Expected gradients, after most draws, of the first place of a series with those of the last."""
    ends = []
    for dataset, network in (series[0], series[-1]):
        here = tables[(tables["dataset"] == dataset) & (tables["network"] == network)]
        most = here["draws"] == here.groupby("training")["draws"].transform("max")
        ends.append(dict(list(here[most].groupby("training", sort=True))))
    (dataset, network), (large_dataset, large_network) = series[0], series[-1]
    for training in sorted(ends[0].keys() & ends[1].keys()):
        small, large = (
            Model(training, roles[training], int(end[training]["draws"].max()), end[training], {}) for end in ends
        )
        about: dict[str, Any] = {"dataset": dataset, "network": network, "layer": layers[network][-1]}
        about |= {
            "reference": f"{large_network} on {large_dataset}",
            "reference_role": LARGER,
            "reference_draws": large.draws,
        }
        yield from _compare_gradients(small, large, about, confidence)


def _compare_gradients(model: Model, reference: Model, about: dict[str, Any], confidence: float) -> Iterator[dict[str, Any]]:
    """Each measure of expected gradients of a model minus that of another one."""
    for name in ("cancellation", "gradient_size", "expected_size", "expected_largest"):
        first, second, known = _both(model.values(name), reference.values(name))
        if known.any(1).all():
            yield {
                **about,
                "attack": CLEAN,
                "measure": name,
                "explanation": "",
                "subset": "all",
                "training": model.training,
                "role": model.role,
                "draws": model.draws,
                **_difference(first, second, known, confidence),
            }


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
                "reference_role": NORMAL_PART,
                "reference_draws": draws,
                **_difference(np.where(known, tangent, 0), np.where(known, normal, 0), known, confidence),
            }


def _both(first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Two quantities [seeds, points] with zeros in the place of what is undefined in one of them, and where both are not."""
    known = np.isfinite(first) & np.isfinite(second)
    return np.where(known, first, 0), np.where(known, second, 0), known


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
