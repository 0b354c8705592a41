from __future__ import annotations

import pytest
import torch

from resilience import catalog, networks
from resilience.networks import NetworkError


@pytest.mark.parametrize("name", catalog.functions("networks"))
@pytest.mark.parametrize(("shape", "classes"), [((1, 28, 28), 10), ((1, 8, 8), 10), ((3, 32, 32), 4)])
def test_catalogue_knows_the_learnable_layers(name, shape, classes):
    network = networks.build({"architecture": name, "width": 16}, shape, classes)
    assert networks.learnable_layers(network) == catalog.functions("networks")[name].traits["layers"]
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
    assert [networks.end_of(network, layer) for layer in (0, 3, 7)] == [2, 5, 8]


def test_conv_refuses_images_that_are_too_small():
    with pytest.raises(NetworkError, match="not 1 × 2; use fc2"):
        networks.build({"architecture": "conv", "width": 16}, (1, 1, 2), 2)


def test_building_a_network_leaves_the_random_numbers_of_a_gpu_alone(monkeypatch):
    """They belong to a training that may be going on there; those of the CPU are put back."""
    monkeypatch.setattr(torch.cuda, "manual_seed_all", lambda seed: pytest.fail("the GPU was seeded"))
    networks.build({"architecture": "fc2", "width": 4}, (1, 3, 3), 3, seed=1)


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
