"""Encoder, decoder and discriminator of the VAE-GAN of Kim et al. 2019 (Sec. 2.1), and smaller ones of their kind.

Within a layer the order is: convolution, activation, batch normalisation. Images are in [−1, 1] here. With a ``width`` of 64
the networks for images of 28 × 28 and of 32 × 32 pixels are the published ones. Those for 8 × 8 have the layers of those for
28 × 28, as far as there are pixels.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from resilience import sizes
from resilience.manifolds.spectral_bound import spectrally_bounded
from resilience.networks import Shape

#: Channels of the encoder's convolutions, in widths, by the side of the images, and the side of their kernels.
ENCODERS = {8: ((1, 2), 4), 28: ((1, 2, 4), 4), 32: ((1, 2, 4), 5)}
#: Leakage of the discriminator of 32 × 32 pixels.
LEAKAGE = 0.1


@dataclass(frozen=True)
class VaeGanNetworks:
    """The three networks."""

    encoder: nn.Module
    decoder: nn.Module
    discriminator: nn.Module

    @property
    def by_name(self) -> dict[str, nn.Module]:
        """Each with its name, in the order in which they learn."""
        return {"encoder": self.encoder, "decoder": self.decoder, "discriminator": self.discriminator}


def build(shape: Shape, latent: int, width: int, seed: int) -> VaeGanNetworks:
    """The networks with initial weights drawn from ``seed``, ready to learn.

    Parameters
    ----------
    shape
        (channels, side, side) of the images; the side is one of :data:`ENCODERS`.
    latent
        Dimension of the latent space.
    width
        Channels of the encoder's first convolution, which all others are multiples or parts of.

    Raises
    ------
    SizeError
        If they have more weights than fit anywhere.
    """

    def made() -> nn.ModuleList:
        return nn.ModuleList([part(shape, latent, width) for part in (encoder, decoder, discriminator)])

    sizes.refuse_network(made)
    with torch.random.fork_rng(devices=[]):
        # Not torch.manual_seed, which seeds the GPU's numbers, too.
        torch.default_generator.manual_seed(seed)
        return VaeGanNetworks(*made())


def encoder(shape: Shape, latent: int, width: int) -> nn.Sequential:
    """Images [N, C, H, W] to means and logarithms of variances, [N, 2 · latent]."""
    channels, side, _ = shape
    factors, kernel = ENCODERS[side]
    layers: list[nn.Module] = []
    for factor in factors:
        layers += _convolution(channels, factor * width, side, kernel)
        channels, side = factor * width, -(-side // 2)
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(channels * side**2, 2 * latent), nn.BatchNorm1d(2 * latent))


def decoder(shape: Shape, latent: int, width: int) -> nn.Sequential:
    """Latent vectors [N, latent] to images [N, C, H, W] in [−1, 1]."""
    channels, side, _ = shape
    match side:
        case 8:
            layers = [*_seed(latent, 2 * width, 2), *_raised(2 * width, width), _doubling(width, channels)]
        case 28:
            layers = [
                *_seed(latent, 4 * width, 2),
                *_raised(4 * width, 4 * width),
                # From 4 to 7 pixels.
                *_followed(nn.ConvTranspose2d(4 * width, 2 * width, 4)),
                *_raised(2 * width, _half(width)),
                _doubling(_half(width), channels),
            ]
        case _:
            layers = [
                *_seed(latent, 8 * width, 4),
                *_raised(8 * width, 4 * width),
                *_raised(4 * width, 2 * width),
                *_raised(2 * width, width),
                nn.Conv2d(width, channels, 3, padding=1),
            ]
    return nn.Sequential(*layers, nn.Tanh())


def discriminator(shape: Shape, latent: int, width: int) -> nn.Sequential:
    """Images [N, C, H, W] to logits [N] of their being images of the dataset."""
    channels, side, _ = shape
    if side == 32:
        return _bounded_discriminator(channels, width)
    first = _half(width)
    layers = _convolution(channels, first, side, 4)[:-1]  # The first one has no batch normalisation.
    channels, side = first, side // 2
    for factor in (2,) if side == 4 else (2, 4, 4):
        layers += _convolution(channels, factor * width, side, 4)
        channels, side = factor * width, -(-side // 2)
    # Not normalised: each kind of images is a batch of its own, and normalised before the last layer all had one mean logit.
    dense = (nn.Linear(channels * side**2, 8 * width), nn.ReLU())
    return nn.Sequential(*layers, nn.Flatten(), *dense, nn.Linear(8 * width, 1), nn.Flatten(0))


def _bounded_discriminator(channels: int, width: int) -> nn.Sequential:
    """That of 32 × 32 pixels, which has a bound on its weights in the place of batch normalisation."""
    layers: list[nn.Module] = []
    for factor, kernel, stride in ((1, 3, 1), (1, 4, 2), (2, 3, 1), (2, 4, 2), (4, 3, 1), (4, 4, 2), (8, 3, 1)):
        convolution = nn.Conv2d(channels, factor * width, kernel, stride, padding=1)
        layers += [spectrally_bounded(convolution), nn.LeakyReLU(LEAKAGE)]
        channels = factor * width
    return nn.Sequential(*layers, nn.Flatten(), spectrally_bounded(nn.Linear(channels * 4**2, 1)), nn.Flatten(0))


def _convolution(channels: int, raised: int, side: int, kernel: int) -> list[nn.Module]:
    """A convolution with a stride of 2 whose output is half as large, rounded up: padded as TensorFlow's SAME does."""
    missing = max(2 * (-(-side // 2) - 1) + kernel - side, 0)
    before, after = missing // 2, missing - missing // 2
    return [nn.ZeroPad2d((before, after, before, after)), *_followed(nn.Conv2d(channels, raised, kernel, stride=2))]


def _seed(latent: int, channels: int, side: int) -> list[nn.Module]:
    """A latent vector as a small image of many channels."""
    units = channels * side**2
    return [nn.Linear(latent, units), nn.ReLU(), nn.BatchNorm1d(units), nn.Unflatten(1, (channels, side, side))]


def _raised(channels: int, lowered: int) -> list[nn.Module]:
    """An image twice as large with other channels."""
    return _followed(_doubling(channels, lowered))


def _doubling(channels: int, lowered: int) -> nn.ConvTranspose2d:
    return nn.ConvTranspose2d(channels, lowered, 4, stride=2, padding=1)


def _followed(convolution: nn.Conv2d | nn.ConvTranspose2d) -> list[nn.Module]:
    return [convolution, nn.ReLU(), nn.BatchNorm2d(convolution.out_channels)]


def _half(width: int) -> int:
    return max(width // 2, 1)


def encoded(encoder: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
    """Means and logarithms of the variances of the latent vectors of images in [−1, 1], each [N, latent]."""
    mean, log_variance = encoder(x).chunk(2, 1)
    return mean, log_variance


def drawn(mean: Tensor, log_variance: Tensor, noise: Tensor) -> Tensor:
    """Latent vectors μ + σ η."""
    return mean + (log_variance / 2).exp() * noise
