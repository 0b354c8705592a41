"""Networks that a config names, and their weights, which can be swapped; :mod:`resilience.architectures` has what they are.

A layer has the name of its module. A learnable layer is one with weights; its explanation starts after the activation that
follows it (paper, Sec. V-A: "after the first non-linear layer").
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from resilience import catalog, sizes
from resilience.grid import OUTPUT

Weights = dict[str, Tensor]
Shape = tuple[int, int, int]

ACTIVATIONS = (nn.ReLU, nn.LeakyReLU)


class NetworkError(ValueError):
    """A network that cannot be built for images of that size."""


def build(settings: dict[str, Any], shape: Iterable[int], classes: int, seed: int = 0) -> nn.Module:
    """The network that a config entry names, with initial weights drawn from ``seed``, ready for evaluation.

    Raises
    ------
    NetworkError
        If there is nothing to tell apart, or the images are too small for the network; if it is no network or has no layer
        with weights, or one layer's weights twice; if a layer cannot take what it gets, or the network returns anything but
        a logit for each class; if it has no layer of a name that its function says.
    SizeError
        If it has more weights than fit anywhere.
    """
    if classes < 2:
        raise NetworkError(f"{classes} class leaves nothing to predict; the labels must have at least two, 0 and 1")
    name = settings["architecture"]
    layers = catalog.function("networks", name).traits["layers"]
    architecture = partial(catalog.bound("networks", settings), shape=tuple(shape), classes=classes)
    sizes.refuse_network(architecture)
    with torch.random.fork_rng(devices=[]):
        # Not torch.manual_seed, which seeds the GPU's numbers, too: those of a training that goes on there must stay.
        torch.default_generator.manual_seed(seed)
        network = architecture()
    if not isinstance(network, nn.Module):
        raise NetworkError(f"{name} returns a {type(network).__name__}; a network is an nn.Module")
    if not (learnable := learnable_layers(network)):
        raise NetworkError(f"{name} has no layer with weights, so there is nothing to train")
    known = {OUTPUT, *dict(network.named_modules())}
    if missing := [str(layer) for layer in layers if str(layer) not in known]:
        raise NetworkError(
            f"{name} says @entry(layers={layers}), and has no layer {' or '.join(missing)}; those with weights are "
            f"{', '.join(learnable)}"
        )
    _refuse_shared_weights(network.eval(), name)
    _refuse_what_does_not_fit(network, tuple(shape), classes, name)
    for layer in network.modules():
        if isinstance(layer, ACTIVATIONS):
            layer.inplace = False  # It would overwrite what relevance and gradients still need.
    return network


def _refuse_shared_weights(network: nn.Module, name: str) -> None:
    """Draws exchange the weights of each layer by name, so that no two names can stand for the same ones."""
    seen: dict[int, str] = {}
    for parameter, value in network.named_parameters(remove_duplicate=False):
        if (first := seen.setdefault(id(value), parameter)) != parameter:
            one, other = (key.rpartition(".")[0] for key in (first, parameter))
            raise NetworkError(f"{name}: layers {one} and {other} share weights; give each layer its own")


@torch.no_grad()
def _refuse_what_does_not_fit(network: nn.Module, shape: tuple[int, ...], classes: int, name: str) -> None:
    """Pass a blank image through the network, so that a layer which cannot take what it gets is named, with what that is."""
    images = " × ".join(map(str, shape))
    last: list[str] = []

    def watch(layer_name: str, layer: nn.Module) -> Callable[..., None]:
        def see(_layer: nn.Module, inputs: tuple[Any, ...]) -> None:
            taken = list(inputs[0].shape[1:]) if inputs and isinstance(inputs[0], Tensor) else "nothing"
            hint = "; put nn.Flatten() before it" if isinstance(layer, nn.Linear) and len(taken) == 3 else ""
            last.append(
                f"{name}: layer {layer_name}, {layer}, gets {taken} from an image of {images}, which it cannot take{hint}"
            )

        return see

    hooks = [layer.register_forward_pre_hook(watch(path, layer)) for path, layer in leaves_of(network)]
    try:
        returned = network(torch.zeros(1, *shape))
    except (AssertionError, AttributeError, RuntimeError, IndexError, TypeError, ValueError) as error:
        problem = last[-1] if last else f"{name} gets an image of {images}, which it cannot take"
        raise NetworkError(f"{problem}: {error}") from error
    finally:
        for hook in hooks:
            hook.remove()
    if not isinstance(returned, Tensor):
        raise NetworkError(f"{name} returns a {type(returned).__name__}; a network returns one tensor of logits")
    if returned.shape != (1, classes):
        hint = "; put nn.Flatten() where a vector is needed" if returned.dim() > 2 else ""
        raise NetworkError(f"{name} returns {list(returned.shape[1:])} for an image of {images}, not {classes} logits{hint}")


def leaves_of(network: nn.Module) -> list[tuple[str, nn.Module]]:
    """The modules that have no modules themselves, by name."""
    return [(name, module) for name, module in network.named_modules() if name and not any(module.children())]


def learnable_layers(network: nn.Module) -> tuple[str, ...]:
    """Names of the layers that have weights of their own, first to last."""
    return tuple(name for name, layer in network.named_modules() if any(True for _ in layer.parameters(recurse=False)))


def image_shape(x: Tensor) -> Shape:
    """(channels, height, width) of images [N, C, H, W]."""
    _, channels, height, breadth = x.shape
    return channels, height, breadth


def weights_of(network: nn.Module) -> Weights:
    """Parameters and statistics of a network by ``state_dict`` name: all in it that are real numbers."""
    return {name: value for name, value in network.state_dict().items() if value.is_floating_point()}


def parameters_of(network: nn.Module) -> Weights:
    """Of its weights those that have a gradient and a prior."""
    parameters = dict(network.named_parameters())
    return {name: value for name, value in weights_of(network).items() if name in parameters}


def statistics_of(network: nn.Module) -> Weights:
    """Of its weights those that follow from data and parameters: running means and variances of batch normalisation."""
    parameters = dict(network.named_parameters())
    return {name: value for name, value in weights_of(network).items() if name not in parameters}


def flat(weights: Weights) -> Tensor:
    """All weights as one vector."""
    return torch.cat([value.flatten() for value in weights.values()])


def by_name(vector: Tensor, like: Weights) -> Weights:
    """The inverse of :func:`flat`: pieces of a vector in the shapes of the parameters of ``like``."""
    pieces = vector.split([value.numel() for value in like.values()])
    return {name: piece.view(value.shape) for (name, value), piece in zip(like.items(), pieces, strict=True)}


def channels_last(x: Tensor) -> Tensor:
    """The same images [N, C, H, W], their channels last in memory, which convolution and pooling on a CPU run fastest on.

    The strides are set by hand, since those of a single channel are ambiguous and PyTorch would take it for first.
    """
    _, channels, height, breadth = x.shape
    strides = (channels * height * breadth, 1, channels * breadth, channels)
    return x.contiguous(memory_format=torch.channels_last).as_strided(x.shape, strides)


def logits(network: nn.Module, weights: Weights, x: Tensor) -> Tensor:
    """Output [N, classes] of the network with the given weights, by ``state_dict`` name."""
    images = channels_last(x)
    if any(getattr(layer, "inplace", False) for layer in network.modules()):
        images = images.clone()  # Before the first weights, such a layer would overwrite the images themselves.
    return functional_call(network, weights, (images,))
