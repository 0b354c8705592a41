"""An attack that never looks at a gradient: what it breaks was not protected by a vanished gradient."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from resilience.attacks.ball import Ball, random_signs
from resilience.catalog import entry
from resilience.parameters import Count, Fraction, Share
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
    epsilon: Fraction,
    queries: Count = 200,
    share: Share = 0.3,
) -> Tensor:
    """Square attack (Andriushchenko et al. 2020, L∞): random squares of ± epsilon, kept where they help.

    Starts from vertical stripes. Each query sets a square of the perturbation to one sign per channel and keeps it where
    the margin of the mean prediction, p_y − max_{j≠y} p_j, falls. The squares shrink on the published schedule.

    Parameters
    ----------
    posterior, x, y, epsilon
        See :func:`resilience.attacks.gradient.fgsm`; of the network only predictions are used.
    generator
        For stripes, places and signs.
    queries
        Predictions that it may ask for.
    share
        Share of the pixels in the first squares.

    Returns
    -------
    Tensor
        Attacked images [N, C, H, W] in [0, 1].
    """
    images, channels, height, width = x.shape
    stripes = random_signs((images, channels, 1, width), generator).to(x)
    ball = Ball(x, epsilon)
    best = ball.project(x + epsilon * stripes)
    smallest = _margin(posterior, best, y)
    rows, columns = torch.arange(height, device=x.device), torch.arange(width, device=x.device)
    for query in track(range(queries - 1), "Square"):
        side = _side(share * _shrinkage(query / queries), height, width)
        top, left = (
            torch.randint(0, max(length - side, 0) + 1, (images, 1), generator=generator).to(x.device)
            for length in (height, width)
        )
        inside = ((rows >= top) & (rows < top + side))[:, None, :, None] & ((columns >= left) & (columns < left + side))[
            :, None, None, :
        ]
        signs = random_signs((images, channels, 1, 1), generator).to(x)
        tried = torch.where(inside, ball.project(x + epsilon * signs), best)
        margin = _margin(posterior, tried, y)
        better = margin < smallest
        best = torch.where(better[:, None, None, None], tried, best)
        smallest = torch.minimum(smallest, margin)
    return best


def _margin(posterior: Posterior, x: Tensor, y: Tensor) -> Tensor:
    """p_y − max_{j≠y} p_j of the mean prediction, [N]."""
    probabilities = predict(posterior, x)
    own = probabilities.gather(1, y[:, None])
    return (own - probabilities.scatter(1, y[:, None], -1.0).amax(1, keepdim=True))[:, 0]


def _side(share: float, height: int, width: int) -> int:
    """Side of a square that covers a share of the image: at least one pixel, at most the shorter side."""
    return min(max(round(math.sqrt(share * height * width)), 1), height, width)


def _shrinkage(progress: float) -> float:
    """The published schedule for 10,000 queries, stretched: halved at these shares of the queries."""
    halvings = (0.001, 0.005, 0.02, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8)
    return 0.5 ** sum(progress > point for point in halvings)
