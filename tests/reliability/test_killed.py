"""Runs that are disturbed at seeded moments and go on with the same command to the same bytes."""

from __future__ import annotations

import os
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from tests.reliability.runs import Run, little_project, unfinished, wait_until
from tests.workflow.conftest import Project

pytestmark = [
    pytest.mark.xdist_group("killed"),
    pytest.mark.skipif(sys.platform != "linux", reason="finds the processes of a run in /proc"),
]

#: How many disturbances of each kind, altogether; shared by the seeds below.
KINDS = {"snakemake": 12, "group": 10, "job": 12, "server": 4, "memory": 4, "disk": 4, "read-only": 4}
SEEDS = range(5)
MOUNTED = ("disk", "read-only")
REASONS = {"disk": "No space left on device", "read-only": "Read-only file system"}
NO_MOUNT = "a full disk and a read-only folder need a small file system of their own, which only root can mount"


def shares() -> list[list[str]]:
    """The disturbances of each seed, in a random order."""
    kinds = [kind for kind, count in KINDS.items() for _ in range(count)]
    random.Random(0).shuffle(kinds)
    return [kinds[seed :: len(SEEDS)] for seed in SEEDS]


def mount(*arguments: str) -> bool:
    return shutil.which("mount") is not None and subprocess.run(["mount", *arguments], capture_output=True).returncode == 0


def umount(place: Path) -> None:
    subprocess.run(["umount", "--lazy", str(place)], check=True)


@pytest.fixture
def disk(tmp_path):
    """A project whose results lie on a small disk of their own, where that can be had."""
    project = little_project(tmp_path / "project")
    results = project.folder / "results"
    results.mkdir()
    mounted = mount("-t", "tmpfs", "-o", "size=32m", "tmpfs", str(results))
    yield project, mounted
    if mounted:
        umount(results)


def artifacts(project: Project) -> dict[str, str]:
    """The digests of the files in results that a stage would read."""
    found = project.digests()
    return {path: digest for path, digest in found.items() if "/checkpoint/" not in path and "/." not in path}


def disturb(run: Run, kind: str, chance: random.Random) -> bool:
    """Do something bad to a run; whether there was something to do it to."""
    results = run.project.folder / "results"
    if kind == "disk":
        fill(results)
    elif kind == "read-only":
        assert mount("--bind", str(results), str(results))
        assert mount("-o", "remount,bind,ro", str(results))
    elif kind == "group":
        os.killpg(run.process.pid, signal.SIGKILL)
    elif kind == "snakemake":
        os.kill(run.process.pid, signal.SIGKILL)
    else:
        targets = run.servers() if kind == "server" else sorted(run.jobs())
        if not targets:
            return False
        target = chance.choice(targets)
        try:
            if kind == "memory":
                resource.prlimit(target, resource.RLIMIT_AS, (2**20, resource.RLIM_INFINITY))
            else:
                os.kill(target, signal.SIGKILL)
        except ProcessLookupError:
            return False
    return True


def fill(folder: Path) -> None:
    with (folder / ".filler").open("wb", buffering=0) as file:
        for size in (2**20, 2**12, 1):
            try:
                while True:
                    file.write(bytes(size))
            except OSError:
                continue


def repair(project: Project, kind: str) -> None:
    """Undo what was done to the folder of results, after a run there was refused."""
    if kind not in MOUNTED:
        return
    results = project.folder / "results"
    refused = project.snakemake("--cores", "2", check=False)
    assert refused.returncode
    assert f"results cannot be written: {REASONS[kind]}. Nothing was run." in refused.stderr
    if kind == "disk":
        (results / ".filler").unlink()
    else:
        umount(results)


def begin_anew(project: Project) -> None:
    """Delete all that has been built."""
    shutil.rmtree(project.folder / ".snakemake")
    for path in (project.folder / "results").iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def goings_on(project: Project) -> int:
    """How many trainings of the last run went on from a checkpoint."""
    return sum(len(re.findall("goes on after", path.read_text())) for path in (project.folder / "logs").rglob("train.log"))


def disturbed(project: Project, kind: str, chance: random.Random) -> tuple[Run, int, int]:
    """A run that something bad is done to at a random moment, its status, and how many of its files were unfinished then."""
    run = Run(project)
    try:
        after = chance.randrange(5)
        wait_until(lambda: run.is_over or run.finished >= after)
        time.sleep(chance.random())
        wait_until(lambda: run.is_over or (unfinished(project) and run.jobs()), pause=0.001)
        hit = unfinished(project) if not run.is_over and disturb(run, kind, chance) else 0
        return run, run.end(), hit
    finally:
        run.kill_all()


@pytest.mark.parametrize("seed", SEEDS)
def test_a_disturbed_run_goes_on_to_the_same_bytes(seed, disk, undisturbed, capsys):
    project, mounted = disk
    chance = random.Random(seed)
    planned = [kind for kind in shares()[seed] if mounted or kind not in MOUNTED]
    survived: Counter[str] = Counter()
    begun = resumed = 0
    while planned:
        kind = planned[0]
        run, status, hit = disturbed(project, kind, chance)
        assert "--unlock" not in run.said
        assert artifacts(project).items() <= undisturbed.items(), f"{kind} left something that is not whole"
        resumed += goings_on(project)
        if kind in MOUNTED and hit:
            repair(project, kind)
        if hit and (status or kind == "server"):
            assert REASONS.get(kind, "") in run.said
            survived[planned.pop(0)] += 1
            begun += hit
        if status == 0:
            assert project.digests() == undisturbed
            begin_anew(project)
    run = Run(project)
    assert run.end() == 0, run.said[-3000:]
    assert project.digests() == undisturbed
    assert begun >= survived.total()
    with capsys.disabled():
        kinds = ", ".join(f"{kind} {count}" for kind, count in sorted(survived.items()))
        print(f"\nkills survived with seed {seed}: {kinds}; {begun} files begun, {resumed} trainings went on")
