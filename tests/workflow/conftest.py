"""A finished run of the tiny config in a folder of its own, and what can be asked of it."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from resilience import fork_server
from tests.conftest import ROOT
from tests.workflow import warm
from tests.workflow.chromium import Browser, browser, missing_packages

PARTS = ("Snakefile", "rules", "workflow", "src", "config", "profiles", "envs", "tests/config.yaml")


def pytest_collection_modifyitems(items):
    """The tests of the workflow share a finished run, so they stay together on one process."""
    for item in items:
        if "tests/workflow" in str(item.path):
            item.add_marker(pytest.mark.workflow)
            item.add_marker(pytest.mark.xdist_group("workflow"))


@dataclass(frozen=True)
class Project:
    """A copy of the project in a folder, with whatever has been built there."""

    folder: Path

    def config(self) -> dict[str, Any]:
        return yaml.safe_load((self.folder / "tests/config.yaml").read_text(encoding="utf-8"))

    def write_config(self, config: dict[str, Any], name: str = "tests/config.yaml") -> None:
        (self.folder / name).write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")

    def snakemake(
        self, *arguments: str, check: bool = True, config: str = "tests/config.yaml", **environment: str
    ) -> subprocess.CompletedProcess[str]:
        """Run snakemake here, with the tiny config unless another is named."""
        clean = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
        done = warm.snakemake(["--configfile", config, *arguments], self.folder, clean | warm_jobs() | environment)
        assert not check or done.returncode == 0, done.stderr[-3000:]
        return done

    def planned(self, *arguments: str) -> set[str]:
        """The outputs of the jobs that a run would execute."""
        return outputs_of(self.snakemake("-n", "--", *arguments).stdout)

    def copied(self, folder: Path) -> Project:
        """The same in another folder, with what has been built."""
        shutil.copytree(self.folder, folder, symlinks=True)
        return Project(folder)

    def digests(self) -> dict[str, str]:
        """The digest of every file under results/."""
        files = sorted(path for path in (self.folder / "results").rglob("*") if path.is_file())
        return {str(path.relative_to(self.folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@cache
def warm_jobs() -> dict[str, str]:
    """The environment in which the jobs of all runs are forks of one server, which ends with this process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "environ", {})  # Not this process itself: it runs scripts, too, which must not hand it over.
        fork_server.offer()
        return dict(os.environ)


def outputs_of(plan: str) -> set[str]:
    """The outputs of the jobs of a plan that snakemake printed."""
    lines = re.findall(r"^    output: (.*)$", plan, flags=re.M)
    return {output for line in lines for output in line.split(", ")}


def copy_project(folder: Path, seeds: int = 2) -> Project:
    """The sources of the project in an empty folder, and the tiny config with one or two seeds."""
    for part in PARTS:
        source, target = ROOT / part, folder / part
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
        else:
            shutil.copy2(source, target)
    project = Project(folder)
    if seeds == 1:
        project.write_config(project.config() | {"seeds": [0]})
    return project


def one_of_each(folder: Path) -> Project:
    """The project with a part of the tiny config in which each rule and each kind of training has few jobs.

    What it builds of a network is what the whole config builds, too.
    """
    project = copy_project(folder, seeds=1)
    config = project.config()
    changes = {
        "posteriors": {"trainings": ["adv"]},
        "explanations": {},
        "controls": {"attacks": ["transfer"]},
        "equally_far": {},
        "convolutional": {"trainings": ["det"]},
    }
    experiments = {name: config["experiments"][name] | change for name, change in changes.items()}
    figures = {name: config["figures"][name] for name in ("fig01", "fig03")}
    explore = {"by_rules": config["explore"]["by_rules"]}
    project.write_config(config | {"experiments": experiments, "figures": figures, "explore": explore})
    return project


@pytest.fixture(scope="session")
def finished(tmp_path_factory) -> Project:
    """A finished run of the tiny config on two cores. Tests must not change it; see :func:`again`."""
    project = copy_project(tmp_path_factory.mktemp("finished"))
    project.snakemake("--cores", "2")
    return project


@pytest.fixture(scope="session")
def on_one_core(tmp_path_factory) -> Project:
    """A finished run of :func:`one_of_each` on one core. Tests must not change it."""
    project = one_of_each(tmp_path_factory.mktemp("on_one_core"))
    project.snakemake("--cores", "1", "--quiet", "rules")
    return project


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    """A browser, where Debian's packages are there that bring one."""
    if missing := missing_packages():
        pytest.skip(f"Debian's packages {' and '.join(missing)} are missing; try make browser")
    with browser() as opened:
        yield opened


@pytest.fixture
def again(finished, tmp_path) -> Project:
    """A copy of the finished run that a test may change."""
    return finished.copied(tmp_path / "again")


@pytest.fixture(scope="session")
def everything(finished, tmp_path_factory) -> set[str]:
    """The outputs of all jobs."""
    return copy_project(tmp_path_factory.mktemp("nothing")).planned()
