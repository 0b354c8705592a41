"""Layer-wise Relevance Propagation over draws of a network's weights.

The rules are those of Montavon et al. 2019, "Layer-Wise Relevance Propagation: An Overview", Sec. 10.2 (the paper's
Sec. VII-D): with a the input of a layer, w its weights, b its bias and R_k the relevance of its outputs,

    R_j = Σ_k  a_j ρ(w_jk) / (ε + Σ_{0,j} a_j ρ(w_jk))  R_k ,   where a_0 = 1 and w_0k = b_k.

A rule says what ρ and ε are. Activations and flattening pass relevance on unchanged, max-pooling gives it to the winner,
and average-pooling is a linear layer with constant weights.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from resilience import networks
from resilience.catalog import entry
from resilience.networks import Weights
from resilience.parameters import NonNegative, Positive
from resilience.posterior import Posterior, predict
from resilience.progress import track

Explained = Literal["predicted", "clean", "own"]
#: One summand of z = Σ a_j ρ(w_jk): an input, a weight and a bias.
Term = tuple[Tensor, Tensor, Tensor | None]


class LayerError(TypeError):
    """A layer that relevance cannot be propagated through. The message names it."""


@dataclass(frozen=True)
class Rule:
    """How one layer shares relevance among its inputs: the terms of z, and the stabiliser of the division by z."""

    terms: Callable[[Tensor, Tensor, Tensor | None], list[Term]]
    stabiliser: float


@entry()
def epsilon(*, epsilon: Positive = 0.1) -> Rule:
    """Epsilon rule: R_j = Σ_k a_j w_jk / (z_k + ε sign z_k) R_k (Montavon et al. 2019, Sec. 10.2.1)."""
    return Rule(lambda a, w, b: [(a, w, b)], epsilon)


@entry()
def gamma(*, gamma: NonNegative = 0.1, stabiliser: Positive = 1e-6) -> Rule:
    """Gamma rule: ρ(w) = w + γ w⁺, for the bias too (Montavon et al. 2019, Sec. 10.2.1)."""

    def terms(a: Tensor, w: Tensor, b: Tensor | None) -> list[Term]:
        return [(a, w + gamma * w.clamp(min=0), None if b is None else b + gamma * b.clamp(min=0))]

    return Rule(terms, stabiliser)


@entry()
def alpha1beta0(*, stabiliser: Positive = 1e-6) -> Rule:
    """Alpha-beta rule with α = 1, β = 0: only positive contributions count (Montavon et al. 2019, Sec. 10.2.3).

    The contribution of an input is (a_j w_jk)⁺ = a_j⁺ w_jk⁺ + a_j⁻ w_jk⁻, that of the bias b_k⁺.
    """

    def terms(a: Tensor, w: Tensor, b: Tensor | None) -> list[Term]:
        positive = (a.clamp(min=0), w.clamp(min=0), None if b is None else b.clamp(min=0))
        return [positive, (a.clamp(max=0), w.clamp(max=0), None)]

    return Rule(terms, stabiliser)


@torch.no_grad()
def explained_classes(choice: Explained, posterior: Posterior, x: Tensor, clean: Tensor) -> Tensor:
    """The classes whose logits are explained.

    Parameters
    ----------
    choice
        ``predicted``: the class that the posterior predictive gives to ``x``. ``clean``: the one that it gives to the clean
        images, so that an attack cannot change what is explained. ``own``: the one that each draw gives to ``x``.
    posterior
        S draws.
    x, clean
        Images [N, C, H, W], and the same before the attack.

    Returns
    -------
    Tensor
        [N], or [S, N] for ``own``.
    """
    if choice == "own":
        return torch.stack([networks.logits(posterior.network, weights, x).argmax(1) for weights in posterior])
    return predict(posterior, clean if choice == "clean" else x).argmax(1)


@torch.no_grad()
def heat_maps(
    posterior: Posterior,
    x: Tensor,
    explained: Tensor,
    rule: Rule,
    layers: Sequence[int],
    unit: Literal["strongest", "all"] = "strongest",
    start: Literal["one", "value"] = "one",
    chunk: int = 128,
) -> dict[int, Tensor]:
    """Mean over draws of the heat maps that explain each layer at the input (paper, Sec. IV-A: E_w[R(x, w)]).

    Parameters
    ----------
    posterior
        S draws of a stack of layers.
    x
        Images [N, C, H, W] in [0, 1].
    explained
        Class whose logit the map of the last layer explains: [N], or [S, N] for another one in each draw.
    rule
        How relevance is shared.
    layers
        Indices of the layers to explain. The last layer of the stack stands for the output; a map of an inner layer
        explains that layer after its activation, in each draw.
    unit
        What a map of an inner layer explains: its strongest unit, or all of its activations.
    start
        Relevance that propagation starts from at the explained unit: one, or the unit's value.
    chunk
        Number of images that are held in memory at a time.

    Returns
    -------
    dict
        Relevance [N, C, H, W] of the input for each layer.

    Raises
    ------
    LayerError
        If the stack has a layer that relevance cannot be propagated through.
    """
    refuse_unknown_layers(posterior.network)
    classes = explained.expand(len(posterior), len(x))
    total = torch.zeros(len(layers), *x.shape, dtype=x.dtype, device=x.device)
    for index, weights in enumerate(track(posterior, "heat maps", total=len(posterior))):
        for first in range(0, len(x), chunk):
            part = slice(first, first + chunk)
            starts = Starts(layers, classes[index, part], unit, start)
            total[:, part] += sweep(posterior.network, weights, x[part], rule, starts)
    return dict(zip(layers, total / len(posterior), strict=True))


@dataclass(frozen=True)
class Starts:
    """Where relevance starts from: a class at the output, one unit or all units of inner layers."""

    layers: Sequence[int]
    explained: Tensor
    unit: Literal["strongest", "all"]
    start: Literal["one", "value"]

    def at(self, activation: Tensor, is_output: bool) -> Tensor:
        """Relevance of the same shape [N, …] as the activation of a layer."""
        flat = activation.flatten(1)
        if not is_output and self.unit == "all":
            return activation
        chosen = (self.explained if is_output else flat.argmax(1))[:, None]
        value = flat.gather(1, chosen) if self.start == "value" else torch.ones_like(chosen, dtype=flat.dtype)
        return torch.zeros_like(flat).scatter(1, chosen, value).view_as(activation)


def sweep(network: nn.Sequential, weights: Weights, x: Tensor, rule: Rule, starts: Starts) -> Tensor:
    """Relevance [len(starts.layers), N, C, H, W] of the input in one draw, all layers in one pass down the stack.

    Propagation is linear in the relevance, so the relevance of every layer that is explained joins the pass where that
    layer ends, as one more row of a stack.
    """
    activations = [x]
    for index, layer in enumerate(network):
        activations.append(_forward(layer, _of_layer(weights, index), activations[-1]))
    ends = {networks.end_of(network, layer): layer for layer in starts.layers}
    order: list[int] = []
    relevance = x.new_zeros(0, *activations[-1].shape)
    for index in reversed(range(len(network))):
        if index + 1 in ends:
            order.append(ends[index + 1])
            begin = starts.at(activations[index + 1], is_output=index + 1 == len(network))
            relevance = torch.cat([relevance, begin[None]])
        relevance = propagate(network[index], _of_layer(weights, index), activations[index], relevance, rule)
    return relevance[[order.index(layer) for layer in starts.layers]]


def propagate(layer: nn.Module, parameters: Weights, a: Tensor, relevance: Tensor, rule: Rule) -> Tensor:
    """Relevance [T, N, …] of the inputs of one layer from that of its outputs.

    Parameters
    ----------
    layer
        A layer of the stack.
    parameters
        Its ``weight`` and ``bias``, if it has any.
    a
        Its input [N, …].
    relevance
        T rows of relevance of its output.
    rule
        How relevance is shared.
    """
    rows = len(relevance)
    match layer:
        case nn.ReLU() | nn.LeakyReLU():
            return relevance
        case nn.Flatten():
            return relevance.view(rows, *a.shape)
        case nn.MaxPool2d():
            return _to_winners(layer, a, relevance)
    product = Product.of(layer, parameters, a)
    terms = rule.terms(a, product.weight, product.bias)
    z = sum((product.forward(*term) for term in terms[1:]), product.forward(*terms[0]))
    ratio = (relevance / (z + rule.stabiliser * _sign(z))).flatten(0, 1)
    return sum(
        (term_a * product.backward(ratio, w, a.shape[1:]).view(rows, *a.shape) for term_a, w, _ in terms),
        torch.zeros((), dtype=a.dtype, device=a.device),
    )


@dataclass(frozen=True)
class Product:
    """A linear layer as a product with its weights, forwards and backwards, so that a rule can change the weights."""

    weight: Tensor
    bias: Tensor | None
    convolution: dict[str, object] | None

    @staticmethod
    def of(layer: nn.Module, parameters: Weights, a: Tensor) -> Product:
        """The product that a layer computes. Average-pooling is a convolution of each channel with constant weights."""
        match layer:
            case nn.Linear():
                return Product(parameters["weight"], parameters.get("bias"), None)
            case nn.Conv2d():
                keys = ("stride", "padding", "dilation", "groups")
                return Product(parameters["weight"], parameters.get("bias"), {key: getattr(layer, key) for key in keys})
            case nn.AvgPool2d():
                height, width = _pair(layer.kernel_size)
                weight = a.new_full((a.shape[1], 1, height, width), 1 / (height * width))
                shape = {"stride": layer.stride, "padding": layer.padding, "dilation": 1, "groups": a.shape[1]}
                return Product(weight, None, shape)
        raise LayerError(f"relevance cannot be propagated through {type(layer).__name__}")

    def forward(self, a: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """z_k = Σ_j a_j w_jk + b_k, for a [N, …]."""
        if self.convolution is None:
            return functional.linear(a, weight, bias)
        return functional.conv2d(a, weight, bias, **self.convolution)  # type: ignore[arg-type]

    def backward(self, s: Tensor, weight: Tensor, shape: torch.Size) -> Tensor:
        """c_j = Σ_k w_jk s_k, for s [N, …] and inputs of ``shape`` without the axis of images."""
        if self.convolution is None:
            return s @ weight
        return nn.grad.conv2d_input((len(s), *shape), weight, s, **self.convolution)  # type: ignore[arg-type]


def refuse_unknown_layers(network: nn.Module) -> None:
    """Raise a :class:`LayerError` that names the first layer that no rule knows."""
    if not isinstance(network, nn.Sequential):
        raise LayerError(f"relevance is propagated through stacks of layers, not through {type(network).__name__}")
    for index, layer in enumerate(network):
        known = (nn.Linear, nn.Conv2d, nn.ReLU, nn.LeakyReLU, nn.MaxPool2d, nn.AvgPool2d, nn.Flatten)
        if type(layer) not in known:
            names = ", ".join(kind.__name__ for kind in known)
            raise LayerError(f"layer {index} is {type(layer).__name__}; relevance is propagated through {names} only")
        if isinstance(layer, nn.Conv2d) and (layer.padding_mode != "zeros" or isinstance(layer.padding, str)):
            raise LayerError(f"layer {index}: Conv2d is supported with padding in numbers and zeros around the image")
        if isinstance(layer, nn.AvgPool2d) and (layer.ceil_mode or not layer.count_include_pad or layer.divisor_override):
            raise LayerError(f"layer {index}: AvgPool2d is supported without ceil_mode and divisors of its own")
        if isinstance(layer, nn.MaxPool2d) and layer.return_indices:
            raise LayerError(f"layer {index}: MaxPool2d with return_indices has two outputs")


def _forward(layer: nn.Module, parameters: Weights, a: Tensor) -> Tensor:
    return torch.func.functional_call(layer, parameters, (a,)) if parameters else layer(a)


def _of_layer(weights: Weights, index: int) -> Weights:
    prefix = f"{index}."
    return {name.removeprefix(prefix): value for name, value in weights.items() if name.startswith(prefix)}


def _to_winners(layer: nn.MaxPool2d, a: Tensor, relevance: Tensor) -> Tensor:
    """Max-pooling gives all relevance to the largest input of each window."""
    window = [_pair(size) for size in (layer.kernel_size, layer.stride, layer.padding, layer.dilation)]
    _, winners = functional.max_pool2d_with_indices(a, *window, layer.ceil_mode)
    to_winners = torch.ops.aten.max_pool2d_with_indices_backward
    return torch.stack([to_winners(row, a, *window, layer.ceil_mode, winners) for row in relevance])


def _sign(z: Tensor) -> Tensor:
    """Sign of z, +1 at 0, so that the stabiliser never cancels."""
    return torch.where(z < 0, -1.0, 1.0).to(z.dtype)


def _pair(value: int | tuple[int, ...]) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else (value[0], value[1])
