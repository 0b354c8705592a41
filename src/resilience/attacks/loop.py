"""The loop that gradient attacks share: an objective's gradient, a step along it, and back into the feasible set.

What an attack is, is said by its parts: the objective and whether it is raised for the label or lowered for a target, the
set that it may not leave, the direction of a step, where it starts and how often.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from resilience.attacks.ball import FeasibleSet, Norm
from resilience.posterior import Posterior, predict
from resilience.progress import track

#: Of a gradient [N, C, H, W] the step [N, C, H, W] of size one.
Direction = Callable[[Tensor], Tensor]
#: The share of pixels that a step along the steepest ones moves (Tramèr & Boneh 2019, Sec. 3.1, "SLIDE").
STEEPEST = 0.05


def sign(gradient: Tensor) -> Tensor:
    """The steepest direction of size one in ℓ∞: every pixel by one."""
    return gradient.sign()


def normalised(gradient: Tensor) -> Tensor:
    """The steepest direction of size one in ℓ2."""
    largest = gradient.abs().amax((1, 2, 3), keepdim=True)
    scaled = gradient / torch.where(largest > 0, largest, torch.ones_like(largest))
    return scaled / scaled.flatten(1).norm(dim=1).clamp(min=1e-12)[:, None, None, None]


def steepest(gradient: Tensor) -> Tensor:
    """A direction of size one in ℓ1: the few pixels with the largest derivatives, all as far."""
    flat = gradient.flatten(1)
    count = max(1, round(STEEPEST * flat.shape[1]))
    _, chosen = flat.abs().topk(count, dim=1)
    step = torch.zeros_like(flat).scatter(1, chosen, flat.gather(1, chosen).sign() / count)
    return step.view_as(gradient)


DIRECTIONS: dict[str, Direction] = {"sign": sign, "normalised": normalised, "steepest": steepest}
#: The steepest direction of each norm.
STEEPEST_IN: dict[Norm, Direction] = {"linf": sign, "l2": normalised, "l1": steepest}


class Best:
    """The images with the largest value so far, one by one; those that an attack begins with where nothing is better."""

    def __init__(self, x: Tensor, value: Tensor):
        self.x, self._value = x.clone(), value

    def see(self, attacked: Tensor, value: Tensor, allowed: Tensor | None = None) -> None:
        """Keep those of some images [N, C, H, W] that have a larger value [N], and are allowed [N]."""
        better = value > self._value
        if allowed is not None:
            better &= allowed
        self.x = torch.where(better[:, None, None, None], attacked, self.x)
        self._value = torch.where(better, value, self._value)


class Furthest:
    """Of all images that were seen, one by one, those with the largest value; any that has lost its class before all others.

    The largest loss need not be where the class is lost, if there are more than two.
    """

    def __init__(self, x: Tensor):
        self.x = x.clone()
        self._value = torch.full((len(x),), -torch.inf, dtype=x.dtype, device=x.device)
        self._broken = torch.zeros(len(x), dtype=torch.bool, device=x.device)

    def see(self, attacked: Tensor, value: Tensor, broken: Tensor) -> None:
        """Keep those of some images [N, C, H, W], with values [N] and whether they have lost their class [N]."""
        further = (broken & ~self._broken) | ((broken == self._broken) & (value > self._value))
        self.x = torch.where(further[:, None, None, None], attacked, self.x)
        self._value = torch.where(further, value, self._value)
        self._broken = self._broken | broken


def search(
    gradient: Callable[[Tensor], Tensor],
    feasible: FeasibleSet,
    direction: Direction,
    size: float,
    steps: int,
    start: Tensor,
    name: str,
    watch: Callable[[Tensor], None] | None = None,
) -> Tensor:
    """Follow a gradient from a start, each step projected.

    Parameters
    ----------
    gradient
        That of what is raised, at images [N, C, H, W].
    feasible
        Where the images may be.
    direction, size
        The step is ``size`` times the direction.
    steps
        How many.
    start
        Images [N, C, H, W] of the feasible set.
    name
        What the progress is called.
    watch
        Is shown the images after each step.

    Returns
    -------
    Tensor
        Where the last step led.
    """
    attacked = start
    for _ in track(range(steps), name):
        attacked = feasible.project(attacked + size * direction(gradient(attacked)))
        if watch is not None:
            watch(attacked)
    return attacked


def advantage(posterior: Posterior, x: Tensor, y: Tensor) -> Tensor:
    """max_{j≠y} p_j − p_y of the mean prediction [N]: above zero where the label's class has lost."""
    probabilities = predict(posterior, x)
    own = probabilities.gather(1, y[:, None])
    return (probabilities.scatter(1, y[:, None], -1.0).amax(1, keepdim=True) - own)[:, 0]


def targets(posterior: Posterior, x: Tensor, y: Tensor, target: str | int, generator: torch.Generator) -> Tensor:
    """The class [N] that each image is to be taken for.

    Parameters
    ----------
    posterior, x, y
        S draws, images [N, C, H, W] and labels [N].
    target
        ``next``: the class after the label, in a circle. ``least_likely``: the one with the smallest mean probability.
        ``random``: any other than the label. Or the number of a class.
    generator
        For random ones.

    Raises
    ------
    ValueError
        If there is no such class.
    """
    probabilities = predict(posterior, x)
    classes = probabilities.shape[1]
    match target:
        case "next":
            return (y + 1) % classes
        case "least_likely":
            return probabilities.scatter(1, y[:, None], torch.inf).argmin(1)
        case "random":
            return (y + torch.randint(1, classes, (len(y),), generator=generator).to(y)) % classes
    if int(target) >= classes:
        raise ValueError(f"target: {target} is no class; there are {classes}, from 0 to {classes - 1}")
    return torch.full_like(y, int(target))
