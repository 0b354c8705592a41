"""Residual networks and those of torchvision: what they are, and what gradients pass through what is read of them."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from torch import nn
from torch.nn import functional

from resilience import catalog, networks
from resilience.architectures.normalisation import LAYER
from resilience.architectures.residual import Block
from resilience.calls import LayerError
from resilience.graphs import graphs_of, input_gradient, trace
from resilience.networks import NetworkError
from resilience.posterior import point

MEAN, DEVIATION = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]


def built(architecture: str, shape: tuple[int, int, int], **settings) -> nn.Module:
    return networks.build({"architecture": architecture, **settings}, shape, 5, seed=1)


def with_other_numbers(network: nn.Module) -> nn.Module:
    """In double precision, with biases and batch statistics of their own: those of a new network hide mistakes."""
    network.double()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for layer in network.modules():
            if isinstance(layer, nn.BatchNorm2d):
                for value in (layer.weight, layer.running_var):
                    value.copy_(0.5 + torch.rand(value.shape, generator=generator, dtype=torch.float64))
                for value in (layer.bias, layer.running_mean):
                    value.copy_(0.3 * torch.randn(value.shape, generator=generator, dtype=torch.float64))
    return network


def assert_passed_as_by_autograd(network: nn.Module, shape: tuple[int, int, int]) -> None:
    """The graph's logits and its gradients are the network's own."""
    [graph] = graphs_of(point(network), shape)
    x = torch.rand(2, *shape, dtype=torch.float64, generator=torch.Generator().manual_seed(2)).requires_grad_()
    slope = torch.randn(2, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    passed, expected = trace(graph, x.detach()), network(x)
    torch.testing.assert_close(passed.output, expected.detach(), rtol=1e-10, atol=1e-12)
    [gradient] = torch.autograd.grad(expected, x, slope)
    torch.testing.assert_close(input_gradient(passed, slope), gradient, rtol=1e-9, atol=1e-10 * float(gradient.abs().max()))


def test_resnet20_is_that_of_he_et_al():
    """Their Table 6 counts 0.27 million parameters; 20 layers with weights besides batch normalisation."""
    network = built("resnet20", (3, 32, 32))
    layers = [layer for layer in network.modules() if isinstance(layer, nn.Conv2d | nn.Linear)]
    assert len(layers) == 20
    assert network.layer3(torch.zeros(1, 32, 16, 16)).shape == (1, 64, 8, 8)
    assert sum(parameter.numel() for name, parameter in network.named_parameters() if "linear" not in name) == 269_072


def test_a_shortcut_has_no_weights_and_adds_channels_of_zeros():
    block = Block(4, 9, stride=2).eval()
    nn.init.zeros_(block.bn2.weight)  # Nothing but the shortcut is left.
    x = torch.rand(1, 4, 5, 5)
    found = block(x)
    expected = torch.zeros(1, 9, 3, 3)
    expected[:, 2:6] = x[:, :, ::2, ::2]
    assert torch.equal(found, expected)


def test_gradients_pass_a_residual_network_and_its_normalisation():
    network = with_other_numbers(built("resnet20", (3, 9, 9), width=4, blocks=1, mean=MEAN, deviation=DEVIATION))
    assert_passed_as_by_autograd(network, (3, 9, 9))


def test_normalisation_is_a_layer_and_no_weight():
    plain, network = (
        built("resnet20", (3, 8, 8), width=2, blocks=1, **more) for more in ({}, {"mean": MEAN, "deviation": [0.2]})
    )
    assert set(plain.state_dict()) == set(network.state_dict())
    x = torch.rand(2, 3, 8, 8)
    expected = plain((x - torch.tensor(MEAN).view(3, 1, 1)) / 0.2)
    torch.testing.assert_close(network(x), expected)
    torch.testing.assert_close(networks.logits(network, networks.weights_of(network), x), expected)
    assert type(network).__name__ == type(plain).__name__
    assert [name for name, _ in network.named_children()][-1] == LAYER


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"mean": [0.1, 0.2]}, "mean has 2 values and images have 3 channels; give one for each"),
        ({"deviation": [0.1, 0.0, 0.1]}, "deviation: 0.0 divides nothing"),
    ],
)
def test_a_normalisation_that_does_not_fit_is_refused(settings, sentence):
    with pytest.raises(NetworkError, match=sentence):
        built("resnet20", (3, 8, 8), width=2, blocks=1, **settings)


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v3_small"])
def test_gradients_pass_networks_of_torchvision(name):
    network = with_other_numbers(built("torchvision", (3, 32, 32), name=name, mean=MEAN, deviation=DEVIATION))
    assert_passed_as_by_autograd(network, (3, 32, 32))


def test_weights_of_torchvision_fit_as_they_are():
    from torchvision import models

    theirs = models.resnet18(num_classes=5).eval()
    ours = built("torchvision", (3, 32, 32), name="resnet18", mean=MEAN, deviation=DEVIATION)
    ours.load_state_dict(theirs.state_dict())
    x = torch.rand(2, 3, 32, 32)
    pixels = (x - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(DEVIATION).view(3, 1, 1)
    torch.testing.assert_close(ours(x), theirs(pixels))


def test_auxiliary_heads_are_left_out():
    network = built("torchvision", (3, 32, 32), name="googlenet")
    assert not any(name.startswith("aux") for name in network.state_dict())
    assert network.train()(torch.zeros(2, 3, 32, 32)).shape == (2, 5)


def test_attention_is_refused_by_operation_and_layer():
    network = built("torchvision", (3, 32, 32), name="vit_b_16")
    with pytest.raises(
        LayerError, match=r"layer encoder.layers.encoder_layer_0.self_attention .* computes scaled_dot_product"
    ):
        graphs_of(point(network), (3, 32, 32))


@pytest.mark.parametrize(
    ("shape", "name", "sentence"),
    [
        ((3, 32, 32), "resnet19", "torchvision has no classifier 'resnet19'; did you mean resnet18"),
        ((3, 32, 32), "fcn_resnet50", "no classifier 'fcn_resnet50'"),
        ((1, 32, 32), "resnet18", "resnet18 takes images of 3 channels, not 1"),
        ((3, 4, 4), "squeezenet1_1", "layer features.2, MaxPool2d.* from an image of 3 × 4 × 4, which it cannot take"),
    ],
)
def test_what_torchvision_cannot_build_is_refused(shape, name, sentence):
    with pytest.raises(NetworkError, match=sentence):
        built("torchvision", shape, name=name)


def test_a_plan_does_not_import_torchvision():
    code = (
        "import sys; from resilience import catalog; "
        "print(catalog.function('networks', 'torchvision').traits['layers'], {'torch', 'torchvision'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, encoding="utf-8", check=True)
    assert done.stdout == "('output',) set()\n"
    assert set(catalog.functions("networks")) == {
        *("conv", "fc2", "pooled", "resnet20", "torchvision"),
        *("mixture_dnn", "mnist_cnn", "cifar_cnn"),
    }


def test_padding_and_slicing_are_passed():
    class Shifted(nn.Module):
        def __init__(self):
            super().__init__()
            self.convolution = nn.Conv2d(2, 4, 3, padding=1)
            self.linear = nn.Linear(4, 5)

        def forward(self, x):
            small = functional.pad(x[:, :, ::2, 1:], (1, 0, 0, 2, 1, 1))
            return self.linear((self.convolution(x)[:, :, ::2, :] + small[:, :, :3]).mean((2, 3)))

    network = Shifted().double().eval()
    assert_passed_as_by_autograd(network, (2, 6, 6))
