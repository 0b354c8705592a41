"""LRP robustness against softmax robustness (paper, Fig. 4 and 16)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from resilience.catalog import entry
from resilience.comparisons.statistics import correlation
from resilience.figures import drawing
from resilience.figures.panels import Panel, Style
from resilience.intervals import interval
from resilience.parameters import ExplanationName, MeasureName
from resilience.tables import Measured

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


@entry(inner_layers=True)
def scatter(
    panels: list[Panel],
    style: Style,
    measured: Measured,
    *,
    explanation: ExplanationName = "epsilon",
    measure: MeasureName = "top20",
) -> Figure:
    """What is left of explanations against softmax robustness, by layer and model, with the correlation in every panel.

    A dot is a test point under one seed: to the right its explanation survived the attack, at the top its prediction did.
    The dotted line is what two unrelated heat maps have in common by chance. ρ is Spearman's rank correlation,
    the mean over seeds, with a 95 % interval that counts points and seeds.
    """
    rows = [(panel, layer) for panel in panels for layer in panel.layers]
    columns = max(len(panel.trainings) for panel in panels)
    figure, axes = drawing.canvas(len(rows), columns, drawing.PAGE, 0.8 + 1.5 * len(rows), sharex=True, sharey=True)
    for row, (panel, layer) in enumerate(rows):
        for index, training in enumerate(panel.trainings):
            place, table = axes[row, index], panel.of(measured.of(explanation, layer), training)
            _cloud(place, table, measure, style.colour(training))
            if (chance := measured.chance(measure)) is not None:
                place.plot([chance] * 2, [0, 1], color=drawing.QUIET, lw=0.9, ls=":", zorder=1)
            if layer == panel.layers[0]:
                draws = int(table["draws"].iloc[0])
                setting = f"{drawing.wrapped(panel.setting, columns)}\n" if len(panels) > 1 else ""
                names = f"{style.name(training)}{f', n = {draws}' if draws > 1 else ''}"
                place.set_title(setting + names, color=style.colour(training))
        axes[row, 0].set_ylabel(f"{panel.layer_name(layer)}\nsoftmax robustness")
    table = panels[0].of(measured.of(explanation, panels[0].layers[-1]), panels[0].reference)
    count = f"{table['index'].nunique()} points × {table['seed'].nunique()} seeds"
    figure.supxlabel(f"{measured.title(measure).capitalize()}, {explanation}; dotted: chance", fontsize=8)
    figure.suptitle(drawing.wrapped(f"{'; '.join(panel.title for panel in panels)} — {count}"), fontsize=8.5)
    return figure


def _cloud(axes: Axes, table: pd.DataFrame, name: str, colour: str) -> None:
    axes.set_xlim(-0.03, 1.03)
    axes.set_ylim(-0.03, 1.18)
    axes.set_yticks([0, 0.5, 1])
    if name not in table:
        return  # No point has a value.
    axes.plot(table[name], table["softmax_robustness"], ".", color=colour, alpha=0.3, ms=3.5, mew=0)
    pair = [table.pivot(index="seed", columns="index", values=key).to_numpy() for key in (name, "softmax_robustness")]
    known = np.isfinite(pair[0]).all(0)  # A point without a value has no rank.
    if known.any():
        found = interval(correlation(*(values[:, known] for values in pair)), 0.95)
        low, high = max(found.low, -1.0), min(found.high, 1.0)
        text = f"ρ = {drawing.signed(found.estimate)} [{drawing.signed(low)}, {drawing.signed(high)}]"
        axes.text(0.5, 1.1, text, ha="center", va="center", fontsize=7)
