"""What a job tells the person who waits for it: a bar in a terminal, plain lines in a log, the cause when it fails."""

from __future__ import annotations

import logging
import resource
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import TypeVar

from tqdm import tqdm

from resilience import running

T = TypeVar("T")
SECONDS_BETWEEN_LINES = 10.0

logger = logging.getLogger("resilience")


def start(log: str | Path) -> None:
    """Begin a job: what the library says goes to a log file, an error ends with its cause, and the job ends with its run."""
    running.end_with_run()
    path = Path(log)
    path.parent.mkdir(parents=True, exist_ok=True)
    handler = logging.FileHandler(path, mode="w", encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s", "%Y-%m-%d %H:%M:%S"))
    logger.handlers[:] = [handler]
    logger.setLevel(logging.INFO)
    logger.propagate = False
    logging.captureWarnings(True)
    logging.getLogger("py.warnings").handlers[:] = [handler]

    def report(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        logger.error("the job failed", exc_info=(kind, error, trace))
        logger.error("cause: %s", cause(error))
        print(f"{cause(error)}\nDetails: {path}", file=sys.stderr)

    sys.excepthook = report


def finish() -> None:
    """Write the peak memory of the job, the last line of its log."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 if sys.platform == "darwin" else 1024)
    logger.info("done, peak memory %.0f MB", peak)


def cause(error: BaseException) -> str:
    """An error as one sentence."""
    if isinstance(error, MemoryError) and not str(error):
        return "MemoryError: there was not enough memory for this job"
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


def track(items: Iterable[T], label: str, total: int | None = None) -> Iterator[T]:
    """Pass ``items`` on, showing a bar with rate and time left in a terminal and an occasional line in the log."""
    number = total if total is not None else len(items)  # type: ignore[arg-type]
    with steps(number, label) as advance:
        for item in items:
            yield item
            advance()


@contextmanager
def steps(total: int, label: str) -> Iterator[Callable[[], None]]:
    """A function to call after each of ``total`` steps; see :func:`track`."""
    begun = last = time.monotonic()
    done = 0
    with tqdm(desc=label, total=total, leave=False, disable=not sys.stderr.isatty(), mininterval=0.5) as bar:

        def advance() -> None:
            nonlocal done, last
            done += 1
            bar.update()
            if (now := time.monotonic()) - last >= SECONDS_BETWEEN_LINES:
                last = now
                logger.info("%s", describe(label, done, total, now - begun))

        yield advance
    logger.info("%s: %d steps in %.1f s", label, done, time.monotonic() - begun)


def describe(label: str, done: int, total: int, seconds: float) -> str:
    """One line of progress: share, rate and time left."""
    rate = done / seconds if seconds > 0 else 0.0
    left = (total - done) / rate if rate else float("inf")
    return f"{label}: {done} of {total} ({100 * done / total:.0f} %), {rate:.3g} per s, {left:.0f} s left"
