"""Memory where there are many points, many draws or many jobs, and how long plans take.

`-s` prints what docs/reliability.md says. No time is asserted.
"""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
import yaml

from resilience import artifacts, computing, explain, lrp_rules, networks, posterior, tables
from resilience.attacks.gradient import pgd
from resilience.explanations.lrp import heat_maps
from tests.conftest import ROOT

MEGABYTE = 2**20


class Memory(NamedTuple):
    """What a process held at most beyond what it held before, and what it read and wrote, in MB."""

    peak: float
    files: float


def memory_of(folder: Path, architecture: str, points: int, draws: int) -> Memory:
    """Attack, explain and compare in a fresh process, as the jobs of a run do one after the other."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as fresh:
        return fresh.submit(_attack_and_explain, folder, architecture, points, draws).result()


def _attack_and_explain(folder: Path, architecture: str, points: int, draws: int) -> Memory:
    device = computing.prepare(1)
    _write_inputs(folder, architecture, points, draws)
    # What the first call of anything takes is not what grows.
    _stages(folder, 10, 2, device)
    before = _reset_peak()
    files = _stages(folder, points, draws, device)
    return Memory(_status("VmHWM") - before, files)


def _write_inputs(folder: Path, architecture: str, points: int, draws: int) -> None:
    """Weights around initial ones, and random images of the size of digits."""
    settings = {"architecture": architecture, "width": 32 if architecture == "fc2" else 16}
    generator = torch.Generator().manual_seed(0)
    state = networks.build(settings, (1, 8, 8), 10).state_dict()
    weights = {name: v + 0.05 * torch.randn((draws, *v.shape), generator=generator) for name, v in state.items()}
    about = {**settings, "shape": (1, 8, 8), "classes": 10}
    posterior.save(folder / "weights.safetensors", weights, posterior.DRAWS, about, 0)
    images = np.random.default_rng(0).random((points, 1, 8, 8), dtype=np.float32)
    labels = np.arange(points) % 10
    artifacts.write_tensors(folder / "points.safetensors", {"x": images, "y": labels, "index": np.arange(points)})


def _stages(folder: Path, points: int, draws: int, device: torch.device) -> float:
    """Attack, heat maps before and after, what is left of them; returns the MB of all that is read and written."""
    network = posterior.load(folder / "weights.safetensors", draws).to(device)
    images = {name: array[:points] for name, array in artifacts.read_tensors(folder / "points.safetensors").items()}
    x, y = torch.from_numpy(images["x"]), torch.from_numpy(images["y"])
    attacked = pgd(network, x, y, torch.Generator().manual_seed(0), epsilon=0.1, steps=1)
    layers = networks.learnable_layers(network.network)
    maps, predictions = {}, []
    for part in (x, attacked):
        predictions.append(posterior.predict(network, part).numpy())
        explained = explain.explained_classes("predicted", network, part, x, y)
        for layer, relevance in heat_maps(network, part, explained, lrp_rules.epsilon(), layers).items():
            maps.setdefault(layer, []).append(relevance.numpy())
    after = {"x": attacked.numpy(), "zero_gradient": np.zeros(points, dtype=bool)}
    measures = {"top20": {"measure": "overlap", "top_k": 20}}
    index = images["index"]
    measured = [tables.table_of_maps(index, *pair, measures, {"layer": layer}) for layer, pair in maps.items()]
    measured.append(tables.table_of_predictions(images, after, tuple(predictions), {}, {}))
    arrays = [*images.values(), after["x"], *predictions, *(one for pair in maps.values() for one in pair)]
    weights = sum(value.numel() * value.element_size() for value in network.weights.values())
    return (
        sum(array.nbytes for array in arrays) + weights + sum(table.memory_usage().sum() for table in measured)
    ) / MEGABYTE


def _reset_peak() -> float:
    """Forget the largest amount of memory so far; returns the present one."""
    Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")
    return _status("VmRSS")


def _status(key: str) -> float:
    """A line of the state of this process, in MB."""
    return int(Path("/proc/self/status").read_text(encoding="utf-8").split(f"{key}:")[1].split()[0]) / 1024


@pytest.mark.parametrize(
    ("architecture", "points", "draws", "fewer"),
    [
        ("fc2", 10_000, 100, (1000, 100)),
        ("conv", 10_000, 10, (1000, 10)),
        ("fc2", 100, 1000, (100, 100)),
        ("conv", 100, 1000, (100, 100)),
    ],
)
def test_memory_grows_with_points_and_draws_by_their_files_alone(tmp_path, architecture, points, draws, fewer):
    few, many = memory_of(tmp_path, architecture, *fewer), memory_of(tmp_path, architecture, points, draws)
    print(f"\n{architecture}, {points} points × {draws} draws: {many.peak:.0f} MB, files {many.files:.0f} MB;", end="")
    print(f" a tenth of it: {few.peak:.0f} MB, files {few.files:.0f} MB")
    assert many.peak - few.peak <= 2 * (many.files - few.files) + 20


def test_a_plan_takes_little_memory_a_job(tmp_path):
    """The default config with five seeds and with twenty."""
    config = yaml.safe_load((ROOT / "config/config.yaml").read_text(encoding="utf-8"))
    found = {}
    for seeds in (5, 20):
        (tmp_path / "config.yaml").write_text(yaml.safe_dump(config | {"seeds": list(range(seeds))}), encoding="utf-8")
        command = [sys.executable, "-m", "snakemake", "-n", "--quiet", "rules", "--cores", "1", "--directory", str(tmp_path)]
        command += ["--snakefile", str(ROOT / "Snakefile"), "--configfile", str(tmp_path / "config.yaml")]
        with (tmp_path / "plan.txt").open("w+", encoding="utf-8") as said:
            started = subprocess.Popen(command, stdout=said, stderr=subprocess.DEVNULL)
            _, status, usage = os.wait4(started.pid, 0)
            said.seek(0)
            jobs = max(int(line.split()[1]) for line in said if line.startswith("total "))
        assert status == 0
        found[seeds] = (jobs, usage.ru_maxrss / 1024)
        print(f"\n{jobs} jobs: {usage.ru_utime + usage.ru_stime:.1f} s of CPU time, {usage.ru_maxrss / 1024:.0f} MB")
    assert found[20][0] > 3.9 * found[5][0]
    assert (found[20][1] - found[5][1]) / (found[20][0] - found[5][0]) < 0.08
