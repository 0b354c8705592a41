"""How far the loss gradients of single draws cancel in their mean (paper, Sec. IV-B and Theorem IV.1)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.ticker import PercentFormatter
from scipy import stats

from resilience.catalog import entry
from resilience.figures import drawing
from resilience.figures.panels import Panel, Style

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: Where a line ends, its name and its colour.
Label = tuple[float, float, str, str]
#: How far apart names of lines are, as a share of the height of the axes.
APART = 0.072


@entry()
def cancellation(style: Style, cancellation: pd.DataFrame) -> Figure:
    """How far the loss gradients of single draws cancel in their mean, along the data manifold and normal to it.

    On the left, the size of the mean gradient over the mean size of the gradients, for their tangent parts (dashed) and
    their normal parts (solid): 1 where nothing cancels. Dotted is what independent directions would give, for gradients of
    these sizes in colour, for gradients of one size in grey. On the right, how much of the mean gradient is normal to the
    manifold; dotted is the share for a random direction. Lines are means over test points and seeds. Bands are 95 %
    intervals over seeds, or with a single seed the middle half of the test points.
    """
    return of_all(style, cancellation)


def of_all(style: Style, cancellation: pd.DataFrame) -> Figure:
    """The figure of all that a table has."""
    places = list(cancellation.groupby(["dataset", "network"], sort=True))
    figure, axes = drawing.canvas(len(places), 2, drawing.PAGE, 0.4 + 2.6 * len(places), width_ratios=[1.2, 1])
    for (left, right), ((dataset, network), table) in zip(axes, places, strict=True):
        _ratios(left, table, style)
        _shares(right, table, style)
        name, points, seeds = style.titles.get(dataset, dataset), table["index"].nunique(), table["seed"].nunique()
        left.set_title(f"{name}, {network}: {points} points × {seeds} seeds", loc="left")
    for place in axes[-1]:
        place.set_xlabel("number of draws")
    return figure


@entry()
def cancellation_of_panels(panels: list[Panel], style: Style, cancellation: pd.DataFrame) -> Figure:
    """How far the loss gradients of single draws cancel in their mean, for some networks of many.

    As ``cancellation`` draws it, but of the datasets, networks and trainings of the panels alone.
    """
    shown = {(panel.dataset, panel.network, training) for panel in panels for training in panel.trainings}
    models = zip(cancellation["dataset"], cancellation["network"], cancellation["training"], strict=True)
    return of_all(style, cancellation[[model in shown for model in models]])


def _ratios(axes: Axes, table: pd.DataFrame, style: Style) -> None:
    """Size of the mean over mean size: of both parts, and by chance."""
    labels = []
    axes.set_yscale("log")
    for training, rows in table.groupby("training", sort=True):
        colour = style.colour(training)
        for part, dashes in (("tangent", (0, (4, 2))), ("normal", "solid")):
            end = _measured(axes, rows, f"cancellation_{part}", colour, dashes)
            labels.append((*end, f"{style.name(training)}, {part}", colour))
        by_chance = rows.groupby("draws")["cancellation_by_chance"].mean()
        axes.plot(by_chance.index, by_chance, ":", color=colour, lw=0.9, zorder=1)
        labels.append((by_chance.index[-1], by_chance.iloc[-1], f"{style.name(training)}, independent", colour))
    draws = _numbers(table)
    axes.plot(draws, draws**-0.5, ":", color=drawing.QUIET, lw=0.9, zorder=1)
    labels.append((draws[-1], draws[-1] ** -0.5, "1 / √n", drawing.QUIET))
    lowest = 0.8 * min(height for _, height, *_ in labels)
    marks = [mark for power in range(-6, 1) for mark in np.array([1, 2, 5]) * 10.0**power if lowest < mark <= 1]
    axes.set_ylim(lowest, 1.1)
    axes.set_yticks(marks, [f"{mark:g}" for mark in marks])
    axes.set_ylabel("‖mean gradient‖ / mean ‖gradient‖")
    _name_lines(axes, draws, labels)


def _shares(axes: Axes, table: pd.DataFrame, style: Style) -> None:
    """Normal share of the mean gradient."""
    labels = []
    for training, rows in table.groupby("training", sort=True):
        colour = style.colour(training)
        labels.append((*_measured(axes, rows, "normal_share", colour, "solid"), style.name(training), colour))
    draws, chance = _numbers(table), float(table["normal_share_by_chance"].iloc[0])
    axes.axhline(chance, ls=":", color=drawing.QUIET, lw=0.9, zorder=1)
    labels.append((draws[-1], chance, "by chance", drawing.QUIET))
    axes.set_ylim(0, 1)
    axes.yaxis.set_major_formatter(PercentFormatter(1, symbol=" %"))
    axes.set_ylabel("normal share of ‖mean gradient‖²")
    _name_lines(axes, draws, labels)


def _numbers(table: pd.DataFrame) -> np.ndarray:
    return np.array(sorted(table["draws"].unique()), dtype=float)


def _measured(axes: Axes, rows: pd.DataFrame, name: str, colour: str, dashes: Any) -> tuple[float, float]:
    """The mean over points and seeds against the number of draws, with its band; where the line ends."""
    by_draws = [(float(draws), *_mean_and_band(part, name)) for draws, part in rows.groupby("draws", sort=True)]
    draws, means, low, high = np.array(by_draws).T
    axes.fill_between(draws, low, high, color=colour, alpha=0.15, lw=0, zorder=2)
    axes.plot(draws, means, color=colour, lw=1.3, ls=dashes, zorder=3)
    return float(draws[-1]), float(means[-1])


def _mean_and_band(part: pd.DataFrame, name: str) -> tuple[float, float, float]:
    """Mean over seeds of the mean over points, with its t interval; of one seed, the quartiles of the points."""
    by_seed = part.groupby("seed")[name].mean().to_numpy()
    mean = float(by_seed.mean())
    if len(by_seed) == 1:
        return mean, float(part[name].quantile(0.25)), float(part[name].quantile(0.75))
    half = float(stats.t.ppf(0.975, len(by_seed) - 1) * by_seed.std(ddof=1) / len(by_seed) ** 0.5)
    return mean, mean - half, mean + half


def _name_lines(axes: Axes, draws: np.ndarray, labels: list[Label]) -> None:
    """The names of lines in the right margin, each joined to the end of its line."""
    axes.set_xscale("log")
    axes.set_xlim(draws[0], draws[-1])
    axes.set_xticks(draws, [f"{number:g}" for number in draws])
    axes.minorticks_off()
    ends = axes.transAxes.inverted().transform(axes.transData.transform([label[:2] for label in labels]))
    for (across, up, name, colour), height in zip(labels, _apart(ends[:, 1]), strict=True):
        axes.annotate(
            name,
            (across, up),
            xytext=(1.06, height),
            textcoords="axes fraction",
            arrowprops={"arrowstyle": "-", "lw": 0.4, "color": colour, "shrinkA": 1, "shrinkB": 0, "relpos": (0, 0.5)},
            color=colour,
            va="center",
            fontsize=7.5,
            annotation_clip=False,
        )


def _apart(heights: np.ndarray) -> np.ndarray:
    """Heights in the same order, none above 1, neighbours pushed away from each other until they are :data:`APART`."""
    order = np.argsort(heights, kind="stable")
    moved = heights[order].astype(float)
    for _ in range(200):
        lacking = np.clip(APART - np.diff(moved), 0, None) / 2
        moved[1:] += lacking
        moved[:-1] -= lacking
        moved = np.minimum(moved, 1)
    found = np.empty_like(moved)
    found[order] = moved
    return found
