"""A network that has learnt scikit-learn's digits, for tests of attacks."""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor

from resilience import catalog, data
from resilience.datasets import bundled
from resilience.posterior import Posterior, point
from resilience.training.fit import Task


@cache
def trained(draws: int = 1, architecture: str = "fc2") -> tuple[Posterior, Tensor, Tensor]:
    """The network, or draws around it, with 60 test images and their labels."""
    arrays = data.split(bundled.digits(), 0.1, None, "digits")
    task = Task.of({"architecture": architecture, "width": 16}, arrays, 1, None, torch.device("cpu"))
    fit = catalog.bound("trainings", {"method": "deterministic", "epochs": 15, "learning_rate": 0.01})(task=task)
    network = task.network()
    network.load_state_dict(fit.weights)
    x, y = torch.from_numpy(arrays["test.x"][:60]), torch.from_numpy(arrays["test.y"][:60])
    posterior = point(network)
    if draws > 1:
        drawn = torch.Generator().manual_seed(0)
        posterior = Posterior(
            network,
            {
                name: torch.cat([v + 0.05 * v.std() * torch.randn(v.shape, generator=drawn) for _ in range(draws)])
                for name, v in posterior.weights.items()
            },
        )
    return posterior, x, y
