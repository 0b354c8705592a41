"""The sets that an attack may not leave, balls around the images within [0, 1], and the steps inside them."""

from __future__ import annotations

from typing import Literal, Protocol

import torch
from torch import Tensor

from resilience.attacks.water_filling import level

#: In which an attack is small.
Norm = Literal["linf", "l2", "l1"]


class Ball:
    """All images in [0, 1] that differ from images ``x`` [N, C, H, W] by at most ``epsilon`` a pixel, rounding included."""

    def __init__(self, x: Tensor, epsilon: float):
        self._x, self._epsilon = x, epsilon
        self._low, self._high = (self._bound(sign).clamp(0, 1) for sign in (-1, 1))

    def _bound(self, sign: int) -> Tensor:
        """``x ± epsilon`` in the precision of the images; where that was rounded away from them, the number before it."""
        x = self._x.double()
        bound = (x + sign * self._epsilon).to(self._x)
        return torch.where((bound.double() - x).abs() > self._epsilon, torch.nextafter(bound, self._x), bound)

    def project(self, attacked: Tensor) -> Tensor:
        """The nearest images in the ball."""
        return attacked.clamp(self._low, self._high)

    def start(self, generator: torch.Generator) -> Tensor:
        """Images drawn uniformly around ``x``, and projected; the same ones in single and in double precision."""
        noise = 2 * torch.rand(self._x.shape, generator=generator).to(self._x) - 1
        return self.project(self._x + self._epsilon * noise)


#: Halvings that find the threshold of a projection in double precision.
BISECTIONS = 40


class NormBall:
    """All images in [0, 1] that differ from images ``x`` [N, C, H, W] by at most ``epsilon`` in the ℓ2 or ℓ1 norm.

    Rounding included: the norm of the difference, computed in double precision, is at most epsilon.
    """

    def __init__(self, x: Tensor, epsilon: float, order: Literal[1, 2]):
        self._x, self._epsilon, self._order = x, epsilon, order
        self._original = x.double().flatten(1)
        self._below = 1 - self._original

    def project(self, attacked: Tensor) -> Tensor:
        """The nearest images in the ball and in [0, 1] at once, but for rounding.

        By the conditions of Karush, Kuhn and Tucker the change of each pixel is made smaller, all by one factor in ℓ2 and by
        one threshold in ℓ1, and then clamped; factor and threshold are those with which the norm *after* clamping is epsilon
        (in ℓ1: Croce & Hein 2021, "Mind the Box", Sec. 2). Projecting on the ball and clamping then would stay inside.
        """
        change = attacked.double().flatten(1) - self._original
        room = torch.where(change > 0, self._below, self._original)
        sizes = change.abs()
        outside = self._measured(torch.minimum(sizes, room)) > self._epsilon
        if outside.any():
            sizes = torch.where(outside[:, None], self._smaller(sizes, room), sizes)
        return self._rounded(change.sign() * torch.minimum(sizes, room))

    def start(self, generator: torch.Generator) -> Tensor:
        """Images drawn uniformly from the ball around ``x``, and projected."""
        shape = self._x.flatten(1).shape
        if self._order == 2:
            drawn = torch.randn(shape, generator=generator)
        else:
            signs = 2.0 * torch.randint(0, 2, shape, generator=generator) - 1
            drawn = signs * -torch.rand(shape, generator=generator).clamp(min=1e-12).log()
        size = torch.rand(shape[0], generator=generator) ** (1 / max(shape[1], 1))
        unit = drawn / drawn.norm(p=self._order, dim=1, keepdim=True).clamp(min=1e-12)
        return self.project(self._x + (self._epsilon * size[:, None] * unit).to(self._x).view_as(self._x))

    def _measured(self, change: Tensor) -> Tensor:
        return torch.linalg.vector_norm(change, self._order, dim=1)

    def _smaller(self, sizes: Tensor, room: Tensor) -> Tensor:
        """Sizes [N, D] of changes of norm epsilon that are no larger than the room [N, D]."""
        if self._order == 1:
            return torch.minimum((sizes - self._threshold(sizes, room)).clamp(min=0), room)
        needed = sizes.new_full((len(sizes),), self._epsilon**2)
        factor = level(sizes.square(), room.square(), needed).sqrt()
        return torch.minimum(factor * sizes, room)

    def _threshold(self, sizes: Tensor, room: Tensor) -> Tensor:
        """The threshold [N, 1] by bisection; the sum need be neither convex nor concave in it."""
        low, high = torch.zeros_like(sizes[:, :1]), sizes.amax(1, keepdim=True)
        for _ in range(BISECTIONS):
            middle = (low + high) / 2
            inside = torch.minimum((sizes - middle).clamp(min=0), room).sum(1, keepdim=True) <= self._epsilon
            low, high = torch.where(inside, low, middle), torch.where(inside, middle, high)
        return high

    def _rounded(self, change: Tensor) -> Tensor:
        """Images with such changes [N, D], in the precision of ``x``; where rounding took them out, taken back a little."""
        found = self._moved(change)
        back = torch.full((len(change), 1), 2.0**-24, dtype=torch.float64, device=change.device)
        while (out := self._measured(found.double().flatten(1) - self._original) > self._epsilon).any():
            nearer = self._moved(change * (1 - back))
            found = torch.where(_per_image(out), nearer, found)
            back = (2 * back).clamp(max=1)
        return found

    def _moved(self, change: Tensor) -> Tensor:
        return (self._original + change).to(self._x).clamp(0, 1).view(self._x.shape)


class FeasibleSet(Protocol):
    """Where an attack may be."""

    def project(self, attacked: Tensor) -> Tensor:
        """The point of the set that stands for some images."""

    def start(self, generator: torch.Generator) -> Tensor:
        """A random point of the set for each image."""


def ball_of(norm: Norm, x: Tensor, epsilon: float) -> FeasibleSet:
    """All images in [0, 1] that differ from images ``x`` [N, C, H, W] by at most ``epsilon`` in a norm."""
    return Ball(x, epsilon) if norm == "linf" else NormBall(x, epsilon, 2 if norm == "l2" else 1)


def size_of(norm: Norm, change: Tensor) -> Tensor:
    """The norm [N] of changes [N, C, H, W]."""
    return change.flatten(1).norm(p={"linf": torch.inf, "l2": 2, "l1": 1}[norm], dim=1)


def random_signs(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """−1 or 1, each as likely."""
    return 2.0 * torch.randint(0, 2, shape, generator=generator) - 1.0


class AttackError(RuntimeError):
    """An attack that cannot go on, or whose result is no image. The message says why."""


def refuse_no_gradient(gradient: Tensor) -> None:
    """Raise an :class:`AttackError` unless the gradients [N, C, H, W] that an attack follows are finite."""
    if broken := int((~gradient.isfinite()).flatten(1).any(1).sum()):
        raise AttackError(
            f"the gradients of {broken} of {len(gradient)} images are not finite: the network's weights are too large, "
            "perhaps since its training diverged; a smaller learning_rate may help"
        )


def refuse_no_images(attacked: Tensor) -> None:
    """Raise an :class:`AttackError` unless attacked images are finite and in [0, 1]."""
    if not attacked.isfinite().all():
        raise AttackError(
            "attacked images are not finite: the attack divides by zero, or the network's weights are too large"
        )
    low, high = float(attacked.min()), float(attacked.max())
    if low < 0 or high > 1:
        raise AttackError(f"attacked images lie in [{low:g}, {high:g}], not in [0, 1]: the attack must clip them")


def ball_step(chosen: float | None, epsilon: float, steps: int) -> float:
    """The size of a step: the chosen one, or 2.5 · epsilon / steps, with which every corner of the ball can be reached."""
    return 2.5 * epsilon / steps if chosen is None else chosen


def _per_image(values: Tensor) -> Tensor:
    return values[:, None, None, None]
