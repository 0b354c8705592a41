"""Deletion, insertion and randomisation against slow forms, and whether they find out maps that say nothing."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy import ndimage, stats
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from resilience import computing, posterior
from resilience.measures import maps, sanity
from resilience.networks import logits
from resilience.posterior import Posterior
from tests.conftest import double_network, noisy_posterior

SHAPE, POINTS, CLASSES = (2, 4, 5), 5, 3
PIXELS = 4 * 5


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def small_posterior(draws: int = 3) -> Posterior:
    layers = [nn.Conv2d(2, 3, 3), nn.LeakyReLU(), nn.Flatten(), nn.Linear(18, CLASSES)]
    return noisy_posterior(double_network(layers, 1), draws, noise=0.5)


X, EXPLAINED = random(POINTS, *SHAPE), torch.arange(POINTS) % CLASSES
RELEVANCE = random(POINTS, *SHAPE, seed=1) - 0.5


def slow_area(network: Posterior, start: Tensor, end: Tensor, sizes: Tensor, counts: list[int]) -> list[float]:
    """One image, one draw and one pixel at a time."""
    found = []
    for image, target, size, label in zip(start, end, sizes, EXPLAINED, strict=True):
        order = sorted(range(PIXELS), key=lambda pixel, size=size: -float(size[pixel // 5, pixel % 5]))
        curve = []
        for count in counts:
            changed = image.clone()
            for pixel in order[:count]:
                changed[:, pixel // 5, pixel % 5] = target[:, pixel // 5, pixel % 5]
            of_draws = [logits(network.network, draw, changed[None]).softmax(1)[0, label] for draw in network]
            curve.append(float(sum(of_draws) / len(of_draws)))
        parts = zip(counts, counts[1:], curve, curve[1:], strict=False)
        found.append(sum((b - a) / PIXELS * (p + q) / 2 for a, b, p, q in parts))
    return found


@pytest.mark.parametrize(("steps", "counts"), [(1, [0, 20]), (3, [0, 6, 13, 20]), (100, list(range(21)))])
def test_deletion_and_insertion_are_areas_of_curves(steps, counts):
    network, black = small_posterior(), torch.zeros_like(X)
    sizes = RELEVANCE.sum(1)
    found = sanity.deletion(network, X, RELEVANCE, EXPLAINED, generator(), steps=steps)
    assert np.allclose(found, slow_area(network, X, black, sizes, counts), rtol=0, atol=1e-12)
    found = sanity.insertion(network, X, RELEVANCE, EXPLAINED, generator(), steps=steps, baseline=0.0)
    assert np.allclose(found, slow_area(network, black, X, sizes, counts), rtol=0, atol=1e-12)


def test_pixels_may_be_ranked_by_size():
    network, counts = small_posterior(), list(range(PIXELS + 1))
    found = sanity.deletion(network, X, RELEVANCE, EXPLAINED, generator(), steps=PIXELS, values="absolute")
    assert np.allclose(found, slow_area(network, X, torch.zeros_like(X), RELEVANCE.sum(1).abs(), counts))


@pytest.mark.parametrize("baseline", ["mean", "blur", 0.25])
def test_baselines(baseline):
    network, counts = small_posterior(), [0, 5, 10, 15, 20]
    channels = [
        {
            "mean": lambda part: np.full_like(part, part.mean()),
            "blur": lambda part: ndimage.gaussian_filter(part, 5, radius=5),
        }.get(baseline, lambda part: np.full_like(part, 0.25))(part.numpy())
        for image in X
        for part in image
    ]
    replaced = torch.from_numpy(np.array(channels)).view(X.shape)
    found = sanity.insertion(network, X, RELEVANCE, EXPLAINED, generator(), steps=4, baseline=baseline)
    assert np.allclose(found, slow_area(network, replaced, X, RELEVANCE.sum(1), counts), rtol=0, atol=1e-12)


def test_ties_are_in_random_order_and_nothing_else_is():
    network, blank = small_posterior(), torch.zeros_like(X)
    first, second, again = (sanity.deletion(network, X, blank, EXPLAINED, generator(seed)) for seed in (0, 1, 0))
    assert np.array_equal(first, again)
    assert (first != second).all()
    first, second = (sanity.deletion(network, X, RELEVANCE, EXPLAINED, generator(seed)) for seed in (0, 1))
    assert np.array_equal(first, second)


def test_tied_pixels_come_behind_those_with_more_and_before_those_with_less():
    """Of channels that cancel, too: here only the sum over channels ranks."""
    relevance = torch.zeros(200, 2, 1, 4, dtype=torch.float64)
    relevance[:, :, 0] = torch.tensor([[5.0, 1.0, -1.0, 0.0], [-5.0, 1.0, -1.0, 0.0]])
    places = sanity._places_in_order(relevance, "signed", generator())
    assert (places[:, 1] == 0).all()
    assert (places[:, 2] == 3).all()
    assert 60 < int((places[:, 0] == 1).sum()) < 140
    by_size = sanity._places_in_order(relevance, "absolute", generator())
    assert sorted(set(by_size[:, 1:3].flatten().tolist())) == [0, 1]
    assert sorted(set(by_size[:, [0, 3]].flatten().tolist())) == [2, 3]


def test_neither_chunks_nor_threads_change_anything(monkeypatch):
    network = small_posterior()
    whole = sanity.deletion(network, X, RELEVANCE, EXPLAINED, generator())
    monkeypatch.setattr(sanity, "chunk_of", lambda *_: 2)
    by_one = sanity.deletion(network, X, RELEVANCE, EXPLAINED, generator())
    computing.prepare(3)
    by_three = sanity.deletion(network, X, RELEVANCE, EXPLAINED, generator())
    assert np.array_equal(by_one, by_three)
    assert np.allclose(whole, by_one, rtol=0, atol=1e-12)


@pytest.mark.parametrize("measure", [sanity.deletion, sanity.insertion])
def test_maps_that_are_not_finite_are_refused(measure):
    relevance = RELEVANCE.clone()
    relevance[2, 0, 1, 1] = torch.nan
    with pytest.raises(maps.RelevanceError, match="1 of 5 clean heat maps"):
        measure(small_posterior(), X, relevance, EXPLAINED, generator())


# ---------------------------------------------------------------- a network that has learnt something


@pytest.fixture(scope="module")
def learnt() -> tuple[Posterior, Tensor, Tensor]:
    """A network trained on the digits of scikit-learn, images that it has not seen, and the classes that it gives them."""
    images, labels = load_digits(return_X_y=True)
    x = torch.from_numpy(images / 16).view(-1, 1, 8, 8)
    y = torch.from_numpy(labels).long()
    network = double_network([nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10)], 0)
    optimiser = torch.optim.Adam(network.parameters(), lr=0.01)
    for _ in range(150):
        optimiser.zero_grad()
        cross_entropy(network(x[:1200]), y[:1200]).backward()
        optimiser.step()
    network.requires_grad_(False)
    seen = posterior.point(network)
    assert posterior.accuracy(seen, x[1200:], y[1200:]) > 0.9
    return seen, x[1200:1500], posterior.predict(seen, x[1200:1500]).argmax(1)


def gradient(network: Posterior, x: Tensor, explained: Tensor) -> Tensor:
    """The mean over draws of ∇ₓ z, by automatic differentiation."""
    image = x.clone().requires_grad_()
    draws = [logits(network.network, weights, image).gather(1, explained[:, None]).sum() for weights in network]
    return torch.autograd.grad(torch.stack(draws).mean(), image)[0]


def gradient_times_input(network: Posterior, x: Tensor, explained: Tensor) -> Tensor:
    """The mean over draws of x · ∇ₓ z."""
    return gradient(network, x, explained) * x


def random_map(x: Tensor, seed: int) -> Tensor:
    return torch.randn(x.shape, generator=generator(seed), dtype=torch.float64)


def standard_error(values: np.ndarray) -> float:
    return float(values.std() / math.sqrt(len(values)))


@pytest.mark.parametrize(("measure", "better"), [(sanity.deletion, -1), (sanity.insertion, 1)])
@pytest.mark.parametrize("baseline", [0.0, "mean", "blur"])
def test_maps_that_say_nothing_are_no_better_than_chance(learnt, measure, better, baseline):
    network, x, explained = learnt

    def area(relevance: Tensor, seed: int = 0) -> np.ndarray:
        return measure(network, x, relevance, explained, generator(seed), baseline=baseline)

    chance = np.mean([area(random_map(x, seed)) for seed in range(4)], 0)
    for says_nothing in (random_map(x, 17), torch.ones_like(x), torch.zeros_like(x)):
        difference = area(says_nothing, 5) - chance
        assert abs(difference.mean()) < 3 * standard_error(difference)
    difference = area(gradient_times_input(network, x, explained)) - chance
    assert better * difference.mean() > 10 * standard_error(difference)
    assert better * difference.mean() > 0.05


def test_a_constant_map_survives_every_attack_and_a_random_one_none(learnt):
    _, x, _ = learnt
    constant = torch.ones_like(x).numpy()
    first, second = random_map(x, 0).numpy(), random_map(x, 1).numpy()
    assert (maps.overlap(constant, constant, top_k=25) == 1).all()
    assert abs(maps.overlap(first, second, top_k=25).mean() - 0.25) < 0.02


# ---------------------------------------------------------------- randomised networks


def explains_by_gradient(x: Tensor, explained: Tensor) -> Callable[[Posterior], Tensor]:
    return lambda network: gradient_times_input(network, x, explained)


def test_an_explanation_of_what_was_learnt_does_not_survive_random_weights(learnt):
    """But black pixels do, in the sizes of a product with the input, which says nothing of the network."""
    network, x, explained = learnt

    def similarity(explanation: Callable[[Posterior, Tensor, Tensor], Tensor], values: str) -> float:
        def explain(other: Posterior) -> Tensor:
            return explanation(other, x, explained)

        found = sanity.randomisation(network, explain(network), explain, generator(), repeats=10, values=values)
        return float(found.mean())

    assert abs(similarity(gradient, "signed")) < 0.1
    assert abs(similarity(gradient, "absolute")) < 0.1
    assert abs(similarity(gradient_times_input, "signed")) < 0.1
    assert similarity(gradient_times_input, "absolute") > 0.8


def test_an_explanation_that_ignores_the_network_is_found_out(learnt):
    network, x, _ = learnt
    edges = x.diff(dim=3, prepend=torch.zeros_like(x[..., :1]))
    found = sanity.randomisation(network, edges, lambda _: edges, generator())
    assert np.allclose(found, 1)


def test_similarity_is_spearmans_of_sizes_averaged_over_random_networks():
    network, relevance = small_posterior(), RELEVANCE
    explain = explains_by_gradient(X, EXPLAINED)
    seen: list[Tensor] = []
    found = sanity.randomisation(
        network, relevance, lambda other: seen.append(explain(other)) or seen[-1], generator(), repeats=3
    )
    expected = [
        [
            stats.spearmanr(abs(one.sum(0)).ravel(), abs(other.sum(0)).ravel()).statistic
            for one, other in zip(relevance, explained, strict=True)
        ]
        for explained in seen
    ]
    assert len(seen) == 3
    assert not torch.equal(seen[0], seen[1])
    assert np.allclose(found, np.mean(expected, 0))


@pytest.mark.parametrize(
    ("layers", "changed"), [(1, {"3.weight", "3.bias"}), (None, {"0.weight", "0.bias", "3.weight", "3.bias"})]
)
def test_layers_are_randomised_from_the_last_one_down(layers, changed):
    network, seen = small_posterior(), []
    sanity.randomisation(network, RELEVANCE, lambda other: seen.append(other) or RELEVANCE, generator(), layers=layers)
    (other,) = seen
    names = network.weights.keys()
    assert {name for name in names if not torch.equal(other.weights[name], network.weights[name])} == changed
    assert {name: value.shape for name, value in other.weights.items()} == {n: v.shape for n, v in network.weights.items()}


def test_the_network_itself_keeps_its_weights():
    network = small_posterior()
    before = {name: value.clone() for name, value in network.weights.items()}
    sanity.randomisation(network, RELEVANCE, lambda _: RELEVANCE, generator())
    assert all(torch.equal(value, network.weights[name]) for name, value in before.items())


def test_random_weights_are_as_large_as_those_of_their_draw():
    draws = torch.stack([torch.randn(40, 50, generator=generator()) * scale + scale for scale in (0.1, 3.0)]).double()
    found = sanity._drawn_like(draws, generator(1))
    assert torch.allclose(found.mean((1, 2)), draws.mean((1, 2)), rtol=0.1)
    assert torch.allclose(found.std((1, 2)), draws.std((1, 2)), rtol=0.1)
    assert abs(np.corrcoef(found[0].flatten(), draws[0].flatten())[0, 1]) < 0.1


def test_the_seed_decides_which_weights_these_are():
    network, explain = small_posterior(), explains_by_gradient(X, EXPLAINED)
    first, second, again = (sanity.randomisation(network, RELEVANCE, explain, generator(seed)) for seed in (0, 1, 0))
    assert np.array_equal(first, again)
    assert (first != second).any()


def test_more_layers_than_there_are_cannot_be_randomised():
    with pytest.raises(sanity.SanityError, match=r"^randomisation: layers: 3 is more than the 2 layers with weights$"):
        sanity.randomisation(small_posterior(), RELEVANCE, lambda _: RELEVANCE, generator(), layers=3)
