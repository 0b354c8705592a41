from __future__ import annotations

import pytest
import yaml

from resilience.config import ConfigError, check
from resilience.grid import Grid, GridError
from resilience.refusals import grid_of
from tests.conftest import ROOT
from tests.library.test_config import SCHEMA


@pytest.fixture
def grid() -> Grid:
    return Grid(check(yaml.safe_load((ROOT / "tests/config.yaml").read_text(encoding="utf-8")), SCHEMA))


def test_everything_that_is_needed_is_trained(grid):
    names = {training for _, _, training in grid.trained()}
    assert names == {"det", "adv", "map", "ensemble", "svi", "hmc", "nuts"}


def test_draws_are_those_of_the_training(grid):
    assert grid.draws_of("digits", "fc2", "det", "fgsm") == [1]
    assert grid.draws_of("digits", "fc2", "ensemble", "fgsm") == [2]
    assert grid.draws_of("digits", "fc2", "svi", "fgsm") == [2, 4]
    assert grid.draws_of("digits", "fc2", "svi", "nothing") == []


def test_explanations_are_the_union_of_the_experiments(grid):
    assert grid.explanations("digits", "fc2", "hmc", "pgd", 4) == ["alpha1beta0", "epsilon", "gamma"]
    assert grid.explanations("digits", "conv", "svi", "fgsm", 4) == ["epsilon"]
    assert grid.explanations("digits", "conv", "svi", "pgd", 4) == []


def test_a_page_to_explore_shows_the_reference_and_every_number_of_draws(grid):
    of_draws, of_rules = (grid.explored(grid.config["explore"][name]) for name in ("numbers_of_draws", "by_rules"))
    assert of_draws == [("det", 1), ("hmc", 2), ("hmc", 4)]
    assert of_rules == [("det", 1), ("hmc", 4)]


def test_a_transferred_attack_brings_its_source_along(grid):
    assert ("digits", "fc2", "det", "pgd", 1) in grid.attacked()
    assert grid.epsilon("transfer") == grid.epsilon("pgd") == 0.1
    assert grid.epsilon("fgsm") == 0.1


def test_an_attack_of_matched_size_brings_its_own_attack_and_that_of_its_source_along(grid):
    assert grid.made_from("det", "matched", 1) == [("det", "fgsm", 1), ("svi", "fgsm", 4)]
    assert grid.made_from("hmc", "transfer", 4) == [("det", "pgd", 1)]
    assert grid.made_from("det", "fgsm", 1) == []
    assert grid.epsilon("matched") == grid.epsilon("fgsm")
    config = dict(grid.config, experiments={"one": grid.config["experiments"]["equally_far"] | {"trainings": ["det"]}})
    assert {("digits", "fc2", *made) for made in grid.made_from("det", "matched", 1)} <= set(
        Grid(config | {"figures": {}, "explore": {}}).attacked()
    )


def test_seeds_are_sorted_so_that_their_order_in_the_config_does_not_matter(grid):
    config = dict(grid.config, seeds=[3, 1])
    assert Grid(config).seeds == [1, 3]


def test_a_dataset_may_have_seeds_of_its_own_which_those_that_are_judged_on_a_view_of_it_share(grid):
    own = {**grid.config["datasets"]["digits"], "seeds": [7, 2]}
    view = {"source": "saturated", "of": "digits", "level": 8, "test_points": 20, "trained_on": "digits"}
    config = dict(grid.config, datasets={**grid.config["datasets"], "digits": own, "contours": view})
    assert Grid(config).seeds_of("digits") == Grid(config).seeds_of("contours") == [2, 7]
    assert grid.seeds_of("digits") == grid.seeds


def test_an_imported_network_has_the_role_and_draws_that_its_entry_says():
    config = yaml.safe_load((ROOT / "tests/config.yaml").read_text(encoding="utf-8"))
    config["trainings"]["det"] = {
        "method": "imported_point",
        "file": "{network}{seed}.safetensors",
        "role": "adversarial",
    }
    config["trainings"]["svi"] = {
        "method": "imported_draws",
        "file": "{network}{seed}.safetensors",
        "draws": 4,
        "role": "control",
    }
    grid = Grid(check(config, SCHEMA))
    assert (grid.role("det"), grid.role("svi"), grid.role("hmc")) == ("adversarial", "control", "bayesian")
    assert grid.draws_of("digits", "fc2", "det", "fgsm") == [1]
    config["trainings"]["svi"]["draws"] = 3
    with pytest.raises(ConfigError, match=r"draws: 4 is more than trainings.svi.draws, 3"):
        check(config, SCHEMA)


@pytest.mark.parametrize(
    "start",
    [
        {"method": "ensemble", "members": 2, "of": {"method": "deterministic", "epochs": 1}},
        {"method": "imported_draws", "file": "{network}{seed}.safetensors", "draws": 4, "role": "control"},
        {
            "method": "ensemble",
            "members": 2,
            "of": {"method": "maximum_a_posteriori", "prior": "he", "prior_scale": 1.0, "epochs": 1},
        },
    ],
    ids=["no prior", "not known", "the same, written out"],
)
def test_chains_may_start_from_weights_of_the_same_prior_or_of_none(grid, start):
    grid_of(grid.config | {"trainings": grid.config["trainings"] | {"ensemble": start}})


def test_an_epsilon_that_is_left_to_its_default_is_known(grid):
    attacks = grid.config["attacks"] | {"mean": {"method": "mean_of_attacks", "attack": {"method": "fgsm", "epsilon": 0.1}}}
    assert Grid(grid.config | {"attacks": attacks}).epsilon("mean") == 0.1


def test_what_is_shown_without_claims_is_the_first_that_is_measured(grid):
    assert grid.shown == {"explanation": "epsilon", "measure": "top20"}
    config = {key: value for key, value in grid.config.items() if key != "claims"} | {"figures": {}}
    measures = {"top30": {"measure": "overlap", "top_k": 30}, "kept": {"measure": "accuracy"}}
    assert Grid(config | {"measures": measures}).shown == {"explanation": "alpha1beta0", "measure": "top30"}


def test_measures_are_those_of_a_kind(grid):
    measures = grid.config["measures"] | {"kept": {"measure": "accuracy"}, "curve": {"measure": "deletion"}}
    found = Grid(grid.config | {"measures": measures})
    assert set(found.measures("maps")) == {"top20", "top30"}
    assert (set(found.measures("predictions")), set(found.measures("explanation"))) == ({"kept"}, {"curve"})
    assert found.measures("network") == {}


def test_an_explanation_has_maps_of_the_layers_that_it_asks_for(grid, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    source = "from resilience.catalog import entry\n\n\n@entry()\ndef plain(graph, x, explained):\n    'Plain.'\n"
    (tmp_path / "own.py").write_text(source, encoding="utf-8")
    explanations = grid.config["explanations"] | {"own": {"method": "own.py:plain", "explained": "label", "over": "mean"}}
    found = Grid(grid.config | {"explanations": explanations})
    assert found.explained_layers("conv", "epsilon") == ("0", "3", "7")
    assert found.explained_layers("conv", "own") == ("7",)


def test_a_figure_of_claims_needs_the_section(grid):
    config = {key: value for key, value in grid.config.items() if key != "claims"}
    with pytest.raises(
        GridError, match=r"figures.answer: answer draws what the section 'claims' asks for, which is missing"
    ):
        grid_of(config | {"figures": {"answer": config["figures"]["answer"]}})
    assert grid_of(config | {"figures": {"fig02": config["figures"]["fig02"]}}).cells == grid.cells
