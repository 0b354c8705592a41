"""What is left of an explanation under an attack, and under noise of its size."""

from __future__ import annotations

from typing import TYPE_CHECKING

from resilience.catalog import entry
from resilience.comparisons.statistics import mean
from resilience.figures import drawing
from resilience.figures.panels import Panel, Style
from resilience.intervals import interval
from resilience.parameters import ExplanationName, MeasureName
from resilience.tables import Measured

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


@entry(noise=True)
def beside_noise(
    panels: list[Panel],
    style: Style,
    measured: Measured,
    *,
    explanation: ExplanationName = "epsilon",
    measure: MeasureName = "top20",
) -> Figure:
    """What is left of explanations under an attack, beside what random noise of the same epsilon leaves.

    A dot is the mean of a measure of a network's explanation of the output under the attack, over test points and seeds;
    the bar is its 95 % interval, which counts both. The cross is the same network under noise: what lies between cross and
    dot is the attack's doing, what lies right of the cross noise does as well. The dotted line is what two unrelated heat
    maps have in common by chance.
    """
    chance = measured.chance(measure)
    trainings = list(dict.fromkeys(name for panel in panels for name in panel.trainings))
    figure, axes = drawing.canvas(1, len(panels), drawing.PAGE, 0.9 + 0.3 * len(trainings), sharex=True, sharey=True)
    for place, panel in zip(axes[0], panels, strict=True):
        table = measured.of(explanation, panel.layers[-1])
        for training in panel.trainings:
            height, colour = len(trainings) - 1 - trainings.index(training), style.colour(training)
            shown = {"o": panel.of(table, training), "x": panel.of_noise(table, training)}
            for marker, part in shown.items():
                _survival(place, part, measure, height, colour, marker)
        if chance is not None:
            place.axvline(chance, color=drawing.QUIET, lw=0.9, ls=":", zorder=0)
        place.set_yticks(range(len(trainings)), [style.name(name) for name in reversed(trainings)])
        place.set_ylim(-0.6, len(trainings) - 0.4)
        separator = ", " if len(panels) <= 3 else "\n"
        place.set_title(drawing.wrapped(f"{panel.data}{separator}{panel.network}\n{panel.attack_name}", len(panels)))
        of_reference = panel.of(table, panel.reference)
        place.set_xlabel(f"{of_reference['index'].nunique()} points × {of_reference['seed'].nunique()} seeds")
    figure.supxlabel(
        f"{measured.title(measure).capitalize()} ({explanation}, output) with 95 % intervals\n"
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
