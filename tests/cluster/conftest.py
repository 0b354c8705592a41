"""A Slurm of one node, and a finished run of the tiny config on it and one without it."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.cluster.one_node import Slurm, missing_packages
from tests.workflow.conftest import Project, copy_project
from tests.workflow.test_refusals import flip_a_bit

#: One command, as docs/cluster.md has it, but for the pause before Slurm is asked.
COMMAND = ["--profile", "profiles/slurm", "--slurm-init-seconds-before-status-checks", "1"]
SECONDS = 3600.0


@dataclass(frozen=True)
class Run:
    """A run of Snakemake on the cluster that goes on in the background."""

    process: subprocess.Popen
    said: Path

    def finish(self) -> tuple[int, str]:
        """Wait for the end: the status and what was printed."""
        return self.process.wait(SECONDS), self.said.read_text(encoding="utf-8")

    def interrupt(self) -> tuple[int, str]:
        """What Ctrl+C does."""
        self.process.send_signal(signal.SIGINT)
        return self.finish()


@dataclass(frozen=True)
class Cluster:
    """A Slurm, and Snakemake on it."""

    slurm: Slurm
    runs: list[Run] = field(default_factory=list)

    def start(self, project: Project, *arguments: str) -> Run:
        command = [sys.executable, "-m", "snakemake", "--configfile", "tests/config.yaml", *COMMAND, *arguments]
        clean = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "RESILIENCE_FORK_SERVER")}
        said = project.folder / "said.txt"
        with said.open("w", encoding="utf-8") as file:
            process = subprocess.Popen(
                command,
                cwd=project.folder,
                env=clean | self.slurm.environment,
                stdout=file,
                stderr=file,
                # What a shell runs in the background hands down that Ctrl+C is ignored.
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
            )
        self.runs.append(Run(process, said))
        return self.runs[-1]

    def jobs(self, project: Project) -> list[dict[str, str]]:
        """The Slurm jobs of a project, as Slurm describes them."""
        return [job for job in self.slurm.jobs() if Path(job["WorkDir"]) == project.folder]


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    if missing := missing_packages():
        pytest.fail(f"There is no Slurm here: Debian's packages {', '.join(missing)} are missing; try make test-slurm.")
    if find_spec("snakemake_executor_plugin_slurm") is None:
        pytest.fail("The plugin of the dependency group slurm is missing; try make test-slurm.")
    # Not pytest's own folder, whose name is too long for a socket's.
    with tempfile.TemporaryDirectory(prefix="slurm-") as folder:
        cluster = Cluster(Slurm(Path(folder)))
        try:
            cluster.slurm.start()
            yield cluster
        finally:
            for run in cluster.runs:
                if run.process.poll() is None:
                    run.process.kill()
            cluster.slurm.stop()


@pytest.fixture(scope="session")
def local(tmp_path_factory) -> Project:
    """A finished run of the tiny config without Slurm. Tests must not change it."""
    project = copy_project(tmp_path_factory.mktemp("local"), seeds=1)
    project.snakemake("--cores", "2", "--quiet", "rules")
    return project


def start_of(local: Project, folder: Path) -> Project:
    """A project that has the data and nothing else."""
    project = copy_project(folder, seeds=1)
    (folder / "results/digits").mkdir(parents=True)
    for file in ("data.safetensors", "points.safetensors"):
        shutil.copy2(local.folder / "results/digits" / file, folder / "results/digits")
    return project


#: What goes wrong with the training of a network, and the options of the run.
TROUBLES = {
    "too little memory at first": ["--set-resources", "train:mem_mb=400 * attempt * attempt"],
    "too little memory": ["--set-resources", "train:mem_mb=400", "--retries", "0"],
    "damaged data": ["--retries", "0"],
}


@pytest.fixture(scope="session")
def troubled(cluster, local, tmp_path_factory) -> dict[str, tuple[Project, Run]]:
    """A run for each of the troubles, all at once, since most of their time is waiting."""
    runs = {}
    for trouble, options in TROUBLES.items():
        project = start_of(local, tmp_path_factory.mktemp("troubled"))
        if trouble == "damaged data":
            flip_a_bit(project.folder / "results/digits/data.safetensors")
        runs[trouble] = (project, cluster.start(project, *options, "--", "results/digits/fc2/det/seed0/weights.safetensors"))
    return runs


@pytest.fixture(scope="session")
def clustered(cluster, troubled, tmp_path_factory) -> Project:
    """The whole tiny config on the cluster, behind the runs with troubles. Tests must not change it."""
    project = copy_project(tmp_path_factory.mktemp("clustered"), seeds=1)
    begun = time.monotonic()
    status, said = cluster.start(project).finish()
    assert status == 0, said[-5000:]
    print(f"\nThe tiny config took {len(cluster.jobs(project))} submissions and {time.monotonic() - begun:.0f} s.")
    return project
