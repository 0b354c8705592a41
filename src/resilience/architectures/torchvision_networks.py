"""Networks of torchvision, with its layers and its names, so that its weights fit."""

from __future__ import annotations

import difflib
from typing import Any

from torch import nn

from resilience.architectures.normalisation import normalised
from resilience.catalog import entry
from resilience.networks import NetworkError, Shape
from resilience.parameters import Fraction, Positive

#: What begins the names of auxiliary heads, which only training uses: GoogLeNet's and Inception's. Weights of them that a
#: file holds are passed over, see :mod:`resilience.training.imported`.
AUXILIARY = ("aux1.", "aux2.", "AuxLogits.")
WITH_AUXILIARY_HEADS = ("googlenet", "inception_v3")


@entry(layers=("output",), has=("convolution", "pooled_head"))
def torchvision(
    shape: Shape,
    classes: int,
    *,
    name: str,
    mean: list[Fraction] | None = None,
    deviation: list[Positive] | None = None,
) -> nn.Module:
    """A classifier of torchvision.models, such as resnet18, with a last layer for the dataset's classes.

    Auxiliary heads are left out. Which layers are explained is said by ``layers`` in the entry, as torchvision names them.

    Parameters
    ----------
    shape
        (channels, height, width) of the images.
    classes
        Number of logits.
    name
        As ``torchvision.models.list_models`` writes it. One whose operations have no rule is refused when it is first read,
        by the name of operation and layer.
    mean, deviation
        Of each channel, or one for all: the network's first layer is then (x − mean) / deviation, so that images stay in
        [0, 1]. Weights that learned on ImageNet expect [0.485, 0.456, 0.406] and [0.229, 0.224, 0.225], those of googlenet
        and inception_v3 [0.5] and [0.5].

    Raises
    ------
    NetworkError
        If torchvision has no such classifier, or that takes other images.
    """
    # Only here: a plan reads the signature of this function alone, and torchvision takes seconds to import.
    from torchvision import models

    known = models.list_models(module=models)
    if name not in known:
        near = difflib.get_close_matches(name, known, 1) or ["resnet18"]
        raise NetworkError(f"torchvision has no classifier {name!r}; did you mean {near[0]}?")
    if shape[0] != 3:
        raise NetworkError(
            f"{name} takes images of 3 channels, not {shape[0]}; datasets have a setting for that, such as channels"
        )
    options: dict[str, Any] = {"aux_logits": False, "init_weights": True} if name in WITH_AUXILIARY_HEADS else {}
    if name.startswith("vit_"):
        options["image_size"] = shape[1]
    try:
        network = models.get_model(name, weights=None, num_classes=classes, **options)
    except (ValueError, RuntimeError) as error:
        raise NetworkError(
            f"torchvision's {name} cannot be built for images of {shape[1]} × {shape[2]} pixels: {error}"
        ) from error
    if options.get("aux_logits") is False:
        network.left_out = AUXILIARY
    return normalised(network, shape[0], mean, deviation)
