"""The product floor: the time of the matrix products and convolutions alone, each by the fastest way that torch has.

A pass up needs one product for each layer with weights, a pass down one more. Their inputs are there already, in the order
that suits them best, and nothing is done with what comes out. No implementation on top of torch can be faster.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.timing import in_turn
from resilience import graphs
from resilience.networks import Shape

LAST = torch.channels_last


@dataclass(frozen=True)
class Floor:
    """The fastest products of a network for a number of images, as functions that do nothing else."""

    up: list[Callable[[], object]]
    down: list[Callable[[], object]]

    def passes(self, up: int = 1, down: int = 1, spared: int = 0) -> Callable[[], None]:
        """Some passes up and down; the last ``spared`` layers are not passed on the way down."""
        products = self.up * up + self.down[: len(self.down) - spared] * down

        def run() -> None:
            for product in products:
                product()

        return run


def floor_of(network: nn.Sequential, shape: Shape, images: int) -> Floor:
    """The floor of a stack of linear layers and convolutions."""
    shapes = stacks.input_shapes(network, shape)
    up, down = [], []
    with torch.no_grad():
        for index, layer in enumerate(network):
            if isinstance(layer, nn.Linear | nn.Conv2d):
                a, z = (torch.randn(images, *shapes[i]) for i in (index, index + 1))
                up.append(_fastest(list(_up(layer, a, z))))
                down.append(_fastest(list(_down(layer, a, z))))
    return Floor(up, down)


def _fastest(ways: list[Callable[[], object]]) -> Callable[[], object]:
    seconds = in_turn({str(number): way for number, way in enumerate(ways)}, repeats=5, least_seconds=0.02)
    return ways[min(range(len(ways)), key=lambda number: min(seconds[str(number)]))]


def _in_chunks(way: Callable[[slice], object], images: int, size: int) -> Callable[[], object]:
    parts = [slice(first, first + size) for first in range(0, images, size)]

    def run() -> None:
        for part in parts:
            way(part)

    return run


def _up(layer: nn.Linear | nn.Conv2d, a: Tensor, z: Tensor) -> Iterator[Callable[[], object]]:
    w = layer.weight.detach()
    sizes = {size for size in (16, 64, len(a)) if size <= len(a)}
    if isinstance(layer, nn.Linear):
        for size in sizes:
            yield _in_chunks(lambda part: functional.linear(a[part], w), len(a), size)
        return
    last_a, last_w = a.contiguous(memory_format=LAST), w.contiguous(memory_format=LAST)
    columns = _columns(layer, a)
    flat = w.flatten(1).t().contiguous()
    for size in sizes:
        yield _in_chunks(lambda part: functional.conv2d(a[part], w, None, layer.stride, layer.padding), len(a), size)  # type: ignore[arg-type]
        yield _in_chunks(
            lambda part: functional.conv2d(last_a[part], last_w, None, layer.stride, layer.padding), len(a), size
        )  # type: ignore[arg-type]
        yield _in_chunks(lambda part: columns[part].flatten(0, 1) @ flat, len(a), size)


def _down(layer: nn.Linear | nn.Conv2d, a: Tensor, z: Tensor) -> Iterator[Callable[[], object]]:
    w = layer.weight.detach()
    sizes = {size for size in (16, 64, len(a)) if size <= len(a)}
    if isinstance(layer, nn.Linear):
        for size in sizes:
            yield _in_chunks(lambda part: z[part] @ w, len(a), size)
        return
    back = torch.ops.aten.convolution_backward.default
    flat = w.flatten(1).contiguous()
    rows = z.permute(0, 2, 3, 1).flatten(1, 2).contiguous()
    shape = [list(layer.stride), list(layer.padding), list(layer.dilation)]  # type: ignore[arg-type]

    def through(part: slice, z: Tensor, a: Tensor, w: Tensor) -> object:
        return back(z[part], a[part], w, None, *shape, False, [0, 0], layer.groups, [True, False, False])

    pairs = [(z, a, w), tuple(value.contiguous(memory_format=LAST) for value in (z, a, w))]
    for size in sizes:
        for values in pairs:
            yield _in_chunks(lambda part, values=values: through(part, *values), len(a), size)  # type: ignore[misc]
        yield _in_chunks(lambda part: rows[part].flatten(0, 1) @ flat, len(a), size)


def _columns(layer: nn.Conv2d, a: Tensor) -> Tensor:
    unfolded = functional.unfold(a, layer.kernel_size, layer.dilation, layer.padding, layer.stride)  # type: ignore[arg-type]
    return unfolded.transpose(1, 2).contiguous()
