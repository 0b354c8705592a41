"""Expected gradients of the loss, and how far those of single draws cancel in them (paper, Sec. IV-B and Theorem IV.1).

In the limit of infinite data and width, E_w[∇ₓ L(x, w)] has no part orthogonal to the data manifold: what single draws have
there cancels. Measured is the mean over n draws; the manifold around a test point is the plane along which the training
images nearest to it vary most. Sums run from draw to draw, so memory does not grow with their number.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from resilience.computing import in_chunks
from resilience.graphs import Graph, chunk_of, graphs_of, input_gradient, trace
from resilience.networks import image_shape
from resilience.posterior import Posterior
from resilience.progress import steps as progress_steps

if TYPE_CHECKING:
    import pandas as pd

#: How many test points are looked up among the training images, and decomposed, at a time.
POINTS_AT_A_TIME = 32
MEASURES = (
    *("cancellation", "cancellation_tangent", "cancellation_normal", "cancellation_by_chance", "normal_share"),
    *("gradient_size", "expected_size", "expected_largest"),
)
#: What :func:`measure` gives beside them: the expected gradients themselves.
EXPECTED = "expected_gradient"


class ManifoldError(ValueError):
    """A plane that the images cannot have. The message says which key of the config asks for it, and what they can have."""


def tangent_spaces(x: Tensor, train: Tensor, neighbours: int, dimensions: int) -> Tensor:
    """The data manifold around each image, to first order: principal directions of its nearest training images.

    Parameters
    ----------
    x
        Images [N, C, H, W].
    train
        Training images [M, C, H, W], of all classes.
    neighbours
        How many of them, by Euclidean distance, count as near.
    dimensions
        How many directions span the plane: the first principal ones of the neighbours minus their mean.

    Returns
    -------
    Tensor
        float64 [N, dimensions, pixels]; the directions of an image are orthonormal.

    Raises
    ------
    ManifoldError
        If there are fewer training images than neighbours, or the plane would be all of the space.
    """
    images, known = x.flatten(1), train.flatten(1)
    pixels = images.shape[1]
    if len(known) < neighbours:
        raise ManifoldError(f"cancellation.neighbours: {neighbours} is more than the {len(known)} training images")
    if dimensions >= pixels:
        raise ManifoldError(f"cancellation.dimensions: {dimensions} of {pixels} pixels leave no direction that is normal")
    directions = torch.empty(len(x), dimensions, pixels, dtype=torch.float64, device=x.device)
    for part in torch.arange(len(x), device=x.device).split(POINTS_AT_A_TIME):
        nearest = torch.cdist(images[part], known).topk(neighbours, largest=False).indices
        around = known[nearest].double()
        directions[part] = torch.linalg.svd(around - around.mean(1, keepdim=True), full_matrices=False).Vh[:, :dimensions]
    return directions


def loss_gradient(graph: Graph, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """∇ₓ of L = −log p_y for one draw alone, in two factors, so that it is zero for no network, however confident.

    L = log(1 + exp u) with u = log Σ_{j≠y} exp(z_j − z_y), so ∇L = σ(u) ∇u. Neither ∇u nor log σ(u) underflows.

    Parameters
    ----------
    graph
        The network with the weights of one draw.
    x, y
        Images [N, C, H, W] and labels [N].

    Returns
    -------
    tuple of Tensor
        ∇u [N, pixels] and log σ(u) [N], both float64.
    """
    passed = trace(graph, x)
    logits = passed.output.double()
    others = logits.scatter(1, y[:, None], -torch.inf)
    value = others.logsumexp(1) - logits.gather(1, y[:, None])[:, 0]
    slope = others.softmax(1).scatter(1, y[:, None], -1.0)
    return input_gradient(passed, slope.to(x.dtype)).flatten(1).double(), logsigmoid(value)


class RunningMean:
    """Mean gradient over draws, and the mean sizes of the gradients and of their tangent and normal parts.

    Losses span hundreds of orders of magnitude, so everything is kept relative to the largest one so far, which no ratio
    sees.

    Parameters
    ----------
    tangents
        Orthonormal directions [N, dimensions, pixels].
    """

    def __init__(self, tangents: Tensor):
        points, _, pixels = tangents.shape
        self._tangents = tangents
        self._total = tangents.new_zeros(points, pixels)
        self._sizes = tangents.new_zeros(3, points)
        self._squares = tangents.new_zeros(points)
        self._largest = tangents.new_full((points,), -torch.inf)
        self._draws = 0

    def add(self, gradient: Tensor, log_factor: Tensor) -> None:
        """Count one more draw, whose gradient is ``gradient`` [N, pixels] times the exponential of ``log_factor`` [N]."""
        present = torch.maximum(self._largest, log_factor)
        before, now = torch.exp(self._largest - present), torch.exp(log_factor - present)
        self._total = self._total * before[:, None] + gradient * now[:, None]
        sizes = self._parts(gradient) * now
        self._sizes = self._sizes * before + sizes
        self._squares = self._squares * before**2 + sizes[0] ** 2
        self._largest = present
        self._draws += 1

    def expected(self) -> Tensor:
        """The mean gradient of the draws so far, [N, pixels]; zero below the smallest float64."""
        return self._total * self._factor[:, None]

    def measures(self) -> Tensor:
        """:data:`MEASURES` of the draws so far, [8, N]; NaN where a ratio is of sizes that are zero."""
        of_mean = self._parts(self._total)
        by_chance = self._squares.sqrt() / self._sizes[0]
        sizes = torch.stack([self._sizes[0], of_mean[0], self._total.abs().amax(1)]) * self._factor
        return torch.stack([*(of_mean / self._sizes), by_chance, (of_mean[2] / of_mean[0]) ** 2, *sizes])

    @property
    def _factor(self) -> Tensor:
        """By which what is kept is multiplied to become a mean over draws, [N]."""
        return torch.exp(self._largest) / self._draws

    def _parts(self, gradient: Tensor) -> Tensor:
        """Sizes of a gradient [N, pixels], of its tangent part and of its normal part, [3, N]."""
        along = torch.einsum("ndp,np->nd", self._tangents, gradient)
        normal = gradient - torch.einsum("ndp,nd->np", self._tangents, along)
        return torch.stack([part.norm(dim=1) for part in (gradient, along, normal)])


@torch.no_grad()
def measure(posterior: Posterior, x: Tensor, y: Tensor, tangents: Tensor, numbers: Sequence[int]) -> dict[str, Tensor]:
    """How far the gradients of single draws cancel in their mean.

    Parameters
    ----------
    posterior
        At least as many draws as the largest number.
    x, y
        Images [N, C, H, W] in [0, 1] and labels [N].
    tangents
        Orthonormal directions [N, dimensions, pixels]; see :func:`tangent_spaces`.
    numbers
        Numbers of draws, ascending. The first n of the posterior are counted for each.

    Returns
    -------
    dict
        Each [numbers, N]. ``cancellation`` is ‖mean g‖ / mean ‖g‖: 1 where nothing cancels, 0 where everything does.
        ``cancellation_tangent`` and ``cancellation_normal`` are the same for those parts of the gradients.
        ``cancellation_by_chance`` is about what gradients of these sizes give in independent directions, √(Σ ‖g‖²) / Σ ‖g‖:
        1 / √n if all are of one size, more if a few draws with a large loss outweigh the rest. ``normal_share`` is
        ‖normal part of mean g‖² / ‖mean g‖². ``gradient_size`` is mean ‖g‖, small where draws are confident,
        ``expected_size`` ‖mean g‖ and ``expected_largest`` ‖mean g‖_∞ (Carbone et al. 2020, Sec. 5). :data:`EXPECTED` is
        mean g itself, [numbers, N, pixels].
    """
    graphs = graphs_of(posterior, image_shape(x))[: numbers[-1]]
    chunk = chunk_of(posterior.network, image_shape(x))
    found = torch.empty(len(MEASURES), len(numbers), len(x), dtype=torch.float64, device=x.device)
    expected = torch.empty(len(numbers), len(x), x[0].numel(), dtype=torch.float64, device=x.device)
    rows = {number: row for row, number in enumerate(numbers)}
    with progress_steps(len(graphs) * -(-len(x) // chunk), "gradients") as advance:

        def work(part: slice) -> None:
            running = RunningMean(tangents[part])
            for count, graph in enumerate(graphs, start=1):
                running.add(*loss_gradient(graph, x[part], y[part]))
                if count in rows:
                    found[:, rows[count], part] = running.measures()
                    expected[rows[count], part] = running.expected()
                advance()

        in_chunks(work, len(x), chunk)
    return {**dict(zip(MEASURES, found, strict=True)), EXPECTED: expected}


def table(
    points: Mapping[str, np.ndarray],
    numbers: Sequence[int],
    measures: Mapping[str, np.ndarray],
    by_chance: float,
    identity: Mapping[str, Any],
) -> pd.DataFrame:
    """One row per number of draws and test point.

    Parameters
    ----------
    points
        ``y`` [N] and ``index`` [N] of the test points.
    numbers
        Numbers of draws.
    measures
        What :func:`measure` found, each [numbers, N].
    by_chance
        The normal share of a gradient in a random direction; see :func:`normal_share_by_chance`.
    identity
        What the table is about; each becomes a column, so that tables can be put under one another.

    Returns
    -------
    pandas.DataFrame
        ``index`` into the test split, ``label``, ``draws``, the measures, and ``normal_share_by_chance``.
    """
    import pandas as pd

    columns = {
        **identity,
        "index": np.tile(points["index"], len(numbers)),
        "label": np.tile(points["y"], len(numbers)),
        "draws": np.repeat(numbers, len(points["y"])),
        **{name: values.reshape(-1) for name, values in measures.items()},
        "normal_share_by_chance": by_chance,
    }
    return pd.DataFrame(columns)


def normal_share_by_chance(tangents: Tensor) -> float:
    """The share of a random direction's square that is normal to planes [N, dimensions, pixels]: 1 − dimensions / pixels."""
    _, dimensions, pixels = tangents.shape
    return 1 - dimensions / pixels
