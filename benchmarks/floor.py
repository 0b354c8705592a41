"""The product floor: the time of the matrix products and convolutions alone, each by the fastest way that torch has.

A pass up needs one product for each layer with weights, a pass down one more. Their inputs are there already, in the order
that suits them best, what the kernel of a convolution sees laid out for a product where that is quicker, and nothing is
done with what comes out. No implementation on top of torch can be faster. Since nobody gets such columns for nothing, the
floor without them is that of torch's convolutions: what a network costs up and down without anything between its layers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from benchmarks.timing import in_turn
from resilience.graphs import Graph, trace
from resilience.operations import Convolution, Linear

LAST = torch.channels_last
Way = Callable[[], object]


@dataclass(frozen=True)
class Floor:
    """The fastest products of a network for a number of images, as functions that do nothing else."""

    up: list[Way]
    down: list[Way]

    def passes(self, up: int = 1, down: int = 1, spared: int = 0) -> Callable[[], None]:
        """Some passes up and down; the last ``spared`` layers are not passed on the way down."""
        products = self.up * up + self.down[: len(self.down) - spared] * down

        def run() -> None:
            for product in products:
                product()

        return run


@torch.no_grad()
def floor_of(graph: Graph, x: Tensor, columns: bool = True) -> Floor:
    """The floor of the linear layers and convolutions of a graph, for images [N, C, H, W].

    Batch normalisation is folded into them. What is fastest is measured once for layers of the same size; whether laid out
    columns count, ``columns`` says.
    """
    up: list[Way] = []
    down: list[Way] = []
    fastest: dict[object, tuple[int, int]] = {}
    for step in trace(graph, x).steps:
        layer = step.operation
        if isinstance(layer, Linear | Convolution):
            a, z = torch.randn(step.a.shape), torch.randn(step.z.shape)
            size = (a.shape, z.shape, layer.weight.shape)
            ways = (_up(layer, a, columns), _down(layer, a, z, columns))
            if size not in fastest:
                fastest[size] = (_fastest(list(_up(layer, a, columns))), _fastest(list(_down(layer, a, z, columns))))
            for products, choices, chosen in zip((up, down), ways, fastest[size], strict=True):
                products.append(list(choices)[chosen])
    return Floor(up, down)


def _fastest(ways: list[Way]) -> int:
    """The number of the fastest way."""
    seconds = in_turn({str(number): way for number, way in enumerate(ways)}, repeats=3, least_seconds=0.01)
    return min(range(len(ways)), key=lambda number: min(seconds[str(number)]))


def _in_chunks(way: Callable[[slice], object], images: int, size: int) -> Way:
    parts = [slice(first, first + size) for first in range(0, images, size)]

    def run() -> None:
        for part in parts:
            way(part)

    return run


def _sizes(images: int) -> list[int]:
    return sorted({size for size in (16, 64, images) if size <= images})


def _up(layer: Linear | Convolution, a: Tensor, columns: bool) -> Iterator[Way]:
    w = layer.weight
    if isinstance(layer, Linear):
        for size in _sizes(len(a)):
            yield _in_chunks(lambda part: functional.linear(a[part], w), len(a), size)
        return
    geometry = (layer.stride, layer.padding, layer.dilation, layer.groups)
    first_w, last_a, last_w = w.contiguous(), a.contiguous(memory_format=LAST), w.contiguous(memory_format=LAST)
    for size in _sizes(len(a)):
        yield _in_chunks(lambda part: functional.conv2d(a[part], first_w, None, *geometry), len(a), size)
        yield _in_chunks(lambda part: functional.conv2d(last_a[part], last_w, None, *geometry), len(a), size)
        if layer.groups == 1 and columns:
            laid_out, flat = _columns(layer, a), w.flatten(1).t().contiguous()
            yield _in_chunks(lambda part, c=laid_out, f=flat: c[part].flatten(0, 1) @ f, len(a), size)  # type: ignore[misc]


def _down(layer: Linear | Convolution, a: Tensor, z: Tensor, columns: bool) -> Iterator[Way]:
    w = layer.weight
    if isinstance(layer, Linear):
        for size in _sizes(len(a)):
            yield _in_chunks(lambda part: z[part] @ w, len(a), size)
        return
    back = torch.ops.aten.convolution_backward.default
    geometry = [list(layer.stride), list(layer.padding), list(layer.dilation)]

    def through(part: slice, z: Tensor, a: Tensor, w: Tensor) -> object:
        return back(z[part], a[part], w, None, *geometry, False, [0, 0], layer.groups, [True, False, False])

    pairs = [
        tuple(value.contiguous(memory_format=order) for value in (z, a, w)) for order in (torch.contiguous_format, LAST)
    ]
    for size in _sizes(len(a)):
        for values in pairs:
            yield _in_chunks(lambda part, values=values: through(part, *values), len(a), size)  # type: ignore[misc]
        if layer.groups == 1 and columns:
            rows, flat = z.permute(0, 2, 3, 1).flatten(1, 2).contiguous(), w.flatten(1).contiguous()
            yield _in_chunks(lambda part, r=rows, f=flat: r[part].flatten(0, 1) @ f, len(a), size)  # type: ignore[misc]
            yield _in_chunks(lambda part, r=rows, f=flat: f.t() @ r[part].transpose(1, 2), len(a), size)  # type: ignore[misc]


def _columns(layer: Convolution, a: Tensor) -> Tensor:
    unfolded = functional.unfold(a, layer.weight.shape[2:], layer.dilation, layer.padding, layer.stride)  # type: ignore[arg-type]
    return unfolded.transpose(1, 2).contiguous()
