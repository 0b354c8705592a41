"""What is left of an explanation under an attack, and under noise of its size."""

from __future__ import annotations

from typing import TYPE_CHECKING

from resilience.catalog import entry
from resilience.comparisons import mean
from resilience.figures import drawing
from resilience.figures.panels import Panel, Style
from resilience.intervals import interval
from resilience.parameters import Percent, RuleName
from resilience.robustness import chance, column

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


@entry(noise=True)
def beside_noise(
    panels: list[Panel], style: Style, robustness: pd.DataFrame, *, rule: RuleName = "epsilon", top_k: Percent = 20
) -> Figure:
    """LRP robustness under an attack, beside that under random noise of the same epsilon.

    A dot is a network's mean LRP robustness of the output under the attack, over test points and seeds; the bar is its 95 %
    interval, which counts both. The cross is the same network under noise: what lies between cross and dot is the attack's
    doing, what lies right of the cross noise does as well. The dotted line is what two unrelated heat maps have in common by
    chance.
    """
    trainings = list(dict.fromkeys(name for panel in panels for name in panel.trainings))
    figure, axes = drawing.canvas(1, len(panels), drawing.PAGE, 0.9 + 0.3 * len(trainings), sharex=True, sharey=True)
    for place, panel in zip(axes[0], panels, strict=True):
        for training in panel.trainings:
            height, colour = len(trainings) - 1 - trainings.index(training), style.colour(training)
            shown = {"o": panel.of(robustness, training), "x": panel.of_noise(robustness, training)}
            for marker, table in shown.items():
                _survival(place, table, column(rule, panel.layers[-1], top_k), height, colour, marker)
        place.axvline(chance(top_k), color=drawing.QUIET, lw=0.9, ls=":", zorder=0)
        place.set_yticks(range(len(trainings)), [style.name(name) for name in reversed(trainings)])
        place.set_ylim(-0.6, len(trainings) - 0.4)
        separator = ", " if len(panels) <= 3 else "\n"
        place.set_title(f"{panel.dataset}{separator}{panel.network}\n{panel.attack_name}")
        table = panel.of(robustness, panel.reference)
        place.set_xlabel(f"{table['index'].nunique()} points × {table['seed'].nunique()} seeds")
    figure.supxlabel(
        f"LRP robustness (top {top_k:g} % of pixels, output, {rule} rule) with 95 % intervals\n"
        "dot: under the attack, cross: under noise of the same ε, dotted: chance",
        fontsize=8,
    )
    return figure


def _survival(axes: Axes, table: pd.DataFrame, name: str, height: float, colour: str, marker: str) -> None:
    """A mark with its interval; none where there is nothing to show."""
    if table.empty or name not in table:
        return
    found = interval(mean(table.pivot(index="seed", columns="index", values=name).to_numpy()), 0.95)
    axes.plot([found.low, found.high], [height, height], color=colour, lw=1.2, solid_capstyle="butt", alpha=0.5)
    axes.plot(found.estimate, height, marker, ms=4.5, mec=colour, mfc=colour, mew=1.1)
