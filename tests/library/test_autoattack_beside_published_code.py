"""AutoAttack beside the published code, where that is installed: ``pip install --no-deps pyautoattack``."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.func import functional_call

from resilience import catalog
from resilience.posterior import predict
from tests.library.trained_digits import trained

pyautoattack = pytest.importorskip("pyautoattack")


class MeanPrediction(nn.Module):
    """The logarithms of the mean prediction, which the published code takes for logits."""

    def __init__(self, posterior):
        super().__init__()
        self.posterior = posterior

    def forward(self, x):
        each = [functional_call(self.posterior.network, draw, (x,)).log_softmax(1) for draw in self.posterior]
        return torch.stack(each).logsumexp(0)


@pytest.mark.parametrize("draws", [1, 3])
@pytest.mark.parametrize(("method", "norm", "epsilon"), [("autoattack", "Linf", 0.06), ("autoattack_l2", "L2", 0.4)])
def test_no_more_images_withstand_it(method, norm, epsilon, draws):
    posterior, x, y = trained(draws)
    make = catalog.bound("attacks", {"method": method, "epsilon": epsilon})
    ours = make(posterior=posterior, x=x, y=y, generator=torch.Generator().manual_seed(0))
    published = pyautoattack.AutoAttack(MeanPrediction(posterior), norm=norm, eps=epsilon, seed=0)
    theirs, _ = published.run_standard_evaluation(x, y)
    left, left_by_theirs = (int((predict(posterior, found).argmax(1) == y).sum()) for found in (ours, theirs))
    assert 0 < left <= left_by_theirs
