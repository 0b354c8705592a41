"""Chains side by side: the posterior that they draw from, and that they are what single chains would be."""

from __future__ import annotations

import contextlib
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from resilience import networks
from resilience.posterior import DRAWS, Posterior
from resilience.training import last_batch, parallel_chains
from resilience.training.fit import Task, TrainingError
from resilience.training.parallel_chains import DualAveraging, Moving, Sampler, energy_of
from resilience.training.prior import prior_of

SETTINGS = {"prior": "he", "chains": 3, "draws": 30, "warmup": 20, "step_size": 0.05, "leapfrog_steps": 4}


@pytest.fixture
def task():
    generator = np.random.default_rng(0)
    y = np.arange(60) % 3
    x = np.clip(generator.normal(0.3, 0.1, (60, 1, 2, 2)), 0, 1).astype(np.float32)
    x[np.arange(60), 0, 0, y % 2] += 0.4
    arrays = {"train.x": x[:40], "train.y": y[:40], "validation.x": x[40:], "validation.y": y[40:]}
    return Task.of({"architecture": "fc2", "width": 5}, arrays, 7, None, torch.device("cpu"))


def test_energy_is_that_of_each_chain_alone_by_its_formula(task):
    network = task.network()
    like, prior = networks.parameters_of(network), prior_of(network, "he", 1.5)
    mean, scale = prior.flat(like)
    position = torch.randn(3, len(mean), generator=torch.Generator().manual_seed(1))
    values, gradients = energy_of(task, prior, [{}] * 3)(position)
    for place, value, gradient in zip(position, values, gradients, strict=True):
        z = place.clone().requires_grad_()
        logits = networks.logits(network, networks.by_name(mean + scale * z, like), task.x)
        energy = cross_entropy(logits, task.y, reduction="sum") + (z**2).sum() / 2
        assert float(value) == pytest.approx(float(energy.detach()), rel=1e-5)
        assert torch.allclose(gradient, torch.autograd.grad(energy, z)[0], atol=1e-4)


def test_networks_with_batch_statistics_keep_those_of_their_start(task):
    of_images = replace(
        task,
        settings={"architecture": "resnet20", "width": 2},
        x=torch.rand(8, 1, 8, 8, generator=torch.Generator().manual_seed(0)),
        y=torch.arange(8) % 3,
        validation_x=torch.rand(4, 1, 8, 8, generator=torch.Generator().manual_seed(1)),
        validation_y=torch.arange(4) % 3,
    )
    small = {"chains": 2, "draws": 2, "warmup": 1, "step_size": 1e-4, "leapfrog_steps": 1}
    fit = parallel_chains.parallel_hmc(of_images, prior="he", **small)
    for name, value in networks.statistics_of(of_images.network()).items():
        assert torch.equal(fit.weights[name], torch.stack([value] * 2))


def normal(covariance):
    precision = torch.linalg.inv(covariance)
    return lambda z: (torch.einsum("ci,ij,cj->c", z, precision, z).double() / 2, z @ precision)


def test_a_normal_distribution_is_drawn_from():
    covariance = torch.tensor([[1.0, 0.6], [0.6, 2.0]])
    start = torch.full((40, 2), 3.0)
    moving = Moving(normal(covariance), start, Sampler(0.01, 6, 0.8), 100, torch.Generator().manual_seed(0))
    draws = []
    for iteration in range(400):
        moving.iterate()
        if iteration >= 100:
            draws.append(moving.position)
    found = torch.stack(draws).flatten(0, 1).double().numpy()
    assert np.allclose(found.mean(0), 0, atol=0.07)
    assert np.allclose(np.cov(found.T), covariance, atol=0.15)
    acceptance = np.mean([fact["acceptance"] for fact in moving.facts()])
    assert acceptance == pytest.approx(0.8, abs=0.1)


def test_dual_averaging_is_its_recursion():
    adaptation, target, centre = DualAveraging(math.log(0.5), 0.8), 0.8, math.log(0.5)
    acceptances = [0.1, 0.9, 0.7, 0.95, 0.2]
    total, averaged = 0.0, 0.0
    for t, acceptance in enumerate(acceptances, start=1):
        total = (1 - 1 / (t + 10)) * total + (target - acceptance) / (t + 10)
        log_step = centre - math.sqrt(t) / 0.05 * total
        averaged = t**-0.75 * log_step + (1 - t**-0.75) * averaged
        assert adaptation.update(acceptance) == pytest.approx(math.exp(log_step))
    assert adaptation.settled == pytest.approx(math.exp(averaged))


def test_draws_are_of_each_chain_in_turn_and_predict(task):
    fit = parallel_chains.parallel_hmc(task, **SETTINGS)
    assert fit.kind == DRAWS
    assert {len(value) for value in fit.weights.values()} == {30}
    assert [row["draws"] for row in fit.history] == list(range(1, 31))
    assert fit.diagnostics["chains"] == 3
    # The first draws of all chains stand first: those of one chain are three apart, and nearer to each other.
    flat = torch.cat([value.flatten(1) for value in fit.weights.values()], 1)
    within = (flat[27] - flat[24]).norm()
    assert within < (flat[27] - flat[28]).norm()
    again = parallel_chains.parallel_hmc(task, **SETTINGS)
    assert all(torch.equal(value, again.weights[name]) for name, value in fit.weights.items())


def test_a_chain_goes_on_where_another_has_warmed_up(task):
    first = parallel_chains.parallel_hmc(task, **SETTINGS)
    start = Posterior(task.network(), first.weights)
    still = SETTINGS | {"warmup": 1, "draws": 3, "step_size": 1e-7, "leapfrog_steps": 1}
    second = parallel_chains.parallel_hmc(replace(task, start=start), **still)
    for name, value in second.weights.items():
        assert torch.allclose(value, first.weights[name][:3], atol=1e-4)


def test_the_last_batch_is_what_remains_and_its_draws_repeat(task, monkeypatch):
    seen = {}
    sample = parallel_chains.sample

    def watching(task, prior, sampler, chains, draws, warmup):
        seen.update(images=len(task.x), draws=draws)
        return sample(task, prior, sampler, chains, draws, warmup)

    monkeypatch.setattr(last_batch, "sample", watching)
    fit = last_batch.hmc_on_last_batch(task, batch_size=15, **SETTINGS)
    # 40 images are batches of 15, 15 and 10; each of three batches makes 10 / 3 + 1 draws of each chain.
    assert seen == {"images": 10, "draws": 3 * 4}
    of_first_chain = torch.cat([value.flatten(1) for value in fit.weights.values()], 1)[::3]
    assert len(torch.unique(of_first_chain, dim=0)) <= 4 < len(of_first_chain) == 10


def test_draws_that_cannot_be_shared_are_refused(task):
    with pytest.raises(TrainingError, match="31 draws cannot be shared by 3 chains"):
        parallel_chains.parallel_hmc(task, **(SETTINGS | {"draws": 31}))
    with pytest.raises(TrainingError, match="31 draws cannot be shared by 3 chains"):
        last_batch.hmc_on_last_batch(task, batch_size=15, **(SETTINGS | {"draws": 31}))


def test_a_start_where_nothing_is_likely_and_steps_that_vanish_are_refused():
    generator = torch.Generator().manual_seed(0)
    impossible = lambda z: (torch.full((len(z),), math.inf, dtype=torch.float64), torch.zeros_like(z))  # noqa: E731
    with pytest.raises(TrainingError, match="density is zero where a chain starts"):
        Moving(impossible, torch.zeros(2, 3), Sampler(0.1, 2, 0.8), 10, generator)
    calls = []

    def broken(z):
        calls.append(z)
        return torch.full((len(z),), math.nan if len(calls) > 1 else 0.0, dtype=torch.float64), torch.zeros_like(z)

    moving = Moving(broken, torch.zeros(2, 3), Sampler(0.1, 2, 0.8), 1000, generator)
    for _ in range(100):
        with contextlib.suppress(TrainingError):
            moving.iterate()
    with pytest.raises(TrainingError, match="their step size fell to"):
        moving.iterate()
