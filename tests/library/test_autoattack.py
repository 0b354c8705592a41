"""AutoAttack's parts against automatic differentiation and their own definitions, on a network trained on digits."""

from __future__ import annotations

import logging

import numpy as np
import pytest
import torch

from resilience import catalog
from resilience.attacks import apgd, autoattack, fab, predictive
from resilience.attacks.predictive import Predictive
from resilience.posterior import Posterior, point, predict
from tests.conftest import double_network, noisy_posterior
from tests.library.dykstra import nearest_in_both
from tests.library.lrp_stacks import STACKS, images
from tests.library.trained_digits import trained


def attacked(method, posterior, x, y, **options):
    make = catalog.bound("attacks", {"method": method, **options})
    return make(posterior=posterior, x=x, y=y, generator=torch.Generator().manual_seed(0))


def accuracy(posterior, x, y):
    return float((predict(posterior, x).argmax(1) == y).double().mean())


VALUES = {
    "log odds": predictive.log_odds_against,
    "dlr": predictive.difference_of_logits_ratio,
    "targeted dlr": lambda log_p, y: predictive.targeted_difference_of_logits_ratio(log_p, y, (y + 1) % log_p.shape[1]),
}


@pytest.mark.parametrize("draws", [1, 4])
@pytest.mark.parametrize("value", VALUES)
@pytest.mark.parametrize("stack", ["conv", "strided"])
def test_gradients_of_the_mean_prediction_are_those_of_automatic_differentiation(stack, value, draws):
    build, shape = STACKS[stack]
    posterior, x = noisy_posterior(double_network(build(True), 0), draws), images(shape, 0, count=6)
    y = torch.arange(6) % 3
    variable = x.clone().requires_grad_()
    logits = [torch.func.functional_call(posterior.network, draw, (variable,)) for draw in posterior]
    expected = VALUES[value](torch.stack([each.softmax(1) for each in logits]).mean(0).log(), y)
    (slope,) = torch.autograd.grad(expected.sum(), variable)
    values, gradient, classes = Predictive(posterior, x.shape[1:]).gradient(
        x, lambda log_p, part: VALUES[value](log_p, y[part])
    )
    assert torch.equal(classes, predict(posterior, x).argmax(1))
    assert torch.allclose(values, expected.detach(), atol=1e-10)
    assert torch.allclose(gradient, slope, atol=1e-10)


def test_the_ratio_of_differences_sees_no_scale():
    logits = images((1, 1, 6), 1, count=9)[:, 0, 0]
    y = torch.arange(9) % 6
    one, other = (predictive.difference_of_logits_ratio(scale * logits, y) for scale in (1, 1000))
    assert torch.allclose(one, other, atol=1e-6)


def test_checkpoints_are_the_papers():
    # p = 0, .22, .41, .57, .70, .80, .87, .93, .99 for the published schedule.
    assert sorted(apgd.checkpoints(100)) == [22, 41, 57, 70, 80, 87, 93, 99]


#: The end of an entry's name, the norm of its ball, and epsilons that break some of the images.
NORMS = [("", torch.inf, 0.03), ("", torch.inf, 0.08), ("_l2", 2, 0.25), ("_l2", 2, 0.5)]


@pytest.mark.parametrize(("suffix", "order", "epsilon"), NORMS)
@pytest.mark.parametrize("draws", [1, 3])
def test_auto_pgd_is_at_least_as_strong_as_pgd(suffix, order, epsilon, draws):
    """On the cross-entropy. The ratio of differences without a target is weaker here, in torchattacks, too."""
    posterior, x, y = trained(draws)
    plain = attacked("pgd" + suffix, posterior, x, y, epsilon=epsilon, steps=40)
    found = attacked("apgd" + suffix, posterior, x, y, epsilon=epsilon, steps=40)
    assert (found.double() - x.double()).flatten(1).norm(p=order, dim=1).max() <= epsilon
    assert accuracy(posterior, found, y) <= accuracy(posterior, plain, y) + 1 / 60


def test_auto_pgd_reaches_the_best_of_what_it_saw(monkeypatch):
    """Of any image that it saw in another class it returns one such, though others had a larger loss."""
    posterior, x, y = trained()
    seen = torch.zeros(len(x), dtype=torch.bool)
    whole = Predictive.gradient

    def watched(self, at, of):
        values, gradient, classes = whole(self, at, of)
        seen.logical_or_(classes != y)
        return values, gradient, classes

    monkeypatch.setattr(Predictive, "gradient", watched)
    found = attacked("apgd", posterior, x, y, epsilon=0.06, steps=30)
    assert seen.any()
    assert not seen.all()
    assert torch.equal(predict(posterior, found).argmax(1) != y, seen)


def plane(size):
    """Images, the normals of planes, and how far the images are to move along these, which is not always possible."""
    at, normal = images((1, 3, 3), 2, count=30), images((1, 3, 3), 3, count=30) - 0.5
    at[:3], normal[3:6, 0, 0] = 1, 0
    return at, normal, size * (images((1, 1, 1), 4, count=30).flatten() - 0.5)


def test_a_change_to_a_plane_is_the_smallest_there_is_in_linf():
    at, normal, wanted = plane(0.5)
    change = fab.to_plane(at, normal, wanted, "linf")
    assert ((at + change) >= -1e-12).all()
    assert ((at + change) <= 1 + 1e-12).all()
    reached = (normal * change).flatten(1).sum(1)
    assert torch.allclose(reached, wanted, atol=1e-9)
    # With any smaller radius, not even the best change gets there.
    radius = change.abs().flatten(1).amax(1)
    direction = normal.sign() * wanted.sign()[:, None, None, None]
    room = torch.where(direction > 0, 1 - at, at)
    most = (normal.abs() * torch.minimum(room, 0.999 * radius[:, None, None, None])).flatten(1).sum(1)
    assert (most < wanted.abs()).all()


def test_a_change_to_a_plane_is_the_smallest_there_is_in_l2():
    at, normal, wanted = plane(0.5)
    found = at + fab.to_plane(at, normal, wanted, "l2")
    aims = (normal * at).flatten(1).sum(1) + wanted
    parts = (part.flatten(1).numpy() for part in (at, normal, found))
    for start, across, here, aim in zip(*parts, aims.numpy(), strict=True):

        def on_plane(z, across=across, aim=aim):
            return z + across * (aim - across @ z) / (across @ across)

        expected = nearest_in_both(start, on_plane, lambda z: np.clip(z, 0, 1))
        np.testing.assert_allclose(here, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_an_image_goes_as_near_as_it_can_to_a_plane_that_it_cannot_reach(norm):
    at, normal, wanted = plane(1)
    wanted = 100 * wanted.sign()
    found = at + fab.to_plane(at, normal, wanted, norm)
    up = (normal * wanted[:, None, None, None]) > 0
    expected = torch.where(normal == 0, at, up.to(at))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("suffix", "order", "epsilon"), [("", torch.inf, 0.08), ("_l2", 2, 0.5)])
def test_fab_finds_small_changes_that_break_a_network_and_keeps_what_it_cannot_break(suffix, order, epsilon):
    posterior, x, y = trained()
    found = attacked("fab" + suffix, posterior, x, y, epsilon=epsilon, steps=20)
    broken = (predict(posterior, found).argmax(1) != y) & (predict(posterior, x).argmax(1) == y)
    assert broken.any()
    untouched = (found == x).flatten(1).all(1)
    assert ((predict(posterior, found).argmax(1) == y) <= untouched | (predict(posterior, x).argmax(1) != y)).all()
    pgd = attacked("pgd" + suffix, posterior, x, y, epsilon=epsilon, steps=20)
    sizes = [(images_ - x).flatten(1).norm(p=order, dim=1)[broken] for images_ in (found, pgd)]
    assert sizes[0].max() <= epsilon
    assert sizes[0].mean() < sizes[1].mean()


@pytest.mark.parametrize(("suffix", "order", "epsilon"), [("", torch.inf, 0.06), ("_l2", 2, 0.35)])
@pytest.mark.parametrize("draws", [1, 3])
def test_the_ensemble_leaves_no_more_standing_than_any_of_its_parts(suffix, order, epsilon, draws):
    posterior, x, y = trained(draws)
    whole = attacked("autoattack" + suffix, posterior, x, y, epsilon=epsilon, steps=15, targets=3, queries=60)
    assert (whole.double() - x.double()).flatten(1).norm(p=order, dim=1).max() <= epsilon
    parts = [
        attacked("apgd" + suffix, posterior, x, y, epsilon=epsilon, steps=15),
        attacked("fab" + suffix, posterior, x, y, epsilon=epsilon, steps=15, targets=3),
        attacked("square" + suffix, posterior, x, y, epsilon=epsilon, queries=60),
    ]
    # Square and APGD start elsewhere when they see fewer images.
    assert accuracy(posterior, whole, y) <= min(accuracy(posterior, part, y) for part in parts) + 1 / 60
    assert accuracy(posterior, whole, y) < accuracy(posterior, x, y)


def binarised(posterior):
    """The network behind two layers that make pixels 0 or 1: its gradients are zero nearly everywhere."""
    pixels, steep = 64, 2.0**13
    first, second = torch.nn.Linear(pixels, 2 * pixels), torch.nn.Linear(2 * pixels, pixels)
    with torch.no_grad():
        first.weight.copy_(steep * torch.eye(pixels).repeat(2, 1))
        # Between the 7th and the 8th of the 16 shades that digits have.
        first.bias.copy_(-steep * 15 / 32 - torch.arange(2).repeat_interleave(pixels))
        second.weight.copy_(torch.cat([torch.eye(pixels), -torch.eye(pixels)], 1))
        second.bias.zero_()
    head = [layer for layer in posterior.network if not isinstance(layer, torch.nn.Flatten)]
    return point(torch.nn.Sequential(torch.nn.Flatten(), first, torch.nn.ReLU(), second, *head).eval())


@pytest.mark.parametrize(("suffix", "epsilon"), [("", 0.2), ("_l2", 1.5)])
def test_square_breaks_what_masked_gradients_protect_and_the_log_says_so(suffix, epsilon, caplog):
    posterior, x, y = trained()
    masked = binarised(posterior)
    assert accuracy(masked, x, y) > 0.5
    along_gradients = attacked("apgd" + suffix, masked, x, y, epsilon=epsilon, steps=10)
    with caplog.at_level(logging.WARNING):
        whole = attacked("autoattack" + suffix, masked, x, y, epsilon=epsilon, steps=10, targets=2, queries=200)
    assert accuracy(masked, whole, y) < accuracy(masked, along_gradients, y) - 0.1
    said = " ".join(caplog.messages)
    assert "exactly zero" in said
    assert "Square broke" in said


def test_masked_gradients_are_told(caplog):
    posterior, x, y = trained()
    network = posterior.network
    masked = Posterior(network, {name: 1e6 * value for name, value in posterior.weights.items()})
    with caplog.at_level(logging.WARNING):
        autoattack._warn(masked, x, y, {"FAB-T": 0.9, "Square": 0.5})
    said = " ".join(caplog.messages)
    assert "exactly zero" in said
    assert "Square broke 40.0 %" in said
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        autoattack._warn(posterior, x, y, {"FAB-T": 0.9, "Square": 0.9})
    assert not caplog.messages
