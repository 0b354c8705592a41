"""Shapes filled with textures, so that a network can look at either (after Geirhos et al. 2019; textures are computed)."""

from __future__ import annotations

import numpy as np

from resilience.catalog import entry
from resilience.parameters import DatasetName, Fraction, Part

#: How many textures there are, one for each of up to ten classes.
TEXTURES = 10


@entry()
def texture_filled(
    x: np.ndarray,
    y: np.ndarray,
    generator: np.random.Generator,
    *,
    of: DatasetName,
    agreement: Fraction = 0.95,
    threshold: Part = 0.5,
) -> np.ndarray:
    """Each image's silhouette filled with one of ten textures, which in a share of the images is that of its class.

    With an agreement of 1 texture tells the class as well as shape does, with 0 the two contradict each other in every
    image. This is texture fill, not style transfer.

    Parameters
    ----------
    of
        The dataset that is changed; its images are bright shapes on a dark ground.
    agreement
        Share of the images whose texture is that of their class; the others have one of another class.
    threshold
        What is brighter in the mean over channels is inside the silhouette.
    """
    images, channels, height, width = x.shape
    other = (y + generator.integers(1, TEXTURES, images)) % TEXTURES
    chosen = np.where(generator.random(images) < agreement, y % TEXTURES, other)
    shifts = generator.integers(0, max(height, width), (images, 2))
    row, column = np.mgrid[:height, :width]
    inside = x.mean(1) > threshold
    filled = np.zeros((images, height, width), np.float32)
    for texture in range(TEXTURES):
        here = np.flatnonzero(chosen == texture)
        rows, columns = row + shifts[here, 0, None, None], column + shifts[here, 1, None, None]
        filled[here] = _texture(texture, rows, columns, generator)
    # Half of the range, so that no texture is black where a silhouette is.
    return np.repeat(((0.5 + filled / 2) * inside)[:, None], channels, axis=1).astype(np.float32)


def _texture(texture: int, row: np.ndarray, column: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Texture number 0 to 9, from 0 to 1, at rows and columns [images, height, width]."""
    stripes = {0: row, 1: column, 2: row + column, 3: row - column}
    if texture in stripes:
        return stripes[texture] // 2 % 2
    match texture:
        case 4:
            return (row + column) % 2
        case 5:
            return (row // 2 + column // 2) % 2
        case 6:
            return (row % 3 == 0) & (column % 3 == 0)
        case 7:
            return row // 3 % 2
        case 8:
            return column // 3 % 2
    return generator.random(row.shape)
