"""A network as a stack of layers with the weights of one draw: one pass up, and what passes down need.

Gradients and relevance both run down the same stack, layer by layer. Everything is kept in the order in which a CPU reads
it fastest: images with their channels last, so that convolutions, poolings and flattening never copy. The weights of the
linear layer behind a flattening are put into that order once, when the stack is made.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional

from resilience.networks import Shape, Weights, logits, of_layer
from resilience.posterior import Posterior

#: How much a chunk of images may take up at its widest layer, so that passes over it stay in the cache.
CHUNK_BYTES = 8 * 2**20
LARGEST_CHUNK = 512
#: Up to so many input channels, a product and a fold are faster than a convolution backwards.
FEW_CHANNELS = 4


#: Networks, and the shapes of images for which their stacks have been compared with them: once is enough.
_compared: WeakKeyDictionary[nn.Module, set[tuple[int, ...]]] = WeakKeyDictionary()


class LayerError(TypeError):
    """A layer that no gradient and no relevance can pass. The message names it."""


@dataclass(frozen=True)
class Affine:
    """A linear layer or a convolution: z = W a + b. The weights can be exchanged, which LRP rules need.

    Average-pooling is a convolution of constant weights; ``pooling`` tells it from those that have learnt theirs.
    """

    weight: Tensor
    bias: Tensor | None
    convolution: dict[str, Any] | None = None
    pooling: bool = False

    def product(self, a: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """z_k = Σ_j w_kj a_j + b_k, for a [N, …]."""
        if self.convolution is None:
            return functional.linear(a, weight, bias)
        return functional.conv2d(a, weight, bias, **self.convolution).contiguous(memory_format=torch.channels_last)

    def transposed(self, s: Tensor, weight: Tensor, a: Tensor) -> Tensor:
        """c_j = Σ_k w_kj s_k, of the shape of a."""
        if self.convolution is None:
            return s @ weight
        if a.shape[1] <= FEW_CHANNELS and self.convolution["groups"] == 1:
            shares = weight.flatten(1).t() @ s.flatten(2)
            places = {key: self.convolution[key] for key in ("dilation", "padding", "stride")}
            return functional.fold(shares, a.shape[2:], weight.shape[2:], **places)
        down = torch.ops.aten.convolution_backward.default
        keys = ("stride", "padding", "dilation")
        shape = [list(_pair(self.convolution[key])) for key in keys]
        mask = [True, False, False]
        c, _, _ = down(s, a, weight, None, *shape, False, [0, 0], self.convolution["groups"], mask)
        return c.contiguous(memory_format=torch.channels_last)

    def row(self, unit: Tensor, weight: Tensor, step: Step) -> Tensor:
        """The weights that connect one unit of each image to its inputs, of the shape of these and 0 elsewhere.

        A unit of a convolution sees a few pixels only, so this costs far less than :meth:`transposed`.

        Parameters
        ----------
        unit
            Index [N] of a unit in the flattened output, channels last.
        weight
            The weights to use.
        step
            What this layer does, for the shapes of its input and output.
        """
        if self.convolution is None:
            return weight.index_select(0, unit)
        a, z = step.a, step.z
        if self.convolution["groups"] != 1:
            one_hot = torch.zeros_like(z.permute(0, 2, 3, 1)).flatten(1).scatter(1, unit[:, None], 1.0)
            return self.transposed(one_hot.view(z.permute(0, 2, 3, 1).shape).permute(0, 3, 1, 2), weight, a)
        (height, width), columns = a.shape[2:], z.shape[3]
        place, channel = unit // z.shape[1], unit % z.shape[1]
        stride, padding, dilation = (_pair(self.convolution[key]) for key in ("stride", "padding", "dilation"))
        canvas = a.new_zeros(len(a), height + 2 * padding[0], width + 2 * padding[1], a.shape[1])
        starts = (place // columns * stride[0], place % columns * stride[1])
        rows, cols = (
            start[:, None] + torch.arange(size, device=a.device) * step
            for start, size, step in zip(starts, weight.shape[2:], dilation, strict=True)
        )
        image = torch.arange(len(a), device=a.device)[:, None, None]
        canvas[image, rows[:, :, None], cols[:, None, :]] = weight[channel].permute(0, 2, 3, 1)
        inside = canvas[:, padding[0] : padding[0] + height, padding[1] : padding[1] + width]
        return inside.permute(0, 3, 1, 2)


@dataclass(frozen=True)
class Activation:
    """ReLU (slope 0) or LeakyReLU."""

    slope: float


@dataclass(frozen=True)
class MaxPool:
    """Max-pooling with its kernel size, stride, padding and dilation."""

    window: tuple[tuple[int, int], ...]
    ceil: bool

    def forward(self, a: Tensor) -> tuple[Tensor, Tensor]:
        """The largest input of each window, and which one that is."""
        return torch.ops.aten.max_pool2d_with_indices(a, *self.window, self.ceil)

    def backward(self, r: Tensor, a: Tensor, winners: Tensor) -> Tensor:
        """What the outputs have, given to the winners."""
        return torch.ops.aten.max_pool2d_with_indices_backward(r, a, *self.window, self.ceil, winners)


@dataclass(frozen=True)
class Flatten:
    """Flattening of images, channels last; where no linear layer comes behind that is in the same order, channels first."""

    channels_last: bool = True

    def forward(self, a: Tensor) -> Tensor:
        """[N, H · W · C] from [N, C, H, W], or [N, C · H · W]."""
        if a.dim() == 2:
            return a
        return a.permute(0, 2, 3, 1).flatten(1) if self.channels_last else a.flatten(1)

    def backward(self, r: Tensor, a: Tensor) -> Tensor:
        """The inverse, of the shape of a."""
        if a.dim() == 2:
            return r
        if not self.channels_last:
            return r.reshape(a.shape).contiguous(memory_format=torch.channels_last)
        return r.view(a.permute(0, 2, 3, 1).shape).permute(0, 3, 1, 2)


Layer = Affine | Activation | MaxPool | Flatten


@dataclass
class Step:
    """What one layer does to a batch: its input a, and its output z, which is computed when it is first asked for."""

    layer: Layer
    a: Tensor

    @cached_property
    def z(self) -> Tensor:
        """The output."""
        match self.layer:
            case Affine() as layer:
                return layer.product(self.a, layer.weight, layer.bias)
            case Activation(slope):
                return functional.leaky_relu(self.a, slope) if slope else functional.relu(self.a)
            case MaxPool():
                return self._pooled[0]
            case Flatten() as layer:
                return layer.forward(self.a)

    @property
    def winners(self) -> Tensor:
        """Which input won, for max-pooling."""
        return self._pooled[1]

    @cached_property
    def _pooled(self) -> tuple[Tensor, Tensor]:
        assert isinstance(self.layer, MaxPool)
        return self.layer.forward(self.a)


def stack_of(network: nn.Sequential, weights: Weights, shapes: list[tuple[int, ...]]) -> list[Layer]:
    """The layers of a network with the weights of one draw.

    Parameters
    ----------
    network
        A stack that :func:`refuse_unknown_layers` accepts.
    weights
        By ``state_dict`` name.
    shapes
        Shape of the input of each layer; see :func:`input_shapes`.
    """
    stack: list[Layer] = []
    flattened: tuple[int, ...] = ()
    last_linear = max((index for index, layer in enumerate(network) if isinstance(layer, nn.Linear)), default=-1)
    for index, layer in enumerate(network):
        weight, bias = weights.get(f"{index}.weight"), weights.get(f"{index}.bias")
        match layer:
            case nn.Linear():
                assert weight is not None
                if len(flattened) == 3:
                    weight = weight.view(-1, *flattened).permute(0, 2, 3, 1).flatten(1).contiguous()
                flattened = ()
                stack.append(Affine(weight, bias))
            case nn.Conv2d():
                assert weight is not None
                convolution = {key: getattr(layer, key) for key in ("stride", "padding", "dilation", "groups")}
                stack.append(Affine(weight.contiguous(memory_format=torch.channels_last), bias, convolution))
            case nn.AvgPool2d():
                channels = shapes[index][0]
                height, width = _pair(layer.kernel_size)
                weight = next(iter(weights.values())).new_full((channels, 1, height, width), 1 / (height * width))
                stride, padding = _pair(layer.stride), _pair(layer.padding)
                convolution = {"stride": stride, "padding": padding, "dilation": 1, "groups": channels}
                stack.append(Affine(weight, None, convolution, pooling=True))
            case nn.MaxPool2d():
                window = tuple(_pair(value) for value in (layer.kernel_size, layer.stride, layer.padding, layer.dilation))
                stack.append(MaxPool(window, layer.ceil_mode))
            case nn.Flatten():
                if len(shapes[index]) == 3:
                    flattened = shapes[index]
                stack.append(Flatten(channels_last=index < last_linear))
            case nn.LeakyReLU():
                stack.append(Activation(layer.negative_slope))
            case nn.ReLU():
                stack.append(Activation(0.0))
    return stack


def stacks_of(posterior: Posterior, shape: Shape) -> list[list[Layer]]:
    """The stack of every draw, for images of a shape.

    Raises
    ------
    LayerError
        If the network has a layer that no gradient and no relevance can pass, or its stack computes anything else than it
        does.
    """
    shapes = input_shapes(posterior.network, shape)
    stacks = [stack_of(posterior.network, weights, shapes) for weights in posterior]
    compared = _compared.setdefault(posterior.network, set())
    if tuple(shape) not in compared:
        refuse_difference(posterior.network, next(iter(posterior)), shapes)
        compared.add(tuple(shape))
    return stacks


@torch.no_grad()
def refuse_difference(network: nn.Sequential, weights: Weights, shapes: list[tuple[int, ...]]) -> None:
    """Raise a :class:`LayerError` that names the first layer where a network and its stack part, by more than rounding.

    Both see the same two random images, with the weights of one draw. If they differ in single precision, where large
    summands may have cancelled, double precision decides.
    """
    if (difference := _difference(network, weights, shapes)) and next(iter(weights.values())).dtype != torch.float64:
        difference = _difference(network, {name: value.double() for name, value in weights.items()}, shapes)
    if difference:
        raise LayerError(difference)


def _difference(network: nn.Sequential, weights: Weights, shapes: list[tuple[int, ...]]) -> str | None:
    """Where a network and its stack part, as a sentence, or None.

    Flattened images are in an order of the stack's own until a linear layer undoes it, so they are compared behind that.
    """
    like = next(iter(weights.values()))
    x = torch.rand((2, *shapes[0]), generator=torch.Generator().manual_seed(0)).to(like)
    expected, reordered = x.clone(), False
    for index, (layer, step) in enumerate(zip(network, trace(stack_of(network, weights, shapes), x), strict=True)):
        expected = functional_call(layer, of_layer(weights, layer, index), (expected,))
        if not expected.isfinite().all():
            return None  # Such weights are refused by what comes of them.
        reordered = (reordered and not isinstance(layer, nn.Linear)) or step.layer == Flatten(channels_last=True)
        if not reordered and (off := _distance(step.z, expected)):
            return f"layer {index}, {layer}, is computed wrongly here: {off:.2g} off the network's own result"
    if _distance(expected, logits(network, weights, x)):
        return f"{type(network).__name__} computes something else than its layers one after the other"
    return None


def _distance(found: Tensor, expected: Tensor) -> float:
    """How far two results are apart at most, NaN where one is; 0 if that is rounding at the size of the expected one."""
    off = float((found - expected).abs().max())
    return 0.0 if off <= float(expected.abs().max()) * torch.finfo(expected.dtype).eps ** 0.5 else off


def input_shapes(network: nn.Sequential, shape: Shape) -> list[tuple[int, ...]]:
    """Shape of the input of each layer of a network, without the axis of images; the last one is that of the output.

    Raises
    ------
    LayerError
        If there is a layer that no gradient and no relevance can pass, or the output is not a vector of logits.
    """
    refuse_unknown_layers(network)
    device = next((parameter.device for parameter in network.parameters()), torch.device("cpu"))
    dtype = next((parameter.dtype for parameter in network.parameters()), torch.float32)
    a = torch.zeros(1, *shape, device=device, dtype=dtype)
    shapes = [tuple(shape)]
    for index, layer in enumerate(network):
        if isinstance(layer, nn.Linear) and a.dim() != 2:
            raise LayerError(f"layer {index} is Linear and gets {list(a.shape[1:])}, no vector; put nn.Flatten() before it")
        a = layer(a).detach()
        shapes.append(tuple(a.shape[1:]))
    if a.dim() != 2:
        raise LayerError(f"the network returns {list(shapes[-1])}, no vector of logits; put nn.Flatten() at its end")
    return shapes


def chunk_of(network: nn.Sequential, shape: Shape) -> int:
    """How many images to pass through a network at a time."""
    widest = 4 * max(math.prod(part) for part in input_shapes(network, shape))
    return min(max(CHUNK_BYTES // widest, 1), LARGEST_CHUNK)


def trace(stack: Iterable[Layer], x: Tensor) -> list[Step]:
    """One pass up: what each layer does to images [N, C, H, W]; the output of the last is left until it is asked for."""
    steps: list[Step] = []
    for layer in stack:
        steps.append(Step(layer, steps[-1].z if steps else x.contiguous(memory_format=torch.channels_last)))
    return steps


def input_gradient(steps: list[Step], gradient: Tensor) -> Tensor:
    """One pass down: the gradient [N, C, H, W] with respect to the images, from that with respect to the output."""
    for step in reversed(steps):
        match step.layer:
            case Affine() as layer:
                gradient = layer.transposed(gradient, layer.weight, step.a)
            case Activation():
                gradient = activation_gradient(step, gradient)
            case _:
                gradient = pass_down(step, gradient)
    return gradient


def activation_gradient(step: Step, gradient: Tensor) -> Tensor:
    """Gradient through an activation: what comes from above times its slope at that input."""
    assert isinstance(step.layer, Activation)
    return torch.ops.aten.leaky_relu_backward(gradient, step.a, step.layer.slope, False)


def pass_down(step: Step, r: Tensor) -> Tensor:
    """Gradient or relevance through a layer that only moves it: pooling and flattening."""
    match step.layer:
        case MaxPool() as layer:
            return layer.backward(r, step.a, step.winners)
        case Flatten() as layer:
            return layer.backward(r, step.a)
    raise TypeError(f"{type(step.layer).__name__} does more than move what passes it")


def refuse_unknown_layers(network: nn.Module) -> None:
    """Raise a :class:`LayerError` that names the first layer that no gradient and no relevance can pass."""
    if not isinstance(network, nn.Sequential):
        raise LayerError(f"a stack of layers is needed (torch.nn.Sequential), not {type(network).__name__}")
    if type(network).forward is not nn.Sequential.forward:
        raise LayerError(f"{type(network).__name__} has a forward of its own; only its layers are seen here")
    numbered = {f"{index}.{name}" for index, layer in enumerate(network) for name, _ in layer.named_parameters()}
    if found := {name for name, _ in network.named_parameters(remove_duplicate=False)} - numbered:
        raise LayerError(f"layers must be numbered, not named; nothing finds {', '.join(sorted(found))}")
    known = (nn.Linear, nn.Conv2d, nn.ReLU, nn.LeakyReLU, nn.MaxPool2d, nn.AvgPool2d, nn.Flatten)
    for index, layer in enumerate(network):
        if type(layer) not in known:
            names = ", ".join(kind.__name__ for kind in known)
            raise LayerError(f"layer {index} is {type(layer).__name__}; it must be one of {names}")
        if isinstance(layer, nn.Conv2d) and (layer.padding_mode != "zeros" or isinstance(layer.padding, str)):
            raise LayerError(f"layer {index}: the padding of Conv2d must be numbers, with zeros around the image")
        if isinstance(layer, nn.AvgPool2d) and (layer.ceil_mode or not layer.count_include_pad or layer.divisor_override):
            raise LayerError(f"layer {index}: AvgPool2d must not have ceil_mode or a divisor of its own")
        if isinstance(layer, nn.MaxPool2d) and layer.return_indices:
            raise LayerError(f"layer {index}: MaxPool2d must not return indices")
        if isinstance(layer, nn.Flatten) and (layer.start_dim, layer.end_dim) != (1, -1):
            raise LayerError(f"layer {index}: Flatten must flatten everything but the axis of images")


def _pair(value: int | tuple[int, ...]) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else (value[0], value[-1])
