"""Auto-PGD: gradient steps with momentum whose size is halved where they do not help (Croce & Hein 2020)."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from resilience.attacks.ball import FeasibleSet, Norm, ball_of
from resilience.attacks.loop import STEEPEST_IN, Direction, Furthest
from resilience.attacks.predictive import Predictive, difference_of_logits_ratio, log_odds_against
from resilience.catalog import entry
from resilience.networks import image_shape
from resilience.parameters import Count, Positive, Share
from resilience.posterior import Posterior
from resilience.progress import track

#: Weight of the step beside that of the momentum, and the share of steps that must help (Sec. 3.2).
MOMENTUM, HELPFUL = 0.75, 0.75
LOSSES = {"cross_entropy": log_odds_against, "dlr": difference_of_logits_ratio}
Loss = Literal["cross_entropy", "dlr"]
#: Of images [N, C, H, W] the value [N] that is raised, its gradient, and the classes [N] that they are taken for.
Raised = Callable[[Tensor], tuple[Tensor, Tensor, Tensor]]


@entry()
def apgd(
    posterior: Posterior,
    x: Tensor,
    y: Tensor,
    generator: torch.Generator,
    *,
    epsilon: Share,
    steps: Count = 100,
    restarts: Count = 1,
    loss: Literal["cross_entropy", "dlr"] = "cross_entropy",
) -> Tensor:
    """Auto-PGD in the ℓ∞ ball, on the mean prediction of all draws (Croce & Hein 2020, Alg. 1).

    Parameters
    ----------
    epsilon
        Largest change of a pixel.
    steps
        Steps of each restart.
    restarts
        How often it begins at a random point. Of all images on the way the one counts that has the largest loss, among those
        that have lost their class if there are any.
    loss
        ``cross_entropy``, as its log-odds, which do not saturate; or ``dlr``, the difference of logits ratio.
    """
    return _climbed("linf", posterior, x, y, generator, epsilon, steps, restarts, loss)


@entry(norm="l2")
def apgd_l2(
    posterior: Posterior,
    x: Tensor,
    y: Tensor,
    generator: torch.Generator,
    *,
    epsilon: Positive,
    steps: Count = 100,
    restarts: Count = 1,
    loss: Literal["cross_entropy", "dlr"] = "cross_entropy",
) -> Tensor:
    """Auto-PGD in the ℓ2 ball, on the mean prediction of all draws (Croce & Hein 2020, Alg. 1).

    Parameters
    ----------
    epsilon
        Largest ℓ2 norm of the change.
    steps, restarts, loss
        See :func:`apgd`.
    """
    return _climbed("l2", posterior, x, y, generator, epsilon, steps, restarts, loss)


def _climbed(
    norm: Norm,
    posterior: Posterior,
    x: Tensor,
    y: Tensor,
    generator: torch.Generator,
    epsilon: float,
    steps: int,
    restarts: int,
    loss: Loss,
) -> Tensor:
    predictive, ball, furthest = Predictive(posterior, image_shape(x)), ball_of(norm, x, epsilon), Furthest(x)

    def raised(attacked: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return predictive.gradient(attacked, lambda log_p, part: LOSSES[loss](log_p, y[part]))

    for _ in range(restarts):
        climb(raised, ball, STEEPEST_IN[norm], 2 * epsilon, steps, ball.start(generator), y, furthest)
    return furthest.x


def climb(
    raised: Raised,
    feasible: FeasibleSet,
    direction: Direction,
    size: float,
    steps: int,
    start: Tensor,
    y: Tensor,
    furthest: Furthest,
) -> None:
    """One run of Auto-PGD.

    Parameters
    ----------
    raised
        The value [N] that is raised, its gradient, and the predicted classes [N], at images [N, C, H, W].
    feasible
        Where the images may be.
    direction, size
        Of the first step, twice the ball's radius.
    steps
        How many.
    start
        Images of the feasible set.
    y
        The classes [N] that the images shall lose.
    furthest
        Sees all images on the way.
    """
    at, before = start, start
    value, gradient, classes = raised(at)
    furthest.see(at, value, classes != y)
    best, largest, slope = at, value, gradient
    sizes = torch.full_like(value, size)
    unchanged, best_then = torch.ones_like(value, dtype=torch.bool), largest
    helped, since, last = torch.zeros_like(value), 0, value
    marks = checkpoints(steps)
    for step in track(range(1, steps + 1), "APGD"):
        moved = feasible.project(at + _per_image(sizes) * direction(gradient))
        if step > 1:
            moved = feasible.project(at + MOMENTUM * (moved - at) + (1 - MOMENTUM) * (at - before))
        before, at = at, moved
        value, gradient, classes = raised(at)
        furthest.see(at, value, classes != y)
        helped, since = helped + (value > last).to(value), since + 1
        better = value > largest
        best = torch.where(_per_image(better), at, best)
        slope = torch.where(_per_image(better), gradient, slope)
        largest, last = torch.maximum(largest, value), value
        if step in marks:
            stuck = helped < HELPFUL * since
            nothing_new = unchanged & (largest <= best_then)
            halve = stuck | nothing_new
            sizes = torch.where(halve, sizes / 2, sizes)
            at = torch.where(_per_image(halve), best, at)
            gradient = torch.where(_per_image(halve), slope, gradient)
            last = torch.where(halve, largest, last)
            unchanged, best_then = ~halve, largest
            helped, since = torch.zeros_like(helped), 0


def checkpoints(steps: int) -> frozenset[int]:
    """After which steps the size may be halved: p₁ = .22, p_{j+1} = p_j + max(p_j − p_{j−1} − .03, .06) (Sec. 3.2)."""
    shares = [0.0, 0.22]
    while shares[-1] < 1:
        shares.append(shares[-1] + max(shares[-1] - shares[-2] - 0.03, 0.06))
    return frozenset(math.ceil(round(share * steps, 6)) for share in shares[1:] if share < 1)


def _per_image(values: Tensor) -> Tensor:
    return values[:, None, None, None]
