"""Attacks on explanations do what they are for, in double precision."""

from __future__ import annotations

from functools import cache

import pytest
import torch

from resilience import catalog, data, lrp_rules, networks
from resilience.attacks import saliency
from resilience.calls import LayerError
from resilience.datasets import bundled
from resilience.explanations import lrp
from resilience.graphs import graphs_of
from resilience.measures.channels import of_pixels
from resilience.measures.top_pixels import top_pixels
from resilience.posterior import point, predict
from resilience.training.fit import Task
from tests.conftest import double_network, noisy_posterior
from tests.library.lrp_stacks import STACKS, images

ATTACKS = ("saliency_top_k", "saliency_region", "saliency_target")
EPSILON = 0.1


@cache
def trained() -> tuple[torch.nn.Sequential, torch.Tensor]:
    """A network that has learnt scikit-learn's digits, and test images."""
    arrays = data.split(bundled.digits(), 0.1, None, "digits")
    learning = {name: array for name, array in arrays.items() if not name.startswith("test.")}
    task = Task.of({"architecture": "conv", "width": 16}, learning, 0, None, torch.device("cpu"))
    fit = catalog.load("trainings", "deterministic")(task, epochs=15, learning_rate=0.01)
    network = task.network()
    network.load_state_dict(fit.weights)
    return network.double(), torch.from_numpy(arrays["test.x"]).double()


def victim(draws: int, count: int = 30):
    network, x = trained()
    return (noisy_posterior(network, draws, noise=0.02) if draws > 1 else point(network)), x[:count]


def attack(name: str, posterior, x: torch.Tensor, seed: int = 0, **options) -> torch.Tensor:
    settings = {"epsilon": EPSILON, "steps": 15} | options
    y = predict(posterior, x).argmax(1)
    make = catalog.bound("attacks", {"method": name, **settings})
    return make(posterior=posterior, x=x, y=y, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("stack", STACKS)
def test_the_map_with_a_graph_is_the_map(stack):
    build, shape = STACKS[stack]
    network, x = double_network(build(True), 0), images(shape, 0)
    posterior = noisy_posterior(network, 3)
    output = networks.learnable_layers(network)[-1]
    fast = lrp.heat_maps(posterior, x, predict(posterior, x).argmax(1), lrp_rules.epsilon(epsilon=0.1), (output,))[output]
    found = saliency.explanation(posterior, x, 0.1)
    torch.testing.assert_close(found, fast, rtol=0, atol=1e-12 * max(1, float(fast.abs().max())))


@pytest.mark.parametrize("draws", [1, 4])
def test_gradient_draw_by_draw_is_that_of_the_whole(draws):
    posterior, x = victim(draws, count=3)
    prediction = predict(posterior, x)
    target = saliency.explanation(posterior, x.flip(0), 0.1)

    def dissimilarity(relevance):
        return -(relevance - target).flatten(1).square().sum(1)

    search = saliency.Search(EPSILON, 1, None, 1, sharpness=5.0, stabiliser=0.1, prediction_weight=0.7)
    attacked = (x + 0.02).clamp(0, 1)
    found = saliency._gradient(posterior, attacked, prediction, dissimilarity, search)
    variable = attacked.clone().requires_grad_()
    drawn = graphs_of(posterior, tuple(x.shape[1:]))
    parts = [saliency.relevance_of(graph, variable, prediction.argmax(1), 0.1, 5.0) for graph in drawn]
    # The penalty is on the prediction of the network itself, but its slope is passed through the rounded one.
    pull = 2 * 0.7 * (predict(posterior, attacked) - prediction)
    mean = torch.stack([relevance for relevance, _ in parts]).mean(0)
    rounded = torch.stack([logits.softmax(1) for _, logits in parts]).mean(0)
    (expected,) = torch.autograd.grad(dissimilarity(mean).sum() - (pull * rounded).sum(), variable)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-10 * float(expected.abs().max()))


@pytest.mark.parametrize("draws", [1, 5])
@pytest.mark.parametrize("name", ATTACKS)
def test_predictions_stay_and_changes_are_bounded(name, draws):
    posterior, x = victim(draws)
    found = attack(name, posterior, x)
    assert torch.equal(predict(posterior, found).argmax(1), predict(posterior, x).argmax(1))
    assert float((found - x).abs().max()) <= EPSILON + 1e-12
    assert float(found.min()) >= 0
    assert float(found.max()) <= 1
    assert torch.equal(found, attack(name, posterior, x))


@pytest.mark.parametrize("images", [2, 3, 50])
def test_no_image_is_its_own_target(images):
    for seed in range(20):
        other = saliency.another_image(images, torch.Generator().manual_seed(seed))
        assert sorted(other.tolist()) == list(range(images))
        assert not bool((other == torch.arange(images)).any())


def test_a_map_that_shrinks_is_no_less_inside():
    """Else an attack would lower the relevance of all pixels alike, which changes nothing that an explanation says."""
    posterior, x = victim(1)
    relevance = saliency.explanation(posterior, x, 0.1)
    top = torch.from_numpy(top_pixels(relevance.detach().numpy(), 20)).to(x)
    share = saliency.share_inside(relevance, top)
    torch.testing.assert_close(saliency.share_inside(relevance / 7, top), share)
    assert bool((share < saliency.share_inside(relevance * (1 + top), top)).all())


@pytest.mark.parametrize("name", ATTACKS)
def test_of_grey_images_nothing_is_summed(name):
    posterior, x = victim(1, count=4)
    assert torch.equal(*(attack(name, posterior, x, steps=3, channels=channels) for channels in ("sum", "each")))


def test_a_pixel_of_a_colour_image_is_attacked_as_one():
    """Each attack lowers what it is about further than the other does: the share of whole pixels, or of channels."""
    layers = [torch.nn.Conv2d(3, 8, 3), torch.nn.LeakyReLU(), torch.nn.Flatten(), torch.nn.Linear(8 * 36, 5)]
    posterior, x = point(double_network(layers, 0)), torch.rand(40, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    x = x.double()
    clean = saliency.explanation(posterior, x, 0.1)
    left = {}
    for attacked_by in ("sum", "each"):
        found = saliency.explanation(posterior, attack("saliency_top_k", posterior, x, channels=attacked_by), 0.1)
        for judged_by in ("sum", "each"):
            top = torch.from_numpy(top_pixels(of_pixels(clean, judged_by).numpy(), 20)).to(x)
            left[attacked_by, judged_by] = float(saliency.share_inside(of_pixels(found, judged_by), top).mean())
    assert left["sum", "sum"] < left["each", "sum"]
    assert left["each", "each"] < left["sum", "each"]


def test_a_region_holds_whole_pixels(monkeypatch):
    seen = []

    def watch(relevance, region):
        seen.append((relevance.shape, region.shape, int(region[0].sum())))
        return (relevance.abs() * region).flatten(1).sum(1)

    monkeypatch.setattr(saliency, "share_inside", watch)
    posterior = point(double_network([torch.nn.Flatten(), torch.nn.Linear(3 * 64, 4)], 0))
    x = torch.full((2, 3, 8, 8), 0.5, dtype=torch.float64)
    attack("saliency_region", posterior, x, steps=1, region=25)
    assert set(seen) == {((2, 1, 8, 8), (2, 1, 8, 8), 16)}


def test_restarts_never_lose_what_was_found():
    posterior, x = victim(1)
    top = torch.from_numpy(top_pixels(saliency.explanation(posterior, x, 0.1).numpy(), 20))

    def left(images):
        return saliency.share_inside(saliency.explanation(posterior, images, 0.1), top)

    once, thrice = (attack("saliency_top_k", posterior, x, restarts=restarts) for restarts in (1, 3))
    assert bool((left(thrice) <= left(once) + 1e-12).all())


def test_other_layers_are_refused_by_name():
    network = double_network([torch.nn.Flatten(), torch.nn.Linear(64, 4), torch.nn.Softmax(1)], 0)
    with pytest.raises(LayerError, match=r"layer 2 \(Softmax\) computes softmax"):
        attack("saliency_top_k", point(network), images((1, 8, 8), 0))
