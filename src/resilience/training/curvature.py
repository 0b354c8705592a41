"""How sharply a likelihood is curved in the parameters of a network: its generalised Gauss-Newton matrix.

G = Σ_n J_nᵀ H_n J_n with J_n the Jacobian of the logits of image n and H_n = diag(p) − p pᵀ; for the softmax it is the
Fisher information (Martens 2020). With the precision of a normal prior on its diagonal it is the precision of the Laplace
approximation (MacKay 1992); here are three structures of it, each as what turns noise into a draw.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, jacrev, vmap
from torch.nn import functional

from resilience import networks
from resilience.networks import Weights
from resilience.progress import steps
from resilience.training.fit import TrainingError

#: A full matrix of more rows takes more than a gigabyte, and minutes to factorise.
MOST_IN_FULL = 10_000
#: How many numbers of Jacobians are held at a time.
NUMBERS_AT_A_TIME = 2**25


class Curvature(ABC):
    """A precision matrix Λ of some parameters."""

    #: Their names, and their shapes in that order.
    shapes: dict[str, tuple[int, ...]]

    @abstractmethod
    def noise_to_draw(self, noise: Tensor) -> Weights:
        """Normal numbers of covariance Λ⁻¹, by name, from standard ones [size]."""

    @property
    def size(self) -> int:
        """How many numbers a draw has."""
        return sum(math.prod(shape) for shape in self.shapes.values())


@dataclass(frozen=True)
class Full(Curvature):
    """All of a matrix, by its Cholesky factor L [P, P] of Λ = L Lᵀ."""

    shapes: dict[str, tuple[int, ...]]
    factor: Tensor

    def noise_to_draw(self, noise: Tensor) -> Weights:
        """L⁻ᵀ ε."""
        solved = torch.linalg.solve_triangular(self.factor.mT, noise.to(self.factor)[:, None], upper=True)[:, 0]
        return _split(solved, self.shapes)


@dataclass(frozen=True)
class Diagonal(Curvature):
    """The diagonal [P] of Λ."""

    shapes: dict[str, tuple[int, ...]]
    precision: Tensor

    def noise_to_draw(self, noise: Tensor) -> Weights:
        """ε / √Λ_ii."""
        return _split(noise.to(self.precision) * self.precision.rsqrt(), self.shapes)


@dataclass(frozen=True)
class Kronecker(Curvature):
    """Λ = A ⊗ B + τ I of a layer's matrix [outputs, inputs (and 1 for the bias)] (Ritter et al. 2018), by eigenvectors.

    B is of the outputs, A of the inputs. The prior's precision τ is added to the eigenvalues and so exactly, where they
    damp both factors.
    """

    shapes: dict[str, tuple[int, ...]]
    inputs: tuple[Tensor, Tensor]
    outputs: tuple[Tensor, Tensor]
    precision: float

    def noise_to_draw(self, noise: Tensor) -> Weights:
        """U_B (E / √(b aᵀ + τ)) U_Aᵀ."""
        (a, of_inputs), (b, of_outputs) = self.inputs, self.outputs
        scaled = noise.to(a).view(len(b), len(a)) * (b[:, None] * a[None] + self.precision).rsqrt()
        matrix = of_outputs @ scaled @ of_inputs.mT
        (weight, shape), *bias = self.shapes.items()
        split = {weight: matrix[:, : math.prod(shape[1:])].reshape(shape)}
        return split | {name: matrix[:, -1] for name, _ in bias}


def full(network: nn.Module, weights: Weights, x: Tensor, deviations: dict[str, float]) -> Full:
    """The whole matrix, of a network with few parameters.

    Parameters
    ----------
    network
        In evaluation.
    weights
        Its parameters and statistics, by ``state_dict`` name.
    x
        Images [N, …] of the training set.
    deviations
        Of the prior, by the name of each parameter.

    Raises
    ------
    TrainingError
        If the matrix is too large.
    """
    chosen, one = _chosen(weights, list(deviations)), _one_image(network, weights)
    count = sum(value.numel() for value in chosen.values())
    if count > MOST_IN_FULL:
        raise TrainingError(
            f"structure: full would need a matrix of {count:,} rows for that many parameters; it may have {MOST_IN_FULL:,}; "
            "take kronecker, or the last layer alone"
        )
    precision = torch.diag(_prior_precision(chosen, deviations))
    jacobian_of = vmap(jacrev(one), (None, 0))
    for images, root in _batches(network, weights, x, count * _classes(network, weights, x)):
        jacobians = jacobian_of(chosen, images)
        jacobian = torch.cat([jacobians[name].flatten(2) for name in chosen], 2)
        rows = (root.mT @ jacobian).flatten(0, 1).double()
        precision = precision.addmm_(rows.mT, rows)
    return Full({name: tuple(value.shape) for name, value in chosen.items()}, torch.linalg.cholesky(precision))


def diagonal(network: nn.Module, weights: Weights, x: Tensor, deviations: dict[str, float]) -> Diagonal:
    """The diagonal of the matrix. Parameters as of :func:`full`; only those that ``deviations`` names are taken."""
    chosen, one = _chosen(weights, list(deviations)), _one_image(network, weights)
    gradients_of = vmap(grad(lambda values, image, column: (one(values, image) * column).sum()), (None, 0, 0))
    total = _prior_precision(chosen, deviations)
    for images, root in _batches(network, weights, x, len(total)):
        for column in root.unbind(2):
            gradients = gradients_of(chosen, images, column)
            total += torch.cat([gradients[name].double().square().sum(0).flatten() for name in chosen])
    return Diagonal({name: tuple(value.shape) for name, value in chosen.items()}, total)


def kronecker(network: nn.Module, weights: Weights, x: Tensor, deviations: dict[str, float]) -> list[Curvature]:
    """A Kronecker product for each linear layer and each convolution, and the diagonal for all other parameters.

    For a layer with inputs a and gradients g of its outputs it is Σ a aᵀ ⊗ Σ g gᵀ / n, with sums over all n images and
    positions, and g for each column of a root of H_n (Martens & Grosse 2015; Grosse & Martens 2016 for convolutions).
    Parameters as of :func:`full`.
    """
    layers = {name: layer for name, layer in network.named_modules() if _has_factors(name, layer, deviations)}
    scales = {name: layer for name, layer in network.named_modules() if _scales_channels(name, layer, deviations)}
    sums: dict[str, _Sums] = {name: _Sums() for name in layers}
    squares: dict[str, Tensor] = {}
    of_largest = max((int(value.numel()) for value in weights.values()), default=1)
    for images, root in _batches(network, weights, x, of_largest):
        passed = _Passed(network, weights, images, {**layers, **scales})
        for name in layers.keys() & passed.inputs.keys():
            _add_inputs(sums[name], layers[name], passed.inputs[name])
        for column in root.unbind(2):
            for name, gradients in passed.gradients(column).items():
                if name in layers:
                    _add_outputs(sums[name], gradients)
                else:
                    _add_squares(squares, name, scales[name], weights, passed.inputs[name], gradients)
    found: list[Curvature] = []
    left = dict(deviations)
    if squares:
        precision = {name: deviations[name] ** -2 + value for name, value in squares.items()}
        shapes = {name: tuple(weights[name].shape) for name in precision}
        found.append(Diagonal(shapes, torch.cat(list(precision.values()))))
        for name in precision:
            del left[name]
    for name, layer in layers.items():
        if not sums[name].count:
            continue  # It is not called as a module.
        keys = [f"{name}.{key}" for key, _ in layer.named_parameters()]
        inputs, outputs = (torch.linalg.eigh(of) for of in (sums[name].inputs, sums[name].outputs / sums[name].count))
        found.append(
            Kronecker(
                {key: tuple(weights[key].shape) for key in keys},
                (inputs[0].clamp(min=0), inputs[1]),
                (outputs[0].clamp(min=0), outputs[1]),
                deviations[keys[0]] ** -2,
            )
        )
        for key in keys:
            del left[key]
    return [*found, diagonal(network, weights, x, left)] if left else found


@dataclass
class _Sums:
    """Σ a aᵀ, Σ g gᵀ, and how many a there are."""

    inputs: Tensor | float = 0.0
    outputs: Tensor | float = 0.0
    count: int = 0


def _has_factors(name: str, layer: nn.Module, deviations: dict[str, float]) -> bool:
    if f"{name}.weight" not in deviations:
        return False
    plain = isinstance(layer, nn.Conv2d) and layer.groups == 1 and layer.padding_mode == "zeros"
    return type(layer) is nn.Linear or (plain and not isinstance(layer.padding, str))


def _scales_channels(name: str, layer: nn.Module, deviations: dict[str, float]) -> bool:
    """Whether a layer is batch normalisation, whose γ and β have gradients that are sums over positions."""
    plain = isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d) and layer.running_mean is not None
    return plain and f"{name}.weight" in deviations


class _Passed:
    """One pass up with a batch: what some layers took, and from which the gradients of their outputs are asked for.

    A layer has several inputs if it is called several times.
    """

    def __init__(self, network: nn.Module, weights: Weights, images: Tensor, layers: dict[str, nn.Module]) -> None:
        self.inputs: dict[str, list[Tensor]] = {}
        self._called: list[str] = []
        self._outputs: list[Tensor] = []
        hooks = [layer.register_forward_hook(self._watch(name)) for name, layer in layers.items()]
        try:
            with torch.enable_grad():
                self._logits = functional_call(network, weights, (images.clone().requires_grad_(),))
        finally:
            for hook in hooks:
                hook.remove()

    def _watch(self, name: str) -> Callable[..., Tensor]:
        def see(_: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
            self.inputs.setdefault(name, []).append(inputs[0].detach().clone())
            self._called.append(name)
            self._outputs.append(output)
            return output.clone()  # What comes next may work in place.

        return see

    def gradients(self, slope: Tensor) -> dict[str, list[Tensor]]:
        """Of a layer's outputs, in the order of its inputs, from that of the logits [N, C]."""
        found: dict[str, list[Tensor]] = {}
        gradients = torch.autograd.grad(self._logits, self._outputs, slope, retain_graph=True)
        for name, gradient in zip(self._called, gradients, strict=True):
            found.setdefault(name, []).append(gradient)
        return found


def _add_inputs(sums: _Sums, layer: nn.Module, inputs: list[Tensor]) -> None:
    for a in inputs:
        rows = _rows_of_inputs(layer, a).double()
        if layer.bias is not None:
            rows = torch.cat([rows, rows.new_ones(len(rows), 1)], 1)
        sums.inputs = sums.inputs + rows.mT @ rows
        sums.count += len(rows)


def _add_outputs(sums: _Sums, gradients: list[Tensor]) -> None:
    for gradient in gradients:
        rows = (gradient.permute(0, 2, 3, 1) if gradient.dim() == 4 else gradient).flatten(0, -2).double()
        sums.outputs = sums.outputs + rows.mT @ rows


def _add_squares(
    squares: dict[str, Tensor], name: str, layer: nn.Module, weights: Weights, inputs: list[Tensor], gradients: list[Tensor]
) -> None:
    """Σ_n (∂/∂γ)² and Σ_n (∂/∂β)² of batch normalisation in evaluation: each image's gradients are sums over positions."""
    assert isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d)
    mean, variance = weights[f"{name}.running_mean"], weights[f"{name}.running_var"]
    of_gamma: Tensor | float = 0.0
    of_beta: Tensor | float = 0.0
    for a, gradient in zip(inputs, gradients, strict=True):
        shape = (-1, *[1] * (a.dim() - 2))
        normalised = (a - mean.view(shape)) * (variance + layer.eps).rsqrt().view(shape)
        of_gamma = of_gamma + _over_positions(gradient * normalised)
        of_beta = of_beta + _over_positions(gradient)
    for key, each in (("weight", of_gamma), ("bias", of_beta)):
        total = torch.as_tensor(each).double().square().sum(0)
        squares[f"{name}.{key}"] = squares[f"{name}.{key}"] + total if f"{name}.{key}" in squares else total


def _over_positions(values: Tensor) -> Tensor:
    """[N, C] of [N, C, …]."""
    return values.flatten(2).sum(2) if values.dim() > 2 else values


def _rows_of_inputs(layer: nn.Module, a: Tensor) -> Tensor:
    """What each output of a layer is a product with, [images and positions, inputs]."""
    if isinstance(layer, nn.Conv2d):
        patches = functional.unfold(a, layer.kernel_size, layer.dilation, layer.padding, layer.stride)  # type: ignore[arg-type]
        return patches.transpose(1, 2).flatten(0, 1)
    return a.flatten(0, -2)


def root_of_hessian(logits: Tensor) -> Tensor:
    """S [N, C, C] with S Sᵀ = diag(p) − p pᵀ: column c is √p_c (e_c − p)."""
    p = logits.softmax(1)
    return (torch.diag_embed(torch.ones_like(p)) - p[:, :, None]) * p.sqrt()[:, None, :]


def _batches(network: nn.Module, weights: Weights, x: Tensor, numbers: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Images, so many that ``numbers`` for each stay within bounds, and the root of H of each."""
    size = max(1, min(256, NUMBERS_AT_A_TIME // max(1, numbers)))
    with steps(-(-len(x) // size), "curvature") as advance:
        for images in x.split(size):
            with torch.no_grad():
                root = root_of_hessian(networks.logits(network, weights, images))
            yield images, root
            advance()


def _classes(network: nn.Module, weights: Weights, x: Tensor) -> int:
    with torch.no_grad():
        return int(networks.logits(network, weights, x[:1]).shape[1])


def _chosen(weights: Weights, names: list[str]) -> Weights:
    return {name: weights[name].detach() for name in names}


def _one_image(network: nn.Module, weights: Weights):  # type: ignore[no-untyped-def]
    """The logits of one image as a function of some of the parameters."""

    def logits(values: Weights, image: Tensor) -> Tensor:
        return functional_call(network, weights | values, (image[None],))[0]

    return logits


def _prior_precision(chosen: Weights, deviations: dict[str, float]) -> Tensor:
    return torch.cat([value.new_full((value.numel(),), deviations[name] ** -2).double() for name, value in chosen.items()])


def _split(vector: Tensor, shapes: dict[str, tuple[int, ...]]) -> Weights:
    pieces = vector.split([math.prod(shape) for shape in shapes.values()])
    return {name: piece.view(shape) for (name, shape), piece in zip(shapes.items(), pieces, strict=True)}
