"""Distributions of the paired differences of LRP robustness (paper, Fig. 2 and 7 to 9)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy import stats

from resilience.catalog import entry
from resilience.figures import drawing
from resilience.figures.panels import Panel, Style
from resilience.parameters import ExplanationName, MeasureName
from resilience.tables import Measured

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


@entry(trainings=2, inner_layers=True)
def differences(
    panels: list[Panel],
    style: Style,
    measured: Measured,
    *,
    explanation: ExplanationName = "epsilon",
    measure: MeasureName = "top20",
) -> Figure:
    """Distributions of the paired differences of what is left of explanations, by layer and number of draws.

    Each curve is the density, over test points and seeds, of a measure of one model's explanations minus that of the
    reference on the same point. The dot is the mean. Right of the line, the model's explanations survive the attack better
    than the reference's. The dotted line is where the mean of a model would be whose top pixels survive by chance alone.
    Where a network relates fewer than k % of the pixels to a layer, pixels without relevance fill the top k and count as
    surviving; the title of such a panel says so.

    Parameters
    ----------
    explanation
        What is drawn.
    measure
        By which measure.
    """
    rows = max(len(panel.layers) for panel in panels)
    figure, axes = drawing.canvas(rows, len(panels), drawing.PAGE, 0.6 + 1.75 * rows, sharex=True)
    for index, panel in enumerate(panels):
        for row, layer in enumerate(panel.layers):
            place, table = axes[row, index], measured.of(explanation, layer)
            of_panel = panel.of(table)
            _ridges(place, of_panel, panel, style, measure)
            if (chance := measured.chance(measure)) is not None:
                by_chance = chance - panel.of(table, panel.reference)[measure].mean()
                place.axvline(by_chance, color=drawing.QUIET, lw=0.9, ls=":", zorder=1)
            title = panel.layer_name(layer)
            if share := _ties(of_panel, measured.chance(measure)):
                title += f" (ties: only {100 * share:.0f} % relevant)"
            place.set_title(f"{drawing.wrapped(panel.title, len(panels))}\n{title}" if row == 0 else title)
        points, seeds = of_panel["index"].nunique(), of_panel["seed"].nunique()
        axes[-1, index].set_xlabel(f"{points} points × {seeds} seeds")
    names = " or ".join(dict.fromkeys(style.name(panel.reference).lower() for panel in panels))
    figure.supxlabel(
        f"{measured.title(measure).capitalize()} ({explanation}) minus that of the {names} network; dotted: chance",
        fontsize=8,
    )
    return figure


def _ties(table: pd.DataFrame, top: float | None) -> float | None:
    """The smallest share of relevant pixels among the models, if it is below that of the top pixels."""
    share = float(table.groupby("training")["relevant"].mean().min())
    return share if top is not None and share < top else None


def _ridges(axes: Axes, table: pd.DataFrame, panel: Panel, style: Style, name: str) -> None:
    """One density above another, each with its name beside it."""
    keys = ["seed", "index"]
    reference = table[table["training"] == panel.reference].set_index(keys)[name]
    curves = [
        (training, draws, part.set_index(keys)[name] - reference)
        for training in panel.trainings[1:]
        for draws, part in table[table["training"] == training].groupby("draws")
    ]
    grid = np.linspace(-1, 1, 401)
    for height, (training, _, values) in enumerate(reversed(curves)):
        present = values.dropna().to_numpy()
        density = _density(present, grid)
        colour = style.colour(training)
        axes.fill_between(grid, height, height + 0.85 * density, color=colour, alpha=0.35, lw=0, zorder=2)
        axes.plot(grid, height + 0.85 * density, color=colour, lw=0.9, zorder=3)
        axes.plot(present.mean(), height, "o", color=colour, ms=3.5, mec="white", mew=0.5, clip_on=False, zorder=4)
    labels = [f"{style.name(training)}{f', n = {draws}' if draws > 1 else ''}" for training, draws, _ in reversed(curves)]
    axes.set_yticks(range(len(curves)), labels)
    for tick, (training, _, _) in zip(axes.get_yticklabels(), reversed(curves), strict=True):
        tick.set_color(style.colour(training))
    axes.axvline(0, color=drawing.QUIET, lw=0.7, zorder=1)
    axes.set_ylim(-0.15, len(curves))
    axes.set_xlim(-1, 1)
    axes.set_xticks([-1, -0.5, 0, 0.5, 1])
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)


def _density(values: np.ndarray, grid: np.ndarray) -> np.ndarray:
    """Kernel density scaled to a height of one. The kernel is at least one step of k pixels wide, or steps would show."""
    if np.ptp(values) == 0:
        return np.exp(-(((grid - values[0]) / 0.02) ** 2))
    steps = np.diff(np.unique(np.round(values, 6)))
    width = max(1.06 * values.std() * len(values) ** -0.2, 0.6 * float(np.median(steps)))
    density = stats.gaussian_kde(values, width / values.std(ddof=1))(grid)
    return density / density.max()
