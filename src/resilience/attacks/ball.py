"""The epsilon-ball that an attack may not leave, and the steps inside it (Madry et al. 2018)."""

from __future__ import annotations

import torch
from torch import Tensor


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
