"""Networks that are no stacks, in double precision, for tests of relevance; and what zennit needs to explain them rightly.

zennit's merged batch normalisation keeps its ``eps`` and is off by it, so here that is 0. Statistics, weights and biases are
random: those that a network begins with would hide mistakes in the folding.
"""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import nn
from torch.nn import functional
from torchvision import models
from zennit.canonizers import (
    AttributeCanonizer,
    Canonizer,
    CompositeCanonizer,
    NamedMergeBatchNorm,
    SequentialMergeBatchNorm,
)
from zennit.layer import Sum
from zennit.torchvision import ResNetCanonizer

CLASSES = 4


class Block(nn.Module):
    """A residual block of ResNet-20, whose shortcut has no weights (option A of He et al. 2016)."""

    def __init__(self, inputs: int, outputs: int, stride: int):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.relu = nn.ReLU()
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.stride, self.more = stride, outputs - inputs

    def shortcut(self, x: torch.Tensor) -> torch.Tensor:
        x = x[:, :, :: self.stride, :: self.stride] if self.stride > 1 else x
        return functional.pad(x, (0, 0, 0, 0, self.more // 2, self.more // 2)) if self.more else x

    def residual(self, x: torch.Tensor) -> torch.Tensor:
        return self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.relu(self.residual(x) + self.shortcut(x))


class WithSum(AttributeCanonizer):
    """Lets zennit see the sum of a block."""

    def __init__(self):
        super().__init__(self._attributes)

    @staticmethod
    def _attributes(name: str, module: nn.Module) -> dict | None:
        if not isinstance(module, Block):
            return None

        def forward(self: Block, x: torch.Tensor) -> torch.Tensor:
            return self.relu(self.canonizer_sum(torch.stack([self.residual(x), self.shortcut(x)], -1)))

        return {"forward": forward.__get__(module), "canonizer_sum": Sum()}


class Inception(nn.Module):
    """Branches side by side: one has kernels that are not square, two begin with an average- and a max-pooling."""

    def __init__(self, inputs: int):
        super().__init__()
        self.one = nn.Sequential(*convolution(inputs, 4, 1))
        self.two = nn.Sequential(
            *convolution(inputs, 3, 1),
            *convolution(3, 4, (1, 3), padding=(0, 1)),
            *convolution(4, 5, (3, 1), padding=(1, 0)),
        )
        self.average = nn.Sequential(nn.AvgPool2d(3, 1, 1), *convolution(inputs, 3, 1))
        self.largest = nn.Sequential(nn.MaxPool2d(3, 1, 1), *convolution(inputs, 2, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([self.one(x), self.two(x), self.average(x), self.largest(x)], 1)


def convolution(inputs: int, outputs: int, size: int | tuple[int, int], **further: object) -> list[nn.Module]:
    return [nn.Conv2d(inputs, outputs, size, bias=False, **further), nn.BatchNorm2d(outputs), nn.ReLU()]


def resnet20() -> nn.Module:
    widths = [(8, 8, 1), (8, 8, 1), (8, 8, 1), (8, 16, 2), (16, 16, 1), (16, 16, 1), (16, 32, 2), (32, 32, 1), (32, 32, 1)]
    blocks = [(f"block{place}", Block(*width)) for place, width in enumerate(widths)]
    stem = [("conv", nn.Conv2d(3, 8, 3, 1, 1)), ("bn", nn.BatchNorm2d(8)), ("relu", nn.ReLU())]
    head = [("pool", nn.AdaptiveAvgPool2d(1)), ("flatten", nn.Flatten()), ("fc", nn.Linear(32, CLASSES))]
    return nn.Sequential(OrderedDict([*stem, *blocks, *head]))


def resnet18() -> nn.Module:
    return models.resnet18(num_classes=CLASSES)


def vgg11_bn() -> nn.Module:
    """torchvision's features; its classifier has 4096 units in place of 32."""
    from torchvision.models.vgg import cfgs, make_layers

    classifier = [nn.Linear(512 * 49, 32), nn.ReLU(), nn.Dropout(), nn.Linear(32, CLASSES)]
    return nn.Sequential(make_layers(cfgs["A"], batch_norm=True), nn.AdaptiveAvgPool2d((7, 7)), nn.Flatten(), *classifier)


def inception() -> nn.Module:
    return nn.Sequential(
        *convolution(3, 6, 3, padding=1),
        nn.MaxPool2d(2),
        Inception(6),
        Inception(14),
        nn.AvgPool2d(2),
        nn.Flatten(),
        nn.Linear(14 * 16, CLASSES),
    )


class DenseNet(models.DenseNet):
    """torchvision's, with modules in place of functions that zennit does not see."""

    def __init__(self):
        super().__init__(num_classes=CLASSES)
        self.end = nn.Sequential(nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.classifier(self.end(self.features(x)))


def dense_canonizer() -> Canonizer:
    """Of DenseNet, by name: what zennit takes for neighbours are a convolution and what comes behind a concatenation."""
    network = DenseNet()
    pairs = [(["features.conv0"], "features.norm0")]
    pairs += [([name.replace("norm2", "conv1")], name) for name, _ in network.named_modules() if name.endswith("norm2")]
    return NamedMergeBatchNorm([(names, norm) for names, norm in pairs])


#: By name: what builds it, the side of its images, and zennit's canonizer.
NETWORKS = {
    "resnet20": (resnet20, 16, lambda: CompositeCanonizer([SequentialMergeBatchNorm(), WithSum()])),
    "resnet18": (resnet18, 64, ResNetCanonizer),
    "vgg11_bn": (vgg11_bn, 64, SequentialMergeBatchNorm),
    "inception": (inception, 16, SequentialMergeBatchNorm),
    "densenet121": (DenseNet, 64, dense_canonizer),
}


def randomised(network: nn.Module, seed: int) -> nn.Module:
    """In double precision, with random weights, biases and statistics, and batch normalisation without its ``eps``."""
    network = network.double().eval()
    generator = torch.Generator().manual_seed(seed)

    def random(like: torch.Tensor, low: float, high: float) -> torch.Tensor:
        return low + (high - low) * torch.rand(like.shape, generator=generator, dtype=torch.float64)

    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eps = 0.0
                for value, bounds in [(module.weight, (0.5, 1.5)), (module.running_var, (0.5, 1.5))]:
                    value.copy_(random(value, *bounds))
                for value in (module.bias, module.running_mean):
                    value.copy_(random(value, -0.2, 0.2))
            elif isinstance(module, nn.Linear | nn.Conv2d):
                spread = (6 / module.weight[0].numel()) ** 0.5  # Kaiming's, so that values stay of one size.
                module.weight.copy_(random(module.weight, -spread, spread))
                if module.bias is not None:
                    module.bias.copy_(random(module.bias, -0.2, 0.2))
    return network


def trained(network: nn.Module, side: int, steps: int = 3) -> nn.Module:
    """A few steps of Adam on random labels, statistics included; the ``eps`` that training needs is gone after it."""
    generator = torch.Generator().manual_seed(7)
    network.train()
    normalising = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    for module in normalising:
        module.eps = 1e-5
    optimiser = torch.optim.Adam(network.parameters(), 1e-3)
    for _ in range(steps):
        x = torch.rand(2, 3, side, side, generator=generator, dtype=torch.float64)
        y = torch.randint(CLASSES, (2,), generator=generator)
        optimiser.zero_grad()
        functional.cross_entropy(network(x), y).backward()
        optimiser.step()
    for module in normalising:
        module.eps = 0.0
    return network.eval().requires_grad_(False)
