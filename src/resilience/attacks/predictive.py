"""Functions of the mean prediction, log E_w[p(x, w)], and their gradients: what AutoAttack is told of a posterior.

The expectation over draws is taken whole, so that an attack on it is not random (expectation over transformation with every
transformation there is, Athalye et al. 2018).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Protocol

import torch
from torch import Tensor

from resilience.attacks.ball import refuse_no_gradient
from resilience.computing import in_chunks
from resilience.graphs import Graph, Passed, chunk_of, graphs_of, knowing_what_they_share, pass_down, trace
from resilience.networks import Shape
from resilience.posterior import Posterior


class Average(Protocol):
    """What is made of the logits of several draws."""

    def so_far(self, total: Tensor | None, logits: Tensor) -> Tensor:
        """The sum with that of one more draw [N, classes]."""

    def mean(self, total: Tensor, draws: int) -> Tensor:
        """The mean of so many draws [N, classes] from their sum."""

    def slope(self, slope: Tensor, logits: Tensor, mean: Tensor, draws: int) -> Tensor:
        """∂f / ∂z [N, classes] for the logits z of one draw, from ∂f / ∂mean."""


class OfProbabilities:
    """Logarithms of the mean probabilities, log E_w[softmax z]: the posterior predictive."""

    def so_far(self, total: Tensor | None, logits: Tensor) -> Tensor:
        """Logarithms of the sum of probabilities."""
        log_p = logits.log_softmax(1)
        return log_p if total is None else torch.logaddexp(total, log_p)

    def mean(self, total: Tensor, draws: int) -> Tensor:
        """Logarithms of their mean."""
        return total - math.log(draws)

    def slope(self, slope: Tensor, logits: Tensor, mean: Tensor, draws: int) -> Tensor:
        """With g the slope and r_s = p_s / Σ_s p_s, that is g r_s − p_s Σ_j g_j r_sj."""
        log_p = logits.log_softmax(1)
        shares = slope * torch.exp(log_p - mean - math.log(draws))
        return shares - log_p.exp() * shares.sum(1, keepdim=True)


class OfLogits:
    """The mean logits, E_w[z]: what the code of Carbone et al. 2020 takes for the prediction of an ensemble."""

    def so_far(self, total: Tensor | None, logits: Tensor) -> Tensor:
        """Their sum."""
        return logits if total is None else total + logits

    def mean(self, total: Tensor, draws: int) -> Tensor:
        """Their mean."""
        return total / draws

    def slope(self, slope: Tensor, logits: Tensor, mean: Tensor, draws: int) -> Tensor:
        """The same for all draws."""
        return slope / draws


class Predictive:
    """The prediction of S draws together, for images of one shape, (channels, height, width).

    That is the posterior predictive, unless another average than that of probabilities is taken.
    """

    def __init__(self, posterior: Posterior, shape: Shape, average: Average | None = None):
        self._graphs = graphs_of(posterior, shape)
        self._chunk = chunk_of(posterior.network, shape)
        self._average = average or OfProbabilities()

    @torch.no_grad()
    def log_probabilities(self, x: Tensor) -> Tensor:
        """Logarithms of E_w[p], [N, classes], of images [N, C, H, W]."""
        found: dict[int, Tensor] = {}

        def work(part: slice) -> None:
            images = x[part]
            found[part.start], _ = self._mean(knowing_what_they_share(self._graphs, images), images)

        in_chunks(work, len(x), self._chunk)
        return torch.cat([found[first] for first in sorted(found)])

    @torch.no_grad()
    def gradient(self, x: Tensor, of: Callable[[Tensor, slice], Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """A value [N] of the mean, its gradient [N, C, H, W], and the classes [N] that the images are taken for.

        Parameters
        ----------
        x
            Images [N, C, H, W].
        of
            Gets the mean of some of the images, log-probabilities unless another average is taken, and which these are.
        """
        values, total = x.new_zeros(len(x)), torch.zeros_like(x)
        classes = torch.zeros(len(x), dtype=torch.long, device=x.device)

        def work(part: slice) -> None:
            images = x[part]
            graphs = knowing_what_they_share(self._graphs, images)
            mean, passed_up = self._mean(graphs, images)
            classes[part] = mean.argmax(1)
            with torch.enable_grad():
                variable = mean.clone().requires_grad_()
                value = of(variable, part)
                (slope,) = torch.autograd.grad(value.sum(), variable)
            values[part] = value.detach()
            sums: dict[int, Tensor] = {}
            for graph in reversed(graphs):
                # The last draw has been passed up just now; no other is kept, so memory does not grow with their number.
                passed = passed_up if graph is passed_up.graph else trace(graph, images)
                of_logits = self._average.slope(slope, passed.output, mean, len(graphs))
                for node, gradient in pass_down(passed, {len(graph.nodes) - 1: of_logits}, graph.begin).items():
                    sums[node] = gradient + sums[node] if node in sums else gradient
            # What draws share is passed down once.
            total[part] = pass_down(passed_up, sums, 1)[0]

        in_chunks(work, len(x), self._chunk)
        refuse_no_gradient(total)
        return values, total, classes

    def _mean(self, graphs: Sequence[Graph], x: Tensor) -> tuple[Tensor, Passed]:
        """The mean of all draws [N, classes], and the pass up of the last one."""
        total, passed = None, None
        for graph in graphs:
            passed = trace(graph, x)
            total = self._average.so_far(total, passed.output)
        assert total is not None
        assert passed is not None
        return self._average.mean(total, len(graphs)), passed


def log_odds_against(log_probabilities: Tensor, y: Tensor) -> Tensor:
    """log((1 − p_y) / p_y) [N]: rises and falls with the cross-entropy, and saturates nowhere."""
    own = log_probabilities.gather(1, y[:, None])
    others = log_probabilities.scatter(1, y[:, None], -torch.inf)
    return others.logsumexp(1) - own[:, 0]


def difference_of_logits_ratio(log_probabilities: Tensor, y: Tensor) -> Tensor:
    """DLR [N], −(z_y − max_{j≠y} z_j) / (z_π1 − z_π3), which no scale of the logits changes (Croce & Hein 2020, Eq. 6).

    Of two classes, which have no third largest logit, the numerator alone.
    """
    ordered = log_probabilities.sort(1, descending=True).values
    own = log_probabilities.gather(1, y[:, None])[:, 0]
    largest_other = log_probabilities.scatter(1, y[:, None], -torch.inf).amax(1)
    if log_probabilities.shape[1] < 3:
        return largest_other - own
    return (largest_other - own) / (ordered[:, 0] - ordered[:, 2] + 1e-12)


def targeted_difference_of_logits_ratio(log_probabilities: Tensor, y: Tensor, target: Tensor) -> Tensor:
    """Targeted DLR [N], −(z_y − z_t) / (z_π1 − (z_π3 + z_π4) / 2) (Croce & Hein 2020, Eq. 7); of three, −(z_y − z_t)."""
    own, wanted = (log_probabilities.gather(1, classes[:, None])[:, 0] for classes in (y, target))
    if log_probabilities.shape[1] < 4:
        return wanted - own
    ordered = log_probabilities.sort(1, descending=True).values
    return (wanted - own) / (ordered[:, 0] - (ordered[:, 2] + ordered[:, 3]) / 2 + 1e-12)
