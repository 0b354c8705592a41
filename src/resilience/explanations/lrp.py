"""Layer-wise Relevance Propagation through one draw of a network's weights (paper, Sec. IV-A and VII-D).

How a layer with weights shares relevance is said by a rule (:mod:`resilience.lrp_rules`). Activations and flattening pass
relevance on unchanged, max-pooling gives it to the winner, and average-pooling is a linear layer with constant weights.
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
from resilience.lrp_rules import Rule
from resilience.networks import learnable_layers
from resilience.parameters import RuleEntry
from resilience.posterior import Posterior
from resilience.stacks import Activation, Affine, Layer, Step, activation_gradient, pass_down, trace


@entry()
def lrp(
    stack: Sequence[Layer],
    x: Tensor,
    explained: Tensor,
    layers: Sequence[int],
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
        How layers share relevance among their inputs.
    unit
        What a map of an inner layer explains: its most active unit, or all of its activations.
    start
        The relevance that propagation starts from at the explained unit: one, or the unit's value.
    activations
        Whether activations pass relevance on unchanged, or times their slope as the published code does.
    """
    chosen: Rule = catalog.bound("rules", rule)()
    chosen = replace(chosen, by_slope=activations == "slope")
    return sweep(stack, x, chosen, Starts(layers, layers[-1], explained, unit, start))


def heat_maps(
    posterior: Posterior,
    x: Tensor,
    explained: Tensor,
    rule: Rule,
    layers: Sequence[int],
    unit: Literal["strongest", "all"] = "strongest",
    start: Literal["one", "value"] = "one",
) -> dict[int, Tensor]:
    """Mean over draws of the heat maps that explain some of the layers at the input (paper, Sec. IV-A: E_w[R(x, w)]).

    Parameters
    ----------
    posterior, x, explained
        See :func:`resilience.explain.explain`.
    rule
        How relevance is shared.
    layers
        Indices of the learnable layers to explain. The last one of the network stands for its output.
    unit, start
        See :func:`lrp`.

    Returns
    -------
    dict
        Relevance [N, C, H, W] of the input for each layer.

    Raises
    ------
    LayerError
        If the network has a layer that relevance cannot pass.
    """
    output = learnable_layers(posterior.network)[-1]

    def of_draw(stack: Sequence[Layer], x: Tensor, explained: Tensor, layers: Sequence[int], **_: object) -> Tensor:
        return sweep(stack, x, rule, Starts(layers, output, explained, unit, start))

    return dict(zip(layers, explain(posterior, x, explained, of_draw, layers), strict=True))


@dataclass(frozen=True)
class Starts:
    """Where relevance starts from: a class at the output, for which layer ``output`` stands, and units of other layers."""

    layers: Sequence[int]
    output: int
    explained: Tensor
    unit: Literal["strongest", "all"]
    start: Literal["one", "value"]


def sweep(stack: Sequence[Layer], x: Tensor, rule: Rule, starts: Starts) -> Tensor:
    """Relevance [len(starts.layers), N, C, H, W] of the input in one draw, for all layers in one pass down the stack.

    Propagation is linear in the relevance, so the layers that are explained share the pass: each joins it where it ends. A
    single unit is first shared among its own inputs, which in a convolution are few.
    """
    passed = trace(stack, x)
    relevance: dict[int, Tensor] = {}
    if starts.output in starts.layers and _end(passed, starts.output) < len(stack) - 1:
        relevance[starts.output] = _of_class(passed[-1].z, starts)
    for index in reversed(range(len(stack))):
        if index in starts.layers and starts.unit == "all" and index != starts.output:
            relevance[index] = _before_activation(passed, index, _activation(passed, index), rule).clone()
        if relevance:
            share = sharing(passed[index], rule)
            relevance = {layer: share(outputs) for layer, outputs in relevance.items()}
        if index in starts.layers and index not in relevance:
            unit = starts.explained if index == starts.output else strongest(_activation(passed, index))
            relevance[index] = share_of_unit(passed[index], unit, _value(passed, index, unit, starts.start, rule), rule)
    return torch.stack([relevance[layer] for layer in starts.layers])


def sharing(step: Step, rule: Rule) -> Callable[[Tensor], Tensor]:
    """How one layer shares the relevance of its outputs among its inputs, as a function that uses up that relevance.

    This is the formula at the head of the module: z, then R / z, then back through the weights, then times a. It is computed
    in place where it can be, since at this speed memory is what takes the time.
    """
    layer, a = step.layer, step.a
    if isinstance(layer, Activation):
        return (lambda relevance: activation_gradient(step, relevance)) if rule.by_slope else (lambda relevance: relevance)
    if not isinstance(layer, Affine):
        return lambda relevance: pass_down(step, relevance)
    terms = rule.terms(a, layer.weight, layer.bias)
    # A rule that leaves inputs and weights alone needs the z that the pass up has already computed.
    unchanged = len(terms) == 1 and terms[0][0] is a and terms[0][1] is layer.weight
    z = step.z if unchanged else sum((layer.product(*term) for term in terms[1:]), layer.product(*terms[0]))
    stabilised = _stabilise(z, rule)

    def share(relevance: Tensor) -> Tensor:
        ratio = relevance.div_(stabilised)
        parts = [layer.transposed(ratio, weight, a).mul_(inputs) for inputs, weight, _ in terms]
        return sum(parts[1:], parts[0])

    return share


def share_of_unit(step: Step, unit: Tensor, value: Tensor, rule: Rule) -> Tensor:
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
    layer, a = step.layer, step.a
    assert isinstance(layer, Affine)
    terms = rule.terms(a, layer.weight, layer.bias)
    parts = [layer.row(unit, weight, step).mul_(inputs) for inputs, weight, _ in terms]
    contributions = sum(parts[1:], parts[0])
    z = contributions.flatten(1).sum(1) + sum(
        (bias[unit % len(bias)] for *_, bias in terms if bias is not None), torch.zeros_like(value)
    )
    factor = value / _stabilise(z, rule)
    return contributions.mul_(factor.view(-1, *[1] * (a.dim() - 1)))


def strongest(activation: Tensor) -> Tensor:
    """Index [N] of the largest activation of each image in the flattened output, channels last."""
    if activation.dim() == 2:
        return activation.argmax(1)
    places = activation.permute(0, 2, 3, 1).flatten(1, 2)
    # First the place, then the channel there: two short searches are faster than a long one.
    place = places.amax(2).argmax(1)
    channel = places[torch.arange(len(places), device=places.device), place].argmax(1)
    return place * places.shape[2] + channel


def _activation(passed: Sequence[Step], index: int) -> Tensor:
    """Output of a layer after the activation that follows it, if one does."""
    return passed[_end(passed, index)].z


def _end(passed: Sequence[Step], index: int) -> int:
    """Index of the activation that follows a layer, or of the layer if none does."""
    return index + (index + 1 < len(passed) and isinstance(passed[index + 1].layer, Activation))


def _before_activation(passed: Sequence[Step], index: int, relevance: Tensor, rule: Rule) -> Tensor:
    """Relevance of a layer's output from that of the activation that follows it, if one does and has a say."""
    end = _end(passed, index)
    return activation_gradient(passed[end], relevance) if rule.by_slope and end != index else relevance


def _of_class(logits: Tensor, starts: Starts) -> Tensor:
    """Relevance [N, classes] of the network's output: one, or the logit's value, at the explained class alone."""
    here = torch.zeros_like(logits).scatter(1, starts.explained[:, None], 1.0)
    return here if starts.start == "one" else here * logits


def _value(passed: Sequence[Step], index: int, unit: Tensor, start: Literal["one", "value"], rule: Rule) -> Tensor:
    """Relevance [N] of one unit of a layer, its value or one, after it has passed the activation that follows."""
    value = _at(_activation(passed, index), unit) if start == "value" else torch.ones_like(unit, dtype=passed[index].a.dtype)
    end = _end(passed, index)
    if rule.by_slope and end != index:
        layer = passed[end].layer
        assert isinstance(layer, Activation)
        value = torch.where(_at(passed[index].z, unit) > 0, value, layer.slope * value)
    return value


def _at(output: Tensor, unit: Tensor) -> Tensor:
    """The values [N] of one unit of each image in an output, flattened with channels last."""
    flat = output if output.dim() == 2 else output.permute(0, 2, 3, 1).flatten(1)
    return flat.gather(1, unit[:, None])[:, 0]


def _stabilise(z: Tensor, rule: Rule) -> Tensor:
    """Value z moved away from zero by the stabiliser; its sign counts as +1 at 0.

    Without a stabiliser, z = 0 becomes infinite: a unit to which nothing contributes passes nothing on.
    """
    if rule.stabiliser == 0:
        return z.masked_fill(z == 0, torch.inf)
    # The number stays on the CPU: a kernel of any device takes it as it is, and a copy would wait for all that runs there.
    return torch.copysign(torch.tensor(rule.stabiliser, dtype=z.dtype), z).add_(z)
