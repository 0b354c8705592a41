"""Weights of a network as a stack of draws: one draw for a point estimate, many for a posterior or an ensemble.

Everything that a Bayesian network does is the mean over its draws: of the softmax for predictions (paper, Sec. II-C),
of the heat maps for explanations (Sec. IV-A).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from resilience import catalog, networks, sizes
from resilience.artifacts import ArtifactError, read_about, read_tensors, write_tensors
from resilience.history import History
from resilience.networks import Weights
from resilience.seeding import seed_of

POINT, DRAWS, MEAN_FIELD = "point", "draws", "mean-field"
#: What a mean-field normal has of each weight.
SUFFIXES = (".loc", ".scale")
#: How many images are predicted at a time, which bounds the memory that this takes.
IMAGES_AT_A_TIME = 500


@dataclass(frozen=True)
class Posterior:
    """A network and draws of its weights; every tensor of ``weights`` leads with the axis of draws."""

    network: nn.Module
    weights: Weights

    def __len__(self) -> int:
        return len(next(iter(self.weights.values())))

    def __iter__(self) -> Iterator[Weights]:
        """The draws, each by ``state_dict`` name."""
        for index in range(len(self)):
            yield {name: stack[index] for name, stack in self.weights.items()}

    def alone(self) -> Iterator[Posterior]:
        """The draws, each as a posterior of one."""
        for weights in self:
            yield Posterior(self.network, {name: value[None] for name, value in weights.items()})

    def part(self, first: int, last: int) -> Posterior:
        """The draws from one number up to, and without, another; those that there are."""
        return Posterior(self.network, {name: stack[first:last] for name, stack in self.weights.items()})

    def to(self, device: torch.device | str) -> Posterior:
        """The same draws on another device."""
        return Posterior(self.network.to(device), {name: _moved(stack, device) for name, stack in self.weights.items()})


def _moved(stack: Tensor, device: torch.device | str) -> Tensor:
    """Draws on another device; what all of them share lies there once, too."""
    return stack[:1].to(device).expand_as(stack) if is_shared(stack) else stack.to(device)


def is_shared(stack: Tensor) -> bool:
    """Whether all draws of a weight are one and the same place in memory."""
    return len(stack) > 1 and stack.stride(0) == 0


def shared(weights: Mapping[str, Tensor], draws: int) -> Weights:
    """The same weights for every draw, at one place in memory."""
    return {name: value.expand(draws, *value.shape) for name, value in weights.items()}


def point(network: nn.Module) -> Posterior:
    """A network with its present weights, as a posterior of one draw."""
    return Posterior(network, {name: value[None] for name, value in networks.weights_of(network).items()})


@torch.no_grad()
def predict(posterior: Posterior, x: Tensor) -> Tensor:
    """Posterior predictive: the mean over draws of the softmax (paper, Sec. II-C).

    Parameters
    ----------
    posterior
        S draws.
    x
        Images [N, C, H, W] in [0, 1].

    Returns
    -------
    Tensor
        Probabilities [N, classes].
    """
    return _mean_over_draws(posterior, x, lambda logits: logits.softmax(1))


@torch.no_grad()
def mean_logits(posterior: Posterior, x: Tensor) -> Tensor:
    """The mean over draws of the logits, [N, classes], for images ``x`` [N, C, H, W] in [0, 1]."""
    return _mean_over_draws(posterior, x, lambda logits: logits)


def _mean_over_draws(posterior: Posterior, x: Tensor, of: Callable[[Tensor], Tensor]) -> Tensor:
    """The mean of what is made of each draw's logits, [N, classes]."""
    chunks = []
    for part in x.split(IMAGES_AT_A_TIME):
        total = sum(of(networks.logits(posterior.network, weights, part)) for weights in posterior)
        chunks.append(torch.as_tensor(total) / len(posterior))
    return torch.cat(chunks)


def accuracy(posterior: Posterior, x: Tensor, y: Tensor) -> float:
    """Share of points whose most probable class is the label."""
    return float((predict(posterior, x).argmax(1) == y).double().mean())


def save(
    path: str | Path,
    weights: Mapping[str, Tensor],
    kind: str,
    network: Mapping[str, Any],
    seed: int,
    history: History | None = None,
) -> None:
    """Write weights.

    Parameters
    ----------
    path
        A safetensors file.
    weights
        A point estimate has tensors of the weights' shapes, draws lead with their axis, and a mean-field normal has
        ``{name}.loc`` and ``{name}.scale`` of what is drawn, and ``{name}`` of what all draws share, such as the statistics
        of batch normalisation. What is the same in all draws is written once, and the header says what that is.
    kind
        ``point``, ``draws`` or ``mean-field``.
    network
        The config entry with ``shape`` and ``classes``, so that :func:`load` needs no config.
    seed
        Seed of the draws of a mean-field posterior.
    history
        Of the training.
    """
    about = {"kind": kind, "network": dict(network), "seed": seed}
    if once := [name for name, value in weights.items() if _is_written_once(name, value, kind)]:
        about |= {"shared": sorted(once)}
    if once and kind == DRAWS:
        about |= {"draws": len(weights[once[0]])}
        weights = {name: value[0] if name in once else value for name, value in weights.items()}
    arrays = {name: value.detach().cpu().numpy() for name, value in weights.items()}
    write_tensors(path, arrays, about, history)


def _is_written_once(name: str, value: Tensor, kind: str) -> bool:
    """Whether a weight is the same in all draws."""
    if kind == MEAN_FIELD:
        return not name.endswith(SUFFIXES)
    if kind != DRAWS or len(value) < 2:
        return False
    # Most differ in the second draw already.
    return is_shared(value) or (torch.equal(value[0], value[1]) and bool((value == value[:1]).all()))


def load(path: str | Path, draws: int | None = None, network: Mapping[str, Any] | None = None) -> Posterior:
    """Read weights and rebuild their network.

    Parameters
    ----------
    path
        A file of :func:`save`.
    draws
        Number of draws; the first ``draws`` of a larger number are always the same. All of them if None, which a
        mean-field posterior does not allow, since it has infinitely many.
    network
        The network's config entry. The file says it, too; but if it names a function in a file of the user's own, it must be
        handed over, since weights from elsewhere must not decide which code is run.

    Raises
    ------
    ArtifactError
        If the file is damaged, does not fit the network, or has fewer draws.
    SizeError
        If so many draws fit nowhere.
    """
    about, arrays = read_about(path), read_tensors(path)
    if "network" not in about:
        raise ArtifactError(f"{path}: its header does not say which network it belongs to")
    built = _rebuild(about["network"], network, path)
    shapes = {name: tuple(value.shape) for name, value in networks.weights_of(built).items()}
    sizes.refuse_draws(built, draws or 1, set(shapes) - set(about.get("shared", ())))
    weights = _stack(arrays, about, shapes, draws, path)
    for name, shape in shapes.items():
        if tuple(weights[name].shape[1:]) != shape:
            raise ArtifactError(f"{path}: {name} has shape {tuple(weights[name].shape[1:])}, the network needs {shape}")
    return Posterior(built, weights)


def _rebuild(described: Mapping[str, Any], expected: Mapping[str, Any] | None, path: str | Path) -> nn.Module:
    """The network that the header of a file describes, if it is the expected one."""
    settings = {key: value for key, value in described.items() if key not in ("shape", "classes")}
    if expected is None and catalog.is_own(settings["architecture"]):
        raise ArtifactError(
            f"{path}: its network is {settings['architecture']}, code that a file of weights does not bring along; "
            f"if you trust that code, hand over network={settings}"
        )
    if expected is not None and settings != dict(expected):
        raise ArtifactError(f"{path}: holds weights of {settings}, not of {dict(expected)}")
    return networks.build(settings, described["shape"], described["classes"])


def _stack(
    arrays: Mapping[str, np.ndarray],
    about: Mapping[str, Any],
    shapes: Mapping[str, tuple[int, ...]],
    draws: int | None,
    path: str | Path,
) -> Weights:
    kind, once = about["kind"], set(about.get("shared", ()))
    suffixes = SUFFIXES if kind == MEAN_FIELD else ("",)
    needed = [name + suffix for name in shapes for suffix in (("",) if name in once else suffixes)]
    if missing := [name for name in needed if name not in arrays]:
        raise ArtifactError(f"{path}: has no tensor {', '.join(missing)}")
    tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
    drawn = sorted(set(shapes) - once)
    if kind == MEAN_FIELD:
        if draws is None:
            raise ArtifactError(f"{path}: a mean-field posterior has no last draw; say how many to take")
        stack = sample_mean_field(tensors, drawn, about["seed"], draws)
        return stack | shared({name: tensors[name] for name in shapes if name in once}, draws)
    stack = {name: tensors[name][None] if kind == POINT else tensors[name] for name in shapes if name not in once}
    available = about.get("draws") or len(next(iter(stack.values())))
    if draws is not None and draws > available:
        raise ArtifactError(f"{path}: has {available} draws, {draws} were asked for")
    stack |= shared({name: tensors[name] for name in shapes if name in once}, available)
    return {name: stack[name][:draws] for name in shapes}


def sample_mean_field(parameters: Mapping[str, Tensor], names: list[str], seed: int, draws: int) -> Weights:
    """Draws [draws, …] of independent normals; draw i depends on the seed and on i only, so draws are nested.

    The random numbers are the CPU's on every device, so that all devices have the same draws.
    """
    samples: dict[str, list[Tensor]] = {name: [] for name in names}
    for index in range(draws):
        generator = torch.Generator().manual_seed(seed_of(seed, index))
        for name in names:
            loc, scale = parameters[f"{name}.loc"], parameters[f"{name}.scale"]
            noise = torch.randn(loc.shape, generator=generator, dtype=loc.dtype).to(loc.device)
            samples[name].append(loc + scale * noise)
    return {name: torch.stack(values) for name, values in samples.items()}
