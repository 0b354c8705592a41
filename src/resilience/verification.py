"""Whether the artifacts in a folder of results are whole, and whether each was made from the inputs that lie beside it."""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from resilience import artifacts, running
from resilience.documents import read_document
from resilience.embedding import FORMATS
from resilience.heads import head_of, recorded_digest, root_of

#: What can be said of a file.
WHOLE, UNTOLD, INCOMPLETE, FOREIGN = "whole", "says nothing of its history", "has lost inputs", "no artifact"
DAMAGED, OUTDATED = "damaged", "outdated"
#: Those that a reader of the results should not put up with.
FAULTS = (DAMAGED, OUTDATED)
#: What training keeps while it runs, which is no artifact.
UNFINISHED = "checkpoint"


class FaultError(ValueError):
    """Results that are not what they should be."""


@dataclass(frozen=True)
class Finding:
    """What is said of one file, and why."""

    path: Path
    state: str
    reasons: list[str] = field(default_factory=list)


def files_in(folder: Path) -> Iterator[Path]:
    """All files in a folder of results but those that are hidden or belong to a training that is not done."""
    for place, inner, names in os.walk(folder):
        inner[:] = sorted(name for name in inner if not name.startswith(".") and name != UNFINISHED)
        yield from (Path(place, name) for name in sorted(names) if name != running.OWNER and not name.startswith("."))


def examine(path: Path) -> Finding:
    """Read a file from its first to its last byte, and compare what it was made from with what lies there now."""
    if path.suffix not in READERS:
        return Finding(path, FOREIGN)
    try:
        READERS[path.suffix](path)
        head = head_of(path)
    except (artifacts.ArtifactError, OSError, ValueError) as error:
        return Finding(path, DAMAGED, [str(error).removeprefix(f"{path}: ")])
    if head.history is None:
        return Finding(path, UNTOLD)
    root = Path(root_of(path))
    changed, gone = [], []
    for name, digest in [item for files in head.history.inputs.values() for item in files.items()]:
        if (source := root / name).exists():
            if recorded_digest(str(source)) != digest:
                changed.append(f"made from another {name} than lies there now")
        elif "/" in name:  # A name alone is a file of the user's own, which may lie anywhere.
            gone.append(f"made from {name}, which is gone")
    if changed:
        return Finding(path, OUTDATED, changed)
    return Finding(path, INCOMPLETE, gone) if gone else Finding(path, WHOLE)


READERS: dict[str, Callable[[Path], object]] = {
    ".safetensors": artifacts.read_tensors,
    ".csv": artifacts.read_table,
    ".json": artifacts.read_json,
    **dict.fromkeys(FORMATS, read_document),
}


def verify(folder: Path) -> list[Finding]:
    """What is said of every file in a folder of results.

    Raises
    ------
    NotADirectoryError
        If there is no such folder.
    """
    if not folder.is_dir():
        raise NotADirectoryError(f"there is no folder {folder}")
    return [examine(path) for path in files_in(folder)]


def report(findings: list[Finding], reasons: int = 3) -> str:
    """The faults, each with some of its reasons, and how many files are in which state."""
    lines = []
    for state in FAULTS:
        for finding in (finding for finding in findings if finding.state == state):
            more = len(finding.reasons) - reasons
            told = [*finding.reasons[:reasons], *([f"and {more} more"] if more > 0 else [])]
            lines.append(f"{finding.path}: {'; '.join(told)}")
    counts = Counter(finding.state for finding in findings)
    return "\n".join([*lines, f"{len(findings)} files: {', '.join(f'{n} {state}' for state, n in counts.most_common())}"])


def refuse_faults(findings: list[Finding]) -> None:
    """Raise FaultError if a file is damaged or outdated."""
    faults = sum(finding.state in FAULTS for finding in findings)
    if faults:
        raise FaultError(
            f"{faults} of {len(findings)} files {'is' if faults == 1 else 'are'} damaged or outdated, see above;"
            " delete what is damaged, and the next run makes that and what is outdated anew"
        )


def main(folder: str) -> None:
    """Print the report on a folder of results; raise FaultError if there is a fault."""
    findings = verify(Path(folder))
    print(report(findings))
    refuse_faults(findings)


if __name__ == "__main__":
    try:
        main(sys.argv[1] if len(sys.argv) > 1 else "results")
    except (FaultError, NotADirectoryError) as problem:
        sys.exit(str(problem))
