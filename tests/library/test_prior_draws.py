"""Draws of the prior have its mean and standard deviations, and nothing of the images."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from resilience.training.fit import Task
from resilience.training.prior import prior_of
from resilience.training.prior_draws import prior_draws


def task(seed=0) -> Task:
    x, y = torch.rand(8, 1, 2, 3), torch.arange(8) % 2
    return Task({"architecture": "fc2", "width": 30}, x, y, x, y, 2, seed)


@pytest.mark.parametrize("prior", ["unit", "he", "lecun"])
def test_draws_of_the_prior_have_its_deviations(prior):
    found = prior_draws(task(), prior=prior, prior_scale=2.5, draws=4000).weights
    expected = prior_of(task().network(), prior, 2.5).deviations
    assert set(found) == set(expected)
    for name, value in found.items():
        assert value.std(0).mean().item() == pytest.approx(expected[name], rel=0.02)
        assert abs(value.mean().item()) < 0.05 * expected[name]


def test_they_follow_the_seed_and_no_image():
    one = prior_draws(task(), prior="he", draws=3).weights
    again = prior_draws(replace(task(), x=torch.zeros(8, 1, 2, 3)), prior="he", draws=3).weights
    other = prior_draws(task(1), prior="he", draws=3).weights
    assert all(torch.equal(one[name], again[name]) for name in one)
    assert not any(torch.equal(one[name], other[name]) for name in one)
