"""Weights that were trained elsewhere are taken as they are, or refused with the tensor and both shapes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from resilience import posterior
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
        (lambda value: value[:, :4], r"5.weight has shape \(3, 4\); the network needs \(3, 6\)"),
        (lambda value: None, r"has no tensor 5.weight; found 1.bias, 1.weight, 3.bias, 3.weight, 5.bias"),
        (lambda value: value.int(), "5.weight is torch.int32; expected floats"),
        (lambda value: value / 0, "expected safetensors of finite floats"),
        (lambda value: value.bfloat16(), "cannot be used; expected safetensors of finite floats"),
        (lambda value: value[None], r"5.weight has shape \(1, 3, 6\); the network needs \(3, 6\)"),
    ],
    "7.weight": [(lambda value: torch.zeros(3), r"has a tensor 7.weight; the network's are 1.weight, 1.bias")],
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
