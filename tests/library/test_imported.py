"""Weights that were trained elsewhere are taken as they are, or refused with the tensor and both shapes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from resilience import lrp_rules, posterior
from resilience.explanations import lrp
from resilience.posterior import DRAWS, POINT
from resilience.training.fit import Task, TrainingError
from resilience.training.imported import imported_draws, imported_point


@pytest.fixture
def task() -> Task:
    generator = torch.Generator().manual_seed(0)
    x, y = torch.rand(40, 1, 4, 4, generator=generator), torch.arange(40) % 3
    return Task({"architecture": "fc2", "width": 6}, x, y, x, y, classes=3, seed=1)


@pytest.fixture
def weights(task) -> dict[str, Tensor]:
    return dict(task.network(seed=5).state_dict())


def stacked(weights: dict[str, Tensor], count: int) -> dict[str, Tensor]:
    return {name: torch.stack([value + index for index in range(count)]) for name, value in weights.items()}


@pytest.mark.parametrize("kind", [torch.float32, torch.float64])
def test_a_point_is_taken_as_it_is(kind, task, weights, tmp_path):
    save_file({name: value.to(kind) for name, value in weights.items()}, tmp_path / "w.safetensors")
    fit = imported_point(task, file=str(tmp_path / "w.safetensors"), role="control")
    assert fit.kind == POINT
    assert all(torch.equal(fit.weights[name], value) for name, value in weights.items())
    network = task.network()
    network.load_state_dict(weights)
    accuracy = posterior.accuracy(posterior.point(network), task.validation_x, task.validation_y)
    assert fit.history == [{"draws": 1, "validation_accuracy": accuracy}]
    posterior.save(tmp_path / "saved.safetensors", fit.weights, fit.kind, task.about(), 0)
    assert len(posterior.load(tmp_path / "saved.safetensors")) == 1


def test_the_first_draws_are_taken(task, weights, tmp_path):
    save_file(stacked(weights, 5), tmp_path / "w.safetensors")
    fit = imported_draws(task, file=str(tmp_path / "w.safetensors"), draws=3, role="bayesian")
    assert fit.kind == DRAWS
    assert all(torch.equal(fit.weights[name], value) for name, value in stacked(weights, 3).items())
    posterior.save(tmp_path / "saved.safetensors", fit.weights, fit.kind, task.about(), 0)
    assert len(posterior.load(tmp_path / "saved.safetensors")) == 3


BAD = {
    "5.weight": [
        (lambda value: value[:, :4], r"5.weight has shape \(3, 4\); the network needs \(3, 6\)$"),
        (lambda value: None, "has no tensor 5.weight; found 1.bias, 1.weight, 3.bias and 2 more"),
        (lambda value: value.int(), "5.weight is torch.int32; expected floats"),
        (lambda value: value / 0, "expected safetensors of finite floats"),
        (lambda value: value.bfloat16(), "cannot be used; expected safetensors of finite floats"),
        (lambda value: value[None], r"5.weight has shape \(1, 3, 6\); the network needs \(3, 6\)"),
    ],
    "7.weight": [
        (lambda value: torch.zeros(3), r"has a tensor 7.weight; the network's are 1.weight, 1.bias, 3.weight and 3 more")
    ],
}


@pytest.mark.parametrize(("name", "change", "sentence"), [(name, *case) for name, cases in BAD.items() for case in cases])
def test_weights_that_do_not_fit_are_refused(name, change, sentence, task, weights, tmp_path):
    changed = weights | {name: change(weights.get(name))}
    present = {key: value.contiguous() for key, value in changed.items() if value is not None}
    save_file(present, tmp_path / "w.safetensors")
    with pytest.raises(TrainingError, match=sentence):
        imported_point(task, file=str(tmp_path / "w.safetensors"), role="control")


def test_draws_that_do_not_fit_are_refused(task, weights, tmp_path):
    file = str(tmp_path / "w.safetensors")

    def refused(tensors: dict[str, Tensor], sentence: str) -> None:
        save_file(tensors, file)
        with pytest.raises(TrainingError, match=sentence):
            imported_draws(task, file=file, draws=3, role="bayesian")

    refused(stacked(weights, 2), r"w.safetensors: has 2 draws; draws asks for 3")
    refused(weights, r"1.weight has shape \(6, 16\); the network needs \(6, 6, 16\)")
    uneven = stacked(weights, 4) | {"5.bias": torch.zeros(3, 3)}
    refused(uneven, r"5.bias has shape \(3, 3\); the network needs \(4, 3\)")
    refused(stacked(weights, 4) | {"5.bias": torch.tensor(0.0)}, "has 0 draws; draws asks for 3")


@pytest.mark.parametrize("content", [b"", b"junk", b"\xff" * 100])
def test_a_file_that_is_no_safetensors_is_refused(content, task, tmp_path):
    file = tmp_path / "w.safetensors"
    file.write_bytes(content)
    with pytest.raises(TrainingError, match=r"w.safetensors: cannot be used; expected safetensors"):
        imported_point(task, file=str(file), role="control")
    Path(file).unlink()
    with pytest.raises(TrainingError, match=r"w.safetensors: cannot be used"):
        imported_point(task, file=str(file), role="control")


# ---------------------------------------------------------------- files of torch.save, and networks of torchvision


def test_a_state_dict_of_torch_is_taken(task, weights, tmp_path):
    for ending in (".pt", ".pth"):
        torch.save(weights, tmp_path / f"w{ending}")
        fit = imported_point(task, file=str(tmp_path / f"w{ending}"), role="control")
        assert all(torch.equal(fit.weights[name], value) for name, value in weights.items())
    torch.save(stacked(weights, 4), tmp_path / "draws.pt")
    fit = imported_draws(task, file=str(tmp_path / "draws.pt"), draws=2, role="bayesian")
    assert all(torch.equal(fit.weights[name], value) for name, value in stacked(weights, 2).items())


class Touching:
    """What a pickle could do, if code of it were run."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.mark.parametrize(
    ("held", "sentence"),
    [
        (
            lambda task, folder: task.network(),
            "holds more than tensors, such as a whole network, which would be code; save its",
        ),
        (lambda task, folder: {"a": Touching(folder / "touched")}, "holds more than tensors"),
        (
            lambda task, folder: {"epoch": 3, "state_dict": {}},
            "holds the entries epoch, state_dict, which are no tensors by name; save",
        ),
        (lambda task, folder: torch.zeros(3), "holds a Tensor, which are no tensors by name"),
        (lambda task, folder: {"1.weight": torch.tensor(float("nan"))}, "1.weight has values that are not finite"),
    ],
)
def test_what_else_torch_saves_is_refused(held, sentence, task, tmp_path):
    torch.save(held(task, tmp_path), tmp_path / "w.pt")
    with pytest.raises(TrainingError, match=rf"w.pt: {sentence}"):
        imported_point(task, file=str(tmp_path / "w.pt"), role="control")
    assert not (tmp_path / "touched").exists()


@pytest.mark.parametrize("content", [b"", b"junk", b"PK\x03\x04junk"])
def test_a_file_that_is_none_of_torch_is_refused(content, task, tmp_path):
    (tmp_path / "w.pt").write_bytes(content)
    with pytest.raises(TrainingError, match=r"w.pt: (cannot be read by torch.load|holds more than tensors)"):
        imported_point(task, file=str(tmp_path / "w.pt"), role="control")
    with pytest.raises(TrainingError, match=r"no.pt: cannot be read by torch.load"):
        imported_point(task, file=str(tmp_path / "no.pt"), role="control")


def test_a_prefix_of_all_names_is_taken_off(task, weights, tmp_path, caplog):
    save_file({f"module.{name}": value for name, value in weights.items()}, tmp_path / "w.safetensors")
    with caplog.at_level("INFO"):
        fit = imported_point(task, file=str(tmp_path / "w.safetensors"), role="control")
    assert all(torch.equal(fit.weights[name], value) for name, value in weights.items())
    assert "names begin with 'module.', which is taken off" in caplog.text
    del weights["5.bias"]
    save_file({f"module.{name}": value for name, value in weights.items()}, tmp_path / "w.safetensors")
    with pytest.raises(TrainingError, match=r"has no tensor 1.weight, 1.bias, 3.weight and 3 more; found module.1.bias"):
        imported_point(task, file=str(tmp_path / "w.safetensors"), role="control")


@pytest.fixture(scope="module")
def residual() -> Task:
    """ResNet-18 behind a normalisation, on colour images of two classes."""
    x, y = torch.rand(8, 3, 32, 32, generator=torch.Generator().manual_seed(0)), torch.arange(8) % 2
    settings = {
        "architecture": "torchvision",
        "name": "resnet18",
        "mean": [0.485, 0.456, 0.406],
        "deviation": [0.229, 0.224, 0.225],
    }
    return Task(settings, x, y, x, y, classes=2, seed=1)


def theirs(classes: int = 2):
    """A network of torchvision with statistics of its own."""
    from torchvision import models

    torch.manual_seed(0)
    network = models.resnet18(num_classes=classes).train()
    network(torch.rand(4, 3, 32, 32))
    return network.eval()


def test_a_network_of_torchvision_is_explained_with_its_own_weights(residual, tmp_path):
    """From the file that torchvision's users have to a heat map that ends at pixels in [0, 1]."""
    network = theirs()
    torch.save(network.state_dict(), tmp_path / "w.pth")
    fit = imported_point(residual, file=str(tmp_path / "w.pth"), role="deterministic")
    posterior.save(tmp_path / "weights.safetensors", fit.weights, fit.kind, residual.about(), seed=0)
    loaded = posterior.load(tmp_path / "weights.safetensors", network=residual.settings)
    mean, deviation = (torch.tensor(residual.settings[key]).view(3, 1, 1) for key in ("mean", "deviation"))
    expected = network((residual.x - mean) / deviation).softmax(1).detach()
    torch.testing.assert_close(posterior.predict(loaded, residual.x), expected)
    predicted = expected.argmax(1)
    maps = lrp.heat_maps(loaded, residual.x, predicted, lrp_rules.epsilon(epsilon=0.1), layers=["output"])["output"]
    assert maps.shape == residual.x.shape
    assert bool(maps.isfinite().all())
    assert maps.abs().amax() > 0


def test_weights_of_other_classes_say_so(residual, tmp_path):
    torch.save(theirs(5).state_dict(), tmp_path / "w.pth")
    sentence = r"fc.weight has shape \(5, 512\); the network needs \(2, 512\), since the dataset has 2 classes"
    with pytest.raises(TrainingError, match=sentence):
        imported_point(residual, file=str(tmp_path / "w.pth"), role="control")


def test_auxiliary_heads_in_a_file_are_passed_over(tmp_path, monkeypatch):
    from torchvision import models

    # Reading it takes seconds, and is not what is tested.
    monkeypatch.setattr("resilience.training.fit.refuse_unreadable", lambda *_: None)
    x, y = torch.rand(4, 3, 32, 32), torch.arange(4) % 2
    task = Task({"architecture": "torchvision", "name": "googlenet"}, x, y, x, y, classes=2, seed=1)
    whole = models.googlenet(num_classes=2, aux_logits=True, init_weights=False)
    torch.save(whole.state_dict(), tmp_path / "w.pth")
    fit = imported_point(task, file=str(tmp_path / "w.pth"), role="control")
    assert not any(name.startswith("aux") for name in fit.weights)
    torch.save(whole.state_dict() | {"more.weight": torch.zeros(1)}, tmp_path / "w.pth")
    with pytest.raises(TrainingError, match=r"has a tensor more.weight; the network's are conv1.conv.weight"):
        imported_point(task, file=str(tmp_path / "w.pth"), role="control")
