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
from collections.abc import Iterator
from pathlib import Path

from packaging.requirements import Requirement

from tests.conftest import ROOT

TOOLS = ["hypothesis", "packaging", "pytest", "zennit"]
#: One for each thing that a dependency does here: draw, read tables, check settings, compute, sample, parse, serialise.
TESTS = [
    f"tests/library/test_{name}.py"
    for name in ("artifacts", "attacks", "chains", "comparisons", "config", "figures", "lrp", "provenance", "training")
]


def lowest() -> list[str]:
    """Every dependency at the lowest version that is allowed."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    dependencies = map(Requirement, project["dependencies"])
    return [f"{one.name}=={next(part.version for part in one.specifier if part.operator == '>=')}" for one in dependencies]


def version(python: str) -> tuple[int, ...]:
    """That of an interpreter that can make environments; none where it cannot, or is none."""
    asked = [python, "-c", "import ensurepip, sys; print(*sys.version_info[:3])"]
    done = subprocess.run(asked, capture_output=True, text=True, encoding="utf-8", check=False)
    return tuple(map(int, done.stdout.split())) if done.returncode == 0 else ()


def interpreters() -> Iterator[str]:
    """Those by the usual names, and those that pyenv keeps aside."""
    yield from filter(None, (shutil.which(f"python3.{minor}") for minor in range(11, 30)))
    yield from map(str, Path.home().glob(".pyenv/versions/3.*/bin/python3"))


def run(python: Path, *arguments: str, folder: Path = ROOT) -> None:
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    subprocess.run([python, "-m", *arguments], cwd=folder, env=environment, check=True)


def check(name: str, base: str, constraints: list[str]) -> None:
    """Make the environment of one end, and run there what is chosen."""
    begun, place = time.monotonic(), ROOT / ".venv/ends" / name
    run(Path(base), "venv", "--clear", str(place))
    python = place / "bin/python"
    with tempfile.TemporaryDirectory() as folder:
        allowed = Path(folder, "constraints.txt")
        allowed.write_text("\n".join(constraints), encoding="utf-8")
        run(python, "pip", "install", "--quiet", "--constraint", str(allowed), "--editable", str(ROOT), *TOOLS)
        installed = time.monotonic()
        run(python, "pytest", "-q", "-p", "no:cacheprovider", *TESTS)
        tiny = ["--snakefile", str(ROOT / "Snakefile"), "--configfile", str(ROOT / "tests/config.yaml")]
        run(python, "snakemake", "--cores", "2", "--quiet", "all", "--directory", folder, *tiny)
        assert (Path(folder) / "results/report.html").exists()
    seconds = f"{installed - begun:.0f} s to install, {time.monotonic() - installed:.0f} s to run"
    print(f"The {name} versions pass on Python {'.'.join(map(str, version(base)))}: {seconds}.")
    shutil.rmtree(place)


def main() -> None:
    check("lowest", sys.executable, lowest())
    newest = max(interpreters(), key=version, default=sys.executable)
    if version(newest) <= version(sys.executable):
        print("There is no newer Python here, so the newest versions are left out.")
        return
    check("newest", newest, [])


if __name__ == "__main__":
    main()
