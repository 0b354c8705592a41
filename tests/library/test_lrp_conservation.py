"""No relevance is made and none is lost, in random graphs whose affine layers have no biases."""

from __future__ import annotations

import pytest
import torch
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

from resilience import lrp_rules
from resilience.explanations import lrp
from resilience.lrp_composites import AnyRule, Composite
from resilience.posterior import point

CHANNELS, CLASSES, SIDE = 4, 3, 6
NONE = 1e-30
SHARED = lrp_rules.epsilon(epsilon=NONE)
#: Rules that share all relevance wherever inputs contribute at all, and none to biases.
RULES: dict[str, AnyRule] = {
    "epsilon": Composite(SHARED, SHARED, SHARED, SHARED),
    "gamma": Composite(lrp_rules.gamma(stabiliser=NONE), SHARED, SHARED, SHARED),
    "generalised_gamma": Composite(lrp_rules.generalised_gamma(stabiliser=NONE), SHARED, SHARED, SHARED),
    "w_square": Composite(SHARED, SHARED, SHARED, SHARED, lrp_rules.w_square(stabiliser=NONE)),
    "zbox": Composite(SHARED, SHARED, SHARED, SHARED, lrp_rules.zbox(low=-0.1, high=1.2, stabiliser=NONE)),
}


def convolution(size: int, groups: int = 1) -> nn.Module:
    return nn.Conv2d(CHANNELS, CHANNELS, size, padding=size // 2, groups=groups, bias=False)


def normalisation() -> nn.Module:
    """Of the batch: what can be folded adds no bias here, since means and shifts are 0."""
    return nn.BatchNorm2d(CHANNELS)


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.branch = nn.Sequential(convolution(3), normalisation(), nn.LeakyReLU(0.3), convolution(1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.branch(x)


class Concatenated(nn.Module):
    def __init__(self):
        super().__init__()
        self.one, self.two = convolution(1), convolution(3, groups=2)
        self.mixed = nn.Conv2d(2 * CHANNELS, CHANNELS, 1, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.mixed(torch.cat([self.one(x), functional.leaky_relu(self.two(x), 0.2)], 1))


class Gated(nn.Module):
    """Squeeze and excitation: its gate gets no relevance."""

    def __init__(self):
        super().__init__()
        self.excite = nn.Conv2d(CHANNELS, CHANNELS, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.excite(x.mean((2, 3), keepdim=True)).sigmoid()


BLOCKS = {
    "residual": Residual,
    "concatenated": Concatenated,
    "gated": Gated,
    "folded": lambda: nn.Sequential(convolution(3), normalisation(), nn.LeakyReLU(0.1)),
    "not folded": lambda: nn.Sequential(nn.LeakyReLU(0.1), normalisation(), convolution(1)),
    "smooth": lambda: nn.Sequential(convolution(1), nn.SiLU()),
    "average": lambda: nn.AvgPool2d(3, 1, 1),
    "largest": lambda: nn.MaxPool2d(3, 1, 1),
}


def network(blocks: list[str], seed: int) -> nn.Module:
    stem = nn.Conv2d(2, CHANNELS, 3, padding=1, bias=False)
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(CHANNELS, CLASSES, bias=False)]
    made = nn.Sequential(stem, *(BLOCKS[block]() for block in blocks), *head).double().eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, value in made.state_dict().items():
            if name.endswith("running_var"):
                value.copy_(0.5 + torch.rand(value.shape, generator=generator))
            elif name.endswith("weight"):
                value.copy_(torch.randn(value.shape, generator=generator) * (2 / max(1, value[0].numel())) ** 0.5)
    return made


@pytest.mark.parametrize("rule", RULES)
@given(blocks=st.lists(st.sampled_from(sorted(BLOCKS)), max_size=4), seed=st.integers(0, 1000))
@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_relevance_at_the_pixels_sums_to_that_at_the_start(rule, blocks, seed):
    made = network(blocks, seed)
    x = torch.rand(2, 2, SIDE, SIDE, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    assume(bool((made(x)[:, 1].abs() > 1e-9).all()))
    for start, owed in (("one", torch.ones(2, dtype=torch.float64)), ("value", made(x)[:, 1].detach())):
        found = lrp.heat_maps(point(made), x, torch.tensor([1, 1]), RULES[rule], ("output",), "strongest", start)["output"]
        size = found.abs().flatten(1).sum(1)
        assert bool(((found.flatten(1).sum(1) - owed).abs() < 1e-8 * (size + owed.abs())).all())


def test_a_gate_gets_no_relevance_and_its_value_all():
    made = network(["gated"], 0)
    with torch.no_grad():
        for value in made[1].excite.parameters():
            value.zero_()  # half open for all channels
    x = torch.rand(2, 2, SIDE, SIDE, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    plain = nn.Sequential(made[0], *made[2:])
    classes = torch.tensor([0, 2])
    found, expected = (
        lrp.heat_maps(point(each), x, classes, RULES["epsilon"], ("output",))["output"] for each in (made, plain)
    )
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-10 * float(expected.abs().max()))
