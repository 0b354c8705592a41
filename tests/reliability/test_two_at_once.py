"""Two runs at once: in one folder, in two with one folder of results, and a figure or a plan asked for meanwhile."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from resilience import running
from tests.conftest import ROOT
from tests.reliability.runs import Run, little_project, unfinished, wait_until
from tests.workflow.conftest import Project

pytestmark = [
    pytest.mark.xdist_group("killed"),
    pytest.mark.skipif(sys.platform != "linux", reason="finds the processes of a run in /proc"),
]


@pytest.fixture
def here(tmp_path) -> Project:
    return little_project(tmp_path / "here")


def begun(project: Project, *arguments: str) -> Run:
    """A run whose jobs have begun."""
    run = Run(project, *arguments)
    wait_until(lambda: run.is_over or (run.finished and unfinished(project)))
    assert not run.is_over, run.said
    return run


def test_two_in_one_folder(here, undisturbed):
    """Also a figure, a plan and a finished target while a run is going on, and someone who takes away Snakemake's lock."""
    first = begun(here)
    for target in ([], ["--", "answer"]):
        second = here.snakemake("--cores", "1", *target, check=False)
        assert second.returncode
        assert "make sure that no other Snakemake process is trying to create the same files" in second.stderr
    plan = here.snakemake("-n")
    assert "This was a dry-run" in plan.stdout
    here.snakemake("--unlock")
    third = here.snakemake("--cores", "1", check=False)
    assert third.returncode
    assert "Another run writes into results: " in third.stderr
    assert f"process {first.process.pid}, since " in third.stderr
    assert "Traceback" not in third.stderr
    assert first.end() == 0, first.said[-3000:]
    assert here.digests() == undisturbed


def test_two_that_start_at_the_same_moment(here, undisturbed):
    runs = [Run(here), Run(here)]
    statuses = [run.end() for run in runs]
    assert 0 in statuses, runs[0].said[-2000:] + runs[1].said[-2000:]
    for run, status in zip(runs, statuses, strict=True):
        assert status == 0 or "no other Snakemake process" in run.said or "Another run writes into results" in run.said
    assert here.digests() == undisturbed


def test_two_folders_with_one_folder_of_results(tmp_path, undisturbed):
    here, there = (little_project(tmp_path / name) for name in ("here", "there"))
    (tmp_path / "shared").mkdir()
    for project in (here, there):
        (project.folder / "results").symlink_to(tmp_path / "shared")
    first = begun(here)
    second = there.snakemake("--cores", "1", check=False)
    assert second.returncode
    assert "Another run writes into results: " in second.stderr
    assert f"in {here.folder}. Wait until it is done, or end it." in second.stderr
    os.killpg(first.process.pid, signal.SIGKILL)
    first.end()
    there.snakemake("--cores", "2")
    assert there.digests() == undisturbed


# ---------------------------------------------------------------- the locks themselves

BEGIN = """
import os, sys, time
sys.path.insert(0, {source!r})
from resilience import running
if {user}: os.setuid({user})
running.arrive()
try:
    running.begin([{folder!r}], local=True)
except running.RunError as error:
    print(error, flush=True)
else:
    print("begun", flush=True)
time.sleep({seconds})
"""


def beginning(folder: Path, seconds: float = 0, user: int = 0) -> subprocess.Popen[str]:
    """A process that begins a run, in its own working directory."""
    place = folder.parent / f"working{len(list(folder.parent.iterdir()))}"
    place.mkdir()
    place.chmod(0o777)
    program = BEGIN.format(source=str(ROOT / "src"), user=user, folder=str(folder), seconds=seconds)
    return subprocess.Popen([sys.executable, "-c", program], cwd=place, stdout=subprocess.PIPE, encoding="utf-8")


def test_a_run_that_ended_leaves_nothing(tmp_path):
    for _ in range(2):
        assert beginning(tmp_path / "results").communicate()[0] == "begun\n"
        assert list((tmp_path / "results").iterdir()) == []


def half_written(folder: Path) -> None:
    (folder / ".fit.json.0123abcd.partial").mkdir(parents=True)
    (folder / ".fit.json.0123abcd.partial/fit.json").write_text("half", encoding="utf-8")


def test_what_a_killed_run_left_half_written_is_deleted(tmp_path):
    results = tmp_path / "results"
    killed = beginning(results, seconds=600)
    assert killed.stdout.readline() == "begun\n"
    half_written(results / "digits")
    (results / "digits/fit.json").write_text("whole", encoding="utf-8")
    refused = beginning(results).communicate()[0]
    assert f"Another run writes into {results}: " in refused
    assert f"process {killed.pid}, since " in refused
    killed.kill()
    killed.wait()
    assert beginning(results).communicate()[0] == "begun\n"
    assert sorted(path.name for path in results.rglob("*")) == ["digits", "fit.json"]


def test_what_killed_jobs_left_half_written_is_deleted_at_the_end(tmp_path):
    run = beginning(tmp_path / "results", seconds=2)
    assert run.stdout.readline() == "begun\n"
    half_written(tmp_path / "results")
    run.wait()
    assert list((tmp_path / "results").iterdir()) == []


def test_what_is_half_written_in_a_run_below_is_left_to_it(tmp_path):
    for place in ("all", "all/small", "all/digits"):
        half_written(tmp_path / place)
    (tmp_path / "all/small" / running.OWNER).write_text("somebody", encoding="utf-8")
    running.tidy(tmp_path / "all")
    assert [path.parent.parent.name for path in (tmp_path / "all").rglob("fit.json")] == ["small"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be another user")
def test_a_folder_of_another_user_is_refused(tmp_path):
    results = tmp_path / "results"
    results.mkdir()
    for place in (tmp_path, *tmp_path.parents[:2]):
        place.chmod(0o755)
    said = beginning(results, user=65534).communicate()[0]
    assert said.startswith(f"{results} cannot be written: Permission denied. Nothing was run.")


def test_two_that_begin_at_once_are_never_both_let_in(tmp_path):
    for _ in range(5):
        processes = [beginning(tmp_path / "results", seconds=2) for _ in range(3)]
        said = [process.stdout.readline() for process in processes]
        for process in processes:
            process.kill()
            process.wait()
        assert said.count("begun\n") == 1
