"""Stacks put together at random compute what their networks compute, and are explained by the formulas."""

from __future__ import annotations

import copy
import random
from collections import OrderedDict
from dataclasses import replace

import pytest
import torch
from torch import nn

from resilience import graphs, lrp_rules, networks, reading
from resilience.attacks import saliency
from resilience.attacks.gradient import LossGradient
from resilience.calls import LayerError
from resilience.explanations import lrp
from resilience.posterior import point, predict
from tests.conftest import double_network
from tests.library.lrp_stacks import RULES, images
from tests.library.test_lrp import slow_maps

CLASSES = 4


def activation(chosen: random.Random) -> list[nn.Module]:
    return chosen.choice(
        [
            [],
            [nn.ReLU()],
            [nn.LeakyReLU(0.2)],
            [nn.ReLU(inplace=True)],
            [nn.LeakyReLU(0.1, inplace=True)],
        ]
    )


def convolutions(chosen: random.Random, channels: int, last: int | None) -> list[nn.Module]:
    """A few convolutions with activations and poolings; the last has a number of channels, if one is given."""
    layers: list[nn.Module] = []
    number = chosen.randint(1, 2)
    for index in range(number):
        outputs = last if last and index == number - 1 else chosen.choice([4, 6])
        groups = chosen.choice([1, 1, 2]) if channels % 2 == 0 and outputs % 2 == 0 else 1
        layers.append(nn.Conv2d(channels, outputs, 3, padding=chosen.choice([0, 1]), groups=groups))
        layers += activation(chosen)
        layers += chosen.choice([[], [nn.MaxPool2d(2, stride=1)], [nn.AvgPool2d(2, stride=1)]])
        channels = outputs
    return layers


def stack(seed: int) -> tuple[nn.Sequential, tuple[int, int, int]]:
    """A classifier: convolutions or none, an end that is linear, pooled or a convolution, and flattenings here and there."""
    chosen = random.Random(seed)
    shape = (chosen.choice([1, 2, 3]), 9, 8)
    end = chosen.choice(["linear", "linear", "pooled", "convolution"])
    layers = convolutions(chosen, shape[0], None if end == "linear" else CLASSES) if end != "linear" or seed % 3 else []
    network = nn.Sequential(*layers)
    _, channels, height, width = network(torch.zeros(1, *shape)).shape
    if end == "pooled":
        layers.append(nn.AvgPool2d((height, width)))
    if end == "convolution":
        layers.append(nn.Conv2d(channels, CLASSES, (height, width)))
    layers += [nn.Flatten(), *activation(chosen), *chosen.choice([[], [nn.Flatten()]])]
    if end == "linear":
        units = channels * height * width
        if chosen.random() < 0.5:
            layers += [nn.Linear(units, 5), *activation(chosen), *chosen.choice([[], [nn.Flatten()]])]
            units = 5
        layers.append(nn.Linear(units, CLASSES))
    return double_network(layers, seed), shape


@pytest.mark.parametrize("seed", range(60))
def test_a_stack_is_its_network(seed):
    network, shape = stack(seed)
    x, y = images(shape, seed, 3), torch.tensor([0, 1, 3])
    (built,) = graphs.graphs_of(point(network), shape)
    torch.testing.assert_close(graphs.trace(built, x).output, network(x.clone()), rtol=0, atol=1e-12)

    plain, variable = copy.deepcopy(network), x.clone().requires_grad_()
    for layer in plain:
        layer.inplace = False
    (expected,) = torch.autograd.grad(nn.functional.cross_entropy(plain(variable), y, reduction="sum"), variable)
    found = LossGradient(point(network), shape, "saturating")(x, y)
    scale = (found * expected).flatten(1).sum(1) / (expected * expected).flatten(1).sum(1).clamp(min=1e-300)
    torch.testing.assert_close(found, scale[:, None, None, None] * expected, rtol=0, atol=1e-12 * float(found.abs().max()))


@pytest.mark.parametrize("start", ["one", "value"])
@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("seed", range(12))
def test_a_stack_is_explained_by_the_formula(seed, rule, start):
    network, shape = stack(seed)
    x, explained, layers = images(shape, seed, 2), torch.tensor([1, 3]), networks.learnable_layers(network)
    fast = lrp.heat_maps(point(network), x, explained, RULES[rule], layers, "all", start)
    slow = slow_maps(network, x, explained, layers, rule, "all", start)
    for layer in layers:
        torch.testing.assert_close(fast[layer], slow[layer], rtol=0, atol=1e-11 * max(1, float(slow[layer].abs().max())))


@pytest.mark.parametrize("seed", range(12))
def test_maps_inside_attacks_are_those_outside(seed):
    network, shape = stack(seed)
    x, output = images(shape, seed, 3), networks.learnable_layers(network)[-1]
    outside = lrp.heat_maps(
        point(network), x, predict(point(network), x).argmax(1), lrp_rules.epsilon(epsilon=0.1), (output,)
    )
    inside = saliency.explanation(point(network), x, 0.1)
    torch.testing.assert_close(inside, outside[output], rtol=0, atol=1e-11 * max(1, float(inside.abs().max())))


class Doubled(nn.Linear):
    """Computes something else than a linear layer does."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return 2 * super().forward(x)


class Halved(nn.Linear):
    """Computes something else in its own forward than in what a trace sees of it."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x) / (1 if torch.compiler.is_exporting() else 2)


def test_a_layer_that_computes_something_else_is_refused_by_name():
    network = double_network([nn.Flatten(), nn.Linear(9, 4), nn.ReLU(), Halved(4, 3)], 0)
    with pytest.raises(LayerError, match=r"layer 3, Halved\(.*\), is computed wrongly here"):
        graphs.graphs_of(point(network), (1, 3, 3))


class Turned(nn.Sequential):
    """Does more than its layers."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x).flip(1)


def test_a_network_is_held_against_its_graph_whoever_has_read_it_before():
    network = double_network([nn.Flatten(), nn.Linear(9, 4), nn.ReLU(), Halved(4, 3)], 0)
    graphs.chunk_of(network, (1, 3, 3))
    for _ in range(2):
        with pytest.raises(LayerError, match=r"layer 3, Halved\(.*\), is computed wrongly here"):
            graphs.graphs_of(point(network), (1, 3, 3))


def test_layers_of_ones_own_are_read_as_they_compute():
    """Also what a network does with its layers, and layers with names."""
    layers = OrderedDict(flat=nn.Flatten(), hidden=Doubled(9, 4), kink=nn.ReLU(), last=nn.Linear(4, 3))
    network, x = Turned(layers).double().eval(), images((1, 3, 3), 0, 2)
    (graph,) = graphs.graphs_of(point(network), (1, 3, 3))
    torch.testing.assert_close(graphs.trace(graph, x).output, network(x), rtol=0, atol=1e-12)
    assert graph.node_of("hidden") == graph.node_of("kink") == graph.node_of("last") - 1


def test_a_network_that_does_more_than_its_layers_is_refused():
    network = double_network([nn.Flatten(), nn.Linear(9, 4), nn.ReLU(), nn.Linear(4, 3)], 0)
    network.register_forward_hook(lambda module, inputs, output: output.flip(1))
    with pytest.raises(LayerError, match="something else than its layers"):
        graphs.graphs_of(point(network), (1, 3, 3))


def test_linear_layers_of_the_last_axis():
    network = double_network([nn.Linear(3, 2), nn.ReLU(), nn.Flatten(), nn.Linear(6, 3)], 0)
    x = images((1, 3, 3), 0, 2)
    (graph,) = graphs.graphs_of(point(network), (1, 3, 3))
    torch.testing.assert_close(graphs.trace(graph, x).output, network(x), rtol=0, atol=1e-12)


def test_an_output_that_is_no_vector_is_refused():
    with pytest.raises(LayerError, match=r"returns \[3, 2, 2\], no vector of logits"):
        graphs.graphs_of(point(double_network([nn.Conv2d(1, 3, 2)], 0)), (1, 3, 3))


def test_results_that_are_no_numbers_are_a_difference(monkeypatch):
    network = double_network([nn.Flatten(), nn.Linear(9, 3)], 0)
    broken = reading.read(network, (1, 3, 3))
    make = broken.parts[-1].make
    broken.parts[-1] = replace(
        broken.parts[-1], make=lambda weights: replace(make(weights), bias=make(weights).bias * torch.nan)
    )
    with pytest.raises(LayerError, match=r"layer 1, Linear.* nan off"):
        graphs.refuse_difference(network, dict(network.state_dict()), broken, (1, 3, 3))


def test_windows_may_be_tuples_of_one():
    network = double_network([nn.MaxPool2d((2,)), nn.AvgPool2d((2,)), nn.Flatten(), nn.Linear(4, 3)], 0)
    x = images((1, 8, 8), 0, 2)
    (built,) = graphs.graphs_of(point(network), (1, 8, 8))
    torch.testing.assert_close(graphs.trace(built, x).output, network(x), rtol=0, atol=1e-12)


def test_summands_that_cancel_are_no_difference():
    """Weights with a sum of 0 behind large, nearly constant values: rounding alone exceeds any share of the result."""
    generator = torch.Generator().manual_seed(0)
    network = nn.Sequential(nn.Conv2d(1, 16, 3), nn.ReLU(), nn.Flatten(), nn.Linear(16 * 26 * 26, 10, bias=False)).eval()
    weight = torch.randn(10, 16, 676, generator=generator) / 100
    network[0].weight.data = torch.randn(16, 1, 3, 3, generator=generator) / 1000
    network[0].bias.data.fill_(300)
    network[3].weight.data = (weight - weight.mean(2, keepdim=True)).flatten(1)
    read = reading.read(network, (1, 28, 28))
    assert graphs._difference(network, dict(network.state_dict()), read, (1, 28, 28))
    graphs.graphs_of(point(network), (1, 28, 28))


@pytest.mark.parametrize("architecture", ["conv", "fc2"])
@pytest.mark.parametrize("scale", [1.0, 30.0])
def test_rounding_is_no_difference(architecture, scale):
    """Neither with weights as large as those of a wide network under N(0, 1), nor larger."""
    network = networks.build({"architecture": architecture, "width": 512}, (1, 28, 28), 10)
    weights = {name: scale * torch.randn_like(value) for name, value in network.state_dict().items()}
    network.load_state_dict(weights)
    graphs.graphs_of(point(network), (1, 28, 28))
