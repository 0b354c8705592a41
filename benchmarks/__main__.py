"""Times LRP, attacks, chains and start-up against the product floor and against peers: ``python -m benchmarks --help``.

Every figure is a ratio within one run: subjects and floor are timed in turn, again and again, and medians are compared, so a
machine that slows down slows all of them.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Callable
from pathlib import Path

from benchmarks import computations, deep, fullsize, growth, picture, startup
from benchmarks.timing import Row

SECTIONS: dict[str, Callable[[argparse.Namespace], list[Row]]] = {
    "lrp": computations.lrp_rows,
    "attack": computations.attack_rows,
    "deep": deep.rows,
    "training": computations.training_rows,
    "fullsize": fullsize.rows,
    "startup": startup.rows,
    "growth": growth.rows,
}


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "sections", nargs="*", choices=[*SECTIONS, []], help="what to measure; everything if nothing is named"
    )
    parser.add_argument("--images", type=int, default=128, help="images in a batch (default 128)")
    parser.add_argument("--draws", type=int, default=4, help="posterior draws (default 4)")
    parser.add_argument("--threads", type=int, default=1, help="threads (default 1)")
    parser.add_argument("--repeats", type=int, default=9, help="how often everything is timed (default 9)")
    parser.add_argument("--width", type=int, default=512, help="hidden size of both networks (default 512)")
    parser.add_argument(
        "--allocator",
        choices=["jobs", "default"],
        default="jobs",
        help="whether freed memory is kept, as in jobs, or returned as glibc does by default, for us and peers alike",
    )
    parser.add_argument("--out", type=Path, default=Path("benchmarks/out"), help="folder of the CSV and the picture")
    return parser.parse_args()


def main() -> None:
    options = arguments()
    options.out.mkdir(parents=True, exist_ok=True)
    rows: list[Row] = []
    for name in options.sections or SECTIONS:
        print(f"\n{name}")
        found = SECTIONS[name](options)
        print(table(found))
        rows += found
    with (options.out / "benchmarks.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(Row.COLUMNS)
        writer.writerows(row.cells() for row in rows)
    if any(row.section in ("lrp", "attack") for row in rows):
        picture.draw(rows, options.out / "benchmarks.png")
    print(f"\n{options.out / 'benchmarks.csv'}")


def table(rows: list[Row]) -> str:
    """Rows as aligned text."""
    cells = [["what", "median", "spread", "unit", "ratio", "to"]]
    for row in rows:
        low, high = row.spread
        ratio = "" if row.ratio is None else f"{row.ratio:.2f}"
        cells.append([row.name, f"{row.median:.4g}", f"{low:.4g} – {high:.4g}", row.unit, ratio, row.to])
    widths = [max(len(line[index]) for line in cells) for index in range(6)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in cells
    )


if __name__ == "__main__":
    main()
