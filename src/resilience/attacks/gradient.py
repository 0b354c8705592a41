"""Gradient attacks on the posterior predictive (paper, Sec. II-B, II-C and VII-B).

The gradient of the loss of the mean prediction, full step: sign ∇ₓ L(E_w[p(x, w)], y). A point estimate is a posterior of
one draw, so the same functions attack both. Gradients are summed draw by draw, so memory does not grow with their number.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, logsigmoid

from resilience.attacks.ball import Ball, FeasibleSet, NormBall, ball_step, refuse_no_gradient
from resilience.attacks.loop import DIRECTIONS, Best, Direction, advantage, search, sign, steepest, targets
from resilience.attacks.predictive import Average, OfLogits, OfProbabilities, Predictive, log_odds_against
from resilience.catalog import entry
from resilience.computing import in_chunks
from resilience.graphs import chunk_of, graphs_of, knowing_what_they_share, pass_down, trace
from resilience.networks import Shape, image_shape
from resilience.parameters import Count, NonNegativeCount, Positive, Share
from resilience.posterior import Posterior

Objective = Literal[
    "likelihood",
    "mean_likelihood",
    "margin",
    "carlini_wagner",
    "targeted_carlini_wagner",
    "saturating",
    "second_softmax",
    "mean_logits",
]
#: What is lowered for a target where it is not the function that is raised for the label.
TOWARDS_A_TARGET: dict[Objective, Objective] = {"carlini_wagner": "targeted_carlini_wagner"}


@entry()
def fgsm(
    posterior: Posterior,
    x: Tensor,
    y: Tensor,
    *,
    epsilon: Share,
    objective: Literal[
        "likelihood", "mean_likelihood", "margin", "carlini_wagner", "saturating", "second_softmax", "mean_logits"
    ] = "likelihood",
) -> Tensor:
    """Fast Gradient Sign Method: x + epsilon · sign ∇ₓ L, clamped to [0, 1] (paper, Sec. VII-B).

    Where rounding would take a pixel further than epsilon, it ends at the number before.

    Parameters
    ----------
    posterior
        The network under attack.
    x, y
        Images [N, C, H, W] in [0, 1] and labels [N].
    epsilon
        Largest change of a pixel.
    objective
        The loss; see :class:`LossGradient`.

    Returns
    -------
    Tensor
        Attacked images [N, C, H, W] in [0, 1].
    """
    loss = LossGradient(posterior, image_shape(x), objective)
    return search(lambda at: loss(at, y), Ball(x, epsilon), sign, epsilon, 1, x, "FGSM")


@entry()
def pgd(
    posterior: Posterior,
    x: Tensor,
    y: Tensor,
    generator: torch.Generator,
    *,
    epsilon: Share,
    steps: Count = 40,
    step_size: Share | None = None,
    objective: Literal[
        "likelihood", "mean_likelihood", "margin", "carlini_wagner", "saturating", "second_softmax", "mean_logits"
    ] = "likelihood",
    target: Literal["none", "next", "least_likely", "random"] | NonNegativeCount = "none",
    start: Literal["random", "clean"] = "random",
    restarts: Count = 1,
) -> Tensor:
    """Projected Gradient Descent: a random start in the epsilon-ball, then steps of FGSM, each projected back.

    Parameters
    ----------
    posterior, x, y, epsilon, objective
        See :func:`fgsm`.
    generator
        For the random start, uniform in the ball, and for random targets.
    steps
        Number of steps.
    step_size
        Size of a step; 2.5 · epsilon / steps if None (Madry et al. 2018).
    target
        The class that images are to be taken for: the ``next`` one after the label, the ``least_likely`` one, a ``random``
        one, or a number; ``none`` for any but the label.
    start
        Where the attack begins: at a ``random`` point of the ball, or at the ``clean`` image.
    restarts
        How often it begins, after the first time at a random point; the image counts whose class has lost by most.

    Returns
    -------
    Tensor
        Attacked images [N, C, H, W] in [0, 1].
    """
    aim = Aim.of(posterior, x, y, objective, target, generator)
    return aim.descend(Ball(x, epsilon), sign, ball_step(step_size, epsilon, steps), steps, start, restarts, generator)


@entry(norm="l2")
def pgd_l2(
    posterior: Posterior,
    x: Tensor,
    y: Tensor,
    generator: torch.Generator,
    *,
    epsilon: Positive,
    steps: Count = 40,
    step_size: Positive | None = None,
    objective: Literal[
        "likelihood", "mean_likelihood", "margin", "carlini_wagner", "saturating", "second_softmax", "mean_logits"
    ] = "likelihood",
    target: Literal["none", "next", "least_likely", "random"] | NonNegativeCount = "none",
    start: Literal["random", "clean"] = "random",
    restarts: Count = 1,
    direction: Literal["normalised", "sign"] = "normalised",
) -> Tensor:
    """Projected Gradient Descent in the ℓ2 ball, ‖x̃ − x‖₂ ≤ epsilon over all C · H · W pixels (Madry et al. 2018).

    Parameters
    ----------
    epsilon
        Largest ℓ2 norm of the change. A step may be larger: it jumps and is projected (Kim et al. 2019).
    direction
        Of a step: the gradient divided by its ℓ2 norm, or its ``sign``, as in Zhang & Zhu 2019.
    """
    aim = Aim.of(posterior, x, y, objective, target, generator)
    size = ball_step(step_size, epsilon, steps)
    return aim.descend(NormBall(x, epsilon, 2), DIRECTIONS[direction], size, steps, start, restarts, generator)


@entry(norm="l1")
def pgd_l1(
    posterior: Posterior,
    x: Tensor,
    y: Tensor,
    generator: torch.Generator,
    *,
    epsilon: Positive,
    steps: Count = 40,
    step_size: Positive | None = None,
    objective: Literal[
        "likelihood", "mean_likelihood", "margin", "carlini_wagner", "saturating", "second_softmax", "mean_logits"
    ] = "likelihood",
    target: Literal["none", "next", "least_likely", "random"] | NonNegativeCount = "none",
    start: Literal["random", "clean"] = "random",
    restarts: Count = 1,
    share: Share = 0.05,
) -> Tensor:
    """Projected Gradient Descent in the ℓ1 ball, each step along the steepest few pixels (Tramèr & Boneh 2019, SLIDE).

    Parameters
    ----------
    epsilon
        Largest ℓ1 norm of the change.
    share
        Of the pixels that a step moves, all as far.
    """
    aim = Aim.of(posterior, x, y, objective, target, generator)
    size = ball_step(step_size, epsilon, steps)
    return aim.descend(
        NormBall(x, epsilon, 1), lambda gradient: steepest(gradient, share), size, steps, start, restarts, generator
    )


@dataclass(frozen=True)
class Aim:
    """What an attack does to each image: away from its label, or towards a target, along the gradient of an objective."""

    posterior: Posterior
    x: Tensor
    classes: Tensor
    sign: int
    loss: LossGradient

    @classmethod
    def of(
        cls, posterior: Posterior, x: Tensor, y: Tensor, objective: Objective, target: str | int, generator: torch.Generator
    ) -> Aim:
        """The aim of an entry; the target may be ``none``, see :func:`resilience.attacks.loop.targets`."""
        if target == "none":
            return cls(posterior, x, y, 1, LossGradient(posterior, image_shape(x), objective))
        loss = LossGradient(posterior, image_shape(x), TOWARDS_A_TARGET.get(objective, objective))
        return cls(posterior, x, targets(posterior, x, y, target, generator), -1, loss)

    def gradient(self, attacked: Tensor) -> Tensor:
        """Of what is raised."""
        return self.sign * self.loss(attacked, self.classes)

    def reached(self, attacked: Tensor) -> Tensor:
        """How far each image is where it shall be [N]; above zero where the attack has succeeded."""
        return self.sign * advantage(self.posterior, attacked, self.classes)

    def descend(
        self,
        feasible: FeasibleSet,
        direction: Direction,
        size: float,
        steps: int,
        start: str,
        restarts: int,
        generator: torch.Generator,
    ) -> Tensor:
        """Attacked images [N, C, H, W]: those of several starts that have got furthest."""
        found = None
        for restart in range(restarts):
            begin = self.x if start == "clean" and restart == 0 else feasible.start(generator)
            attacked = search(self.gradient, feasible, direction, size, steps, begin, "PGD")
            if restarts == 1:
                return attacked
            if found is None:
                found = Best(attacked, self.reached(attacked))
            else:
                found.see(attacked, self.reached(attacked))
        assert found is not None
        return found.x


class LossGradient:
    """Direction of ∇ₓ L(E_w[p(x, w)], y), the gradient of the loss of the posterior predictive.

    With u_s the value of the objective in draw s, the gradient is Σ_s c_s ∇u_s, where

    * ``likelihood``: L = −log E_w[p_y], u = log Σ_{j≠y} exp(z_j − z_y), p_y = σ(−u) and c ∝ p_y (1 − p_y). Written in u it
      does not saturate: the derivative of −log p_y underflows for a confident network, that of u does not.
    * ``mean_likelihood``: L = E_w[−log p_y], the mean of the draws' losses instead of the loss of their mean (Carbone et al.
      2020); the same u, and c = σ(u).
    * ``margin``: L = E_w[u] with u = max_{j≠y} z_j − z_y, and c is the same for all draws.
    * ``carlini_wagner``: L = E_w[min(u, 0)] with the same u, so that a draw which is wrong already pulls no more (Carlini &
      Wagner 2017, f₆ with κ = 0). ``targeted_carlini_wagner``, which is lowered for a target: L = E_w[max(u, 0)].
    * ``saturating``: the likelihood as automatic differentiation computes it, through the softmax in float32. It is exactly
      zero for a confident network, so an attack does nothing. The published code has it; use it to measure what that hides.
    * ``second_softmax``: L = −log softmax(E_w[p])_y, as the code of Carbone et al. 2020 has it, which takes the
      probabilities of a posterior for logits. L cannot leave an interval of length 1, and its gradient vanishes where draws
      are confident, rightly or wrongly. A single network gives logits there: for one draw it is ``saturating``.
    * ``mean_logits``: L = −log softmax(E_w[z])_y, the loss of a prediction by the mean of logits, as that code has it for
      ensembles; for one draw it is ``likelihood``.

    Each image's gradient comes out up to a positive factor, which an attack that takes its sign does not see.

    Parameters
    ----------
    posterior
        S draws.
    shape
        (channels, height, width) of the images.
    objective
        One of these.
    """

    def __init__(self, posterior: Posterior, shape: Shape, objective: Objective):
        self._graphs = graphs_of(posterior, shape)
        self._chunk = chunk_of(posterior.network, shape)
        self._measure = MEASURES[objective]
        self._of_mean: Callable[[Tensor, Tensor], Tensor] | None = None
        if objective in OF_THE_MEAN and len(posterior) > 1:
            self._of_mean, average = OF_THE_MEAN[objective]
            self._predictive = Predictive(posterior, shape, average())

    @torch.no_grad()
    def __call__(self, x: Tensor, y: Tensor) -> Tensor:
        """The gradient [N, C, H, W] at images [N, C, H, W] with labels [N].

        Raises
        ------
        AttackError
            If it is not finite: its sign would count as zero, and the attack would leave the image as it is.
        """
        if (of_mean := self._of_mean) is not None:
            return self._predictive.gradient(x, lambda mean, part: of_mean(mean, y[part]))[1]
        total = torch.zeros_like(x)

        def work(part: slice) -> None:
            total[part] = self._sum_over_draws(x[part], y[part])

        in_chunks(work, len(x), self._chunk)
        refuse_no_gradient(total)
        return total

    def _sum_over_draws(self, x: Tensor, y: Tensor) -> Tensor:
        """Draws are added up where what they share begins, and the sum is passed down from there."""
        if len(self._graphs) == 1:
            passed = trace(self._graphs[0], x)
            return pass_down(passed, {len(passed.graph.nodes) - 1: self._measure(passed.output, y)[0]}, 1)[0]
        total: dict[int, Tensor] = {}
        largest = torch.full((len(x),), -torch.inf, dtype=x.dtype, device=x.device)
        for graph in knowing_what_they_share(self._graphs, x):
            passed = trace(graph, x)
            slope, log_weight = self._measure(passed.output, y)
            gradients = pass_down(passed, {len(graph.nodes) - 1: slope}, graph.begin)
            # The weights span hundreds of orders of magnitude, so they are kept relative to the largest one so far.
            present = torch.maximum(largest, log_weight)
            before, weight = torch.exp(largest - present), torch.exp(log_weight - present)
            for node, gradient in gradients.items():
                weighted = gradient * _per_image(weight, gradient)
                total[node] = weighted.add_(total[node] * _per_image(before, gradient)) if node in total else weighted
            largest = present
        return pass_down(passed, total, 1)[0]


def _likelihood(logits: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """∂u/∂z [N, classes] for u = log Σ_{j≠y} exp(z_j − z_y), and the log of the weight σ(u) σ(−u) [N]."""
    slope, value = _log_odds(logits, y)
    return slope, logsigmoid(value) + logsigmoid(-value)


def _margin(logits: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """∂u/∂z [N, classes] for u = max_{j≠y} z_j − z_y, and the log of the weight, 0 [N]."""
    runner_up = logits.scatter(1, y[:, None], -torch.inf).argmax(1, keepdim=True)
    slope = torch.zeros_like(logits).scatter(1, runner_up, 1.0).scatter(1, y[:, None], -1.0)
    return slope, torch.zeros_like(slope[:, 0])


def _mean_likelihood(logits: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """∂u/∂z [N, classes] for u = log Σ_{j≠y} exp(z_j − z_y), and the log of the weight σ(u) [N]."""
    slope, value = _log_odds(logits, y)
    return slope, logsigmoid(value)


def _log_odds(logits: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """∂u/∂z [N, classes] and u [N] for u = log Σ_{j≠y} exp(z_j − z_y)."""
    others = logits.scatter(1, y[:, None], -torch.inf)
    value = others.logsumexp(1) - logits.gather(1, y[:, None])[:, 0]
    return others.softmax(1).scatter(1, y[:, None], -1.0), value


def _carlini_wagner(logits: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """∂/∂z [N, classes] of min(u, 0) for u = max_{j≠y} z_j − z_y, and the log of the weight, 0 [N]."""
    slope, log_weight = _margin(logits, y)
    margin = (slope * logits).sum(1, keepdim=True)
    return torch.where(margin < 0, slope, torch.zeros_like(slope)), log_weight


def _targeted_carlini_wagner(logits: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """∂/∂z [N, classes] of max(u, 0) for u = max_{j≠y} z_j − z_y, and the log of the weight, 0 [N]."""
    slope, log_weight = _margin(logits, y)
    margin = (slope * logits).sum(1, keepdim=True)
    return torch.where(margin > 0, slope, torch.zeros_like(slope)), log_weight


def _saturating(logits: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """∂(−log p_y)/∂z = p − 1_y [N, classes], and log p_y [N]: exactly zero where p_y rounds to one."""
    log_probabilities = logits.log_softmax(1)
    one_hot = torch.zeros_like(logits).scatter(1, y[:, None], 1.0)
    return log_probabilities.exp() - one_hot, log_probabilities.gather(1, y[:, None])[:, 0]


MEASURES: dict[str, Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]] = {
    "likelihood": _likelihood,
    "mean_likelihood": _mean_likelihood,
    "margin": _margin,
    "carlini_wagner": _carlini_wagner,
    "targeted_carlini_wagner": _targeted_carlini_wagner,
    "saturating": _saturating,
    "second_softmax": _saturating,
    "mean_logits": _likelihood,
}


def _second_softmax(log_mean: Tensor, y: Tensor) -> Tensor:
    """−log softmax(P)_y [N] of mean probabilities P, from log P [N, classes]."""
    return cross_entropy(log_mean.exp(), y, reduction="none")


#: Objectives of several draws that are functions of what these predict together, not of each; and how they predict.
OF_THE_MEAN: dict[str, tuple[Callable[[Tensor, Tensor], Tensor], type[Average]]] = {
    "second_softmax": (_second_softmax, OfProbabilities),
    "mean_logits": (log_odds_against, OfLogits),
}


def _per_image(factor: Tensor, like: Tensor) -> Tensor:
    return factor.view(-1, *[1] * (like.dim() - 1))
