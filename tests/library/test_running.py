"""Processes that end with the run that they belong to."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from resilience.fork_server import ends_within
from tests.conftest import ROOT

WORK = "from resilience import progress; progress.start('job.log'); print('begun', flush=True); import time; time.sleep(600)"


def job(folder, **environment) -> subprocess.Popen[str]:
    surroundings = os.environ | {"PYTHONPATH": str(ROOT / "src")} | environment
    return subprocess.Popen(
        [sys.executable, "-c", WORK], cwd=folder, env=surroundings, stdout=subprocess.PIPE, encoding="utf-8"
    )


@pytest.fixture
def owner():
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    yield process
    process.kill()
    process.wait()


def test_a_job_ends_with_its_run(owner, tmp_path):
    process = job(tmp_path, RESILIENCE_RUN=str(owner.pid))
    assert process.stdout.readline() == "begun\n"
    assert process.poll() is None
    owner.kill()
    assert process.wait(100) == 1


def test_a_job_of_no_run_goes_on(owner, tmp_path):
    process = job(tmp_path)
    assert process.stdout.readline() == "begun\n"
    owner.kill()
    assert not ends_within(process.pid, 1.0)
    process.kill()
    process.wait()


@pytest.mark.parametrize("known", [True, False], ids=["by the system", "by asking"])
def test_an_end_is_noticed(known, owner, monkeypatch):
    if not known:
        monkeypatch.delattr(os, "pidfd_open", raising=False)
    assert not ends_within(owner.pid, 0.1)
    owner.kill()
    owner.wait()
    assert ends_within(owner.pid, 0.1)
