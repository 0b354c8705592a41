"""What all figures share: type sizes, colours of heat maps, and files that are the same at every run."""

from __future__ import annotations

import matplotlib

matplotlib.use("Agg")

import io
import textwrap
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.colors import TwoSlopeNorm, to_rgb
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

from resilience.documents import write_document
from resilience.history import History

#: Width of a page of the paper in inches.
PAGE = 7.2
#: About as many letters of a title fit into an inch.
LETTERS = 14.5
#: Inches beside columns that the names of their rows may take.
BESIDE = 1.2
INK = "#222222"
QUIET = "#8a8a8a"

SETTINGS: Any = {
    "font.size": 8,
    "font.family": "DejaVu Sans",
    "axes.titlesize": 8.5,
    "axes.labelsize": 8,
    "axes.labelcolor": INK,
    "axes.edgecolor": QUIET,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": QUIET,
    "ytick.color": QUIET,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.labelsize": 7.5,
    "ytick.labelsize": 7.5,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "text.color": INK,
    "axes.unicode_minus": True,
    "pdf.fonttype": 42,
    "figure.dpi": 100,
    "savefig.dpi": 250,
}


def canvas(rows: int, columns: int, width: float, height: float, **options: Any) -> tuple[Figure, np.ndarray]:
    """A figure and its axes [rows, columns], sized in inches."""
    pyplot.rcParams.update(SETTINGS)
    figure, axes = pyplot.subplots(rows, columns, figsize=(width, height), squeeze=False, layout="constrained", **options)
    return figure, axes


def wrapped(text: str, columns: int = 1) -> str:
    """Lines of a title, broken where they would be wider than one of so many columns of the page."""
    width = int(LETTERS * (PAGE if columns == 1 else PAGE - BESIDE) / columns)
    return "\n".join(part for line in text.split("\n") for part in textwrap.wrap(line, width, break_long_words=False))


def save(figure: Figure, paths: Iterable[str | Path], history: History | None = None) -> None:
    """Write a figure under each path, with its history; the suffix says the format. No file holds a date."""
    for path in map(Path, paths):
        metadata = {"CreationDate": None} if path.suffix == ".pdf" else {"Software": "resilience", "Title": path.stem}
        drawn = io.BytesIO()
        figure.savefig(drawn, format=path.suffix[1:], metadata=metadata)
        write_document(path, drawn.getvalue(), history)


def show_image(axes: Axes, image: np.ndarray, title: str = "") -> None:
    """A grey or colour image [C, H, W] in [0, 1]."""
    pixels = image[0] if len(image) == 1 else np.moveaxis(image, 0, -1)
    axes.imshow(pixels, cmap="Greys", vmin=0, vmax=1, interpolation="nearest")
    frame(axes, title)


def show_map(
    axes: Axes, relevance: np.ndarray, largest: float, chosen: np.ndarray | None = None, title: str = ""
) -> AxesImage:
    """A heat map [C, H, W], red for positive and blue for negative relevance; others than the ``chosen`` stay blank."""
    total = relevance.sum(0)
    shown = total if chosen is None else np.where(chosen.any(0) & (total != 0), total, np.nan)
    norm = TwoSlopeNorm(0, -largest, largest)
    drawn = axes.imshow(shown, cmap="RdBu_r", norm=norm, interpolation="nearest")
    frame(axes, title)
    return drawn


def largest(*maps: np.ndarray) -> float:
    """The largest relevance of a pixel, of either sign, in heat maps [C, H, W]: the sum over channels, as it is drawn."""
    return max(float(np.abs(relevance.sum(0)).max()) for relevance in maps)


def frame(axes: Axes, title: str = "") -> None:
    """A thin frame without ticks around a picture."""
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_visible(True)
        spine.set_color("#cccccc")
    if title:
        axes.set_title(title)


def tint(colour: str) -> tuple[float, float, float]:
    """A colour mixed with white, for areas."""
    red, green, blue = (1 - 0.35 * (1 - part) for part in to_rgb(colour))
    return red, green, blue


def signed(value: float) -> str:
    """A number with two digits, and a real minus sign if these are not zero."""
    return f"{value:z.2f}".replace("-", "−")


def stars(p: float) -> str:
    """Significance in the paper's notation (Tab. V)."""
    for limit, symbol in ((1e-4, "****"), (1e-3, "***"), (1e-2, "**"), (0.05, "*")):
        if p <= limit:
            return symbol
    return "n.s."
