"""What attacks do to predictions: against the number of draws, the strength of the attack, and attack by attack."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.lines import Line2D

from resilience.catalog import entry
from resilience.figures import drawing
from resilience.figures.panels import Panel, Style
from resilience.parameters import PredictionMeasureName

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: Keeps a strength in one line.
NO_BREAK = "\N{NO-BREAK SPACE}"
#: Of lines with few draws and with many.
DASHES = {":": "dotted", "--": "dashed", "-": "solid"}


@entry()
def against_draws(
    panels: list[Panel], style: Style, summary: pd.DataFrame, *, measure: PredictionMeasureName = "accuracy"
) -> Figure:
    """Accuracy and softmax robustness under attack, against the number of posterior draws.

    Lines are means over test points and seeds, bands their 95 % intervals, which count both. What has one number of draws, a
    single network or an ensemble, is a dashed line from side to side.

    Parameters
    ----------
    measure
        Of predictions, drawn above softmax robustness.
    """
    figure, axes = drawing.canvas(2, len(panels), drawing.PAGE, 4.0, sharex="col", sharey="row")
    for column, panel in enumerate(panels):
        for place, name in zip(axes[:, column], (measure, "softmax_robustness"), strict=True):
            for training in panel.trainings:
                table = _rows(summary, panel, training, name)
                colour = style.colour(training)
                if len(table) > 1:
                    place.fill_between(table["draws"], table["low"], table["high"], color=colour, alpha=0.15, lw=0)
                    place.plot(table["draws"], table["mean"], ".-", color=colour, lw=1.3, ms=5)
                elif len(table):
                    place.axhline(float(table["mean"].iloc[0]), color=colour, lw=1.1, ls="--")
            place.set_ylim(-0.03, 1.03)
            place.set_xscale("log")
        numbers = sorted(
            int(number) for training in panel.trainings for number in _rows(summary, panel, training, measure)["draws"]
        )
        axes[1, column].set_xticks(sorted(set(numbers)), [str(number) for number in sorted(set(numbers))])
        axes[1, column].minorticks_off()
        axes[1, column].set_xlabel("draws that predict")
        axes[0, column].set_title(
            drawing.wrapped(f"{panel.data}\n{panel.network}, {panel.attack_name.replace(' ', NO_BREAK)}", len(panels))
        )
    axes[0, 0].set_ylabel(f"{measure} under attack")
    axes[1, 0].set_ylabel("softmax robustness")
    _legend(figure, panels, style)
    return figure


@entry()
def against_strength(
    panels: list[Panel], style: Style, summary: pd.DataFrame, *, measure: PredictionMeasureName = "accuracy"
) -> Figure:
    """Accuracy and softmax robustness against the strength of an attack, with few and with many draws.

    The panels of one dataset and network stand in one column, each for one ε. Solid lines are of most draws, which attack
    and predict, dashed and dotted ones of fewer; lines are means over test points and seeds, and bands, of most draws alone,
    their 95 % intervals.

    Parameters
    ----------
    measure
        Of predictions, drawn above softmax robustness.
    """
    places = list(dict.fromkeys((panel.dataset, panel.network, panel.attack.rpartition("_")[0]) for panel in panels))
    figure, axes = drawing.canvas(2, len(places), drawing.PAGE, 4.2, sharex=True, sharey="row")
    for column, (dataset, network, attack) in enumerate(places):
        of_place = [
            panel
            for panel in panels
            if (panel.dataset, panel.network, panel.attack.rpartition("_")[0]) == (dataset, network, attack)
        ]
        of_place.sort(key=lambda panel: panel.epsilon or 0.0)
        for place, name in zip(axes[:, column], (measure, "softmax_robustness"), strict=True):
            for training in of_place[0].trainings:
                _lines(
                    place, [_rows(summary, panel, training, name) for panel in of_place], of_place, style.colour(training)
                )
            place.set_ylim(-0.03, 1.03)
            place.set_xticks([panel.epsilon or 0.0 for panel in of_place])
        axes[1, column].set_xlabel(f"ε{_numbers_of_draws(summary, of_place, measure)}")
        axes[0, column].set_title(f"{of_place[0].data}, {network}, {attack}")
    axes[0, 0].set_ylabel(f"{measure} under attack")
    axes[1, 0].set_ylabel("softmax robustness")
    _legend(figure, panels, style)
    return figure


@entry()
def attack_by_attack(
    panels: list[Panel], style: Style, summary: pd.DataFrame, *, measure: PredictionMeasureName = "accuracy"
) -> Figure:
    """What each attack leaves of each network's predictions, attack by attack.

    A dot is the mean over test points and seeds of a network with most draws, its bar the 95 % interval, which counts both.
    The panels of one dataset and network stand in one column, in the order of the config.

    Parameters
    ----------
    measure
        Of predictions, drawn beside softmax robustness.
    """
    places = list(dict.fromkeys((panel.dataset, panel.network) for panel in panels))
    names = (measure, "softmax_robustness") if measure != "softmax_robustness" else (measure,)
    columns = [(place, name) for place in places for name in names]
    most = max(sum((panel.dataset, panel.network) == place for panel in panels) for place in places)
    figure, axes = drawing.canvas(1, len(columns), drawing.PAGE, 1.2 + 0.42 * most, sharex=True)
    for column, ((dataset, network), name) in zip(axes[0], columns, strict=True):
        here = [panel for panel in panels if (panel.dataset, panel.network) == (dataset, network)]
        for line, panel in enumerate(reversed(here)):
            for step, training in enumerate(panel.trainings):
                table = _rows(summary, panel, training, name)
                if len(table):
                    _dot(
                        column,
                        table.iloc[-1],
                        line + 0.6 * (0.5 - (step + 0.5) / len(panel.trainings)),
                        style.colour(training),
                    )
        column.set_yticks(range(len(here)), [panel.attack_name for panel in reversed(here)] if name == names[0] else [])
        column.set_ylim(-0.6, len(here) - 0.4)
        column.set_xlim(-0.03, 1.03)
        column.grid(axis="x", color="#eeeeee", lw=0.7)
        column.set_title(drawing.wrapped(f"{here[0].data}, {network}", len(columns)) if name == names[0] else "")
        column.set_xlabel(name.replace("_", " "))
    _legend(figure, panels, style)
    return figure


def _rows(summary: pd.DataFrame, panel: Panel, training: str, measure: str) -> pd.DataFrame:
    """The rows of one training of a panel, by number of draws."""
    rows = summary[(summary["dataset"] == panel.dataset) & (summary["network"] == panel.network)]
    rows = rows[(rows["attack"] == panel.attack) & (rows["training"] == training) & (rows["measure"] == measure)]
    return rows.sort_values("draws")


def _lines(axes: Axes, tables: list[pd.DataFrame], panels: list[Panel], colour: str) -> None:
    """A line for each number of draws, against ε."""
    numbers = sorted({int(number) for table in tables for number in table["draws"]})
    for dashes, number in _dashed(numbers):
        found = [table[table["draws"] == number] for table in tables]
        epsilons = [panel.epsilon or 0.0 for panel, rows in zip(panels, found, strict=True) if len(rows)]
        means, low, high = (
            np.array([float(rows[key].iloc[0]) for rows in found if len(rows)]) for key in ("mean", "low", "high")
        )
        axes.plot(epsilons, means, dashes, color=colour, lw=1.3, marker=".", ms=4)
        if number == numbers[-1]:
            axes.fill_between(epsilons, low, high, color=colour, alpha=0.12, lw=0)


def _dashed(numbers: list[int]) -> Iterator[tuple[str, int]]:
    """How the line of each number of draws is drawn: that of the most is solid."""
    return zip(list(DASHES)[-len(numbers) :], numbers, strict=False)


def _numbers_of_draws(summary: pd.DataFrame, panels: list[Panel], measure: str) -> str:
    """What dashes mean, behind the label of an axis; nothing where no line has any."""
    of_each = ([int(number) for number in _rows(summary, panels[0], name, measure)["draws"]] for name in panels[0].trainings)
    numbers = max(of_each, key=len, default=[])
    said = ", ".join(f"{DASHES[dashes]} {number}" for dashes, number in _dashed(numbers))
    return f" (draws: {said})" if len(numbers) > 1 else ""


def _dot(axes: Axes, row: pd.Series, height: float, colour: str) -> None:
    axes.plot([row["low"], row["high"]], [height, height], color=colour, lw=1.1, solid_capstyle="butt")
    axes.plot(row["mean"], height, "o", ms=3.5, color=colour, mew=0)


def _legend(figure: Figure, panels: list[Panel], style: Style) -> None:
    trainings = list(dict.fromkeys(training for panel in panels for training in panel.trainings))
    handles = [Line2D([], [], color=style.colour(name), marker="o", ms=4, lw=1.2) for name in trainings]
    figure.legend(handles, [style.name(name) for name in trainings], loc="outside lower center", ncols=5, frameon=False)
