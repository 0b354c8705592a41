"""How a VAE-GAN learns: encoder, decoder and discriminator in turn, each by an optimiser of its own (Kim et al. 2019)."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import astuple, dataclass
from typing import Any

import torch
from torch import Tensor

from resilience.manifolds import vae_gan_losses as losses
from resilience.manifolds.vae_gan_networks import VaeGanNetworks, drawn, encoded
from resilience.progress import logger, steps
from resilience.seeding import seed_of
from resilience.training.checkpoints import checkpoint_of
from resilience.training.fit import Task, TrainingError

#: Adam's decay of the squared gradients, in all published networks.
SECOND_MOMENT = 0.9


@dataclass(frozen=True)
class Schedule:
    """How long and how fast: see :func:`resilience.manifolds.vae_gan.vae_gan`."""

    latent: int
    epochs: int
    reconstruction: float
    batch_size: int
    learning_rate: float
    momentum: float
    discriminator_steps: int


class Turns:
    """The three networks with their optimisers, on one batch after the other."""

    def __init__(self, networks: VaeGanNetworks, schedule: Schedule):
        self.networks, self.schedule = networks, schedule
        self.optimisers = {
            name: torch.optim.Adam(network.parameters(), lr=schedule.learning_rate, betas=(schedule.momentum, SECOND_MOMENT))
            for name, network in networks.by_name.items()
        }

    def take(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """One step of each network on images [N, C, H, W] in [−1, 1]; returns their losses, [3]."""

        def noise() -> Tensor:
            return torch.randn(len(x), self.schedule.latent, generator=generator, dtype=x.dtype).to(x.device)

        encoder, decoder, discriminator = self.networks.by_name.values()
        mean, log_variance = encoded(encoder, x)
        rebuilt = decoder(drawn(mean, log_variance, noise()))
        of_encoder = self._step("encoder", losses.of_encoder(x, rebuilt, mean, log_variance))

        with torch.no_grad():
            latent = drawn(*encoded(encoder, x), noise())
        rebuilt, invented = decoder(latent), decoder(noise())
        logits = discriminator(rebuilt), discriminator(invented)
        of_decoder = self._step("decoder", losses.of_decoder(x, rebuilt, *logits, self.schedule.reconstruction))

        for _ in range(self.schedule.discriminator_steps):
            with torch.no_grad():
                rebuilt, invented = decoder(drawn(*encoded(encoder, x), noise())), decoder(noise())
            found = losses.of_discriminator(*(discriminator(images) for images in (x, rebuilt, invented)))
            of_discriminator = self._step("discriminator", found)
        return torch.stack([of_encoder, of_decoder, of_discriminator])

    def _step(self, name: str, loss: Tensor) -> Tensor:
        """Descend with one network alone."""
        optimiser, parameters = self.optimisers[name], list(self.networks.by_name[name].parameters())
        optimiser.zero_grad()
        loss.backward(inputs=parameters)
        optimiser.step()
        return loss.detach()

    def state(self) -> dict[str, Any]:
        """All that steps change."""
        return {
            name: {"network": network.state_dict(), "optimiser": self.optimisers[name].state_dict()}
            for name, network in self.networks.by_name.items()
        }

    def restore(self, kept: dict[str, Any]) -> None:
        """Put such a state back."""
        for name, network in self.networks.by_name.items():
            network.load_state_dict(kept[name]["network"])
            self.optimisers[name].load_state_dict(kept[name]["optimiser"])


def train(
    networks: VaeGanNetworks, task: Task, schedule: Schedule, looked_at: Callable[[], dict[str, float]]
) -> list[dict[str, float]]:
    """Let the networks learn, and leave them ready for evaluation.

    The random numbers of an epoch follow from its number, so that a training which was stopped goes on after the last epoch
    that was kept, at most every half minute. Images that do not fill a batch are left out of an epoch.

    Parameters
    ----------
    networks
        On the device of the images.
    task
        Training images in [0, 1], seed, and the folder of the checkpoints.
    schedule
        How long and how fast.
    looked_at
        What is said of the networks after each epoch, when they are in evaluation mode.

    Returns
    -------
    list
        Epoch, the mean loss of each network over its batches, and what ``looked_at`` says.

    Raises
    ------
    TrainingError
        If a loss is no longer finite.
    """
    turns, images = Turns(networks, schedule), 2 * task.x - 1
    size = min(schedule.batch_size, len(images))
    history: list[dict[str, float]] = []
    done = 0
    checkpoint = checkpoint_of(task, "vae_gan", astuple(schedule), (task.validation_x,))
    if found := checkpoint.read():
        done, history = found.iteration, found.state["history"]
        turns.restore(found.state["turns"])
        logger.info("the VAE-GAN goes on after epoch %d of %d", done, schedule.epochs)
    with steps(schedule.epochs - done, "VAE-GAN") as advance:
        for epoch in range(done + 1, schedule.epochs + 1):
            generator = torch.Generator().manual_seed(seed_of(task.seed, "epoch", epoch))
            order = torch.randperm(len(images), generator=generator).to(images.device)
            batches = order[: len(order) // size * size].split(size)
            _set_mode(networks, learning=True)
            means = sum(turns.take(images[batch], generator) for batch in batches) / len(batches)
            _set_mode(networks, learning=False)
            of_networks = dict(zip(networks.by_name, torch.as_tensor(means).tolist(), strict=True))
            _refuse_what_is_not_finite(of_networks, epoch)
            of_networks = {f"{name}_loss": loss for name, loss in of_networks.items()}
            history.append({"epoch": epoch, **of_networks, **looked_at()})
            advance()
            if checkpoint.due:
                checkpoint.write(epoch, {"history": history, "turns": turns.state()})
    _set_mode(networks, learning=False)
    return history


def _set_mode(networks: VaeGanNetworks, learning: bool) -> None:
    for network in networks.by_name.values():
        network.train(learning)


def _refuse_what_is_not_finite(of_networks: dict[str, float], epoch: int) -> None:
    for name, loss in of_networks.items():
        if not math.isfinite(loss):
            raise TrainingError(f"the loss of the {name} is {loss} in epoch {epoch}; a smaller learning_rate may help")
