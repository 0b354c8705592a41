"""Composites in a config: what they are made of, and what is refused."""

from __future__ import annotations

import copy
import re

import pytest
import torch
import yaml
from torch import nn

from resilience import catalog, lrp_rules
from resilience.config import ConfigError, check
from resilience.explanations import lrp
from resilience.graphs import LayerError, graphs_of
from resilience.lrp_composites import PROPORTIONAL, Composite, rules_of
from resilience.posterior import point
from tests.conftest import ROOT, double_network

CONFIG = yaml.safe_load((ROOT / "config/config.yaml").read_text(encoding="utf-8"))
SCHEMA = yaml.safe_load((ROOT / "workflow/schemas/config.schema.yaml").read_text(encoding="utf-8"))
WHOLE = {
    "rule": "composite",
    "first": {"rule": "zbox", "low": -1},
    "convolution": {"rule": "gamma"},
    "linear": {"rule": "epsilon", "epsilon": 0.1},
    "pooling": {"rule": "flat"},
    "sum": {"rule": "zplus"},
    "layers": {"layer4.0": {"rule": "alpha_beta", "alpha": 1.5, "beta": 0.5}},
}


def with_rule(rule: object) -> dict:
    config = copy.deepcopy(CONFIG)
    config["explanations"]["epsilon"]["rule"] = rule
    return config


def problems(rule: object) -> str:
    with pytest.raises(ConfigError) as caught:
        check(with_rule(rule), SCHEMA)
    return "\n".join(caught.value.problems)


def network() -> nn.Sequential:
    layers = [nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Conv2d(2, 2, 2), nn.ReLU(), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(2, 3)]
    return double_network(layers, 0)


X = torch.rand(2, 1, 5, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def test_a_composite_is_accepted_and_its_defaults_are_written_out():
    rule = check(with_rule(WHOLE), SCHEMA)["explanations"]["epsilon"]["rule"]
    assert rule["first"] == {"rule": "zbox", "low": -1, "high": 1, "stabiliser": 1e-6}
    assert rule["layers"]["layer4.0"] == {"rule": "alpha_beta", "alpha": 1.5, "beta": 0.5, "stabiliser": 1e-6}
    assert rule["convolution"] == {"rule": "gamma", "gamma": 0.1, "stabiliser": 1e-6}


def test_recipes_name_the_functions_of_inner_entries():
    settings = {"method": "lrp", "rule": WHOLE}
    named = [entry["rule"] for section, entry in catalog.inner_entries("explanations", settings) if section == "rules"]
    assert named == ["composite", "zbox", "gamma", "epsilon", "flat", "zplus", "alpha_beta"]


@pytest.mark.parametrize("name", [name for name, rule in catalog.functions("rules").items() if "composite" in rule.traits])
def test_every_named_composite_is_accepted(name):
    check(with_rule({"rule": name}), SCHEMA)
    made = catalog.bound("rules", {"rule": name})()
    assert isinstance(made, Composite)


@pytest.mark.parametrize(
    ("rule", "sentence"),
    [
        (WHOLE | {"first": {"rule": "zbx"}}, r"explanations.epsilon.rule.first.rule: 'zbx' is unknown; did you mean .*zbox"),
        (WHOLE | {"layers": {"a": {"rule": "gama"}}}, r"explanations.epsilon.rule.layers.a.rule: 'gama' is unknown"),
        (WHOLE | {"linear": {"epsilon": 1}}, r"explanations.epsilon.rule.linear: the key 'rule' is missing"),
        (WHOLE | {"sum": {"rule": "epsilon", "epsilon": 0}}, r"rule.sum.epsilon: 0 must be greater than 0"),
        (WHOLE | {"sum": "epsilon"}, r"explanations.epsilon.rule.sum: 'epsilon' must be of type object or null"),
        (
            WHOLE | {"conv": {"rule": "flat"}},
            r"epsilon.rule: the key 'conv' is unknown; did you mean convolution",
        ),
        (
            WHOLE | {"first": {"rule": "epsilon_plus"}},
            r"first.rule: 'epsilon_plus' is itself a composite; known: alpha",
        ),
        (WHOLE | {"layers": {"a": WHOLE}}, r"rule.layers.a.rule: 'composite' is itself a composite"),
        (WHOLE | {"first": {"rule": "zbox", "low": 2}}, r"explanations.epsilon: zbox.low: 2 is more than high, 1"),
        ({"rule": "alpha_beta", "alpha": 2, "beta": 2}, r"alpha_beta.alpha: 2 is not one more than beta, 2; make it so"),
    ],
)
def test_what_a_composite_cannot_hold_is_refused_by_its_key(rule, sentence):
    assert re.search(sentence, problems(rule))


def test_layers_get_the_rule_of_their_kind():
    (graph,) = graphs_of(point(network()), (1, 5, 5))
    convolution, linear, pooling, first = (lrp_rules.epsilon(epsilon=size) for size in (1.0, 2.0, 3.0, 4.0))
    rules = rules_of(Composite(convolution, linear, pooling, first=first), graph, X)
    assert [rule for rule in rules if rule] == [first, convolution, pooling, linear]
    assert [rule for rule in rules_of(Composite(convolution), graph, X) if rule] == [
        convolution,
        convolution,
        PROPORTIONAL,
        PROPORTIONAL,
    ]


def test_the_longest_name_counts_and_names_are_no_beginnings_of_words():
    layers = [nn.Sequential(nn.Flatten(), nn.Linear(25, 4), nn.ReLU()), nn.Linear(4, 4), nn.Linear(4, 3)]
    made = nn.Sequential()
    for name, layer in zip(("block", "block2", "end"), layers, strict=True):
        made.add_module(name, layer)
    (graph,) = graphs_of(point(made.double().eval()), (1, 5, 5))
    one, two, three = (lrp_rules.epsilon(epsilon=size) for size in (1.0, 2.0, 3.0))
    rules = rules_of(Composite(linear=one, layers={"block": two, "block.1": three}), graph, X)
    assert [rule for rule in rules if rule] == [three, one, one]


def test_terms_that_are_zero_are_left_out_and_no_others():
    """Behind a ReLU, and where no pixel is negative; behind a LeakyReLU inputs can be."""
    layers = [nn.Flatten(), nn.Linear(25, 4), nn.ReLU(), nn.Linear(4, 4), nn.LeakyReLU(), nn.Linear(4, 3)]
    (graph,) = graphs_of(point(double_network(layers, 0)), (1, 5, 5))

    def terms(x: torch.Tensor) -> list[int]:
        weight = torch.ones(1, 1)
        rules = [rule for rule in rules_of(lrp_rules.alpha_beta(), graph, x) if rule]
        return [sum(len(part.terms(weight, weight, None)) for _, part in rule.parts) for rule in rules]

    assert terms(X) == [2, 2, 4]
    assert terms(X - 0.5) == [4, 2, 4]


def test_a_layer_that_there_is_none_of_is_refused_with_those_that_there_are():
    rule = lrp_rules.composite(layers={"layer4": {"rule": "gamma"}})
    with pytest.raises(LayerError, match=r"a rule for layer4, and the network has no such layer; its layers are 0, 1, 2, 3"):
        lrp.heat_maps(point(network()), X, torch.tensor([0, 1]), rule, ("output",))


def test_what_does_not_see_the_pixels_cannot_have_their_bounds():
    with pytest.raises(LayerError, match=r"layer 2 does not see the pixels.* first: \{rule: zbox\}"):
        lrp.heat_maps(point(network()), X, torch.tensor([0, 1]), lrp_rules.zbox(), ("output",))


def test_alpha_is_one_more_than_beta():
    with pytest.raises(ValueError, match="alpha must be one more than beta"):
        lrp_rules.alpha_beta(alpha=2, beta=0.5)


def test_alpha_1_beta_0_is_the_rule_of_that_name():
    classes = torch.tensor([0, 1])
    maps = [
        lrp.heat_maps(point(network()), X, classes, rule, ("output",))["output"]
        for rule in (lrp_rules.alpha_beta(alpha=1, beta=0), lrp_rules.alpha1beta0(), lrp_rules.zplus())
    ]
    assert torch.equal(maps[0], maps[1])
    assert torch.equal(maps[1], maps[2])


def test_bounds_of_pixels_pass_a_normalisation():
    """z^B of normalised pixels is z^B of pixels by a convolution into which the normalisation is folded."""

    class Normalised(nn.Module):
        def __init__(self, layers: nn.Sequential):
            super().__init__()
            self.layers = layers

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.layers((x - 0.4) / -0.3)

    layers, classes = network(), torch.tensor([0, 2])
    folded = copy.deepcopy(layers)
    with torch.no_grad():
        weight = layers[0].weight
        folded[0].weight.copy_(weight / -0.3)
        folded[0].bias.copy_(layers[0].bias + (weight * 0.4 / 0.3).sum((1, 2, 3)))
    found, expected = (
        lrp.heat_maps(point(each), X, classes, lrp_rules.epsilon_gamma_box(), ("output",))["output"]
        for each in (Normalised(layers), folded)
    )
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12 * float(expected.abs().max()))
