"""Runs in the background, small enough to be disturbed many times, and all the processes that belong to them."""

from __future__ import annotations

import base64
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

from resilience import fork_server
from tests.workflow.conftest import Project, copy_project, warm_jobs

SECONDS = 1200.0
LONG = {"epochs": 30, "batch_size": 50, "learning_rate": 0.01}
MAP = {"method": "maximum_a_posteriori", "prior": "he", **LONG}
TRAININGS = {
    "det": {"method": "deterministic", **LONG},
    "adv": {"method": "adversarial", "attack": {"method": "pgd", "epsilon": 0.1, "steps": 2}, **LONG},
    "ensemble": {"method": "ensemble", "members": 2, "of": MAP},
    "svi": {"method": "svi", "prior": "he", **LONG},
    "hmc": {
        "method": "hmc",
        "prior": "he",
        "start": "ensemble",
        "chains": 2,
        "draws": 60,
        "warmup": 20,
        "step_size": 0.01,
        "leapfrog_steps": 4,
    },
}
PANEL = {"dataset": "digits", "network": "fc2", "attack": "fgsm", "trainings": list(TRAININGS)}


def little_project(folder: Path) -> Project:
    """The project with one network under each kind of training, which keep how far they are after every step."""
    project = copy_project(folder)
    experiment = {"datasets": ["digits"], "networks": ["fc2"], "trainings": list(TRAININGS)}
    changes = {
        "seeds": [0],
        "networks": {"fc2": {"architecture": "fc2", "width": 8}},
        "trainings": TRAININGS,
        "attacks": {"fgsm": {"method": "fgsm", "epsilon": 0.1}},
        "explanations": {"epsilon": {"method": "lrp", "rule": {"rule": "epsilon", "epsilon": 0.1}}},
        "experiments": {"little": experiment | {"attacks": ["fgsm"], "explanations": ["epsilon"], "draws": [4]}},
        "figures": {
            "answer": {"figure": "answer", "panels": [PANEL]},
            "fig05": {"figure": "overlap", "panels": [PANEL | {"trainings": ["det"]}]},
        },
    }
    like = project.config()
    project.write_config({key: like[key] for key in ("datasets", "measures", "claims")} | changes)
    kept = folder / "src/resilience/training/checkpoints.py"
    kept.write_text(
        kept.read_text(encoding="utf-8").replace("SECONDS_BETWEEN = 30.0", "SECONDS_BETWEEN = 0.0"), encoding="utf-8"
    )
    return project


class Run:
    """Snakemake in the background, in a process group of its own.

    Its processes are known by a mark in their environment. Its jobs are forks of the server that all runs of these tests
    share, unless it has one of its own; forks of the shared one are known by where they work.
    """

    def __init__(self, project: Project, *arguments: str, own_server: bool = False) -> None:
        self.mark = f"RESILIENCE_TEST={uuid.uuid4()}"
        self.project = project
        self.log = project.folder / f"{self.mark[-8:]}.out"
        name, _, value = self.mark.partition("=")
        clean = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", fork_server.VARIABLE)}
        server = {} if own_server else warm_jobs()
        command = [sys.executable, "-m", "snakemake", "--configfile", "tests/config.yaml", "--cores", "2", *arguments]
        self.process = subprocess.Popen(
            command,
            cwd=project.folder,
            env=clean | server | {name: value},
            stdin=subprocess.DEVNULL,
            stdout=self.log.open("w", encoding="utf-8"),
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    @property
    def said(self) -> str:
        return self.log.read_text(errors="replace", encoding="utf-8")

    @property
    def finished(self) -> int:
        """How many of its jobs are done."""
        return self.said.count("Finished jobid")

    @property
    def is_over(self) -> bool:
        return self.process.poll() is not None

    def wait_until(self, condition: Callable[[], object], pause: float = 0.02) -> None:
        """Wait until something holds, or until it is over."""
        wait_until(lambda: self.is_over or condition(), pause=pause)

    def end(self) -> int:
        """Wait for its end, and for that of all its processes; its status."""
        status = self.process.wait(SECONDS)
        wait_until(lambda: not self.processes())
        return status

    def processes(self) -> dict[int, str]:
        """All that are alive, with their command lines."""
        return dict(belonging(self.mark, self.project.folder))

    def jobs(self) -> list[int]:
        """Those that do the work of jobs: forks of the server, and scripts."""
        return [
            process
            for process, command in self.processes().items()
            if is_fork(process) or (command.startswith(sys.executable) and ".snakemake/scripts" in command)
        ]

    def servers(self) -> list[int]:
        """The process that jobs are forked from."""
        return [
            number for number, command in self.processes().items() if "fork_server.py" in command and not is_fork(number)
        ]

    def kill_all(self) -> None:
        for process in self.processes():
            os.kill(process, signal.SIGKILL)
        self.process.wait()


def belonging(mark: str, folder: Path) -> Iterator[tuple[int, str]]:
    """Processes that are not zombies and have something in their environment, or are forks that work in a folder."""
    for place in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            marked = mark.encode() in (place / "environ").read_bytes().split(b"\0")
            if marked or (is_fork(int(place.name)) and (place / "cwd").samefile(folder)):
                yield int(place.name), (place / "cmdline").read_text(encoding="utf-8").replace("\0", " ")


def is_fork(process: int) -> bool:
    """Whether a process was forked from the server: its command line is, but it leads no session."""
    try:
        return (
            "fork_server.py" in Path(f"/proc/{process}/cmdline").read_text(encoding="utf-8")
            and os.getsid(process) != process
        )
    except OSError:
        return False


def unfinished(project: Project) -> list[str]:
    """The files that Snakemake holds for begun and not ended."""
    place = project.folder / ".snakemake/incomplete"
    marks = [str(path.relative_to(place)) for path in place.rglob("*") if path.is_file()]
    return [base64.urlsafe_b64decode(mark.replace("@", "").replace("/", "")).decode() for mark in marks]


def has_begun(project: Project) -> bool:
    """Whether all trainings that are running have kept how far they are."""
    models = [(project.folder / file).parent for file in unfinished(project) if file.endswith("weights.safetensors")]
    return all(any((model / "checkpoint").rglob("*.safetensors")) for model in models)


def wait_until(condition: Callable[[], object], seconds: float = SECONDS, pause: float = 0.02) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it took too long"
        time.sleep(pause)
