"""Box plots of the differences of what is left of explanations (paper, Fig. 3 and 10 to 15)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np
import seaborn
from scipy import stats

from resilience.catalog import entry
from resilience.figures import drawing
from resilience.figures.panels import Panel, Style
from resilience.multiple_testing import holm
from resilience.parameters import MeasureName
from resilience.tables import Measured

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: The paper's rules as its figures write them, in its order, and what is short for others.
NAMES = {"epsilon": "ε", "gamma": "γ", "alpha1beta0": "α1β0", "gradient_times_input": "x·∇"}


@entry(trainings=2)
def by_explanation(
    panels: list[Panel],
    style: Style,
    measured: Measured,
    *,
    measure: MeasureName = "top20",
    layers: Literal["all", "output"] = "all",
) -> Figure:
    """Differences of what is left of explanations, by explanation and layer, with significance marks.

    A box spans the quartiles over test points and seeds of a measure of a model's explanations minus that of the
    reference's; the line in it is the median, the dot the mean, whiskers reach to the last point within 1.5 boxes. An
    explanation without inner layers has a box at the output alone. The dotted line behind a box is where the mean of a
    model would be whose top pixels survive by chance alone. The stars are a Wilcoxon signed-rank test of the difference,
    means over seeds, corrected (Holm) for the boxes of the figure: n.s. > .05, * ≤ .05, ** ≤ .01, *** ≤ .001, **** ≤ .0001.
    They do not count the seeds as a source of chance; the table of claims does.

    Parameters
    ----------
    measure
        By which measure.
    layers
        A row for each layer, or for the output alone.
    """
    rows = [(panel, layer) for panel in panels for layer in (panel.layers if layers == "all" else panel.layers[-1:])]
    columns = max(len(panel.trainings) for panel in panels) - 1
    figure, axes = drawing.canvas(len(rows), columns, drawing.PAGE, 0.7 + 1.45 * len(rows), sharex=True, sharey=True)
    boxes = []
    for row, (panel, layer) in enumerate(rows):
        for index, training in enumerate(panel.trainings[1:]):
            boxes += _boxes(axes[row, index], measured, panel, training, layer, measure, style)
            if row == 0 or panel is not rows[row - 1][0]:
                setting = f"{drawing.wrapped(panel.setting, columns)}\n" if len(panels) > 1 else ""
                minus = " − " if columns <= 3 else "\n− "
                names = f"{style.short(training)}{minus}{style.name(panel.reference).lower()}"
                axes[row, index].set_title(setting + names)
        axes[row, 0].set_ylabel(panel.layer_name(layer))
    corrected = holm(np.array([p for *_, p in boxes]))
    low = min(place.get_ylim()[0] for place, *_ in boxes)
    for (place, position, _), p in zip(boxes, corrected, strict=True):
        place.text(position, low, drawing.stars(p), ha="center", va="bottom", fontsize=6.5, color=drawing.INK)
    here = measured.predictions[measured.predictions["dataset"] == panels[0].dataset]
    count = f"{here['index'].nunique()} points × {here['seed'].nunique()} seeds"
    figure.supylabel(f"Difference in the {measured.title(measure)}; dotted: chance", fontsize=8)
    shown = "; ".join(dict.fromkeys(panel.title for panel in panels))
    figure.suptitle(drawing.wrapped(f"{shown} — {count}"), fontsize=8.5)
    return figure


def _boxes(
    axes: Axes, measured: Measured, panel: Panel, training: str, layer: str, measure: str, style: Style
) -> list[tuple[Axes, int, float]]:
    """Draw a box for each explanation; where they stand, and their p-values."""
    import pandas as pd

    found = {}
    for explanation in measured.explanations(layer):
        table = measured.of(explanation, layer)
        if measure not in table:
            continue  # Such as the rank correlation of constant maps.
        model, reference = (
            panel.of(table, name).set_index(["seed", "index"])[measure] for name in (training, panel.reference)
        )
        if (difference := model - reference).notna().any():
            found[explanation] = (difference, reference.mean())
    ordered = [name for name in NAMES if name in found] + sorted(found.keys() - NAMES.keys())
    differences = pd.DataFrame({name: found[name][0] for name in ordered})
    colour = style.colour(training)
    seaborn.boxplot(
        differences,
        ax=axes,
        color=drawing.tint(colour),
        saturation=1,
        linecolor=colour,
        width=0.55,
        linewidth=0.8,
        fliersize=1.5,
        showmeans=True,
        medianprops={"linewidth": 1.6},
        meanprops={"marker": "o", "markersize": 3, "markerfacecolor": "white", "markeredgecolor": colour},
        flierprops={"marker": ".", "alpha": 0.4},
    )
    axes.axhline(0, color=drawing.QUIET, lw=0.7, zorder=0)
    for place, name in enumerate(ordered):
        if (chance := measured.chance(measure)) is not None:
            height = [chance - found[name][1]] * 2
            axes.plot([place - 0.4, place + 0.4], height, color=drawing.QUIET, lw=0.9, ls=":", zorder=0)
    axes.set_xticks(range(len(ordered)), [NAMES.get(name, name.replace("_", "\n")) for name in ordered])
    axes.set_ylim(-1.15, 1.0)
    of_points = {name: values.dropna() for name, values in differences.groupby("index").mean().items()}
    return [
        (axes, place, float(stats.wilcoxon(of_points[name]).pvalue) if of_points[name].any() else 1.0)
        for place, name in enumerate(ordered)
    ]
