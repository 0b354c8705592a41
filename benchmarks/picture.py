"""The picture of a benchmark: time per image and draw, against the floor."""

from __future__ import annotations

from pathlib import Path

from benchmarks.timing import Row
from resilience.figures import drawing


def draw(rows: list[Row], path: Path) -> None:
    """Bars of the median, lines from the fastest to the slowest repeat, one panel for each network."""
    shown = [row for row in rows if row.section in ("lrp", "attack")]
    figure, axes = drawing.canvas(1, 2, drawing.PAGE, 3.6)
    for place, network in zip(axes[0], ("conv", "fc2"), strict=True):
        here = [row for row in shown if row.name.startswith(network)]
        for height, row in enumerate(reversed(here)):
            label = row.name.removeprefix(f"{network} ")
            colour = (
                drawing.QUIET if "floor" in label else "#cc79a7" if "," in label and "layers" not in label else "#0072b2"
            )
            place.barh(height, row.median, color=colour, height=0.6)
            place.plot(row.spread, [height, height], color=drawing.INK, lw=0.8)
            place.text(row.spread[1] * 1.1, height, f"{row.median:.3g}", va="center", fontsize=7)
        place.set_yticks(range(len(here)), [row.name.removeprefix(f"{network} ") for row in reversed(here)])
        place.set_xscale("log")
        place.set_xlabel("µs per image × draw")
        place.set_title(network)
        place.set_xlim(right=place.get_xlim()[1] * 2.5)
    drawing.save(figure, [path])
