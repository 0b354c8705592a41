"""How far the loss gradients of single draws cancel in their mean: parts, numbers of draws and sizes of networks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from resilience.comparisons.differences import both, difference
from resilience.comparisons.models import Model
from resilience.grid import CLEAN
from resilience.tables import LARGER, MORE_DRAWS, NORMAL_PART

if TYPE_CHECKING:
    import pandas as pd


def compare_gradients(
    cancellation: pd.DataFrame,
    roles: Mapping[str, str],
    layers: Mapping[str, Sequence[str]],
    growing: Sequence[Sequence[Sequence[str]]],
    confidence: float,
) -> Iterator[dict[str, Any]]:
    """The rows of expected gradients: of their parts, after fewer and more draws, and of the ends of growing series.

    See :func:`resilience.comparisons.compare` for what it is given.
    """
    yield from _compare_parts(cancellation, roles, layers, confidence)
    yield from _compare_draws(cancellation, roles, layers, confidence)
    for series in growing:
        yield from _compare_ends(cancellation, series, roles, layers, confidence)


def _compare_draws(
    tables: pd.DataFrame, roles: Mapping[str, str], layers: Mapping[str, Sequence[str]], confidence: float
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
            yield from _compare_pair(models[fewer], models[more], about, confidence)


def _compare_ends(
    tables: pd.DataFrame,
    series: Sequence[Sequence[str]],
    roles: Mapping[str, str],
    layers: Mapping[str, Sequence[str]],
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
        yield from _compare_pair(small, large, about, confidence)


def _compare_pair(model: Model, reference: Model, about: dict[str, Any], confidence: float) -> Iterator[dict[str, Any]]:
    """Each measure of expected gradients of a model minus that of another one."""
    for name in ("cancellation", "gradient_size", "expected_size", "expected_largest"):
        first, second, known = both(model.values(name), reference.values(name))
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
                **difference(first, second, known, confidence),
            }


def _compare_parts(
    tables: pd.DataFrame, roles: Mapping[str, str], layers: Mapping[str, Sequence[str]], confidence: float
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
                **difference(np.where(known, tangent, 0), np.where(known, normal, 0), known, confidence),
            }
