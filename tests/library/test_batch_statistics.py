"""What batch normalisation does under each training, and that no network is left learning."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from resilience import catalog, networks, posterior
from resilience.posterior import Posterior
from resilience.seeding import seed_of
from resilience.training import chains, checkpoints, modes, point, variational
from resilience.training import prior as priors
from resilience.training.fit import Task

SETTINGS = {"architecture": "resnet20", "width": 2, "blocks": 1}
BN1 = ("bn1.running_mean", "bn1.running_var")


@pytest.fixture
def task() -> Task:
    """Two classes that differ in brightness, in batches that are not all of one size."""
    generator = torch.Generator().manual_seed(0)
    y = torch.arange(26) % 2
    x = (0.25 + 0.4 * y[:, None, None, None] + 0.2 * torch.rand(26, 1, 6, 6, generator=generator)).float()
    return Task(SETTINGS, x[:20], y[:20], x[20:], y[20:], classes=2, seed=3)


def train(method: str, task: Task, **options):
    return catalog.load("trainings", method)(task, **options)


@pytest.fixture
def watched(monkeypatch) -> list[nn.Module]:
    """Every network that is built."""
    built, build = [], networks.build
    monkeypatch.setattr(networks, "build", lambda *arguments: built.append(build(*arguments)) or built[-1])
    return built


def test_running_averages_are_those_of_the_batches(task):
    """With one batch an epoch and a learning rate of almost nothing, they are known in closed form."""
    fit = train("deterministic", task, epochs=3, learning_rate=1e-12, batch_size=20)
    network = task.network()
    a = network.conv1(task.x)
    left = 0.9**3
    expected_mean = (1 - left) * a.mean((0, 2, 3))
    expected_variance = left + (1 - left) * a.transpose(0, 1).flatten(1).var(1)
    torch.testing.assert_close(fit.weights["bn1.running_mean"], expected_mean.detach(), rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(fit.weights["bn1.running_var"], expected_variance.detach(), rtol=1e-4, atol=1e-6)


def test_what_is_kept_predicts_as_the_network_that_was_trained(task, tmp_path):
    fit = train("deterministic", task, epochs=5, learning_rate=0.01, batch_size=6)
    posterior.save(tmp_path / "w.safetensors", fit.weights, fit.kind, task.about(), 0)
    loaded = posterior.load(tmp_path / "w.safetensors")
    network = task.network()
    missing, unexpected = network.load_state_dict(fit.weights, strict=False)
    assert not unexpected
    assert all(name.endswith("num_batches_tracked") for name in missing)
    torch.testing.assert_close(posterior.predict(loaded, task.x), network(task.x).softmax(1).detach())
    assert fit.history[-1]["validation_accuracy"] == posterior.accuracy(loaded, task.validation_x, task.validation_y)


PRIOR = {"prior": "lecun"}
DESCENTS = {
    "deterministic": {"epochs": 2, "batch_size": 19},
    "adversarial": {"epochs": 2, "batch_size": 19, "attack": {"method": "fgsm", "epsilon": 0.1}},
    "maximum_a_posteriori": {"epochs": 2, "batch_size": 19, **PRIOR},
    "svi": {"epochs": 2, "batch_size": 19, **PRIOR},
}


@pytest.mark.parametrize("method", DESCENTS)
def test_no_network_is_left_learning_and_a_batch_of_one_image_is_no_batch(method, task, watched):
    """19 of 20 images are a batch, and then one."""
    fit = train(method, task, **DESCENTS[method])
    assert watched
    assert not any(module.training for network in watched for module in network.modules())
    assert all(torch.isfinite(value).all() for value in fit.weights.values())
    assert not torch.equal(fit.weights["bn1.running_mean"], torch.zeros(2))


def test_a_network_is_not_left_learning_by_an_error(task):
    network = task.network()
    for context in (modes.learning, modes.normalising_by_batch):
        with pytest.raises(RuntimeError), context(network, 2):
            raise RuntimeError
        assert not any(module.training for module in network.modules())


def test_attacks_of_adversarial_training_see_the_network_that_is_evaluated(task, monkeypatch):
    modes_of_attacks, modes_of_layers, bound, forward = [], [], catalog.bound, nn.BatchNorm2d.forward

    def attack(posterior, x, y, generator):
        modes_of_attacks.append(any(module.training for module in posterior.network.modules()))
        return x

    def spied(layer, x):
        modes_of_layers.append(layer.training)
        return forward(layer, x)

    monkeypatch.setattr(
        catalog,
        "bound",
        lambda section, of: (lambda **known: attack(**known)) if section == "attacks" else bound(section, of),
    )
    monkeypatch.setattr(nn.BatchNorm2d, "forward", spied)
    train("adversarial", task, **DESCENTS["adversarial"] | {"batch_size": 10})
    assert modes_of_attacks == [False] * 4
    assert {True, False} == set(modes_of_layers)


def test_members_of_an_ensemble_have_their_own_statistics(task):
    of = {"method": "deterministic", "epochs": 2, "batch_size": 10}
    fit = train("ensemble", task, members=2, of=of)
    alone = train("deterministic", replace(task, seed=seed_of(task.seed, "member", 1)), epochs=2, batch_size=10)
    for name in BN1:
        assert not torch.equal(fit.weights[name][0], fit.weights[name][1])
        assert torch.equal(fit.weights[name][1], alone.weights[name])


def test_statistics_of_svi_follow_its_draws_and_are_shared(task, tmp_path):
    """With a guide that is as good as a point and does not move, they are those of its mean."""
    options = {"learning_rate": 1e-12, "batch_size": 20, "initial_scale": 1e-6, **PRIOR}
    fit = train("svi", task, epochs=2, **options)
    a = task.network().conv1(task.x)
    torch.testing.assert_close(
        fit.weights["bn1.running_mean"], (1 - 0.9**2) * a.mean((0, 2, 3)).detach(), rtol=1e-3, atol=1e-5
    )
    assert "bn1.running_mean.loc" not in fit.weights
    assert {"bn1.weight.loc", "bn1.weight.scale", "bn1.bias.loc"} <= set(fit.weights)
    posterior.save(tmp_path / "w.safetensors", fit.weights, fit.kind, task.about(), 0)
    drawn = posterior.load(tmp_path / "w.safetensors", 3)
    assert len({weights["bn1.running_mean"].data_ptr() for weights in drawn}) == 1
    assert not torch.equal(drawn.weights["bn1.weight"][0], drawn.weights["bn1.weight"][1])


def test_svi_drops_nothing_out(task):
    """Its draws are noise enough; and the statistics are those of the batch."""
    network = nn.Sequential(nn.Flatten(), nn.Linear(36, 4), nn.BatchNorm1d(4), nn.Dropout(0.5), nn.Linear(4, 2)).eval()
    with modes.normalising_by_batch(network, 20):
        assert network[2].training
        assert not network[3].training


def test_a_prior_of_networks_that_normalise(task):
    network = task.network()
    prior = priors.prior_of(network, "he", 0.5)
    assert {name for name, mean in prior.means.items() if mean} == {
        name for name, _ in network.named_parameters() if "bn" in name and name.endswith("weight")
    }
    assert prior.means["bn1.weight"] == 1
    assert prior.deviations["bn1.weight"] == prior.deviations["bn1.bias"] == pytest.approx(0.5 * 2**0.5)


def test_map_svi_and_chains_have_one_prior(task):
    """Where the likelihood is that of no data, MAP's energy, SVI's KL and a chain's potential are those of normals."""
    network = task.network()
    prior = priors.prior_of(network, "lecun", 0.7)
    weights = {name: value + 0.1 for name, value in networks.parameters_of(network).items()}
    normals = {name: torch.distributions.Normal(prior.means[name], prior.deviations[name]) for name in weights}
    mean = {name: torch.full_like(value, prior.means[name]) for name, value in weights.items()}
    expected = float(sum((normals[n].log_prob(mean[n]) - normals[n].log_prob(weights[n])).sum() for n in weights))
    assert float(prior.energy(weights)) == pytest.approx(expected, rel=1e-5)

    statistics = networks.statistics_of(network)
    misfit = cross_entropy(networks.logits(network, weights | statistics, task.x), task.y, reduction="sum")
    potential = chains.potential_energy(task, prior, statistics)({"weights": networks.flat(weights)})
    assert float(potential - misfit) == pytest.approx(expected, rel=1e-4)

    options = {"prior": "lecun", "prior_scale": 0.7, "epochs": 1, "learning_rate": 1e-12, "batch_size": 20}
    scale = 1e-3
    fit = train("svi", task, initial_scale=scale, **options)
    start = networks.parameters_of(network)
    divergence = sum(
        float(
            torch.distributions.kl_divergence(
                torch.distributions.Normal(value, scale * prior.deviations[name]), normals[name]
            ).sum()
        )
        for name, value in start.items()
    )
    with modes.normalising_by_batch(network, 20):
        loss = float(cross_entropy(networks.logits(network, start, task.x), task.y, reduction="sum").detach())
    assert fit.history[0]["loss"] * len(task.x) == pytest.approx(divergence + loss, rel=2e-3)


def test_chains_keep_the_statistics_of_their_starts(task):
    of = {"method": "maximum_a_posteriori", "epochs": 3, "batch_size": 10, **PRIOR}
    ensemble = train("ensemble", task, members=2, of=of)
    start = Posterior(task.network(), ensemble.weights)
    options = {"chains": 2, "draws": 4, "warmup": 1, "step_size": 1e-3, "leapfrog_steps": 2, "start": "e", **PRIOR}
    fit = train("hmc", replace(task, start=start), **options)
    for name in BN1:
        for draw in range(4):
            assert torch.equal(fit.weights[name][draw], ensemble.weights[name][draw % 2])
    assert not torch.equal(fit.weights["bn1.weight"][0], fit.weights["bn1.weight"][2])
    found = posterior.accuracy(Posterior(task.network(), fit.weights), task.validation_x, task.validation_y)
    assert fit.history[-1]["validation_accuracy"] == found


class KilledError(Exception):
    pass


@pytest.mark.parametrize(("method", "module", "options"), [("deterministic", point, {}), ("svi", variational, PRIOR)])
def test_a_descent_that_was_stopped_goes_on_with_its_statistics(method, module, options, task, tmp_path, monkeypatch):
    options = {"epochs": 3, "batch_size": 7, **options}
    whole = train(method, task, **options)
    kept = replace(task, checkpoints=tmp_path, recipe="r")
    monkeypatch.setattr(checkpoints, "SECONDS_BETWEEN", 0.0)
    steps, descent = [], module.Descent

    def dying(step, *rest):
        def counted(x, y):
            steps.append(1)
            if len(steps) == 5:
                raise KilledError
            return step(x, y)

        return descent(counted, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(module, "Descent", dying)
        with pytest.raises(KilledError):
            train(method, kept, **options)
    again = train(method, kept, **options)
    assert all(torch.equal(value, again.weights[name]) for name, value in whole.weights.items())
