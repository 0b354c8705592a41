"""An explanation that asks the network itself: what its output loses when a window of the image is covered."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import Literal

import torch
from torch import Tensor

from resilience.catalog import entry
from resilience.explanations.quantities import value
from resilience.graphs import Graph, trace
from resilience.parameters import Count, Fraction


class WindowError(ValueError):
    """Windows that leave pixels uncovered."""


@entry(at_least={"window": "stride"})
def occlusion(
    graph: Graph,
    x: Tensor,
    explained: Tensor,
    *,
    window: Count = 3,
    stride: Count = 1,
    covered: Fraction = 0.0,
    of: Literal["logit", "probability", "log_probability", "loss"] = "logit",
) -> Tensor:
    """Mean loss of f_c over all windows that cover a pixel, f_c(x) − f_c(x covered there) (Zeiler & Fergus 2014, Sec. 4.2).

    All channels of a window are covered at once. A window may reach over the edge, so that each pixel is covered as often
    as every other one, if ``stride`` divides ``window``. One pass up for each window.

    Parameters
    ----------
    graph
        The network with the weights of one draw.
    x
        Images [N, C, H, W].
    explained
        Classes [N].
    window
        Pixels a side of the square window.
    stride
        By how many pixels it is moved, at most ``window``.
    covered
        The value that covers it.
    of
        Of which quantity of the explained class.

    Returns
    -------
    Tensor
        Relevance [N, 1, H, W]: positive where the quantity falls when it is covered.

    Raises
    ------
    WindowError
        If ``stride`` is more than ``window``, so that pixels between the windows would have no relevance.
    """
    if stride > window:
        raise WindowError(
            f"stride {stride} is more than window {window}, so pixels between two windows would never be covered; "
            f"take a stride of at most {window}"
        )
    images, _, height, width = x.shape
    whole = value(of, trace(graph, x).output, explained)
    total, times = x.new_zeros(images, 1, height, width), x.new_zeros(1, 1, height, width)
    for rows, columns in product(_windows(height, window, stride), _windows(width, window, stride)):
        tried = x.clone(memory_format=torch.channels_last)
        tried[:, :, rows, columns] = covered
        lost = whole - value(of, trace(graph, tried).output, explained)
        total[:, :, rows, columns] += lost[:, None, None, None]
        times[:, :, rows, columns] += 1
    return total / times


def _windows(side: int, window: int, stride: int) -> Iterator[slice]:
    """All windows of a side of so many pixels, cut at its edges; the first one ends behind the first pixel."""
    return (slice(max(first, 0), first + window) for first in range(1 - window, side, stride))
