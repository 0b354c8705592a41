"""FAB: the nearest image on the other side of the decision boundary (Croce & Hein 2020b), towards each class in turn."""

from __future__ import annotations

import torch
from torch import Tensor

from resilience.attacks.ball import Norm, ball_of, size_of
from resilience.attacks.predictive import Predictive
from resilience.attacks.water_filling import level
from resilience.catalog import entry
from resilience.networks import image_shape
from resilience.parameters import Count, Positive, Share
from resilience.posterior import Posterior
from resilience.progress import track

#: How far beyond the boundary a step goes, the largest pull towards the image, and how far it is taken back (Sec. 3.3).
OVERSHOOT, PULL, BACK = 1.05, 0.1, 0.9


@entry()
def fab(
    posterior: Posterior,
    x: Tensor,
    y: Tensor,
    *,
    epsilon: Share,
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
    return _found("linf", posterior, x, y, epsilon, steps, targets)


@entry(norm="l2")
def fab_l2(
    posterior: Posterior,
    x: Tensor,
    y: Tensor,
    *,
    epsilon: Positive,
    steps: Count = 100,
    targets: Count = 9,
) -> Tensor:
    """FAB in ℓ2, towards the most probable other classes in turn; what it finds within epsilon counts (FAB-T).

    Croce & Hein 2020, "Minimally Distorted Adversarial Examples with a Fast Adaptive Boundary Attack", Alg. 1.

    Parameters
    ----------
    epsilon
        Largest ℓ2 norm of the change; an image whose boundary is further away stays as it is.
    steps, targets
        See :func:`fab`.
    """
    return _found("l2", posterior, x, y, epsilon, steps, targets)


def _found(norm: Norm, posterior: Posterior, x: Tensor, y: Tensor, epsilon: float, steps: int, targets: int) -> Tensor:
    predictive, ball = Predictive(posterior, image_shape(x)), ball_of(norm, x, epsilon)
    log_p = predictive.log_probabilities(x)
    others = log_p.scatter(1, y[:, None], -torch.inf).argsort(1, descending=True)
    found, distance = x.clone(), torch.full((len(x),), torch.inf, dtype=x.dtype, device=x.device)
    for rank in range(min(targets, log_p.shape[1] - 1)):
        attacked, far = towards(predictive, x, y, others[:, rank], steps, norm)
        nearer = (far <= epsilon) & (far < distance)
        found = torch.where(_per_image(nearer), ball.project(attacked), found)
        distance = torch.where(nearer, far, distance)
    return found


def towards(
    predictive: Predictive, x: Tensor, y: Tensor, target: Tensor, steps: int, norm: Norm = "linf"
) -> tuple[Tensor, Tensor]:
    """The nearest images found that are taken for a target [N], and how far they are [N]; infinity where none was."""
    best, nearest = x.clone(), torch.full((len(x),), torch.inf, dtype=x.dtype, device=x.device)
    at = x.clone()

    def lead(log_p: Tensor, part: slice) -> Tensor:
        wanted, own = (log_p.gather(1, classes[part][:, None])[:, 0] for classes in (target, y))
        return wanted - own

    for _ in track(range(steps), "FAB"):
        value, normal, _ = predictive.gradient(at, lead)
        # The plane on which the lead of the target would be zero: normal · (z − at) = −value.
        step = to_plane(at, normal, -value, norm)
        of_image = to_plane(x, normal, (normal * (at - x)).flatten(1).sum(1) - value, norm)
        sizes = [size_of(norm, change) for change in (step, of_image)]
        pull = _per_image((sizes[0] / (sizes[0] + sizes[1]).clamp(min=1e-12)).clamp(max=PULL))
        at = ((1 - pull) * (at + OVERSHOOT * step) + pull * (x + OVERSHOOT * of_image)).clamp(0, 1)
        log_p = predictive.log_probabilities(at)
        there = log_p.gather(1, target[:, None])[:, 0] > log_p.gather(1, y[:, None])[:, 0]
        distance = size_of(norm, at - x)
        nearer = there & (distance < nearest)
        best = torch.where(_per_image(nearer), at, best)
        nearest = torch.where(nearer, distance, nearest)
        at = torch.where(_per_image(there), x + BACK * (at - x), at)
    return best, nearest


def to_plane(at: Tensor, normal: Tensor, wanted: Tensor, norm: Norm) -> Tensor:
    """The smallest change in ℓ∞ or ℓ2 that stays in [0, 1] and moves an image to a plane, or as near as it can be.

    Parameters
    ----------
    at
        Images [N, C, H, W] in [0, 1].
    normal
        Of the plane [N, C, H, W].
    wanted
        normal · change [N].
    norm
        In ℓ∞ every pixel moves as far in the direction that helps, in ℓ2 in proportion to the normal; or to 0 or 1.

    Returns
    -------
    Tensor
        The change [N, C, H, W].
    """
    direction = normal.sign() * _per_image(wanted.sign())
    room = torch.where(direction > 0, 1 - at, at).double().flatten(1)
    weight = normal.abs().double().flatten(1)
    speed = (weight if norm == "l2" else torch.ones_like(weight)) * (direction != 0).flatten(1)
    far = level(weight * speed, weight * room, wanted.abs().double())
    return direction * torch.minimum(far * speed, room).to(at).view_as(at)


def _per_image(values: Tensor) -> Tensor:
    return values[:, None, None, None]
