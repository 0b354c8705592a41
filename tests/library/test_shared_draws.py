"""Draws that differ in their last layer alone share one pass up and one down, and get what each would get alone."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from resilience import lrp_rules
from resilience.attacks.gradient import LossGradient
from resilience.attacks.predictive import Predictive
from resilience.explanations import lrp
from resilience.graphs import graphs_of, knowing_what_they_share, trace
from resilience.measures.forward import mean_logits, mean_probabilities
from resilience.posterior import Posterior, point
from tests.library.test_cost import Cost

SHAPE = (3, 8, 8)
DRAWS = 5


class Residual(nn.Module):
    """A convolution, a block with a shortcut, and a head that all draws share or have alone."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.inner = nn.Conv2d(3, 6, 3, padding=1), nn.Conv2d(6, 6, 3, padding=1)
        self.head = nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        a = self.first(x).relu()
        return self.head((self.inner(a).relu() + a).mean((2, 3)))


def posterior(apart: tuple[str, ...], shared: bool) -> Posterior:
    """Draws that differ in some layers; the others lie at one place in memory, or the same values at several."""
    torch.manual_seed(0)
    network = Residual().double().eval()
    weights = {}
    for name, value in network.state_dict().items():
        if name.startswith(apart):
            weights[name] = value + 0.3 * torch.randn(DRAWS, *value.shape, dtype=value.dtype)
        else:
            stack = value.expand(DRAWS, *value.shape)
            weights[name] = stack if shared else stack.clone()
    return Posterior(network, weights)


def images(count: int = 6) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.rand(count, *SHAPE, generator=generator, dtype=torch.float64), torch.arange(count) % 4


def likelihood(log_probabilities: Tensor, part: slice) -> Tensor:
    return log_probabilities.gather(1, images()[1][part, None])[:, 0]


@torch.no_grad()
def results(model: Posterior) -> list[Tensor]:
    x, y = images()
    graphs, predictive = graphs_of(model, SHAPE), Predictive(model, SHAPE)
    return [
        *(LossGradient(model, SHAPE, objective)(x, y) for objective in ("likelihood", "margin")),
        predictive.log_probabilities(x),
        *predictive.gradient(x, likelihood),
        mean_logits(graphs, x),
        mean_probabilities(graphs, x),
        *lrp.heat_maps(model, x, y, lrp_rules.epsilon(), ("first", "head")).values(),
    ]


@pytest.mark.parametrize("apart", [("head",), ("inner", "head"), ("first", "inner", "head")])
def test_what_draws_share_changes_no_result(apart):
    for shared, alone in zip(results(posterior(apart, True)), results(posterior(apart, False)), strict=True):
        torch.testing.assert_close(shared, alone, rtol=1e-12, atol=1e-13)


def test_a_gradient_of_many_last_layers_costs_one_pass_up_and_one_down():
    gradient, (x, y) = LossGradient(posterior(("head",), True), SHAPE, "likelihood"), images()
    with Cost() as cost:
        gradient(x, y)
    assert cost.products == 2 * 2 + 2 * DRAWS


def test_steps_of_other_images_are_not_taken_over():
    graphs, (x, _) = graphs_of(posterior(("head",), True), SHAPE), images()
    graph = knowing_what_they_share(graphs, x)[1]
    torch.testing.assert_close(trace(graph, x / 2).output, trace(graphs[1], x / 2).output, rtol=0, atol=0)


def test_a_single_draw_knows_nothing():
    graphs = graphs_of(point(posterior((), True).network), SHAPE)
    assert knowing_what_they_share(graphs, images()[0]) is graphs
