"""From a network to the operations it is made of, with the names of the layers that they come from.

A network is read once for each shape of images, by :mod:`torch.export`, which writes modules, functions and operators in one
vocabulary (ATen). Plain stacks of the commonest layers are written in it directly, since an export takes a hundred times as
long as all that is done with a small network. Operations in place count as functions of their input; batch normalisation is
folded into the convolution or linear layer before it, where nothing else reads that.
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

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
#: The most images of a batch that an export is told of; it makes no difference to what it writes.
LARGEST_BATCH = 2**20


#: Up to so many outputs, the weights of a linear layer behind a flattening are put into the order of the images.
FEW_OUTPUTS = 64


class LayerError(TypeError):
    """A layer that no gradient and no relevance can pass. The message names it."""


@dataclass(frozen=True)
class Value:
    """What an earlier call returned, as an argument: the number of that call."""

    call: int


@dataclass(frozen=True)
class Name:
    """A parameter or buffer as an argument: its ``state_dict`` name."""

    name: str


@dataclass(frozen=True)
class Call:
    """One operation of a network: its ATen name, its arguments in order, the module it comes from, its output's shape."""

    operation: str
    arguments: tuple[Any, ...]
    module: str
    shape: tuple[int, ...]

    @property
    def inputs(self) -> tuple[int, ...]:
        """The calls whose values it takes."""
        return tuple(_values(self.arguments))


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


@dataclass
class Reading:
    """The parts of a network, the images first, and by name the part whose output stands for a layer."""

    parts: list[Part]
    layers: dict[str, int]


def read(network: nn.Module, shape: Sequence[int]) -> Reading:
    """The parts of a network for images of a shape.

    Raises
    ------
    LayerError
        If it cannot be traced, or computes something that no gradient and no relevance can pass.
    """
    calls = _calls_of_stack(network, shape) if _is_plain_stack(network) else _calls_of_export(network, shape)
    return _reading(calls, network)


# From a network to calls.


def _is_plain_stack(network: nn.Module) -> bool:
    """Whether it is a stack of the commonest layers, one after the other and as they come."""
    if type(network) is not nn.Sequential:
        return False
    plain = (nn.Linear, nn.Conv2d, nn.BatchNorm2d, nn.ReLU, nn.LeakyReLU, nn.MaxPool2d, nn.AvgPool2d, nn.Flatten)
    return all(
        type(layer) in plain
        and not isinstance(getattr(layer, "padding", 0), str)
        and getattr(layer, "padding_mode", "zeros") == "zeros"
        and not getattr(layer, "return_indices", False)
        and getattr(layer, "running_mean", True) is not None
        for layer in network
    )


@torch.no_grad()
def _calls_of_stack(network: nn.Module, shape: Sequence[int]) -> list[Call]:
    """A plain stack, written as an export would."""
    assert isinstance(network, nn.Sequential)
    a = _images(network, shape)
    calls = [Call("images", (), "", tuple(shape))]
    arguments: tuple[Any, ...]
    for index, (name, layer) in enumerate(network.named_children()):
        a = layer(a)
        weight, bias = (
            Name(f"{name}.{key}") if getattr(layer, key, None) is not None else None for key in ("weight", "bias")
        )
        match layer:
            case nn.Linear():
                operation, arguments = "linear", (weight, bias)
            case nn.Conv2d():
                geometry = (layer.stride, layer.padding, layer.dilation, layer.groups)
                operation, arguments = "conv2d", (weight, bias, *geometry)
            case nn.BatchNorm2d():
                statistics = (Name(f"{name}.running_mean"), Name(f"{name}.running_var"))
                operation, arguments = "batch_norm", (weight, bias, *statistics, False, 0.0, layer.eps)
            case nn.ReLU():
                operation, arguments = "relu", ()
            case nn.LeakyReLU():
                operation, arguments = "leaky_relu", (layer.negative_slope,)
            case nn.MaxPool2d():
                window = (layer.kernel_size, layer.stride, layer.padding, layer.dilation)
                operation, arguments = "max_pool2d", (*window, layer.ceil_mode)
            case nn.AvgPool2d():
                further = (layer.padding, layer.ceil_mode, layer.count_include_pad, layer.divisor_override)
                operation, arguments = "avg_pool2d", (layer.kernel_size, layer.stride, *further)
            case nn.Flatten():
                operation, arguments = "flatten", (layer.start_dim, layer.end_dim)
        calls.append(Call(operation, (Value(index), *arguments), name, tuple(a.shape[1:])))
    return calls


@torch.no_grad()
def _calls_of_export(network: nn.Module, shape: Sequence[int]) -> list[Call]:
    """Any network, as ``torch.export`` writes it."""
    from torch.export import Dim, export

    images = _images(network, shape)
    batch = {0: Dim("images", min=1, max=LARGEST_BATCH)}
    kind = type(network).__name__
    try:
        program = export(network.eval(), (images,), dynamic_shapes=(batch,), strict=False)
    except Exception as error:
        # What torch says is for its developers; its first line is what a reader can use.
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise LayerError(
            f"{kind} cannot be traced for a batch of images {list(shape)} ({reason}); see torch.export"
        ) from error
    signature = program.graph_signature
    names = {**signature.inputs_to_parameters, **signature.inputs_to_buffers}
    constants = getattr(signature, "inputs_to_lifted_tensor_constants", {})
    known: dict[Any, Any] = {}
    calls: list[Call] = []
    for node in program.graph.nodes:
        value = node.meta.get("val")
        if node.op == "placeholder":
            if names.get(node.name) in signature.non_persistent_buffers:
                known[node] = program.constants[names[node.name]]
            elif node.name in names:
                known[node] = Name(names[node.name])
            elif node.name in constants:
                known[node] = program.constants[constants[node.name]]
            else:
                known[node] = Value(len(calls))
                calls.append(Call("images", (), "", tuple(shape)))
        elif node.op == "call_function" and isinstance(value, Tensor):
            known[node] = Value(len(calls))
            calls.append(_exported(node, known))
        elif node.op == "call_function" and isinstance(value, torch.SymInt):
            known[node] = -1  # Only the number of images is open; a shape with -1 in its place is the same shape.
        elif node.op == "call_function":
            known[node] = node  # Several tensors: what takes one of them reads the call itself.
        elif node.op == "output":
            [returned] = node.args
            if len(returned) != 1 or not isinstance(known.get(returned[0]), Value):
                raise LayerError(f"{kind} returns {len(returned)} values, not one tensor of logits")
            calls.append(Call("output", (known[returned[0]],), "", calls[known[returned[0]].call].shape))
    return calls


def _exported(node: Any, known: Mapping[Any, Any]) -> Call:
    """One call of an export. Taking one of several results of a call counts as a call of its own."""
    taken: tuple[Any, ...] = ()
    shape = tuple(-1 if isinstance(size, torch.SymInt) else int(size) for size in node.meta["val"].shape)[1:]
    if node.target is operator.getitem:
        node, taken = node.args[0], (node.args[1],)
    schema = node.target._schema.arguments
    arguments = [
        node.args[place] if place < len(node.args) else node.kwargs.get(argument.name, argument.default_value)
        for place, argument in enumerate(schema)
    ]
    stack = list((node.meta.get("nn_module_stack") or {}).values())
    module = re.sub(r"@\d+", "", stack[-1][0]).removeprefix("L['self'].") if stack else ""
    operation = node.target._schema.name.removeprefix("aten::").removesuffix("_")
    return Call(operation, (*(_resolved(argument, known) for argument in arguments), *taken), module, shape)


def _resolved(argument: Any, known: Mapping[Any, Any]) -> Any:
    if isinstance(argument, list | tuple):
        return tuple(_resolved(item, known) for item in argument)
    if isinstance(argument, torch.fx.Node):
        return known[argument]
    return argument


def _values(arguments: Any) -> Iterator[int]:
    for argument in arguments:
        if isinstance(argument, Value):
            yield argument.call
        elif isinstance(argument, tuple):
            yield from _values(argument)


def _images(network: nn.Module, shape: Sequence[int]) -> Tensor:
    """Two blank images, where the network is and of its type; of one, an export would take the number for granted."""
    like = next(network.parameters(), torch.empty(0))
    return torch.zeros(2, *shape, device=like.device, dtype=like.dtype)


# From calls to parts.


def _reading(calls: list[Call], network: nn.Module) -> Reading:
    _refuse_unknown(calls, network)
    readers = [sum(number in call.inputs for call in calls) for number in range(len(calls))]
    output = calls.pop().inputs[0] if calls[-1].operation == "output" else len(calls) - 1
    parts: list[Part] = []
    of_call: dict[int, int] = {}
    for number, call in enumerate(calls):
        before = [of_call[place] for place in call.inputs]
        try:
            if call.operation in IDENTITIES:
                of_call[number] = before[0]
            elif call.operation == "batch_norm" and readers[call.inputs[0]] == 1 and parts[before[0]].kind in FOLDED_INTO:
                of_call[number] = before[0]
                parts[before[0]] = _folded(parts[before[0]], call)
            else:
                of_call[number] = len(parts)
                parts.append(_part(call, [parts[place] for place in before], before))
                if parts[-1].kind is Concatenation:
                    parts[-1] = _onto_an_earlier(parts)
        except LayerError as problem:
            raise LayerError(f"{_named(call.module, network)} {problem}") from problem
    if of_call[output] != len(parts) - 1:
        raise LayerError(f"{type(network).__name__} computes something behind its output")
    if len(parts[-1].shape) != 1:
        raise LayerError(f"the network returns {list(parts[-1].shape)}, no vector of logits; put nn.Flatten() at its end")
    return Reading(_in_one_order(parts), _layers(parts, network))


def _onto_an_earlier(parts: list[Part]) -> Part:
    """A concatenation that begins with the inputs of an earlier one takes that instead, as in a dense block."""
    last = parts[-1]
    for place, part in reversed(list(enumerate(parts[:-1]))):
        length = len(part.inputs)
        same = part.kind is Concatenation and part.make({}) == last.make({}) and part.inputs == last.inputs[:length]
        if same and length > 1:
            return replace(last, inputs=(place, *last.inputs[length:]))
    return last


def _named(module: str, network: nn.Module) -> str:
    """A layer as a sentence names it."""
    return f"layer {module} ({type(network.get_submodule(module)).__name__})" if module else type(network).__name__


def _refuse_unknown(calls: list[Call], network: nn.Module) -> None:
    """Name an operation that no rule covers; attention first, since what is around it is unknown because of it."""
    unknown = [call for call in calls if not _translation(call.operation) and call.operation not in (*IDENTITIES, "output")]
    for call in sorted(unknown, key=lambda call: call.operation not in ATTENTION):
        raise LayerError(
            f"{_named(call.module, network)} computes {call.operation}, which no gradient and no relevance can pass here"
        )


def _part(call: Call, before: list[Part], inputs: list[int]) -> Part:
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


# Batch normalisation.


def _factor_and_shift(call: Call) -> Callable[[Weights], tuple[Tensor, Tensor]]:
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


def _folded(part: Part, call: Call) -> Part:
    """A convolution or linear layer with the batch normalisation behind it: W' = W γ / √(σ² + ε), b' likewise."""
    factor_and_shift = _factor_and_shift(call)

    def make(weights: Weights) -> Operation:
        affine = part.make(weights)
        assert isinstance(affine, Linear | Convolution)
        factor, shift = factor_and_shift(weights)
        weight = affine.weight * factor.view(-1, *[1] * (affine.weight.dim() - 1))
        return replace(affine, weight=weight, bias=shift if affine.bias is None else affine.bias * factor + shift)

    names = tuple(argument.name for argument in call.arguments if isinstance(argument, Name))
    modules = (*part.modules, call.module) if call.module else part.modules
    return replace(part, make=make, names=(*part.names, *names), modules=modules)


# One operation each: its kind, and what puts the weights in.

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
    factor_and_shift = _factor_and_shift(call)
    broadcast = (-1, *[1] * (len(call.shape) - 1))

    def make(weights: Weights) -> Operation:
        factor, shift = factor_and_shift(weights)
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
ATTENTION = ("scaled_dot_product_attention", "softmax")
#: What does nothing in evaluation.
IDENTITIES = (
    "dropout",
    "feature_dropout",
    "alias",
    "contiguous",
    "clone",
    "detach",
    "alpha_dropout",
    "identity",
    "lift_fresh_copy",
)
FOLDED_INTO = (Linear, Convolution)
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
    "images": _images_again,
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


# What lies behind one another.


def _in_one_order(parts: list[Part]) -> list[Part]:
    """Images are flattened channels last wherever linear layers alone read that, whose weights then get the same order.

    Where these have many outputs, the product takes so long that reordering the images costs nothing, and the weights a lot.
    """
    found = list(parts)
    for place, part in enumerate(parts):
        if part.kind is not Flatten or len(parts[part.inputs[0]].shape) != 3:
            continue
        shape, linear = parts[part.inputs[0]].shape, _linear_readers(parts, place)
        if not linear or any(parts[index].shape[-1] > FEW_OUTPUTS for index in linear):
            found[place] = replace(part, make=lambda _: Flatten(channels_last=False))
        elif math.prod(shape[1:]) > 1:
            for index in linear:
                found[index] = _reordered(parts[index], shape)
    return found


def _linear_readers(parts: list[Part], place: int) -> list[int]:
    """The linear layers that read a vector, perhaps after an activation; none if anything else does."""
    behind, linear = {place}, []
    for index in range(place + 1, len(parts)):
        if not behind & set(parts[index].inputs):
            continue
        if parts[index].kind is Linear:
            linear.append(index)
        elif parts[index].kind in (Rectifier, Smooth):
            behind.add(index)
        else:
            return []
    return [] if len(parts) - 1 in behind else linear


def _reordered(part: Part, shape: tuple[int, ...]) -> Part:
    """A linear layer that takes images [C, H, W] flattened with channels last."""

    def make(weights: Weights) -> Operation:
        affine = part.make(weights)
        assert isinstance(affine, Linear)
        return replace(affine, weight=affine.weight.view(-1, *shape).permute(0, 2, 3, 1).flatten(1).contiguous())

    return replace(part, make=make)


def _layers(parts: list[Part], network: nn.Module) -> dict[str, int]:
    """By the name of each module the part whose output it returns, after the activation that follows it if one does."""
    last: dict[str, int] = {}
    for place, part in enumerate(parts):
        for module in part.modules:
            steps = module.split(".")
            last.update({".".join(steps[: depth + 1]): place for depth in range(len(steps))})
    return {name: _after_activation(parts, place) for name, place in last.items()}


def _after_activation(parts: list[Part], place: int) -> int:
    readers = [index for index, part in enumerate(parts) if place in part.inputs]
    follows = len(readers) == 1 and parts[readers[0]].kind in (Rectifier, Smooth)
    return readers[0] if follows else place
