"""What a job costs before it does anything, and what planning costs."""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable
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
#: Jobs that are like ours for Snakemake but know nothing: each reads one file and has a log, a benchmark and a script.
BARE = """
rule all:
    input: expand("results/{{number}}.txt", number=range({jobs}))
rule first:
    output: "first.txt"
    shell: "touch {{output}}"
rule one:
    input: "first.txt"
    output: "results/{{number}}.txt"
    log: "logs/{{number}}.log"
    benchmark: "logs/{{number}}.tsv"
    threads: 1
    resources: gpu=0, mem_mb=1000, runtime=10
    params: recipe=lambda wildcards: {{"number": wildcards.number}}
    script: "one.py"
"""
FORKED = f"from resilience import fork_server; fork_server.hand_over()\n{IMPORTS['job that explains: its imports']}\n"


def rows(options: argparse.Namespace) -> list[Row]:
    """Interpreter and imports of each kind of job, a job in a fork of a warm process, and dry runs."""
    surroundings = os.environ | {"PYTHONPATH": str(ROOT / "src")}
    surroundings.pop("RESILIENCE_FORK_SERVER", None)

    def run(*command: str, **extra: str) -> str:
        environment = surroundings | extra
        done = subprocess.run(command, check=True, env=environment, cwd=ROOT, capture_output=True, encoding="utf-8")
        return done.stdout + done.stderr

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
    with tempfile.TemporaryDirectory() as folder:
        plans: dict[str, Callable[[], object]] = {}
        to = {}
        for name in PLANNED:
            of_config = ("--directory", folder, "--configfile", str(ROOT / "config" / name))
            bare = Path(folder, f"bare_{name}")
            bare.mkdir()
            jobs = _jobs(run(*plan[:-1], *of_config))
            Path(bare, "Snakefile").write_text(BARE.format(jobs=jobs), encoding="utf-8")
            Path(bare, "one.py").write_text("", encoding="utf-8")
            in_bare = ("--directory", str(bare), "--snakefile", str(bare / "Snakefile"), "--workflow-profile", "none")
            plans[f"snakemake -n, {name}, {jobs} jobs"] = lambda of_config=of_config: run(*plan, *of_config)  # type: ignore[misc]
            plans[f"snakemake -n, {jobs} bare jobs"] = lambda in_bare=in_bare: run(*plan, *in_bare)  # type: ignore[misc]
            to[f"snakemake -n, {name}, {jobs} jobs"] = f"snakemake -n, {jobs} bare jobs"
        found += compare("startup", in_turn(plans, 3), 1, "s", to)
    return found


def _jobs(said: str) -> int:
    """The number of jobs that a dry run says it would do."""
    (total,) = re.findall(r"^total +(\d+)", said, re.MULTILINE)[:1]
    return int(total)
