"""Plain stacks of layers, among them the networks of the paper.

Layers are counted as in the stack, so layer 3 of ``conv`` is its second convolution.
"""

from __future__ import annotations

import math

from torch import nn

from resilience.catalog import entry
from resilience.networks import NetworkError, Shape
from resilience.parameters import Width


@entry(layers=(0, 3, 7), least_side=4, has=("convolution",))
def conv(shape: Shape, classes: int, *, width: Width = 512) -> nn.Sequential:
    """The paper's convolutional network: two convolutions with LeakyReLU and max-pooling, one linear layer.

    Kernels are 5 × 5 without padding, as in the paper, on images of at least 16 × 16 pixels; smaller images get
    3 × 3 kernels with padding 1, so that an 8 × 8 image keeps 3 × 3 positions at the last layer.

    Parameters
    ----------
    shape
        (channels, height, width) of the images.
    classes
        Number of logits.
    width
        Channels of the second convolution (the paper's hidden size).

    Raises
    ------
    NetworkError
        If an image has fewer than 4 × 4 pixels.
    """
    channels, height, breadth = shape
    if min(height, breadth) < 4:
        raise NetworkError(f"conv needs images of at least 4 × 4 pixels, not {height} × {breadth}; use fc2")
    kernel, padding = (5, 0) if min(height, breadth) >= 16 else (3, 1)
    last = [(side + 2 * padding - kernel + 1) // 2 + 2 * padding - kernel for side in (height, breadth)]
    return nn.Sequential(
        nn.Conv2d(channels, 16, kernel, padding=padding),
        nn.LeakyReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(16, width, kernel, padding=padding),
        nn.LeakyReLU(),
        nn.MaxPool2d(2, stride=1),
        nn.Flatten(),
        nn.Linear(width * math.prod(last), classes),
    )


@entry(layers=(0, 3, 7), least_side=4, has=("convolution", "pooled_head"))
def pooled(shape: Shape, classes: int, *, width: Width = 64) -> nn.Sequential:
    """Two convolutions with ReLU, global average pooling, a linear layer without bias (after Boopathy et al. 2020, "Pool").

    What class activation maps need. Kernels are 5 × 5 with padding, on images of less than 16 × 16 pixels 3 × 3. "Pool" has
    no ReLU after its second convolution but another max-pooling.

    Parameters
    ----------
    shape
        (channels, height, width) of the images.
    classes
        Number of logits.
    width
        Channels of the second convolution; the first has half as many.

    Raises
    ------
    NetworkError
        If an image has fewer than 4 × 4 pixels.
    """
    channels, height, breadth = shape
    if min(height, breadth) < 4:
        raise NetworkError(f"pooled needs images of at least 4 × 4 pixels, not {height} × {breadth}; use fc2")
    kernel = 5 if min(height, breadth) >= 16 else 3
    return nn.Sequential(
        nn.Conv2d(channels, max(1, width // 2), kernel, padding=kernel // 2),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(max(1, width // 2), width, kernel, padding=kernel // 2),
        nn.ReLU(),
        nn.AvgPool2d((height // 2, breadth // 2)),
        nn.Flatten(),
        nn.Linear(width, classes, bias=False),
    )


@entry(layers=(1, 3, 5))
def fc2(shape: Shape, classes: int, *, width: Width = 512) -> nn.Sequential:
    """The paper's fully connected network: two hidden layers with LeakyReLU.

    Parameters
    ----------
    shape
        (channels, height, width) of the images.
    classes
        Number of logits.
    width
        Units of each hidden layer (the paper's hidden size).
    """
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(math.prod(shape), width),
        nn.LeakyReLU(),
        nn.Linear(width, width),
        nn.LeakyReLU(),
        nn.Linear(width, classes),
    )
