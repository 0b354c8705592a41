"""What a training may start from is held against the config before anything runs."""

from __future__ import annotations

import pytest
import yaml

from resilience.config import ConfigError, check
from resilience.refusals import grid_of
from tests.conftest import ROOT
from tests.library.test_config import SCHEMA

LAPLACE = {"method": "laplace", "prior": "he", "draws": 4}
LAST = {
    "method": "last_layer_hmc",
    "prior": "he",
    "chains": 2,
    "draws": 4,
    "warmup": 1,
    "step_size": 0.1,
    "leapfrog_steps": 2,
}
SVI = {"method": "svi", "prior": "he", "epochs": 1}
POINT = {"method": "maximum_a_posteriori", "prior": "he", "epochs": 1}


def started(training: dict, start: dict | None) -> object:
    config = yaml.safe_load((ROOT / "tests/config.yaml").read_text(encoding="utf-8"))
    config |= {"figures": {}, "explore": {}}
    config.pop("claims", None)
    config["trainings"] = dict(config["trainings"]) | {"mine": training | ({"start": "before"} if start else {})}
    if start:
        config["trainings"]["before"] = start
    one = dict(next(iter(config["experiments"].values())), trainings=["mine"], attacks=["fgsm"], draws=[2])
    config |= {"experiments": {"one": one}}
    config.pop("cancellation", None)
    return grid_of(check(config, SCHEMA))


@pytest.mark.parametrize("training", [LAPLACE, LAST, SVI])
def test_a_point_estimate_will_do(training):
    grid = started(training, POINT)
    assert {name for _, _, name in grid.trained()} == {"mine", "before"}
    assert grid.role("mine") == "bayesian"


@pytest.mark.parametrize("training", [LAPLACE, LAST, SVI])
@pytest.mark.parametrize("start", [SVI, {"method": "ensemble", "members": 2, "of": POINT}, LAPLACE | {"start": "map"}])
def test_what_is_no_point_estimate_is_refused(training, start):
    with pytest.raises(ConfigError, match=r"trainings.mine.start: before is no point estimate; name a training of"):
        started(training, start)


@pytest.mark.parametrize("training", [LAPLACE, LAST])
def test_another_prior_is_refused(training):
    with pytest.raises(ConfigError, match=r"trainings.mine.prior: he is not that of before, lecun"):
        started(training, POINT | {"prior": "lecun"})


def test_only_svi_starts_from_nothing():
    assert {name for _, _, name in started(SVI, None).trained()} == {"mine"}
    with pytest.raises(ConfigError, match=r"trainings.mine: the key 'start' is missing"):
        started(LAPLACE, None)


@pytest.mark.parametrize("training", [LAPLACE, SVI])
def test_a_start_that_is_nowhere_is_refused(training):
    with pytest.raises(ConfigError, match=r"trainings.mine.start: 'nothing' is not one of the trainings"):
        started(training | {"start": "nothing"}, None)


def test_chains_share_their_draws():
    with pytest.raises(ConfigError, match=r"5 cannot be shared by 2 chains"):
        started(LAST | {"draws": 5}, POINT)
