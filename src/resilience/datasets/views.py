"""Views of a dataset that take away what some networks look at: texture, or shape (Zhang & Zhu 2019, Sec. 4)."""

from __future__ import annotations

import numpy as np

from resilience.catalog import entry
from resilience.data import DataError
from resilience.parameters import DatasetName, Patches, Positive


@entry()
def saturated(x: np.ndarray, *, of: DatasetName, level: Positive) -> np.ndarray:
    """Each pixel v as sign(2v − 1) |2v − 1|^(2 / level) / 2 + 1 / 2: 2 changes nothing, large levels leave contours alone.

    Parameters
    ----------
    of
        The dataset that is changed.
    level
        Of saturation (Zhang & Zhu 2019, Sec. 4.2): below 2 contrast falls, at infinity every pixel is 0 or 1.
    """
    centred = 2 * x.astype(np.float64) - 1
    changed = np.sign(centred) * np.abs(centred) ** (2 / level) / 2 + 0.5
    return np.clip(changed, 0, 1).astype(np.float32)


@entry(divides="patches")
def patch_shuffle(x: np.ndarray, generator: np.random.Generator, *, of: DatasetName, patches: Patches) -> np.ndarray:
    """Cut into k × k equal patches that are put back in random order, another for each image: texture without shape.

    Parameters
    ----------
    of
        The dataset that is changed.
    patches
        k, how many patches a side is cut into (Zhang & Zhu 2019, Sec. 4.2).

    Raises
    ------
    DataError
        If the sides of an image are no multiples of k.
    """
    images, channels, height, width = x.shape
    if height % patches or width % patches:
        raise DataError(f"images of {height} × {width} pixels cannot be cut into {patches} × {patches} equal patches")
    rows, columns = height // patches, width // patches
    cut = x.reshape(images, channels, patches, rows, patches, columns).transpose(0, 2, 4, 1, 3, 5)
    cut = cut.reshape(images, patches * patches, channels, rows, columns)
    order = generator.random((images, patches * patches)).argsort(1)
    mixed = np.take_along_axis(cut, order[:, :, None, None, None], 1)
    mixed = mixed.reshape(images, patches, patches, channels, rows, columns).transpose(0, 3, 1, 4, 2, 5)
    return np.ascontiguousarray(mixed.reshape(x.shape))
