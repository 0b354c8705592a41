"""An explanation that asks the network itself: what its output loses when a window of the image is covered."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from resilience.catalog import entry
from resilience.explanations.quantities import value
from resilience.parameters import Count, Fraction
from resilience.stacks import Layer, trace


@entry()
def occlusion(
    stack: Sequence[Layer],
    x: Tensor,
    explained: Tensor,
    *,
    window: Count = 3,
    stride: Count = 1,
    covered: Fraction = 0.0,
    of: Literal["logit", "probability", "log_probability", "loss"] = "logit",
) -> Tensor:
    """Mean loss of f_c over all windows that cover a pixel, f_c(x) − f_c(x covered there) (Zeiler & Fergus 2014, Sec. 4.2).

    All channels of a window are covered at once. A window may reach over the edge, so that each pixel is covered by some.

    Parameters
    ----------
    window
        Pixels a side of the square window.
    stride
        By how many pixels it is moved; at most ``window``, or pixels between two windows have no relevance.
    covered
        The value that covers it.
    of
        Of which quantity of the explained class.
    """
    images, _, height, width = x.shape
    whole = value(of, trace(stack, x)[-1].z, explained)
    total, times = x.new_zeros(images, 1, height, width), x.new_zeros(1, 1, height, width)
    for top in range(1 - window, height, stride):
        for left in range(1 - window, width, stride):
            here = (slice(max(top, 0), top + window), slice(max(left, 0), left + window))
            if top + window <= 0 or left + window <= 0:
                continue
            tried = x.clone(memory_format=torch.channels_last)
            tried[:, :, here[0], here[1]] = covered
            lost = whole - value(of, trace(stack, tried)[-1].z, explained)
            total[:, :, here[0], here[1]] += lost[:, None, None, None]
            times[:, :, here[0], here[1]] += 1
    return total / times.clamp(min=1)
