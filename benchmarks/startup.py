"""What a job costs before it does anything, and what planning costs."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.timing import Row, compare, in_turn

ROOT = Path(__file__).parent.parent
IMPORTS = {
    "python": "pass",
    "import torch": "import torch",
    "job that trains: its imports": "import pandas; from resilience.training import variational",
    "job that explains: its imports": "import resilience.posterior, resilience.explanations.lrp",
    "job that measures: its imports": "import pandas; from resilience import tables",
    "job that draws: its imports": "from resilience.figures import scatter",
}
#: The configs whose plans are timed; the others are variants of these, or laid over them.
PLANNED = ("config.yaml", "paper.yaml")
FORKED = f"from resilience import fork_server; fork_server.hand_over()\n{IMPORTS['job that explains: its imports']}\n"


def rows(options: argparse.Namespace) -> list[Row]:
    """Interpreter and imports of each kind of job, a job in a fork of a warm process, and dry runs."""
    surroundings = os.environ | {"PYTHONPATH": str(ROOT / "src")}
    surroundings.pop("RESILIENCE_FORK_SERVER", None)

    def run(*command: str, **extra: str) -> None:
        subprocess.run(command, check=True, env=surroundings | extra, cwd=ROOT, capture_output=True)

    repeats = max(3, options.repeats // 2)
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder, "job.py")
        script.write_text(FORKED, encoding="utf-8")
        place = Path(folder, "server")
        place.mkdir()
        subjects = {name: lambda code=code: run(sys.executable, "-c", code) for name, code in IMPORTS.items()}  # type: ignore[misc]
        subjects["job that explains: in a fork of a warm process"] = lambda: run(
            sys.executable, str(script), RESILIENCE_FORK_SERVER=f"{place}:{os.getpid()}"
        )
        seconds = in_turn(subjects, repeats)
        found = compare(
            "startup", seconds, 1, "s", {"job that explains: in a fork of a warm process": "job that explains: its imports"}
        )
    plan = [sys.executable, "-m", "snakemake", "-n", "--quiet"]
    plans = {
        f"snakemake -n, {name}": lambda name=name: run(
            *plan, "--directory", folder, "--configfile", str(ROOT / "config" / name)
        )  # type: ignore[misc]
        for name in PLANNED
    }
    with tempfile.TemporaryDirectory() as folder:
        found += compare("startup", in_turn(plans, 3), 1, "s", {})
    return found
