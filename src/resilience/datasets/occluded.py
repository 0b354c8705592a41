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
    importance = np.abs(of_pixels(relevance)).reshape(len(x), -1)
    order = np.lexsort((generator.random(importance.shape), -importance), axis=1)
    count = max(1, round(share * importance.shape[1]))
    top = np.zeros(importance.shape, dtype=bool)
    np.put_along_axis(top, order[:, :count], True, axis=1)
    replaced = (top if keep == "rest" else ~top).reshape(len(x), 1, *x.shape[2:])
    return np.where(replaced, mean[None, :, None, None], x).astype(np.float32)
