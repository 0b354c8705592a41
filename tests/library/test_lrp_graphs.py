"""LRP through residual, concatenated and batch-normalised networks equals zennit's, in double precision."""

from __future__ import annotations

from functools import cache

import pytest
import torch
from torch import nn
from zennit.attribution import Gradient
from zennit.canonizers import Canonizer
from zennit.composites import (
    EpsilonAlpha2Beta1,
    EpsilonAlpha2Beta1Flat,
    EpsilonGammaBox,
    EpsilonPlus,
    EpsilonPlusFlat,
    LayerMapComposite,
    SpecialFirstLayerMapComposite,
    layer_map_base,
)
from zennit.core import Hook
from zennit.rules import AlphaBeta, Epsilon, Gamma, WSquare, ZPlus
from zennit.torchvision import ResNetCanonizer
from zennit.types import AvgPool, Linear

from resilience import lrp_rules
from resilience.explanations import lrp
from resilience.lrp_composites import AnyRule, Composite
from resilience.lrp_ratios import LayerRule
from resilience.posterior import point
from tests.library.graph_networks import CLASSES, NETWORKS, randomised, trained
from tests.library.test_lrp import TextbookGamma

#: Relative to the largest relevance of a map.
AGREES = 1e-10


def weighted(rule: LayerRule) -> Composite:
    """A rule for all layers with weights; sums and poolings share in proportion."""
    return Composite(convolution=rule, linear=rule)


def theirs(rule: Hook) -> LayerMapComposite:
    return LayerMapComposite([*layer_map_base(), (Linear, rule)])


def first(rule: Hook, others: Hook) -> LayerMapComposite:
    return SpecialFirstLayerMapComposite([*layer_map_base(), (Linear, others)], [(Linear, rule)])


EPSILON, TENTH = lrp_rules.epsilon(epsilon=0.1), {"rule": "epsilon", "epsilon": 0.1}
#: Ours, and zennit's.
RULES: dict[str, tuple[AnyRule, LayerMapComposite]] = {
    "epsilon": (EPSILON, LayerMapComposite([(AvgPool, Epsilon(0.1)), *layer_map_base(), (Linear, Epsilon(0.1))])),
    "gamma": (weighted(lrp_rules.gamma(gamma=0.3)), theirs(TextbookGamma(0.3, 1e-6))),
    "generalised_gamma": (weighted(lrp_rules.generalised_gamma(gamma=0.3)), theirs(Gamma(0.3))),
    "zplus": (lrp_rules.zplus(), theirs(ZPlus())),
    "alpha2beta1": (weighted(lrp_rules.alpha_beta()), theirs(AlphaBeta(2, 1))),
    "alpha1.5beta0.5": (weighted(lrp_rules.alpha_beta(alpha=1.5, beta=0.5)), theirs(AlphaBeta(1.5, 0.5))),
    "epsilon_plus": (lrp_rules.epsilon_plus(), EpsilonPlus()),
    "epsilon_plus_flat": (lrp_rules.epsilon_plus_flat(), EpsilonPlusFlat()),
    "epsilon_alpha2_beta1": (lrp_rules.epsilon_alpha2_beta1(), EpsilonAlpha2Beta1()),
    "epsilon_alpha2_beta1_flat": (lrp_rules.epsilon_alpha2_beta1_flat(), EpsilonAlpha2Beta1Flat()),
    "epsilon_gamma_box": (lrp_rules.epsilon_gamma_box(), EpsilonGammaBox(low=0.0, high=1.0)),
    "w_square": (
        lrp_rules.composite(first={"rule": "w_square"}, convolution=TENTH, linear=TENTH),
        first(WSquare(zero_params=["bias"]), Epsilon(0.1)),
    ),
}
#: Of the networks that are quick to explain; the others get these.
LARGE = {
    "random": ["epsilon", "generalised_gamma", "alpha2beta1", "epsilon_gamma_box"],
    "trained": ["gamma", "epsilon_alpha2_beta1_flat"],
}
CASES = [
    (name, rule, weights)
    for name in NETWORKS
    for weights in LARGE
    for rule in (RULES if name in ("resnet20", "inception") else LARGE[weights])
]


@cache
def network(name: str, weights: str) -> nn.Module:
    build, side, _ = NETWORKS[name]
    torch.manual_seed(0)
    made = randomised(build(), 0)
    return trained(made, side) if weights == "trained" else made


def of_zennit(canonizer: Canonizer, made: nn.Module, x: torch.Tensor, start: torch.Tensor, composite: LayerMapComposite):
    composite.canonizers = [canonizer]
    with Gradient(made, composite) as attributor:
        return attributor(x.clone(), start)[1]


def images(name: str, count: int = 1) -> torch.Tensor:
    side = NETWORKS[name][1]
    return torch.rand(count, 3, side, side, generator=torch.Generator().manual_seed(3), dtype=torch.float64)


@pytest.mark.parametrize(("name", "rule", "weights"), CASES)
def test_every_rule_equals_zennit(name, rule, weights):
    ours, peers = RULES[rule]
    made, x, explained = network(name, weights), images(name), torch.tensor([1])
    found = lrp.heat_maps(point(made), x, explained, ours, ("output",))["output"]
    peer = of_zennit(NETWORKS[name][2](), made, x, nn.functional.one_hot(explained, CLASSES).double(), peers)
    assert (found - peer).abs().amax() < AGREES * peer.abs().amax()


@pytest.mark.parametrize("unit", ["strongest", "all"])
@pytest.mark.parametrize("rule", ["epsilon", "epsilon_gamma_box"])
@pytest.mark.parametrize("layer", ["layer2", "layer2.0.conv1"])
def test_inner_layers_are_explained_by_name(layer, rule, unit):
    """As the end of a network that stops there, after the activation."""
    ours, peers = RULES[rule]
    made, x = network("resnet18", "random"), images("resnet18")
    below = [made.conv1, made.bn1, made.relu, made.maxpool, made.layer1]
    block = made.layer2[0]
    truncated = nn.Sequential(*below, *([made.layer2] if layer == "layer2" else [block.conv1, block.bn1, nn.ReLU()]))
    found = lrp.heat_maps(point(made), x, torch.tensor([1]), ours, (layer, "output"), unit)[layer]
    activation = truncated(x).detach()
    largest = torch.zeros_like(activation).flatten().scatter(0, activation.flatten().argmax(), 1.0).view_as(activation)
    peer = of_zennit(ResNetCanonizer(), truncated, x, largest if unit == "strongest" else activation, peers)
    assert (found - peer).abs().amax() < AGREES * peer.abs().amax()
