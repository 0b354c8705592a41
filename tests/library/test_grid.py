from __future__ import annotations

import pytest
import yaml

from resilience.config import check
from resilience.grid import Grid
from tests.conftest import ROOT
from tests.library.test_config import SCHEMA


@pytest.fixture
def grid() -> Grid:
    return Grid(check(yaml.safe_load((ROOT / "tests/config.yaml").read_text()), SCHEMA))


def test_everything_that_is_needed_is_trained(grid):
    names = {training for _, _, training in grid.trained()}
    assert names == {"det", "adv", "map", "ensemble", "svi", "hmc", "nuts"}


def test_draws_are_those_of_the_training(grid):
    assert grid.draws_of("digits", "fc2", "det", "fgsm") == [1]
    assert grid.draws_of("digits", "fc2", "ensemble", "fgsm") == [2]
    assert grid.draws_of("digits", "fc2", "svi", "fgsm") == [2, 4]
    assert grid.draws_of("digits", "fc2", "svi", "nothing") == []


def test_rules_are_the_union_of_the_experiments(grid):
    assert grid.rules("digits", "fc2", "hmc", "pgd", 4) == ["alpha1beta0", "epsilon", "gamma"]
    assert grid.rules("digits", "conv", "svi", "fgsm", 4) == ["epsilon"]
    assert grid.rules("digits", "conv", "svi", "pgd", 4) == []


def test_a_transferred_attack_brings_its_source_along(grid):
    assert ("digits", "fc2", "det", "pgd", 1) in grid.attacked()
    assert grid.epsilon("transfer") == grid.epsilon("pgd") == 0.1
    assert grid.epsilon("fgsm") == 0.1


def test_seeds_are_sorted_so_that_their_order_in_the_config_does_not_matter(grid):
    config = dict(grid.config, seeds=[3, 1])
    assert Grid(config).seeds == [1, 3]
