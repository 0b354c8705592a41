"""Water-filling: how high things must be filled, each at its own rate up to its own capacity, until their sum is enough.

Projections in a box are of this kind: every pixel moves in proportion to something, until it is 0 or 1.
"""

from __future__ import annotations

import torch
from torch import Tensor


def level(rate: Tensor, capacity: Tensor, needed: Tensor) -> Tensor:
    """The smallest λ with Σ_i min(λ rate_i, capacity_i) = needed, exact but for rounding.

    Newton's iteration from below: the sum is concave in λ and made of straight pieces, so λ rises to the solution, and the
    set of those that are full grows until it is the right one.

    Parameters
    ----------
    rate, capacity
        Not below zero, [N, D] in double precision.
    needed
        [N].

    Returns
    -------
    Tensor
        λ [N, 1]; the largest finite number where even all that is full is not enough.
    """
    full, found = torch.zeros_like(rate, dtype=torch.bool), torch.zeros_like(rate[:, :1])
    while True:
        missing = needed[:, None] - torch.where(full, capacity, 0.0).sum(1, keepdim=True)
        speed = torch.where(full, 0.0, rate).sum(1, keepdim=True)
        higher = torch.where(speed > 0, missing / speed, torch.inf).clamp(max=torch.finfo(rate.dtype).max)
        found = torch.maximum(found, higher)
        fuller = full | (found * rate >= capacity)
        if torch.equal(fuller, full):
            return found
        full = fuller
