"""Results that cannot be written: one sentence says so, at whichever moment that is found out."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

from tests.conftest import ROOT
from tests.reliability import mounts
from tests.reliability.runs import Run
from tests.workflow.conftest import Project, copy_project

pytestmark = [
    pytest.mark.xdist_group("killed"),
    pytest.mark.skipif(not mounts.possible(), reason="only root can make a folder read-only for everybody"),
]

NEW, MADE = "results/digits/fc2/det/seed0/fit.json", "results/digits/points.safetensors"
WHAT, REMEDY = (
    "results cannot be written: Read-only file system.",
    "Make it writable, make room, or name another folder with the key results of the config.",
)


@pytest.fixture(scope="module")
def begun(tmp_path_factory) -> Project:
    """A project in which the test points have been made."""
    project = copy_project(tmp_path_factory.mktemp("begun"), seeds=1)
    project.snakemake("--cores", "1", "--", MADE)
    return project


@pytest.fixture
def project(begun):
    """The same in each test; whatever a test mounts is undone."""
    with mounts.undone(begun.folder):
        yield begun


@pytest.mark.parametrize(
    "arguments",
    [
        ["--cores", "1", "--", NEW],
        ["--cores", "1", "--forcerun", "choose_points", "--", MADE],
        ["-n", "--forcerun", "choose_points"],
    ],
    ids=["a new file", "a file to be made again", "its plan"],
)
def test_a_run_that_would_write_is_refused(arguments, project):
    before = project.digests()
    mounts.make_read_only(project.folder / "results")
    refused = project.snakemake(*arguments, check=False)
    assert refused.returncode
    # Of a plan, Snakemake says all on the standard output.
    said = refused.stdout + refused.stderr
    assert f"{WHAT} Nothing was run. {REMEDY}\n" in said
    assert "Write-protected" not in said
    assert project.digests() == before


def test_a_run_with_nothing_to_do_is_not(project):
    mounts.make_read_only(project.folder / "results")
    assert "Nothing to be done" in project.snakemake("--cores", "1", "--", MADE).stderr


def test_a_single_file_that_is_read_only_is_named(project):
    mounts.make_read_only(project.folder / MADE)
    refused = project.snakemake("--cores", "1", "--forcerun", "choose_points", "--", MADE, check=False)
    assert refused.returncode
    said = f"{MADE} cannot be written: it is read-only. Nothing was run. Make it writable, or delete it, and run again.\n"
    assert said in refused.stderr


def test_a_run_says_so_at_its_end(project):
    """First a job finds out that writes, then Snakemake itself, before a job whose file is there and is to be made again."""
    weights = [f"results/digits/fc2/{training}/seed0/weights.safetensors" for training in ("det", "adv")]
    for file in weights:
        # Of the files that a training makes one is there.
        fit = (project.folder / file).with_name("fit.json")
        fit.parent.mkdir(parents=True, exist_ok=True)
        fit.touch()
    run = Run(project, "--cores", "1", "--keep-going", "--forcerun", "train", "--", *weights, own_server=True)
    try:
        run.wait_until(lambda: "localrule train:" in run.said)
        mounts.make_read_only(project.folder / "results")
        assert run.end() != 0
    finally:
        run.kill_all()
    assert "cannot be written: [Errno 30] Read-only file system" in run.said
    assert "Write-protected" not in run.said
    assert run.said.endswith(f"{WHAT} {REMEDY}\n")
    assert "Nothing was run" not in run.said


def test_nothing_stays_mounted_after_a_test_that_failed(tmp_path):
    place = tmp_path / "results"
    place.mkdir()
    with pytest.raises(OSError, match="Read-only file system"), mounts.undone(tmp_path):  # noqa: PT012
        mounts.mount("-t", "tmpfs", "tmpfs", str(place))
        mounts.make_read_only(place)
        assert mounts.below(tmp_path) == [place, place]
        (place / "file").touch()
    assert mounts.below(tmp_path) == []


def test_nothing_stays_mounted_after_a_test_that_was_killed(tmp_path):
    mounts_a_disk = f"""
import os, signal
from pathlib import Path
from tests.reliability import mounts
mounts.possible()
mounts.mount("-t", "tmpfs", "tmpfs", {str(tmp_path)!r})
print(len(mounts.below(Path({str(tmp_path)!r}))), flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""
    done = subprocess.run(
        [sys.executable, "-c", mounts_a_disk], cwd=ROOT, capture_output=True, encoding="utf-8", check=False
    )
    assert (done.stdout, done.returncode) == ("1\n", -signal.SIGKILL), done.stderr
    assert mounts.below(tmp_path) == []
