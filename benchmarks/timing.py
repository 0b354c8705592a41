"""Timing in turns, and the rows that come of it."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True)
class Row:
    """One measurement: all its values, and its median as a ratio to something measured in the same run."""

    section: str
    name: str
    values: list[float]
    unit: str
    ratio: float | None = None
    to: str = ""

    COLUMNS: ClassVar[list[str]] = ["section", "name", "median", "lowest", "highest", "repeats", "unit", "ratio", "to"]

    @property
    def median(self) -> float:
        """The middle value."""
        return statistics.median(self.values)

    @property
    def spread(self) -> tuple[float, float]:
        """The lowest and the highest value."""
        return min(self.values), max(self.values)

    def cells(self) -> list[object]:
        """A line of the CSV."""
        ratio = "" if self.ratio is None else self.ratio
        return [self.section, self.name, self.median, *self.spread, len(self.values), self.unit, ratio, self.to]


def in_turn(
    subjects: Mapping[str, Callable[[], object]], repeats: int, least_seconds: float = 0.05
) -> dict[str, list[float]]:
    """Seconds of each subject, timed in turn ``repeats`` times; short ones run several times for each."""
    counts = {}
    for name, subject in subjects.items():
        subject()
        begun = time.perf_counter()
        subject()
        counts[name] = max(1, int(least_seconds / max(time.perf_counter() - begun, 1e-9)))
    seconds: dict[str, list[float]] = {name: [] for name in subjects}
    for _ in range(repeats):
        for name, subject in subjects.items():
            begun = time.perf_counter()
            for _ in range(counts[name]):
                subject()
            seconds[name].append((time.perf_counter() - begun) / counts[name])
    return seconds


def compare(section: str, seconds: Mapping[str, list[float]], scale: float, unit: str, to: Mapping[str, str]) -> list[Row]:
    """Rows of what was timed in turn, each with the ratio of its median to that of the subject named by ``to``."""
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    rows = []
    for name, values in seconds.items():
        base = to.get(name, "")
        ratio = medians[name] / medians[base] if base else None
        rows.append(Row(section, name, [value * scale for value in values], unit, ratio, base))
    return rows
