from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from resilience import catalog, networks
from resilience.networks import NetworkError
from resilience.reading import read

#: Networks that say all their layers with weights, by number; others say some by name.
COUNTED = [
    name
    for name, function in catalog.functions("networks").items()
    if all(isinstance(layer, int) for layer in function.traits["layers"])
]


@pytest.mark.parametrize("name", COUNTED)
@pytest.mark.parametrize(("shape", "classes"), [((1, 28, 28), 10), ((1, 8, 8), 10), ((3, 32, 32), 4)])
def test_catalogue_knows_the_learnable_layers(name, shape, classes):
    network = networks.build({"architecture": name, "width": 16}, shape, classes)
    assert networks.learnable_layers(network) == tuple(map(str, catalog.functions("networks")[name].traits["layers"]))
    assert network(torch.zeros(2, *shape)).shape == (2, classes)


def test_conv_on_mnist_is_the_papers():
    network = networks.build({"architecture": "conv", "width": 512}, (1, 28, 28), 10)
    assert sum(parameter.numel() for parameter in network.parameters()) == 456_618
    assert network[7].in_features == 49 * 512


def test_fc2_on_mnist_is_the_papers():
    network = networks.build({"architecture": "fc2", "width": 512}, (1, 28, 28), 10)
    assert sum(parameter.numel() for parameter in network.parameters()) == 669_706


def test_default_width_is_the_papers():
    assert networks.build({"architecture": "fc2"}, (1, 28, 28), 10)[1].out_features == 512


def test_explanations_of_a_layer_start_after_its_activation():
    network = networks.build({"architecture": "conv", "width": 16}, (1, 28, 28), 10)
    layers = read(network, (1, 28, 28)).layers
    # The images come first, and layer 0 is followed by its activation.
    assert [layers[layer] for layer in ("0", "3", "7")] == [2, 5, 8]


def test_conv_refuses_images_that_are_too_small():
    with pytest.raises(NetworkError, match="not 1 × 2; use fc2"):
        networks.build({"architecture": "conv", "width": 16}, (1, 1, 2), 2)


def test_building_a_network_leaves_the_random_numbers_of_a_gpu_alone(monkeypatch):
    """They belong to a training that may be going on there; those of the CPU are put back."""
    monkeypatch.setattr(torch.cuda, "manual_seed_all", lambda seed: pytest.fail("the GPU was seeded"))
    networks.build({"architecture": "fc2", "width": 4}, (1, 3, 3), 3, seed=1)


TWICE = nn.Linear(4, 4)


@pytest.mark.parametrize(
    ("layers", "sentence"),
    [
        ([nn.Linear(4, 2)], r"returns \[1, 4, 2\] for an image of 1 × 4 × 4, not 2 logits; put nn.Flatten"),
        ([nn.Linear(5, 3), nn.ReLU(), nn.Flatten(), nn.Linear(12, 2)], "layer 0, .* put nn.Flatten"),
        (
            [nn.Flatten(), nn.Linear(15, 2)],
            r"layer 1, Linear\(in_features=15.*gets \[16\] from an image of 1 × 4 × 4",
        ),
        ([nn.Conv2d(3, 2, 1), nn.Flatten(), nn.Linear(32, 2)], r"layer 0, Conv2d\(3.*gets \[1, 4, 4\]"),
        ([nn.Conv2d(1, 2, 5), nn.Flatten(), nn.Linear(32, 2)], r"layer 0, Conv2d\(1.*gets \[1, 4, 4\]"),
        ([nn.Flatten(), nn.Linear(16, 4), TWICE, nn.ReLU(), TWICE, nn.Linear(4, 2)], "layers 2 and 4 share weights"),
        ([nn.Flatten(), nn.Linear(16, 3)], r"returns \[3\] for an image of 1 × 4 × 4, not 2 logits"),
        ([nn.Conv2d(1, 2, 1)], r"returns \[2, 4, 4\] for an image of 1 × 4 × 4, not 2 logits"),
        ([nn.Flatten(0), nn.Linear(16, 2)], r"returns \[\] for an image"),
        ([nn.MaxPool2d(2, return_indices=True), nn.Flatten(), nn.Linear(4, 2)], "layer 1, Flatten.*which it cannot take"),
        ([nn.Flatten(), nn.Bilinear(16, 16, 2)], "layer 1, Bilinear.*which it cannot take"),
        ([nn.AvgPool2d((4, 2)), nn.Flatten()], "has no layer with weights"),
    ],
)
def test_what_does_not_fit_is_refused_by_network_layer_and_image(layers, sentence, monkeypatch):
    network = nn.Sequential(*layers)
    traits = {"layers": networks.learnable_layers(network)}
    monkeypatch.setattr(catalog, "load", lambda section, name: lambda shape, classes: network)
    monkeypatch.setattr(
        catalog, "function", lambda section, name: SimpleNamespace(traits=traits, inputs=("shape", "classes"))
    )
    monkeypatch.setattr(catalog, "options", lambda section, settings: {})
    with pytest.raises(NetworkError, match=f"^own.py:mine.*{sentence}"):
        networks.build({"architecture": "own.py:mine"}, (1, 4, 4), 2)


def test_no_layer_of_a_network_overwrites_what_it_gets(monkeypatch):
    network = nn.Sequential(nn.Flatten(), nn.Linear(16, 4), nn.LeakyReLU(inplace=True), nn.Linear(4, 2))
    monkeypatch.setattr(catalog, "load", lambda section, name: lambda shape, classes: network)
    monkeypatch.setattr(
        catalog, "function", lambda section, name: SimpleNamespace(traits={"layers": (1, 3)}, inputs=("shape", "classes"))
    )
    monkeypatch.setattr(catalog, "options", lambda section, settings: {})
    assert not networks.build({"architecture": "own.py:mine"}, (1, 4, 4), 2)[2].inplace


def test_logits_leave_the_images_as_they_are():
    """Also of a network that was not built here and begins with a layer in place."""
    network = nn.Sequential(nn.Flatten(), nn.LeakyReLU(0.5, inplace=True), nn.Linear(4, 2)).eval()
    x = torch.randn(3, 1, 2, 2, generator=torch.Generator().manual_seed(0))
    before = x.clone()
    found = networks.logits(network, dict(network.state_dict()), x)
    assert torch.equal(x, before)
    assert torch.equal(found, network[2](nn.functional.leaky_relu(before.flatten(1), 0.5)))


def test_initial_weights_follow_from_the_seed_and_from_nothing_else():
    torch.manual_seed(0)
    before = torch.random.get_rng_state()
    first = networks.build({"architecture": "fc2", "width": 4}, (1, 2, 2), 3, seed=5)
    assert torch.equal(before, torch.random.get_rng_state())
    torch.manual_seed(1)
    second = networks.build({"architecture": "fc2", "width": 4}, (1, 2, 2), 3, seed=5)
    other = networks.build({"architecture": "fc2", "width": 4}, (1, 2, 2), 3, seed=6)
    assert torch.equal(first[1].weight, second[1].weight)
    assert not torch.equal(first[1].weight, other[1].weight)
