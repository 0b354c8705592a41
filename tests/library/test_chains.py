"""Chains against a posterior that is known in closed form, and the diagnostics of their predictions."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from pyro.infer import HMC, NUTS

from resilience import networks, posterior
from resilience.training import chains, diagnostics
from resilience.training.fit import TrainingError
from tests.library.test_training import MAP, task, train


def conjugate() -> tuple[object, torch.Tensor, torch.Tensor]:
    """Potential of a linear regression with known noise, and the mean and covariance of its normal posterior."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(40, 2, generator=generator, dtype=torch.float64)
    y = x @ torch.tensor([1.0, -0.5], dtype=torch.float64) + 0.7 * torch.randn(40, generator=generator, dtype=torch.float64)
    precision = x.T @ x / 0.49 + torch.eye(2, dtype=torch.float64)
    covariance = torch.linalg.inv(precision)

    def potential(site):
        return ((y - x @ site["weights"]) ** 2).sum() / (2 * 0.49) + (site["weights"] ** 2).sum() / 2

    return potential, covariance @ x.T @ y / 0.49, covariance


@pytest.mark.parametrize("kind", ["hmc", "nuts"])
def test_chains_sample_a_posterior_that_is_known(kind):
    potential, mean, covariance = conjugate()
    if kind == "hmc":
        options = {"adapt_step_size": False, "adapt_mass_matrix": False}
        kernel = HMC(potential_fn=potential, step_size=0.04, num_steps=4, **options)
    else:
        kernel = NUTS(potential_fn=potential, step_size=0.08, adapt_mass_matrix=False, max_tree_depth=6)
    drawn, facts = chains.sample_chain(kernel, torch.zeros(2, dtype=torch.float64), 2000, 100, seed=0, index=0)
    # About 1,000 effective draws: standard errors of 3 % of a deviation, and of 5 % of a variance.
    scale = covariance.diagonal().sqrt()
    assert drawn.shape == (2000, 2)
    assert bool(((drawn.mean(0) - mean).abs() < 0.15 * scale).all())
    assert bool(((torch.cov(drawn.T) - covariance).abs() < 0.2 * torch.outer(scale, scale)).all())
    assert 0.6 < facts["acceptance"] <= 1
    assert facts["divergences"] == 0


def options(**changes):
    return {"prior": "he", "chains": 2, "draws": 12, "warmup": 5, "step_size": 0.03, "start": "ensemble"} | changes


@pytest.fixture(scope="module")
def starts():
    fit = train("ensemble", members=2, of=MAP)
    return posterior.Posterior(task().network(), fit.weights)


@pytest.mark.parametrize(("method", "more"), [("hmc", {"leapfrog_steps": 10}), ("nuts", {"max_tree_depth": 4})])
def test_chains_on_a_network_repeat_themselves(starts, method, more):
    first, second = (train(method, task(start=starts), **options(**more)) for _ in range(2))
    assert all(torch.equal(value, second.weights[name]) for name, value in first.weights.items())
    assert {len(value) for value in first.weights.values()} == {12}
    assert len(first.diagnostics["acceptance"]) == 2
    assert first.history[-1]["validation_accuracy"] > 0.9


def test_first_draws_are_of_every_chain(starts):
    fit = train("hmc", task(start=starts), **options(leapfrog_steps=5, step_size=1e-4, warmup=1))
    # Steps this small leave each chain at its start, so draws 0, 2, … are near the first and 1, 3, … near the second.
    for index in range(4):
        near = [float((fit.weights["1.weight"][index] - start["1.weight"]).norm()) for start in starts]
        assert near[index % 2] < 0.1 * near[1 - index % 2]


def test_potential_is_minus_the_log_posterior(starts):
    from resilience.training import prior

    at = task()
    of_weights = prior.prior_of(at.network(), "he")
    potential = chains.potential_energy(at, of_weights)
    draw = next(iter(starts))
    probabilities = posterior.predict(posterior.Posterior(at.network(), {k: v[None] for k, v in draw.items()}), at.x)
    likelihood = probabilities[torch.arange(len(at.y)), at.y].log().sum()
    assert float(potential({"weights": networks.flat(draw)})) == pytest.approx(
        float(of_weights.energy(draw) - likelihood), rel=1e-5
    )


def test_chains_need_starts_and_shares(starts):
    with pytest.raises(TrainingError, match="12 draws cannot be shared by 5 chains"):
        train("hmc", task(start=starts), **options(chains=5, leapfrog_steps=2))
    with pytest.raises(TrainingError, match="3 chains need as many starts, and the training named by start has 2"):
        train("hmc", task(start=starts), **options(chains=3, leapfrog_steps=2))


def test_shards_have_their_own_chains_one_after_the_other(starts):
    settings = {"prior": "he", "shards": 2, "draws": 8, "warmup": 1, "step_size": 1e-4, "start": "ensemble"}
    fit = train("nuts_on_shards", task(start=starts), **settings, max_tree_depth=1, target_acceptance=0.99)
    # Steps this small leave each chain near its start: the first half of the draws is the first shard's.
    for index in range(8):
        near = [float((fit.weights["1.weight"][index] - start["1.weight"]).norm()) for start in starts]
        assert near[index // 4] < near[1 - index // 4]
    drawn = fit.weights["1.weight"][:4].flatten(1)
    assert len(drawn.unique(dim=0)) <= 4
    with pytest.raises(TrainingError, match="9 draws cannot be shared by 2 shards"):
        train("nuts_on_shards", task(start=starts), **(settings | {"draws": 9}))


def test_shards_of_a_sorted_training_set_have_all_classes(starts, monkeypatch):
    whole = task(start=starts)
    order = whole.y.argsort(stable=True)
    whole = replace(whole, x=whole.x[order], y=whole.y[order])
    seen, sample = [], chains._sample

    def spy(task, sampler, of_weights, parts, draws, warmup):
        seen.extend(parts)
        return sample(task, sampler, of_weights, parts, draws, warmup)

    monkeypatch.setattr(chains, "_sample", spy)
    settings = {"prior": "he", "shards": 2, "draws": 2, "warmup": 1, "step_size": 1e-4, "start": "ensemble"}
    train("nuts_on_shards", whole, **settings, max_tree_depth=1)
    classes = len(whole.y.unique())
    assert [len(y.unique()) for _, y in seen] == [classes, classes]
    assert torch.equal(torch.cat([y for _, y in seen]).sort().values, whole.y)
    assert sum(float(x.sum()) for x, _ in seen) == pytest.approx(float(whole.x.sum()), rel=1e-5)


# ---------------------------------------------------------------- diagnostics

FACTS = [{"acceptance": 0.8, "divergences": 0.0}] * 4


def predictions(shift: float = 0.0, draws: int = 100) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(4, draws, 20, 3, generator=generator, dtype=torch.float64)
    return values + shift * torch.arange(4, dtype=torch.float64)[:, None, None, None]


def test_independent_draws_pass():
    report = diagnostics.of_chains(FACTS, predictions())
    assert report["r_hat_95"] < 1.03
    assert report["ess_median"] > 300
    assert diagnostics.warnings(report) == []


def test_chains_that_disagree_are_named():
    report = diagnostics.of_chains(FACTS, predictions(shift=2))
    assert report["r_hat_95"] > 1.5
    assert any("the chains disagree" in sentence for sentence in diagnostics.warnings(report))


def test_slow_chains_are_named():
    report = diagnostics.of_chains(FACTS, predictions().cumsum(1))
    assert any("effective draws of 400" in sentence for sentence in diagnostics.warnings(report))


def test_poor_acceptance_and_divergences_are_named():
    report = diagnostics.of_chains([{"acceptance": 0.1, "divergences": 3.0}, *FACTS[1:]], predictions())
    assert any("accepts 10%" in sentence for sentence in diagnostics.warnings(report))
    assert any("3 iterations diverged" in sentence for sentence in diagnostics.warnings(report))


def test_constant_predictions_are_left_out():
    values = predictions()
    values[:, :, :5] = 0.25
    report = diagnostics.of_chains(FACTS, values)
    assert report["share_of_constant_predictions"] == 0.25
    assert report["r_hat_95"] < 1.03


def test_a_chain_that_stands_still_has_not_converged():
    values = predictions()
    values[0] = values[0, :1]
    assert diagnostics.of_chains(FACTS, values)["ess_median"] < 400
    everything = torch.zeros(4, 100, 20, 3, dtype=torch.float64)
    assert diagnostics.of_chains(FACTS, everything)["r_hat_95"] is None


def test_few_draws_say_nothing():
    report = diagnostics.of_chains(FACTS, predictions(draws=3))
    assert report["r_hat_95"] is None
    assert any("nothing can be said" in sentence for sentence in diagnostics.warnings(report))
