"""Every stage computes on a GPU what it computes on the CPU: on a pretended one everywhere, on a real one where it is."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.library.device_stages import stages
from tests.library.pretend_device import CPU, OnDevice, pretend_device

STAGES = dict(stages())


@pytest.fixture(autouse=True)
def _in_double_precision():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("name", STAGES)
def test_a_pretended_gpu_finds_what_the_cpu_finds(name):
    expected = STAGES[name](CPU)
    with pretend_device() as device:
        found = STAGES[name](device)
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        if isinstance(value, torch.Tensor):
            assert torch.equal(found[key].held if isinstance(found[key], OnDevice) else found[key], value), key
        else:
            np.testing.assert_equal(found[key], value, err_msg=key)
