"""How others compute the same: zennit, captum, and one image and one draw at a time as the original code did."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from resilience.posterior import Posterior

EPSILON = 0.1
BATCH = 50


def zennit(posterior: Posterior, x: Tensor, y: Tensor) -> Callable[[], Tensor]:
    """The epsilon rule of zennit, a batch at a time, with the weights of each draw loaded into the network."""
    from zennit.attribution import Gradient
    from zennit.composites import LayerMapComposite
    from zennit.rules import Epsilon, Pass
    from zennit.types import Activation, Convolution, Linear

    network = copy.deepcopy(posterior.network)
    seed = nn.functional.one_hot(y, 10).float()

    def run() -> Tensor:
        composite = LayerMapComposite([(Activation, Pass()), ((Linear, Convolution), Epsilon(EPSILON))])
        total = torch.zeros_like(x)
        for draw in posterior:
            network.load_state_dict(draw)
            with Gradient(network, composite) as attributor:
                for part in _parts(x):
                    total[part] += attributor(x[part].clone(), seed[part])[1]
        return total / len(posterior)

    return run


def zennit_with_canonizers(network: nn.Module, x: Tensor, y: Tensor) -> Callable[[], Tensor]:
    """The epsilon rule of zennit for a network of torchvision, with the canonizer that zennit has for it.

    It has none for DenseNet, whose batch normalisation passes relevance on unchanged, as here.
    """
    from zennit.composites import LayerMapComposite
    from zennit.layer import Sum
    from zennit.rules import Epsilon, Norm, Pass
    from zennit.types import Activation, AvgPool, BatchNorm, Convolution, Linear

    pooling = Norm(stabilizer=1e-6)
    composite = LayerMapComposite(
        [
            (Activation, Pass()),
            (BatchNorm, Pass()),
            (Sum, pooling),
            (AvgPool, pooling),
            ((Linear, Convolution), Epsilon(EPSILON)),
        ],
        canonizers_of(network),
    )
    return _attributed(network, composite, x, y)


def zennit_composite(name: str, network: nn.Module, x: Tensor, y: Tensor) -> Callable[[], Tensor]:
    """A composite of zennit by its name, such as ``EpsilonPlus``, with the canonizer that it has for the network."""
    from zennit import composites

    bounds = {"low": torch.zeros(1, *x.shape[1:]), "high": torch.ones(1, *x.shape[1:])} if name.endswith("Box") else {}
    return _attributed(network, getattr(composites, name)(**bounds, canonizers=canonizers_of(network)), x, y)


def canonizers_of(network: nn.Module) -> list[Any]:
    """What zennit needs to take a network of torchvision apart; nothing for those that it has nothing for."""
    from zennit.torchvision import ResNetCanonizer, VGGCanonizer

    return {"ResNet": [ResNetCanonizer()], "VGG": [VGGCanonizer()]}.get(type(network).__name__, [])


def _attributed(network: nn.Module, composite: Any, x: Tensor, y: Tensor) -> Callable[[], Tensor]:
    from zennit.attribution import Gradient

    network = copy.deepcopy(network)
    seed = nn.functional.one_hot(y, network(x[:1]).shape[1]).float()

    def run() -> Tensor:
        with Gradient(network, composite) as attributor:
            return torch.cat([attributor(x[part].clone(), seed[part])[1] for part in _parts(x)])

    return run


def captum(posterior: Posterior, x: Tensor, y: Tensor) -> Callable[[], Tensor]:
    """LRP of captum with its epsilon rule, which starts from the logit: divided by it here."""
    from captum.attr import LRP
    from captum.attr._core import lrp
    from captum.attr._utils.lrp_rules import EpsilonRule

    if nn.LeakyReLU not in lrp.SUPPORTED_NON_LINEAR_LAYERS:
        lrp.SUPPORTED_NON_LINEAR_LAYERS.append(nn.LeakyReLU)
    network = _WithoutFlatten(copy.deepcopy(posterior.network))

    def run() -> Tensor:
        total = torch.zeros_like(x)
        for draw in posterior:
            network.stack.load_state_dict(draw)
            for part in _parts(x):
                for layer in network.stack:
                    if isinstance(layer, nn.Linear | nn.Conv2d):
                        layer.rule = EpsilonRule(EPSILON)
                relevance = LRP(network).attribute(x[part].clone().requires_grad_(), target=y[part])
                logit = network(x[part]).gather(1, y[part, None])
                total[part] += relevance.detach() / logit.detach()[:, :, None, None]
        return total / len(posterior)

    return run


class _WithoutFlatten(nn.Module):
    """A stack whose flattening is an operation and no layer, since captum knows no rule for such a layer."""

    def __init__(self, stack: nn.Sequential):
        super().__init__()
        kept = {str(index): layer for index, layer in enumerate(stack) if not isinstance(layer, nn.Flatten)}
        self.stack = nn.Sequential()
        for name, layer in kept.items():
            self.stack.add_module(name, layer)

    def forward(self, a: Tensor) -> Tensor:
        """Logits."""
        for layer in self.stack:
            a = layer(a.flatten(1) if isinstance(layer, nn.Linear) else a)
        return a


class _Epsilon(torch.autograd.Function):
    """The epsilon rule as a function whose backward pass carries relevance, in the manner of the original's library."""

    @staticmethod
    def forward(ctx, a: Tensor, w: Tensor, b: Tensor, convolve: bool) -> Tensor:  # type: ignore[no-untyped-def, override]
        z = nn.functional.conv2d(a, w, b) if convolve else nn.functional.linear(a, w, b)
        ctx.save_for_backward(a, w, z)
        ctx.convolve = convolve
        return z

    @staticmethod
    def backward(ctx, relevance: Tensor):  # type: ignore[no-untyped-def, override]
        a, w, z = ctx.saved_tensors
        ratio = relevance / (z + torch.where(z < 0, -EPSILON, EPSILON))
        c = nn.functional.conv_transpose2d(ratio, w) if ctx.convolve else ratio @ w
        return a * c, None, None, None


def one_at_a_time(posterior: Posterior, x: Tensor, y: Tensor, images: int) -> Callable[[], Tensor]:
    """One image and one draw at a time, the network copied for each, as the original code did; only ``images`` of them."""

    def relevance(network: nn.Sequential, image: Tensor, label: int) -> Tensor:
        image = image.clone().requires_grad_()
        a = image
        for layer in network:
            if isinstance(layer, nn.Linear | nn.Conv2d):
                a = _Epsilon.apply(a, layer.weight, layer.bias, isinstance(layer, nn.Conv2d))
            else:
                a = layer(a)
        a[0, label].backward()
        assert image.grad is not None
        return image.grad

    def run() -> Tensor:
        maps = []
        for image, label in zip(x[:images], y[:images], strict=True):
            drawn = []
            for draw in posterior:
                network = copy.deepcopy(posterior.network)
                network.load_state_dict(draw)
                drawn.append(relevance(network, image[None], int(label)))
            maps.append(torch.stack(drawn).mean(0))
        return torch.cat(maps)

    return run


def gradient_by_autograd(posterior: Posterior, x: Tensor, y: Tensor) -> Callable[[], Tensor]:
    """Gradient of the loss of the mean prediction through autograd, a batch and a draw at a time."""
    network = copy.deepcopy(posterior.network)

    def run() -> Tensor:
        total = torch.zeros_like(x)
        for draw in posterior:
            network.load_state_dict(draw)
            for part in _parts(x):
                variable = x[part].clone().requires_grad_()
                own = network(variable).softmax(1).gather(1, y[part, None])
                total[part] -= torch.autograd.grad(own.sum(), variable)[0]
        return total

    return run


def class_gradient(network: nn.Module, x: Tensor, y: Tensor) -> Callable[[], Tensor]:
    """Gradient of the loss of one network through autograd, a batch at a time."""

    def run() -> Tensor:
        found = []
        for part in _parts(x):
            variable = x[part].clone().requires_grad_()
            loss = nn.functional.cross_entropy(network(variable), y[part], reduction="sum")
            found.append(torch.autograd.grad(loss, variable)[0])
        return torch.cat(found)

    return run


def _parts(x: Tensor) -> list[slice]:
    return [slice(first, first + BATCH) for first in range(0, len(x), BATCH)]
