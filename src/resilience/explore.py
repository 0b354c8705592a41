"""A page on which a reader compares the explanations of two trainings, one test point and one seed at a time."""

from __future__ import annotations

import base64
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from resilience import pages
from resilience.measures.channels import Channels, of_pixels
from resilience.measures.predictions import softmax_robustness
from resilience.measures.top_pixels import PIXELS

#: The largest magnitude of a stored relevance, that of a sign and six bits: a page stays below 5 MB, whatever it holds.
STEPS = 63


@dataclass(frozen=True)
class Seen:
    """What a network with one seed makes of N test points.

    ``attacked`` are its attacked images [N, C, H, W], ``probabilities`` those of the classes [N, classes] before and after
    the attack, ``maps`` the heat maps [N, C, H, W] before and after it, by explanation and layer.
    """

    seed: int
    attacked: np.ndarray
    probabilities: tuple[np.ndarray, np.ndarray]
    maps: Mapping[tuple[str, str], tuple[np.ndarray, np.ndarray]]


@dataclass(frozen=True)
class Model:
    """A training with a number of draws. Its seeds are gone through once, so they need not be in memory together."""

    name: str
    colour: str
    draws: int
    seeds: Iterable[Seen]


@dataclass(frozen=True)
class Overlaps:
    """Values of k in percent, ascending, which pixels, and what a pixel is.

    See :data:`resilience.measures.top_pixels.PIXELS` and :mod:`resilience.measures.channels`.
    """

    top_k: Sequence[float]
    pixels: str = "absolute"
    channels: Channels = "sum"

    @classmethod
    def of(cls, measures: Mapping[str, Mapping[str, Any]], pixels: str, channels: Channels = "sum") -> Overlaps:
        """The overlaps among some measures that count pixels in one way."""
        alike = (
            entry["top_k"]
            for entry in measures.values()
            if entry["measure"] == "overlap"
            and (entry.get("pixels", "absolute"), entry.get("channels", "sum")) == (pixels, channels)
        )
        return cls(sorted(set(alike)), pixels, channels)

    def tops(self, relevance: np.ndarray) -> np.ndarray:
        """To how many of the top k each pixel of heat maps [N, C, H, W] belongs, uint8 [N, 1, H, W] or [N, C, H, W]."""
        counted = of_pixels(relevance, self.channels)
        belongs = np.stack([PIXELS[self.pixels](counted, percent) for percent in self.top_k])
        return belongs.sum(0, dtype=np.uint8)


class Pack:
    """Arrays of bytes one after the other, compressed, since all of them are most of a page."""

    def __init__(self) -> None:
        self._length, self._parts, self._compressor = 0, [b""], zlib.compressobj(9)

    def add(self, array: np.ndarray) -> int:
        """Where the bytes of an array begin."""
        begin = self._length
        self._length += array.nbytes
        self._parts.append(self._compressor.compress(np.ascontiguousarray(array).tobytes()))
        return begin

    def text(self) -> str:
        """All that was added, as base64; nothing can be added any more."""
        return base64.b64encode(b"".join([*self._parts, self._compressor.flush()])).decode()


def spread(count: int, chosen: int | None) -> np.ndarray:
    """Indices of ``chosen`` of ``count`` points at equal distances; all of them if None. Points are ordered by class."""
    return np.arange(count) if chosen is None else np.arange(chosen) * count // chosen


def render(
    templates: Mapping[str, str],
    about: Mapping[str, Any],
    points: Mapping[str, np.ndarray],
    models: Iterable[Model],
    chosen: np.ndarray,
    overlaps: Overlaps,
) -> str:
    """The page as HTML that needs no other file.

    Parameters
    ----------
    templates
        The texts of the Jinja templates ``explore.html.j2``, ``explore.js`` and ``page.html.j2``.
    about
        What the page says of itself: ``dataset``, ``network``, ``attack``, ``trainings``, the names of its ``layers``,
        ``first``, the ``explanation`` and ``k`` to begin with, and ``class_names`` where the classes have some.
    points
        ``x`` [N, C, H, W] in [0, 1], ``y`` and ``index`` [N] of all test points.
    models
        The reference first, then the other training with each number of draws; all with the same seeds in the same order.
    chosen
        Indices of the points that are shown.
    overlaps
        What is counted of the maps.

    Raises
    ------
    ValueError
        If a model has other seeds than the reference: one seed's maps would stand beside another's.
    """
    pack = Pack()
    images = pack.add(bytes_of(points["x"][chosen]))
    reference, *others = (view(model, chosen, overlaps, pack) for model in models)
    seeds = [seen["seed"] for seen in reference["seeds"]]
    for other in others:
        if (found := [seen["seed"] for seen in other["seeds"]]) != seeds:
            raise ValueError(f"{other['name']}, {other['draws']} draws: has the seeds {found}, the reference {seeds}")
    content = {
        "shape": points["x"].shape[1:],
        "topK": list(overlaps.top_k),
        "counted": points["x"].shape[1] if overlaps.channels == "each" else 1,
        "seeds": seeds,
        "points": [
            {"index": int(index), "label": int(label)}
            for index, label in zip(points["index"][chosen], points["y"][chosen], strict=True)
        ],
        "classNames": about.get("class_names"),
        "images": images,
        "reference": reference,
        "models": others,
    }
    return pages.fill(templates, "explore.html.j2", about=about, content=content, arrays=pack.text(), steps=STEPS)


def view(model: Model, chosen: np.ndarray, overlaps: Overlaps, pack: Pack) -> dict[str, Any]:
    """What the page holds of one model, in the types that JSON has; arrays as where they begin in ``pack``."""
    seeds = [view_of_seed(seen, chosen, overlaps, pack) for seen in model.seeds]
    return {"name": model.name, "colour": model.colour, "draws": model.draws, "seeds": seeds}


def view_of_seed(seen: Seen, chosen: np.ndarray, overlaps: Overlaps, pack: Pack) -> dict[str, Any]:
    """What the page holds of one model with one seed."""
    before, after = (probabilities[chosen] for probabilities in seen.probabilities)
    maps: dict[str, dict[str, Any]] = {}
    for (explanation, layer), pair in seen.maps.items():
        found = heat_maps((pair[0][chosen], pair[1][chosen]), overlaps)
        packed = {key: [pack.add(array) for array in found[key]] for key in ("maps", "tops")}
        maps.setdefault(explanation, {})[str(layer)] = found | packed
    return {
        "seed": seen.seed,
        "attacked": pack.add(bytes_of(seen.attacked[chosen])),
        "predictions": [
            {"class": part.argmax(1).tolist(), "probability": part.max(1).round(4).tolist()} for part in (before, after)
        ],
        "softmaxRobustness": softmax_robustness(before, after).round(4).tolist(),
        "maps": maps,
    }


def heat_maps(pair: tuple[np.ndarray, np.ndarray], overlaps: Overlaps) -> dict[str, Any]:
    """Heat maps [N, C, H, W] before and after an attack, in 8 bits, and which pixels are their top k.

    ``maps`` [N, H, W] are the sums over channels, in steps of a 63rd of the largest one of either map. ``tops`` say of each
    pixel, one of the sum or one of each channel, to how many of the top k of the float maps it belongs; a pixel that belongs
    to those of one k belongs to those of every larger one. Counting them gives :func:`resilience.measures.maps.overlap`.
    """
    totals = [part.sum(1) for part in pair]
    largest = np.maximum(*(np.abs(total).max((1, 2)) for total in totals))
    scale = np.where(largest > 0, largest, 1)[:, None, None]
    return {
        "maps": [np.rint(STEPS * (total / scale)).astype(np.int8) for total in totals],
        "largest": [float(f"{value:.3g}") for value in largest],
        "relevant": (of_pixels(pair[0], overlaps.channels) != 0).sum((1, 2, 3)).tolist(),
        "tops": [overlaps.tops(part) for part in pair],
    }


def bytes_of(images: np.ndarray) -> np.ndarray:
    """Images in [0, 1] with 256 shades, uint8."""
    return np.rint(255 * images).astype(np.uint8)
