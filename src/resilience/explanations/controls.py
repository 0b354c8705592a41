"""Maps that say nothing of the network: what stands beside every explanation, so that one that says nothing is found out."""

from __future__ import annotations

import torch
from torch import Tensor

from resilience.catalog import entry


@entry(control=True)
def random_map(x: Tensor, generator: torch.Generator) -> Tensor:
    """Independent normal numbers, others for every image and after an attack: what is left of it is left by chance.

    Parameters
    ----------
    x
        Images [N, C, H, W], for their shape.
    generator
        Of the numbers, on the CPU.

    Returns
    -------
    Tensor
        Relevance [N, C, H, W].
    """
    return torch.randn(x.shape, generator=generator, dtype=x.dtype).to(x)


@entry(control=True)
def constant_map(x: Tensor) -> Tensor:
    """The same relevance of every pixel of every image: it survives any attack, and says nothing.

    Parameters
    ----------
    x
        Images [N, C, H, W], for their shape.

    Returns
    -------
    Tensor
        Relevance [N, C, H, W], all of it 1.
    """
    return torch.ones_like(x)


@entry(control=True)
def edges(x: Tensor) -> Tensor:
    """Where the image has edges: the length of its gradient by Sobel's filter, √(S_x² + S_y²), in each channel.

    S_x is the correlation with [[−1, 0, 1], [−2, 0, 2], [−1, 0, 1]] and S_y that with its transpose. Beyond the border the
    image goes on as it ends there.

    Parameters
    ----------
    x
        Images [N, C, H, W].

    Returns
    -------
    Tensor
        Relevance [N, C, H, W], none of it negative.
    """
    wider = torch.cat([x[..., :1], x, x[..., -1:]], -1)
    padded = torch.cat([wider[..., :1, :], wider, wider[..., -1:, :]], -2)
    columns = padded[..., :-2, :] + 2 * padded[..., 1:-1, :] + padded[..., 2:, :]
    rows = padded[..., :-2] + 2 * padded[..., 1:-1] + padded[..., 2:]
    across, down = columns[..., 2:] - columns[..., :-2], rows[..., 2:, :] - rows[..., :-2, :]
    return torch.sqrt(across**2 + down**2)
