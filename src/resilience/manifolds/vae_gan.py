"""The manifold of Kim et al. 2019 (Sec. 2.1): what the decoder of a VAE-GAN makes of all latent vectors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from resilience.catalog import entry
from resilience.manifolds import vae_gan_networks
from resilience.manifolds.manifold import ImagesError, Learned, Manifold, mean_distances
from resilience.manifolds.vae_gan_networks import ENCODERS, drawn, encoded
from resilience.manifolds.vae_gan_training import Schedule, train
from resilience.networks import image_shape
from resilience.parameters import Count, DatasetName, MovingAverage, Positive, Width
from resilience.training.fit import Task

#: How many images are encoded at a time, which bounds the memory that this takes.
IMAGES_AT_A_TIME = 500


@entry(sides=(8, 28, 32))
def vae_gan(
    task: Task,
    *,
    of: DatasetName | list[DatasetName],
    latent: Count = 10,
    epochs: Count = 30,
    reconstruction: Positive = 0.005,
    width: Width = 64,
    batch_size: Count = 100,
    learning_rate: Positive = 0.0005,
    momentum: MovingAverage = 0.5,
    discriminator_steps: Count = 1,
) -> Learned:
    """What the decoder of a VAE-GAN can make (Kim et al. 2019, Sec. 2.1); the projection of an image is its reconstruction.

    An image is encoded as a normal distribution of latent vectors, N(μ(x), σ(x)²), and decoded from a draw, G(μ + σ η), or
    from its mean: a reconstruction, not the nearest image that the decoder could make. The defaults are those of MNIST.
    Fashion-MNIST had 60 epochs and a ``reconstruction`` of 5e-4; CIFAR-10 a ``latent`` of 128, 150 epochs, a
    ``reconstruction`` of .01, a ``learning_rate`` of 2e-4, a ``momentum`` of 0 and 5 ``discriminator_steps``.

    Parameters
    ----------
    of
        The dataset whose training images it is learned from, of 8 × 8, 28 × 28 or 32 × 32 pixels; of several names, each has
        a manifold of its own.
    latent
        Dimension of the latent space.
    epochs
        Passes over the training images.
    reconstruction
        Weight λ of Σ |x − x̃| over the pixels, in [−1, 1], beside the discriminator's verdict in the decoder's loss.
    width
        Channels of the encoder's first convolution, which all others are multiples or parts of; published is 64.
    batch_size
        Images in a batch.
    learning_rate
        Of all three networks.
    momentum
        β₁ of Adam; β₂ is .9.
    discriminator_steps
        How often the discriminator learns from a batch, each time with new draws.

    Raises
    ------
    ImagesError
        If the images are of another size.
    SizeError
        If the networks have more weights than fit anywhere.
    TrainingError
        If a loss is no longer finite.
    """
    shape = image_shape(task.x)
    _, height, breadth = shape
    if height != breadth or height not in ENCODERS:
        known = ", ".join(f"{side} × {side}" for side in ENCODERS)
        raise ImagesError(f"of: images of {height} × {breadth} pixels, and vae_gan takes those of {known}")
    if len(task.x) < 2 or batch_size < 2:
        raise ImagesError("batch_size: a single image has no batch statistics; take at least two")
    networks = vae_gan_networks.build(shape, latent, width, task.seed)
    for network in networks.by_name.values():
        network.to(task.x.device)
    manifold = VaeGan(networks.encoder, networks.decoder, {"shape": list(shape), "latent": latent, "width": width})
    schedule = Schedule(latent, epochs, reconstruction, batch_size, learning_rate, momentum, discriminator_steps)
    return Learned(manifold, train(networks, task, schedule, lambda: mean_distances(manifold, task)))


@dataclass(frozen=True)
class VaeGan(Manifold):
    """Encoder and decoder in evaluation mode, and what they are built from: shape of the images, latent dimension, width."""

    encoder: nn.Module
    decoder: nn.Module
    settings: Mapping[str, Any]
    kind: ClassVar[str] = "vae_gan"
    is_random: ClassVar[bool] = True

    def project(self, x: Tensor) -> Tensor:
        """G(μ(x)), the reconstruction from the mean latent vector."""
        return self._decoded(x, torch.zeros(len(x), self.settings["latent"], dtype=x.dtype, device=x.device))

    def reconstruct(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """G(μ(x) + σ(x) η) with η ~ N(0, I)."""
        noise = torch.randn(len(x), self.settings["latent"], generator=generator, dtype=x.dtype)
        return self._decoded(x, noise.to(x.device))

    @torch.no_grad()
    def _decoded(self, x: Tensor, noise: Tensor) -> Tensor:
        parts = zip(x.split(IMAGES_AT_A_TIME), noise.split(IMAGES_AT_A_TIME), strict=True)
        return torch.cat([(self.decoder(drawn(*encoded(self.encoder, 2 * a - 1), eta)) + 1) / 2 for a, eta in parts])

    @torch.no_grad()
    def sample(self, count: int, generator: torch.Generator) -> Tensor:
        """G(z) with z ~ N(0, I)."""
        like = next(self.decoder.parameters())
        latent = torch.randn(count, self.settings["latent"], generator=generator, dtype=like.dtype)
        return (self.decoder(latent.to(like.device)) + 1) / 2

    def stored(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Weights and statistics of both networks."""
        tensors = {
            f"{part}.{name}": value
            for part, network in (("encoder", self.encoder), ("decoder", self.decoder))
            for name, value in network.state_dict().items()
            if value.is_floating_point()
        }
        return tensors, dict(self.settings)

    @classmethod
    def restored(cls, tensors: Mapping[str, Tensor], settings: Mapping[str, Any]) -> VaeGan:
        """Both networks from a file."""
        shape, latent, width = settings["shape"], settings["latent"], settings["width"]
        parts = {"encoder": vae_gan_networks.encoder, "decoder": vae_gan_networks.decoder}
        networks: dict[str, nn.Module] = {}
        for part, made in parts.items():
            network = made(shape, latent, width).to(next(iter(tensors.values())))
            own = {name.removeprefix(f"{part}."): value for name, value in tensors.items() if name.startswith(f"{part}.")}
            network.load_state_dict({**network.state_dict(), **own})
            networks[part] = network.eval()
        return cls(networks["encoder"], networks["decoder"], settings)
