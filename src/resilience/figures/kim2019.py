"""Boundaries, gradients and attacks as Kim et al. 2019 show them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.lines import Line2D

from resilience.catalog import entry
from resilience.figures import drawing
from resilience.figures.panels import Maps, Panel, Style
from resilience.parameters import Count, ExplanationName
from resilience.tables import Measured

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: Of class 0 and of class 1, and of what an attack makes of class 0.
COLOURS, ATTACKED = ("#0072b2", "#7f7f7f"), "#d55e00"
#: The length of a drawn normal, in the coordinates of the plane.
NORMAL = 0.22
#: What a gradient's picture leaves out at either end of its values, in percent.
CLIPPED = 0.5


@entry(panels=2)
def boundary_tilting(
    panels: list[Panel], style: Style, images: list[Maps], measured: Measured, summary: pd.DataFrame
) -> Figure:
    """Where networks put the boundary between two flat normal distributions, and where an attack goes.

    The first panel names points in the plane, the second a grid over it, judged by the same trainings. To the upper left
    stands the data with the means of both classes joined and the normal of the best linear boundary, Σ⁻¹ (m₀ − m₁). In the
    others a network's two regions are shaded, points of class 0 that were attacked are orange, and the arrow goes from their
    mean to the mean of what the attack made of them. Networks are those of the first seed; below stands, over all seeds,
    what the config measures of networks.
    """
    points, grid = panels
    of_points, of_grid = images
    x = next(iter(of_points.images.values()))[0].reshape(-1, 2).astype(float)
    labels = _predictions(measured, points, points.reference)["label"].to_numpy()
    means = np.array([x[labels == label].mean(0) for label in (0, 1)])
    columns = 2
    rows = -(-(1 + len(points.trainings)) // columns)
    figure, axes = drawing.canvas(rows, columns, 0.8 * drawing.PAGE, 3.2 * rows, sharex=True, sharey=True)
    places = axes.ravel()
    _scatter(places[0], x, labels)
    centred = np.concatenate([x[labels == label] - means[label] for label in (0, 1)])
    best = np.linalg.solve(centred.T @ centred / (len(x) - 2), means[0] - means[1])
    best *= NORMAL / np.linalg.norm(best)
    places[0].plot(*means.T, "--", color=drawing.INK, lw=1)
    places[0].annotate("", means.mean(0) + best, means.mean(0), arrowprops={"arrowstyle": "->", "lw": 1.4})
    towards = means[0] - means[1]
    angle = np.degrees(np.arccos(best @ towards / np.linalg.norm(best) / np.linalg.norm(towards)))
    places[0].set_title("data")
    places[0].set_xlabel(f"arrow: normal of the best linear\nboundary, tilted by {angle:.0f}°")
    for place, training in zip(places[1:], points.trainings, strict=False):
        _regions(place, of_grid.images[training][0], _predictions(measured, grid, training)["prediction"].to_numpy())
        _scatter(place, x, labels)
        attacked = of_points.images[training][1].reshape(-1, 2)[labels == 0]
        place.plot(*attacked.T, ".", color=ATTACKED, ms=2, mew=0, alpha=0.5)
        arrow = {"arrowstyle": "->", "lw": 1.4, "shrinkA": 0, "shrinkB": 0}
        place.annotate("", attacked.mean(0), means[0], arrowprops=arrow)
        place.set_title(style.name(training))
        place.set_xlabel(_described(summary, points, training))
    for place in places[1 + len(points.trainings) :]:
        place.axis("off")
    for place in places:
        place.set_xlim(0, 1)
        place.set_ylim(0, 1)
        place.set_box_aspect(1)
        place.set_xticks([])
        place.set_yticks([])
    handles = [
        *(Line2D([], [], ls="", marker="o", ms=4, color=colour) for colour in COLOURS),
        Line2D([], [], ls="", marker="o", ms=4, color=ATTACKED),
    ]
    names = ["class 0", "class 1", f"class 0 after {points.attack_name}"]
    figure.legend(handles, names, loc="outside lower center", ncols=3, frameon=False)
    return figure


def _predictions(measured: Measured, panel: Panel, training: str) -> pd.DataFrame:
    """What a training's network says of the points of a panel, in their order."""
    return panel.of(measured.predictions, training)


def _scatter(place: Axes, x: np.ndarray, labels: np.ndarray) -> None:
    for label, colour in enumerate(COLOURS):
        place.plot(*x[labels == label].T, ".", color=colour, ms=2, mew=0, alpha=0.6)


def _regions(place: Axes, grid: np.ndarray, predicted: np.ndarray) -> None:
    """Shade where a network says which class."""
    at = grid.reshape(-1, 2)
    axis = np.unique(at[:, 0])
    found = np.full((len(axis), len(axis)), np.nan)
    column, row = (np.searchsorted(axis, at[:, part]) for part in (0, 1))
    found[row, column] = predicted
    place.contourf(axis, axis, found, levels=[-0.5, 0.5, 1.5], colors=COLOURS, alpha=0.2)


def _described(summary: pd.DataFrame, panel: Panel, training: str) -> str:
    """The measures of a training's networks on clean points, with intervals."""
    here = summary[
        (summary["dataset"] == panel.dataset) & (summary["network"] == panel.network) & (summary["training"] == training)
    ]
    clean = here[(here["attack"] == "clean") & (here["explanation"].fillna("") == "")].drop_duplicates("measure")
    return "\n".join(
        f"{row.measure} {row.mean:.3g} [{row.low:.3g}, {row.high:.3g}], {row.seeds} seeds" for row in clean.itertuples()
    )


@entry()
def gradient_pictures(
    panels: list[Panel], style: Style, maps: list[Maps], *, explanation: ExplanationName, points: Count = 3
) -> Figure:
    """Gradients of networks that were trained in different ways, as pictures.

    A row is a test point, these spread over the classes; a column is a training. Red is positive and blue negative; each
    picture has its own scale, symmetric about zero, and is clipped to the 0.5th and the 99.5th percentile of its values (Kim
    et al. 2019, Sec. 2.1). What is drawn is the sum over channels of an explanation: published is minus the gradient of the
    loss of the predicted class, here ``gradient`` of the ``log_probability``.

    Parameters
    ----------
    explanation
        A gradient.
    points
        How many test points are drawn of each panel.
    """
    figure, rows = _rows(panels, maps, points, 1.25)
    for places, panel, of_panel, point, is_first in rows:
        x = of_panel.images[panel.reference][0]
        drawing.show_image(places[0], x[point], "original" if is_first else "")
        places[0].set_ylabel(panel.data if is_first else "")
        for place, training in zip(places[1:], panel.trainings, strict=False):
            gradient = of_panel.layers[training, panel.layers[-1]][0][point].sum(0, keepdims=True)
            low, high = np.percentile(gradient, [CLIPPED, 100 - CLIPPED])
            reach = max(abs(low), abs(high)) or 1.0
            drawing.show_map(place, gradient.clip(low, high), reach, title=style.name(training) if is_first else "")
    figure.suptitle(f"{explanation}, seed {maps[0].seed}", fontsize=8.5)
    return figure


@entry()
def attack_pictures(
    panels: list[Panel], style: Style, images: list[Maps], measured: Measured, *, points: Count = 2
) -> Figure:
    """What one attack makes of the same image for networks that were trained in different ways.

    A row is a test point, these spread over the classes. Above each picture stands the class that the network gives to
    it, the one that was attacked (Kim et al. 2019, Sec. 2.1).

    Parameters
    ----------
    points
        How many test points are drawn of each panel.
    """
    figure, rows = _rows(panels, images, points, 1.45)
    for places, panel, of_panel, point, is_first in rows:
        x = of_panel.images[panel.reference][0]
        label = _predictions(measured, panel, panel.reference)["label"].iloc[point]
        drawing.show_image(places[0], x[point], f"original\n{of_panel.class_name(label)}")
        places[0].set_ylabel(f"{panel.data}\n{panel.attack_name}" if is_first else "")
        for place, training in zip(places[1:], panel.trainings, strict=False):
            said = _predictions(measured, panel, training)["prediction_attacked"].iloc[point]
            drawing.show_image(
                place, of_panel.images[training][1][point], f"{style.name(training)}\n{of_panel.class_name(said)}"
            )
    return figure


def _rows(
    panels: list[Panel], shown: list[Maps], points: int, height: float
) -> tuple[Figure, list[tuple[np.ndarray, Panel, Maps, int, bool]]]:
    """A row of pictures for each point of each panel: places, the panel and its maps, the point, whether it is the first.

    Places beyond the trainings of a panel stay empty.
    """
    columns = 1 + max(len(panel.trainings) for panel in panels)
    figure, axes = drawing.canvas(points * len(panels), columns, 1.25 * columns, 0.4 + height * points * len(panels))
    places = iter(axes)
    rows = []
    for panel, of_panel in zip(panels, shown, strict=True):
        count = len(of_panel.images[panel.reference][0])
        for number in range(points):
            row = next(places)
            for place in row[1 + len(panel.trainings) :]:
                place.axis("off")
            rows.append((row, panel, of_panel, number * count // points, number == 0))
    return figure, rows
