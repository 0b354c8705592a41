"""FAB: the nearest image on the other side of the decision boundary (Croce & Hein 2020b), towards each class in turn."""

from __future__ import annotations

import torch
from torch import Tensor

from resilience.attacks.ball import Ball
from resilience.attacks.predictive import Predictive
from resilience.catalog import entry
from resilience.parameters import Count, Fraction
from resilience.posterior import Posterior
from resilience.progress import track

#: How far beyond the boundary a step goes, the largest pull towards the image, and how far it is taken back (Sec. 3.3).
OVERSHOOT, PULL, BACK = 1.05, 0.1, 0.9
#: Bisections that find how far each pixel moves to a plane.
BISECTIONS = 40


@entry()
def fab(
    posterior: Posterior,
    x: Tensor,
    y: Tensor,
    *,
    epsilon: Fraction,
    steps: Count = 100,
    targets: Count = 9,
) -> Tensor:
    """FAB in ℓ∞, towards the most probable other classes in turn; what it finds within epsilon counts (FAB-T).

    Croce & Hein 2020, "Minimally Distorted Adversarial Examples with a Fast Adaptive Boundary Attack", Alg. 1.

    Parameters
    ----------
    epsilon
        Largest change of a pixel; an image whose boundary is further away stays as it is.
    steps
        Steps towards each class.
    targets
        Towards how many classes.
    """
    predictive = Predictive(posterior, x)
    log_p = predictive.log_probabilities(x)
    others = log_p.scatter(1, y[:, None], -torch.inf).argsort(1, descending=True)
    ball = Ball(x, epsilon)
    found, distance = x.clone(), torch.full((len(x),), torch.inf, dtype=x.dtype, device=x.device)
    for rank in range(min(targets, log_p.shape[1] - 1)):
        attacked, far = towards(predictive, x, y, others[:, rank], steps)
        nearer = (far <= epsilon) & (far < distance)
        found = torch.where(nearer[:, None, None, None], ball.project(attacked), found)
        distance = torch.where(nearer, far, distance)
    return found


def towards(predictive: Predictive, x: Tensor, y: Tensor, target: Tensor, steps: int) -> tuple[Tensor, Tensor]:
    """The nearest images found that are taken for a target [N], and how far they are in ℓ∞ [N]; infinity where none was."""
    best, nearest = x.clone(), torch.full((len(x),), torch.inf, dtype=x.dtype, device=x.device)
    at = x.clone()

    def lead(log_p: Tensor, part: slice) -> Tensor:
        wanted, own = (log_p.gather(1, classes[part][:, None])[:, 0] for classes in (target, y))
        return wanted - own

    for _ in track(range(steps), "FAB"):
        value, normal = predictive.gradient(at, lead)
        # The plane on which the lead of the target would be zero: normal · (z − at) = −value.
        step = to_plane(at, normal, -value)
        of_image = to_plane(x, normal, (normal * (at - x)).flatten(1).sum(1) - value)
        sizes = [change.abs().flatten(1).amax(1) for change in (step, of_image)]
        pull = (sizes[0] / (sizes[0] + sizes[1]).clamp(min=1e-12)).clamp(max=PULL)[:, None, None, None]
        at = ((1 - pull) * (at + OVERSHOOT * step) + pull * (x + OVERSHOOT * of_image)).clamp(0, 1)
        log_p = predictive.log_probabilities(at)
        there = log_p.gather(1, target[:, None])[:, 0] > log_p.gather(1, y[:, None])[:, 0]
        distance = (at - x).abs().flatten(1).amax(1)
        nearer = there & (distance < nearest)
        best = torch.where(nearer[:, None, None, None], at, best)
        nearest = torch.where(nearer, distance, nearest)
        at = torch.where(there[:, None, None, None], x + BACK * (at - x), at)
    return best, nearest


def to_plane(at: Tensor, normal: Tensor, wanted: Tensor) -> Tensor:
    """The smallest change in ℓ∞ that stays in [0, 1] and moves an image to a plane, or as near as it can be.

    Parameters
    ----------
    at
        Images [N, C, H, W] in [0, 1].
    normal
        Of the plane [N, C, H, W].
    wanted
        normal · change [N].

    Returns
    -------
    Tensor
        The change [N, C, H, W]: every pixel by r in the direction that helps, or to 0 or 1. r is found by bisection.
    """
    direction = normal.sign() * wanted.sign()[:, None, None, None]
    room = torch.where(direction > 0, 1 - at, at) * (direction != 0)
    weight, needed = normal.abs(), wanted.abs()
    low, high = torch.zeros_like(needed), torch.ones_like(needed)
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        enough = (weight * torch.minimum(room, middle[:, None, None, None])).flatten(1).sum(1) >= needed
        low, high = torch.where(enough, low, middle), torch.where(enough, middle, high)
    return direction * torch.minimum(room, high[:, None, None, None])
