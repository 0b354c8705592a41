"""Images without the pixels that an explanation calls important, or with these alone (ROAR and KAR, Hooker et al. 2019).

A network that is trained again on such images is worse the more of what it needs is gone (ROAR), and good if what it needs
was kept (KAR, Kim et al. 2019, Sec. 3.2).
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from resilience.catalog import entry
from resilience.measures.channels import of_pixels
from resilience.parameters import DatasetName, Explainer, Part

#: What is left of an image: the ``rest`` without its most important pixels (ROAR), or these ``top`` ones alone (KAR).
Keep = Literal["top", "rest"]


@entry()
def occluded(
    x: np.ndarray,
    relevance: np.ndarray,
    mean: np.ndarray,
    generator: np.random.Generator,
    *,
    of: DatasetName,
    by: Explainer,
    share: Part,
    keep: Literal["top", "rest"] = "rest",
) -> np.ndarray:
    """Images whose most relevant pixels are replaced by the training images' mean, or kept alone (Hooker et al. 2019).

    A pixel's importance is |Σ_channels R|; ties are broken at random.

    Parameters
    ----------
    of
        The dataset that is changed.
    by
        Whose explanation says what is important: a network and a training on that dataset, and an explanation; ``draws`` of
        a posterior and the ``seed`` of the training are 1 and the first unless they are given.
    share
        Share of the pixels that count as the most important ones.
    keep
        ``rest``: the most important pixels are replaced (ROAR). ``top``: all others are (KAR).
    """
    return occlude(x, by_importance(relevance, generator), mean, share, keep)


def by_importance(relevance: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """The pixels of each image by |Σ_channels R|, the most important first, ties in random order.

    Parameters
    ----------
    relevance
        [N, C, H, W].
    generator
        Of the order among ties.

    Returns
    -------
    numpy.ndarray
        Numbers of pixels, row by row, [N, H · W].
    """
    importance = np.abs(of_pixels(relevance)).reshape(len(relevance), -1)
    return np.lexsort((generator.random(importance.shape), -importance), axis=1)


def occlude(x: np.ndarray, order: np.ndarray, mean: np.ndarray, share: float, keep: Keep) -> np.ndarray:
    """Images in which pixels are replaced by the mean.

    Parameters
    ----------
    x
        [N, C, H, W] in [0, 1].
    order
        Of their pixels, see :func:`by_importance`.
    mean
        Of each channel of the training images, [C].
    share
        Share of the pixels, the first ones of the order and at least one, that count as the most important ones.
    keep
        ``rest``: these are replaced. ``top``: all others are.

    Returns
    -------
    numpy.ndarray
        float32 [N, C, H, W].
    """
    count = max(1, round(share * order.shape[1]))
    top = np.zeros(order.shape, dtype=bool)
    np.put_along_axis(top, order[:, :count], True, axis=1)
    replaced = (top if keep == "rest" else ~top).reshape(len(x), 1, *x.shape[2:])
    return np.where(replaced, mean[None, :, None, None], x).astype(np.float32)
