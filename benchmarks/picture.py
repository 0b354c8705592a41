"""The picture of a benchmark: time per image and draw, against the floor."""

from __future__ import annotations

from pathlib import Path

from matplotlib.ticker import LogLocator, NullLocator, StrMethodFormatter

from benchmarks.timing import Row
from resilience.figures import drawing

COLOURS = {"floor": drawing.QUIET, "ours": "#0072b2", "peer": "#cc79a7"}


def draw(rows: list[Row], path: Path) -> None:
    """Dots of the median, lines from the fastest to the slowest repeat, one panel for each network."""
    shown = [row for row in rows if row.section in ("lrp", "attack")]
    figure, axes = drawing.canvas(1, 2, drawing.PAGE, 3.6)
    for place, network in zip(axes[0], ("conv", "fc2"), strict=True):
        here = [row for row in shown if row.name.startswith(network)]
        for height, row in enumerate(reversed(here)):
            colour = COLOURS[_kind(row.name)]
            place.plot(row.spread, [height, height], color=colour, lw=1.5)
            place.plot(row.median, height, "o", color=colour, ms=5)
            place.annotate(
                f"{row.median:,.0f}", (row.spread[1], height), (6, 0), textcoords="offset points", va="center", fontsize=7
            )
        place.set_yticks(range(len(here)), [row.name.removeprefix(f"{network} ") for row in reversed(here)])
        place.set_xscale("log")
        place.xaxis.set_major_locator(LogLocator(subs=(1, 3)))
        place.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
        place.xaxis.set_minor_locator(NullLocator())
        place.grid(axis="y", color="#eeeeee", zorder=0)
        place.set_xlabel("µs per image × draw")
        place.set_title(network)
        place.margins(x=0.3)
    drawing.save(figure, [path])


def _kind(name: str) -> str:
    if "floor" in name:
        return "floor"
    return "peer" if any(peer in name for peer in ("zennit", "captum", "one image", "autograd")) else "ours"
