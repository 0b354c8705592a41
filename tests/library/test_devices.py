"""Jobs on one machine: each computes on a device of its own, also where more jobs run than there are devices."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from resilience import computing, devices
from tests.conftest import ROOT

JOB = """
import os, sys, time
from pathlib import Path
from resilience import devices
devices.take()
folder = Path(sys.argv[1])
mine = os.environ[devices.CUDA]
(folder / f"{mine}.{os.getpid()}").touch()
print(mine, len(list(folder.glob(f"{mine}.*"))), devices.VARIABLE in os.environ, flush=True)
time.sleep(float(sys.argv[2]))
(folder / f"{mine}.{os.getpid()}").unlink()
"""


@pytest.fixture
def offer(tmp_path, monkeypatch):
    """A function that offers pretend devices to the jobs of this test."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "src"))
    # Set and removed, so that it is removed again at the end, whatever the test does.
    monkeypatch.setenv(devices.VARIABLE, "")
    monkeypatch.delenv(devices.VARIABLE)
    monkeypatch.setattr(devices.tempfile, "mkdtemp", lambda prefix: str(tmp_path))

    def offer(names: str) -> None:
        monkeypatch.setenv(devices.CUDA, names)
        devices.offer()

    return offer


def job(tmp_path: Path, seconds: float) -> subprocess.Popen:
    taken = tmp_path / "taken"
    taken.mkdir(exist_ok=True)
    return subprocess.Popen([sys.executable, "-c", JOB, str(taken), str(seconds)], stdout=subprocess.PIPE, encoding="utf-8")


def test_jobs_beside_each_other_have_different_devices(offer, tmp_path):
    offer("0,GPU-8a3c,5")
    jobs = [job(tmp_path, 600) for _ in range(3)]
    said = [each.stdout.readline().split() for each in jobs]
    for each in jobs:
        each.kill()
        each.communicate()
    assert {name for name, *_ in said} == {"0", "GPU-8a3c", "5"}
    assert {jobs for _, jobs, _ in said} == {"1"}
    assert {passed_on for *_, passed_on in said} == {"False"}


def test_more_jobs_than_devices_wait_for_one(offer, tmp_path):
    offer("0,1")
    jobs = [job(tmp_path, 0.3) for _ in range(6)]
    said = [each.communicate(timeout=100)[0].split() for each in jobs]
    assert {name for name, *_ in said} <= {"0", "1"}
    assert {jobs for _, jobs, _ in said} == {"1"}


def test_a_killed_job_gives_its_device_back(offer, tmp_path):
    offer("0,1")
    killed, other = job(tmp_path, 600), job(tmp_path, 600)
    try:
        first = killed.stdout.readline().split()[0]
        other.stdout.readline()
        killed.send_signal(signal.SIGKILL)
        killed.communicate()
        (tmp_path / "taken" / f"{first}.{killed.pid}").unlink()
        assert job(tmp_path, 0).communicate(timeout=100)[0].split()[:2] == [first, "1"]
    finally:
        other.kill()
        other.communicate()


@pytest.mark.parametrize("names", ["", "0"])
def test_one_device_or_none_is_not_offered(offer, names):
    offer(names)
    assert devices.VARIABLE not in os.environ
    devices.take()
    assert os.environ[devices.CUDA] == names


def test_devices_of_the_machine_are_those_that_its_driver_lists(tmp_path, monkeypatch):
    monkeypatch.delenv(devices.CUDA, raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert devices.visible() == []
    tool = tmp_path / "nvidia-smi"
    tool.write_text(f"#!{sys.executable}\nprint('0\\n1')\n", encoding="utf-8")
    tool.chmod(0o755)
    assert devices.visible() == ["0", "1"]
    tool.write_text(f"#!{sys.executable}\nprint('no driver'); raise SystemExit(9)\n", encoding="utf-8")
    assert devices.visible() == []


def test_a_job_says_that_it_waits(offer, tmp_path, caplog, monkeypatch):
    offer("0,1")
    holders = [job(tmp_path, 5) for _ in range(2)]
    for holder in holders:
        holder.stdout.readline()
    monkeypatch.setattr(devices, "_held", [])
    monkeypatch.setattr(devices.logger, "propagate", True)
    begun = time.monotonic()
    with caplog.at_level("INFO"):
        devices.take()
    assert time.monotonic() - begun > 0.2
    assert "waits for a device: other jobs hold all of 0,1" in caplog.text
    for holder in holders:
        holder.communicate(timeout=100)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a device")
def test_a_job_whose_device_pytorch_cannot_use_says_so(monkeypatch, caplog):
    monkeypatch.setenv(devices.CUDA, "1")
    monkeypatch.setattr(computing, "_workers", 1)
    monkeypatch.setattr(devices.logger, "propagate", True)
    assert computing.prepare(1) == torch.device("cpu")
    assert "was given device 1, but PyTorch finds none: computes on the CPU" in caplog.text
