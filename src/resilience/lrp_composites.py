"""Which rule each layer of a network gets: one for all, or in a composite one by its kind or its name.

Composites come from Montavon et al. 2019, Sec. 10.3, and Kohlbrenner et al. 2020: convolutions, dense layers and what sees
the pixels have rules of their own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from resilience.calls import LayerError
from resilience.graphs import Graph, Node
from resilience.lrp_ratios import Boxed, LayerRule, Mixture, Rule, Sharing
from resilience.operations import (
    Affine,
    Concatenation,
    Convolution,
    Flatten,
    Images,
    Linear,
    MaxPool,
    Product,
    Rearrangement,
    Rectifier,
    Scaling,
    Smooth,
    Sum,
)

#: ε of a sum, which otherwise would share relevance without bound where its summands cancel; as in zennit's Norm.
SUM_STABILISER = 1e-6
#: Shares in proportion.
PROPORTIONAL = Rule(lambda a, w, b: [(a, w, b)], SUM_STABILISER)


@dataclass(frozen=True)
class Composite(Sharing):
    """A rule by the kind of a layer, or by its name, which comes first.

    Parameters
    ----------
    convolution, linear, pooling
        Of convolutions, linear layers and average-poolings.
    sum
        Of sums, such as that of a residual branch and its shortcut: their weights are one.
    first
        Of the layers with weights that see the pixels, if these have one of their own.
    layers
        By the name of a layer or of what holds it, such as ``layer4``; the longest name that fits counts. Sums have none.
    """

    convolution: LayerRule = PROPORTIONAL
    linear: LayerRule = PROPORTIONAL
    pooling: LayerRule = PROPORTIONAL
    sum: LayerRule = PROPORTIONAL
    first: LayerRule | None = None
    layers: Mapping[str, LayerRule] = field(default_factory=dict)


AnyRule = LayerRule | Composite


def rules_of(rule: AnyRule, graph: Graph, x: Tensor) -> list[Rule | Mixture | None]:
    """The rule by which each node of a graph shares relevance, None for those that need none.

    Parameters
    ----------
    rule
        One for all that has weights and for average-poolings, while sums share in proportion; or a composite.
    graph
        The nodes.
    x
        Images [N, C, H, W], for their shape, and for whether any pixel is negative.

    Raises
    ------
    LayerError
        If a composite names a layer that there is none of, or if a layer that is told to share as one that sees the pixels
        does not.
    """
    if isinstance(rule, Composite) and (unknown := [name for name in rule.layers if name not in graph.layers]):
        raise LayerError(
            f"a composite has a rule for {', '.join(unknown)}, and the network has no such layer; "
            f"its layers are {', '.join(graph.layers)}"
        )
    sees_weights = _behind_weights(graph)
    found: list[Rule | Mixture | None] = []
    for node in graph.nodes:
        chosen = _chosen(rule, node, first=not any(sees_weights[place] for place in node.inputs))
        if isinstance(chosen, Boxed):
            if isinstance(node.operation, Sum):
                raise LayerError("a sum has no weights that the rule zbox could share by; leave sum: out")
            low, high = _bounds(graph, node, x, chosen)
            chosen = chosen.between(low, high)
        found.append(chosen)
    if not any(part.of_nonnegative for chosen in found if chosen for _, part in chosen.parts):
        return found
    nonnegative = _nonnegative(graph, x)
    return [
        _of_nonnegative(chosen) if chosen and all(nonnegative[place] for place in node.inputs) else chosen
        for chosen, node in zip(found, graph.nodes, strict=True)
    ]


def _chosen(rule: AnyRule, node: Node, first: bool) -> LayerRule | None:
    """The rule of one node as it is written."""
    operation = node.operation
    if not isinstance(rule, Composite):
        return PROPORTIONAL if isinstance(operation, Sum) else rule if isinstance(operation, Affine) else None
    if isinstance(operation, Sum):
        return rule.sum
    if not isinstance(operation, Affine):
        return None
    named = [name for name in rule.layers if any(f"{module}.".startswith(f"{name}.") for module in node.modules)]
    if named:
        return rule.layers[max(named, key=len)]
    if not isinstance(operation, Convolution | Linear):
        return rule.pooling
    if first and rule.first is not None:
        return rule.first
    return rule.convolution if isinstance(operation, Convolution) else rule.linear


def _behind_weights(graph: Graph) -> list[bool]:
    """Whether the output of each node comes from a layer with weights, so that what takes it does not see the pixels."""
    found: list[bool] = []
    for node in graph.nodes:
        found.append(isinstance(node.operation, Convolution | Linear) or any(found[place] for place in node.inputs))
    return found


def _nonnegative(graph: Graph, x: Tensor) -> list[bool]:
    """Whether the output of each node is known not to be negative, for some images."""
    found: list[bool] = []
    for node in graph.nodes:
        match node.operation:
            case Images():
                found.append(bool((x >= 0).all()))
            case Rectifier(slope=0.0) | Smooth(gate=True):
                found.append(True)
            case Convolution() | Linear():
                found.append(False)
            case Affine() | Rectifier() | MaxPool() | Flatten() | Concatenation() | Sum() | Product():
                found.append(all(found[place] for place in node.inputs))
            case _:
                found.append(False)
    return found


def _of_nonnegative(rule: Rule | Mixture) -> Rule | Mixture:
    """The same without terms that are zero where no input is negative."""
    if isinstance(rule, Rule):
        return replace(rule, terms=rule.of_nonnegative) if rule.of_nonnegative else rule
    parts = ((factor, replace(part, terms=part.of_nonnegative or part.terms)) for factor, part in rule.parts)
    return replace(rule, parts=tuple(parts))


#: What moves, scales or pools pixels: the bounds of its output are what it makes of the bounds of its input.
KEEPS_BOUNDS = (Scaling, Rectifier, Affine, MaxPool, Flatten, Rearrangement, Concatenation)


def _bounds(graph: Graph, node: Node, x: Tensor, boxed: Boxed) -> tuple[Tensor, Tensor]:
    """The least and the largest input [1, …] that a node can have, if pixels lie between those of a rule."""
    known: dict[int, tuple[Tensor, Tensor]] = {}
    for place in _ancestors(graph, node.inputs):
        operation, inputs = graph.nodes[place].operation, graph.nodes[place].inputs
        if isinstance(operation, Images):
            ends = [operation.forward(torch.full_like(x[:1], value)) for value in (boxed.low, boxed.high)]
        elif isinstance(operation, KEEPS_BOUNDS) and not isinstance(operation, Convolution | Linear):
            ends = [operation.forward(*(known[before][side] for before in inputs)) for side in (0, 1)]
        else:
            name = node.modules[0] if node.modules else type(node.operation).__name__
            raise LayerError(
                f"layer {name} does not see the pixels, whose bounds are what the rule zbox knows; let first layers alone "
                "have it, by {rule: composite, first: {rule: zbox}}"
            )
        # A negative weight turns the bounds round.
        known[place] = torch.minimum(*ends), torch.maximum(*ends)
    return known[node.inputs[0]]


def _ancestors(graph: Graph, places: Sequence[int]) -> list[int]:
    """Some nodes and all that they come from, in order."""
    found: set[int] = set()
    waiting = list(places)
    while waiting:
        place = waiting.pop()
        if place not in found:
            found.add(place)
            waiting.extend(graph.nodes[place].inputs)
    return sorted(found)
