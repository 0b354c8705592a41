"""Each call of a network as an operation that gradients and relevance can pass, with the weights to be put in."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from resilience.calls import IMAGES, Call, LayerError, Name, Value
from resilience.operations import (
    AdaptivePool,
    Averaged,
    AveragePool,
    Concatenation,
    Convolution,
    Flatten,
    Images,
    LayerNorm,
    Linear,
    MaxPool,
    Operation,
    Pair,
    Product,
    Rearrangement,
    Rectifier,
    Scaling,
    Smooth,
    Sum,
)

Weights = Mapping[str, Tensor]
Make = Callable[[Weights], Operation]


@dataclass(frozen=True)
class Part:
    """An operation without its weights.

    Parameters
    ----------
    kind
        What it is.
    make
        Puts the weights of a draw in.
    inputs
        Numbers of the parts whose outputs it takes.
    names
        Of its weights.
    modules
        The modules that it is made of: a convolution, and the batch normalisation that is folded into it.
    shape
        Of its output, without the axis of images.
    """

    kind: type[Operation]
    make: Make
    inputs: tuple[int, ...]
    names: tuple[str, ...]
    modules: tuple[str, ...]
    shape: tuple[int, ...]


def is_known(operation: str) -> bool:
    """Whether there is a translation of an operation."""
    return _translation(operation) is not None


def part_of(call: Call, before: list[Part], inputs: list[int]) -> Part:
    """The operation that a call is, behind the parts that it takes, which have the numbers ``inputs``.

    Raises
    ------
    LayerError
        If no gradient and no relevance can pass it as it is called.
    """
    translate = _translation(call.operation)
    assert translate is not None
    kind, make = translate(call, before)
    names = tuple(argument.name for argument in call.arguments if isinstance(argument, Name))
    return Part(kind, make, tuple(inputs), names, (call.module,) if call.module else (), call.shape)


def _tensor(argument: Any, weights: Weights) -> Any:
    """An argument with the weights of a draw."""
    return weights[argument.name] if isinstance(argument, Name) else argument


def _pair(value: Any, default: Any = None) -> Pair:
    """One number for both axes, or one for each; none is what torch then takes."""
    value = default if value is None or value == () else value
    return (int(value), int(value)) if not isinstance(value, tuple | list) else (int(value[0]), int(value[-1]))


def factor_and_shift(call: Call) -> Callable[[Weights], tuple[Tensor, Tensor]]:
    """γ / √(σ² + ε) and β − μ γ / √(σ² + ε) for each channel."""
    _, gamma, beta, mean, variance, training, _, epsilon, *_ = call.arguments
    if training or mean is None:
        raise LayerError("normalises by the statistics of the batch, which ties images to one another; let it track them")

    def of(weights: Weights) -> tuple[Tensor, Tensor]:
        factor = (_tensor(variance, weights) + epsilon).rsqrt()
        if gamma is not None:
            factor = factor * _tensor(gamma, weights)
        shift = -_tensor(mean, weights) * factor
        return factor, shift if beta is None else shift + _tensor(beta, weights)

    return of


Translation = tuple[type[Operation], Make]


def _constant(operation: Operation) -> Translation:
    """An operation without weights."""
    return type(operation), lambda _: operation


def _images_again(call: Call, before: list[Part]) -> Translation:
    return _constant(Images())


def _linear(call: Call, before: list[Part]) -> Translation:
    _, weight, bias = call.arguments
    return Linear, lambda weights: Linear(_tensor(weight, weights), _tensor(bias, weights))


def _conv2d(call: Call, before: list[Part]) -> Translation:
    _, weight, bias, stride, padding, dilation, groups = call.arguments
    if isinstance(padding, str):
        raise LayerError(f"has the padding {padding!r}; give it as numbers")
    geometry = (_pair(stride), _pair(padding), _pair(dilation), groups)

    def make(weights: Weights) -> Operation:
        values = _tensor(weight, weights).contiguous(memory_format=torch.channels_last)
        return Convolution(values, _tensor(bias, weights), *geometry)

    return Convolution, make


def _batch_norm(call: Call, before: list[Part]) -> Translation:
    of_weights = factor_and_shift(call)
    broadcast = (-1, *[1] * (len(call.shape) - 1))

    def make(weights: Weights) -> Operation:
        factor, shift = of_weights(weights)
        return Scaling(factor.view(broadcast), shift.view(broadcast))

    return Scaling, make


def _layer_norm(call: Call, before: list[Part]) -> Translation:
    _, shape, weight, bias, epsilon, *_ = call.arguments
    return LayerNorm, lambda weights: LayerNorm(shape, _tensor(weight, weights), _tensor(bias, weights), epsilon)


def _relu(call: Call, before: list[Part]) -> Translation:
    return _constant(Rectifier(0.0))


def _leaky_relu(call: Call, before: list[Part]) -> Translation:
    return _constant(Rectifier(float(call.arguments[1])))


def _smooth(call: Call, before: list[Part]) -> Translation:
    function, further = getattr(torch.ops.aten, call.operation), call.arguments[1:]
    return _constant(Smooth(lambda a: function(a, *further), call.operation in GATES))


def _gelu(call: Call, before: list[Part]) -> Translation:
    approximate = call.arguments[1]
    return _constant(Smooth(lambda a: functional.gelu(a, approximate=approximate)))


def _max_pool2d(call: Call, before: list[Part]) -> Translation:
    _, kernel, stride, padding, dilation, ceil = call.arguments
    return _constant(MaxPool((_pair(kernel), _pair(stride, kernel), _pair(padding), _pair(dilation)), ceil))


def _avg_pool2d(call: Call, before: list[Part]) -> Translation:
    _, kernel, stride, padding, ceil, padding_counts, divisor = call.arguments
    window = (_pair(kernel), _pair(stride, kernel), _pair(padding))
    if (window[2] != (0, 0) and not padding_counts) or ceil:
        raise LayerError("pools by windows of different sizes; count the padding, and leave out ceil_mode")
    return _average(window, divisor or math.prod(window[0]))


def _adaptive_avg_pool2d(call: Call, before: list[Part]) -> Translation:
    (height, width), size = before[0].shape[1:], _pair(call.arguments[1])
    if height % size[0] == 0 and width % size[1] == 0:
        kernel = (height // size[0], width // size[1])
        return _average((kernel, kernel, (0, 0)), math.prod(kernel))
    return AdaptivePool, lambda weights: AdaptivePool(_like(weights).new_ones(1), None, size)


def _average(window: tuple[Pair, Pair, Pair], divisor: int) -> Translation:
    return AveragePool, lambda weights: AveragePool(_like(weights).new_full((1,), 1 / divisor), None, window)


def _like(weights: Weights) -> Tensor:
    return next(iter(weights.values()))


def _mean(call: Call, before: list[Part]) -> Translation:
    _, axes, keeps, *_ = call.arguments
    if len(before[0].shape) != 3 or {axis % 4 for axis in axes or ()} != {2, 3}:
        raise LayerError("takes a mean over other axes than both of images")
    return Averaged, lambda weights: Averaged(_like(weights).new_full((1,), 1 / math.prod(before[0].shape[1:])), None, keeps)


def _flatten(call: Call, before: list[Part]) -> Translation:
    shape = before[0].shape
    if call.shape == (math.prod(shape),):
        return _constant(Flatten())
    return _rearranged(call, before)


def _rearranged(call: Call, before: list[Part]) -> Translation:
    if call.operation in ("view", "reshape") and call.shape == (math.prod(before[0].shape),):
        return _constant(Flatten())
    # Tensors are in another order in memory here, in which a view may not be one.
    function = getattr(torch.ops.aten, "reshape" if call.operation == "view" else call.operation)
    further = [0.0 if argument is None and call.operation == "pad" else argument for argument in call.arguments[1:]]
    if call.operation in SEVERAL:
        *further, taken = further
        return _constant(Rearrangement(lambda a: function(a, *further)[taken]))
    if any(isinstance(argument, Value | Name) for argument in further):
        raise LayerError(f"computes {call.operation} at places that depend on the image")
    return _constant(Rearrangement(lambda a: function(a, *further)))


def _pad(call: Call, before: list[Part]) -> Translation:
    if call.arguments[-1] and call.operation in ("pad", "constant_pad_nd"):
        raise LayerError("pads by another value than zero, to which relevance would get lost")
    return _rearranged(call, before)


def _cat(call: Call, before: list[Part]) -> Translation:
    axis = call.arguments[1] % (len(call.shape) + 1)
    if axis == 0 or len(before) < len(call.arguments[0]):
        raise LayerError("concatenates images with one another, or with something that is none")
    return _constant(Concatenation(axis))


def _add(call: Call, before: list[Part]) -> Translation:
    one, other, *scale = call.arguments
    sign = (-1 if call.operation == "sub" else 1) * (scale[0] if scale else 1)
    if len(before) == 2:
        if sign != 1 or before[0].shape != before[1].shape:
            raise LayerError("adds outputs of different shapes, or subtracts one from another; only sums of one shape pass")
        return _constant(Sum())
    if not isinstance(one, Value):
        if sign != 1:
            raise LayerError("subtracts an output from a constant")
        one, other = other, one
    return _scaled(call, lambda weights: 1.0, lambda weights: sign * _tensor(other, weights))


def _mul(call: Call, before: list[Part]) -> Translation:
    one, other, *_ = call.arguments
    if len(before) == 2:
        gates = [issubclass(part.kind, Smooth) and part.make({}).gate for part in before]  # type: ignore[attr-defined]
        if gates.count(True) != 1:
            raise LayerError("multiplies two outputs of which not one alone is a gate (sigmoid or hardsigmoid)")
        return _constant(Product(gates.index(False)))
    constant = other if isinstance(one, Value) else one
    return _scaled(call, lambda weights: _tensor(constant, weights), lambda weights: 0.0)


def _div(call: Call, before: list[Part]) -> Translation:
    one, other, *_ = call.arguments
    if len(before) == 2 or not isinstance(one, Value):
        raise LayerError("divides by an output")

    def factor(weights: Weights) -> Tensor:
        # In the precision of the weights, which a constant need not have; a number never passes single precision.
        like = _like(weights)
        return 1 / torch.as_tensor(_tensor(other, weights), dtype=like.dtype, device=like.device)

    return _scaled(call, factor, lambda weights: 0.0)


def _scaled(call: Call, weight: Callable[[Weights], Any], bias: Callable[[Weights], Any]) -> Translation:
    """W a + b with constants that are the same for all images."""

    def make(weights: Weights) -> Operation:
        like = _like(weights)
        return Scaling(*(torch.as_tensor(value(weights), dtype=like.dtype, device=like.device) for value in (weight, bias)))

    return Scaling, make


GATES = ("sigmoid", "hardsigmoid")
#: Calls that return several tensors, of which a call takes one.
SEVERAL = ("chunk", "split", "split_with_sizes", "unbind", "tensor_split")
#: Activations that are no straight lines; the gates among them may multiply what is gated.
SMOOTH = (
    *GATES,
    *("tanh", "silu", "elu", "celu", "selu", "softplus", "hardswish", "hardtanh", "relu6", "mish"),
)
REARRANGEMENTS = (
    *("view", "reshape", "unflatten", "permute", "transpose", "squeeze", "unsqueeze", "slice", "select", "flip", "roll"),
    *SEVERAL,
)
PADDINGS = ("pad", "constant_pad_nd", "reflection_pad2d", "replication_pad2d")
TRANSLATIONS: dict[str, Callable[[Call, list[Part]], Translation]] = {
    IMAGES: _images_again,
    "linear": _linear,
    "conv2d": _conv2d,
    "batch_norm": _batch_norm,
    "layer_norm": _layer_norm,
    "relu": _relu,
    "leaky_relu": _leaky_relu,
    "gelu": _gelu,
    "max_pool2d": _max_pool2d,
    "avg_pool2d": _avg_pool2d,
    "adaptive_avg_pool2d": _adaptive_avg_pool2d,
    "mean": _mean,
    "flatten": _flatten,
    "cat": _cat,
    "add": _add,
    "sub": _add,
    "mul": _mul,
    "div": _div,
}


def _translation(operation: str) -> Callable[[Call, list[Part]], Translation] | None:
    """What reads calls of an operation; None if no gradient and no relevance can pass it."""
    for names, translate in ((SMOOTH, _smooth), (REARRANGEMENTS, _rearranged), (PADDINGS, _pad)):
        if operation in names:
            return translate
    return TRANSLATIONS.get(operation)
