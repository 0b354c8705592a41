"""What is measured of two networks on clean inputs, point by point, whatever attacks or explains them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from resilience.comparisons.differences import both, difference
from resilience.comparisons.models import Model, about_pair, pairs
from resilience.grid import CLEAN

if TYPE_CHECKING:
    import pandas as pd


def compare_networks(
    tables: pd.DataFrame,
    roles: Mapping[str, str],
    layers: Mapping[str, Sequence[str]],
    measures: Sequence[str],
    series: Sequence[Sequence[str]],
    confidence: float,
) -> Iterator[dict[str, Any]]:
    """The rows of all pairs of models of one dataset and network.

    Parameters
    ----------
    tables
        What is measured of all networks, see :func:`resilience.tables.table_of_clean`, under one another.
    roles, layers, series, confidence
        See :func:`resilience.comparisons.compare`.
    measures
        Those of networks that are compared.
    """
    for (dataset, network), group in tables.groupby(["dataset", "network"], sort=True):
        models = [
            Model(training, roles[training], draws, part, {})
            for (training, draws), part in group.groupby(["training", "draws"], sort=True)
        ]
        for model, reference in pairs(models, series):
            for name in measures:
                first, second, known = both(model.values(name), reference.values(name))
                if known.any(1).all():
                    yield {
                        "dataset": dataset,
                        "network": network,
                        "attack": CLEAN,
                        "measure": name,
                        "explanation": "",
                        "layer": layers[network][-1],
                        "subset": "all",
                        **about_pair(model, reference),
                        **difference(first, second, known, confidence),
                    }
