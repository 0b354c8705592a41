"""The scripts that compute in torch, on a GPU: what they move there and back, and that the files are those of the CPU."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from resilience import artifacts, devices
from resilience.heads import head_of
from tests.conftest import ROOT
from tests.library.pretend_device import pretend_device
from tests.reliability.stages import Job, jobs

#: Scripts that ask for a device.
COMPUTING = (
    *("train", "attack", "explain", "explain_dataset", "predict"),
    *("measure_explanation", "measure_network", "cancellation", "retrain", "manifold"),
)


def in_little() -> list[Job]:
    """The jobs of the first seed that compute, and the data that they need."""
    wanted = ("dataset", "points", *COMPUTING)
    of_digits = [job for job in jobs() if job.wildcards.get("dataset") == "digits" and job.wildcards.get("seed") != 1]
    return [job for job in of_digits if job.script in wanted]


def run(folder: Path, device: str) -> Path:
    """The folder with what the jobs wrote, each of which says in its log that it computed on the device."""
    folder.mkdir()
    for job in in_little():
        assert job.run(folder) == "", job
        log = (folder / "log").read_text(encoding="utf-8")
        assert device == "" or job.script not in COMPUTING or f"computes on device {device}" in log, job
    return folder


@pytest.fixture(autouse=True)
def _as_it_was(monkeypatch):
    """What a job sets for a GPU is undone."""
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    monkeypatch.delenv(devices.CUDA, raising=False)
    yield
    torch.use_deterministic_algorithms(False)


def test_every_script_that_computes_is_run():
    scripts = (ROOT / "workflow/scripts").glob("*.py")
    assert {file.stem for file in scripts if "computing.prepare" in file.read_text(encoding="utf-8")} == set(COMPUTING)
    assert {job.script for job in in_little()} >= set(COMPUTING)


def test_a_pretended_gpu_writes_what_the_cpu_writes(tmp_path, monkeypatch):
    with monkeypatch.context() as without_gpu:
        without_gpu.setattr(torch.cuda, "is_available", lambda: False)
        expected = run(tmp_path / "cpu", "")
    with pretend_device():
        found = run(tmp_path / "device", "0, a pretend device")
    for job in in_little():
        for file in job.products:
            same(found / file, expected / file)
            here, there = head_of(found / file), head_of(expected / file)
            assert here.digest == there.digest, file
            assert here.history.device == ("a pretend device" if job.script in COMPUTING else "cpu"), file
            assert replace(here.history, device="cpu") == there.history, file


@pytest.mark.skipif(not torch.cuda.is_available(), reason="PyTorch finds no GPU here")
def test_every_script_ends_well_on_a_gpu(tmp_path):
    run(tmp_path / "device", "0, ")


def same(found: Path, expected: Path) -> None:
    match expected.suffix:
        case ".safetensors":
            arrays, others = artifacts.read_tensors(found), artifacts.read_tensors(expected)
            assert arrays.keys() == others.keys()
            for name, array in others.items():
                np.testing.assert_array_equal(arrays[name], array, err_msg=f"{found}: {name}")
        case ".csv":
            pd.testing.assert_frame_equal(artifacts.read_table(found), artifacts.read_table(expected), check_exact=True)
        case _:
            assert artifacts.read_json(found) == artifacts.read_json(expected)
