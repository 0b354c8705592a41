"""Every stage computes on a GPU what it computes on the CPU: on a pretended one everywhere, on a real one where it can.

The stages compute in double precision, so that a mistake cannot hide behind rounding: what differs by more than 1e-6 on a
real GPU is another number, not the same one rounded.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils._python_dispatch import TorchDispatchMode

from resilience import computing
from tests.library.device_stages import stages
from tests.library.pretend_device import CPU, DEVICE, pretend_device

STAGES = dict(stages())
ROUNDING = 1e-6
MIXED = "Expected all tensors to be on the same device"
NOT_DETERMINISTIC = "does not have a deterministic implementation"


@pytest.fixture(autouse=True)
def _in_double_precision():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("name", STAGES)
def test_a_pretended_gpu_finds_what_the_cpu_finds(name):
    expected = STAGES[name](CPU)
    with pretend_device() as device:
        torch.use_deterministic_algorithms(True)
        found = STAGES[name](device)
        elsewhere = [key for key, value in found.items() if isinstance(value, Tensor) and value.device != device]
        assert not elsewhere, "found on another device"
        found = on_the_cpu(found)
    assert_close(found, expected, 0)


@pytest.fixture
def gpu(monkeypatch):
    """A real GPU, set up as a job sets it up."""
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    monkeypatch.setattr(computing, "_workers", 1)
    yield computing.prepare(1)
    torch.use_deterministic_algorithms(False)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="PyTorch finds no GPU here")
@pytest.mark.parametrize("name", STAGES)
def test_a_gpu_finds_what_the_cpu_finds(name, gpu):
    expected = STAGES[name](CPU)
    with RandomNumbersOfTheCpu():
        found = on_the_cpu(STAGES[name](gpu))
    assert_close(found, expected, ROUNDING)


@pytest.mark.parametrize("name", ["svi", "nuts"])
def test_random_numbers_can_be_those_of_the_cpu(name):
    """What the test on a real GPU relies on, tried where there is none."""
    expected = STAGES[name](CPU)
    with pretend_device() as device, RandomNumbersOfTheCpu():
        found = on_the_cpu(STAGES[name](device))
    assert_close(found, expected, 0)


class RandomNumbersOfTheCpu(TorchDispatchMode):
    """Random numbers of a device are drawn by the CPU's generator, as if the whole had been computed there."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        like = [value for value in args if isinstance(value, Tensor)]
        there = kwargs.get("device") or (like[0].device if like else CPU)
        if torch.Tag.nondeterministic_seeded not in func.tags or there == CPU:
            return func(*args, **kwargs)
        on_cpu = [value.cpu() if isinstance(value, Tensor) else value for value in args]
        made = func(*on_cpu, **(kwargs | {"device": CPU} if "device" in kwargs else kwargs))
        if func._schema.is_mutable:
            return args[0].copy_(made)
        return like[0].new_empty(made.shape, dtype=made.dtype).copy_(made) if like else made.to(there)


def on_the_cpu(found: dict[str, Any]) -> dict[str, Any]:
    return {key: value.cpu() if isinstance(value, Tensor) else value for key, value in found.items()}


def assert_close(found: Any, expected: Any, rounding: float) -> None:
    """The same structure and numbers, as far as rounding may change them."""
    match expected:
        case Tensor():
            torch.testing.assert_close(found, expected, rtol=rounding, atol=rounding, equal_nan=True)
        case dict():
            assert found.keys() == expected.keys()
            for key, value in expected.items():
                assert_close(found[key], value, rounding)
        case list():
            assert len(found) == len(expected)
            for pair in zip(found, expected, strict=True):
                assert_close(*pair, rounding)
        case float() if math.isfinite(expected):
            assert abs(found - expected) <= rounding * max(1, abs(expected))
        case float():
            assert str(found) == str(expected)
        case _:
            assert found == expected


class LeavesItsGradientOnTheCpu(torch.autograd.Function):
    """A mixture that only the way back has."""

    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, gradient):
        return gradient * torch.ones(3)


def mean_field_draw_as_it_was(there: Tensor) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return there + there * torch.randn(there.shape, generator=generator, dtype=there.dtype)


def assigned(to: Tensor, index: Any, value: Tensor) -> Tensor:
    to[index] = value
    return to


def on_both_ways(there: Tensor) -> Tensor:
    x = there.clone().requires_grad_()
    return torch.autograd.grad(LeavesItsGradientOnTheCpu.apply(x).sum(), x)[0]


#: What a GPU refuses, given a vector [3] there, and what PyTorch says.
REFUSED = {
    "a vector of the CPU": (lambda there: there + torch.ones(3), MIXED),
    "draws of a mean-field posterior as they were": (mean_field_draw_as_it_was, MIXED),
    "numbers counted on the CPU": (lambda there: torch.arange(3) < there, MIXED),
    "a number of the device beside a vector of the CPU": (lambda there: torch.ones(3) * there.sum(), MIXED),
    "adding to a number of the CPU": (lambda there: torch.zeros(()).add_(there.sum()), MIXED),
    "a choice between devices": (lambda there: torch.where(there > 0, there, torch.ones(3)), MIXED),
    "a mask of the CPU": (lambda there: torch.where(torch.ones(3) > 0, there, there), MIXED),
    "a matrix of the CPU": (lambda there: torch.ones(2, 3) @ there, MIXED),
    "a network of the CPU": (lambda there: nn.Linear(3, 2)(there), MIXED),
    "labels of the CPU": (lambda there: cross_entropy(there[None], torch.zeros(1, dtype=torch.long)), MIXED),
    "places to gather from of the CPU": (lambda there: there.gather(0, torch.zeros(1, dtype=torch.long)), MIXED),
    "places to select of the CPU": (lambda there: there.index_select(0, torch.zeros(1, dtype=torch.long)), MIXED),
    "places to scatter to of the CPU": (lambda there: there.scatter(0, torch.zeros(1, dtype=torch.long), 1.0), MIXED),
    "a stack of numbers": (lambda there: torch.stack([there.sum(), torch.ones(())]), MIXED),
    "values of the CPU that are assigned": (lambda there: assigned(there, there > -1, torch.ones(3)), MIXED),
    "indices of the device into the CPU": (
        lambda there: torch.ones(3)[there.long() * 0],
        "indices should be either on cpu or on the same device",
    ),
    "a gradient that is left on the CPU": (on_both_ways, MIXED),
    "numpy": (lambda there: there.numpy(), "can't convert cuda:0 device type tensor to numpy"),
    "numpy by the back door": (lambda there: np.asarray(there), "can't convert cuda:0 device type tensor to numpy"),
    "a generator of the CPU": (
        lambda there: torch.randn(3, generator=torch.Generator(), device=there.device),
        "Expected a 'cuda' device type for generator",
    ),
    "a generator of the CPU in place": (
        lambda there: there.normal_(generator=torch.Generator()),
        "Expected a 'cuda' device type for generator",
    ),
    "a histogram": (lambda there: there.histc(3), NOT_DETERMINISTIC),
    "a median and where it is": (lambda there: there.median(0), NOT_DETERMINISTIC),
    "the gradient of an adaptive mean": (
        lambda there: nn.functional.adaptive_avg_pool2d(there.view(1, 1, 3, 1).requires_grad_(), (2, 1)).sum().backward(),
        NOT_DETERMINISTIC,
    ),
}

#: What a GPU accepts, given a vector [3] there.
ACCEPTED = {
    "a number of the CPU": lambda there: there * torch.tensor(2.0),
    "a stabiliser of the CPU with the sign of a vector": lambda there: torch.copysign(torch.tensor(0.1), there),
    "indices of the CPU": lambda there: there[torch.tensor([2, 0])],
    "assignment at indices of the CPU": lambda there: assigned(there, torch.tensor([2, 0]), there[:2].clone()),
    "assignment of a number": lambda there: assigned(there, there > 1, torch.tensor(7.0)),
    "a copy from the CPU": lambda there: there.copy_(torch.arange(3.0)),
    "numbers made there": lambda there: torch.tensor([1.0, 2.0, 4.0], device=there.device) * there,
    "numbers counted there": lambda there: torch.arange(3, device=there.device) * there,
    "something made like it": lambda there: there.new_full((3,), 2.0) * torch.zeros_like(there) + there,
    "a move to where another is": lambda there: torch.ones(3).to(there) + there,
    "a network that was moved": lambda there: nn.Linear(3, 3, bias=False).to(there.device).requires_grad_(False)(there) * 0,
    "a branch": lambda there: there if float(there.sum()) > there[0].item() and there.tolist()[0] == 0 else -there,
    "numpy of a copy": lambda there: torch.from_numpy(there.cpu().numpy() + np.ones(3)),
    "a median": lambda there: there.median() + there,
}


@pytest.mark.parametrize("use", REFUSED)
def test_a_pretended_gpu_refuses_what_a_gpu_refuses(use):
    wrong, message = REFUSED[use]
    with pretend_device() as device:
        torch.use_deterministic_algorithms(True)
        there = torch.arange(3.0).to(device)
        with pytest.raises((RuntimeError, TypeError), match=message):
            wrong(there)


@pytest.mark.parametrize("use", ACCEPTED)
def test_a_pretended_gpu_accepts_what_a_gpu_accepts(use):
    expected = ACCEPTED[use](torch.arange(3.0))
    with pretend_device() as device:
        found = ACCEPTED[use](torch.arange(3.0).to(device)).cpu()
    assert torch.equal(found, expected)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="PyTorch finds no GPU here")
@pytest.mark.parametrize("use", [*REFUSED, *ACCEPTED])
def test_a_gpu_refuses_and_accepts_the_same(use, gpu):
    if use in ACCEPTED:
        torch.testing.assert_close(ACCEPTED[use](torch.arange(3.0).to(gpu)).cpu(), ACCEPTED[use](torch.arange(3.0)))
    else:
        there = torch.arange(3.0).to(gpu)
        with pytest.raises((RuntimeError, TypeError)):
            REFUSED[use][0](there)


def test_nothing_is_left_of_a_pretended_gpu():
    there = torch.cuda.is_available()
    with pretend_device() as device:
        assert torch.cuda.is_available()
        assert torch.ones(2, device="cuda").device == device == DEVICE
        torch.use_deterministic_algorithms(True)
    assert torch.cuda.is_available() == there
    assert not torch.are_deterministic_algorithms_enabled()
    assert type(torch.ones(2)) is Tensor


def test_a_job_sets_a_gpu_up_before_it_computes(monkeypatch):
    # Set and removed, so that it is as it was at the end.
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", "")
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG")
    monkeypatch.setattr(computing, "_workers", 1)
    with pretend_device():
        assert computing.prepare(1).type == torch.device("cuda").type == "cuda"
        assert torch.are_deterministic_algorithms_enabled()
        assert computing.os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
