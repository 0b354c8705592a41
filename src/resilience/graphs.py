"""A network as a graph of operations with the weights of one draw: one pass up, and one pass down.

Gradients and relevance both run down the same graph, from its output, or from any layer, to the images.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from resilience.calls import LayerError
from resilience.grid import OUTPUT
from resilience.networks import Shape, Weights, leaves_of, logits
from resilience.operations import Affine, Flatten, Operation, Rectifier, Scaling, Smooth, Step
from resilience.posterior import Posterior
from resilience.reading import Reading, read

#: How much a chunk of images may take up at its widest layer, so that passes over it stay in the cache.
CHUNK_BYTES = 8 * 2**20
LARGEST_CHUNK = 512

#: What has been read of networks, by shape of images, and for which shapes that has been held against them: once is enough.
_read: WeakKeyDictionary[nn.Module, dict[tuple[int, ...], Reading]] = WeakKeyDictionary()
_compared: WeakKeyDictionary[nn.Module, set[tuple[int, ...]]] = WeakKeyDictionary()


@dataclass(frozen=True)
class Node:
    """An operation, the nodes whose outputs it takes, and the names of the modules that it is made of."""

    operation: Operation
    inputs: tuple[int, ...]
    modules: tuple[str, ...] = ()


@dataclass(frozen=True)
class Graph:
    """The operations of a network with the weights of one draw, the images first, each behind all that it takes.

    ``layers`` says by the name of a layer which node's output stands for it: the activation behind it, if one follows.
    ``known`` are steps of some images that need not be done again, see :func:`knowing_what_they_share`.
    """

    nodes: tuple[Node, ...]
    layers: Mapping[str, int]
    known: Mapping[int, Step] = field(default_factory=dict, repr=False)

    @property
    def begin(self) -> int:
        """The first node whose step is not known; 1 at least, since nothing is to be done for the images themselves."""
        return next(place for place in range(1, len(self.nodes) + 1) if place not in self.known)

    def node_of(self, layer: str) -> int:
        """The node whose output stands for a layer; the last one for :data:`OUTPUT`.

        Raises
        ------
        LayerError
            If the network has no layer of that name.
        """
        if layer == OUTPUT and OUTPUT not in self.layers:
            return len(self.nodes) - 1
        if layer not in self.layers:
            raise LayerError(f"the network has no layer {layer}; its layers are {', '.join(self.layers)}")
        return self.layers[layer]

    def before_activation(self, node: int) -> int:
        """The node before an activation, or the node itself if it is none."""
        return self.nodes[node].inputs[0] if isinstance(self.nodes[node].operation, Rectifier | Smooth) else node


def reading_of(network: nn.Module, shape: Sequence[int]) -> Reading:
    """The parts of a network for images of a shape.

    Raises
    ------
    LayerError
        If the network has a layer that no gradient and no relevance can pass.
    """
    known = _read.setdefault(network, {})
    if tuple(shape) not in known:
        known[tuple(shape)] = read(network, shape)
    return known[tuple(shape)]


def graph_of(reading: Reading, weights: Weights, like: tuple[Weights, Graph] | None = None) -> Graph:
    """The graph with the weights of one draw.

    Parameters
    ----------
    reading
        The parts of its network.
    weights
        By ``state_dict`` name.
    like
        Another draw and its graph: operations all of whose weights lie at the same place in memory are shared.
    """
    nodes = []
    for place, part in enumerate(reading.parts):
        if like and all(weights[name].data_ptr() == like[0][name].data_ptr() for name in part.names):
            nodes.append(like[1].nodes[place])
        else:
            nodes.append(Node(part.make(weights), part.inputs, part.modules))
    return Graph(tuple(nodes), reading.layers)


def graphs_of(posterior: Posterior, shape: Shape) -> list[Graph]:
    """The graph of every draw, for images of a shape.

    Raises
    ------
    LayerError
        If the network has a layer that no gradient and no relevance can pass, or its graph computes anything else than it
        does.
    """
    first = next(iter(posterior))
    reading = reading_of(posterior.network, shape)
    compared = _compared.setdefault(posterior.network, set())
    if tuple(shape) not in compared:
        refuse_difference(posterior.network, first, reading, shape)
        compared.add(tuple(shape))
    graph = graph_of(reading, first)
    return [graph, *(graph_of(reading, weights, (first, graph)) for weights in list(posterior)[1:])]


def knowing_what_they_share(graphs: Sequence[Graph], x: Tensor) -> Sequence[Graph]:
    """The graphs of several draws, with the steps of images [N, C, H, W] that are the same in all of them.

    Draws that differ in their last layer alone then cost one pass up together, and its last layer each. What is known counts
    for these images only: for the very tensor ``x``.
    """
    if len(graphs) == 1:
        return graphs
    first, *others = graphs
    known: dict[int, Step] = {}
    for place, node in enumerate(first.nodes):
        if all(before in known for before in node.inputs) and all(graph.nodes[place] is node for graph in others):
            known[place] = Step(node.operation, tuple(known[before].z for before in node.inputs) or (x,))
    return [replace(graph, known=known) for graph in graphs]


@torch.no_grad()
def refuse_difference(network: nn.Module, weights: Weights, reading: Reading, shape: Sequence[int]) -> None:
    """Raise a :class:`LayerError` that names the first layer where a network and its graph part, by more than rounding.

    Both see the same two random images, with the weights of one draw. If they differ in single precision, where large
    summands may have cancelled, double precision decides.
    """
    if (difference := _difference(network, weights, reading, shape)) and _dtype(weights) != torch.float64:
        difference = _difference(network, {name: value.double() for name, value in weights.items()}, reading, shape)
    if difference:
        raise LayerError(difference)


def _dtype(weights: Weights) -> torch.dtype:
    return next(iter(weights.values())).dtype


def _difference(network: nn.Module, weights: Weights, reading: Reading, shape: Sequence[int]) -> str | None:
    """Where a network and its graph part, as a sentence, or None.

    Each module that is one operation, or the last of several that are folded into one, is compared by what it returns.
    Flattened images may be in an order of the graph's own until a linear layer undoes it, and are compared behind that.
    """
    like = next(iter(weights.values()))
    x = torch.rand((2, *shape), generator=torch.Generator().manual_seed(0)).to(like)
    expected, seen = _outputs_of_modules(network, weights, x)
    if not expected.isfinite().all():
        return None  # Such weights are refused by what comes of them.
    steps = trace(graph_of(reading, weights), x).steps
    of_module = {part.modules[-1]: place for place, part in enumerate(reading.parts) if part.modules}
    reordered: set[int] = set()
    for place, (step, part) in enumerate(zip(steps, reading.parts, strict=True)):
        flattens = isinstance(step.operation, Flatten) and step.a.dim() == 4 and step.operation.channels_last
        if flattens or (set(part.inputs) & reordered and not isinstance(step.operation, Affine)):
            reordered.add(place)
        module = part.modules[-1] if part.modules else ""
        if place in reordered or module not in seen or of_module[module] != place:
            continue
        if step.z.shape == seen[module].shape and (off := _distance(step.z, seen[module])):
            layer = network.get_submodule(module)
            return f"layer {module}, {layer}, is computed wrongly here: {off:.2g} off the network's own result"
    if _distance(steps[-1].z, expected):
        return f"{type(network).__name__} computes something else than its layers as they were read"
    return None


def _outputs_of_modules(network: nn.Module, weights: Weights, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """What a network returns, and what those of its modules return that have no modules themselves and are called once."""
    seen: dict[str, list[Tensor]] = {}

    def watch(name: str) -> Callable[..., None]:
        def see(_module: nn.Module, _inputs: object, output: object) -> None:
            # What comes next may overwrite it.
            seen.setdefault(name, []).extend([output.clone()] if isinstance(output, Tensor) else [])

        return see

    hooks = [module.register_forward_hook(watch(name)) for name, module in leaves_of(network)]
    try:
        returned = logits(network, weights, x)
    finally:
        for hook in hooks:
            hook.remove()
    return returned, {name: outputs[0] for name, outputs in seen.items() if len(outputs) == 1}


def _distance(found: Tensor, expected: Tensor) -> float:
    """How far two results are apart at most, NaN where one is; 0 if that is rounding at the size of the expected one."""
    off = float((found - expected).abs().max())
    return 0.0 if off <= float(expected.abs().max()) * torch.finfo(expected.dtype).eps ** 0.5 else off


def chunk_of(network: nn.Module, shape: Shape) -> int:
    """How many images to pass through a network at a time.

    As many as fit into the cache; but so many that the weights, which are read once for each chunk, are no more than the
    values that are computed with them.
    """
    values = [math.prod(part.shape) for part in reading_of(network, shape).parts]
    weights = sum(value.numel() for value in network.parameters())
    return min(max(CHUNK_BYTES // (4 * max(values)), weights // sum(values), 1), LARGEST_CHUNK)


@dataclass(frozen=True)
class Passed:
    """One pass up a graph: what each of its nodes does to some images."""

    graph: Graph
    steps: Sequence[Step]

    @property
    def output(self) -> Tensor:
        """The logits [N, classes]."""
        return self.steps[-1].z


def trace(graph: Graph, x: Tensor) -> Passed:
    """One pass up, of images [N, C, H, W]; the output of the last node is left until it is asked for."""
    steps: list[Step] = []
    known = graph.known if graph.known and graph.known[0].a is x else {}
    for place, node in enumerate(graph.nodes):
        inputs = tuple(steps[before].z for before in node.inputs) or (x,)
        steps.append(known[place] if place in known else Step(node.operation, inputs))
    return Passed(graph, steps)


def input_gradient(passed: Passed, gradient: Tensor, node: int | None = None) -> Tensor:
    """One pass down: the gradient [N, C, H, W] with respect to the images, from that with respect to a node's output.

    It is the last node's, which returns the logits, if ``node`` is None.
    """
    return gradient_at(passed, gradient, 0, node)


def gradient_at(passed: Passed, gradient: Tensor, at: int, node: int | None = None) -> Tensor:
    """The same with respect to the output of a node ``at`` on the way down."""
    top = len(passed.steps) - 1 if node is None else node
    return pass_down(passed, {top: gradient}, at + 1)[at]


def pass_down(passed: Passed, gradients: Mapping[int, Tensor], to: int) -> dict[int, Tensor]:
    """Gradients with respect to the outputs of some nodes, passed down through all nodes from ``to`` on.

    Returns
    -------
    dict
        Gradients with respect to the outputs of nodes before ``to``, from which all others follow.
    """
    waiting = dict(gradients)
    for place in range(max(waiting), to - 1, -1):
        if place not in waiting:
            continue
        operation = passed.steps[place].operation
        parts = operation.down(waiting.pop(place), passed.steps[place])
        for before, part in zip(passed.graph.nodes[place].inputs, parts, strict=True):
            if before not in waiting:
                waiting[before] = part
            elif isinstance(operation, Affine | Scaling | Rectifier):
                waiting[before] = part.add_(waiting[before])  # It has just been computed; nobody else has it.
            else:
                waiting[before] = waiting[before] + part
    return waiting
