"""What a pixel of a colour image is: one pixel, whose relevance is the sum over its channels, or each channel alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypeVar

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor

Map = TypeVar("Map", np.ndarray, "Tensor")
Channels = Literal["sum", "each"]


def of_pixels(relevance: Map, channels: Channels = "sum") -> Map:
    """Relevance of what counts as a pixel.

    Parameters
    ----------
    relevance
        Heat maps [N, C, H, W], an array or a tensor.
    channels
        ``sum``: a pixel is one pixel, R_p = Σ_c R_pc. ``each``: each channel counts alone, as in the published code.

    Returns
    -------
    numpy.ndarray or torch.Tensor
        [N, 1, H, W] for ``sum``, [N, C, H, W] for ``each``. Maps with one channel are returned as they are.
    """
    return relevance if channels == "each" or relevance.shape[1] == 1 else relevance.sum(1)[:, None]
