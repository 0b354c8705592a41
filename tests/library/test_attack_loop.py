"""The parts of the loop that gradient attacks share: sets, directions, targets, starts and restarts."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from resilience import catalog, computing
from resilience.attacks import loop
from resilience.attacks.ball import NormBall
from resilience.attacks.gradient import LossGradient
from resilience.attacks.water_filling import level
from resilience.posterior import predict
from tests.conftest import double_network, noisy_posterior
from tests.library.dykstra import nearest_in_both
from tests.library.lrp_stacks import STACKS, images
from tests.library.trained_digits import trained


def victim(draws=3, stack="conv"):
    build, shape = STACKS[stack]
    posterior, x = noisy_posterior(double_network(build(True), 0), draws), images(shape, 0, count=8)
    return posterior, x, predict(posterior, x).argmax(1)


def attacked(method, posterior, x, y, seed=0, **options):
    make = catalog.bound("attacks", {"method": method, **options})
    return make(posterior=posterior, x=x, y=y, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("epsilon", [0.0, 0.3, 2.0, 50.0])
def test_a_projection_lies_in_the_ball_and_in_the_unit_interval(order, dtype, epsilon):
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(200, 1, 5, 5, generator=generator, dtype=torch.float64).to(dtype)
    ball = NormBall(x, epsilon, order)
    for points in (x + 3 * torch.randn(x.shape, generator=generator).to(dtype), ball.start(generator)):
        found = ball.project(points)
        assert found.min() >= 0
        assert found.max() <= 1
        assert (found.double() - x.double()).flatten(1).norm(p=order, dim=1).max() <= epsilon


def nearest_in_ball(change: np.ndarray, epsilon: float, order: int) -> np.ndarray:
    """The nearest change [D] of a norm, by its textbook formulas: scaling, and the sorted sums of Duchi et al. 2008."""
    if np.linalg.norm(change, order) <= epsilon:
        return change
    if order == 2:
        return change * epsilon / np.linalg.norm(change)
    ordered = np.sort(np.abs(change))[::-1]
    thresholds = (np.cumsum(ordered) - epsilon) / np.arange(1, len(change) + 1)
    threshold = thresholds[np.flatnonzero(ordered > thresholds)[-1]]
    return np.sign(change) * np.maximum(np.abs(change) - threshold, 0)


@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize("away", [0.3, 3.0])
def test_a_projection_is_the_nearest_point_of_ball_and_unit_interval(order, away):
    generator = torch.Generator().manual_seed(1)
    x = torch.rand((8, 1, 2, 3), generator=generator, dtype=torch.float64)
    x[0], x[1, 0, 0] = 1, 0
    points = x + away * torch.randn(x.shape, generator=generator, dtype=torch.float64)
    found = NormBall(x, 0.4, order).project(points)
    for here, point, origin in zip(found.flatten(1).numpy(), points.flatten(1).numpy(), x.flatten(1).numpy(), strict=True):

        def in_ball(at, origin=origin):
            return origin + nearest_in_ball(at - origin, 0.4, order)

        expected = nearest_in_both(point, in_ball, lambda at: np.clip(at, 0, 1))
        np.testing.assert_allclose(here, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("order", [1, 2])
def test_a_projection_from_outside_leaves_no_size_unused(order):
    """Half of these pixels are black or white, where a change that is clamped last is lost."""
    generator = torch.Generator().manual_seed(2)
    x = (2 * torch.rand((50, 1, 6, 6), generator=generator, dtype=torch.float64) - 0.5).clamp(0, 1)
    epsilon = 1.5
    found = NormBall(x, epsilon, order).project(x + torch.randn(x.shape, generator=generator, dtype=torch.float64))
    sizes = (found - x).flatten(1).norm(p=order, dim=1)
    torch.testing.assert_close(sizes, torch.full_like(sizes, epsilon), rtol=0, atol=1e-6)


def test_a_level_is_the_one_that_bisection_finds():
    generator = torch.Generator().manual_seed(3)
    rate, capacity = torch.rand((2, 40, 30), generator=generator, dtype=torch.float64) ** 3
    rate[0, :5], capacity[1, :5], capacity[2] = 0, 0, 0
    needed = capacity.sum(1) * torch.rand(40, generator=generator, dtype=torch.float64)
    needed[3], needed[4] = 0, 2 * capacity[4].sum()
    found = level(rate, capacity, needed)
    for at, r, c, n in zip(found[:, 0], rate, capacity, needed, strict=True):
        filled = torch.minimum(at * r, c).sum()
        most = torch.where(r > 0, c, 0).sum()
        assert abs(filled - min(n, most)) < 1e-12
        if 0 < n < most:
            assert torch.minimum(0.999 * at * r, c).sum() < n


def test_what_lies_inside_stays():
    x = torch.full((3, 1, 2, 2), 0.5)
    near = x + 0.01
    for order in (1, 2):
        assert torch.equal(NormBall(x, 0.5, order).project(near), near)


@pytest.mark.parametrize(("name", "order"), [("sign", np.inf), ("normalised", 2), ("steepest", 1)])
def test_directions_have_size_one_and_no_other_of_that_size_is_steeper(name, order):
    gradient = images((2, 4, 5), 3, count=20) - 0.5
    step = loop.DIRECTIONS[name](gradient)
    sizes = np.linalg.norm(step.flatten(1).numpy(), order, axis=1)
    assert np.allclose(sizes, 1)
    gain = (step * gradient).flatten(1).sum(1)
    if name != "steepest":
        dual = {np.inf: 1, 2: 2}[order]
        assert np.allclose(gain, np.linalg.norm(gradient.flatten(1).numpy(), dual, axis=1))
    else:
        # As steep as the mean of the largest derivatives; alone, the largest would be steeper, and move one pixel only.
        flat = gradient.flatten(1).abs().sort(dim=1, descending=True).values
        assert np.allclose(gain, flat[:, : round(loop.STEEPEST * 40)].mean(1))


def test_a_step_moves_as_large_a_share_of_the_pixels_as_it_is_told():
    posterior, x, y = victim()
    for share, moved in ((0.02, 1), (0.25, 16), (1.0, 64)):
        found = attacked("pgd_l1", posterior, 0.4 + 0.2 * x, y, epsilon=0.5, steps=1, start="clean", share=share)
        changed = (found != 0.4 + 0.2 * x).flatten(1).sum(1)
        assert (changed <= moved).all()
        assert (changed > 0.6 * moved).any()


def test_a_direction_of_nothing_is_nothing():
    for direction in loop.DIRECTIONS.values():
        assert (direction(torch.zeros(2, 1, 3, 3)) == 0).all()


@pytest.mark.parametrize("draws", [1, 3])
@pytest.mark.parametrize("objective", ["mean_likelihood", "carlini_wagner", "targeted_carlini_wagner"])
def test_gradients_of_objectives_are_those_of_automatic_differentiation(objective, draws):
    posterior, x, y = victim(draws)
    y = (y + torch.arange(8) % 2) % 3
    variable = x.clone().requires_grad_()
    total = 0
    for draw in posterior:
        logits = torch.func.functional_call(posterior.network, draw, (variable,))
        if objective == "mean_likelihood":
            total = total - logits.log_softmax(1).gather(1, y[:, None]).sum()
        else:
            lead = logits.scatter(1, y[:, None], -torch.inf).amax(1) - logits.gather(1, y[:, None])[:, 0]
            total = total + (lead.clamp(max=0) if objective == "carlini_wagner" else lead.clamp(min=0)).sum()
    (expected,) = torch.autograd.grad(total, variable)
    assert (expected != 0).any()
    found = LossGradient(posterior, tuple(x.shape[1:]), objective)(x, y)
    for one, other in zip(found, expected, strict=True):
        if other.norm() > 0:
            assert torch.allclose(one / one.norm(), other / other.norm(), atol=1e-10)
        else:
            assert one.norm() == 0


@pytest.mark.parametrize(("method", "epsilon"), [("pgd", 0.1), ("pgd_l2", 0.5), ("pgd_l1", 2.0)])
def test_a_targeted_attack_raises_the_probability_of_its_target(method, epsilon):
    posterior, x, y = victim()
    target = (y + 1) % 3
    aimed = attacked(method, posterior, x, y, epsilon=epsilon, steps=10, target="next")
    free = attacked(method, posterior, x, y, epsilon=epsilon, steps=10)

    def of_target(images_):
        return predict(posterior, images_).gather(1, target[:, None])[:, 0]

    assert (of_target(aimed) > of_target(x)).all()
    assert of_target(aimed).mean() >= of_target(free).mean()


@pytest.mark.parametrize("draws", [1, 3])
@pytest.mark.parametrize("objective", ["likelihood", "mean_likelihood", "margin", "carlini_wagner"])
@pytest.mark.parametrize(("method", "epsilon"), [("pgd", 0.2), ("pgd_l2", 1.0), ("pgd_l1", 6.0)])
def test_an_attack_reaches_its_target_more_often_than_one_without(method, epsilon, objective, draws):
    """From the image itself, where any objective that is flat there would leave it."""
    posterior, x, y = trained(draws)
    target = (y + 1) % 10
    options = {"epsilon": epsilon, "steps": 20, "objective": objective, "start": "clean"}
    aimed, free = (attacked(method, posterior, x, y, **options, target=target_) for target_ in ("next", "none"))
    reached, by_chance = (float((predict(posterior, found).argmax(1) == target).double().mean()) for found in (aimed, free))
    assert reached > by_chance + 0.25


def test_targets_are_what_they_are_called():
    posterior, x, y = victim()
    probabilities = predict(posterior, x)
    generator = torch.Generator().manual_seed(0)
    assert torch.equal(loop.targets(posterior, x, y, "next", generator), (y + 1) % 3)
    least = loop.targets(posterior, x, y, "least_likely", generator)
    assert torch.equal(least, probabilities.argmin(1))
    drawn = torch.stack([loop.targets(posterior, x, y, "random", generator) for _ in range(50)])
    assert (drawn != y).all()
    assert all(len(of_image.unique()) == 2 for of_image in drawn.T)
    assert (loop.targets(posterior, x, y, 2, generator) == 2).all()
    with pytest.raises(ValueError, match="target: 3 is no class; there are 3, from 0 to 2"):
        loop.targets(posterior, x, y, 3, generator)


@pytest.mark.parametrize("target", ["none", "next"])
def test_restarts_never_make_it_worse(target):
    posterior, x, y = victim()
    classes, sign = (y, 1) if target == "none" else ((y + 1) % 3, -1)
    options = {"epsilon": 0.15, "steps": 2, "target": target}
    once = attacked("pgd", posterior, x, y, **options)
    often = attacked("pgd", posterior, x, y, **options, restarts=5)
    gain = sign * (loop.advantage(posterior, often, classes) - loop.advantage(posterior, once, classes))
    assert (gain >= 0).all()
    assert (gain > 0).any()


def test_a_clean_start_is_the_image_itself():
    posterior, x, y = victim()
    one_step = attacked("pgd", posterior, x, y, epsilon=0.1, steps=1, step_size=0.1, start="clean")
    assert torch.equal(one_step, attacked("fgsm", posterior, x, y, epsilon=0.1))


def test_only_the_first_of_several_starts_is_the_image_itself():
    posterior, x, y = victim()
    options = {"epsilon": 0.15, "steps": 2, "start": "clean"}
    once, often = (attacked("pgd", posterior, x, y, **options, restarts=restarts) for restarts in (1, 4))
    gain = loop.advantage(posterior, often, y) - loop.advantage(posterior, once, y)
    assert (gain >= 0).all()
    assert (gain > 0).any()


def test_sign_steps_may_be_projected_on_an_l2_ball():
    posterior, x, y = victim()
    found = attacked("pgd_l2", posterior, x, y, epsilon=0.5, steps=5, step_size=0.2, direction="sign", start="clean")
    assert (found - x).flatten(1).norm(dim=1).max() <= 0.5
    assert not torch.allclose(found, attacked("pgd_l2", posterior, x, y, epsilon=0.5, steps=5, step_size=0.2, start="clean"))


def test_one_that_has_lost_its_class_goes_further_than_any_that_has_not():
    x = torch.zeros(4, 1, 1, 1)
    seen = loop.Furthest(x)
    no, yes = torch.zeros(4, dtype=torch.bool), torch.tensor([True, True, False, False])
    seen.see(x + 1, torch.tensor([5.0, 5, 5, 5]), no)
    seen.see(x + 2, torch.tensor([1.0, 9, 1, 9]), yes)
    seen.see(x + 3, torch.tensor([0.5, 8, 6, 2]), yes)
    seen.see(x + 4, torch.tensor([99.0, 99, 2, 3]), no)
    assert seen.x.flatten().tolist() == [2, 2, 3, 2]


@pytest.mark.parametrize(("method", "control"), [("pgd_l2", "noise_l2"), ("pgd_l1", "noise_l1")])
def test_noise_of_a_norm_is_as_large_as_the_attack_may_be_and_does_less(method, control):
    posterior, x, y = victim()
    x = 0.3 + 0.4 * x
    order, epsilon = int(control[-1]), 0.4
    noise = attacked(control, posterior, x, y, epsilon=epsilon)
    sizes = (noise - x).flatten(1).norm(p=order, dim=1)
    assert torch.allclose(sizes, torch.full_like(sizes, epsilon), atol=1e-6)
    found = attacked(method, posterior, x, y, epsilon=epsilon, steps=20)
    assert loop.advantage(posterior, found, y).mean() > loop.advantage(posterior, noise, y).mean()


@pytest.mark.parametrize(
    "method", ["pgd", "pgd_l2", "pgd_l1", "apgd", "apgd_l2", "fab", "fab_l2", "autoattack", "autoattack_l2"]
)
def test_any_number_of_threads_gives_the_same(method, monkeypatch):
    posterior, x, y = victim()
    monkeypatch.setattr("resilience.attacks.gradient.chunk_of", lambda *_: 3)
    monkeypatch.setattr("resilience.attacks.predictive.chunk_of", lambda *_: 3)
    found = []
    for threads in (1, 3):
        monkeypatch.setattr(computing, "_workers", threads)
        few = {"queries": 20} if method.startswith("auto") else {}
        found.append(attacked(method, posterior, x, y, epsilon=0.3, steps=4, **few))
    assert torch.equal(*found)
