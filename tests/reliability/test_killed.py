"""Runs that are disturbed at seeded moments and go on with the same command to the same bytes."""

from __future__ import annotations

import os
import random
import resource
import shutil
import signal
import sys
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

import pytest

from tests.reliability import mounts
from tests.reliability.runs import Run, has_begun, little_project, unfinished, wait_until
from tests.workflow.conftest import Project

pytestmark = [
    pytest.mark.xdist_group("killed"),
    pytest.mark.skipif(sys.platform != "linux", reason="finds the processes of a run in /proc"),
]

#: How many disturbances of each kind, altogether; shared by the seeds below.
KINDS = {"snakemake": 6, "group": 6, "job": 6, "server": 2, "memory": 2, "disk": 2, "read-only": 2}
SEEDS = range(3)
MOUNTED = ("disk", "read-only")
#: What no run survives; the others take a job or the process that jobs are forked from, and the run tries again.
FATAL = ("snakemake", "group", *MOUNTED)
REASONS = {"disk": "No space left on device", "read-only": "Read-only file system"}
#: Asked here, before there is a process that runs are forks of, which would not see what is mounted.
CAN_MOUNT = mounts.possible()


def shares() -> list[list[str]]:
    """The disturbances of each seed, in a random order; those of a server first, which has to be the run's own."""
    kinds = [kind for kind, count in KINDS.items() for _ in range(count)]
    random.Random(0).shuffle(kinds)
    return [sorted(kinds[seed :: len(SEEDS)], key=lambda kind: kind != "server") for seed in SEEDS]


@pytest.fixture
def project(tmp_path):
    """A project whose results lie on a small disk of their own, where that can be had."""
    project = little_project(tmp_path / "project")
    results = project.folder / "results"
    results.mkdir()
    with mounts.undone(project.folder):
        if CAN_MOUNT:
            mounts.mount("-t", "tmpfs", "-o", "size=32m", "tmpfs", str(results))
        yield project


def artifacts(project: Project) -> dict[str, str]:
    """The digests of the files in results that a stage would read."""
    found = project.digests()
    return {path: digest for path, digest in found.items() if "/checkpoint/" not in path and "/." not in path}


def disturb(run: Run, kind: str, chance: random.Random) -> bool:
    """Do something bad to a run; whether it has hit something."""
    results = run.project.folder / "results"
    if kind == "disk":
        fill(results)
    elif kind == "read-only":
        mounts.make_read_only(results)
    elif kind == "group":
        # Just as a file appears, which would be seen half-written if it were not written under another name.
        before = appeared(results)
        run.wait_until(lambda: appeared(results) - before, pause=0.001)
        if run.is_over:
            return False
        for process in [*run.jobs(), run.process.pid]:
            kill(process)
        os.killpg(run.process.pid, signal.SIGKILL)
    elif kind == "snakemake":
        os.kill(run.process.pid, signal.SIGKILL)
    elif kind == "server":
        killed = [kill(server) for server in run.servers()]
        return any(killed)
    else:
        failures, jobs = run.said.count("Error in rule"), sorted(run.jobs())
        job = chance.choice(jobs) if jobs else None
        if job is None or not (kill(job) if kind == "job" else limit_memory(job)):
            return False
        wait_until(lambda: job not in run.processes())
        time.sleep(0.5)
        return run.said.count("Error in rule") > failures
    return True


def appeared(folder: Path) -> set[str]:
    """The files in a folder, but for checkpoints."""
    return {
        os.path.join(place, file)
        for place, _, files in os.walk(folder)
        if not place.endswith("checkpoint")
        for file in files
    }


def kill(process: int) -> bool:
    with suppress(ProcessLookupError):
        os.kill(process, signal.SIGKILL)
        return True
    return False


def limit_memory(process: int) -> bool:
    with suppress(ProcessLookupError):
        resource.prlimit(process, resource.RLIMIT_AS, (2**20, resource.RLIM_INFINITY))
        return True
    return False


def fill(folder: Path) -> None:
    with (folder / ".filler").open("ab", buffering=0) as file:
        for size in (2**20, 2**12, 1):
            try:
                while True:
                    file.write(bytes(size))
            except OSError:
                continue


def repair(project: Project, kind: str) -> None:
    """Undo what was done to the folder of results, after a run there was refused."""
    results = project.folder / "results"
    if kind == "disk":
        # A job that failed has made room.
        fill(results)
    refused = project.snakemake("--cores", "2", check=False)
    assert refused.returncode
    assert f"results cannot be written: {REASONS[kind]}. Nothing was run." in refused.stderr
    if kind == "disk":
        (results / ".filler").unlink()
    else:
        mounts.umount(results)


def begin_anew(project: Project) -> None:
    """Delete all that has been built."""
    shutil.rmtree(project.folder / ".snakemake")
    for path in (project.folder / "results").iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def goings_on(project: Project) -> int:
    """How many trainings went on from a checkpoint since this was asked last."""
    logs = list((project.folder / "logs").rglob("train.log"))
    found = sum("goes on after" in path.read_text(encoding="utf-8") for path in logs)
    for path in logs:
        path.unlink()
    return found


def disturbed(project: Project, planned: list[str], chance: random.Random) -> tuple[Run, list[tuple[str, int]]]:
    """A run that is disturbed as planned, again and again at random moments, until it is over.

    Returns the run, and what has hit it, each with the number of files that were unfinished at that moment.
    """
    run, hits = Run(project, "--retries", "2", own_server="server" in planned), []
    try:
        for kind in planned:
            moment = run.finished + chance.randrange(4)
            run.wait_until(lambda finished=moment: run.finished >= finished)
            time.sleep(chance.random() / 2)
            at_once = chance.random() < 0.3
            run.wait_until(lambda at_once=at_once: unfinished(project) and run.jobs() and (at_once or has_begun(project)))
            begun = len(unfinished(project))
            if run.is_over or not disturb(run, kind, chance):
                break
            hits.append((kind, begun))
            if kind in FATAL:
                break
        run.end()
        if hits and hits[-1][0] in MOUNTED and REASONS[hits[-1][0]] not in run.said:
            # It was done before it noticed.
            repair(project, hits.pop()[0])
        return run, hits
    finally:
        run.kill_all()


@pytest.mark.parametrize("seed", SEEDS)
def test_a_disturbed_run_goes_on_to_the_same_bytes(seed, project, undisturbed, capsys):
    chance = random.Random(seed)
    planned = [kind for kind in shares()[seed] if CAN_MOUNT or kind not in MOUNTED]
    survived: Counter[str] = Counter()
    begun = resumed = 0
    while planned:
        run, hits = disturbed(project, planned, chance)
        assert "--unlock" not in run.said
        assert artifacts(project).items() <= undisturbed.items(), f"{hits} left something that is not whole"
        resumed += goings_on(project)
        for kind, files in hits:
            survived[planned.pop(0)] += 1
            begun += files
            if kind in MOUNTED:
                repair(project, kind)
        if run.process.returncode == 0:
            assert project.digests() == undisturbed
            begin_anew(project)
    run = Run(project)
    assert run.end() == 0, run.said[-3000:]
    assert project.digests() == undisturbed
    assert begun >= survived.total()
    with capsys.disabled():
        kinds = ", ".join(f"{kind} {count}" for kind, count in sorted(survived.items()))
        print(f"\nkills survived with seed {seed}: {kinds}; {begun} files begun, {resumed} trainings went on")
