"""Layer-wise Relevance Propagation through one draw of a network's weights (paper, Sec. IV-A and VII-D).

How a layer with weights shares relevance is said by a rule (:mod:`resilience.lrp_rules`), and which by a composite if there
are several (:mod:`resilience.lrp_composites`). What computes one value from one value (activations, normalisation) passes
relevance on unchanged, max-pooling gives it to the winner, average-pooling is a linear layer with constant weights, a sum
shares it in proportion to its summands, and a gate has none of its value's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from resilience import catalog
from resilience.catalog import entry
from resilience.explain import explain
from resilience.graphs import Graph, Passed, trace
from resilience.grid import OUTPUT
from resilience.lrp_composites import AnyRule, rules_of
from resilience.lrp_ratios import Factor, Mixture, Rule
from resilience.networks import learnable_layers
from resilience.operations import Affine, Convolution, Elementwise, Linear, Product, Rectifier, Step, Sum, one_hot
from resilience.parameters import RuleEntry
from resilience.posterior import Posterior


@entry()
def lrp(
    graph: Graph,
    x: Tensor,
    explained: Tensor,
    layers: Sequence[str],
    *,
    rule: RuleEntry,
    unit: Literal["strongest", "all"] = "strongest",
    start: Literal["one", "value"] = "one",
    activations: Literal["pass", "slope"] = "pass",
) -> Tensor:
    """Layer-wise Relevance Propagation (Bach et al. 2015; Montavon et al. 2019): what each layer's unit owes to each pixel.

    A map of the last layer explains the network's output, whatever comes behind that layer; one of an inner layer explains
    that layer after its activation.

    Parameters
    ----------
    rule
        How layers share relevance among their inputs: one rule for all of them, or a composite.
    unit
        What a map of an inner layer explains: its most active unit, or all of its activations.
    start
        The relevance that propagation starts from at the explained unit: one, or the unit's value.
    activations
        Whether activations pass relevance on unchanged, or times their slope as the published code does.
    """
    chosen: AnyRule = catalog.bound("rules", rule)()
    chosen = replace(chosen, by_slope=activations == "slope")
    return sweep(graph, x, chosen, Starts(layers, layers[-1], explained, unit, start))


def heat_maps(
    posterior: Posterior,
    x: Tensor,
    explained: Tensor,
    rule: AnyRule,
    layers: Sequence[str],
    unit: Literal["strongest", "all"] = "strongest",
    start: Literal["one", "value"] = "one",
) -> dict[str, Tensor]:
    """Mean over draws of the heat maps that explain some of the layers at the input (paper, Sec. IV-A: E_w[R(x, w)]).

    Parameters
    ----------
    posterior, x, explained
        See :func:`resilience.explain.explain`.
    rule
        How relevance is shared.
    layers
        Names of the layers to explain. The last one that the network has, and ``output``, stand for its output.
    unit, start
        See :func:`lrp`.

    Returns
    -------
    dict
        Relevance [N, C, H, W] of the input for each layer.

    Raises
    ------
    LayerError
        If the network has a layer that relevance cannot pass, or lacks one that a composite names.
    """
    last = learnable_layers(posterior.network)[-1]
    output = last if last in layers else OUTPUT

    def of_draw(graph: Graph, x: Tensor, explained: Tensor, layers: Sequence[str], **_: object) -> Tensor:
        return sweep(graph, x, rule, Starts(layers, output, explained, unit, start))

    return dict(zip(layers, explain(posterior, x, explained, of_draw, layers), strict=True))


@dataclass(frozen=True)
class Starts:
    """Where relevance starts from: a class at the output, for which layer ``output`` stands, and units of other layers."""

    layers: Sequence[str]
    output: str
    explained: Tensor
    unit: Literal["strongest", "all"]
    start: Literal["one", "value"]


def sweep(graph: Graph, x: Tensor, rule: AnyRule, starts: Starts) -> Tensor:
    """Relevance [len(starts.layers), N, C, H, W] of the input in one draw, for all layers in one pass down the network.

    Propagation is linear in the relevance, so the layers that are explained share the pass: each joins it where it ends. A
    single unit is first shared among its own inputs, which in a convolution are few.
    """
    rules, passed = rules_of(rule, graph, x), trace(graph, x)
    begins: dict[int, list[str]] = {}
    for layer in starts.layers:
        begins.setdefault(_begin(graph, layer, starts), []).append(layer)
    waiting: dict[int, dict[str, Tensor]] = {}
    for place in reversed(range(1, len(graph.nodes))):
        step, inputs = passed.steps[place], graph.nodes[place].inputs
        here = waiting.pop(place, {})
        for layer in begins.get(place, ()):
            if isinstance(step.operation, Linear | Convolution) and (layer == starts.output or starts.unit == "strongest"):
                unit = _unit(passed, layer, starts)
                value = _value(passed, place, layer, unit, starts, rule.by_slope)
                _join(waiting, inputs[0], layer, share_of_unit(step, unit, value, rules[place]))
            else:
                here[layer] = _of_units(passed, place, layer, starts, rule.by_slope)
        if not here:
            continue
        share = sharing(step, rules[place], rule.by_slope)
        for layer, relevance in here.items():
            for before, part in zip(inputs, share(relevance), strict=True):
                if part is not None:
                    _join(waiting, before, layer, part)
    return torch.stack([waiting[0][layer] for layer in starts.layers])


def _join(waiting: dict[int, dict[str, Tensor]], place: int, layer: str, relevance: Tensor) -> None:
    """Relevance that several readers of an output give it is summed, in the memory of the last, which nobody else has."""
    there = waiting.setdefault(place, {})
    there[layer] = relevance.add_(there[layer]) if layer in there else relevance


def sharing(step: Step, rule: Rule | Mixture | None, by_slope: bool) -> Callable[[Tensor], Sequence[Tensor | None]]:
    """How one operation shares the relevance of its output among its inputs, as a function that uses up that relevance.

    This is the formula of :mod:`resilience.lrp_ratios`: z, then R / z, then back through the weights, then times a. It is
    computed in place where it can be, since at this speed memory is what takes the time.
    """
    match step.operation:
        case Rectifier() if by_slope:
            return lambda relevance: step.operation.down(relevance, step)
        case Elementwise():
            return lambda relevance: (relevance,)
        case Product(value):
            return lambda relevance: tuple(relevance if index == value else None for index in range(2))
        case Sum() if rule:
            return _sharing_sum(step, rule)
        case Affine() as affine if rule:
            return _sharing_affine(affine, step, rule)
    return lambda relevance: step.operation.down(relevance, step)


def _sharing_affine(affine: Affine, step: Step, rule: Rule | Mixture) -> Callable[[Tensor], Sequence[Tensor]]:
    a = step.a
    ratios = []
    for factor, part in rule.parts:
        terms = part.terms(a, affine.weight, affine.bias)
        # A rule that leaves inputs and weights alone needs the z that the pass up has already computed.
        unchanged = len(terms) == 1 and terms[0][0] is a and terms[0][1] is affine.weight
        z = step.z if unchanged else sum((affine.product(*term) for term in terms[1:]), affine.product(*terms[0]))
        ratios.append((terms, _stabilise(z, part.stabiliser), factor))

    def share(relevance: Tensor) -> Sequence[Tensor]:
        parts = []
        for terms, stabilised, factor in ratios:
            ratio = _divided(relevance, stabilised) if len(ratios) == 1 else relevance / stabilised
            ratio = _times(ratio, factor, step)
            parts += [affine.transposed(ratio, weight, a).mul_(inputs) for inputs, weight, _ in terms]
        return (sum(parts[1:], parts[0]),)

    return share


def _sharing_sum(step: Step, rule: Rule | Mixture) -> Callable[[Tensor], Sequence[Tensor]]:
    """As of a layer whose weights are all one."""
    one = torch.ones((), dtype=step.a.dtype)
    ratios = []
    for factor, part in rule.parts:
        terms = [part.terms(a, one, None) for a in step.inputs]
        shares = [[inputs if weight is one else inputs * weight for inputs, weight, _ in of_input] for of_input in terms]
        summed = [sum(of_input[1:], of_input[0]) for of_input in shares]
        unchanged = all(ours is a for ours, a in zip(summed, step.inputs, strict=True))
        z = step.z if unchanged else sum(summed[1:], summed[0])
        ratios.append((summed, _stabilise(z, part.stabiliser), factor))

    def share(relevance: Tensor) -> Sequence[Tensor]:
        by_ratio = []
        for summed, stabilised, factor in ratios:
            ratio = _divided(relevance, stabilised) if len(ratios) == 1 else relevance / stabilised
            ratio = _times(ratio, factor, step)
            by_ratio.append([*(of_input * ratio for of_input in summed[:-1]), ratio.mul_(summed[-1])])
        return [sum(shares[1:], shares[0]) for shares in zip(*by_ratio, strict=True)]

    return share


def _times(ratio: Tensor, factor: Factor, step: Step) -> Tensor:
    """A ratio as often as it counts, in place."""
    if callable(factor):
        return ratio.mul_(factor(step.z))
    return ratio if factor == 1 else ratio.mul_(factor)


def _divided(relevance: Tensor, stabilised: Tensor) -> Tensor:
    """R / z, in the memory of R; elsewhere if that has gaps, as parts of a concatenation have: a product would copy it."""
    dense = relevance.is_contiguous() or relevance.is_contiguous(memory_format=torch.channels_last)
    return relevance.div_(stabilised) if dense else relevance / stabilised


def share_of_unit(step: Step, unit: Tensor, value: Tensor, rule: Rule | Mixture | None) -> Tensor:
    """The same for a single unit of each image that has all the relevance.

    Parameters
    ----------
    step
        A linear layer or convolution.
    unit
        Index [N] of the unit in the flattened output, channels last.
    value
        Its relevance [N].
    rule
        How relevance is shared.
    """
    affine, a = step.operation, step.a
    assert isinstance(affine, Affine)
    assert rule is not None
    shares = []
    for factor, part in rule.parts:
        terms = part.terms(a, affine.weight, affine.bias)
        parts = [affine.row(unit, weight, step).mul_(inputs) for inputs, weight, _ in terms]
        contributions = sum(parts[1:], parts[0])
        z = contributions.flatten(1).sum(1) + sum(
            (bias[unit % len(bias)] for *_, bias in terms if bias is not None), torch.zeros_like(value)
        )
        ratio = value / _stabilise(z, part.stabiliser)
        ratio = ratio * (factor(_at(step.z, unit)) if callable(factor) else factor)
        shares.append(contributions.mul_(ratio.view(-1, *[1] * (a.dim() - 1))))
    return sum(shares[1:], shares[0])


def strongest(activation: Tensor) -> Tensor:
    """Index [N] of the largest activation of each image in the flattened output, channels last."""
    if activation.dim() != 4:
        return activation.flatten(1).argmax(1)
    places = activation.permute(0, 2, 3, 1).flatten(1, 2)
    # First the place, then the channel there: two short searches are faster than a long one.
    place = places.amax(2).argmax(1)
    channel = places[torch.arange(len(places), device=places.device), place].argmax(1)
    return place * places.shape[2] + channel


def _end(graph: Graph, layer: str, starts: Starts) -> int:
    """The node whose output is explained: a layer's after the activation that follows it, or the network's."""
    return len(graph.nodes) - 1 if layer == starts.output else graph.node_of(layer)


def _begin(graph: Graph, layer: str, starts: Starts) -> int:
    """The node that relevance starts from: the one before that activation, whose slope is counted in."""
    end = _end(graph, layer, starts)
    return end if layer == starts.output else graph.before_activation(end)


def _unit(passed: Passed, layer: str, starts: Starts) -> Tensor:
    """Index [N] of the unit that a map explains: the class, or the strongest of the layer."""
    return starts.explained if layer == starts.output else strongest(passed.steps[_end(passed.graph, layer, starts)].z)


def _value(passed: Passed, place: int, layer: str, unit: Tensor, starts: Starts, by_slope: bool) -> Tensor:
    """Relevance [N] of one unit of a layer, its value or one, after it has passed the activation that follows."""
    end = _end(passed.graph, layer, starts)
    one = torch.ones_like(unit, dtype=passed.steps[place].a.dtype)
    value = one if starts.start == "one" else _at(passed.steps[end].z, unit)
    activation = passed.steps[end].operation
    if by_slope and end != place and isinstance(activation, Rectifier):
        value = torch.where(_at(passed.steps[place].z, unit) > 0, value, activation.slope * value)
    return value


def _of_units(passed: Passed, place: int, layer: str, starts: Starts, by_slope: bool) -> Tensor:
    """Relevance of a node's output where all of a layer is explained, or a unit of what is no linear layer."""
    if layer != starts.output and starts.unit == "all":
        end = _end(passed.graph, layer, starts)
        relevance = passed.steps[end].z
        counted = by_slope and end != place and isinstance(passed.steps[end].operation, Rectifier)
        return passed.steps[end].operation.down(relevance, passed.steps[end])[0] if counted else relevance.clone()
    unit = _unit(passed, layer, starts)
    here = one_hot(unit, passed.steps[place].z)
    value = _value(passed, place, layer, unit, starts, by_slope)
    return here * value.view(-1, *[1] * (here.dim() - 1))


def _at(output: Tensor, unit: Tensor) -> Tensor:
    """The values [N] of one unit of each image in an output, flattened with channels last."""
    flat = output.permute(0, 2, 3, 1).flatten(1) if output.dim() == 4 else output.flatten(1)
    return flat.gather(1, unit[:, None])[:, 0]


def _stabilise(z: Tensor, stabiliser: float) -> Tensor:
    """Value z moved away from zero by the stabiliser; its sign counts as +1 at 0.

    Without a stabiliser, z = 0 becomes infinite: a unit to which nothing contributes passes nothing on.
    """
    if stabiliser == 0:
        return z.masked_fill(z == 0, torch.inf)
    # The number stays on the CPU: a kernel of any device takes it as it is, and a copy would wait for all that runs there.
    return torch.copysign(torch.tensor(stabiliser, dtype=z.dtype), z).add_(z)
