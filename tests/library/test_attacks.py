"""Attacks against autograd and an independent loop, in double precision."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from resilience import catalog, networks
from resilience.attacks import averaged, gradient, matched, square, transferred
from resilience.attacks.ball import AttackError, Ball, refuse_no_images
from resilience.attacks.gradient import LossGradient
from resilience.computing import denormals_flushed
from resilience.posterior import Posterior, point, predict
from tests.conftest import double_network, noisy_posterior
from tests.library.lrp_stacks import STACKS, images


def labels(count: int, classes: int = 3) -> torch.Tensor:
    return torch.arange(count) % classes


def plain_loss(posterior: Posterior, x: torch.Tensor, y: torch.Tensor, objective: str) -> torch.Tensor:
    """The loss by its definition, through autograd: −log of the mean probability, or the mean margin."""
    logits = torch.stack([networks.logits(posterior.network, draw, x) for draw in posterior])
    if objective == "likelihood":
        return -logits.softmax(2).mean(0)[torch.arange(len(y)), y].log()
    own = logits[:, torch.arange(len(y)), y]
    others = logits.masked_fill(nn.functional.one_hot(y, logits.shape[2]).bool(), -torch.inf)
    return (others.amax(2) - own).mean(0)


def direction(gradient: torch.Tensor) -> torch.Tensor:
    # Units of ReLU that are all dead leave no gradient; it stays zero.
    return gradient / gradient.flatten(1).norm(dim=1).clamp(min=1e-300)[:, None, None, None]


@pytest.mark.parametrize("draws", [1, 7])
@pytest.mark.parametrize("objective", ["likelihood", "margin"])
@pytest.mark.parametrize("stack", STACKS)
def test_gradient_points_where_autograd_says(stack, objective, draws):
    build, shape = STACKS[stack]
    network, x = double_network(build(True), 0), images(shape, 0, count=6)
    posterior, y = noisy_posterior(network, draws), labels(6)
    variable = x.clone().requires_grad_()
    (expected,) = torch.autograd.grad(plain_loss(posterior, variable, y, objective).sum(), variable)
    found = LossGradient(posterior, shape, objective)(x, y)
    torch.testing.assert_close(direction(found), direction(expected), rtol=0, atol=1e-12)


def test_gradient_does_not_vanish_when_the_softmax_saturates():
    build, shape = STACKS["linear"]
    network, x = double_network(build(True), 0), images(shape, 0, count=6)
    network[-1].weight.data *= 1e4
    network = network.float()
    posterior, y = noisy_posterior(network, 3, noise=0.01), network(x.float()).argmax(1)
    variable = x.float().requires_grad_()
    (plain,) = torch.autograd.grad(plain_loss(posterior, variable, y, "likelihood").sum(), variable)
    assert bool((plain == 0).flatten(1).all(1).any())
    found = LossGradient(posterior, shape, "likelihood")(x.float(), y)
    assert not bool((found == 0).flatten(1).all(1).any())
    assert bool(torch.isfinite(found).all())


def test_gradient_is_the_same_for_any_order_of_draws():
    """The running sum is rescaled when a larger weight turns up; that must not depend on when it does."""
    build, shape = STACKS["linear"]
    network, x = double_network(build(True), 0), images(shape, 0, count=6)
    network[-1].weight.data *= 300
    posterior, y = noisy_posterior(network, 6, noise=0.5), labels(6)
    backwards = Posterior(network, {name: value.flip(0) for name, value in posterior.weights.items()})
    first, second = (LossGradient(p, shape, "likelihood")(x, y) for p in (posterior, backwards))
    torch.testing.assert_close(direction(first), direction(second), rtol=0, atol=1e-12)


@pytest.mark.parametrize("objective", ["likelihood", "margin"])
def test_fgsm_is_one_clamped_step(objective):
    build, shape = STACKS["conv"]
    network, x = double_network(build(True), 0), images(shape, 0, count=6)
    posterior, y = noisy_posterior(network, 4), labels(6)
    variable = x.clone().requires_grad_()
    (slope,) = torch.autograd.grad(plain_loss(posterior, variable, y, objective).sum(), variable)
    found = gradient.fgsm(posterior, x, y, epsilon=0.2, objective=objective)
    torch.testing.assert_close(found, (x + 0.2 * slope.sign()).clamp(0, 1), rtol=0, atol=1e-15)


@pytest.mark.parametrize("objective", ["likelihood", "margin"])
def test_pgd_is_an_independent_loop(objective):
    build, shape = STACKS["conv"]
    network, x = double_network(build(True), 0), images(shape, 0, count=6)
    posterior, y = noisy_posterior(network, 4), labels(6)
    found = gradient.pgd(
        posterior, x, y, torch.Generator().manual_seed(5), epsilon=0.1, steps=7, step_size=0.03, objective=objective
    )
    start = torch.rand(x.shape, generator=torch.Generator().manual_seed(5)).to(x)
    attacked = torch.clamp(x + (2 * start - 1) * 0.1, 0, 1)
    for _ in range(7):
        variable = attacked.clone().requires_grad_()
        (slope,) = torch.autograd.grad(plain_loss(posterior, variable, y, objective).sum(), variable)
        moved = attacked + 0.03 * torch.sign(slope)
        attacked = torch.clamp(x + torch.clamp(moved - x, -0.1, 0.1), 0, 1)
    torch.testing.assert_close(found, attacked, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", ["fgsm", "pgd", "square", "noise", "saliency_top_k", "mean_of_attacks"])
@pytest.mark.parametrize("epsilon", [0.0, 0.05, 0.1, 0.2, 1.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_attacks_stay_in_the_ball_and_in_the_unit_interval(name, epsilon, dtype):
    """Rounding included: x̃ is a number of the images' precision, so what it differs from x is compared exactly."""
    build, shape = STACKS["conv"]
    network, x = double_network(build(True), 0).to(dtype), images(shape, 0, count=30).to(dtype)
    x[0], x[1] = 0, 1
    strength = {"attack": {"method": "fgsm", "epsilon": epsilon}} if name == "mean_of_attacks" else {"epsilon": epsilon}
    attack = catalog.bound("attacks", {"method": name, **strength})
    generator = torch.Generator().manual_seed(0)
    found = attack(posterior=noisy_posterior(network, 3), x=x, y=labels(30), generator=generator)
    assert found.dtype == dtype
    assert float((found.double() - x.double()).abs().max()) <= epsilon
    assert float(found.min()) >= 0
    assert float(found.max()) <= 1


@pytest.mark.parametrize(
    ("name", "order", "options"),
    [
        ("apgd", torch.inf, {"steps": 8}),
        ("fab", torch.inf, {"steps": 8, "targets": 2}),
        ("autoattack", torch.inf, {"steps": 5, "queries": 10}),
        ("noise_l2", 2, {}),
        ("pgd_l2", 2, {"steps": 8}),
        ("apgd_l2", 2, {"steps": 8}),
        ("fab_l2", 2, {"steps": 8, "targets": 2}),
        ("square_l2", 2, {"queries": 30}),
        ("autoattack_l2", 2, {"steps": 5, "queries": 10}),
        ("noise_l1", 1, {}),
        ("pgd_l1", 1, {"steps": 8}),
    ],
)
@pytest.mark.parametrize("epsilon", [0.0, 0.05, 0.3, 1.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_attacks_stay_in_the_ball_of_their_norm(name, order, options, epsilon, dtype):
    build, shape = STACKS["conv"]
    network, x = double_network(build(True), 0).to(dtype), images(shape, 0, count=30).to(dtype)
    x[0], x[1] = 0, 1
    attack = catalog.bound("attacks", {"method": name, "epsilon": epsilon, **options})
    victim, generator = noisy_posterior(network, 3), torch.Generator().manual_seed(0)
    found = attack(posterior=victim, x=x, y=predict(victim, x).argmax(1), generator=generator)
    assert found.dtype == dtype
    assert float((found.double() - x.double()).flatten(1).norm(p=order, dim=1).max()) <= epsilon
    assert float(found.min()) >= 0
    assert float(found.max()) <= 1


@pytest.mark.parametrize("epsilon", [0.031, 0.1, 0.2, 8 / 255])
def test_a_corner_of_the_ball_is_the_last_number_in_it(epsilon):
    x = torch.rand((1000, 1, 8, 8), generator=torch.Generator().manual_seed(0))
    for far in (-torch.ones(()), torch.ones(())):
        corner = Ball(x, epsilon).project(x + 2 * far)
        assert bool(((corner.double() - x.double()).abs() <= epsilon).all())
        inside = (corner > 0) & (corner < 1)
        beyond = torch.nextafter(corner, corner + far)
        assert bool(((beyond.double() - x.double()).abs() > epsilon)[inside].all())


@pytest.mark.parametrize(
    ("name", "options"), [("pgd", {"steps": 2, "step_size": 0.001}), ("square", {"queries": 20}), ("noise", {})]
)
def test_same_generator_same_attack(name, options):
    build, shape = STACKS["conv"]
    network, x = double_network(build(True), 0), images(shape, 0, count=6)
    attack = catalog.bound("attacks", {"method": name, "epsilon": 0.1, **options})
    first, second, other = (
        attack(posterior=point(network), x=x, y=labels(6), generator=torch.Generator().manual_seed(seed))
        for seed in (0, 0, 1)
    )
    assert torch.equal(first, second)
    assert not torch.equal(first, other)


def test_transferred_attack_is_no_computation():
    with pytest.raises(TypeError, match="copy of another network's"):
        transferred.transfer(attack="pgd", source="det")


def test_an_attack_of_matched_size_is_shrunk_to_the_other_image_by_image_and_never_grows():
    random = np.random.default_rng(0)
    x = random.random((3, 1, 4, 4), np.float32)
    own = np.clip(x + 0.2 * random.choice([-1, 1], x.shape), 0, 1).astype(np.float32)
    others = x + np.array([0.5, 2, 0], np.float32)[:, None, None, None] * (own - x)
    found = matched.match_size(x, own, others, attack="fgsm", source="hmc", draws=10)
    sizes = [np.abs(images - x).mean((1, 2, 3)) for images in (found, own)]
    np.testing.assert_allclose(sizes[0], sizes[1] * [0.5, 1, 0], atol=1e-7)
    np.testing.assert_allclose(found[0], x[0] + 0.5 * (own[0] - x[0]), atol=1e-7)
    np.testing.assert_array_equal(found[1], own[1])
    np.testing.assert_array_equal(matched.match_size(x, own, own, attack="fgsm", source="hmc", draws=10), own)


def test_saturating_objective_is_the_likelihood_by_autograd_and_vanishes_with_it():
    build, shape = STACKS["linear"]
    network, x = double_network(build(True), 0), images(shape, 0, count=6)
    posterior, y = noisy_posterior(network, 3), network(x).argmax(1)
    variable = x.clone().requires_grad_()
    (expected,) = torch.autograd.grad(plain_loss(posterior, variable, y, "likelihood").sum(), variable)
    found = LossGradient(posterior, shape, "saturating")(x, y)
    torch.testing.assert_close(direction(found), direction(expected), rtol=0, atol=1e-12)
    network[-1].weight.data *= 1e4
    confident, y = noisy_posterior(network.float(), 3, noise=0.01), network(x.float()).argmax(1)
    vanished = (LossGradient(confident, shape, "saturating")(x.float(), y) == 0).flatten(1).all(1)
    assert bool(vanished.any())
    attacked = gradient.fgsm(confident, x.float(), y, epsilon=0.1, objective="saturating")
    assert torch.equal(attacked[vanished], x.float()[vanished])


def test_a_gradient_of_denormal_numbers_is_followed_as_autograd_follows_it():
    """A network so sure that its gradient lies below 1e-38, as those of the published posteriors do: its signs count."""
    build, shape = STACKS["linear"]
    network, x = double_network(build(True), 0).float(), images(shape, 0, count=2000).float()
    first, second = network(x).detach().topk(2).values.T
    for parameter in network[-1].parameters():
        parameter.data *= 103 / float((first - second).median())
    y = network(x).argmax(1)
    variable = x.clone().requires_grad_()
    (expected,) = torch.autograd.grad(nn.functional.cross_entropy(network(variable), y, reduction="sum"), variable)
    denormal = (expected != 0).flatten(1).any(1) & (expected.abs().flatten(1).amax(1) < 1.17e-38)
    assert int(denormal.sum()) >= 5
    assert bool((expected == 0).flatten(1).all(1).any()), "and some that are so sure that it is zero"
    assert torch.equal(LossGradient(point(network), shape, "saturating")(x, y).sign(), expected.sign())
    attacked = gradient.fgsm(point(network), x, y, epsilon=0.1, objective="saturating")
    torch.testing.assert_close(attacked, (x + 0.1 * expected.sign()).clamp(0, 1), rtol=0, atol=6e-8)


def test_chains_flush_denormals_and_leave_them_be_afterwards():
    smallest = torch.tensor([1e-39])
    with denormals_flushed():
        assert float(smallest * 1) == 0
    with pytest.raises(ValueError, match="stop"), denormals_flushed():
        raise ValueError("stop")
    assert float(smallest * 1) > 0


def test_mean_of_attacks_is_the_plain_mean_and_shrinks_with_the_number_of_draws():
    build, shape = STACKS["conv"]
    network, x = double_network(build(True), 0), images(shape, 0, count=6)
    posterior, y = noisy_posterior(network, 20, noise=0.5), labels(6)
    settings = {"method": "fgsm", "epsilon": 0.2}
    found = averaged.mean_of_attacks(posterior, x, y, torch.Generator(), attack=settings)
    alone = []
    for draw in posterior:
        single = Posterior(network, {name: value[None] for name, value in draw.items()})
        alone.append(gradient.fgsm(single, x, y, epsilon=0.2))
    torch.testing.assert_close(found, torch.stack(alone).mean(0), rtol=0, atol=1e-12)
    one = averaged.mean_of_attacks(point(network), x, y, torch.Generator(), attack=settings)
    assert torch.equal(one, gradient.fgsm(point(network), x, y, epsilon=0.2))
    assert (found - x).abs().mean() < 0.8 * (one - x).abs().mean()


@pytest.mark.parametrize("method", [square.square, square.square_l2])
@pytest.mark.parametrize("margin", ["probability", "log_probability"])
def test_square_never_loses_what_it_has_found(method, margin):
    build, shape = STACKS["conv"]
    network, x = double_network(build(True), 0), images(shape, 0, count=10)
    posterior, y = noisy_posterior(network, 2), network(x).argmax(1)
    margins = []
    for queries in (1, 10, 60):
        found = method(posterior, x, y, torch.Generator().manual_seed(0), epsilon=0.1, queries=queries, margin=margin)
        margins.append(square._margin(predict(posterior, found), y))
    # The schedule is stretched to the number of queries, so only the first query is shared.
    assert bool((margins[1] <= margins[0] + 1e-12).all())
    assert bool((margins[2] <= margins[0] + 1e-12).all())
    assert bool((margins[2] < margins[0]).any())


def test_a_bump_is_a_sum_over_growing_boxes():
    for height, width in ((1, 3), (2, 3), (3, 7), (4, 7), (5, 5), (0, 1)):
        expected = torch.zeros(height, width)
        for k in range(max(height, width) // 2 + 1):
            for row in range(height):
                for column in range(width):
                    if max(abs(row - height // 2), abs(column - width // 2)) <= k:
                        expected[row, column] += 1 / (k + 1) ** 2
        torch.testing.assert_close(square._bump(height, width), expected)
    for side in (1, 3, 5, 9):
        assert float(square._pair_of_bumps(side).norm()) == pytest.approx(1)


def test_square_lowers_the_logarithm_where_the_probability_is_one():
    build, shape = STACKS["linear"]
    network, x = double_network(build(True), 0), images(shape, 0, count=30)
    network[-1].weight.data *= 300
    network, x = network.float(), x.float()
    y = network(x).argmax(1)
    options = {"epsilon": 0.05, "queries": 30}
    first, stuck, moved = (
        square.square(point(network), x, y, torch.Generator().manual_seed(0), **options | others)
        for others in ({"queries": 1}, {}, {"margin": "log_probability"})
    )
    sure = (predict(point(network), first).gather(1, y[:, None])[:, 0] == 1).nonzero()[:, 0]
    assert len(sure) > 5
    assert torch.equal(stuck[sure], first[sure])
    assert not torch.equal(moved[sure], first[sure])


@pytest.mark.parametrize(
    ("value", "sentence"),
    [(float("nan"), "not finite"), (float("inf"), "not finite"), (1.25, r"lie in \[0.5, 1.25\]"), (-0.5, r"\[-0.5, 0.5\]")],
)
def test_what_is_no_image_is_refused(value, sentence):
    attacked = torch.full((2, 1, 2, 2), 0.5)
    refuse_no_images(attacked)
    attacked[1, 0, 1, 1] = value
    with pytest.raises(AttackError, match=sentence):
        refuse_no_images(attacked)
