"""What a network computes, as calls of operations: modules, functions and operators in one vocabulary.

It is written by :mod:`torch.export`, in the words of PyTorch's own operations (ATen). Plain stacks of the commonest layers
are written in it directly, since an export takes a hundred times as long as all that is done with a small network.
Operations in place count as functions of their input.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

#: The most images of a batch that an export is told of; it makes no difference to what it writes.
LARGEST_BATCH = 2**20
#: The calls that stand for the images at the beginning, and for what is returned at the end.
IMAGES, RETURNED = "images", "output"


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


def calls_of(network: nn.Module, shape: Sequence[int]) -> list[Call]:
    """The calls of a network for images of a shape: these first, what it returns last.

    Raises
    ------
    LayerError
        If it cannot be traced, or returns anything but one tensor.
    """
    calls = _of_stack(network, shape) if _is_plain_stack(network) else _of_export(network, shape)
    return (
        calls if calls[-1].operation == RETURNED else [*calls, Call(RETURNED, (Value(len(calls) - 1),), "", calls[-1].shape)]
    )


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
def _of_stack(network: nn.Module, shape: Sequence[int]) -> list[Call]:
    """A plain stack, written as an export would."""
    assert isinstance(network, nn.Sequential)
    a = _images(network, shape)
    calls = [Call(IMAGES, (), "", tuple(shape))]
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
def _of_export(network: nn.Module, shape: Sequence[int]) -> list[Call]:
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
                calls.append(Call(IMAGES, (), "", tuple(shape)))
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
            calls.append(Call(RETURNED, (known[returned[0]],), "", calls[known[returned[0]].call].shape))
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
