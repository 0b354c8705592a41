"""The two ends of what pyproject.toml allows: the oldest dependencies on this Python, the newest on the newest Python.

Each end gets an environment of its own, in which the tests that depend most on versions run, and the tiny config from its
first job to its report. ``make test-ends`` calls this.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from pathlib import Path

from packaging.requirements import Requirement

from tests.conftest import ROOT

TOOLS = ["hypothesis", "packaging", "pytest", "pytest-xdist", "zennit"]
#: One for each thing that a dependency does here: draw, read tables, check settings, compute, sample, parse, serialise.
TESTS = [
    f"tests/library/test_{name}.py"
    for name in (
        *("architectures", "artifacts", "attacks", "chains", "comparisons", "config", "embedding", "figures"),
        *("history", "lrp", "measures_maps", "provenance", "training"),
    )
]


def lowest() -> list[str]:
    """Every dependency at the lowest version that is allowed."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    dependencies = map(Requirement, project["dependencies"])
    return [f"{one.name}=={next(part.version for part in one.specifier if part.operator == '>=')}" for one in dependencies]


class UnreachableError(Exception):
    """What an environment needs cannot be had from here."""


def run(python: str | Path, *arguments: str, folder: Path = ROOT) -> None:
    """Run a module, with nothing of the project but what is installed there."""
    subprocess.run([python, "-m", *arguments], cwd=folder, env=surroundings(), check=True)


def install(python: Path, *arguments: str) -> None:
    """Install with pip, whose last try to reach a package index says that it is the last."""
    command = [python, "-m", "pip", "install", "--quiet", *arguments]
    done = subprocess.run(command, env=surroundings(), stderr=subprocess.PIPE, encoding="utf-8", check=False)
    if done.returncode and "Retry(total=0," in done.stderr:
        raise UnreachableError
    if done.returncode:
        sys.exit(done.stderr)


def surroundings() -> dict[str, str]:
    """The environment, but for where else Python looks for modules."""
    return {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}


def newest_python() -> str:
    """The newest one here that the project allows."""
    command = [sys.executable, ROOT / ".ci/find_python.py", "newest"]
    return subprocess.run(command, capture_output=True, encoding="utf-8", check=True).stdout.strip()


def check(name: str, base: str, constraints: list[str]) -> None:
    """Make the environment of one end, and run there what is chosen."""
    begun, place = time.monotonic(), ROOT / ".ends" / name
    run(base, "venv", "--clear", str(place))
    python = place / "bin/python"
    with tempfile.TemporaryDirectory() as folder:
        allowed = Path(folder, "constraints.txt")
        allowed.write_text("\n".join(constraints), encoding="utf-8")
        install(python, "--constraint", str(allowed), "--editable", str(ROOT), *TOOLS)
        installed = time.monotonic()
        run(python, "pytest", "-q", "-n", "2", "-p", "no:cacheprovider", *TESTS)
        tiny = ["--snakefile", str(ROOT / "Snakefile"), "--configfile", str(ROOT / "tests/config.yaml")]
        run(python, "snakemake", "--cores", "2", "--quiet", "all", "--directory", folder, *tiny)
        assert (Path(folder) / "results/report.html").exists()
    seconds = f"{installed - begun:.0f} s to install, {time.monotonic() - installed:.0f} s to run"
    print(f"The {name} versions pass on {base}: {seconds}.", flush=True)
    shutil.rmtree(place)


def main() -> None:
    newest = newest_python()
    if os.path.samefile(newest, sys.executable):
        print("There is no newer Python here, so the newest versions are tried on the same.", flush=True)
    try:
        check("lowest", sys.executable, lowest())
        check("newest", newest, [])
    except UnreachableError:
        print("pip reaches no package index here, so no further versions are tried.")


if __name__ == "__main__":
    main()
