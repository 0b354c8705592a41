"""When a network learns and when it is evaluated: outside of a step of training it is always evaluated.

What differs is batch normalisation, which learns from the statistics of the batch and is evaluated with their running
averages, and dropout, which is there while learning alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

BATCH_NORMALISATION = nn.modules.batchnorm._BatchNorm


@contextmanager
def learning(network: nn.Module, images: int) -> Iterator[None]:
    """Within, batches are normalised by their own statistics, running averages follow these, and dropout is on.

    A batch of one image has no statistics: it is normalised by the running averages, and leaves them.
    """
    network.train()
    if images < 2:
        _normalise_by_batch(network, False)
    try:
        yield
    finally:
        network.eval()


@contextmanager
def normalising_by_batch(network: nn.Module, images: int) -> Iterator[None]:
    """The same without dropout, for weights that are drawn at each step: they are noise enough, and the posterior's own."""
    _normalise_by_batch(network, images >= 2)
    try:
        yield
    finally:
        network.eval()


@contextmanager
def evaluated(network: nn.Module) -> Iterator[None]:
    """Within, a network that is learning is evaluated, such as for an attack on it."""
    before = [module for module in network.modules() if module.training]
    network.eval()
    try:
        yield
    finally:
        for module in before:
            module.training = True


def _normalise_by_batch(network: nn.Module, does: bool) -> None:
    for module in network.modules():
        if isinstance(module, BATCH_NORMALISATION):
            module.train(does)
