"""The networks of Kim et al. 2019: stacks with ReLU, Glorot's uniform initial weights and biases of zero.

They see images in [−1, 1]: their first layer turns those in [0, 1] into such. What they learn depends on it, see
docs/papers/kim2019.md.
"""

from __future__ import annotations

import math

from torch import nn

from resilience.architectures.normalisation import Normalisation
from resilience.catalog import entry
from resilience.networks import Shape
from resilience.parameters import Width


@entry(layers=(2, 4))
def mixture_dnn(shape: Shape, classes: int, *, width: Width = 128) -> nn.Sequential:
    """One hidden layer, for points in the plane (Kim et al. 2019, Sec. 2.2).

    Parameters
    ----------
    shape
        (channels, height, width) of the images.
    classes
        Number of logits.
    width
        Units of the hidden layer.
    """
    return _initialised(
        nn.Sequential(
            Normalisation([0.5], [0.5]),
            nn.Flatten(),
            nn.Linear(math.prod(shape), width),
            nn.ReLU(),
            nn.Linear(width, classes),
        )
    )


@entry(layers=(1, 3, 7, 9), least_side=2, has=("convolution",))
def mnist_cnn(shape: Shape, classes: int, *, width: Width = 32) -> nn.Sequential:
    """Two convolutions of 5 × 5, max-pooling, a hidden layer (Kim et al. 2019, of MNIST and Fashion-MNIST).

    Parameters
    ----------
    shape
        (channels, height, width) of the images.
    classes
        Number of logits.
    width
        Channels of the first convolution; the second has twice as many, the hidden layer 32 times as many units.
    """
    channels, height, breadth = shape
    return _initialised(
        nn.Sequential(
            Normalisation([0.5], [0.5]),
            nn.Conv2d(channels, width, 5, padding=2),
            nn.ReLU(),
            nn.Conv2d(width, 2 * width, 5, padding=2),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(2 * width * (height // 2) * (breadth // 2), 32 * width),
            nn.ReLU(),
            nn.Linear(32 * width, classes),
        )
    )


@entry(layers=(1, 3, 6, 8, 12, 14), least_side=4, has=("convolution",))
def cifar_cnn(shape: Shape, classes: int, *, width: Width = 32) -> nn.Sequential:
    """Twice two convolutions of 3 × 3 and max-pooling, a hidden layer (Kim et al. 2019, of CIFAR-10 and for ROAR and KAR).

    Parameters
    ----------
    shape
        (channels, height, width) of the images.
    classes
        Number of logits.
    width
        Channels of the first two convolutions; the others have twice as many, the hidden layer 16 times as many units.
    """
    channels, height, breadth = shape
    return _initialised(
        nn.Sequential(
            Normalisation([0.5], [0.5]),
            nn.Conv2d(channels, width, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(width, 2 * width, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(2 * width, 2 * width, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(2 * width * (height // 4) * (breadth // 4), 16 * width),
            nn.ReLU(),
            nn.Linear(16 * width, classes),
        )
    )


def _initialised(network: nn.Sequential) -> nn.Sequential:
    for layer in network:
        if isinstance(layer, nn.Conv2d | nn.Linear):
            nn.init.xavier_uniform_(layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
    return network
