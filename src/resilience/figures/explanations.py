"""How explanations compare: what is left of each under an attack, and whether it says anything, beside the controls."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from resilience.catalog import entry
from resilience.figures import drawing
from resilience.figures.panels import Panel, Style
from resilience.grid import CLEAN
from resilience.parameters import Count, ExplanationMeasureName

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure


@entry(panels=1)
def explanations(
    panels: list[Panel], style: Style, summary: pd.DataFrame, *, measures: list[ExplanationMeasureName], columns: Count = 3
) -> Figure:
    """Every explanation of the output by some measures, one beside the other, for each network.

    A dot is the mean over test points and seeds, the bar its 95 % interval, which counts both. Measures of heat maps are
    under the attack, those of an explanation at the clean inputs. A map that is stable since it says nothing is found out:
    the constant map has the highest overlap, and deletion, insertion and randomisation no better than the random one's.

    Parameters
    ----------
    measures
        Which ones, in the order in which they are drawn.
    columns
        How many stand side by side.
    """
    panel = panels[0]
    here = summary[(summary["dataset"] == panel.dataset) & (summary["network"] == panel.network)]
    here = here[here["attack"].isin([panel.attack, CLEAN]) & (here["layer"] == panel.layers[-1])]
    names = sorted(here["explanation"].unique())
    rows = -(-len(measures) // columns)
    height = 0.7 + rows * (0.5 + 0.26 * len(names))
    figure, axes = drawing.canvas(rows, min(columns, len(measures)), drawing.PAGE, height, sharey=True)
    for place in axes.ravel()[len(measures) :]:
        place.set_visible(False)
    steps = np.linspace(0.25, -0.25, len(panel.trainings)) if len(panel.trainings) > 1 else np.zeros(1)
    for place, measure in zip(axes.ravel(), measures, strict=False):
        of_measure = here[here["measure"] == measure]
        for training, step in zip(panel.trainings, steps, strict=True):
            table = of_measure[of_measure["training"] == training]
            table = table[table["draws"] == table["draws"].max()]
            heights = [len(names) - 1 - names.index(name) + step for name in table["explanation"]]
            colour = style.colour(training)
            place.hlines(heights, table["low"], table["high"], color=colour, lw=1.2, alpha=0.5)
            place.plot(table["mean"], heights, "o", ms=3.5, color=colour, label=style.name(training))
        for line in range(1, len(names)):
            place.axhline(line - 0.5, color=drawing.QUIET, lw=0.3, alpha=0.5)
        place.set_yticks(range(len(names)), [name.replace("_", " ") for name in reversed(names)])
        place.set_ylim(-0.6, len(names) - 0.4)
        place.tick_params(axis="y", length=0)
        clean = set(of_measure["attack"]) == {CLEAN}
        place.set_title(f"{measure.replace('_', ' ')}\n{'clean' if clean else panel.attack_name}")
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False, fontsize=7.5)
    figure.suptitle(drawing.wrapped(f"{panel.data}, {panel.network}, output"), fontsize=8.5)
    return figure
