"""What the layers of a network compute: the way up, and the way down for gradients.

Images are kept with their channels last in memory, the order that a CPU reads fastest, so that convolutions, poolings and
flattening never copy. What relevance does on its way down is said in :mod:`resilience.explanations.lrp`; here is only told
apart what shares it (:class:`Affine`, :class:`Sum`), what passes it on (:class:`Elementwise`), and what moves it.
"""

from __future__ import annotations

import itertools
import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

#: Up to so many input channels, a product and a fold are faster than a convolution backwards.
FEW_CHANNELS = 4
#: Up to so many places of an output, where a kernel sees its padding most of the time, one product of all that it sees is
#: faster than a convolution.
FEW_PLACES = 4
Pair = tuple[int, int]


class Operation(ABC):
    """What one layer computes, with the weights of one draw."""

    @abstractmethod
    def forward(self, *inputs: Tensor) -> Tensor:
        """The output z, by operations that automatic differentiation knows."""

    def up(self, *inputs: Tensor) -> tuple[Tensor, Any]:
        """The output, and what else the way down needs."""
        return self.forward(*inputs), None

    def down(self, gradient: Tensor, step: Step) -> tuple[Tensor, ...]:
        """The gradient with respect to each input, from that with respect to the output."""
        with torch.enable_grad():
            variables = [a.detach().requires_grad_() for a in step.inputs]
            return torch.autograd.grad(self.forward(*variables), variables, gradient)


@dataclass
class Step:
    """What one operation does to a batch: its inputs, and its output, which is computed when it is first asked for."""

    operation: Operation
    inputs: tuple[Tensor, ...]

    @property
    def a(self) -> Tensor:
        """The first input, of most operations the only one."""
        return self.inputs[0]

    @property
    def z(self) -> Tensor:
        """The output."""
        return self._passed[0]

    @property
    def kept(self) -> Any:
        """What else the way down needs."""
        return self._passed[1]

    @cached_property
    def _passed(self) -> tuple[Tensor, Any]:
        return self.operation.up(*self.inputs)


class Images(Operation):
    """The images themselves."""

    def forward(self, *inputs: Tensor) -> Tensor:
        """Their channels last in memory."""
        return inputs[0].contiguous(memory_format=torch.channels_last)

    def down(self, gradient: Tensor, step: Step) -> tuple[Tensor, ...]:
        """As it is."""
        return (gradient,)


@dataclass(frozen=True)
class Affine(Operation):
    """z = W a + b. The weights can be exchanged, which LRP rules need."""

    weight: Tensor
    bias: Tensor | None

    @abstractmethod
    def product(self, a: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """z_k = Σ_j w_kj a_j + b_k, for a [N, …]."""

    @abstractmethod
    def transposed(self, s: Tensor, weight: Tensor, a: Tensor) -> Tensor:
        """c_j = Σ_k w_kj s_k, of the shape of a."""

    def row(self, unit: Tensor, weight: Tensor, step: Step) -> Tensor:
        """The weights that connect one unit of each image to its inputs, of the shape of these and 0 elsewhere.

        Parameters
        ----------
        unit
            Index [N] of a unit in the flattened output, channels last.
        weight
            The weights to use.
        step
            What this operation does, for the shapes of its input and output.
        """
        return self.transposed(one_hot(unit, step.z), weight, step.a)

    def forward(self, *inputs: Tensor) -> Tensor:
        """By the weights that it has."""
        return self.product(inputs[0], self.weight, self.bias)

    def down(self, gradient: Tensor, step: Step) -> tuple[Tensor, ...]:
        """By the weights that it has."""
        return (self.transposed(gradient, self.weight, step.a),)


class Linear(Affine):
    """A linear layer, of vectors, or of the last axis."""

    def product(self, a: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """See :class:`Affine`."""
        return functional.linear(a, weight, bias)

    def transposed(self, s: Tensor, weight: Tensor, a: Tensor) -> Tensor:
        """See :class:`Affine`."""
        return s @ weight

    def row(self, unit: Tensor, weight: Tensor, step: Step) -> Tensor:
        """One row of the matrix, where inputs are vectors."""
        return weight.index_select(0, unit) if step.a.dim() == 2 else super().row(unit, weight, step)


@dataclass(frozen=True)
class Convolution(Affine):
    """A convolution of images, zeros around them."""

    stride: Pair = (1, 1)
    padding: Pair = (0, 0)
    dilation: Pair = (1, 1)
    groups: int = 1

    def product(self, a: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """See :class:`Affine`; by one product where places are few."""
        if self._is_of_few_places(a, weight):
            seen = self._seen(a, weight)
            z = functional.linear(seen.flatten(3).flatten(0, 2), weight.permute(0, 2, 3, 1).flatten(1), bias)
            return z.view(*seen.shape[:3], -1).permute(0, 3, 1, 2)
        z = functional.conv2d(a, weight, bias, self.stride, self.padding, self.dilation, self.groups)
        return z.contiguous(memory_format=torch.channels_last)

    def transposed(self, s: Tensor, weight: Tensor, a: Tensor) -> Tensor:
        """See :class:`Affine`; by a product and a fold where channels or places are few."""
        if self._is_of_few_places(a, weight):
            shares = s.permute(0, 2, 3, 1).flatten(0, 2) @ weight.permute(0, 2, 3, 1).flatten(1)
            return self._given_back(shares, s, weight, a)
        if a.shape[1] <= FEW_CHANNELS and self.groups == 1:
            shares = weight.flatten(1).t() @ s.flatten(2)
            return functional.fold(shares, a.shape[2:], weight.shape[2:], self.dilation, self.padding, self.stride)
        geometry = (list(self.stride), list(self.padding), list(self.dilation))
        down = torch.ops.aten.convolution_backward.default
        c, _, _ = down(s, a, weight, None, *geometry, False, [0, 0], self.groups, [True, False, False])
        return c.contiguous(memory_format=torch.channels_last)

    def _is_of_few_places(self, a: Tensor, weight: Tensor) -> bool:
        """Whether the output has so few places that it is quicker to lay out what the kernel sees at each."""
        return self.groups == 1 and self.dilation == (1, 1) and math.prod(self._places(a, weight)) <= FEW_PLACES

    def _places(self, a: Tensor, weight: Tensor) -> list[int]:
        """Height and width of the output."""
        sides = zip(a.shape[2:], weight.shape[2:], self.stride, self.padding, strict=True)
        return [(side + 2 * around - size) // step + 1 for side, size, step, around in sides]

    def _seen(self, a: Tensor, weight: Tensor) -> Tensor:
        """What the kernel sees at each place: [N, H, W, kernel height, kernel width, C]."""
        rows, columns = self.padding
        padded = functional.pad(a.permute(0, 2, 3, 1), (0, 0, columns, columns, rows, rows))
        seen = padded.unfold(1, weight.shape[2], self.stride[0]).unfold(2, weight.shape[3], self.stride[1])
        return seen.permute(0, 1, 2, 4, 5, 3)

    def _given_back(self, shares: Tensor, s: Tensor, weight: Tensor, a: Tensor) -> Tensor:
        """What the kernel saw at each place, added up where it was seen: the inverse of the above."""
        (height, width), (rows, columns), (down, right) = s.shape[2:], self.padding, self.stride
        shares = shares.view(len(s), height, width, *weight.shape[2:], -1)
        canvas = shares.new_zeros(len(a), a.shape[2] + 2 * rows, a.shape[3] + 2 * columns, a.shape[1])
        for row, column in itertools.product(*map(range, weight.shape[2:])):
            place = canvas[:, row : row + down * height : down, column : column + right * width : right]
            place.add_(shares[:, :, :, row, column])
        inside = canvas[:, rows : rows + a.shape[2], columns : columns + a.shape[3]]
        return inside.permute(0, 3, 1, 2).contiguous(memory_format=torch.channels_last)

    def row(self, unit: Tensor, weight: Tensor, step: Step) -> Tensor:
        """A unit sees a few pixels only, so this costs far less than the whole way down."""
        if self.groups != 1:
            return super().row(unit, weight, step)
        a, z = step.a, step.z
        (height, width), columns = a.shape[2:], z.shape[3]
        place, channel = unit // z.shape[1], unit % z.shape[1]
        canvas = a.new_zeros(len(a), height + 2 * self.padding[0], width + 2 * self.padding[1], a.shape[1])
        starts = (place // columns * self.stride[0], place % columns * self.stride[1])
        rows, cols = (
            start[:, None] + torch.arange(size, device=a.device) * apart
            for start, size, apart in zip(starts, weight.shape[2:], self.dilation, strict=True)
        )
        image = torch.arange(len(a), device=a.device)[:, None, None]
        canvas[image, rows[:, :, None], cols[:, None, :]] = weight[channel].permute(0, 2, 3, 1)
        inside = canvas[:, self.padding[0] : self.padding[0] + height, self.padding[1] : self.padding[1] + width]
        return inside.permute(0, 3, 1, 2)


@dataclass(frozen=True)
class AveragePool(Affine):
    """Average-pooling: a linear layer of constant weights, whose one value ``weight`` [1] holds.

    ``window`` is its kernel size, stride and padding.
    """

    window: tuple[Pair, Pair, Pair] = ((1, 1), (1, 1), (0, 0))
    #: Further arguments of the kernel: ceil_mode, and whether padding counts. The sum is taken, not the mean.
    options: tuple[bool, bool, int] = (False, True, 1)

    def product(self, a: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """See :class:`Affine`."""
        return torch.ops.aten.avg_pool2d(a, *self.window, *self.options) * weight

    def transposed(self, s: Tensor, weight: Tensor, a: Tensor) -> Tensor:
        """See :class:`Affine`."""
        return torch.ops.aten.avg_pool2d_backward(s, a, *self.window, *self.options) * weight


@dataclass(frozen=True)
class AdaptivePool(Affine):
    """Average-pooling to a given size that its input is no multiple of; its windows differ, so ``weight`` [1] is 1."""

    size: Pair = (1, 1)

    def product(self, a: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """See :class:`Affine`."""
        return torch.ops.aten._adaptive_avg_pool2d(a, self.size) * weight

    def transposed(self, s: Tensor, weight: Tensor, a: Tensor) -> Tensor:
        """See :class:`Affine`."""
        return torch.ops.aten._adaptive_avg_pool2d_backward(s.contiguous(), a.contiguous()) * weight


@dataclass(frozen=True)
class Averaged(Affine):
    """The mean over both axes of images, [N, C] of [N, C, H, W], or [N, C, 1, 1] where these are kept."""

    keeps: bool = False

    def product(self, a: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """See :class:`Affine`."""
        return a.sum((2, 3), keepdim=self.keeps) * weight

    def transposed(self, s: Tensor, weight: Tensor, a: Tensor) -> Tensor:
        """See :class:`Affine`."""
        spread = s.view(len(s), -1, 1, 1) * weight
        return spread.expand_as(a).contiguous(memory_format=torch.channels_last)


class Elementwise(Operation):
    """One value in, one value out: all relevance of the output is that of the input."""


@dataclass(frozen=True)
class Scaling(Elementwise):
    """z = w a + b, value by value: batch normalisation that cannot be folded, normalisation of pixels, scaling of layers."""

    weight: Tensor
    bias: Tensor

    def forward(self, *inputs: Tensor) -> Tensor:
        """Weight and bias are broadcast."""
        return torch.addcmul(self.bias, inputs[0], self.weight)

    def down(self, gradient: Tensor, step: Step) -> tuple[Tensor, ...]:
        """Times the weight."""
        return (gradient * self.weight,)


@dataclass(frozen=True)
class Rectifier(Elementwise):
    """ReLU (slope 0) or LeakyReLU."""

    slope: float

    def forward(self, *inputs: Tensor) -> Tensor:
        """max(a, slope · a)."""
        return functional.leaky_relu(inputs[0], self.slope) if self.slope else functional.relu(inputs[0])

    def down(self, gradient: Tensor, step: Step) -> tuple[Tensor, ...]:
        """Times the slope at that input."""
        return (torch.ops.aten.leaky_relu_backward(gradient, step.a, self.slope, False),)


@dataclass(frozen=True)
class Smooth(Elementwise):
    """Any other activation, by the function that computes it."""

    function: Callable[[Tensor], Tensor]
    #: From 0 to 1, so that it is a gate where it multiplies something.
    gate: bool = False

    def forward(self, *inputs: Tensor) -> Tensor:
        """The function."""
        return self.function(inputs[0])


@dataclass(frozen=True)
class LayerNorm(Elementwise):
    """Layer normalisation; relevance passes it unchanged (Achtibat et al. 2024, Prop. 3.4)."""

    shape: tuple[int, ...]
    weight: Tensor | None
    bias: Tensor | None
    epsilon: float

    def forward(self, *inputs: Tensor) -> Tensor:
        """(a − mean) / deviation · weight + bias, over the last axes."""
        return functional.layer_norm(inputs[0], self.shape, self.weight, self.bias, self.epsilon)


@dataclass(frozen=True)
class MaxPool(Operation):
    """Max-pooling with its kernel size, stride, padding and dilation."""

    window: tuple[Pair, Pair, Pair, Pair]
    ceil: bool

    def forward(self, *inputs: Tensor) -> Tensor:
        """The largest input of each window."""
        return self.up(*inputs)[0]

    def up(self, *inputs: Tensor) -> tuple[Tensor, Any]:
        """The largest input of each window, and which one that is."""
        return torch.ops.aten.max_pool2d_with_indices(inputs[0], *self.window, self.ceil)

    def down(self, gradient: Tensor, step: Step) -> tuple[Tensor, ...]:
        """What the outputs have, given to the winners."""
        return (torch.ops.aten.max_pool2d_with_indices_backward(gradient, step.a, *self.window, self.ceil, step.kept),)


@dataclass(frozen=True)
class Flatten(Operation):
    """Flattening of images, channels last; where no linear layer comes behind that is in the same order, channels first."""

    channels_last: bool = True

    def forward(self, *inputs: Tensor) -> Tensor:
        """[N, H · W · C] from [N, C, H, W], or [N, C · H · W]."""
        a = inputs[0]
        return a.permute(0, 2, 3, 1).flatten(1) if a.dim() == 4 and self.channels_last else a.flatten(1)

    def down(self, gradient: Tensor, step: Step) -> tuple[Tensor, ...]:
        """The inverse."""
        a = step.a
        if a.dim() != 4:
            return (gradient.reshape(a.shape),)
        if not self.channels_last:
            return (gradient.reshape(a.shape).contiguous(memory_format=torch.channels_last),)
        return (gradient.view(a.permute(0, 2, 3, 1).shape).permute(0, 3, 1, 2),)


@dataclass(frozen=True)
class Rearrangement(Operation):
    """Values at other places, or some of them: reshaping, permuting, slicing, padding."""

    function: Callable[[Tensor], Tensor]

    def forward(self, *inputs: Tensor) -> Tensor:
        """The function."""
        return self.function(inputs[0])


@dataclass(frozen=True)
class Concatenation(Operation):
    """Several inputs beside one another, along an axis."""

    axis: int

    def forward(self, *inputs: Tensor) -> Tensor:
        """See above."""
        return torch.cat(inputs, self.axis)

    def down(self, gradient: Tensor, step: Step) -> tuple[Tensor, ...]:
        """Each has its part."""
        return gradient.split([a.shape[self.axis] for a in step.inputs], self.axis)


class Sum(Operation):
    """The sum of inputs of one shape, such as a residual branch and its shortcut."""

    def forward(self, *inputs: Tensor) -> Tensor:
        """See above."""
        return sum(inputs[1:], inputs[0])

    def down(self, gradient: Tensor, step: Step) -> tuple[Tensor, ...]:
        """All have the whole."""
        return (gradient,) * len(step.inputs)


@dataclass(frozen=True)
class Product(Operation):
    """A value times a gate from 0 to 1, such as squeeze-and-excitation; ``value`` says which input is the value."""

    value: int

    def forward(self, *inputs: Tensor) -> Tensor:
        """See above."""
        return inputs[0] * inputs[1]


def one_hot(unit: Tensor, like: Tensor) -> Tensor:
    """1 at one unit of each image [N] in an output flattened with channels last, 0 elsewhere, of the output's shape."""
    if like.dim() != 4:
        return torch.zeros_like(like).flatten(1).scatter(1, unit[:, None], 1.0).view(like.shape)
    last = like.permute(0, 2, 3, 1)
    return like.new_zeros(last.shape).flatten(1).scatter(1, unit[:, None], 1.0).view(last.shape).permute(0, 3, 1, 2)
