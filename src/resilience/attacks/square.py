"""An attack that never looks at a gradient: what it breaks was not protected by a vanished gradient."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from resilience.attacks.ball import Ball, NormBall, random_signs
from resilience.attacks.loop import normalised
from resilience.attacks.predictive import Predictive
from resilience.catalog import entry
from resilience.networks import image_shape
from resilience.parameters import Count, Positive, Share
from resilience.posterior import Posterior, predict
from resilience.progress import track


@entry()
@torch.no_grad()
def square(
    posterior: Posterior,
    x: Tensor,
    y: Tensor,
    generator: torch.Generator,
    *,
    epsilon: Share,
    queries: Count = 200,
    share: Share = 0.3,
    margin: Literal["probability", "log_probability"] = "probability",
) -> Tensor:
    """Square attack (Andriushchenko et al. 2020, L∞): random squares of ± epsilon, kept where they help.

    Starts from vertical stripes. Each query sets a square of the perturbation to one sign per channel and keeps it where
    the margin of the mean prediction falls. The squares shrink on the published schedule.

    Parameters
    ----------
    posterior, x, y
        See :func:`resilience.attacks.gradient.fgsm`; of the network only predictions are used.
    epsilon
        Largest change of a pixel.
    generator
        For stripes, places and signs.
    queries
        Predictions that it may ask for.
    share
        Share of the pixels in the first squares.
    margin
        p_y − max_{j≠y} p_j, or that of their logarithms. Where a network is so sure that p_y rounds to one, nothing lowers
        the former.

    Returns
    -------
    Tensor
        Attacked images [N, C, H, W] in [0, 1].
    """
    images, channels, height, width = x.shape
    stripes = random_signs((images, channels, 1, width), generator).to(x)
    ball = Ball(x, epsilon)
    best = ball.project(x + epsilon * stripes)
    margin_of = _margins(posterior, x, y, margin)
    smallest = margin_of(best)
    rows, columns = torch.arange(height, device=x.device), torch.arange(width, device=x.device)
    for query in track(range(queries - 1), "Square"):
        side = _side(share * _shrinkage(query / queries), height, width)
        inside = _within(rows, columns, *_places(x, side, generator), side)
        signs = random_signs((images, channels, 1, 1), generator).to(x)
        tried = torch.where(inside, ball.project(x + epsilon * signs), best)
        value = margin_of(tried)
        best = torch.where((value < smallest)[:, None, None, None], tried, best)
        smallest = torch.minimum(smallest, value)
    return best


@entry(norm="l2")
@torch.no_grad()
def square_l2(
    posterior: Posterior,
    x: Tensor,
    y: Tensor,
    generator: torch.Generator,
    *,
    epsilon: Positive,
    queries: Count = 200,
    share: Share = 0.3,
    margin: Literal["probability", "log_probability"] = "probability",
) -> Tensor:
    """Square attack in ℓ2 (Andriushchenko et al. 2020, Alg. 3): random bumps of norm epsilon, kept where they help.

    Starts from a chequered pattern of bumps. Each query takes the change out of one square and puts it into another one, as
    a pair of bumps of opposite sign on top of what is there.

    Parameters
    ----------
    epsilon
        Largest ℓ2 norm of the change.
    queries, share, margin
        See :func:`square`.
    """
    height, width = x.shape[2:]
    ball, margin_of = NormBall(x, epsilon, 2), _margins(posterior, x, y, margin)
    rows, columns = torch.arange(height, device=x.device), torch.arange(width, device=x.device)
    best = ball.project(x + epsilon * normalised(_chequered(x, generator)))
    smallest = margin_of(best)
    for query in track(range(queries - 1), "Square"):
        side = _odd_side(share * _shrinkage(query / queries), height, width)
        here, there = (_places(x, side, generator) for _ in range(2))
        filled, emptied = (_within(rows, columns, *places, side) for places in (here, there))
        change = best - x
        bump = _placed(_bumps(x, side, generator), rows, columns, *here)
        renewed = (bump + change / (_per_channel(change * filled) + 1e-12)) * filled
        unused = (epsilon**2 - change.flatten(1).square().sum(1)).clamp(min=0)[:, None, None, None] / x.shape[1]
        available = (unused + _per_channel(change * (filled | emptied)).square()).sqrt()
        renewed = available * renewed / (_per_channel(renewed) + 1e-12)
        tried = ball.project(x + epsilon * normalised(torch.where(filled, renewed, change * ~emptied)))
        value = margin_of(tried)
        best = torch.where((value < smallest)[:, None, None, None], tried, best)
        smallest = torch.minimum(smallest, value)
    return best


def _margins(posterior: Posterior, x: Tensor, y: Tensor, margin: str) -> Callable[[Tensor], Tensor]:
    """What is lowered: the margin [N] of the mean prediction for images [N, C, H, W]."""
    if margin == "probability":
        return lambda tried: _margin(predict(posterior, tried), y)
    predictive = Predictive(posterior, image_shape(x))
    return lambda tried: _margin(predictive.log_probabilities(tried), y)


def _margin(scores: Tensor, y: Tensor) -> Tensor:
    """s_y − max_{j≠y} s_j, [N]."""
    own = scores.gather(1, y[:, None])
    return (own - scores.scatter(1, y[:, None], -torch.inf).amax(1, keepdim=True))[:, 0]


def _places(x: Tensor, side: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Top rows and left columns [N, 1] of one random square in each image."""
    top, left = (
        torch.randint(0, max(length - side, 0) + 1, (len(x), 1), generator=generator).to(x.device) for length in x.shape[2:]
    )
    return top, left


def _within(rows: Tensor, columns: Tensor, top: Tensor, left: Tensor, side: int) -> Tensor:
    """Which pixels lie in each image's square, [N, 1, H, W]."""
    below = (rows >= top) & (rows < top + side)
    beside = (columns >= left) & (columns < left + side)
    return below[:, None, :, None] & beside[:, None, None, :]


def _per_channel(change: Tensor) -> Tensor:
    """The ℓ2 norm of each channel, [N, C, 1, 1]."""
    return change.square().sum((2, 3), keepdim=True).sqrt()


def _bumps(x: Tensor, side: int, generator: torch.Generator) -> Tensor:
    """A pair of bumps for each image and channel, [N, C, side, side]: up and down or left and right, of random sign."""
    upright = _pair_of_bumps(side).to(x)
    turned = torch.rand((len(x), 1, 1, 1), generator=generator).to(x.device) < 0.5
    return torch.where(turned, upright.T, upright) * random_signs((len(x), x.shape[1], 1, 1), generator).to(x)


def _pair_of_bumps(side: int) -> Tensor:
    """Two bumps of opposite sign, one above the other, together of ℓ2 norm one (Sec. 3.3)."""
    pair = torch.cat([_bump(side // 2, side), -_bump(side - side // 2, side)])
    return pair / pair.norm()


def _bump(height: int, width: int) -> Tensor:
    """Σ_{k=d}^{K} 1 / (k + 1)² at distance d = max(|Δrow|, |Δcolumn|) from the middle, where K is the largest one."""
    rows, columns = ((torch.arange(length) - length // 2).abs() for length in (height, width))
    sums = (torch.arange(max(height, width) // 2 + 1.0) + 1).pow(-2).flip(0).cumsum(0).flip(0)
    return sums[torch.maximum(rows[:, None], columns[None, :])]


def _placed(bumps: Tensor, rows: Tensor, columns: Tensor, top: Tensor, left: Tensor) -> Tensor:
    """Bumps [N, C, side, side] as images [N, C, H, W], each at its place; what lies outside the square says nothing."""
    side = bumps.shape[2]
    row, column = (rows - top).clamp(0, side - 1), (columns - left).clamp(0, side - 1)
    each = torch.arange(len(bumps), device=bumps.device)[:, None, None]
    return bumps.permute(0, 2, 3, 1)[each, row[:, :, None], column[:, None, :]].permute(0, 3, 1, 2)


def _chequered(x: Tensor, generator: torch.Generator) -> Tensor:
    """Bumps side by side, about five in each direction: where the search in ℓ2 starts, [N, C, H, W]."""
    height, width = x.shape[2:]
    side = max(min(height, width) // 5, 1)
    found = torch.zeros_like(x)
    for top in range(height % side // 2, height - side + 1, side):
        for left in range(width % side // 2, width - side + 1, side):
            found[:, :, top : top + side, left : left + side] = _bumps(x, side, generator)
    return found


def _side(share: float, height: int, width: int) -> int:
    """Side of a square that covers a share of the image: at least one pixel, at most the shorter side."""
    return min(max(round(math.sqrt(share * height * width)), 1), height, width)


def _odd_side(share: float, height: int, width: int) -> int:
    """Side of a square that has a middle and two halves: an odd number, at least 3 where the image has as many."""
    side = max(_side(share, height, width), 3)
    return min(side + (side + 1) % 2, min(height, width) - (min(height, width) + 1) % 2)


def _shrinkage(progress: float) -> float:
    """The published schedule for 10,000 queries, stretched: halved at these shares of the queries."""
    halvings = (0.001, 0.005, 0.02, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8)
    return 0.5 ** sum(progress > point for point in halvings)
