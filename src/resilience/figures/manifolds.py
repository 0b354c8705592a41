"""How far attacked images are from the manifold of the data, and what manifolds look like (Kim et al. 2019, Sec. 2.1)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.colors import to_rgb
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from scipy import stats

from resilience.catalog import entry
from resilience.figures import drawing
from resilience.figures.panels import Panel, Projections, Style
from resilience.parameters import Count, DatasetName, DistanceName, ManifoldName
from resilience.tables import Measured

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: Factor of the standard deviation that is the bandwidth of densities, as published.
BANDWIDTH = 0.25
#: Panels beside each other.
COLUMNS = 4
#: Values at which a density is drawn, and the share of the distances on either side that an axis need not show.
PLACES, BEYOND = 400, 0.002
CLEAN_SHADE = "#d5d5d5"


@entry(clean="clean")
def distances_to_manifold(
    panels: list[Panel], style: Style, measured: Measured, *, measure: DistanceName, clean: DistanceName
) -> Figure:
    """How far images are from the manifold of the data: clean, and attacked on one network after the other.

    Densities of the distances, by Gaussian kernels with a bandwidth of .25 standard deviations: filled those of the clean
    test images, as lines those of what the attack made of them on each network, as far as they count for the measure. For
    each seed distances are rescaled by the smallest and the largest one of a clean image, which become 0 and 1. Marks on the
    axis are medians, which the legend gives, with the number of images of all seeds.

    Parameters
    ----------
    measure
        The distance of attacked images: a ``distance_to_manifold`` of ``attacked``.
    clean
        That of clean images to the same manifold, whichever judge ``measure`` has.
    """
    columns = min(len(panels), COLUMNS)
    rows = -(-len(panels) // columns)
    most = max(len(panel.trainings) for panel in panels)
    width = drawing.PAGE * max(columns / COLUMNS, 0.5)
    figure, axes = drawing.canvas(rows, columns, width, rows * (2.35 + 0.13 * most))
    for place in axes.flat[len(panels) :]:
        place.axis("off")
    for place, panel in zip(axes.flat, panels, strict=False):
        clean_distances, attacked = rescaled(panel, measured, measure, clean)
        colours = shades(panel, style)
        entries: dict[str, Patch | Line2D] = {f"clean: {_told(clean_distances)}": Patch(color=CLEAN_SHADE)}
        _density(place, clean_distances, CLEAN_SHADE, filled=True)
        for training, distances in attacked.items():
            _density(place, distances, colours[training])
            entries[f"{style.name(training)}: {_told(distances)}"] = Line2D([], [], color=colours[training])
        every = np.concatenate([clean_distances, *attacked.values()])
        low, high = np.quantile(every, [BEYOND, 1 - BEYOND])
        place.set_xlim(low - 0.05 * (high - low), high + 0.05 * (high - low))
        place.set_ylim(0, None)
        place.set_yticks([])
        place.set_title(drawing.wrapped(f"{panel.data}, {panel.network}\n{panel.attack_name}", COLUMNS))
        place.set_xlabel("distance (rescaled)")
        below = {"loc": "upper center", "bbox_to_anchor": (0.5, -0.25), "frameon": False}
        place.legend(entries.values(), entries.keys(), title="median (images)", fontsize=6.5, title_fontsize=6.5, **below)
    for place in axes[:, 0]:
        place.set_ylabel("density")
    return figure


def rescaled(panel: Panel, measured: Measured, measure: str, clean: str) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Distances of clean images, and of attacked ones by training, of all seeds, as far as points count.

    For each seed they are rescaled by the smallest and the largest one of a clean image, which become 0 and 1.
    """
    reference = panel.of(measured.predictions, panel.reference)
    extremes = reference.groupby("seed")[clean].agg(["min", "max"])

    def of(table: pd.DataFrame, name: str) -> np.ndarray:
        known = table.dropna(subset=[name])
        low, high = (known["seed"].map(extremes[end]) for end in ("min", "max"))
        return ((known[name] - low) / (high - low)).to_numpy(dtype=float)

    return of(reference, clean), {name: of(panel.of(measured.predictions, name), measure) for name in panel.trainings}


def shades(panel: Panel, style: Style) -> dict[str, tuple[float, float, float]]:
    """Colours of the trainings of a panel; those that share one get it from light to dark, in their order."""
    alike = Counter(style.colour(training) for training in panel.trainings)
    seen: Counter[str] = Counter()
    found = {}
    for training in panel.trainings:
        colour = style.colour(training)
        # From half way to white, −1, to half way to black, 1.
        toward = 0.0 if alike[colour] == 1 else 2 * seen[colour] / (alike[colour] - 1) - 1
        seen[colour] += 1
        red, green, blue = (part + 0.5 * abs(toward) * (float(toward < 0) - part) for part in to_rgb(colour))
        found[training] = (red, green, blue)
    return found


def _told(distances: np.ndarray) -> str:
    return f"{np.median(distances):.2f} ({len(distances):,})" if len(distances) else "none (0)"


def _density(place: Axes, distances: np.ndarray, colour: str | tuple[float, float, float], filled: bool = False) -> None:
    """A density and its median; where all distances are the same, the median alone."""
    if not len(distances):
        return
    if np.ptp(distances) > 0:
        low, high = distances.min(), distances.max()
        where = np.linspace(low - 0.1 * (high - low), high + 0.1 * (high - low), PLACES)
        heights = stats.gaussian_kde(distances, BANDWIDTH)(where)
        if filled:
            place.fill_between(where, heights, color=colour, lw=0)
        else:
            place.plot(where, heights, color=colour, lw=1.1)
    mark = drawing.QUIET if filled else colour
    place.axvline(float(np.median(distances)), 0, 0.07, color=mark, lw=1.6, solid_capstyle="butt", zorder=4)


@entry()
def manifold_pictures(
    style: Style,
    projections: Mapping[str, Projections],
    *,
    dataset: DatasetName,
    manifolds: list[ManifoldName],
    images: Count = 10,
) -> Figure:
    """Test images, what each manifold makes of them, and images drawn from those manifolds that have a distribution.

    Under each projection stands its distance from the image, ‖x − projection‖₂ in pixels of [0, 1]; of a VAE-GAN it is the
    reconstruction from the mean latent vector. The images are the first of each class in the test split.

    Parameters
    ----------
    dataset
        Which images; all manifolds must be learned from it.
    manifolds
        Which manifolds, from above.
    images
        How many of them, at most 20.
    """
    shown = {name: projections[name] for name in manifolds}
    first = next(iter(shown.values()))
    count = min(images, len(first.x))
    rows: list[tuple[str, np.ndarray, np.ndarray | None]] = [("test images", first.x, None)]
    rows += [(name, found.projection, found.distances) for name, found in shown.items()]
    rows += [(f"drawn from\n{name}", found.sample, None) for name, found in shown.items() if found.sample is not None]
    figure, axes = drawing.canvas(len(rows), count, drawing.PAGE, 0.5 + (drawing.PAGE - 1) / count * 1.25 * len(rows))
    for row, (name, pictures, distances) in zip(axes, rows, strict=True):
        for place, picture in zip(row, pictures[:count], strict=True):
            drawing.show_image(place, np.clip(picture, 0, 1))
        for place, distance in zip(row, () if distances is None else distances[:count], strict=False):
            place.set_xlabel(f"{distance:.2f}", fontsize=6.5, labelpad=1.5)
        row[0].set_ylabel(name, rotation=0, ha="right", va="center")
    figure.suptitle(drawing.wrapped(f"{style.titles.get(dataset, dataset)}, seed {first.seed}"), fontsize=8.5)
    return figure
