"""Manifolds and measures of them that cannot work are refused before anything runs, and what would do is said."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import yaml

from resilience.config import ConfigError, check
from resilience.grid import Grid
from tests.conftest import ROOT
from tests.library.test_config import SCHEMA

CONFIG = yaml.safe_load((ROOT / "tests/config.yaml").read_text(encoding="utf-8"))
PANEL = {"dataset": "digits", "network": "fc2", "attack": "fgsm", "trainings": ["det", "adv"]}
OTHER = {"source": "mnist", "test_points": 20}
MEASURES = {
    "far": {"measure": "distance_to_manifold", "manifold": "vae", "judge": "det"},
    "clean": {"measure": "distance_to_manifold", "manifold": "vae", "of": "clean"},
    "farther": {"measure": "farther_from_manifold", "manifold": "plane", "judge": "itself"},
}
FIGURES = {
    "distances": {"figure": "distances_to_manifold", "measure": "far", "clean": "clean", "panels": [PANEL]},
    "looks": {"figure": "manifold_pictures", "dataset": "digits", "manifolds": ["vae", "plane"]},
}


@pytest.fixture
def config() -> dict[str, Any]:
    """The config of the tests with manifolds, what is measured of them, and figures."""
    config = copy.deepcopy(CONFIG) | {"figures": copy.deepcopy(FIGURES), "explore": {}}
    config["manifolds"] = {
        "vae": {"manifold": "vae_gan", "of": "digits", "latent": 2},
        "plane": {"manifold": "principal_components", "of": ["digits", "half_moons"], "components": 2},
        "near": {"manifold": "nearest_neighbours", "of": "digits", "neighbours": 3},
    }
    config["datasets"] |= {"half_moons": {"source": "half_moons", "test_points": 20}, "mnist": OTHER}
    config["measures"] |= copy.deepcopy(MEASURES)
    return config


def problems(config: dict[str, Any]) -> list[str]:
    with pytest.raises(ConfigError) as error:
        check(config, SCHEMA)
    return error.value.problems


def test_manifolds_that_fit_are_accepted(config):
    grid = Grid(check(config, SCHEMA))
    assert grid.learned_from("plane") == ["digits", "half_moons"]
    assert (grid.learned_from("vae"), grid.judge_of("far"), grid.judge_of("clean")) == (["digits"], "det", None)
    assert set(grid.measured_predictions("digits")) == {"far", "clean", "farther"}
    assert set(grid.measured_predictions("half_moons")) == {"farther"}
    assert set(grid.measured_predictions("mnist")) == set()


def test_a_config_without_manifolds_has_none():
    assert check(CONFIG, SCHEMA)["manifolds"] == {}


@pytest.mark.parametrize(
    ("place", "value", "said"),
    [
        ("manifolds.vae.of", "digit", "manifolds.vae.of: 'digit' is not one of the datasets; did you mean digits?"),
        ("manifolds.plane.of", ["digits", "moons"], "manifolds.plane.of.1: 'moons' is not one of the datasets"),
        (
            "manifolds.vae.of",
            "half_moons",
            "manifolds.vae.of: images of half_moons have 1 pixels a side, and vae_gan takes those of 8, 28, 32",
        ),
        ("manifolds.plane.components", 500, "manifolds.plane.components: 500 is more than digits has training images, 200"),
        ("manifolds.near.neighbours", 201, "manifolds.near.neighbours: 201 is more than digits has training images, 200"),
        ("manifolds.plane.components", 192, "manifolds.plane.components: 192 is more than digits has directions, 191"),
        ("manifolds.vae.momentum", 1, "manifolds.vae.momentum: 1 must be less than 1"),
        ("manifolds.vae.latent", 0, "manifolds.vae.latent: 0 must be at least 1"),
        ("manifolds.vae.manifold", "vaegan", "manifolds.vae.manifold: 'vaegan' is unknown; did you mean vae_gan?"),
        ("measures.far.manifold", "van", "measures.far.manifold: 'van' is not one of the manifolds; did you mean vae"),
        ("measures.far.judge", "dett", "measures.far.judge: 'dett' is not one of the trainings; did you mean det?"),
        ("measures.far.judge", "svi", "measures.far.judge: svi is no point estimate; name one, such as deterministic"),
        ("measures.far.judge", "map", "measures.far.judge: no experiment has digits, conv, map; add it to experiments"),
        ("measures.far.of", "attack", "measures.far.of: 'attack' is unknown; did you mean attacked?"),
        (
            "manifolds.vae.of",
            "mnist",
            "measures.far.manifold: vae is learned from other images than it judges, mnist; name one that is of digits",
        ),
        ("figures.looks.dataset", "half_moons", "figures.looks.dataset: vae is not learned from half_moons; name digits"),
        ("figures.looks.manifolds", ["vae", "van"], "figures.looks.manifolds.1: 'van' is not one of the manifolds"),
        ("figures.distances.measure", "farther", "figures.distances.measure: 'farther' is no distance_to_manifold"),
        ("figures.distances.clean", "far", "figures.distances.clean: far has of: attacked; name a measure with of: clean"),
        (
            "figures.distances.measure",
            "clean",
            "figures.distances.measure: clean is of clean images; name a measure with of: attacked",
        ),
        (
            "measures.clean.manifold",
            "plane",
            "figures.distances.clean: clean has manifold: plane; name a measure with manifold: vae",
        ),
        ("networks.manifolds", {"architecture": "fc2"}, "networks: the name 'manifolds' is taken; choose another"),
    ],
)
def test_what_cannot_work_is_refused(place, value, said, config):
    *parents, last = place.split(".")
    inner = config
    for key in parents:
        inner = inner[key]
    inner[last] = value
    assert any(problem.startswith(said) for problem in problems(config)), problems(config)


def test_distances_of_a_dataset_that_a_manifold_is_not_of_are_not_drawn(config):
    experiment = config["experiments"]["posteriors"]
    config["experiments"]["moons"] = experiment | {"datasets": ["half_moons"], "trainings": ["det"]}
    config["figures"]["distances"]["panels"] = [PANEL | {"dataset": "half_moons", "trainings": ["det"]}]
    assert problems(config) == [
        "figures.distances.panels[0].dataset: vae is not learned from half_moons; name digits",
    ]


def test_a_word_of_a_choice_is_no_name(config):
    """A judge may be a word or a training; neither word is looked for among the trainings."""
    for judge in ("none", "itself", "det"):
        config["measures"]["far"]["judge"] = judge
        config["experiments"]["convolutional"]["trainings"] = ["det"]
        check(config, SCHEMA)
