"""What a training by gradients of the whole data will cost, measured before it starts. It is told, and changes nothing."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn

from resilience import progress
from resilience.graphs import graphs_of, trace
from resilience.networks import image_shape
from resilience.operations import Convolution, Linear, Step
from resilience.posterior import point

#: The share of the whole that the measurement may take, and how often it repeats.
LARGEST_SHARE = 0.02
REPEATS = 3


def announce(gradient: Callable[[], object], network: nn.Module, x: Tensor, gradients: int, at_most: bool = False) -> None:
    """Say in the log how long a gradient takes, how far from its floor that is, and how long all of them will take.

    Parameters
    ----------
    gradient
        Computes one.
    network, x
        What it is the gradient of: a loss of this network on these images.
    gradients
        How many are to come, or ``at_most`` how many.
    """
    warm = seconds = timed(gradient)
    bound = "at most " if at_most else ""
    floor = ""
    affordable = LARGEST_SHARE * gradients
    # One more gradient than is repeated, so that the first warms up; and as many passes of products, which are faster.
    if warm * gradients >= 1 and affordable >= 2 * (1 + REPEATS):
        seconds = statistics.median(timed(gradient) for _ in range(REPEATS))
        alone = product_floor(network, x)
        floor = f" ({seconds / alone:.2f} × the floor of {1e3 * alone:.3g} ms, its matrix products alone)"
    elif warm * gradients >= 1 and affordable >= 2:
        seconds = timed(gradient)
    progress.logger.info(
        "%.3g ms per gradient%s, %s%s gradients to come: %s%s",
        1e3 * seconds,
        floor,
        bound,
        f"{gradients:,}",
        bound,
        in_words(seconds * gradients),
    )


def product_floor(network: nn.Module, x: Tensor) -> float:
    """Seconds of the matrix products and convolutions of one gradient with respect to the weights, and of nothing else.

    Three for each layer with weights: up, down, and for the gradient of its weights. The first layer passes nothing down.
    """
    [graph] = graphs_of(point(network), image_shape(x))
    total, first = 0.0, True
    with torch.no_grad():
        for step in trace(graph, x).steps:
            if isinstance(step.operation, Linear | Convolution):
                for product in _products(step.operation, step)[first:]:
                    product()
                    total += statistics.median(timed(product) for _ in range(REPEATS))
                first = False
    return total


def _products(layer: Linear | Convolution, step: Step) -> list[Callable[[], object]]:
    """Down, up, and the gradient of the weights."""
    a, z, weight = step.a, torch.ones_like(step.z), layer.weight
    if isinstance(layer, Linear):
        rows, outputs = a.flatten(0, -2), z.flatten(0, -2)
        return [lambda: outputs @ weight, lambda: rows @ weight.t(), lambda: outputs.t() @ rows]
    geometry = [list(layer.stride), list(layer.padding), list(layer.dilation)]

    def back(wanted: list[bool]) -> Callable[[], object]:
        backward = torch.ops.aten.convolution_backward.default
        return lambda: backward(z, a, weight, None, *geometry, False, [0, 0], layer.groups, wanted)

    return [back([True, False, False]), lambda: layer.product(a, weight, None), back([False, True, False])]


def timed(work: Callable[[], object]) -> float:
    """Seconds that a function takes, on a GPU until it is really done."""
    _wait()
    begun = time.perf_counter()
    work()
    _wait()
    return time.perf_counter() - begun


def in_words(seconds: float) -> str:
    """A duration as a person would say it: ``about 3 h 20 min``."""
    if seconds < 1:
        return "less than a second"
    if seconds < 60:
        return f"about {seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"about {minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 24:
        return f"about {hours} h {minutes} min"
    days, hours = divmod(hours, 24)
    return f"about {days} d {hours} h"


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
