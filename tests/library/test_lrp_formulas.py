"""Every rule and every operation of a graph against a slow version: explicit matrices, shared out number by number."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache

import pytest
import torch
from torch import nn
from torch.nn import functional

from resilience import lrp_rules
from resilience.explanations import lrp
from resilience.lrp_composites import AnyRule, Composite
from resilience.posterior import point
from tests.library.graph_networks import randomised

#: Large enough that no denominator is so near zero that rounding errors grow beyond the bound of the comparison.
STABILISER = 1e-2
CLASSES = 3


class Network(nn.Module):
    """All that relevance passes, drawn as steps that both torch and the slow version follow.

    ``affine`` is what is one matrix and has a rule, ``moving`` what moves values, ``each`` what passes value by value.
    """

    STEPS = (
        ("normalised", "each", ("images",)),
        ("stem", "affine", ("normalised",)),
        ("stem_relu", "each", ("stem",)),
        ("largest", "moving", ("stem_relu",)),
        ("first", "affine", ("largest",)),
        ("first_leaky", "each", ("first",)),
        ("second", "affine", ("first_leaky",)),
        ("shortcut", "moving", ("largest",)),
        ("residual", "sum", ("second", "shortcut")),
        ("residual_relu", "each", ("residual",)),
        ("left", "affine", ("residual_relu",)),
        ("right", "affine", ("residual_relu",)),
        ("both", "concatenation", ("left", "right")),
        ("unfolded", "each", ("both",)),
        ("smooth", "each", ("unfolded",)),
        ("squeezed", "affine", ("smooth",)),
        ("excited", "affine", ("squeezed",)),
        ("gate", "each", ("excited",)),
        ("gated", "gate", ("smooth", "gate")),
        ("flat", "moving", ("gated",)),
        ("logits", "affine", ("flat",)),
    )

    def __init__(self):
        super().__init__()
        self.register_buffer("mean", torch.tensor([0.4, 0.6]).view(2, 1, 1))
        self.register_buffer("deviation", torch.tensor([0.3, 0.2]).view(2, 1, 1))
        self.stem = nn.Sequential(nn.Conv2d(2, 3, 3, padding=1), nn.BatchNorm2d(3))
        self.stem_relu = nn.ReLU()
        self.largest = nn.MaxPool2d(2)
        self.first = nn.Sequential(nn.Conv2d(3, 3, 3, padding=1, bias=False), nn.BatchNorm2d(3))
        self.first_leaky = nn.LeakyReLU(0.2)
        self.second = nn.Sequential(nn.Conv2d(3, 5, (1, 3), (1, 2), (0, 1)), nn.BatchNorm2d(5))
        self.residual_relu = nn.ReLU()
        self.left = nn.Conv2d(5, 2, 1)
        self.right = nn.AvgPool2d(3, 1, 1)
        self.unfolded = nn.BatchNorm2d(7)
        self.smooth = nn.SiLU()
        self.squeezed = nn.AdaptiveAvgPool2d(1)
        self.excited = nn.Conv2d(7, 7, 1)
        self.gate = nn.Sigmoid()
        self.flat = nn.Flatten()
        self.logits = nn.Linear(7 * 3 * 2, CLASSES)

    def of(self, step: str) -> Callable[..., torch.Tensor]:
        functions = {
            "normalised": lambda a: (a - self.mean) / self.deviation,
            "shortcut": lambda a: functional.pad(a[:, :, :, ::2], (0, 0, 0, 0, 1, 1)),
            "residual": lambda a, b: a + b,
            "both": lambda *parts: torch.cat(parts, 1),
            "gated": lambda value, gate: value * gate,
        }
        return functions.get(step) or getattr(self, step)

    def values(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        values = {"images": x}
        for step, _, inputs in self.STEPS:
            values[step] = self.of(step)(*(values[name] for name in inputs))
        return values

    def bounds(self) -> torch.Tensor:
        """Between what the inputs of the stem lie, pixels being from 0 to 1: [inputs, 2]."""
        ends = [(torch.full((2, 6, 6), value) - self.mean) / self.deviation for value in (0.0, 1.0)]
        return torch.stack([end.flatten() for end in ends], 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.values(x)["logits"]


# ---------------------------------------------------------------- the slow version

Ratio = tuple[float, list[float], float, float]


def up(value: float) -> float:
    return max(value, 0.0)


def down(value: float) -> float:
    return min(value, 0.0)


def ratios(rule: str, a: list[float], w: list[float], b: float, bounds: Iterator[tuple[float, float]]) -> list[Ratio]:
    """For one output: how much each ratio counts, the terms of its inputs, that of the bias, and the stabiliser."""
    pairs = list(zip(a, w, strict=True))
    products = [a * w for a, w in pairs]
    positive = (1.0, [up(t) for t in products], up(b), STABILISER)
    negative = (1.0, [down(t) for t in products], down(b), STABILISER)
    z = sum(products) + b
    match rule:
        case "epsilon":
            return [(1.0, products, b, 0.1)]
        case "proportion":
            return [(1.0, products, b, 1e-6)]
        case "gamma":
            return [(1.0, [a * (w + 0.3 * up(w)) for a, w in pairs], b + 0.3 * up(b), STABILISER)]
        case "squared_gamma":
            return [(1.0, [a * (w + 0.3 * w * up(w)) for a, w in pairs], b + 0.3 * b * up(b), STABILISER)]
        case "alpha1beta0" | "zplus":
            return [positive]
        case "alpha1beta0_without_bias":
            return [(1.0, positive[1], 0.0, STABILISER)]
        case "alpha_beta":
            return [(1.7, *positive[1:]), (-0.7, *negative[1:])]
        case "generalised_gamma" if z > 0:
            return [(1.0, [t + 0.3 * up(t) for t in products], b + 0.3 * up(b), STABILISER)]
        case "generalised_gamma":
            return [(1.0, [t + 0.3 * down(t) for t in products], b + 0.3 * down(b), STABILISER)]
        case "w_square":
            return [(1.0, [w * w for w in w], 0.0, STABILISER)]
        case "flat":
            return [(1.0, [float(w != 0) for w in w], 0.0, STABILISER)]
        case "zbox":
            terms = [a * w - low * up(w) - high * down(w) for (a, w), (low, high) in zip(pairs, bounds, strict=True)]
            return [(1.0, terms, 0.0, STABILISER)]
    raise AssertionError(rule)


def shared(rule: str, a: torch.Tensor, w: torch.Tensor, b: torch.Tensor, relevance: torch.Tensor, bounds: torch.Tensor):
    """Relevance of inputs [J] from that of outputs [K], by a matrix [K, J]."""
    found = [0.0] * len(a)
    for of_output, bias, owed in zip(w.tolist(), b.tolist(), relevance.tolist(), strict=True):
        if owed == 0:
            continue
        for factor, terms, of_bias, stabiliser in ratios(rule, a.tolist(), of_output, bias, bounds.tolist()):
            total = sum(terms) + of_bias
            total += stabiliser if total >= 0 else -stabiliser
            for place, term in enumerate(terms):
                found[place] += factor * term / total * owed
    return torch.tensor(found, dtype=torch.float64)


def matrix(network: Network, step: str, a: torch.Tensor) -> torch.Tensor:
    """The slopes [outputs, inputs] of a step at its input."""
    found = torch.autograd.functional.jacobian(network.of(step), a)
    return found.view(-1, a.numel())


@cache
def affine(network: Network, step: str, shape: torch.Size) -> tuple[torch.Tensor, torch.Tensor]:
    """A step as a matrix [outputs, inputs] and a bias [outputs]."""
    nothing = torch.zeros(shape, dtype=torch.float64)
    return matrix(network, step, nothing), network.of(step)(nothing).flatten()


@cache
def network_with(seed: int) -> Network:
    return randomised(Network(), seed).requires_grad_(False)


def slow_map(network: Network, image: torch.Tensor, end: str, begin: torch.Tensor, rules: dict[str, str]) -> torch.Tensor:
    """Relevance of one image from that of a step, by the rule of each step or else that of ``all``."""
    values = network.values(image[None])
    relevance = {name: torch.zeros_like(value) for name, value in values.items()}
    relevance[end] = begin
    for step, kind, inputs in reversed(network.STEPS):
        a, here = [values[name] for name in inputs], relevance[step]
        rule = rules.get(step, rules["all"])
        match kind:
            case "each":
                parts = [here]
            case "gate":
                parts = [here, torch.zeros_like(a[1])]
            case "concatenation":
                parts = list(here.split([value.shape[1] for value in a], 1))
            case "sum":
                stacked = torch.stack([value.flatten() for value in a], 1)
                ones, none = torch.ones(1, len(a), dtype=torch.float64), torch.zeros(1, dtype=torch.float64)
                rows = [
                    shared(rules.get(step, "proportion"), row, ones, none, owed[None], torch.zeros(len(a), 2))
                    for row, owed in zip(stacked, here.flatten(), strict=True)
                ]
                parts = [part.view_as(here) for part in torch.stack(rows, 1)]
            case _:
                if kind == "moving":
                    parts = [(here.flatten() @ matrix(network, step, a[0])).view_as(a[0])]
                else:
                    w, bias = affine(network, step, a[0].shape)
                    bounds = network.bounds() if step == "stem" else torch.zeros(a[0].numel(), 2)
                    parts = [shared(rule, a[0].flatten(), w, bias, here.flatten(), bounds).view_as(a[0])]
        for name, part in zip(inputs, parts, strict=True):
            relevance[name] = relevance[name] + part
    return relevance["images"][0]


# ---------------------------------------------------------------- the comparison

SAME = {"stabiliser": STABILISER}
EVERYWHERE: dict[str, AnyRule] = {
    "epsilon": lrp_rules.epsilon(epsilon=0.1),
    "gamma": lrp_rules.gamma(gamma=0.3, **SAME),
    "squared_gamma": lrp_rules.squared_gamma(gamma=0.3, **SAME),
    "alpha1beta0": lrp_rules.alpha1beta0(**SAME),
    "alpha1beta0_without_bias": lrp_rules.alpha1beta0_without_bias(**SAME),
    "zplus": lrp_rules.zplus(**SAME),
    "alpha_beta": lrp_rules.alpha_beta(alpha=1.7, beta=0.7, **SAME),
    "generalised_gamma": lrp_rules.generalised_gamma(gamma=0.3, **SAME),
    "w_square": lrp_rules.w_square(**SAME),
    "flat": lrp_rules.flat(**SAME),
}
BOX = lrp_rules.zbox(**SAME)
#: Ours, and by step the rule that is meant.
COMPOSITES: dict[str, tuple[Composite, dict[str, str]]] = {
    "by kind": (
        Composite(
            first=BOX,
            convolution=EVERYWHERE["generalised_gamma"],
            linear=EVERYWHERE["epsilon"],
            pooling=EVERYWHERE["flat"],
            sum=EVERYWHERE["zplus"],
        ),
        {
            "all": "generalised_gamma",
            "stem": "zbox",
            "logits": "epsilon",
            "right": "flat",
            "squeezed": "flat",
            "residual": "zplus",
        },
    ),
    "sums by two ratios": (
        Composite(convolution=EVERYWHERE["zplus"], sum=EVERYWHERE["alpha_beta"]),
        {"all": "zplus", "residual": "alpha_beta", "right": "proportion", "squeezed": "proportion", "logits": "proportion"},
    ),
    "by name": (
        Composite(
            convolution=EVERYWHERE["epsilon"],
            linear=EVERYWHERE["epsilon"],
            layers={
                "second": EVERYWHERE["alpha_beta"],
                "right": EVERYWHERE["gamma"],
                "first": EVERYWHERE["flat"],
                "first.1": EVERYWHERE["zplus"],
                "stem": BOX,
            },
        ),
        {
            "all": "epsilon",
            "second": "alpha_beta",
            "right": "gamma",
            "first": "zplus",
            "stem": "zbox",
            "squeezed": "proportion",
        },
    ),
}
CASES = {
    **{name: (rule, {"all": name}) for name, rule in EVERYWHERE.items()},
    **COMPOSITES,
}


def begin_of(activation: torch.Tensor, unit: str, start: str, label: int | None) -> torch.Tensor:
    """The relevance that propagation starts from."""
    if unit == "all" and label is None:
        return activation
    chosen = torch.zeros_like(activation).flatten()
    place = int(activation.argmax()) if label is None else label
    chosen[place] = activation.flatten()[place] if start == "value" else 1.0
    return chosen.view_as(activation)


@pytest.mark.parametrize(("unit", "start"), [("strongest", "one"), ("all", "one"), ("strongest", "value")])
@pytest.mark.parametrize("case", CASES)
def test_every_rule_and_composite_equals_its_formula(case, unit, start):
    rule, rules = CASES[case]
    network = network_with(5)
    x = torch.rand(2, 2, 6, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    #: By name what is explained: the step whose output it is, the activation behind the layer if one follows.
    layers = {"stem": "stem_relu", "second": "second", "right": "right", "unfolded": "smooth", "output": "logits"}
    found = lrp.heat_maps(point(network), x, torch.tensor([2, 0]), rule, tuple(layers), unit, start)
    for layer, step in layers.items():
        for image, label, fast in zip(x, (2, 0), found[layer], strict=True):
            activation = network.values(image[None])[step]
            begin = begin_of(activation, unit, start, label if layer == "output" else None)
            slow = slow_map(network, image, step, begin, rules)
            torch.testing.assert_close(fast, slow, rtol=0, atol=1e-11 * max(1e-3, float(slow.abs().max())), msg=layer)


def test_a_network_reads_its_parts_as_the_slow_version_does():
    """Otherwise a folded normalisation, a gate or a shortcut would not be what is compared above."""
    from resilience.graphs import graphs_of

    (graph,) = graphs_of(point(network_with(5)), (2, 6, 6))
    kinds = [type(node.operation).__name__ for node in graph.nodes]
    assert kinds.count("Scaling") == 3  # two of the normalisation of pixels, one of the batch that cannot be folded
    assert {"Sum", "Product", "Concatenation", "MaxPool", "AveragePool", "Smooth", "Rearrangement"} <= set(kinds)
