"""Box plots of the differences of LRP robustness by rule (paper, Fig. 3 and 10 to 15)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from resilience.catalog import entry
from resilience.comparisons import holm
from resilience.figures import drawing
from resilience.figures.panels import Panel, Style
from resilience.parameters import Percent
from resilience.robustness import column

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

RULE_NAMES = {"epsilon": "ε", "gamma": "γ", "alpha1beta0": "α1β0"}


@entry(trainings=2)
def rules(panels: list[Panel], style: Style, robustness: pd.DataFrame, *, top_k: Percent = 20) -> Figure:
    """Differences of LRP robustness by LRP rule and layer, with significance marks.

    A box spans the quartiles over test points and seeds of a model's LRP robustness minus the reference's; the line in it is
    the median, the dot the mean, whiskers reach to the last point within 1.5 boxes. The stars are a Wilcoxon signed-rank
    test of the difference, means over seeds, corrected (Holm) for the boxes of the figure: n.s. > .05, * ≤ .05, ** ≤ .01,
    *** ≤ .001, **** ≤ .0001. They do not count the seeds as a source of chance; the table of claims does.
    """
    layers = [(panel, layer) for panel in panels for layer in panel.layers]
    columns = max(len(panel.trainings) for panel in panels) - 1
    figure, axes = drawing.canvas(len(layers), columns, drawing.PAGE, 0.7 + 1.45 * len(layers), sharex=True, sharey=True)
    boxes = []
    for row, (panel, layer) in enumerate(layers):
        for index, training in enumerate(panel.trainings[1:]):
            boxes += _boxes(axes[row, index], robustness, panel, training, layer, top_k, style)
            if row == 0 or layer == panel.layers[0]:
                axes[row, index].set_title(f"{style.short(training)} −\n{style.name(panel.reference).lower()}")
        axes[row, 0].set_ylabel(panel.layer_name(layer))
    corrected = holm(np.array([p for *_, p in boxes]))
    low = min(place.get_ylim()[0] for place, *_ in boxes)
    for (place, position, _), p in zip(boxes, corrected, strict=True):
        place.text(position, low, drawing.stars(p), ha="center", va="bottom", fontsize=6.5, color=drawing.INK)
    here = robustness[robustness["dataset"] == panels[0].dataset]
    count = f"{here['index'].nunique()} points × {here['seed'].nunique()} seeds"
    figure.supylabel(f"Difference in LRP robustness, top {top_k:g} %", fontsize=8)
    figure.suptitle(f"{'; '.join(dict.fromkeys(panel.title for panel in panels))} — {count}", fontsize=8.5)
    return figure


def _boxes(
    axes: Axes, robustness: pd.DataFrame, panel: Panel, training: str, layer: int, top_k: float, style: Style
) -> list[tuple[Axes, int, float]]:
    """Draw a box for each rule; where they stand, and their p-values."""
    from scipy import stats

    keys = ["seed", "index"]
    model, reference = (panel.of(robustness, name).set_index(keys) for name in (training, panel.reference))
    end = column("|", layer, top_k).split("|")[1]
    present = {str(name)[4 : -len(end)] for name in model if str(name).startswith("lrp_") and str(name).endswith(end)}
    ordered = [rule for rule in RULE_NAMES if rule in present] + sorted(present - set(RULE_NAMES))
    drawn = []
    for position, rule in enumerate(ordered):
        difference = (model[column(rule, layer, top_k)] - reference[column(rule, layer, top_k)]).dropna()
        if difference.empty:
            continue
        colour = style.colour(training)
        axes.boxplot(
            difference,
            positions=[position],
            widths=0.55,
            patch_artist=True,
            showmeans=True,
            boxprops={"facecolor": colour + "55", "edgecolor": colour, "linewidth": 0.8},
            medianprops={"color": colour, "linewidth": 1.6},
            meanprops={"marker": "o", "markersize": 3, "markerfacecolor": "white", "markeredgecolor": colour},
            whiskerprops={"color": colour, "linewidth": 0.8},
            capprops={"color": colour, "linewidth": 0.8},
            flierprops={"marker": ".", "markersize": 2, "markeredgecolor": colour, "alpha": 0.4},
        )
        of_points = difference.groupby("index").mean()
        drawn.append((axes, position, float(stats.wilcoxon(of_points).pvalue) if of_points.any() else 1.0))
    axes.axhline(0, color=drawing.QUIET, lw=0.7, zorder=0)
    axes.set_xticks(range(len(ordered)), [RULE_NAMES.get(rule, rule) for rule in ordered])
    axes.set_ylim(-1.15, 1.0)
    return drawn
