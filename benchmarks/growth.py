"""How time and memory grow with images, draws, width and layers, and where the growth stops being linear."""

from __future__ import annotations

import argparse
import math
import multiprocessing
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import torch
from torch import nn

from benchmarks.computations import RULES, data_of, posterior_of
from benchmarks.timing import Row
from resilience import computing, networks
from resilience.explanations import lrp
from resilience.posterior import Posterior

SIZES = {
    "images": [16, 64, 256, 1024],
    "draws": [1, 4, 16, 64],
    "width": [64, 128, 256, 512, 1024],
    "layers": [2, 4, 8, 16],
}


def rows(options: argparse.Namespace) -> list[Row]:
    """Time and memory at each size, with the exponent of their growth since the size before."""
    found = []
    for what, sizes in SIZES.items():
        before: tuple[int, float, float] | None = None
        for size in sizes:
            with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as fresh:
                seconds, megabytes = fresh.submit(_measure, what, size, options.threads).result()
            time_growth = memory_growth = None
            if before is not None:
                steps = math.log(size / before[0])
                time_growth = math.log(statistics.median(seconds) / before[1]) / steps
                memory_growth = math.log(max(megabytes, 1) / max(before[2], 1)) / steps
            found.append(
                Row("growth", f"conv epsilon, {size} {what}", [1e3 * s for s in seconds], "ms", time_growth, "exponent")
            )
            found.append(Row("growth", f"conv epsilon, {size} {what}", [megabytes], "MB", memory_growth, "exponent"))
            before = (size, statistics.median(seconds), megabytes)
    return found


def _measure(what: str, size: int, threads: int) -> tuple[list[float], float]:
    """Seconds of three runs in a fresh process, and how many megabytes they need beyond weights and images."""
    computing.prepare(threads)
    sizes = {"images": 64, "draws": 2, "width": 256} | ({what: size} if what != "layers" else {})
    posterior = deep(size) if what == "layers" else posterior_of("conv", sizes["width"], sizes["draws"])
    x, y = data_of(sizes["images"])
    layers = networks.learnable_layers(posterior.network)[-1:]
    run: Callable[[], object] = lambda: lrp.heat_maps(posterior, x, y, RULES["epsilon"], layers)  # noqa: E731
    before = _peak_megabytes()
    seconds = []
    for _ in range(4):
        begun = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - begun)
    return seconds[1:], _peak_megabytes() - before


def _peak_megabytes() -> float:
    """The most memory that this process ever held; ``getrusage`` would count that of its parent, too."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def deep(layers: int) -> Posterior:
    """A network of many convolutions of the same size, two draws."""
    parts: list[nn.Module] = []
    for index in range(layers):
        parts += [nn.Conv2d(1 if index == 0 else 32, 32, 3, padding=1), nn.LeakyReLU()]
    network = nn.Sequential(*parts, nn.MaxPool2d(4), nn.Flatten(), nn.Linear(32 * 49, 10)).eval()
    state = network.state_dict()
    return Posterior(network, {name: torch.stack([value, value]) for name, value in state.items()})
