"""Attacks on explanations do what they are for, in double precision."""

from __future__ import annotations

from functools import cache

import pytest
import torch

from resilience import catalog, data, lrp, networks
from resilience.attacks import saliency
from resilience.datasets import bundled
from resilience.posterior import point, predict
from resilience.robustness import lrp_robustness, top_pixels
from resilience.stacks import LayerError
from resilience.training.fit import Task
from tests.conftest import double_network, noisy_posterior
from tests.library.test_lrp import STACKS, images

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
    return catalog.load("attacks", name)(posterior, x, y, torch.Generator().manual_seed(seed), **settings)


def changed_at_random(posterior, x: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """Noise of the same mean size as an attack's, image by image."""
    signs = torch.randn(x.shape, generator=torch.Generator().manual_seed(5), dtype=x.dtype).sign()
    return (x + signs * (like - x).abs().flatten(1).mean(1)[:, None, None, None]).clamp(0, 1)


@pytest.mark.parametrize("stack", STACKS)
def test_the_map_with_a_graph_is_the_map(stack):
    build, shape = STACKS[stack]
    network, x = double_network(build(True), 0), images(shape, 0)
    posterior = noisy_posterior(network, 3)
    output = networks.learnable_layers(network)[-1]
    fast = lrp.heat_maps(posterior, x, predict(posterior, x).argmax(1), lrp.epsilon(epsilon=0.1), (output,))[output]
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
    parts = [saliency.relevance_of(posterior.network, draw, variable, prediction.argmax(1), 0.1, 5.0) for draw in posterior]
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


@pytest.mark.parametrize("draws", [1, 5])
def test_top_k_takes_more_relevance_from_the_top_pixels_than_noise_does(draws):
    posterior, x = victim(draws)
    found = attack("saliency_top_k", posterior, x)
    noise = changed_at_random(posterior, x, found)
    # Noise changes predictions, too, and then explains another class: only points where it does not are compared.
    kept = predict(posterior, noise).argmax(1) == predict(posterior, x).argmax(1)
    top = torch.from_numpy(top_pixels(saliency.explanation(posterior, x, 0.1).numpy(), 20))

    def left(images):
        return float((saliency.explanation(posterior, images, 0.1).abs() * top).flatten(1).sum(1)[kept].mean())

    assert left(x) - left(found) > 2 * abs(left(x) - left(noise))
    maps = [saliency.explanation(posterior, part, 0.1).numpy()[kept.numpy()] for part in (x, found, noise)]
    assert lrp_robustness(maps[0], maps[1], 20).mean() < lrp_robustness(maps[0], maps[2], 20).mean()


@pytest.mark.parametrize("draws", [1, 5])
def test_region_gathers_more_relevance_than_noise_does(draws):
    posterior, x = victim(draws)
    found = attack("saliency_region", posterior, x)
    order = torch.rand(x.shape, generator=torch.Generator().manual_seed(0)).flatten(1).argsort(1).argsort(1).view(x.shape)
    inside = order < 0.2 * x[0].numel()

    def share(images):
        sizes = saliency.explanation(posterior, images, 0.1).abs()
        return float(((sizes * inside).flatten(1).sum(1) / sizes.flatten(1).sum(1)).mean())

    gained = share(found) - share(x)
    assert gained > 3 * abs(share(changed_at_random(posterior, x, found)) - share(x))
    assert gained > 0.02


@pytest.mark.parametrize("draws", [1, 5])
def test_target_comes_nearer_to_the_other_map_than_noise_does(draws):
    posterior, x = victim(draws)
    found = attack("saliency_target", posterior, x)
    other = saliency.another_image(len(x), torch.Generator().manual_seed(0))
    target = saliency.explanation(posterior, x[other], 0.1)

    def distance(images):
        return float((saliency.explanation(posterior, images, 0.1) - target).flatten(1).norm(dim=1).mean())

    assert distance(x) - distance(found) > 3 * abs(distance(x) - distance(changed_at_random(posterior, x, found)))


@pytest.mark.parametrize("images", [2, 3, 50])
def test_no_image_is_its_own_target(images):
    for seed in range(20):
        other = saliency.another_image(images, torch.Generator().manual_seed(seed))
        assert sorted(other.tolist()) == list(range(images))
        assert not bool((other == torch.arange(images)).any())


def test_restarts_never_lose_what_was_found():
    posterior, x = victim(1)
    top = torch.from_numpy(top_pixels(saliency.explanation(posterior, x, 0.1).numpy(), 20))

    def left(images):
        return (saliency.explanation(posterior, images, 0.1).abs() * top).flatten(1).sum(1)

    once, thrice = (attack("saliency_top_k", posterior, x, restarts=restarts) for restarts in (1, 3))
    assert bool((left(thrice) <= left(once) + 1e-12).all())


def test_other_layers_are_refused_by_name():
    network = double_network([torch.nn.Flatten(), torch.nn.Linear(64, 4), torch.nn.Tanh()], 0)
    with pytest.raises(LayerError, match="layer 2 is Tanh"):
        attack("saliency_top_k", point(network), images((1, 8, 8), 0))
