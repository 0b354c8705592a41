from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from resilience import catalog, networks, posterior
from resilience.attacks import gradient
from resilience.calls import LayerError
from resilience.posterior import DRAWS, MEAN_FIELD, POINT, Posterior
from resilience.training import prior
from resilience.training.fit import Task, TrainingError

NETWORK = {"architecture": "fc2", "width": 8}


def blobs(count: int = 120, seed: int = 0) -> dict[str, np.ndarray]:
    """Three classes of images that a small network tells apart."""
    generator = np.random.default_rng(seed)
    y = np.arange(count) % 3
    x = np.clip(generator.normal(0.2, 0.05, (count, 1, 3, 3)) + 0.6 * np.eye(3)[y][:, None, :, None], 0, 1).astype(
        np.float32
    )
    half = count // 2
    return {"train.x": x[:half], "train.y": y[:half], "validation.x": x[half:], "validation.y": y[half:]}


def task(seed: int = 1, start: Posterior | None = None, arrays=None) -> Task:
    return Task.of(NETWORK, arrays or blobs(), seed, start, torch.device("cpu"))


def train(method: str, at: Task | None = None, **options):
    return catalog.load("trainings", method)(at or task(), **options)


MAP = {"method": "maximum_a_posteriori", "prior": "he", "epochs": 60, "learning_rate": 0.02}
RUNS = {
    "deterministic": {"epochs": 60, "learning_rate": 0.02},
    "adversarial": {"attack": {"method": "fgsm", "epsilon": 0.05}, "epochs": 60, "learning_rate": 0.02},
    "maximum_a_posteriori": {key: value for key, value in MAP.items() if key != "method"},
    "ensemble": {"members": 3, "of": MAP},
    "svi": {"prior": "he", "epochs": 150, "learning_rate": 0.05, "batch_size": 20},
}


@pytest.mark.parametrize("method", RUNS)
def test_every_training_learns_and_repeats_itself(method):
    first, second = train(method, **RUNS[method]), train(method, **RUNS[method])
    other = train(method, task(seed=2), **RUNS[method])
    for name, value in first.weights.items():
        assert torch.equal(value, second.weights[name])
    assert any(not torch.equal(value, other.weights[name]) for name, value in first.weights.items())
    assert first.history[-1]["validation_accuracy"] > 0.9
    assert first.history[-1]["loss"] < first.history[0]["loss"]


def test_global_random_state_does_not_matter():
    torch.manual_seed(0)
    first = train("svi", **RUNS["svi"])
    torch.manual_seed(99)
    second = train("svi", **RUNS["svi"])
    assert all(torch.equal(value, second.weights[name]) for name, value in first.weights.items())


def test_a_likelihood_of_the_batch_alone_leaves_the_prior_in_charge():
    def spread(batch_size: int, choice: str) -> float:
        fit = train("svi", **(RUNS["svi"] | {"epochs": 60, "batch_size": batch_size}), likelihood_of=choice)
        return float(torch.cat([value.flatten() for name, value in fit.weights.items() if name.endswith("scale")]).mean())

    assert spread(10, "batch") > 1.05 * spread(10, "dataset")
    # A single batch is the whole dataset.
    assert spread(1000, "batch") == spread(1000, "dataset")


def test_kinds_of_weights():
    assert train("deterministic", epochs=1).kind == POINT
    ensemble = train("ensemble", **RUNS["ensemble"])
    assert ensemble.kind == DRAWS
    assert {len(value) for value in ensemble.weights.values()} == {3}
    variational = train("svi", prior="he", epochs=1)
    assert variational.kind == MEAN_FIELD
    assert set(variational.weights) == {
        f"{name}.{part}" for name in task().network().state_dict() for part in ("loc", "scale")
    }


def test_members_of_an_ensemble_differ():
    weights = train("ensemble", **RUNS["ensemble"]).weights["1.weight"]
    assert not torch.equal(weights[0], weights[1])


def test_map_finds_a_mode_of_the_posterior():
    """No small step in any direction raises the posterior density, and the prior makes the weights smaller."""
    at = task()
    of_weights = prior.prior_of(at.network(), "he")

    def energy(weights):
        misfit = cross_entropy(networks.logits(at.network(), weights, at.x), at.y, reduction="sum")
        return float(misfit + of_weights.energy(weights))

    options = {"epochs": 1500, "learning_rate": 0.001, "batch_size": 1000}
    fit = train("maximum_a_posteriori", at, prior="he", **options).weights
    free = train("deterministic", at, **options).weights
    generator = torch.Generator().manual_seed(0)
    for _ in range(100):
        moved = {name: value + 0.02 * torch.randn(value.shape, generator=generator) for name, value in fit.items()}
        assert energy(moved) > energy(fit)
    assert energy(free) > energy(fit) + 1
    assert sum(float(value.square().sum()) for value in fit.values()) < sum(float(v.square().sum()) for v in free.values())


def test_prior_deviations():
    network = networks.build({"architecture": "conv", "width": 16}, (1, 8, 8), 10)
    he = prior.prior_of(network, "he").deviations
    assert set(prior.prior_of(network, "he").means.values()) == {0.0}
    assert he["0.weight"] == he["0.bias"] == pytest.approx(math.sqrt(2 / 9))
    assert he["3.weight"] == pytest.approx(math.sqrt(2 / (16 * 9)))
    assert prior.prior_of(network, "unit", 3).deviations["7.bias"] == 3
    assert prior.prior_of(network, "lecun").deviations["3.weight"] == pytest.approx(math.sqrt(1 / (16 * 9)))


def test_energy_is_minus_the_log_density():
    weights = {"a": torch.randn(3, 2, dtype=torch.float64), "b": torch.randn(2, dtype=torch.float64)}
    deviations = {"a": 0.5, "b": 2.0}
    means = {"a": 0.0, "b": 1.0}
    normal = {name: torch.distributions.Normal(means[name], deviations[name]) for name in weights}
    expected = -sum(normal[name].log_prob(weights[name]).sum() for name in weights)
    constant = -sum(normal[name].log_prob(torch.full_like(weights[name], means[name])).sum() for name in weights)
    assert float(prior.Prior(means, deviations).energy(weights)) == pytest.approx(float(expected - constant))


@pytest.mark.parametrize("points", [120, 480])
def test_svi_scales_the_likelihood_to_the_training_set(points):
    """A batch is an unbiased sample: the ELBO of batches of 10 is that of the whole set, if nothing is learned meanwhile."""
    options = {"prior": "unit", "epochs": 1, "learning_rate": 1e-9, "initial_scale": 0.01}
    at = task(arrays=blobs(points))
    small, whole = (train("svi", at, batch_size=size, **options).history[0]["loss"] for size in (10, 1000))
    network = at.network()
    of_weights = prior.prior_of(network, "unit")
    weights = network.state_dict()
    misfit = float(cross_entropy(network(at.x), at.y, reduction="sum").detach())
    divergence = sum(value.numel() * (-math.log(0.01) - 0.5 + 0.01**2 / 2) for value in weights.values())
    expected = (misfit + float(of_weights.energy(weights)) + divergence) / len(at.x)
    assert whole == pytest.approx(expected, rel=0.02)
    assert small == pytest.approx(expected, rel=0.02)


def test_adversarial_training_resists_its_attack():
    arrays = blobs(240)
    attack = {"method": "pgd", "epsilon": 0.25, "steps": 5}
    options = {"epochs": 60, "learning_rate": 0.02}
    plain = train("deterministic", task(arrays=arrays), **options)
    hardened = train("adversarial", task(arrays=arrays), attack=attack, **options)
    at = task(arrays=arrays)
    survived = []
    for fit in (plain, hardened):
        net = Posterior(at.network(), {name: value[None] for name, value in fit.weights.items()})
        attacked = gradient.pgd(net, at.validation_x, at.validation_y, torch.Generator().manual_seed(0), epsilon=0.25)
        survived.append(posterior.accuracy(net, attacked, at.validation_y))
    assert survived[1] > survived[0] + 0.1


@pytest.mark.parametrize(("method", "options"), [("deterministic", {}), ("svi", {"prior": "he"})])
def test_diverging_training_says_so(method, options):
    with pytest.raises(TrainingError, match=r"the loss is (nan|inf) in epoch \d; a smaller learning_rate"):
        train(method, epochs=3, learning_rate=1e30, batch_size=20, **options)


def test_a_network_that_cannot_be_explained_is_not_trained(monkeypatch):
    stack = nn.Sequential(nn.Flatten(), nn.Linear(9, 2), nn.Softmax(1))
    monkeypatch.setattr(networks, "build", lambda *_: stack)
    with pytest.raises(LayerError, match=r"layer 2 \(Softmax\) computes softmax"):
        train("deterministic", epochs=1)


def test_ensemble_of_posteriors_is_refused():
    with pytest.raises(TrainingError, match="point estimates, which svi is not"):
        train("ensemble", members=2, of={"method": "svi", "prior": "he", "epochs": 1})
