"""How much of an explanation survives an attack: heat maps before and after it, compared point by point.

All measures get ``clean`` and ``attacked``, relevance [N, C, H, W], and return float64 [N], NaN where they are undefined.
Maps that are not finite are refused. A pixel of a colour image is one pixel, whose relevance is the sum over its channels,
unless ``channels`` says otherwise; see :mod:`resilience.measures.channels`. Nothing here needs torch.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from resilience.catalog import entry
from resilience.measures.channels import Channels, of_pixels
from resilience.measures.top_pixels import PIXELS
from resilience.parameters import Count, Percent, Positive

#: Constants of the structural similarity, K1 and K2 of Wang et al. 2004, Sec. III-C.
SSIM_CONSTANTS = (0.01, 0.03)
#: The radius of its window in standard deviations: 5 pixels for the 1.5 of the paper, which makes 11 × 11.
SSIM_RADIUS = 5 / 1.5

Pair = tuple[np.ndarray, np.ndarray]
Values = Literal["signed", "absolute"]


class RelevanceError(ValueError):
    """Heat maps that cannot be compared. The message says which."""


@entry(of="maps")
def overlap(
    clean: np.ndarray,
    attacked: np.ndarray,
    *,
    top_k: Percent,
    pixels: Literal["absolute", "extreme_halves"] = "absolute",
    channels: Literal["sum", "each"] = "sum",
) -> np.ndarray:
    """Share of the top pixels that stay on top, |Top_k(R(x)) ∩ Top_k(R(x̃))| / k (Carbone et al. 2021, Def. IV.1, Eq. 2).

    Ties go to the smaller index, so of maps without any relevance the first pixels are on top.

    Parameters
    ----------
    clean, attacked
        Heat maps [N, C, H, W] before and after the attack.
    top_k
        k, the percentage of most relevant pixels.
    pixels
        Which those are: ``absolute`` by |R|, ``extreme_halves`` half the most positive and half the most negative ones, as
        in the published code.
    channels
        What a pixel of a colour image is: ``sum``, one with the relevance Σ_channels R; ``each``, every channel by itself,
        so that there are C · H · W of them, as in the published code.

    Returns
    -------
    numpy.ndarray
        [N], from 0 (no pixel in common) to 1 (all of them). Two random maps reach k / 100 on average.

    Raises
    ------
    RelevanceError
        If maps do not fit each other, or a value is NaN or infinite, which has no rank among others.
    """
    before, after = (PIXELS[pixels](relevance, top_k) for relevance in _pixels(clean, attacked, channels))
    return (before & after).sum((1, 2, 3)) / before.sum((1, 2, 3))


@entry(of="maps")
def locality_sensitive_overlap(
    clean: np.ndarray,
    attacked: np.ndarray,
    *,
    top_k: Percent,
    window: Count = 1,
    share: Literal["recall", "precision"] = "recall",
    channels: Literal["sum", "each"] = "sum",
) -> np.ndarray:
    """Share of the top pixels that are near a top pixel of the other map, w-LENS-recall@k (Kamath et al. 2024).

    With N_w(S) all pixels of the (2w + 1) × (2w + 1) windows around those of S, w-LENS-recall@k is
    |N_w(Top_k(R(x))) ∩ Top_k(R(x̃))| / k, and w-LENS-prec@k is |Top_k(R(x)) ∩ N_w(Top_k(R(x̃)))| / k. Top_k is that of
    ``overlap``. Windows overlap, so two random maps reach about 1 − (1 − k / 100)^((2w + 1)²): .87 for k = 20 and w = 1.
    Only a small k tells anything.

    Parameters
    ----------
    clean, attacked
        Heat maps [N, C, H, W] before and after the attack.
    top_k
        k, the percentage of most relevant pixels by |R|.
    window
        w, how many pixels away counts as near, along rows, columns and diagonals.
    share
        ``recall``: of the attacked map's top pixels, those near one of the clean map. ``precision``: of the clean map's,
        those near one of the attacked map.
    channels
        What a pixel is; see :func:`overlap`. With ``each``, a window stays within its channel.

    Returns
    -------
    numpy.ndarray
        [N], from 0 to 1; never below ``overlap``.

    Raises
    ------
    RelevanceError
        If maps do not fit each other or are not finite.
    """
    from scipy.ndimage import binary_dilation

    before, after = (PIXELS["absolute"](relevance, top_k) for relevance in _pixels(clean, attacked, channels))
    around, counted = (before, after) if share == "recall" else (after, before)
    size = 2 * window + 1
    neighbourhood = around
    for structure in (np.ones((1, 1, size, 1)), np.ones((1, 1, 1, size))):
        neighbourhood = binary_dilation(neighbourhood, structure)
    return (neighbourhood & counted).sum((1, 2, 3)) / counted.sum((1, 2, 3))


@entry(of="maps")
def kendall_tau(
    clean: np.ndarray,
    attacked: np.ndarray,
    *,
    values: Literal["signed", "absolute"] = "signed",
    channels: Literal["sum", "each"] = "sum",
) -> np.ndarray:
    """Kendall's τ_b between the maps' values: how many pairs of pixels keep their order, ties corrected for (Kendall 1945).

    τ_b = (P − Q) / √((P + Q + T)(P + Q + U)) over all pairs of pixels, with P pairs in the same order, Q in
    the opposite one, T tied in the clean map alone and U in the attacked one alone. Boopathy et al. 2020 compare maps by it.

    Parameters
    ----------
    clean, attacked
        Heat maps [N, C, H, W] before and after the attack.
    values
        What is ranked: ``signed`` R, ``absolute`` |R|.
    channels
        What a pixel is; see :func:`overlap`.

    Returns
    -------
    numpy.ndarray
        [N], from −1 to 1, 0 on average for random maps; NaN where a map is constant and ranks nothing.

    Raises
    ------
    RelevanceError
        If maps do not fit each other or are not finite.
    """
    from scipy.stats import kendalltau

    before, after = _ranked(clean, attacked, values, channels)
    if before.shape[1] == 1:
        return np.full(len(before), np.nan)  # One pixel makes no pair.
    # The p-value is not used; its asymptotic form is the one that costs nothing.
    found = [kendalltau(*pair, method="asymptotic").statistic for pair in zip(before, after, strict=True)]
    return np.array(found, dtype=np.float64)


@entry(of="maps")
def spearman(
    clean: np.ndarray,
    attacked: np.ndarray,
    *,
    values: Literal["signed", "absolute"] = "signed",
    channels: Literal["sum", "each"] = "sum",
) -> np.ndarray:
    """Spearman's ρ between the maps' values: the correlation of their ranks (Spearman 1904).

    Each pixel has a rank, and tied ones their mean rank. Ghorbani et al. 2019 and Adebayo et al. 2018 compare maps by it.

    Parameters
    ----------
    clean, attacked
        Heat maps [N, C, H, W] before and after the attack.
    values
        What is ranked: ``signed`` R, ``absolute`` |R|.
    channels
        What a pixel is; see :func:`overlap`.

    Returns
    -------
    numpy.ndarray
        [N], from −1 to 1, 0 on average for random maps; NaN where a map is constant and ranks nothing.

    Raises
    ------
    RelevanceError
        If maps do not fit each other or are not finite.
    """
    from scipy.stats import rankdata

    before, after = (rankdata(part, axis=1) for part in _ranked(clean, attacked, values, channels))
    return _cosine(before - before.mean(1, keepdims=True), after - after.mean(1, keepdims=True))


@entry(of="maps")
def cosine(clean: np.ndarray, attacked: np.ndarray, *, channels: Literal["sum", "each"] = "sum") -> np.ndarray:
    """Cosine of the angle between the maps, ⟨R(x), R(x̃)⟩ / (‖R(x)‖₂ ‖R(x̃)‖₂), over all pixels.

    Parameters
    ----------
    clean, attacked
        Heat maps [N, C, H, W] before and after the attack.

    Returns
    -------
    numpy.ndarray
        [N], from −1 to 1; NaN where a map has no relevance at all.

    Raises
    ------
    RelevanceError
        If maps do not fit each other or are not finite.
    """
    return _cosine(*_flat(clean, attacked, channels))


@entry(of="maps")
def l1_distance(
    clean: np.ndarray,
    attacked: np.ndarray,
    *,
    scale: Literal["sum", "none"] = "sum",
    channels: Literal["sum", "each"] = "sum",
) -> np.ndarray:
    """Sum of the absolute differences of the maps, ‖R(x) − R(x̃)‖₁, over all pixels (Boopathy et al. 2020).

    Parameters
    ----------
    clean, attacked
        Heat maps [N, C, H, W] before and after the attack.
    scale
        ``sum``: each map is divided by its Σ|R| first, so that only where relevance lies counts. ``none``: as they are.
    channels
        What a pixel is; see :func:`overlap`.

    Returns
    -------
    numpy.ndarray
        [N], from 0, for ``sum`` to 2; NaN there where a map has no relevance at all.

    Raises
    ------
    RelevanceError
        If maps do not fit each other or are not finite.
    """
    before, after = _scaled(clean, attacked, scale, channels)
    return np.abs(before - after).sum(1)


@entry(of="maps")
def l2_distance(
    clean: np.ndarray,
    attacked: np.ndarray,
    *,
    scale: Literal["sum", "none"] = "sum",
    channels: Literal["sum", "each"] = "sum",
) -> np.ndarray:
    """Euclidean distance of the maps, ‖R(x) − R(x̃)‖₂, over all pixels (Dombrowski et al. 2019).

    Parameters
    ----------
    clean, attacked
        Heat maps [N, C, H, W] before and after the attack.
    scale
        ``sum``: each map is divided by its Σ|R| first, so that only where relevance lies counts. ``none``: as they are.
    channels
        What a pixel is; see :func:`overlap`.

    Returns
    -------
    numpy.ndarray
        [N], from 0, for ``sum`` to 2; NaN there where a map has no relevance at all.

    Raises
    ------
    RelevanceError
        If maps do not fit each other or are not finite.
    """
    before, after = _scaled(clean, attacked, scale, channels)
    return np.sqrt(((before - after) ** 2).sum(1))


@entry(of="maps")
def ssim(
    clean: np.ndarray, attacked: np.ndarray, *, sigma: Positive = 1.5, channels: Literal["sum", "each"] = "sum"
) -> np.ndarray:
    """Structural similarity of the pictures that the maps make, 1/2 + R / (2 max |R|) (Wang et al. 2004, Eq. 13).

    With local means μ, variances σ² and covariance σ_ab under a Gaussian window, it is the mean over pixels of
    (2 μ_a μ_b + c₁)(2 σ_ab + c₂) / ((μ_a² + μ_b² + c₁)(σ_a² + σ_b² + c₂)). Pictures lie in [0, 1], with no relevance at
    1/2, so L = 1, c₁ = (.01 L)² and c₂ = (.03 L)²; of signed maps themselves the formula would take opposite ones for
    alike. The default's window is the paper's, 11 × 11. At the border the picture is mirrored, so that every pixel counts
    and small images have a value. Where both maps are blank the similarity is 1, which raises that of maps with much black.

    Parameters
    ----------
    clean, attacked
        Heat maps [N, C, H, W] before and after the attack.
    sigma
        Standard deviation of the window in pixels; it reaches 3⅓ of them to every side.
    channels
        What a pixel is; see :func:`overlap`. With ``each`` it is the mean over channels, too.

    Returns
    -------
    numpy.ndarray
        [N], from −1 to 1.

    Raises
    ------
    RelevanceError
        If maps do not fit each other or are not finite.
    """
    from scipy.ndimage import gaussian_filter

    def local_mean(values: np.ndarray) -> np.ndarray:
        return gaussian_filter(values, sigma, radius=max(1, round(SSIM_RADIUS * sigma)), axes=(2, 3))

    a, b = (_picture(relevance) for relevance in _pixels(clean, attacked, channels))
    c1, c2 = (constant**2 for constant in SSIM_CONSTANTS)
    mean_a, mean_b = local_mean(a), local_mean(b)
    variances = local_mean(a * a) - mean_a**2 + local_mean(b * b) - mean_b**2
    covariance = local_mean(a * b) - mean_a * mean_b
    similar = (2 * mean_a * mean_b + c1) * (2 * covariance + c2) / ((mean_a**2 + mean_b**2 + c1) * (variances + c2))
    return similar.mean((1, 2, 3))


@entry(of="maps")
def centre_of_mass_shift(clean: np.ndarray, attacked: np.ndarray, *, channels: Literal["sum", "each"] = "sum") -> np.ndarray:
    """How many pixels the centre of mass of |R| moves (Ghorbani et al. 2019).

    Parameters
    ----------
    clean, attacked
        Heat maps [N, C, H, W] before and after the attack.
    channels
        What a pixel is; see :func:`overlap`. With ``each`` a place has the mass Σ_channels |R|.

    Returns
    -------
    numpy.ndarray
        [N], the Euclidean distance of the centres in pixels; NaN where a map has no relevance at all.

    Raises
    ------
    RelevanceError
        If maps do not fit each other or are not finite.
    """
    centres = (_centre_of_mass(relevance) for relevance in _pixels(clean, attacked, channels))
    (row, column), (row_after, column_after) = centres
    return np.hypot(row - row_after, column - column_after)


@entry(of="maps")
def relevant(clean: np.ndarray, *, channels: Literal["sum", "each"] = "sum") -> np.ndarray:
    """Share of the pixels that have any relevance before the attack: |{j : R_j(x) ≠ 0}| / (H · W).

    Where it is below k, pixels without relevance fill the top k in the order of their index and count as surviving.

    Parameters
    ----------
    clean
        Heat maps [N, C, H, W] before the attack.
    channels
        What a pixel is; see :func:`overlap`.

    Returns
    -------
    numpy.ndarray
        [N], from 0 to 1.

    Raises
    ------
    RelevanceError
        If maps are not finite.
    """
    refuse_not_finite("clean", clean)
    pixels = of_pixels(clean, channels)
    return (pixels.reshape(len(pixels), -1) != 0).mean(1)


def refuse_unfit(clean: np.ndarray, attacked: np.ndarray) -> None:
    """Raise a :class:`RelevanceError` unless maps are finite and of one shape [N, C, H, W]."""
    if clean.ndim != 4 or clean.shape != attacked.shape:
        raise RelevanceError(
            f"clean heat maps of shape {list(clean.shape)} and attacked ones of shape {list(attacked.shape)} cannot be "
            "compared; both must be [N, C, H, W]"
        )
    for name, relevance in (("clean", clean), ("attacked", attacked)):
        refuse_not_finite(name, relevance)


def refuse_not_finite(name: str, relevance: np.ndarray) -> None:
    """Raise a :class:`RelevanceError` if maps have a value that is NaN or infinite; ``name`` says which maps these are."""
    if broken := int((~np.isfinite(relevance)).any(tuple(range(1, relevance.ndim))).sum()):
        raise RelevanceError(f"{broken} of {len(relevance)} {name} heat maps have values that are not finite")


def _pixels(clean: np.ndarray, attacked: np.ndarray, channels: Channels) -> Pair:
    """Maps that fit each other, [N, 1, H, W], or [N, C, H, W] where each channel counts alone."""
    refuse_unfit(clean, attacked)
    return of_pixels(clean, channels), of_pixels(attacked, channels)


def _flat(clean: np.ndarray, attacked: np.ndarray, channels: Channels) -> Pair:
    """Maps that fit each other, as float64 [N, pixels]."""
    before, after = _pixels(clean, attacked, channels)
    return before.reshape(len(before), -1).astype(np.float64), after.reshape(len(after), -1).astype(np.float64)


def _ranked(clean: np.ndarray, attacked: np.ndarray, values: Values, channels: Channels) -> Pair:
    """The values that are ranked, [N, pixels]."""
    before, after = _flat(clean, attacked, channels)
    return (np.abs(before), np.abs(after)) if values == "absolute" else (before, after)


def _scaled(clean: np.ndarray, attacked: np.ndarray, scale: Literal["sum", "none"], channels: Channels) -> Pair:
    """The values whose distance counts, [N, pixels]."""
    before, after = _flat(clean, attacked, channels)
    return (_over_sum(before), _over_sum(after)) if scale == "sum" else (before, after)


def _over_sum(flat: np.ndarray) -> np.ndarray:
    """Maps [N, pixels] with Σ|R| = 1; NaN where there is no relevance."""
    with np.errstate(invalid="ignore"):
        return flat / np.abs(flat).sum(1, keepdims=True)


def _picture(relevance: np.ndarray) -> np.ndarray:
    """Maps [N, C, H, W] as grey values in [0, 1], float64: no relevance is 1/2, and the largest |R| is 0 or 1."""
    largest = np.abs(relevance).max((1, 2, 3), keepdims=True).astype(np.float64)
    return (1 + relevance / np.where(largest == 0, 1, largest)) / 2


def _cosine(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Cosine of the angle between vectors [N, pixels]; NaN where one is zero."""
    with np.errstate(invalid="ignore"):
        a, b = (vector / np.abs(vector).max(1, keepdims=True) for vector in (a, b))
        return np.clip((a * b).sum(1) / np.sqrt((a * a).sum(1) * (b * b).sum(1)), -1, 1)


def _centre_of_mass(relevance: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Row [N] and column [N] of the centre of mass of maps [N, C, H, W]; NaN where there is no relevance."""
    mass = np.abs(relevance.astype(np.float64)).sum(1)
    with np.errstate(invalid="ignore"):
        mass /= mass.sum((1, 2), keepdims=True)
    rows, columns = (np.arange(size) for size in mass.shape[1:])
    return (mass.sum(2) * rows).sum(1), (mass.sum(1) * columns).sum(1)
