"""Heat maps before and after an attack (paper, Fig. 1, 5 and 6)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np
from matplotlib.patches import Rectangle

from resilience.catalog import entry
from resilience.figures import drawing
from resilience.figures.panels import Maps, Panel, Style
from resilience.grid import OUTPUT
from resilience.parameters import ExplanationName, OverlapName
from resilience.tables import Measured

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


@entry(panels=1, inner_layers=True)
def layers(
    panels: list[Panel],
    style: Style,
    measured: Measured,
    maps: list[Maps],
    *,
    explanation: ExplanationName = "epsilon",
    measure: OverlapName = "top30",
) -> Figure:
    """Heat maps of every layer before and after an attack that succeeded, on one image.

    Only the top pixels of each map are coloured, red for positive and blue for negative relevance; pixels without any
    relevance stay blank, and each map has its own scale. Below stands how many of the top pixels survive the attack; where
    fewer than k % have any relevance, blank ones fill the top k in the order of their index and count as well. The image is
    the one whose LRP robustness at the output is the median of those whose attack succeeded.
    """
    panel, of_panel = panels[0], maps[0]
    training = panel.reference
    table = _points(measured.of(explanation, panel.layers[-1]), panel, of_panel, training)
    broken = table[(table["prediction"] == table["label"]) & (table["prediction_attacked"] != table["label"])]
    point = _median(broken if len(broken) else table, measure)
    row = table.iloc[point]
    figure, axes = drawing.canvas(2, 1 + len(panel.layers), drawing.PAGE, 3.9)
    for index, (title, predicted) in enumerate((("Image x", "prediction"), ("Attacked x̃", "prediction_attacked"))):
        image = of_panel.images[training][index][point]
        drawing.show_image(axes[index, 0], image, f"{title}\nclassified as {of_panel.class_name(row[predicted])}")
    for place, layer in enumerate(panel.layers, start=1):
        pair = [part[point] for part in of_panel.layers[training, layer]]
        here = _points(measured.of(explanation, layer), panel, of_panel, training).iloc[point]
        survived = here[measure]
        ties = ",\nblank pixels counted" if here["relevant"] < of_panel.top_k(measure) / 100 else ""
        for index, relevance in enumerate(pair):
            chosen = of_panel.top(relevance, measure)
            name = panel.layer_name(layer)
            # The name that a network has for a layer stays as it is.
            title = "" if index else name if name.startswith(str(layer)) and layer != OUTPUT else name.capitalize()
            drawn = drawing.show_map(axes[index, place], relevance, drawing.largest(relevance), chosen, title)
        axes[1, place].set_xlabel(f"{100 * survived:.0f} % survive{ties}")
    bar = figure.colorbar(drawn, ax=axes[:, -1], shrink=0.6, ticks=[drawn.norm.vmin, 0, drawn.norm.vmax])
    bar.ax.set_yticklabels(["negative", "0", "positive"])
    bar.set_label("relevance, scaled per map")
    title = f"{style.name(training)} network: {panel.title}, {explanation}, {measured.title(measure)}"
    figure.suptitle(drawing.wrapped(title), fontsize=8.5)
    return figure


@entry(panels=1)
def overlap(
    panels: list[Panel],
    style: Style,
    measured: Measured,
    maps: list[Maps],
    *,
    explanation: ExplanationName = "epsilon",
    measure: OverlapName = "top20",
) -> Figure:
    """How LRP robustness is counted: the top pixels of two heat maps, and those that they share.

    Outlined are the k % of pixels with the largest absolute relevance before and after the attack. The robustness is the
    share that both have. The image has the median LRP robustness of the test points.
    """
    panel, of_panel = panels[0], maps[0]
    training, layer = panel.reference, panel.layers[-1]
    table = _points(measured.of(explanation, layer), panel, of_panel, training)
    point = _median(table, measure)
    pair = [part[point] for part in of_panel.layers[training, layer]]
    tops = [of_panel.top(relevance, measure) for relevance in pair]
    figure, axes = drawing.canvas(1, 3, drawing.PAGE, 2.75)
    for place, relevance, top, title in zip(axes[0], pair, tops, ("R(x)", "R(x̃)"), strict=False):
        drawing.show_map(place, relevance, drawing.largest(relevance), title=f"Relevance {title}")
        _outline(place, np.asarray(top.any(0)))
        place.set_xlabel(f"outlined: the top {top.sum()} of {top.size}{' channels' if len(top) > 1 else ''}")
    both, only_before, only_after = tops[0] & tops[1], tops[0] & ~tops[1], tops[1] & ~tops[0]
    shades = {"both": (both, "#0072b2"), "only before": (only_before, "#e69f00"), "only after": (only_after, "#cc79a7")}
    picture = np.ones((*both.shape[1:], 3))
    for mask, colour in shades.values():
        picture[mask.any(0)] = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    axes[0, 2].imshow(picture, interpolation="nearest")
    drawing.frame(axes[0, 2], "The top pixels of both")
    counts = ", ".join(f"{name} {mask.sum()}" for name, (mask, _) in shades.items())
    axes[0, 2].set_xlabel(f"{counts}\noverlap = {both.sum()} / {tops[0].sum()} = {both.sum() / tops[0].sum():.2f}")
    handles = [Rectangle((0, 0), 1, 1, color=colour) for _, colour in shades.values()]
    axes[0, 2].legend(handles, shades, loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False, fontsize=7)
    figure.suptitle(drawing.wrapped(f"{style.name(training)} network: {panel.title}, {explanation}"), fontsize=8.5)
    return figure


@entry(panels=1, trainings=2)
def failed_attack(
    panels: list[Panel],
    style: Style,
    measured: Measured,
    maps: list[Maps],
    *,
    explanation: ExplanationName = "epsilon",
    measure: OverlapName = "top30",
    choice: Literal["median", "largest"] = "median",
) -> Figure:
    """Deterministic and Bayesian heat maps of an attack that failed on both networks.

    Both networks still classify the attacked image rightly, if there is such an image; else the title says so. It is the one
    with the median advantage of the second network over the first among all such images, or with the largest one, which is
    how the paper's Fig. 6 was chosen.
    Only the top pixels of each map are coloured; both maps of a row have the same scale.

    Parameters
    ----------
    choice
        Which of the images is drawn.
    """
    panel, of_panel = panels[0], maps[0]
    trainings, layer = panel.trainings[:2], panel.layers[-1]
    tables = [_points(measured.of(explanation, layer), panel, of_panel, training) for training in trainings]
    failed = np.all([(t["prediction"] == t["label"]) & (t["prediction_attacked"] == t["label"]) for t in tables], axis=0)
    advantage = (tables[1][measure] - tables[0][measure]).to_numpy()
    candidates = np.flatnonzero(failed) if failed.any() else np.arange(len(failed))
    order = candidates[np.argsort(advantage[candidates], kind="stable")]
    point = order[len(order) // 2] if choice == "median" else order[-1]
    figure, axes = drawing.canvas(2, 4, drawing.PAGE, 3.9)
    for row, (training, table) in enumerate(zip(trainings, tables, strict=True)):
        clean, attacked = of_panel.images[training]
        pair = [part[point] for part in of_panel.layers[training, layer]]
        largest = drawing.largest(*pair)
        draws = of_panel.draws[training]
        drawing.show_image(axes[row, 0], clean[point], "x" if row == 0 else "")
        drawing.show_image(axes[row, 1], attacked[point], "x̃" if row == 0 else "")
        for place, relevance, title in zip((2, 3), pair, ("R(x)", "R(x̃)"), strict=True):
            chosen = of_panel.top(relevance, measure)
            drawn = drawing.show_map(axes[row, place], relevance, largest, chosen, title if row == 0 else "")
        axes[row, 0].set_ylabel(
            f"{style.name(training)}{f', n = {draws}' if draws > 1 else ''}", color=style.colour(training)
        )
        axes[row, 3].set_xlabel(f"{100 * table[measure].iloc[point]:.0f} % survive")
        change = np.abs(attacked[point] - clean[point])
        axes[row, 1].set_xlabel(f"mean change {change.mean():.3f}")
        bar = figure.colorbar(drawn, ax=axes[row, 3], shrink=0.75, label="relevance", ticks=[-largest, 0, largest])
        bar.ax.set_yticklabels([f"{value:.2g}".replace("-", "−") for value in (-largest, 0, largest)])
    label = of_panel.class_name(int(tables[0]["label"].iloc[point]))
    fate = "rightly predicted by both before and after" if failed.any() else "although no attack failed on both"
    title = (
        f"{panel.title}, {measured.title(measure)}: class\N{NO-BREAK SPACE}{label}, {fate};\n"
        f"the image with the {choice} difference of {len(candidates)} {'such' if failed.any() else 'test'} images"
    )
    figure.suptitle(drawing.wrapped(title), fontsize=8.5)
    return figure


def _points(table: pd.DataFrame, panel: Panel, maps: Maps, training: str) -> pd.DataFrame:
    """The rows of one model, in the order of the test points."""
    table = panel.of(table, training)
    return table[table["seed"] == maps.seed].reset_index(drop=True)


def _median(table: pd.DataFrame, name: str) -> int:
    """Row of the median of a column; the first of equals."""
    ordered = table.sort_values([name, "index"], kind="stable")
    return int(ordered.index[len(ordered) // 2])


def _outline(axes: Axes, chosen: np.ndarray) -> None:
    for row, column in zip(*np.nonzero(chosen), strict=True):
        axes.add_patch(Rectangle((column - 0.5, row - 0.5), 1, 1, fill=False, ec=drawing.INK, lw=1.0))
