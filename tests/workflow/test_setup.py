"""What ``make`` says where it cannot set up; which Python the tests run on, and what is said where no more can be had."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests import ends
from tests.conftest import ROOT

#: Stands for what a Python runs first: it makes another of it.
OLD = "import sys; sys.version_info = (3, 10, 13, 'final', 0); sys.version = '3.10.13 (main)'"
WITHOUT_PIP = "import sys; sys.modules['ensurepip'] = None"
OF_DEBIAN = "cannot make virtual environments, since it has no ensurepip. On Debian, install python3-venv."


def python(folder: Path, name: str, first: str) -> Path:
    """A program that is this Python, but for what it runs first."""
    (folder / name).mkdir(parents=True)
    (folder / name / "sitecustomize.py").write_text(first, encoding="utf-8")
    program = folder / name / "python3"
    program.write_text(f'#!/bin/sh\nPYTHONPATH="{folder / name}" exec "{sys.executable}" "$@"\n', encoding="utf-8")
    program.chmod(0o755)
    return program


def refusal(tmp_path: Path, name: str) -> str:
    """What ``make`` says where a Python will not do."""
    project = tmp_path / "project"
    project.mkdir()
    for file in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / file, project)
    done = subprocess.run(["make", f"PYTHON={name}"], cwd=project, capture_output=True, encoding="utf-8", check=False)
    assert done.returncode
    assert not (project / ".venv").exists()
    assert done.stderr.splitlines()[0].endswith("Name a Python, 3.11 or newer, with: make PYTHON=python3.12")
    return done.stderr


def test_a_python_that_is_not_there(tmp_path):
    assert refusal(tmp_path, "python3.99").startswith("There is no python3.99 here. ")


def test_a_python_that_is_too_old(tmp_path):
    said = refusal(tmp_path, str(python(tmp_path, "old", OLD)))
    assert said.startswith("Python 3.11 or newer is needed; this is 3.10.13. ")


def test_a_python_that_can_make_no_environments(tmp_path):
    program = python(tmp_path, "bare", WITHOUT_PIP)
    assert refusal(tmp_path, str(program)).startswith(f"{program} {OF_DEBIAN} ")


@pytest.mark.parametrize(("which", "expected"), [("oldest", "3.11.0"), ("newest", "3.98.1")])
def test_the_ends_are_found(which, expected, tmp_path):
    """Those that are too old, in the making, or without environments are passed over."""
    versions = {"a": (3, 10, 13, "final"), "b": (3, 98, 1, "final"), "c": (3, 11, 0, "final"), "d": (3, 99, 0, "candidate")}
    programs = {
        name: python(tmp_path, name, f"import sys; sys.version_info = {version}") for name, version in versions.items()
    }
    bare = python(tmp_path, "e", f"{WITHOUT_PIP}; sys.version_info = (3, 99, 0, 'final')")
    path = os.pathsep.join(str(program.parent) for program in [*programs.values(), bare])
    done = subprocess.run(
        [sys.executable, ROOT / ".ci/find_python.py", which],
        env={"PATH": path, "HOME": str(tmp_path)},
        capture_output=True,
        encoding="utf-8",
        check=True,
    )
    found = {str(program): ".".join(map(str, versions[name][:3])) for name, program in programs.items()}
    assert found[done.stdout.strip()] == expected


def test_no_python_will_do(tmp_path):
    program = python(tmp_path, "old", OLD)
    command = [sys.executable, ROOT / ".ci/find_python.py", "oldest"]
    surroundings = {"PATH": str(program.parent), "HOME": str(tmp_path)}
    done = subprocess.run(command, env=surroundings, capture_output=True, encoding="utf-8", check=False)
    assert done.returncode
    assert done.stderr == "No Python here is 3.11 or newer and can make virtual environments.\n"


@pytest.fixture
def _no_index(monkeypatch):
    """Pip is told of a package index that nobody answers for."""
    for name in ("PIP_FIND_LINKS", "PIP_EXTRA_INDEX_URL"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {"CONFIG_FILE": os.devnull, "INDEX_URL": "http://127.0.0.1:9/simple", "RETRIES": "1"}.items():
        monkeypatch.setenv(f"PIP_{name}", value)


@pytest.mark.usefixtures("_no_index")
def test_without_an_index_no_more_versions_are_tried(monkeypatch, capsys):
    monkeypatch.setattr(ends, "check", lambda *_: ends.install(Path(sys.executable), "--dry-run", "resilience-of-nothing"))
    ends.main()
    assert capsys.readouterr().out.splitlines()[-1].startswith("pip reaches no package index here")


@pytest.mark.usefixtures("_no_index")
def test_versions_that_cannot_be_had_for_another_reason_are_an_error():
    with pytest.raises(SystemExit, match="No matching distribution found"):
        ends.install(Path(sys.executable), "--dry-run", "--no-index", "resilience-of-nothing")
