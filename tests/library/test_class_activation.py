"""Class activation maps in double precision: against captum, their formulas written out slowly, and one another."""

from __future__ import annotations

import math

import pytest
import torch
import yaml
from captum.attr import LayerGradCam
from torch import nn

from resilience import networks
from resilience.calls import LayerError
from resilience.config import ConfigError, check
from tests.conftest import ROOT
from tests.library.explained_networks import CONVOLUTIONAL, POOLED, network, predicted, relevance
from tests.library.lrp_stacks import images


def last_maps(model, x):
    """A [N, K, h, w] of the last convolution after its activation, the layers behind it, and its place."""
    last = max(index for index, layer in enumerate(model) if isinstance(layer, nn.Conv2d))
    behind = last + 1 + isinstance(model[last + 1], nn.ReLU | nn.LeakyReLU)
    return model[:behind](x).detach(), model[behind:], behind - 1


def enlarged(small, x, how="bilinear"):
    return nn.functional.interpolate(small, size=x.shape[2:], mode=how)


def plus_plus(maps, g):
    """Eq. 19 of Grad-CAM++ as it is written, place by place, before the ReLU."""
    images_, channels, height, width = maps.shape
    found = torch.zeros(images_, 1, height, width, dtype=maps.dtype)
    for n in range(images_):
        for k in range(channels):
            weight = 0.0
            for i in range(height):
                for j in range(width):
                    below = 2 * g[n, k, i, j] ** 2 + maps[n, k].sum() * g[n, k, i, j] ** 3
                    if below != 0:
                        weight += g[n, k, i, j] ** 2 / below * max(g[n, k, i, j], 0)
            found[n, 0] += weight * maps[n, k]
    return found


def gradient_at(maps, behind, classes):
    variable = maps.clone().requires_grad_()
    return torch.autograd.grad(behind(variable).gather(1, classes[:, None]).sum(), variable)[0]


@pytest.fixture(params=CONVOLUTIONAL)
def case(request):
    model, x = network(request.param)
    return model, x, predicted(model, x)


@pytest.mark.parametrize("how", ["bilinear", "nearest"])
@pytest.mark.parametrize("negative", ["cut", "kept"])
def test_grad_cam_is_captums(case, negative, how):
    model, x, classes = case
    *_, place = last_maps(model, x)
    layer = LayerGradCam(model, model[place])
    small = layer.attribute(x.clone(), target=classes, relu_attributions=negative == "cut")
    found = relevance("grad_cam", model, x, classes, negative=negative, enlarged=how)
    assert torch.allclose(found, enlarged(small, x, how), atol=1e-12)


def test_grad_cam_is_its_formula(case):
    model, x, classes = case
    maps, behind, _ = last_maps(model, x)
    weights = gradient_at(maps, behind, classes).mean((2, 3))
    small = torch.einsum("nk,nkhw->nhw", weights, maps)[:, None]
    assert small.abs().max() > 0
    assert torch.allclose(relevance("grad_cam", model, x, classes, negative="kept"), enlarged(small, x), atol=1e-12)


@pytest.mark.parametrize("how", ["bilinear", "nearest"])
@pytest.mark.parametrize("negative", ["cut", "kept"])
def test_grad_cam_plus_plus_is_its_formula(case, negative, how):
    model, x, classes = case
    maps, behind, _ = last_maps(model, x)
    small = plus_plus(maps, gradient_at(maps, behind, classes))
    assert small.abs().max() > 0
    expected = enlarged(small.clamp(min=0) if negative == "cut" else small, x, how)
    found = relevance("grad_cam_plus_plus", model, x, classes, negative=negative, enlarged=how)
    assert torch.allclose(found, expected, atol=1e-12)


def test_grad_cam_plus_plus_of_small_derivatives_is_not_blank():
    """In single precision the powers of 1e-22 that the formula is written with are zero."""
    model, x = network("pooled")
    with torch.no_grad():
        model[-1].weight *= 1e-22
    classes = predicted(model, x)
    maps, behind, _ = last_maps(model, x)
    expected = enlarged(plus_plus(maps, gradient_at(maps, behind, classes)).clamp(min=0), x)
    found = relevance("grad_cam_plus_plus", model.float(), x.float(), classes)
    assert found.max() > 1e-24
    assert torch.allclose(found.double(), expected, rtol=1e-4, atol=1e-28)


@pytest.mark.parametrize("how", ["bilinear", "nearest"])
@pytest.mark.parametrize("name", POOLED)
def test_cam_sums_to_the_logit_and_is_grad_cam_where_the_head_is_pooled(name, how):
    model, x = network(name)
    classes = predicted(model, x)
    maps, _, _ = last_maps(model, x)
    # The weight of Grad-CAM is the mean derivative, that of the head divided by the number of places: CAM with its 1 / u.
    small = (maps * model[-1].weight[classes][:, :, None, None]).sum(1, keepdim=True).detach() / maps[0, 0].numel()
    assert torch.allclose(small.sum((1, 2, 3)), model(x).gather(1, classes[:, None])[:, 0], atol=1e-12)
    found = relevance("cam", model, x, classes, enlarged=how)
    assert torch.allclose(found, enlarged(small, x, how), atol=1e-12)
    assert torch.allclose(relevance("grad_cam", model, x, classes, negative="kept", enlarged=how), found, atol=1e-12)


@pytest.mark.parametrize("bias", [False, True])
def test_cam_looks_at_what_is_pooled_globally(bias):
    """Boopathy's "Pool" has a max-pooling before; a bias of the linear layer belongs to no place."""
    torch.manual_seed(0)
    layers = [nn.Conv2d(2, 4, 3, padding=1), nn.MaxPool2d(2), nn.AvgPool2d((4, 3)), nn.Flatten(), nn.Linear(4, 3, bias=bias)]
    model, x = nn.Sequential(*layers).double().eval(), images((2, 8, 6), seed=3)
    classes = predicted(model, x)
    expected = model(x).gather(1, classes[:, None])[:, 0] - (model[-1].bias[classes] if bias else 0)
    # Each place becomes 2 × 2 pixels.
    found = relevance("cam", model, x, classes, enlarged="nearest").sum((1, 2, 3)) / 4
    assert torch.allclose(found, expected, atol=1e-12)


def ending_in(*layers):
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 3, 3, padding=1), nn.ReLU(), *layers).double().eval(), images((1, 8, 8), seed=3)


@pytest.mark.parametrize(
    "model",
    [
        network("conv"),
        network("linear"),
        ending_in(nn.AvgPool2d(5), nn.Flatten(), nn.Linear(3, 3)),  # a corner of the maps alone
        ending_in(nn.AvgPool2d(8, padding=1), nn.Flatten(), nn.Linear(3, 3)),  # a row and a column are left out
        ending_in(nn.MaxPool2d(8), nn.Flatten(), nn.Linear(3, 3)),
        ending_in(nn.AvgPool2d(8), nn.Flatten(), nn.Linear(3, 4), nn.Linear(4, 3)),
        ending_in(nn.AvgPool2d(8), nn.Flatten(), nn.Linear(3, 3), nn.ReLU()),
        ending_in(nn.AvgPool2d(8), nn.Flatten()),
    ],
)
def test_cam_is_refused_where_the_maps_are_not_pooled_globally_for_one_linear_layer(model):
    built, x = model
    with pytest.raises(LayerError, match=r"average pooling of whole maps .*by grad_cam"):
        relevance("cam", built, x, torch.zeros(len(x), dtype=torch.int64))


@pytest.mark.parametrize("method", ["grad_cam", "grad_cam_plus_plus"])
def test_maps_of_a_network_without_a_convolution_are_refused(method):
    for model in (network("linear")[0], nn.Sequential(nn.AvgPool2d(2), nn.Flatten(), nn.Linear(2, 3)).double()):
        with pytest.raises(LayerError, match="no convolution"):
            relevance(method, model, images((1, 3, 4), seed=2), torch.zeros(4, dtype=torch.int64))


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 7, 5), (1, 16, 18)])
def test_the_pooled_network_has_what_class_activation_maps_need(shape):
    model = networks.build({"architecture": "pooled", "width": 6}, shape, 3)
    found = relevance("cam", model, images(shape, seed=1).float(), torch.zeros(4, dtype=torch.int64))
    assert found.shape == (4, 1, *shape[1:])
    assert math.prod(model[:6](torch.zeros(1, *shape)).shape[2:]) == 1


@pytest.mark.parametrize(
    ("method", "architecture", "lacks"),
    [
        ("cam", "conv", r"cam needs global average pooling before one linear layer"),
        ("cam", "fc2", r"cam needs global average pooling before one linear layer"),
        ("grad_cam", "fc2", r"grad_cam needs a convolution"),
        ("grad_cam_plus_plus", "fc2", r"grad_cam_plus_plus needs a convolution"),
    ],
)
def test_a_config_is_refused_whose_network_lacks_what_an_explanation_needs(method, architecture, lacks):
    """Before anything is trained; and the network that would do is named."""
    sentence = rf"explanations.mine: {lacks}, which networks.plain \({architecture}\) has not; explain able by it"
    with pytest.raises(ConfigError, match=sentence):
        check(*config_of(method, architecture))


@pytest.mark.parametrize(
    ("method", "architecture"), [("grad_cam", "conv"), ("cam", "pooled"), ("grad_cam_plus_plus", "pooled")]
)
def test_a_config_is_accepted_whose_network_has_it(method, architecture):
    assert check(*config_of(method, architecture))["explanations"]["mine"]["method"] == method


def config_of(method, architecture):
    """The config of all explanations with one of them alone, on a network of some architecture; and the schema."""
    config = yaml.safe_load((ROOT / "config/explanations.yaml").read_text(encoding="utf-8"))
    schema = yaml.safe_load((ROOT / "workflow/schemas/config.schema.yaml").read_text(encoding="utf-8"))
    config["networks"] = {"plain": {"architecture": architecture}, "able": {"architecture": "pooled"}}
    config["explanations"] = {"mine": {"method": method}}
    config["experiments"]["all"] |= {"networks": ["plain"], "explanations": ["mine"]}
    config["claims"]["explanation"] = "mine"
    del config["figures"]
    return config, schema
