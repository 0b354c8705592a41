"""How sharply a network reacts to its input, point by point, with or without an attack."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from torch import Tensor

from resilience.attacks.ball import Ball
from resilience.cancellation import loss_gradient, measure
from resilience.catalog import entry
from resilience.computing import in_chunks, joined
from resilience.graphs import Graph, chunk_of, graphs_of
from resilience.measures.forward import mean_logits, mean_probabilities
from resilience.networks import image_shape
from resilience.parameters import Count, Share
from resilience.posterior import Posterior
from resilience.progress import steps as progress_steps
from resilience.progress import track

#: The smallest positive float64.
SMALLEST = 5e-324
ORDERS = {"l1": 1, "l2": 2, "linf": float("inf")}


@entry(of="network")
def gradient_norm(
    posterior: Posterior,
    x: Tensor,
    y: Tensor,
    *,
    norm: Literal["l1", "l2", "linf"] = "l2",
    loss: Literal["predictive", "draws"] = "predictive",
) -> np.ndarray:
    """Norm of the gradient of the loss, ‖∇ₓ(−log E_w[p_y])‖ or ‖E_w[∇ₓ(−log p_y)]‖ (Carbone et al. 2020).

    With u = log Σ_{j≠y} exp(z_j − z_y) in each draw, p_y = σ(−u) and ∇ₓ(−log E_w[p_y]) = Σ p_y σ(u) ∇u / Σ p_y. The weights
    p_y are kept relative to the largest, so a norm is 0 only below the smallest float64, however confident the network is.

    Parameters
    ----------
    posterior
        S draws of a network.
    x, y
        Images [N, C, H, W] in [0, 1] and labels [N].
    norm
        ``l1``, ``l2`` or ``linf``, over all C · H · W pixels.
    loss
        ``predictive``: of the posterior predictive, which gradient attacks follow. ``draws``: the mean of the gradients of
        the draws' own losses.

    Returns
    -------
    numpy.ndarray
        float64 [N], at least 0.

    Raises
    ------
    LayerError
        If the network has a layer that no gradient can pass.
    """
    graphs, chunk = graphs_of(posterior, image_shape(x)), chunk_of(posterior.network, image_shape(x))
    found = torch.empty(len(x), dtype=torch.float64, device=x.device)
    with progress_steps(len(graphs) * -(-len(x) // chunk), "gradients") as advance:

        def work(part: slice) -> None:
            mean = WeightedMean()
            for graph in graphs:
                gradient, log_factor = loss_gradient(graph, x[part], y[part])
                log_weight = _log_probability(log_factor) if loss == "predictive" else torch.zeros_like(log_factor)
                mean.add(gradient, log_factor, log_weight)
                advance()
            found[part] = torch.linalg.vector_norm(mean.value(), ORDERS[norm], dim=1)

        in_chunks(torch.no_grad()(work), len(x), chunk)
    return found.cpu().numpy()


class WeightedMean:
    """Σ w f g / Σ w over draws, with w and f known by their logarithms, which span hundreds of orders of magnitude."""

    def __init__(self) -> None:
        self._total = self._weights = torch.zeros(())
        self._largest = torch.tensor(-torch.inf)

    def add(self, value: Tensor, log_factor: Tensor, log_weight: Tensor) -> None:
        """Count a draw: g [N, pixels], log f [N] with f ≤ 1, and log w [N]."""
        largest = self._largest.to(log_weight)
        present = torch.maximum(largest, log_weight)
        before = torch.exp(largest - present)
        self._total = self._total.to(value) * before[:, None] + value * torch.exp(log_factor + log_weight - present)[:, None]
        self._weights = self._weights.to(value) * before + torch.exp(log_weight - present)
        self._largest = present

    def value(self) -> Tensor:
        """The mean [N, pixels]."""
        return self._total / self._weights[:, None]


def _log_probability(log_factor: Tensor) -> Tensor:
    """Log p_y = log σ(−u) from log σ(u): log(1 − σ(u)), without loss where one of the two is close to one.

    A p_y below the smallest float64 counts as that, so draws that are all so wrong have the same weight.
    """
    probability = (-torch.expm1(log_factor)).clamp(min=SMALLEST)
    return torch.where(log_factor > -1, probability.log(), torch.log1p(-torch.exp(log_factor)))


@entry(of="network")
def cancellation_ratio(posterior: Posterior, x: Tensor, y: Tensor) -> np.ndarray:
    """How far the loss gradients g of single draws cancel, ‖E_w[g]‖₂ / E_w[‖g‖₂] (Carbone et al. 2021, Sec. IV-B).

    Parameters
    ----------
    posterior
        S draws of a network.
    x, y
        Images [N, C, H, W] in [0, 1] and labels [N].

    Returns
    -------
    numpy.ndarray
        float64 [N], from 0 (all cancels) to 1 (nothing does, as in a single draw); NaN where all gradients are zero.

    Raises
    ------
    LayerError
        If the network has a layer that no gradient can pass.
    """
    no_plane = torch.zeros(len(x), 0, x[0].numel(), dtype=torch.float64, device=x.device)
    return measure(posterior, x, y, no_plane, [len(posterior)])["cancellation"][0].cpu().numpy()


@entry(of="network")
def local_lipschitz(
    posterior: Posterior,
    x: Tensor,
    generator: torch.Generator,
    *,
    epsilon: Share,
    samples: Count = 20,
    norm: Literal["linf", "l2"] = "linf",
    output: Literal["probabilities", "logits"] = "probabilities",
) -> np.ndarray:
    """Largest ‖f(x + δ) − f(x)‖ / ‖δ‖ among random δ of the ε-ball, a lower bound of the local Lipschitz constant.

    In ``linf`` the change of f is measured in ℓ₁ and δ in ℓ_∞ (Yang et al. 2020, A Closer Look at Accuracy vs. Robustness,
    there maximised by gradient steps); in ``l2`` both are Euclidean.

    Parameters
    ----------
    posterior
        S draws of a network.
    x
        Images [N, C, H, W] in [0, 1].
    generator
        For δ, uniform in the ball and clamped so that x + δ is an image.
    epsilon
        Largest change of a pixel.
    samples
        How many δ are tried at each point.
    norm
        Which norms: ``linf`` or ``l2``.
    output
        f: the posterior predictive ``probabilities``, or the mean over draws of the ``logits``.

    Returns
    -------
    numpy.ndarray
        float64 [N], at least 0; NaN where no δ changed the image.

    Raises
    ------
    LayerError
        If the network has a layer that no gradient can pass.
    """
    graphs, ball = graphs_of(posterior, image_shape(x)), Ball(x, epsilon)
    chunk = chunk_of(posterior.network, image_shape(x))
    before = _outputs(graphs, x, output, chunk)
    steepest = torch.full((len(x),), torch.nan, dtype=torch.float64, device=x.device)
    for _ in track(range(samples), "random changes"):
        changed = ball.start(generator)
        change = (changed.double() - x).flatten(1)
        rise = _outputs(graphs, changed, output, chunk) - before
        size = torch.linalg.vector_norm(change, ORDERS[norm], dim=1)
        ratio = torch.linalg.vector_norm(rise, 1 if norm == "linf" else 2, dim=1) / size
        steepest = torch.fmax(steepest, torch.where(size > 0, ratio, torch.nan))
    return steepest.cpu().numpy()


def _outputs(graphs: list[Graph], x: Tensor, output: Literal["probabilities", "logits"], chunk: int) -> Tensor:
    """What the posterior says of images [N, C, H, W], float64 [N, classes]."""
    of_chunk = mean_probabilities if output == "probabilities" else mean_logits
    return joined(lambda part: of_chunk(graphs, x[part]), len(x), chunk)
