"""Operations up and down, whichever way is taken for their sizes, beside what torch computes by the plain one."""

from __future__ import annotations

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

from resilience import operations
from resilience.operations import Concatenation, Convolution, Step
from resilience.reading import read

SIDES = st.tuples(st.integers(1, 6), st.integers(1, 6))


@st.composite
def convolutions(draw: st.DrawFn) -> tuple[Tensor, Convolution]:
    """Images of a few pixels and a convolution of them, in double precision."""
    channels, outputs = draw(st.integers(1, 6)), draw(st.integers(1, 3))
    kernel, stride = draw(st.tuples(st.integers(1, 4), st.integers(1, 4))), draw(st.tuples(*[st.integers(1, 3)] * 2))
    padding = draw(st.tuples(st.integers(0, kernel[0] // 2), st.integers(0, kernel[1] // 2)))
    height, width = draw(SIDES)
    assume(height + 2 * padding[0] >= kernel[0] and width + 2 * padding[1] >= kernel[1])
    generator = torch.Generator().manual_seed(draw(st.integers(0, 99)))
    a = torch.randn(2, channels, height, width, generator=generator, dtype=torch.float64)
    weight = torch.randn(outputs, channels, *kernel, generator=generator, dtype=torch.float64)
    bias = draw(st.sampled_from([None, torch.arange(outputs, dtype=torch.float64)]))
    return a.contiguous(memory_format=torch.channels_last), Convolution(weight, bias, stride, padding)


@settings(deadline=None)
@given(convolutions())
def test_a_convolution_is_torchs_in_both_directions_however_few_its_channels_and_places_are(case):
    a, convolution = case
    variable = a.clone().requires_grad_()
    expected = functional.conv2d(variable, convolution.weight, convolution.bias, convolution.stride, convolution.padding)
    s = torch.randn(expected.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    (back,) = torch.autograd.grad(expected, variable, s)
    s = s.contiguous(memory_format=torch.channels_last)
    assert torch.allclose(convolution.forward(a), expected, rtol=0, atol=1e-12)
    assert torch.allclose(convolution.down(s, Step(convolution, (a,)))[0], back, rtol=0, atol=1e-12)
    # Attacks on heat maps differentiate the way up, too.
    again = a.clone().requires_grad_()
    (differentiated,) = torch.autograd.grad(convolution.forward(again), again, s)
    assert torch.allclose(differentiated, back, rtol=0, atol=1e-12)


@pytest.mark.parametrize("side", [2, 8])
def test_where_places_are_few_there_is_no_convolution(side, monkeypatch):
    called = []
    monkeypatch.setattr(operations.functional, "conv2d", lambda *_: called.append(1) or torch.zeros(1, 1, side, side))
    Convolution(torch.ones(1, 1, 3, 3), None, padding=(1, 1)).forward(torch.ones(1, 1, side, side))
    assert bool(called) == (side > 2)


class Dense(nn.Module):
    """Four layers, each of which sees the images and all that those before it made."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Conv2d(channels, 2, 1) for channels in (3, 5, 7, 9))

    def forward(self, x: Tensor) -> Tensor:
        """As in a DenseNet."""
        seen = [x]
        for layer in self.layers:
            seen.append(layer(torch.cat(seen, 1)))
        return torch.cat(seen, 1).flatten(1)


def test_each_concatenation_of_a_dense_block_adds_to_the_one_before_it():
    parts = read(Dense(), (3, 2, 2)).parts
    widths = [len(part.inputs) for part in parts if part.kind is Concatenation]
    assert set(widths[1:]) == {2}
