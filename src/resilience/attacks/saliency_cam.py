"""The attack on class activation maps with which Boopathy et al. 2020 judge how robust an explanation is (AAI)."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from resilience.attacks import loop
from resilience.attacks.ball import AttackError, Ball, ball_step, refuse_no_gradient
from resilience.attacks.gradient import LossGradient
from resilience.attacks.loop import Best
from resilience.catalog import entry
from resilience.computing import in_chunks
from resilience.explanations.class_activation import before_pooled_head
from resilience.graphs import chunk_of, graphs_of, input_gradient, trace
from resilience.networks import image_shape
from resilience.parameters import Count, Fraction, NonNegative, Share
from resilience.posterior import Posterior, predict

#: Who refuses a network without such a head, and what to do instead.
REFUSED = ("saliency_cam", "attack this one by saliency_top_k")
#: Of mean maps [N, h, w] the value [N] that is raised, and its derivative [N, h, w].
Dissimilarity = Callable[[Tensor], tuple[Tensor, Tensor]]


@entry(needs="pooled_head")
def saliency_cam(
    posterior: Posterior,
    x: Tensor,
    y: Tensor,
    generator: torch.Generator,
    *,
    epsilon: Share,
    steps: Count = 200,
    step_size: Fraction | None = None,
    restarts: Count = 1,
    discrepancy: Literal["top_places", "one_class"] = "top_places",
    places: Count = 8,
    prediction_weight: NonNegative = 0.0,
) -> Tensor:
    """Changes the class activation map M of the label and leaves the predicted class ("AAI", Boopathy et al. 2020).

    By ``top_places`` D = −Σ_{i ∈ Top_k(M(x))} M(x̃)_i, as in the published code; by ``one_class`` the paper's
    D = ½ ‖M(x) − M(x̃)‖₁. Raised is D − λ E_w[max(max_{j≠y} f_j − f_y, 0)]. M is the mean over draws, with 1 / u; see
    :func:`resilience.explanations.class_activation.cam`. Of the images on the way, the one counts that has the largest D
    while the predicted class stays.

    Parameters
    ----------
    posterior, x, y, epsilon
        See :func:`resilience.attacks.gradient.fgsm`; the network must end in a global average pooling and a linear layer.
    generator
        For the random starts in the epsilon-ball.
    steps
        Steps of each restart.
    step_size
        Size of a step; 2.5 · epsilon / steps if None. The published code has 0.01.
    restarts
        How often the search starts, each time elsewhere in the ball.
    discrepancy
        What is raised: ``top_places`` lowers those that were the largest, ``one_class`` raises ½ ‖M(x) − M(x̃)‖₁.
    places
        How many of the largest, of the map before it is enlarged.
    prediction_weight
        λ, on the lead of another class over the label; the published code has none.

    Returns
    -------
    Tensor
        Attacked images [N, C, H, W] in [0, 1].

    Raises
    ------
    LayerError
        If the network has no such head.
    AttackError
        If the map has fewer places.
    """
    maps, ball, size = MeanMaps(posterior, x), Ball(x, epsilon), ball_step(step_size, epsilon, steps)
    clean, classes = maps.of(x, y), predict(posterior, x).argmax(1)
    dissimilarity = _off_the_top(clean, places) if discrepancy == "top_places" else _one_class(clean)
    overtaken = LossGradient(posterior, image_shape(x), "targeted_carlini_wagner")
    kept = Best(x, dissimilarity(clean)[0])

    def gradient(attacked: Tensor) -> Tensor:
        found = maps.gradient(attacked, y, dissimilarity)
        if prediction_weight:
            found = found - prediction_weight * overtaken(attacked, y) / len(posterior)
        refuse_no_gradient(found)
        return found

    def watch(attacked: Tensor) -> None:
        stays = predict(posterior, attacked).argmax(1) == classes
        kept.see(attacked, dissimilarity(maps.of(attacked, y))[0], stays)

    for _ in range(restarts):
        loop.search(gradient, ball, loop.sign, size, steps, ball.start(generator), "saliency", watch)
    return kept.x


class MeanMaps:
    """Class activation maps before they are enlarged, the mean over S draws, for images of one shape."""

    def __init__(self, posterior: Posterior, x: Tensor):
        self._graphs = graphs_of(posterior, image_shape(x))
        self._chunk = chunk_of(posterior.network, image_shape(x))

    @torch.no_grad()
    def of(self, x: Tensor, classes: Tensor) -> Tensor:
        """Maps [N, h, w] of classes [N] for images [N, C, H, W]."""
        found: dict[int, Tensor] = {}

        def work(part: slice) -> None:
            found[part.start] = self._mean(x[part], classes[part])

        in_chunks(work, len(x), self._chunk)
        return torch.cat([found[first] for first in sorted(found)])

    @torch.no_grad()
    def gradient(self, x: Tensor, classes: Tensor, of: Dissimilarity) -> Tensor:
        """That [N, C, H, W] of a function of the maps: by the chain rule with its derivative at the mean over draws."""
        _, slopes = of(self.of(x, classes))
        total = torch.zeros_like(x)

        def work(part: slice) -> None:
            for graph in self._graphs:
                passed = trace(graph, x[part])
                node, head = before_pooled_head(passed, *REFUSED)
                places = math.prod(slopes.shape[1:]) * len(self._graphs)
                slope = head.weight[classes[part]][:, :, None, None] * slopes[part][:, None] / places
                total[part] += input_gradient(passed, slope.contiguous(memory_format=torch.channels_last), node)

        in_chunks(work, len(x), self._chunk)
        return total

    def _mean(self, x: Tensor, classes: Tensor) -> Tensor:
        total = None
        for graph in self._graphs:
            passed = trace(graph, x)
            node, head = before_pooled_head(passed, *REFUSED)
            activations = passed.steps[node].z
            each = (head.weight[classes][:, :, None, None] * activations).sum(1) / math.prod(activations.shape[2:])
            total = each if total is None else total + each
        assert total is not None
        return total / len(self._graphs)


def _off_the_top(clean: Tensor, places: int) -> Dissimilarity:
    """−Σ M(x̃)_i over the k largest places of M(x)."""
    flat = clean.flatten(1)
    if places > flat.shape[1]:
        raise AttackError(f"places: {places} of a class activation map that has {flat.shape[1]}; take fewer")
    chosen = torch.zeros_like(flat).scatter(1, flat.argsort(stable=True, dim=1, descending=True)[:, :places], 1.0)
    top = chosen.view_as(clean)
    return lambda maps: (-(maps * top).flatten(1).sum(1), -top)


def _one_class(clean: Tensor) -> Dissimilarity:
    """½ ‖M(x) − M(x̃)‖₁."""
    return lambda maps: ((maps - clean).abs().flatten(1).sum(1) / 2, (maps - clean).sign() / 2)
