"""Whether an explanation says anything of the network, so that one that is stable because it says nothing is found out.

A map that is always the same has an overlap of 1 under every attack. It finds no pixel that the prediction needs (deletion,
insertion), and it stays as it is when the network's weights are exchanged for random ones (randomisation).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from resilience.catalog import entry
from resilience.computing import in_chunks
from resilience.graphs import chunk_of, graphs_of
from resilience.measures.channels import of_pixels
from resilience.measures.forward import mean_probabilities
from resilience.measures.maps import refuse_not_finite, spearman
from resilience.networks import image_shape, learnable_layers
from resilience.parameters import Count, Fraction
from resilience.posterior import Posterior
from resilience.progress import steps as progress_steps

#: The blur of RISE, in pixels: standard deviation of the Gaussian, and how far it reaches (11 × 11).
BLUR_SIGMA, BLUR_RADIUS = 5.0, 5

Baseline = float | Literal["mean", "blur"]
Values = Literal["signed", "absolute"]


class SanityError(ValueError):
    """A check that cannot be made. The message says which key of the config asks for it, and what is possible."""


@entry(of="explanation")
def deletion(
    posterior: Posterior,
    x: Tensor,
    relevance: Tensor,
    explained: Tensor,
    generator: torch.Generator,
    *,
    steps: Count = 20,
    baseline: Fraction | Literal["mean", "blur"] = 0.0,
    values: Literal["signed", "absolute"] = "signed",
) -> np.ndarray:
    """Area under the class's probability as the most relevant pixels are deleted first (RISE, Petsiuk et al. 2018).

    The class is the explained one, its probability that of the posterior predictive, E_w[p_c(x, w)]; the area is that of
    the trapezoids over the share of pixels deleted, from none to all. Low is good: the pixels were needed. Compare with the
    random map, not with 0.

    Parameters
    ----------
    posterior
        S draws of a network.
    x
        Images [N, C, H, W] in [0, 1].
    relevance
        Heat maps [N, C, H, W] of these images.
    explained
        The class [N] that is explained.
    generator
        Orders pixels of equal relevance at random, so that a constant map is as good as chance.
    steps
        In how many steps pixels are changed, as equal as can be; a step changes at least one, all channels at once.
    baseline
        What is in the place of a deleted pixel: a number, the ``mean`` of each channel of the image, or the image after a
        ``blur``, Gaussian with a standard deviation of 5 pixels and 11 × 11 wide, as in RISE.
    values
        What ranks pixels: ``signed`` Σ_channels R, so that what speaks against the class goes last, or ``absolute``
        |Σ_channels R|.

    Returns
    -------
    numpy.ndarray
        float64 [N], from 0 to 1.

    Raises
    ------
    RelevanceError
        If heat maps are not finite.
    """
    order = _places_in_order(relevance, values, generator)
    return _area(posterior, x, _replaced(x, baseline), order, explained, steps)


@entry(of="explanation")
def insertion(
    posterior: Posterior,
    x: Tensor,
    relevance: Tensor,
    explained: Tensor,
    generator: torch.Generator,
    *,
    steps: Count = 20,
    baseline: Fraction | Literal["mean", "blur"] = "blur",
    values: Literal["signed", "absolute"] = "signed",
) -> np.ndarray:
    """Area under the class's probability as the most relevant pixels are inserted first (RISE, Petsiuk et al. 2018).

    As in ``deletion``, but from the baseline to the image. High is good: the pixels were enough.

    Parameters
    ----------
    posterior, x, relevance, explained, generator, steps, baseline, values
        See :func:`deletion`.

    Returns
    -------
    numpy.ndarray
        float64 [N], from 0 to 1.

    Raises
    ------
    RelevanceError
        If heat maps are not finite.
    """
    order = _places_in_order(relevance, values, generator)
    return _area(posterior, _replaced(x, baseline), x, order, explained, steps)


@entry(of="explanation")
def randomisation(
    posterior: Posterior,
    relevance: Tensor,
    explain: Callable[[Posterior], Tensor],
    generator: torch.Generator,
    *,
    layers: Count | None = None,
    repeats: Count = 1,
    values: Literal["signed", "absolute"] = "absolute",
    channels: Literal["sum", "each"] = "sum",
) -> np.ndarray:
    """Spearman's ρ with the map of the same network under random weights (Adebayo et al. 2018, Sec. 3).

    Every parameter of the layers is drawn anew, in each draw, from a normal distribution with the mean and the standard
    deviation that its values have there. Low is good: the explanation depends on what the network has learnt. A product with
    the input is blank where the image is black, which alone makes the sizes of two maps alike: rank ``signed`` values there.

    Parameters
    ----------
    posterior
        S draws of a network.
    relevance
        Heat maps [N, C, H, W].
    explain
        Explains the same images and classes, in the same way, with other weights: [N, C, H, W] from a posterior.
    generator
        For the random weights.
    layers
        How many of the layers with weights, counted from the last, the cascade of the paper; null for all of them.
    repeats
        Over how many sets of random weights the similarity is averaged.
    values
        What is ranked: ``absolute`` |R| or ``signed`` R; the paper shows both.
    channels
        What a pixel of a colour image is; see :func:`resilience.measures.maps.overlap`.

    Returns
    -------
    numpy.ndarray
        float64 [N], from −1 to 1; NaN where a map is constant and ranks nothing.

    Raises
    ------
    SanityError
        If the network has fewer layers.
    RelevanceError
        If heat maps are not finite.
    """
    known = learnable_layers(posterior.network)
    if layers is not None and layers > len(known):
        raise SanityError(f"randomisation: layers: {layers} is more than the {len(known)} layers with weights")
    chosen = known if layers is None else known[-layers:]
    original = relevance.cpu().numpy()
    similar = [
        spearman(
            original, explain(_randomised(posterior, chosen, generator)).cpu().numpy(), values=values, channels=channels
        )
        for _ in range(repeats)
    ]
    return np.mean(similar, axis=0)


def _randomised(posterior: Posterior, layers: tuple[str, ...], generator: torch.Generator) -> Posterior:
    """The same draws with the parameters of some layers drawn anew."""
    weights = dict(posterior.weights)
    for name in sorted(dict(posterior.network.named_parameters())):
        if name.rpartition(".")[0] in layers:
            weights[name] = _drawn_like(weights[name], generator)
    return Posterior(posterior.network, weights)


def _drawn_like(draws: Tensor, generator: torch.Generator) -> Tensor:
    """Normal numbers with the mean and the standard deviation that each of the draws [S, …] of a parameter has."""
    values = draws.flatten(1)
    noise = torch.randn(values.shape, generator=generator, dtype=torch.float64).to(values)
    scale = values.std(1, correction=0, keepdim=True)
    return (values.mean(1, keepdim=True) + scale * noise).view(draws.shape)


def _places_in_order(relevance: Tensor, values: Values, generator: torch.Generator) -> Tensor:
    """How many pixels come before each, [N, H · W], when the most relevant is first and ties are in random order."""
    refuse_not_finite("clean", relevance.cpu().numpy())
    signed = of_pixels(relevance.double()).flatten(1)
    ranked = signed.abs() if values == "absolute" else signed
    shuffled = torch.rand(ranked.shape, generator=generator, dtype=torch.float64).argsort(1).to(ranked.device)
    order = shuffled.gather(1, ranked.gather(1, shuffled).argsort(dim=1, descending=True, stable=True))
    places = torch.arange(order.shape[1], device=order.device).expand_as(order)
    return torch.empty_like(order).scatter(1, order, places)


def _replaced(x: Tensor, baseline: Baseline) -> Tensor:
    """Images [N, C, H, W] of which every pixel is deleted."""
    if baseline == "mean":
        return x.mean((2, 3), keepdim=True).expand_as(x)
    if baseline == "blur":
        rows, columns = (_blur_of(size).to(x) for size in x.shape[2:])
        return rows @ x @ columns.t()
    return torch.full_like(x, float(baseline))


def _blur_of(size: int) -> Tensor:
    """The Gaussian blur of a line of pixels as a matrix, float64 [size, size]; the line is mirrored at its ends."""
    from scipy.ndimage import gaussian_filter1d

    return torch.from_numpy(gaussian_filter1d(np.eye(size), BLUR_SIGMA, axis=0, radius=BLUR_RADIUS))


def _area(posterior: Posterior, start: Tensor, end: Tensor, order: Tensor, explained: Tensor, steps: int) -> np.ndarray:
    """Area under the probability of a class [N] on the way from some images to others, over the share of pixels changed."""
    pixels = order.shape[1]
    counts = sorted({pixels * step // steps for step in range(steps + 1)})
    graphs, chunk = graphs_of(posterior, image_shape(start)), chunk_of(posterior.network, image_shape(start))
    places = order.view(len(order), 1, *start.shape[2:])
    curve = torch.empty(len(counts), len(start), dtype=torch.float64, device=start.device)
    with progress_steps(len(counts) * -(-len(start) // chunk), "pixels changed") as advance:

        def work(part: slice) -> None:
            for step, count in enumerate(counts):
                mixed = torch.where(places[part] < count, end[part], start[part])
                probabilities = mean_probabilities(graphs, mixed)
                curve[step, part] = probabilities.gather(1, explained[part, None])[:, 0]
                advance()

        in_chunks(work, len(start), chunk)
    return np.trapezoid(curve.cpu().numpy(), np.array(counts) / pixels, axis=0)
