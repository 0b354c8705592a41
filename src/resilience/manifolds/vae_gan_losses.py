"""The three losses of the VAE-GAN of Kim et al. 2019 (Sec. 2.1; after Larsen et al. 2016), each the mean over a batch.

x are images in [−1, 1], x̃ = G(μ + σ η) their reconstructions and x_p = G(z) images drawn with z ~ N(0, I). A discriminator
gives the logit a of D = σ(a), so that log D and log(1 − D) = log σ(−a) are finite however sure it is.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import logsigmoid


def reconstruction(x: Tensor, rebuilt: Tensor) -> Tensor:
    """Σ |x − x̃| over all pixels of each image, [N]."""
    return (x - rebuilt).abs().flatten(1).sum(1)


def divergence(mean: Tensor, log_variance: Tensor) -> Tensor:
    """KL(N(μ, σ²), N(0, I)) = −½ Σ (1 + log σ² − μ² − σ²) of each image, [N]."""
    return -0.5 * (1 + log_variance - mean**2 - log_variance.exp()).sum(1)


def of_encoder(x: Tensor, rebuilt: Tensor, mean: Tensor, log_variance: Tensor) -> Tensor:
    """E[reconstruction + divergence]."""
    return (reconstruction(x, rebuilt) + divergence(mean, log_variance)).mean()


def of_decoder(x: Tensor, rebuilt: Tensor, logits_rebuilt: Tensor, logits_drawn: Tensor, weight: float) -> Tensor:
    """E[λ · reconstruction − log D(x̃) − log D(x_p)], with ``weight`` λ."""
    return (weight * reconstruction(x, rebuilt) - logsigmoid(logits_rebuilt) - logsigmoid(logits_drawn)).mean()


def of_discriminator(logits: Tensor, logits_rebuilt: Tensor, logits_drawn: Tensor) -> Tensor:
    """−E[log D(x) + log(1 − D(x̃)) + log(1 − D(x_p))]."""
    return -(logsigmoid(logits) + logsigmoid(-logits_rebuilt) + logsigmoid(-logits_drawn)).mean()
