"""Explanations in double precision: against captum, against automatic differentiation, and against their own axioms."""

from __future__ import annotations

import math

import pytest
import torch
from captum.attr import InputXGradient, IntegratedGradients, NoiseTunnel, Occlusion, Saliency
from torch import nn

from resilience.explanations.occlusion import WindowError
from tests.library.explained_networks import NETWORKS, by_autograd, network, predicted, quantity, relevance
from tests.library.lrp_stacks import STACKS

OF = ("logit", "probability", "log_probability", "loss")
#: Rules for the path of integrated gradients, by captum's names.
PATHS = {
    "midpoint": "riemann_middle",
    "right": "riemann_right",
    "trapezoid": "riemann_trapezoid",
    "gauss_legendre": "gausslegendre",
}


@pytest.fixture(params=NETWORKS)
def case(request):
    model, x = network(request.param)
    return model, x, predicted(model, x)


def logit(model, x, classes):
    return model(x).gather(1, classes[:, None])[:, 0].detach()


@pytest.mark.parametrize("of", OF)
def test_the_gradient_is_that_of_automatic_differentiation(case, of):
    model, x, classes = case
    expected = by_autograd(model, x, classes, of)
    assert expected.abs().max() > 0
    assert torch.allclose(relevance("gradient", model, x, classes, of=of), expected, rtol=1e-9, atol=1e-14)
    assert torch.allclose(relevance("gradient_times_input", model, x, classes, of=of), x * expected, rtol=1e-9, atol=1e-14)


def test_gradients_are_those_of_captum(case):
    model, x, classes = case
    plain = Saliency(model).attribute(x.clone().requires_grad_(), target=classes, abs=False)
    assert torch.allclose(relevance("gradient", model, x, classes), plain, atol=1e-12)
    product = InputXGradient(model).attribute(x.clone().requires_grad_(), target=classes)
    assert torch.allclose(relevance("gradient_times_input", model, x, classes), product, atol=1e-12)


@pytest.mark.parametrize("of", ["probability", "log_probability", "loss"])
@pytest.mark.parametrize(("precision", "height"), [(torch.float64, 160.0), (torch.float32, 60.0)])
def test_a_confident_network_has_a_gradient_of_its_probability(of, precision, height):
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 2)).to(precision)
    with torch.no_grad():
        model[1].weight.copy_(torch.tensor([[height / 4] * 4, [0.0] * 4]))
        model[1].bias.zero_()
    x, classes = torch.ones(1, 1, 2, 2, dtype=precision), torch.tensor([0])
    found = relevance("gradient", model, x, classes, of=of) / (height / 4) * (-1 if of == "loss" else 1)
    assert torch.allclose(found, torch.full_like(found, math.exp(-height)), rtol=1e-5, atol=0)


@pytest.mark.parametrize("rule", PATHS)
def test_integrated_gradients_are_those_of_captum(case, rule):
    model, x, classes = case
    steps, scale = (7, 1.0) if rule != "trapezoid" else (8, 8 / 7)  # captum counts places; its weights sum to 7 / 8 there
    baseline = torch.full_like(x, 0.2)
    theirs = IntegratedGradients(model).attribute(x.clone(), baseline, target=classes, n_steps=steps, method=PATHS[rule])
    found = relevance("integrated_gradients", model, x, classes, steps=7, baseline=0.2, rule=rule)
    assert torch.allclose(found, scale * theirs, atol=1e-12)


@pytest.mark.parametrize("of", OF)
@pytest.mark.parametrize("rule", PATHS)
def test_integrated_gradients_are_complete_and_the_more_so_the_more_steps(case, rule, of):
    model, x, classes = case
    whole, black = (
        torch.stack([quantity(of, model(image[None]), chosen[None]) for image, chosen in zip(images, classes, strict=True)])
        for images in (x, torch.zeros_like(x))
    )
    difference = (whole - black).detach()
    errors = [
        (relevance("integrated_gradients", model, x, classes, steps=steps, rule=rule, of=of).sum((1, 2, 3)) - difference)
        .abs()
        .max()
        for steps in (3, 200)
    ]
    assert errors[1] < 1e-2 * difference.abs().max()
    assert errors[1] <= errors[0]


@pytest.mark.parametrize("rule", PATHS)
def test_integrated_gradients_of_a_linear_network_are_exact_in_one_step(rule):
    torch.manual_seed(0)
    model, x = nn.Sequential(nn.Flatten(), nn.Linear(12, 3)).double().eval(), network("linear")[1]
    classes = predicted(model, x)
    found = relevance("integrated_gradients", model, x, classes, steps=1, baseline=0.5, rule=rule)
    assert torch.allclose(found, (x - 0.5) * by_autograd(model, x, classes), atol=1e-12)


@pytest.mark.parametrize("name", STACKS)
def test_gradient_times_input_is_complete_where_there_are_no_biases(name):
    model, x = network(name, bias=False)
    classes = predicted(model, x)
    total = relevance("gradient_times_input", model, x, classes).sum((1, 2, 3))
    assert torch.allclose(total, logit(model, x, classes), atol=1e-12)


@pytest.mark.parametrize("of", OF)
def test_smooth_grad_is_the_mean_over_the_noise_that_its_generator_draws(case, of):
    model, x, classes = case
    generator, spread = torch.Generator().manual_seed(5), 0.2 * (x.amax((1, 2, 3)) - x.amin((1, 2, 3)))
    noisy = [x + spread[:, None, None, None] * torch.randn(x.shape, generator=generator, dtype=x.dtype) for _ in range(4)]
    expected = sum(by_autograd(model, place, classes, of) for place in noisy) / 4
    found = relevance("smooth_grad", model, x, classes, seed=5, noise=0.2, samples=4, of=of)
    assert torch.allclose(found, expected, rtol=1e-9, atol=1e-13)


def test_smooth_grad_converges_to_captums():
    model, x = network("linear")
    x = x[:1]  # captum's noise is as large for all images as it is told to be
    classes = predicted(model, x)
    torch.manual_seed(0)
    tunnel, spread = NoiseTunnel(Saliency(model)), float(x.amax() - x.amin())
    theirs = tunnel.attribute(
        x.clone().requires_grad_(), nt_samples=4000, stdevs=0.3 * spread, target=classes, abs=False
    ).detach()
    found = relevance("smooth_grad", model, x, classes, noise=0.3, samples=4000)
    plain = relevance("gradient", model, x, classes)
    assert (found - theirs).abs().max() < 0.05 * theirs.abs().max() < (found - plain).abs().max()


def test_an_image_without_contrast_gets_no_noise():
    model, x = network("conv")
    grey, classes = torch.full_like(x, 0.3), torch.zeros(len(x), dtype=torch.int64)
    found = relevance("smooth_grad", model, grey, classes, samples=3)
    assert torch.allclose(found, by_autograd(model, grey, classes), atol=1e-12)


@pytest.mark.parametrize("of", ["logit", "probability"])
@pytest.mark.parametrize(("window", "stride"), [(3, 1), (2, 2), (3, 2), (1, 1)])
def test_occlusion_is_what_the_network_loses(case, window, stride, of):
    model, x, classes = case
    x, classes = x[:2], classes[:2]
    total, times = torch.zeros_like(x[:, :1]), torch.zeros_like(x[:1, :1])
    _, _, height, width = x.shape
    for top in range(1 - window, height, stride):
        for left in range(1 - window, width, stride):
            tried, inside = x.clone(), torch.zeros_like(times)
            for row in range(max(top, 0), min(top + window, height)):
                for column in range(max(left, 0), min(left + window, width)):
                    tried[:, :, row, column] = 0.5
                    inside[0, 0, row, column] = 1
            with torch.no_grad():
                lost = [
                    quantity(of, model(x[[n]]), classes[[n]]) - quantity(of, model(tried[[n]]), classes[[n]]) for n in (0, 1)
                ]
            total += torch.stack(lost)[:, None, None, None] * inside
            times += inside
    found = relevance("occlusion", model, x, classes, window=window, stride=stride, covered=0.5, of=of)
    assert times.min() >= 1
    assert torch.allclose(found, total / times, atol=1e-12)


@pytest.mark.parametrize("window", [1, 2])
def test_occlusion_is_captums_where_its_windows_end_too(case, window):
    """captum has no windows beyond the edge, so pixels near it are covered by fewer of them there."""
    model, x, classes = case
    theirs = Occlusion(model).attribute(x.clone(), (x.shape[1], window, window), target=classes, baselines=0.5)
    found = relevance("occlusion", model, x, classes, window=window, covered=0.5)
    height, width = x.shape[2:]
    inside = (..., slice(window - 1, height - window + 1), slice(window - 1, width - window + 1))
    assert found[inside].numel() > 0
    # In single precision, as captum gives it.
    assert torch.allclose(found[inside], theirs[:, :1][inside].double(), atol=1e-6)


def test_occlusion_of_a_linear_network_without_channels_apart_is_its_gradient_times_what_is_taken():
    torch.manual_seed(0)
    model, x = nn.Sequential(nn.Flatten(), nn.Linear(12, 3)).double().eval(), network("linear")[1]
    classes = predicted(model, x)
    found = relevance("occlusion", model, x, classes, window=1)
    assert torch.allclose(found, relevance("gradient_times_input", model, x, classes), atol=1e-12)


def test_windows_with_pixels_between_them_are_refused():
    model, x = network("conv")
    with pytest.raises(WindowError, match=r"stride 3 is more than window 2, .* at most 2"):
        relevance("occlusion", model, x, predicted(model, x), window=2, stride=3)
