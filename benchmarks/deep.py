"""Networks of torchvision on small images, beside the floor, zennit with its canonizers, and autograd."""

from __future__ import annotations

import argparse
from collections.abc import Callable

import torch
from torch import Tensor, nn

from benchmarks import peers
from benchmarks.computations import MICROSECONDS, RULES, prepare
from benchmarks.floor import floor_of
from benchmarks.timing import Row, compare, in_turn
from resilience import lrp_rules, networks
from resilience.attacks.gradient import LossGradient
from resilience.explanations import lrp
from resilience.graphs import graphs_of
from resilience.networks import Shape
from resilience.posterior import point

NETWORKS = ("resnet18", "resnet50", "vgg11_bn", "densenet121")
#: Composites by our name and by that of zennit, and the networks that they are timed on.
COMPOSITES = {
    "epsilon_plus": "EpsilonPlus",
    "epsilon_gamma_box": "EpsilonGammaBox",
    "epsilon_alpha2_beta1_flat": "EpsilonAlpha2Beta1Flat",
}
OF_COMPOSITES = ("resnet18", "vgg11_bn")
SHAPE: Shape = (3, 64, 64)
CLASSES = 1000


def network_of(name: str) -> nn.Module:
    """A network of torchvision with random weights, and with statistics that its batch normalisation does something by."""
    import torchvision

    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        network: nn.Module = getattr(torchvision.models, name)(num_classes=CLASSES).eval()
        for layer in network.modules():
            if isinstance(layer, nn.BatchNorm2d):
                assert layer.running_mean is not None
                assert layer.running_var is not None
                nn.init.normal_(layer.running_mean, 0, 0.1)
                nn.init.uniform_(layer.running_var, 0.5, 1.5)
                nn.init.uniform_(layer.weight, 0.5, 1.5)
                nn.init.normal_(layer.bias, 0, 0.1)
            if isinstance(layer, nn.ReLU):
                layer.inplace = False  # As in our networks; hooks of peers see what it would overwrite.
    return network.requires_grad_(False)


def data_of(images: int) -> tuple[Tensor, Tensor]:
    """Random images with labels."""
    generator = torch.Generator().manual_seed(1)
    return torch.rand(images, *SHAPE, generator=generator), torch.randint(0, CLASSES, (images,), generator=generator)


def rows(options: argparse.Namespace) -> list[Row]:
    """Heat maps by the epsilon rule, and gradients of an attack; one draw, half as many images as for small networks."""
    prepare(options)
    found = []
    for name in NETWORKS:
        network = network_of(name)
        posterior = point(network)
        x, y = data_of(max(1, options.images // 2))
        graph = graphs_of(posterior, SHAPE)[0]
        floor, convolutions = floor_of(graph, x), floor_of(graph, x, columns=False)
        layers = networks.learnable_layers(network)[-1:]
        gradient = LossGradient(posterior, SHAPE, "likelihood")
        subjects: dict[str, Callable[[], object]] = {
            f"{name} floor": floor.passes(spared=1),
            f"{name} convolutions": convolutions.passes(spared=1),
            f"{name} epsilon": lambda posterior=posterior, x=x, y=y, layers=layers: lrp.heat_maps(  # type: ignore[misc]
                posterior, x, y, RULES["epsilon"], layers
            ),
            f"{name} epsilon, zennit": peers.zennit_with_canonizers(network, x, y),
            f"{name} gradient floor": floor.passes(),
            f"{name} gradient convolutions": convolutions.passes(),
            f"{name} gradient": lambda gradient=gradient, x=x, y=y: gradient(x, y),  # type: ignore[misc]
            f"{name} gradient, autograd": peers.class_gradient(network, x, y),
        }
        to = {
            f"{name} convolutions": f"{name} floor",
            f"{name} epsilon": f"{name} convolutions",
            f"{name} epsilon, zennit": f"{name} epsilon",
            f"{name} gradient convolutions": f"{name} gradient floor",
            f"{name} gradient": f"{name} gradient convolutions",
            f"{name} gradient, autograd": f"{name} gradient",
        }
        if name in OF_COMPOSITES:
            for ours, theirs in COMPOSITES.items():
                rule = getattr(lrp_rules, ours)()
                subjects[f"{name} {ours}"] = lambda posterior=posterior, x=x, y=y, rule=rule, layers=layers: lrp.heat_maps(  # type: ignore[misc]
                    posterior, x, y, rule, layers
                )
                subjects[f"{name} {ours}, zennit"] = peers.zennit_composite(theirs, network, x, y)
                to |= {f"{name} {ours}": f"{name} convolutions", f"{name} {ours}, zennit": f"{name} {ours}"}
        seconds = in_turn(subjects, options.repeats)
        found += compare("deep", seconds, MICROSECONDS / len(x), "µs per image", to)
    return found
