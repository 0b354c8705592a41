"""What holds of every explanation: threads, order, devices and cost; and of the controls, which say nothing."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from torch.func import functional_call
from torch.utils._python_dispatch import TorchDispatchMode

from resilience import catalog, computing, networks
from resilience.explain import explain
from resilience.graphs import graphs_of
from resilience.measures.maps import overlap
from resilience.posterior import Posterior, point
from tests.library.explained_networks import CONVOLUTIONAL, NETWORKS, POOLED, network, predicted, relevance
from tests.library.lrp_stacks import images
from tests.library.pretend_device import CPU, pretend_device

EVERY = {
    "gradient": {},
    "gradient_times_input": {},
    "integrated_gradients": {"steps": 3},
    "smooth_grad": {"samples": 3},
    "cam": {},
    "grad_cam": {},
    "grad_cam_plus_plus": {},
    "occlusion": {"window": 2},
    "random_map": {},
    "constant_map": {},
    "edges": {},
    "lrp": {"rule": {"rule": "epsilon"}},
}
RANDOM = {"smooth_grad", "random_map"}
ONE_CHANNEL = {"cam", "grad_cam", "grad_cam_plus_plus", "occlusion"}
#: The networks that an explanation can have, if not all.
HAVE = {"cam": POOLED, "grad_cam": CONVOLUTIONAL, "grad_cam_plus_plus": CONVOLUTIONAL}
#: How many passes an explanation may cost, up and down.
PASSES = {
    "gradient": (1, 1),
    "gradient_times_input": (1, 1),
    "integrated_gradients": (3, 3),
    "smooth_grad": (3, 3),
    "cam": (1, 0),
    "grad_cam": (1, 1),
    "grad_cam_plus_plus": (1, 1),
    "occlusion": (82, 0),  # 9 × 9 windows, and the image itself
    "random_map": (0, 0),
    "constant_map": (0, 0),
    "edges": (0, 0),
}


def mixture() -> tuple[Posterior, torch.Tensor, torch.Tensor]:
    """Three draws in single precision, images and classes."""
    model, _ = network("pooled")
    model.float()
    draws = {name: torch.stack([value, 0.9 * value, -value]) for name, value in model.state_dict().items()}
    return Posterior(model, draws), images((1, 8, 8), seed=9, count=7).float(), torch.arange(7) % 3


def explained(method, posterior, x, classes, seed=4):
    make = catalog.bound("explanations", {"method": method, **EVERY[method]})
    return explain(posterior, x, classes, make, networks.learnable_layers(posterior.network), seed=seed)


def test_every_explanation_is_tested_here():
    assert EVERY.keys() == catalog.functions("explanations").keys()


@pytest.mark.parametrize("method", EVERY)
def test_it_is_the_same_with_any_number_of_threads(method, monkeypatch):
    monkeypatch.setattr("resilience.explain.chunk_of", lambda *_: 2)
    found = []
    for threads in (1, 3):
        monkeypatch.setattr(computing, "_workers", threads)
        found.append(explained(method, *mixture()))
    assert torch.equal(*found)
    assert found[0].shape[1] == 7
    assert found[0].isfinite().all()


@pytest.mark.parametrize("method", EVERY)
def test_it_is_the_same_on_a_pretended_gpu(method):
    """Random numbers are those of the CPU's generator, there too."""
    posterior, x, classes = mixture()
    expected = explained(method, posterior, x, classes)
    with pretend_device() as device:
        torch.use_deterministic_algorithms(True)
        found = explained(method, posterior.to(device), x.to(device), classes.to(device)).to(CPU)
    assert np.array_equal(found.numpy(), expected.numpy())


@pytest.mark.parametrize(
    ("method", "name"),
    [(method, name) for method in sorted(EVERY.keys() - RANDOM - {"lrp"}) for name in HAVE.get(method, NETWORKS)],
)
def test_each_image_is_explained_by_itself(method, name):
    model, x = network(name)
    classes, order = predicted(model, x), torch.tensor([2, 0, 3, 1])
    whole = relevance(method, model, x, classes, **EVERY[method])
    assert whole.shape == (len(x), 1 if method in ONE_CHANNEL else x.shape[1], *x.shape[2:])
    moved = relevance(method, model, x[order], classes[order], **EVERY[method])
    assert torch.allclose(moved, whole[order], atol=1e-12)
    alone = relevance(method, model, x[1:2], classes[1:2], **EVERY[method])
    assert torch.allclose(alone, whole[1:2], atol=1e-12)


class Passes(TorchDispatchMode):
    """Counts products of the layers: of images with weights, up, and of gradients with them, down."""

    def __init__(self):
        super().__init__()
        self.counted = {"up": 0, "down": 0}

    def __torch_dispatch__(self, function, types, arguments=(), options=None):
        name = function.overloadpacket.__name__
        self.counted["up"] += name in ("convolution", "addmm")
        self.counted["down"] += name in ("convolution_backward", "mm", "bmm")
        return function(*arguments, **(options or {}))


@pytest.mark.parametrize("method", PASSES)
def test_it_costs_no_more_passes_than_it_must(method):
    """Counted, not timed; and under autograd's eyes, so that no graph is made on the way."""
    layers = [nn.Conv2d(6, 6, 3, padding=1), nn.ReLU(), nn.Conv2d(6, 6, 3), nn.ReLU(), nn.AvgPool2d(6), nn.Flatten()]
    model = nn.Sequential(*layers, nn.Linear(6, 3)).double().eval()
    x, classes = images((6, 8, 8), seed=1), torch.arange(4) % 3
    [graph] = graphs_of(point(model), (6, 8, 8))
    make = catalog.bound("explanations", {"method": method, **EVERY[method]})
    generator = torch.Generator().manual_seed(0)
    with Passes() as passes, torch.no_grad():
        found = make(graph=graph, x=x, explained=classes, layers=(0, 2, 6), generator=generator)
    up, down = PASSES[method]
    # Up there are three convolutions, one of which is the pooling, and a linear layer; down as many.
    assert passes.counted["up"] <= 4 * up
    assert passes.counted["down"] <= 4 * down
    assert (passes.counted["up"] > 0) == (up > 0)
    assert not found.requires_grad


def test_a_posterior_is_explained_by_the_mean_over_its_draws():
    model, x = network("conv")
    draws = {name: torch.stack([value, 0.5 * value, -value]) for name, value in model.state_dict().items()}
    posterior, classes = Posterior(model, draws), torch.arange(len(x)) % 3
    found = explain(posterior, x, classes, catalog.bound("explanations", {"method": "gradient"}), (0, 3, 7))
    expected = 0
    for weights in posterior:
        variable = x.clone().requires_grad_()
        of_draw = functional_call(model, weights, (variable,)).gather(1, classes[:, None]).sum()
        expected = expected + torch.autograd.grad(of_draw, variable)[0] / 3
    assert torch.allclose(found[0], expected, atol=1e-12)


@pytest.mark.parametrize("share", [5, 20, 50])
def test_of_a_random_map_chance_is_left_and_of_a_constant_one_everything(share):
    """Before and after an attack the seed is another one; draws are averaged, which changes nothing."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(400, 3))
    draws = {name: torch.stack([value, value, value]) for name, value in model.state_dict().items()}
    posterior, x = Posterior(model, draws), images((1, 20, 20), seed=1, count=60).float()
    classes = torch.zeros(60, dtype=torch.int64)
    clean, attacked = (explained("random_map", posterior, x, classes, seed)[0].numpy() for seed in (1, 2))
    left = overlap(clean, attacked, top_k=share)
    k = share / 100
    # Of n = 400 pixels the overlap of k n is hypergeometric, with a standard deviation of (1 − k) / √n.
    assert abs(left.mean() - k) < 4 * (1 - k) / np.sqrt(400 * 60)
    constant = explained("constant_map", posterior, x, classes)[0].numpy()
    assert (overlap(constant, constant, top_k=share) == 1).all()


def test_random_maps_differ_between_images_and_seeds_and_constant_ones_never():
    model, x = network("conv")
    classes = torch.zeros(len(x), dtype=torch.int64)
    one, other = (relevance("random_map", model, x, classes, seed=seed) for seed in (0, 1))
    assert not torch.allclose(one, other)
    assert not torch.allclose(one[0], one[1])
    assert torch.equal(one, relevance("random_map", model, x, classes, seed=0))
    assert (relevance("constant_map", model, x, classes) == 1).all()
