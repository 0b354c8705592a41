"""Residual networks for small images (He et al. 2016, "Deep residual learning for image recognition", Sec. 4.2)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from resilience.architectures.normalisation import normalised
from resilience.catalog import entry
from resilience.networks import Shape
from resilience.parameters import Count, Fraction, Positive, Width


class Block(nn.Module):
    """Two convolutions with batch normalisation, and a shortcut without weights: their option A.

    Where the block has more channels or fewer pixels than its input, the shortcut takes every ``stride``-th pixel, and zeros
    for the channels that are new, half of them before the others and half behind.
    """

    def __init__(self, before: int, planes: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(before, planes, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.stride, self.new = stride, planes - before

    def forward(self, x: Tensor) -> Tensor:
        """relu(f(x) + shortcut(x))."""
        residual = self.bn2(self.conv2(functional.relu(self.bn1(self.conv1(x)))))
        if self.stride != 1:
            x = x[:, :, :: self.stride, :: self.stride]
        if self.new:
            x = functional.pad(x, (0, 0, 0, 0, self.new // 2, self.new - self.new // 2))
        return functional.relu(residual + x)


class Residual(nn.Module):
    """A convolution, three stages of blocks of which the later two halve the image, a mean over pixels, a linear layer."""

    def __init__(self, channels: int, classes: int, width: int, blocks: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.layer1 = _stage(width, width, blocks, stride=1)
        self.layer2 = _stage(width, 2 * width, blocks, stride=2)
        self.layer3 = _stage(2 * width, 4 * width, blocks, stride=2)
        self.linear = nn.Linear(4 * width, classes)
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(layer.weight)

    def forward(self, x: Tensor) -> Tensor:
        """Logits."""
        a = functional.relu(self.bn1(self.conv1(x)))
        a = self.layer3(self.layer2(self.layer1(a)))
        return self.linear(torch.flatten(functional.adaptive_avg_pool2d(a, 1), 1))


def _stage(before: int, planes: int, blocks: int, stride: int) -> nn.Sequential:
    first = Block(before, planes, stride)
    return nn.Sequential(first, *(Block(planes, planes, 1) for _ in range(blocks - 1)))


@entry(layers=("conv1", "layer2", "output"), least_side=4, has=("convolution", "pooled_head"))
def resnet20(
    shape: Shape,
    classes: int,
    *,
    width: Width = 16,
    blocks: Count = 3,
    mean: list[Fraction] | None = None,
    deviation: list[Positive] | None = None,
) -> nn.Module:
    """The paper's residual network: ResNet-20 for 32 × 32 pixels, of three stages of basic blocks with batch normalisation.

    It has the shortcuts without weights of He et al. 2016 (option A), their initial weights, and 6 · blocks + 2 layers.

    Parameters
    ----------
    shape
        (channels, height, width) of the images.
    classes
        Number of logits.
    width
        Channels of the first stage; each later one has twice as many.
    blocks
        Of each stage; 3 make ResNet-20, 5 ResNet-32, 9 ResNet-56.
    mean, deviation
        Of each channel, or one for all: the network's first layer is then (x − mean) / deviation, so that images stay in
        [0, 1].
    """
    return normalised(Residual(shape[0], classes, width, blocks), shape[0], mean, deviation)
