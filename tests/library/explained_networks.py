"""Small networks that explanations are tested on, and the explanations by one draw of their weights."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from resilience import catalog, networks
from resilience.architectures import stacks
from resilience.graphs import graphs_of
from resilience.posterior import point
from tests.library.lrp_stacks import STACKS, images

#: Networks that end in global average pooling and one linear layer, and the shapes of their images.
POOLED = {"pooled": (1, 8, 8), "pooled, in colour": (3, 16, 18)}
NETWORKS = [*STACKS, *POOLED]
CONVOLUTIONAL = [name for name in NETWORKS if name != "linear"]


def network(name: str, bias: bool = True) -> tuple[nn.Sequential, Tensor]:
    """A network of random weights in double precision, and images for it."""
    torch.manual_seed(1)
    if name in POOLED:
        layers = list(stacks.pooled(POOLED[name], 3, width=6))
        shape = POOLED[name]
    else:
        build, shape = STACKS[name]
        layers = build(bias)
    return nn.Sequential(*layers).double().eval(), images(shape, seed=2)


def predicted(model: nn.Sequential, x: Tensor) -> Tensor:
    return model(x).argmax(1).detach()


def relevance(method: str, model: nn.Sequential, x: Tensor, classes: Tensor, seed: int = 0, **options) -> Tensor:
    """The explanation by the stack of a network, as a config entry names it."""
    [graph] = graphs_of(point(model), tuple(x.shape[1:]))
    make = catalog.bound("explanations", {"method": method, **options})
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        return make(graph=graph, x=x, explained=classes, layers=networks.learnable_layers(model), generator=generator)


def quantity(of: str, logits: Tensor, classes: Tensor) -> Tensor:
    """The sum over images of what is explained, in PyTorch's own words."""
    match of:
        case "logit":
            return logits.gather(1, classes[:, None]).sum()
        case "probability":
            return logits.softmax(1).gather(1, classes[:, None]).sum()
        case "log_probability":
            return -functional.cross_entropy(logits, classes, reduction="sum")
        case "loss":
            return functional.cross_entropy(logits, classes, reduction="sum")
    raise ValueError(of)


def by_autograd(model: nn.Sequential, x: Tensor, classes: Tensor, of: str = "logit") -> Tensor:
    """The gradient of a quantity of some classes by automatic differentiation."""
    variable = x.clone().requires_grad_()
    (found,) = torch.autograd.grad(quantity(of, model(variable), classes), variable)
    return found
