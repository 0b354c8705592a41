from __future__ import annotations

import numpy as np
import pytest
import torch

from resilience import artifacts, networks, posterior
from resilience.artifacts import ArtifactError, read_about, write_tensors
from resilience.graphs import graphs_of
from resilience.posterior import DRAWS, MEAN_FIELD, POINT, Posterior
from tests.conftest import double_network, noisy_posterior
from tests.library.lrp_stacks import STACKS, images

SETTINGS = {"architecture": "fc2", "width": 5, "shape": [1, 3, 3], "classes": 4}


def network():
    return networks.build(SETTINGS, SETTINGS["shape"], SETTINGS["classes"], seed=1)


def test_predictive_is_the_plain_mean_of_softmaxes():
    build, shape = STACKS["conv"]
    net, x = double_network(build(True), 0), images(shape, 0)
    drawn = noisy_posterior(net, 9)
    expected = torch.zeros(len(x), 3, dtype=torch.float64)
    for index in range(9):
        net.load_state_dict({name: value[index] for name, value in drawn.weights.items()})
        expected += torch.softmax(net(x), 1) / 9
    torch.testing.assert_close(posterior.predict(drawn, x), expected, rtol=0, atol=1e-14)


def test_predictions_do_not_depend_on_how_many_images_are_predicted_at_a_time(monkeypatch):
    build, shape = STACKS["conv"]
    net, x = double_network(build(True), 0), images(shape, 0, count=20)
    y = net(x).argmax(1).clone()
    y[:5] = (y[:5] + 1) % 3
    drawn = posterior.point(net)
    at_once = posterior.predict(drawn, x)
    assert posterior.accuracy(drawn, x, y) == 0.75
    monkeypatch.setattr(posterior, "IMAGES_AT_A_TIME", 3)
    torch.testing.assert_close(posterior.predict(drawn, x), at_once, rtol=0, atol=1e-14)
    assert posterior.accuracy(drawn, x, y) == 0.75


def test_point_estimate_survives_writing(tmp_path):
    net = network()
    posterior.save(tmp_path / "w.safetensors", net.state_dict(), POINT, SETTINGS, seed=0)
    loaded = posterior.load(tmp_path / "w.safetensors")
    x = torch.rand(3, 1, 3, 3)
    assert len(loaded) == 1
    assert torch.equal(posterior.predict(loaded, x), posterior.predict(posterior.point(net), x))


def test_first_draws_are_nested(tmp_path):
    stack = {name: torch.randn(6, *value.shape) for name, value in network().state_dict().items()}
    posterior.save(tmp_path / "w.safetensors", stack, DRAWS, SETTINGS, seed=0)
    few, all_of_them = posterior.load(tmp_path / "w.safetensors", 2), posterior.load(tmp_path / "w.safetensors")
    assert (len(few), len(all_of_them)) == (2, 6)
    assert all(torch.equal(few.weights[name], stack[name][:2]) for name in stack)


def mean_field(net):
    shapes = {name: value.shape for name, value in net.state_dict().items()}
    parameters = {f"{name}.loc": torch.full(shape, 2.0) for name, shape in shapes.items()}
    return parameters | {f"{name}.scale": torch.full(shape, 0.5) for name, shape in shapes.items()}


def test_mean_field_draws_are_nested_and_follow_their_seed(tmp_path):
    for seed in (0, 1):
        posterior.save(tmp_path / f"{seed}.safetensors", mean_field(network()), MEAN_FIELD, SETTINGS, seed=seed)
    few, many = (posterior.load(tmp_path / "0.safetensors", draws) for draws in (10, 50))
    other = posterior.load(tmp_path / "1.safetensors", 10)
    for name in few.weights:
        assert torch.equal(few.weights[name], many.weights[name][:10])
        assert not torch.equal(few.weights[name], other.weights[name])


def test_mean_field_draws_have_their_moments():
    parameters = {"w.loc": torch.full((4000,), 2.0), "w.scale": torch.full((4000,), 0.5)}
    draws = posterior.sample_mean_field(parameters, ["w"], seed=3, draws=10)["w"]
    assert abs(float(draws.mean()) - 2.0) < 0.01
    assert abs(float(draws.std()) - 0.5) < 0.01
    assert abs(float(torch.corrcoef(draws)[0, 1])) < 0.05


def test_header_rebuilds_the_network_without_a_config(tmp_path):
    posterior.save(tmp_path / "w.safetensors", network().state_dict(), POINT, SETTINGS, seed=0)
    assert read_about(tmp_path / "w.safetensors")["network"] == SETTINGS
    assert networks.learnable_layers(posterior.load(tmp_path / "w.safetensors").network) == ("1", "3", "5")


def test_too_many_draws_are_refused(tmp_path):
    stack = {name: torch.randn(6, *value.shape) for name, value in network().state_dict().items()}
    posterior.save(tmp_path / "w.safetensors", stack, DRAWS, SETTINGS, seed=0)
    with pytest.raises(ArtifactError, match="has 6 draws, 7 were asked for"):
        posterior.load(tmp_path / "w.safetensors", 7)


def test_a_mean_field_needs_a_number_of_draws(tmp_path):
    posterior.save(tmp_path / "w.safetensors", mean_field(network()), MEAN_FIELD, SETTINGS, seed=0)
    with pytest.raises(ArtifactError, match="say how many"):
        posterior.load(tmp_path / "w.safetensors")


@pytest.mark.parametrize("damage", ["missing", "shape", "header"])
def test_weights_that_do_not_fit_are_refused(tmp_path, damage):
    weights = {name: value.numpy() for name, value in network().state_dict().items()}
    about = {"kind": POINT, "network": SETTINGS, "seed": 0}
    if damage == "missing":
        del weights["1.weight"]
    if damage == "shape":
        weights["1.weight"] = np.zeros((5, 10), dtype=np.float32)
    if damage == "header":
        about = {}
    write_tensors(tmp_path / "w.safetensors", weights, about)
    with pytest.raises(ArtifactError, match=r"w\.safetensors: .*(1\.weight|header)"):
        posterior.load(tmp_path / "w.safetensors")


BATCH_NORMALISED = {"architecture": "resnet20", "width": 2, "blocks": 1, "shape": [1, 6, 6], "classes": 3}


def batch_normalised():
    return networks.build(BATCH_NORMALISED, BATCH_NORMALISED["shape"], BATCH_NORMALISED["classes"], seed=1)


def test_statistics_are_weights_and_no_parameters():
    net = batch_normalised()
    statistics, parameters = networks.statistics_of(net), networks.parameters_of(net)
    assert {name.rpartition(".")[2] for name in statistics} == {"running_mean", "running_var"}
    assert set(parameters) == set(dict(net.named_parameters()))
    assert set(networks.weights_of(net)) == {*statistics, *parameters}


def test_what_all_draws_share_is_written_once_and_lies_in_memory_once(tmp_path):
    net = batch_normalised()
    drawn = {name: value + torch.randn(7, *value.shape) for name, value in networks.weights_of(net).items()}
    same = {
        "conv1.weight": drawn["conv1.weight"][:1].expand(7, -1, -1, -1, -1),
        "bn1.bias": drawn["bn1.bias"][:1].repeat(7, 1),
    }
    posterior.save(tmp_path / "w.safetensors", drawn | same, DRAWS, BATCH_NORMALISED, seed=0)
    about, arrays = read_about(tmp_path / "w.safetensors"), artifacts.read_tensors(tmp_path / "w.safetensors")
    assert about["shared"] == ["bn1.bias", "conv1.weight"]
    assert arrays["conv1.weight"].shape == (2, 1, 3, 3)
    for draws in (None, 3):
        loaded = posterior.load(tmp_path / "w.safetensors", draws)
        assert len(loaded) == (draws or 7)
        for name, value in (drawn | same).items():
            assert torch.equal(loaded.weights[name], value[:draws])
        assert len({weights["conv1.weight"].data_ptr() for weights in loaded}) == 1
        assert loaded.weights["conv1.weight"].stride(0) == 0
        assert loaded.to("cpu").weights["conv1.weight"].stride(0) == 0
    with pytest.raises(ArtifactError, match="has 7 draws, 8 were asked for"):
        posterior.load(tmp_path / "w.safetensors", 8)


def test_layers_that_all_draws_share_are_one_operation():
    net = batch_normalised()
    stacks = posterior.shared(networks.weights_of(net), 3) | {"linear.weight": torch.randn(3, *net.linear.weight.shape)}
    first, second, _ = graphs_of(Posterior(net, stacks), (1, 6, 6))
    same = [one.operation is other.operation for one, other in zip(first.nodes, second.nodes, strict=True)]
    assert same == [True] * (len(same) - 1) + [False]


def test_draws_that_are_all_the_same_have_a_number(tmp_path):
    weights = posterior.shared(networks.weights_of(network()), 4)
    posterior.save(tmp_path / "w.safetensors", weights, DRAWS, SETTINGS, seed=0)
    assert [len(posterior.load(tmp_path / "w.safetensors", draws)) for draws in (None, 2)] == [4, 2]


def test_a_mean_field_posterior_shares_statistics(tmp_path):
    net = batch_normalised()
    parameters = {f"{name}.loc": value for name, value in networks.parameters_of(net).items()}
    parameters |= {name.removesuffix("loc") + "scale": torch.ones_like(value) for name, value in parameters.items()}
    statistics = {name: torch.rand_like(value) for name, value in networks.statistics_of(net).items()}
    posterior.save(tmp_path / "w.safetensors", parameters | statistics, MEAN_FIELD, BATCH_NORMALISED, seed=0)
    few, many = (posterior.load(tmp_path / "w.safetensors", draws) for draws in (2, 5))
    for name in networks.parameters_of(net):
        assert torch.equal(few.weights[name], many.weights[name][:2])
        assert not torch.equal(few.weights[name][0], few.weights[name][1])
    for name, value in statistics.items():
        assert torch.equal(many.weights[name], value.expand(5, *value.shape))
        assert many.weights[name].stride(0) == 0
