"""How the boundary of a network lies to the images around it (Kim et al. 2019, Sec. 2.2; Tanay & Griffin 2016)."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity, normalize

from resilience.cancellation import loss_gradient
from resilience.catalog import entry
from resilience.computing import joined
from resilience.graphs import chunk_of, graphs_of
from resilience.measures.forward import mean_logits
from resilience.networks import image_shape
from resilience.parameters import Count
from resilience.posterior import Posterior


@entry(of="network")
def boundary_tilt(posterior: Posterior, x: Tensor, y: Tensor) -> np.ndarray:
    """Angle between the direction to another class that a network sees and that to the other class's mean, in degrees.

    The direction that it sees is the mean over draws of ∇u / ‖∇u‖ with u = log Σ_{j≠y} exp(z_j − z_y), for two classes the
    normal of its boundary; the other is m_j − m_y for the most probable j ≠ y, m the means of the test points' classes.
    Kim et al. 2019 show such angles (Sec. 2.2) and give no number; Tanay & Griffin 2016 call their growth boundary tilting.

    Parameters
    ----------
    posterior
        S draws of a network.
    x, y
        Images [N, C, H, W] in [0, 1] and labels [N], of each class that is another's neighbour at least one.

    Returns
    -------
    numpy.ndarray
        float64 [N], from 0 (straight towards the other class) to 180; NaN where all gradients are zero.

    Raises
    ------
    LayerError
        If the network has a layer that no gradient can pass.
    """
    graphs = graphs_of(posterior, image_shape(x))
    chunk = chunk_of(posterior.network, image_shape(x))
    logits = joined(lambda part: mean_logits(graphs, x[part]), len(x), chunk)
    other = logits.scatter(1, y[:, None], -torch.inf).argmax(1)
    means = torch.stack([x[y == label].double().flatten(1).mean(0) for label in range(logits.shape[1])])
    normal = normals(posterior, x, y)
    cosine = cosine_similarity(normal, means[other] - means[y], dim=1)
    angle = torch.rad2deg(torch.acos(cosine.clamp(-1, 1)))
    return torch.where(normal.norm(dim=1) > 0, angle, torch.nan).cpu().numpy()


@entry(of="network")
def off_manifold_energy(posterior: Posterior, x: Tensor, y: Tensor, *, dimensions: Count = 1) -> np.ndarray:
    """Share of a gradient's squared length across the directions along which the images of a class vary most.

    1 − ‖P g‖² / ‖g‖² for the mean g over draws of ∇u / ‖∇u‖ as in ``boundary_tilt``, and P the projection on the first
    principal directions of the test points minus the means of their classes. In the plane and with one dimension that is
    (u · g)² / ‖g‖² with u the axis of least variance.

    Parameters
    ----------
    posterior, x, y
        See :func:`boundary_tilt`.
    dimensions
        How many principal directions span the manifold of a class.

    Returns
    -------
    numpy.ndarray
        float64 [N], from 0 (along the manifold) to 1 (across it); NaN where all gradients are zero.

    Raises
    ------
    LayerError
        If the network has a layer that no gradient can pass.
    """
    flat = x.double().flatten(1)
    means = torch.stack([flat[y == label].mean(0) for label in y.unique()])
    _, place = y.unique(return_inverse=True)
    axes = torch.linalg.svd(flat - means[place], full_matrices=False).Vh[:dimensions]
    normal = normals(posterior, x, y)
    along = (normal @ axes.T).square().sum(1) / normal.square().sum(1)
    return (1 - along).cpu().numpy()


def normals(posterior: Posterior, x: Tensor, y: Tensor) -> Tensor:
    """Mean over draws of ∇u / ‖∇u‖, the direction in which each draw's loss grows: float64 [N, pixels].

    A draw whose gradient is zero at a point counts as none there.
    """
    graphs = graphs_of(posterior, image_shape(x))

    def of_part(part: slice) -> Tensor:
        directions = (normalize(loss_gradient(graph, x[part], y[part])[0]) for graph in graphs)
        return sum(directions, start=x.new_zeros(())) / len(graphs)

    return joined(torch.no_grad()(of_part), len(x), chunk_of(posterior.network, image_shape(x)))
