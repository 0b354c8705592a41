"""Explanations in double precision: against captum, against automatic differentiation, and against their own axioms."""

from __future__ import annotations

import math

import pytest
import torch
from captum.attr import (
    InputXGradient,
    IntegratedGradients,
    LayerGradCam,
    NoiseTunnel,
    Occlusion,
    Saliency,
)
from torch import nn
from torch.func import functional_call

from resilience import catalog, computing, networks
from resilience.explain import explain
from resilience.explanations.quantities import value
from resilience.posterior import Posterior, point
from resilience.stacks import LayerError, stacks_of
from tests.library.lrp_stacks import STACKS, images

OF = ("logit", "probability", "log_probability", "loss")


def network(name, bias=True):
    build, shape = STACKS[name]
    torch.manual_seed(1)
    return nn.Sequential(*build(bias)).double().eval(), images(shape, seed=2)


def pooled(shape=(1, 8, 8), width=6):
    torch.manual_seed(3)
    return networks.pooled(shape, 3, width=width).double().eval(), images(shape, seed=4)


def relevance(method, model, x, classes, seed=0, **options):
    [stack] = stacks_of(point(model), tuple(x.shape[1:]))
    make = catalog.bound("explanations", {"method": method, **options})
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        return make(stack=stack, x=x, explained=classes, layers=networks.learnable_layers(model), generator=generator)


def by_autograd(model, x, classes, of="logit"):
    variable = x.clone().requires_grad_()
    (found,) = torch.autograd.grad(value(of, model(variable), classes).sum(), variable)
    return found


@pytest.fixture(params=STACKS)
def case(request):
    model, x = network(request.param)
    return model, x, model(x).argmax(1).detach()


@pytest.mark.parametrize("of", OF)
def test_the_gradient_is_that_of_automatic_differentiation(case, of):
    model, x, classes = case
    expected = by_autograd(model, x, classes, of)
    assert torch.allclose(relevance("gradient", model, x, classes, of=of), expected, atol=1e-12)
    assert torch.allclose(relevance("gradient_times_input", model, x, classes, of=of), x * expected, atol=1e-12)


def test_gradients_are_those_of_captum(case):
    model, x, classes = case
    plain = Saliency(model).attribute(x.clone(), target=classes, abs=False)
    assert torch.allclose(relevance("gradient", model, x, classes), plain, atol=1e-12)
    product = InputXGradient(model).attribute(x.clone(), target=classes)
    assert torch.allclose(relevance("gradient_times_input", model, x, classes), product, atol=1e-12)


def test_a_confident_network_has_a_gradient_of_its_log_probability():
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 2)).double()
    model[1].weight.data = torch.tensor([[40.0, 40, 40, 40], [0, 0, 0, 0]]).double()
    model[1].bias.data.zero_()
    x, classes = torch.ones(1, 1, 2, 2).double(), torch.tensor([0])
    found = relevance("gradient", model, x, classes, of="log_probability")
    assert torch.allclose(found / (40 * math.exp(-160)), torch.ones_like(found), rtol=1e-9)


@pytest.mark.parametrize(("rule", "captums"), [("midpoint", None), ("right", "riemann_right")])
def test_integrated_gradients_are_those_of_captum(case, rule, captums):
    model, x, classes = case
    found = relevance("integrated_gradients", model, x, classes, steps=7, baseline=0.2, rule=rule)
    if captums:
        expected = IntegratedGradients(model).attribute(
            x.clone(), torch.full_like(x, 0.2), target=classes, n_steps=7, method=captums
        )
    else:
        places = [0.2 + (j - 0.5) / 7 * (x - 0.2) for j in range(1, 8)]
        expected = (x - 0.2) * sum(by_autograd(model, place, classes) for place in places) / 7
    assert torch.allclose(found, expected, atol=1e-12)


def test_integrated_gradients_are_complete_and_the_more_so_the_more_steps(case):
    model, x, classes = case
    black = torch.zeros_like(x)
    difference = (model(x) - model(black)).gather(1, classes[:, None])[:, 0]
    errors = [
        (relevance("integrated_gradients", model, x, classes, steps=steps).sum((1, 2, 3)) - difference).abs().max()
        for steps in (4, 400)
    ]
    assert errors[1] < 1e-2 * difference.abs().max()
    assert errors[1] <= errors[0]


def test_gradient_times_input_is_complete_where_there_are_no_biases():
    for name in STACKS:
        model, x = network(name, bias=False)
        classes = model(x).argmax(1)
        logit = model(x).gather(1, classes[:, None])[:, 0]
        assert torch.allclose(relevance("gradient_times_input", model, x, classes).sum((1, 2, 3)), logit, atol=1e-12)


def test_smooth_grad_is_the_mean_over_the_noise_that_its_generator_draws(case):
    model, x, classes = case
    generator, spread = torch.Generator().manual_seed(5), 0.2 * (x.amax((1, 2, 3)) - x.amin((1, 2, 3)))
    noisy = [x + spread[:, None, None, None] * torch.randn(x.shape, generator=generator, dtype=x.dtype) for _ in range(4)]
    expected = sum(by_autograd(model, place, classes, "loss") for place in noisy) / 4
    found = relevance("smooth_grad", model, x, classes, seed=5, noise=0.2, samples=4, of="loss")
    assert torch.allclose(found, expected, atol=1e-12)


def test_smooth_grad_converges_to_captums():
    model, x = network("linear")
    classes = model(x).argmax(1)
    torch.manual_seed(0)
    tunnel = NoiseTunnel(Saliency(model))
    tuned = tunnel.attribute(x.clone(), nt_samples=4000, stdevs=0.1, target=classes, abs=False)
    spread = (x.amax((1, 2, 3)) - x.amin((1, 2, 3))).mean()
    found = relevance("smooth_grad", model, x, classes, noise=float(0.1 / spread), samples=4000)
    assert (found - tuned).abs().max() < 0.1 * tuned.abs().max()


@pytest.mark.parametrize(("window", "stride"), [(3, 1), (2, 2), (1, 1)])
def test_occlusion_is_what_the_network_loses(case, window, stride):
    model, x, classes = case
    whole = model(x).gather(1, classes[:, None])[:, 0]
    total, times = torch.zeros_like(x[:, :1]), torch.zeros_like(x[:1, :1])
    _, _, height, width = x.shape
    with torch.no_grad():
        for top in range(1 - window, height, stride):
            for left in range(1 - window, width, stride):
                rows, columns = (
                    [i for i in range(first, first + window) if 0 <= i < side]
                    for first, side in ((top, height), (left, width))
                )
                if not rows or not columns:
                    continue
                tried = x.clone()
                for row in rows:
                    for column in columns:
                        tried[:, :, row, column] = 0.5
                lost = whole - model(tried).gather(1, classes[:, None])[:, 0]
                for row in rows:
                    for column in columns:
                        total[:, 0, row, column] += lost
                        times[0, 0, row, column] += 1
    found = relevance("occlusion", model, x, classes, window=window, stride=stride, covered=0.5)
    assert torch.allclose(found, total / times, atol=1e-12)


def test_occlusion_by_single_pixels_is_captums(case):
    model, x, classes = case
    channels = x.shape[1]
    found = Occlusion(model).attribute(x.clone(), (channels, 1, 1), target=classes, baselines=0.5)
    expected = found[:, :1].double()
    # In single precision, as captum gives it.
    assert torch.allclose(relevance("occlusion", model, x, classes, window=1, covered=0.5), expected, atol=1e-6)


def last_maps(model, x):
    """A [N, K, h, w] of the last convolution after its activation, the layers behind it, and its place."""
    last = max(index for index, layer in enumerate(model) if isinstance(layer, nn.Conv2d))
    behind = last + 1 + isinstance(model[last + 1], nn.ReLU | nn.LeakyReLU)
    return model[:behind](x).detach(), model[behind:], behind - 1


CONVOLUTIONAL = ["conv", "strided", "dilated", "pooled"]


def convolutional(name):
    model, x = pooled() if name == "pooled" else network(name)
    return model, x, model(x).argmax(1).detach()


@pytest.mark.parametrize("negative", ["cut", "kept"])
@pytest.mark.parametrize("name", CONVOLUTIONAL)
def test_grad_cam_is_captums(name, negative):
    model, x, classes = convolutional(name)
    *_, place = last_maps(model, x)
    layer = LayerGradCam(model, model[place])
    small = layer.attribute(x.clone(), target=classes, relu_attributions=negative == "cut")
    expected = nn.functional.interpolate(small, size=x.shape[2:], mode="bilinear")
    assert torch.allclose(relevance("grad_cam", model, x, classes, negative=negative), expected, atol=1e-12)


@pytest.mark.parametrize("name", CONVOLUTIONAL)
def test_grad_cam_plus_plus_is_its_formula(name):
    model, x, classes = convolutional(name)
    maps, behind, _ = last_maps(model, x)
    variable = maps.clone().requires_grad_()
    (g,) = torch.autograd.grad(behind(variable).gather(1, classes[:, None]).sum(), variable)
    images_, channels, height, width = maps.shape
    expected = torch.zeros(images_, 1, height, width, dtype=torch.float64)
    for n in range(images_):
        for k in range(channels):
            weight = 0.0
            for i in range(height):
                for j in range(width):
                    below = 2 * g[n, k, i, j] ** 2 + maps[n, k].sum() * g[n, k, i, j] ** 3
                    if below != 0:
                        weight += g[n, k, i, j] ** 2 / below * max(g[n, k, i, j], 0)
            expected[n, 0] += weight * maps[n, k]
    expected = nn.functional.interpolate(expected.clamp(min=0), size=x.shape[2:], mode="bilinear")
    assert torch.allclose(relevance("grad_cam_plus_plus", model, x, classes), expected, atol=1e-12)


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 16, 18)])
def test_cam_sums_to_the_logit_and_is_grad_cam_where_the_head_is_pooled(shape):
    model, x = pooled(shape)
    classes = model(x).argmax(1)
    maps, _, _ = last_maps(model, x)
    small = (maps * model[-1].weight[classes][:, :, None, None]).sum(1, keepdim=True) / maps[0, 0].numel()
    assert torch.allclose(small.sum((1, 2, 3)), model(x).gather(1, classes[:, None])[:, 0], atol=1e-12)
    expected = nn.functional.interpolate(small, size=shape[1:], mode="bilinear")
    assert torch.allclose(relevance("cam", model, x, classes), expected, atol=1e-12)
    # The weight of Grad-CAM is the mean derivative, that of the head divided by the number of places: CAM with its 1 / u.
    assert torch.allclose(relevance("grad_cam", model, x, classes, negative="kept"), expected, atol=1e-12)


@pytest.mark.parametrize(
    ("method", "model"), [("cam", network("conv")), ("cam", network("linear")), ("grad_cam", network("linear"))]
)
def test_maps_that_a_network_does_not_have_are_refused(method, model):
    built, x = model
    with pytest.raises(LayerError, match=r"grad_cam|no convolution"):
        relevance(method, built, x, torch.zeros(len(x), dtype=torch.int64))


def test_random_maps_differ_between_images_and_seeds_and_constant_ones_never():
    model, x = network("conv")
    classes = torch.zeros(len(x), dtype=torch.int64)
    one, other = (relevance("random_map", model, x, classes, seed=seed) for seed in (0, 1))
    assert not torch.allclose(one, other)
    assert not torch.allclose(one[0], one[1])
    assert (relevance("constant_map", model, x, classes) == 1).all()


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
    "lrp": {"rule": {"rule": "epsilon"}},
}


def test_every_explanation_is_tested_here():
    assert EVERY.keys() == catalog.functions("explanations").keys()


@pytest.mark.parametrize("method", EVERY)
def test_every_explanation_is_the_same_with_any_number_of_threads(method, monkeypatch):
    model, x = pooled()
    model.float()
    x = images((1, 8, 8), seed=9, count=7).float()
    draws = {name: torch.stack([value, 0.9 * value, -value]) for name, value in model.state_dict().items()}
    posterior, classes = Posterior(model, draws), torch.arange(7) % 3
    make = catalog.bound("explanations", {"method": method, **EVERY[method]})
    monkeypatch.setattr("resilience.explain.chunk_of", lambda *_: 2)
    found = []
    for threads in (1, 3):
        monkeypatch.setattr(computing, "_workers", threads)
        found.append(explain(posterior, x, classes, make, networks.learnable_layers(model), seed=4))
    assert torch.equal(*found)
    assert found[0].shape[1] == 7
    assert found[0].isfinite().all()


def test_a_posterior_is_explained_by_the_mean_over_its_draws():
    model, x = network("conv")
    draws = {name: torch.stack([value, 0.5 * value, -value]) for name, value in model.state_dict().items()}
    posterior, classes = Posterior(model, draws), torch.arange(len(x)) % 3
    found = explain(posterior, x, classes, catalog.bound("explanations", {"method": "gradient"}), (0, 3, 7))
    expected = 0
    for weights in posterior:
        variable = x.clone().requires_grad_()
        logit = functional_call(model, weights, (variable,)).gather(1, classes[:, None]).sum()
        expected = expected + torch.autograd.grad(logit, variable)[0] / 3
    assert torch.allclose(found[0], expected, atol=1e-12)
