"""The two computations of the paper that took hours, at full size: a panel of Fig. 2, and an attack by PGD."""

from __future__ import annotations

import argparse
import time

from benchmarks.computations import MNIST, RULES, data_of, posterior_of, prepare
from benchmarks.timing import Row
from resilience import networks
from resilience.attacks.gradient import LossGradient
from resilience.explanations import lrp

IMAGES, DRAWS, STEPS = 500, 100, 40
#: An attack does the same at each step, so a few tell how long all of them take.
STEPS_TIMED = 2


def rows(options: argparse.Namespace) -> list[Row]:
    """Seconds of the heat maps of one panel, and of one step of PGD times the number of its steps."""
    prepare(options)
    posterior = posterior_of("conv", options.width, DRAWS)
    x, y = data_of(IMAGES)
    layers = networks.learnable_layers(posterior.network)
    gradient = LossGradient(posterior, MNIST, "likelihood")

    begun = time.perf_counter()
    for _ in ("clean", "attacked"):
        lrp.heat_maps(posterior, x, y, RULES["epsilon"], layers)
    panel = time.perf_counter() - begun
    begun = time.perf_counter()
    for _ in range(STEPS_TIMED):
        gradient(x, y)
    step = (time.perf_counter() - begun) / STEPS_TIMED
    size = f"conv, {IMAGES} images, {DRAWS} draws"
    return [
        Row("full size", f"{size}: heat maps of all layers, clean and attacked", [panel], "s"),
        Row("full size", f"{size}: PGD, {STEPS_TIMED} of {STEPS} steps timed", [step * STEPS], "s"),
    ]
