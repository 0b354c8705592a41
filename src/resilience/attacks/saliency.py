"""Attacks on the explanation that leave the prediction as it is (paper, Sec. VII-C).

They follow the gradient of a dissimilarity D of the heat map R(x̃) = E_w[R(x̃, w)]. The gradient of a piecewise linear
network is piecewise constant, so Dombrowski et al. 2019, who attack such maps, round the kinks of ReLU and LeakyReLU by
softplus while they search. Relevance by the epsilon rule has a gradient without that, and rounding leads away from it:
the more so the deeper a network is, since every layer adds to how far the rounded one is off. So kinks stay unless a
``sharpness`` is given. An image that has left its class steps back along the gradient of that class's likelihood. Among
all the images on the way, the one that counts is the one whose heat map, by the network itself, has the largest
dissimilarity while the predicted class stays; an image without such a step stays as it is.

Every D but the distance to a target is a share of all relevance. A sum alone would be lowered by shrinking the whole map,
which changes nothing that an explanation says.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import mse_loss, softplus

from resilience.attacks import loop
from resilience.attacks.ball import Ball, ball_step, refuse_no_gradient
from resilience.attacks.gradient import LossGradient
from resilience.attacks.loop import Best
from resilience.catalog import entry
from resilience.computing import in_chunks
from resilience.graphs import Graph, chunk_of, graphs_of
from resilience.lrp_composites import SUM_STABILISER
from resilience.measures.channels import of_pixels
from resilience.measures.top_pixels import top_pixels
from resilience.networks import image_shape
from resilience.operations import Affine, Elementwise, Operation, Product, Rectifier, Sum
from resilience.parameters import Count, Fraction, NonNegative, Percent, Positive, Share
from resilience.posterior import Posterior, predict

#: D of heat maps [N, C, H, W]: a value [N] for each, which the attack raises.
Dissimilarity = Callable[[Tensor], Tensor]
#: Makes D for a batch from its heat maps before the attack and its slice of the whole.
Objective = Callable[[Tensor, slice], Dissimilarity]


@dataclass(frozen=True)
class Search:
    """How an attack on explanations searches: strength, steps and their size, restarts, rounding of kinks, LRP's epsilon.

    The weight is that of the change of the mean prediction, beside D.
    """

    epsilon: float
    steps: int
    step_size: float | None
    restarts: int
    sharpness: float | None
    stabiliser: float
    prediction_weight: float = 0.0


@entry()
def saliency_top_k(
    posterior: Posterior,
    x: Tensor,
    generator: torch.Generator,
    *,
    epsilon: Share,
    steps: Count = 20,
    step_size: Fraction | None = None,
    restarts: Count = 1,
    top_k: Percent = 20,
    channels: Literal["sum", "each"] = "sum",
    sharpness: Positive | None = None,
    stabiliser: Positive = 0.1,
) -> Tensor:
    """Takes relevance from the pixels that had most of it: D = −Σ_{i ∈ Top_k(R(x))} |R(x̃)_i| / Σ_i |R(x̃)_i|.

    Ghorbani et al. 2019, there without the sum over all pixels.

    Parameters
    ----------
    posterior, x, epsilon
        See :func:`resilience.attacks.gradient.fgsm`.
    generator
        For the random starts in the epsilon-ball.
    steps
        Steps of each restart.
    step_size
        Size of a step; 2.5 · epsilon / steps if None.
    restarts
        How often the search starts, each time elsewhere in the ball.
    top_k
        The percentage of most relevant pixels.
    channels
        What a pixel of a colour image is: ``sum``, one with the relevance Σ_channels R; ``each``, every channel by itself.
    sharpness
        β of a softplus that rounds kinks during the search, log(1 + exp(β z)) / β; they stay if None.
    stabiliser
        ε of the epsilon rule of the heat maps under attack.

    Returns
    -------
    Tensor
        Attacked images [N, C, H, W] in [0, 1].
    """

    def objective(clean: Tensor, _part: slice) -> Dissimilarity:
        top = torch.from_numpy(top_pixels(of_pixels(clean, channels).cpu().numpy(), top_k)).to(clean)
        return lambda relevance: -share_inside(of_pixels(relevance, channels), top)

    search = Search(epsilon, steps, step_size, restarts, sharpness, stabiliser)
    return _attack(posterior, x, generator, objective, search)


@entry()
def saliency_region(
    posterior: Posterior,
    x: Tensor,
    generator: torch.Generator,
    *,
    epsilon: Share,
    steps: Count = 20,
    step_size: Fraction | None = None,
    restarts: Count = 1,
    region: Percent = 20,
    channels: Literal["sum", "each"] = "sum",
    sharpness: Positive | None = None,
    stabiliser: Positive = 0.1,
) -> Tensor:
    """Moves relevance into a region: D = Σ_{i ∈ A} |R(x̃)_i| / Σ_i |R(x̃)_i| (Ghorbani et al. 2019, there without the sum).

    Parameters
    ----------
    posterior, x, generator, epsilon, steps, step_size, restarts, channels, sharpness, stabiliser
        See :func:`saliency_top_k`.
    region
        Percentage of the pixels in A, drawn at random for each image.
    """
    shape = of_pixels(x, channels).shape
    order = torch.rand(shape, generator=generator).flatten(1).argsort(1).argsort(1).view(shape)
    inside = (order < region / 100 * order[0].numel()).to(x)

    def objective(_clean: Tensor, part: slice) -> Dissimilarity:
        return lambda relevance: share_inside(of_pixels(relevance, channels), inside[part])

    search = Search(epsilon, steps, step_size, restarts, sharpness, stabiliser)
    return _attack(posterior, x, generator, objective, search)


@entry()
def saliency_target(
    posterior: Posterior,
    x: Tensor,
    generator: torch.Generator,
    *,
    epsilon: Share,
    steps: Count = 20,
    step_size: Fraction | None = None,
    restarts: Count = 1,
    prediction_weight: NonNegative = 1.0,
    channels: Literal["sum", "each"] = "sum",
    sharpness: Positive | None = None,
    stabiliser: Positive = 0.1,
) -> Tensor:
    """Makes the heat map that of another image: D = −‖R(x̃) − R(x')‖² − γ ‖p(x̃) − p(x)‖² (Dombrowski et al. 2019, "beta").

    Parameters
    ----------
    posterior, x, generator, epsilon, steps, step_size, restarts, channels, sharpness, stabiliser
        See :func:`saliency_top_k`.
    prediction_weight
        γ, on the change of the mean prediction.
    """
    other = another_image(len(x), generator)

    def objective(_clean: Tensor, part: slice) -> Dissimilarity:
        target = of_pixels(explanation(posterior, x[other[part]], stabiliser), channels)
        scale = target.flatten(1).square().sum(1).clamp(min=1e-12)
        return lambda relevance: -(of_pixels(relevance, channels) - target).flatten(1).square().sum(1) / scale

    search = Search(epsilon, steps, step_size, restarts, sharpness, stabiliser, prediction_weight)
    return _attack(posterior, x, generator, objective, search)


def share_inside(relevance: Tensor, region: Tensor) -> Tensor:
    """Σ_{i ∈ A} |R_i| / Σ_i |R_i| of pixels [N, …], with A as ones in a tensor of their shape: [N], from 0 to 1."""
    sizes = relevance.abs()
    return (sizes * region).flatten(1).sum(1) / sizes.flatten(1).sum(1).clamp(min=1e-12)


def another_image(images: int, generator: torch.Generator) -> Tensor:
    """For each of at least two images the index of another one, all in one random circle."""
    circle = torch.randperm(images, generator=generator)
    other = torch.empty_like(circle)
    other[circle] = circle.roll(1)
    return other


def _attack(posterior: Posterior, x: Tensor, generator: torch.Generator, objective: Objective, search: Search) -> Tensor:
    """The search of every attack here, a chunk of images at a time."""
    found = x.clone()
    starts = [Ball(x, search.epsilon).start(generator) for _ in range(search.restarts)]

    def work(part: slice) -> None:
        found[part] = _search(posterior, x[part], [start[part] for start in starts], objective, search, part)

    in_chunks(torch.enable_grad()(work), len(x), chunk_of(posterior.network, image_shape(x)))
    return found


def _search(
    posterior: Posterior, x: Tensor, starts: list[Tensor], objective: Objective, search: Search, part: slice
) -> Tensor:
    ball, size = Ball(x, search.epsilon), ball_step(search.step_size, search.epsilon, search.steps)
    prediction = predict(posterior, x)
    classes = prediction.argmax(1)
    clean = _mean_map(posterior, x, classes, search.stabiliser)
    dissimilarity, away = objective(clean, part), LossGradient(posterior, image_shape(x), "likelihood")
    kept, seen = Best(x, dissimilarity(clean)), _Predicted(posterior)

    def gradient(attacked: Tensor) -> Tensor:
        found = _gradient(posterior, attacked, prediction, dissimilarity, search)
        if (left := seen.classes(attacked) != classes).any():
            found[left] = -away(attacked[left], classes[left])
        refuse_no_gradient(found)
        return found

    def watch(attacked: Tensor) -> None:
        there = seen.classes(attacked)
        kept.see(attacked, dissimilarity(_mean_map(posterior, attacked, there, search.stabiliser)), there == classes)

    for start in starts:
        loop.search(gradient, ball, loop.sign, size, search.steps, start, "saliency", watch)
    return kept.x


class _Predicted:
    """The predicted classes of the images of a step, which are asked for twice."""

    def __init__(self, posterior: Posterior):
        self._posterior = posterior
        self._last: tuple[Tensor, Tensor] | None = None

    def classes(self, x: Tensor) -> Tensor:
        """Of the mean prediction [N], for images [N, C, H, W]."""
        if self._last is None or self._last[0] is not x:
            self._last = (x, predict(self._posterior, x).argmax(1))
        return self._last[1]


def explanation(posterior: Posterior, x: Tensor, stabiliser: float) -> Tensor:
    """Mean heat map [N, C, H, W] of the predicted class by the epsilon rule."""
    return _mean_map(posterior, x, predict(posterior, x).argmax(1), stabiliser)


def _mean_map(posterior: Posterior, x: Tensor, classes: Tensor, stabiliser: float, sharpness: float | None = None) -> Tensor:
    """Mean heat map of given classes, with kinks rounded if there is a sharpness, and without a graph."""
    total = torch.zeros_like(x)
    for graph in graphs_of(posterior, image_shape(x)):
        total += relevance_of(graph, x, classes, stabiliser, sharpness)[0].detach()
    return total / len(posterior)


def _gradient(posterior: Posterior, x: Tensor, prediction: Tensor, dissimilarity: Dissimilarity, search: Search) -> Tensor:
    """∇ₓ of D of the mean heat map minus the penalty on the mean prediction, draw by draw.

    By the chain rule, ∇ D(R̄) = Σ_s ∇ ⟨∂D/∂R̄, R_s⟩ / S: first the means, then a pass for each draw, so that no more than the
    graph of one draw is in memory.
    """
    classes = prediction.argmax(1)
    mean = _mean_map(posterior, x, classes, search.stabiliser, search.sharpness).requires_grad_()
    (slope,) = torch.autograd.grad(dissimilarity(mean).sum(), mean)
    probabilities = predict(posterior, x).requires_grad_()
    penalty = search.prediction_weight * mse_loss(probabilities, prediction, reduction="sum")
    (pull,) = torch.autograd.grad(penalty, probabilities)
    total = torch.zeros_like(x)
    for graph in graphs_of(posterior, image_shape(x)):
        variable = x.detach().requires_grad_()
        relevance, logits = relevance_of(graph, variable, classes, search.stabiliser, search.sharpness)
        aim = (slope * relevance).sum() - (pull * logits.softmax(1)).sum()
        total += torch.autograd.grad(aim, variable)[0]
    return total / len(posterior)


def relevance_of(
    graph: Graph, x: Tensor, classes: Tensor, stabiliser: float, sharpness: float | None
) -> tuple[Tensor, Tensor]:
    """Heat maps of one draw by the epsilon rule, and its logits, both with a graph of automatic differentiation.

    The same as :func:`resilience.explanations.lrp.heat_maps`, which is faster and has none; a test holds the two together.
    """
    outputs: list[Tensor] = []
    for node in graph.nodes:
        inputs = [outputs[place] for place in node.inputs] or [x if x.requires_grad else x.detach().requires_grad_()]
        outputs.append(_rounded(node.operation, inputs, sharpness))
    waiting = {len(outputs) - 1: torch.nn.functional.one_hot(classes, outputs[-1].shape[1]).to(x)}
    for place in reversed(range(1, len(outputs))):
        node = graph.nodes[place]
        if place not in waiting:
            continue
        parts = _shared(
            node.operation, [outputs[before] for before in node.inputs], outputs[place], waiting.pop(place), stabiliser
        )
        for before, part in zip(node.inputs, parts, strict=True):
            if part is not None:
                waiting[before] = waiting[before] + part if before in waiting else part
    return waiting[0], outputs[-1]


def _shared(
    operation: Operation, inputs: list[Tensor], z: Tensor, relevance: Tensor, stabiliser: float
) -> list[Tensor | None]:
    """The relevance of each input of an operation, from that of its output z."""
    match operation:
        case Elementwise():
            return [relevance]
        case Product(value):
            return [relevance if index == value else None for index in range(2)]
        case Affine():
            passed = torch.autograd.grad(z, inputs, relevance / _stabilised(z, stabiliser), create_graph=True)
            return [inputs[0] * passed[0]]
        case Sum():
            return [a * relevance / _stabilised(z, SUM_STABILISER) for a in inputs]
    return list(torch.autograd.grad(z, inputs, relevance, create_graph=True))


def _stabilised(z: Tensor, stabiliser: float) -> Tensor:
    return z + stabiliser * torch.where(z < 0, -torch.ones_like(z), torch.ones_like(z))


def _rounded(operation: Operation, inputs: list[Tensor], sharpness: float | None) -> Tensor:
    """What an operation computes, with kinks rounded if there is a sharpness."""
    if isinstance(operation, Rectifier) and sharpness is not None:
        return operation.slope * inputs[0] + (1 - operation.slope) * softplus(inputs[0], beta=sharpness)
    return operation.forward(*inputs)
