"""A page on which a reader compares the explanations of two trainings, one test point at a time."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from resilience import pages
from resilience.robustness import PIXELS, softmax_robustness

#: The largest magnitude of a stored relevance, that of a sign and seven bits.
STEPS = 127


@dataclass(frozen=True)
class Model:
    """What a training with a number of draws makes of N test points.

    ``attacked`` are its attacked images [N, C, H, W], ``probabilities`` those of the classes [N, classes] before and after
    the attack, ``maps`` the heat maps [N, C, H, W] before and after it, by rule and layer.
    """

    name: str
    colour: str
    draws: int
    attacked: np.ndarray
    probabilities: tuple[np.ndarray, np.ndarray]
    maps: Mapping[tuple[str, int], tuple[np.ndarray, np.ndarray]]


def spread(count: int, chosen: int | None) -> np.ndarray:
    """Indices of ``chosen`` of ``count`` points at equal distances; all of them if None. Points are ordered by class."""
    return np.arange(count) if chosen is None else np.arange(chosen) * count // chosen


def render(
    templates: Mapping[str, str],
    about: Mapping[str, Any],
    points: Mapping[str, np.ndarray],
    models: Sequence[Model],
    chosen: np.ndarray,
    top_k: Sequence[float],
    pixels: str,
) -> str:
    """The page as HTML that needs no other file.

    Parameters
    ----------
    templates
        The texts of the Jinja templates ``explore.html.j2`` and ``page.html.j2``.
    about
        What the page says of itself: ``dataset``, ``network``, ``attack``, ``trainings``, ``seed``, the names of its
        ``layers``, and ``first``, the ``rule`` and ``k`` to begin with.
    points
        ``x`` [N, C, H, W] in [0, 1], ``y`` and ``index`` [N] of all test points.
    models
        The reference first, then the other training with each number of draws.
    chosen
        Indices of the points that are shown.
    top_k, pixels
        The values of k in percent, and which pixels those are; see :data:`resilience.robustness.PIXELS`.
    """
    reference, *others = models
    content = {
        "shape": points["x"].shape[1:],
        "topK": list(top_k),
        "points": [
            {"index": int(index), "label": int(label)}
            for index, label in zip(points["index"][chosen], points["y"][chosen], strict=True)
        ],
        "images": bytes_of(points["x"][chosen]),
        "reference": view(reference, chosen, top_k, pixels),
        "models": [view(model, chosen, top_k, pixels) for model in others],
    }
    return pages.fill(templates, "explore.html.j2", about=about, content=content, steps=STEPS)


def view(model: Model, chosen: np.ndarray, top_k: Sequence[float], pixels: str) -> dict[str, Any]:
    """What the page holds of one model, in the types that JSON has; arrays as base64."""
    before, after = (probabilities[chosen] for probabilities in model.probabilities)
    maps: dict[str, dict[str, Any]] = {}
    for (rule, layer), pair in model.maps.items():
        maps.setdefault(rule, {})[str(layer)] = heat_maps((pair[0][chosen], pair[1][chosen]), top_k, pixels)
    return {
        "name": model.name,
        "colour": model.colour,
        "draws": model.draws,
        "attacked": bytes_of(model.attacked[chosen]),
        "predictions": [
            {"class": part.argmax(1).tolist(), "probability": part.max(1).round(4).tolist()} for part in (before, after)
        ],
        "softmaxRobustness": softmax_robustness(before, after).round(4).tolist(),
        "maps": maps,
    }


def heat_maps(pair: tuple[np.ndarray, np.ndarray], top_k: Sequence[float], pixels: str) -> dict[str, Any]:
    """Heat maps [N, C, H, W] before and after an attack, in 8 bits, and which pixels are their top k, in one bit each.

    The relevance of a pixel is the sum over its channels, in steps of a 127th of the largest one of either map. The top k
    are those of the float maps, channel by channel, so that counting them gives
    :func:`resilience.robustness.lrp_robustness`.
    """
    totals = [part.sum(1) for part in pair]
    largest = np.maximum(*(np.abs(total).max((1, 2)) for total in totals))
    scale = np.where(largest > 0, largest, 1)[:, None, None]
    return {
        "maps": [_text(np.rint(STEPS * (total / scale)).astype(np.int8)) for total in totals],
        "largest": [float(f"{value:.3g}") for value in largest],
        "relevant": (pair[0].reshape(len(pair[0]), -1) != 0).sum(1).tolist(),
        "top": {f"{percent:g}": [bits_of(PIXELS[pixels](part, percent)) for part in pair] for percent in top_k},
    }


def bytes_of(images: np.ndarray) -> str:
    """Images in [0, 1] with 256 shades."""
    return _text(np.rint(255 * images).astype(np.uint8))


def bits_of(mask: np.ndarray) -> str:
    """A mask [N, …] with one bit for each entry; every point begins with a new byte."""
    return _text(np.packbits(mask.reshape(len(mask), -1), axis=1))


def _text(array: np.ndarray) -> str:
    return base64.b64encode(np.ascontiguousarray(array).tobytes()).decode()
