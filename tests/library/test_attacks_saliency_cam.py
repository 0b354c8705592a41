"""The attack on class activation maps against its formulas by automatic differentiation, and beside noise."""

from __future__ import annotations

import pytest
import torch

from resilience import catalog, computing
from resilience.architectures import stacks
from resilience.attacks import saliency_cam
from resilience.attacks.ball import AttackError
from resilience.attacks.saliency_cam import MeanMaps
from resilience.calls import LayerError
from resilience.explanations.class_activation import cam
from resilience.graphs import graphs_of
from resilience.posterior import point, predict
from tests.conftest import double_network, noisy_posterior
from tests.library.lrp_stacks import STACKS, images
from tests.library.trained_digits import trained

SHAPE = (2, 8, 8)


def victim(draws=3):
    posterior = noisy_posterior(double_network(list(stacks.pooled(SHAPE, 3, width=4)), 0), draws)
    x = images(SHAPE, 0, count=7)
    return posterior, x, torch.arange(7) % 3


def slow_maps(posterior, x, y):
    """M by its definition, with a graph."""
    maps = []
    for draw in posterior:
        body = {name: value for name, value in draw.items() if not name.startswith("7.")}
        activations = torch.func.functional_call(posterior.network[:-3], body, (x,))
        maps.append((draw["7.weight"][y][:, :, None, None] * activations).mean(1) * activations.shape[1])
    return torch.stack(maps).mean(0) / maps[0][0].numel()


def attack(posterior, x, y, seed=0, **options):
    make = catalog.bound("attacks", {"method": "saliency_cam", **options})
    return make(posterior=posterior, x=x, y=y, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("draws", [1, 3])
def test_the_map_under_attack_is_the_explanation(draws):
    posterior, x, y = victim(draws)
    found = MeanMaps(posterior, x).of(x, y)
    torch.testing.assert_close(found, slow_maps(posterior, x, y), rtol=0, atol=1e-12)
    enlarged = torch.stack([cam(stack, x, y, enlarged="nearest") for stack in graphs_of(posterior, SHAPE)]).mean(0)
    torch.testing.assert_close(found.repeat_interleave(2, 1).repeat_interleave(2, 2), enlarged[:, 0], rtol=0, atol=1e-12)


@pytest.mark.parametrize("draws", [1, 3])
@pytest.mark.parametrize("discrepancy", ["top_places", "one_class"])
def test_gradients_are_those_of_automatic_differentiation(discrepancy, draws):
    posterior, x, y = victim(draws)
    clean, attacked = slow_maps(posterior, x, y), (x + 0.1 * images(SHAPE, 1, count=7)).clamp(0, 1)
    variable = attacked.clone().requires_grad_()
    maps = slow_maps(posterior, variable, y)
    if discrepancy == "top_places":
        top = clean.flatten(1).topk(5, 1).indices
        expected = -maps.flatten(1).gather(1, top).sum(1)
        dissimilarity = saliency_cam._off_the_top(clean, 5)
    else:
        expected = (maps - clean).abs().sum((1, 2)) / 2
        dissimilarity = saliency_cam._one_class(clean)
    (slope,) = torch.autograd.grad(expected.sum(), variable)
    assert (slope != 0).any()
    torch.testing.assert_close(dissimilarity(maps)[0], expected, rtol=0, atol=1e-12)
    found = MeanMaps(posterior, x).gradient(attacked, y, dissimilarity)
    torch.testing.assert_close(found, slope, rtol=0, atol=1e-12)


@pytest.mark.parametrize("draws", [1, 3])
def test_the_label_overtaken_is_pulled_back_by_its_weight(draws):
    """One step of size one along the whole gradient, from a start that the test knows."""
    posterior, x, y = victim(draws)
    options = {"epsilon": 0.1, "steps": 1, "step_size": 0.05, "discrepancy": "one_class", "prediction_weight": 0.7}
    start = (x + 0.1 * (2 * torch.rand(x.shape, generator=torch.Generator().manual_seed(0)).to(x) - 1)).clamp(0, 1)
    variable = start.clone().requires_grad_()
    overtaken = 0
    for draw in posterior:
        logits = torch.func.functional_call(posterior.network, draw, (variable,))
        others = logits.scatter(1, y[:, None], -torch.inf).amax(1)
        overtaken = overtaken + (others - logits.gather(1, y[:, None])[:, 0]).clamp(min=0) / len(posterior)
    aim = (slow_maps(posterior, variable, y) - slow_maps(posterior, x, y)).abs().sum((1, 2)) / 2 - 0.7 * overtaken
    (slope,) = torch.autograd.grad(aim.sum(), variable)
    stepped = torch.minimum(torch.maximum(start + 0.05 * slope.sign(), x - 0.1), x + 0.1).clamp(0, 1)
    stays = predict(posterior, stepped).argmax(1) == predict(posterior, x).argmax(1)
    expected = torch.where(stays[:, None, None, None], stepped, x)
    assert stays.any()
    torch.testing.assert_close(attack(posterior, x, y, **options), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("discrepancy", ["top_places", "one_class"])
@pytest.mark.parametrize("draws", [1, 3])
def test_it_changes_the_map_more_than_noise_and_no_prediction(discrepancy, draws):
    posterior, x, _ = trained(draws, "pooled")
    y = predict(posterior, x).argmax(1)
    options = {"epsilon": 0.05, "steps": 20, "discrepancy": discrepancy}
    found = attack(posterior, x, y, **options)
    noise = catalog.load("attacks", "noise")(x, torch.Generator().manual_seed(1), epsilon=0.05)
    assert torch.equal(predict(posterior, found).argmax(1), y)
    assert (found.double() - x.double()).abs().max() <= 0.05
    maps = MeanMaps(posterior, x)
    clean = maps.of(x, y)
    value = saliency_cam._off_the_top(clean, 8) if discrepancy == "top_places" else saliency_cam._one_class(clean)
    ahead = value(maps.of(found, y))[0] - value(maps.of(noise, y))[0]
    assert float(ahead.mean()) > 4 * float(ahead.std()) / len(ahead) ** 0.5
    again = attack(posterior, x, y, **options, restarts=3)
    assert (value(maps.of(again, y))[0] >= value(maps.of(found, y))[0] - 1e-6).all()


def test_any_number_of_threads_gives_the_same(monkeypatch):
    posterior, x, y = victim()
    monkeypatch.setattr("resilience.attacks.saliency_cam.chunk_of", lambda *_: 2)
    found = []
    for threads in (1, 3):
        monkeypatch.setattr(computing, "_workers", threads)
        found.append(attack(posterior, x, y, epsilon=0.1, steps=4, prediction_weight=1.0))
    assert torch.equal(*found)


def test_what_has_no_such_map_or_not_so_many_places_is_refused():
    build, shape = STACKS["conv"]
    with pytest.raises(LayerError, match="such as pooled; attack this one by saliency_top_k"):
        attack(point(double_network(build(True), 0)), images(shape, 0), torch.zeros(4, dtype=torch.long), epsilon=0.1)
    posterior, x, y = victim()
    with pytest.raises(AttackError, match="places: 17 of a class activation map that has 16; take fewer"):
        attack(posterior, x, y, epsilon=0.1, places=17)
