"""A network as the operations it is made of, with the names of the layers that they come from.

A network is read once for each shape of images: its calls (:mod:`resilience.calls`) are translated one by one
(:mod:`resilience.translations`), batch normalisation is folded into the convolution or linear layer before it, where nothing
else reads that, and what does nothing in evaluation is left out.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from torch import nn

from resilience.calls import RETURNED, Call, LayerError, Name, calls_of
from resilience.operations import Concatenation, Convolution, Flatten, Linear, Operation, Rectifier, Smooth
from resilience.translations import Part, Weights, factor_and_shift, is_known, part_of

#: What is named first where it is not covered, since what is around it is unknown because of it.
ATTENTION = ("scaled_dot_product_attention", "softmax")
#: What does nothing in evaluation.
IDENTITIES = (
    *(
        "dropout",
        "feature_dropout",
        "alpha_dropout",
        "alias",
        "contiguous",
        "clone",
        "detach",
        "identity",
        "lift_fresh_copy",
    ),
)
FOLDED_INTO = (Linear, Convolution)
#: Up to so many outputs, the weights of a linear layer behind a flattening are put into the order of the images.
FEW_OUTPUTS = 64


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
    calls = calls_of(network, shape)
    _refuse_unknown(calls, network)
    parts = _parts(calls, network)
    return Reading(_in_one_order(parts), _layers(parts))


def _parts(calls: list[Call], network: nn.Module) -> list[Part]:
    """The operations of a network, each behind all that it takes."""
    *calls, returned = calls
    readers = [sum(number in call.inputs for call in calls) for number in range(len(calls))]
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
                parts.append(part_of(call, [parts[place] for place in before], before))
                if parts[-1].kind is Concatenation:
                    parts[-1] = _onto_an_earlier(parts)
        except LayerError as problem:
            raise LayerError(f"{_named(call.module, network)} {problem}") from problem
    if of_call[returned.inputs[0]] != len(parts) - 1:
        raise LayerError(f"{type(network).__name__} computes something behind its output")
    if len(parts[-1].shape) != 1:
        raise LayerError(f"the network returns {list(parts[-1].shape)}, no vector of logits; put nn.Flatten() at its end")
    return parts


def _onto_an_earlier(parts: list[Part]) -> Part:
    """A concatenation that begins with all that an earlier one holds takes that instead, as in a dense block."""
    last = parts[-1]
    for place, part in reversed(list(enumerate(parts[:-1]))):
        if part.kind is Concatenation and part.make({}) == last.make({}):
            held = _held(parts, place)
            if len(held) > 1 and held == last.inputs[: len(held)]:
                return replace(last, inputs=(place, *last.inputs[len(held) :]))
    return last


def _held(parts: list[Part], place: int) -> tuple[int, ...]:
    """What a concatenation holds, beside one another, with what those hold that it took instead."""
    first, *others = parts[place].inputs
    taken = parts[first].kind is Concatenation and parts[first].make({}) == parts[place].make({})
    return (*(_held(parts, first) if taken else (first,)), *others)


def _named(module: str, network: nn.Module) -> str:
    """A layer as a sentence names it."""
    return f"layer {module} ({type(network.get_submodule(module)).__name__})" if module else type(network).__name__


def _refuse_unknown(calls: list[Call], network: nn.Module) -> None:
    """Name an operation that no rule covers; attention first, since what is around it is unknown because of it."""
    unknown = [call for call in calls if not is_known(call.operation) and call.operation not in (*IDENTITIES, RETURNED)]
    for call in sorted(unknown, key=lambda call: call.operation not in ATTENTION):
        raise LayerError(
            f"{_named(call.module, network)} computes {call.operation}, which no gradient and no relevance can pass here"
        )


def _folded(part: Part, call: Call) -> Part:
    """A convolution or linear layer with the batch normalisation behind it: W' = W γ / √(σ² + ε), b' likewise."""
    of_weights = factor_and_shift(call)

    def make(weights: Weights) -> Operation:
        affine = part.make(weights)
        assert isinstance(affine, Linear | Convolution)
        factor, shift = of_weights(weights)
        weight = affine.weight * factor.view(-1, *[1] * (affine.weight.dim() - 1))
        return replace(affine, weight=weight, bias=shift if affine.bias is None else affine.bias * factor + shift)

    names = tuple(argument.name for argument in call.arguments if isinstance(argument, Name))
    modules = (*part.modules, call.module) if call.module else part.modules
    return replace(part, make=make, names=(*part.names, *names), modules=modules)


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


def _layers(parts: list[Part]) -> dict[str, int]:
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
