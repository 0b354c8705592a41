"""Combinations that cannot work are refused before anything runs, and what would do is said."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import yaml

from resilience.config import ConfigError, check
from resilience.provenance import forget
from tests.conftest import ROOT
from tests.library.test_config import SCHEMA

CONFIG = yaml.safe_load((ROOT / "tests/config.yaml").read_text(encoding="utf-8"))
PANEL = {"dataset": "digits", "network": "fc2", "attack": "fgsm", "trainings": ["det", "hmc"]}

OWN = '''
from torch import nn
from resilience.catalog import entry
from resilience.parameters import ExplanationName

@entry(layers=(1,), has=("pooled_head", "attention"))
def having(shape, classes):
    """Has what some explanations need."""

@entry(layers=(1,))
def lacking(shape, classes):
    """Says nothing of what it has."""

@entry(needs="pooled_head")
def of_pooled(graph, x, explained):
    """Of the last convolution."""

@entry(needs="attention")
def of_attention(graph, x, explained):
    """Of what nobody has heard of."""

@entry(panels=1)
def of_maps(panels, maps):
    """Draws maps, and does not say by which explanation."""

@entry(panels=1)
def of_one_explanation(panels, maps, *, explanation: ExplanationName = "epsilon"):
    """Draws maps of one explanation."""
'''


@pytest.fixture
def config(tmp_path, monkeypatch) -> dict[str, Any]:
    """The config of the tests with a file of one's own beside it, whose networks are explained in one experiment."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own.py").write_text(OWN, encoding="utf-8")
    forget()
    config = copy.deepcopy(CONFIG) | {"figures": {}, "explore": {}}
    config["networks"] |= {"having": {"architecture": "own.py:having"}}
    config["explanations"] |= {name: {"method": f"own.py:of_{name}"} for name in ("pooled", "attention")}
    return config


def explained(config: dict[str, Any], networks: list[str], explanation: str) -> dict[str, Any]:
    """The config with an experiment that explains networks in one way."""
    experiment = config["experiments"]["posteriors"] | {"networks": networks, "trainings": ["det"], "draws": [1]}
    return config | {"experiments": config["experiments"] | {"own": experiment | {"explanations": [explanation]}}}


def problems(config: dict[str, Any]) -> list[str]:
    with pytest.raises(ConfigError) as error:
        check(config, SCHEMA)
    return error.value.problems


@pytest.mark.parametrize(
    ("explanation", "needs"),
    [("pooled", "global average pooling before one linear layer"), ("attention", "attention")],
)
def test_an_explanation_that_a_network_cannot_have_is_refused(explanation, needs, config):
    assert problems(explained(config, ["fc2"], explanation)) == [
        f"explanations.{explanation}: of_{explanation} needs {needs}, which networks.fc2 (fc2) has not; explain having by it"
    ]
    del config["networks"]["having"]
    config["networks"]["fc2"] = {"architecture": "own.py:lacking"}
    (problem,) = problems(explained(config, ["fc2"], "attention"))
    assert problem.endswith("networks.fc2 (lacking) has not; name a network that says @entry(has=('attention',))")


def test_a_network_that_has_what_is_needed_is_accepted(config):
    for explanation in ("pooled", "attention"):
        assert "own" in check(explained(config, ["having"], explanation), SCHEMA)["experiments"]


def test_a_network_that_is_not_explained_by_it_needs_nothing(config):
    assert "pooled" in check(config, SCHEMA)["explanations"]


def test_a_dataset_that_an_explanation_makes_needs_a_network_that_has_it(config):
    by = {"network": "fc2", "training": "det", "explanation": "pooled"}
    config["datasets"]["removed"] = {"source": "occluded", "of": "digits", "share": 0.3, "by": by, "test_points": 20}
    (problem,) = problems(config)
    assert problem.startswith("explanations.pooled: of_pooled needs global average pooling")


def test_seeds_stand_with_the_dataset_that_networks_learn_on(config):
    view = {"source": "saturated", "of": "digits", "level": 8, "test_points": 20, "trained_on": "digits", "seeds": [1]}
    config["datasets"]["contours"] = view
    assert problems(config) == ["datasets.contours.seeds: networks learn on digits; put the key there"]


def test_a_figure_of_maps_that_does_not_say_of_which_is_refused(config):
    config["figures"] = {"mine": {"figure": "own.py:of_maps", "panels": [PANEL]}}
    assert problems(config) == ["figures.mine: own.py:of_maps draws maps, and has no setting explanation that says which"]
    config["figures"]["mine"]["figure"] = "own.py:of_one_explanation"
    assert "mine" in check(config, SCHEMA)["figures"]


def test_a_figure_shows_no_map_of_each_draw(config):
    config["explanations"]["epsilon"]["over"] = "each"
    config["figures"] = {"mine": {"figure": "own.py:of_one_explanation", "panels": [PANEL]}}
    assert problems(config) == [
        "figures.mine.explanation: epsilon has a map for each draw, and a figure shows one; name another"
    ]


def test_a_figure_of_an_explanation_that_nobody_made_is_refused(config):
    config["figures"] = {
        "mine": {"figure": "own.py:of_one_explanation", "explanation": "gamma", "panels": [PANEL | {"attack": "fgsm"}]}
    }
    assert problems(config) == [
        "figures.mine.panels[0]: no experiment explains digits, fc2, det, fgsm by gamma; add it to experiments"
    ]


@pytest.mark.parametrize(
    ("claims", "sentence"),
    [
        ({"explanation": "pooled"}, "claims.explanation: no experiment has pooled; add it to one"),
        ({"measure": "kept"}, "kept is no measure of heat maps, by which models are compared; name top20 or top30"),
        ({"also": ["kept", "norm", "told"]}, "told is no measure of heat maps, predictions or a network, by which models"),
        ({"also": ["top40"]}, "claims.also: 'top40' is not one of the measures; did you mean"),
        ({"judged": ["carbone2012"]}, "claims.judged: carbone2012 is neither a paper nor a claim; did you mean carbone2021"),
        ({"judged": ["own.py:nobody"]}, "claims.judged: own.py has no function 'nobody' that carries @entry"),
        ({"judged": ["own.py:of_maps"]}, "own.py:of_maps takes panels, maps; what a function of this section can take is"),
    ],
)
def test_claims_about_what_is_not_there_are_refused(claims, sentence, config):
    config["measures"] |= {"kept": {"measure": "accuracy"}, "norm": {"measure": "gradient_norm"}}
    config["measures"]["told"] = {"measure": "deletion"}
    config["claims"] |= claims
    (problem,) = problems(config)
    assert sentence in problem


def test_measures_are_not_named_like_what_tables_have_anyway(config):
    config["measures"]["softmax_robustness"] = {"measure": "softmax_robustness"}
    assert problems(config) == [
        "measures: the name 'softmax_robustness' is that of a column which the tables have anyway; choose another"
    ]


# ---------------------------------------------------------------- the spelling of before


def of_before() -> dict[str, Any]:
    """The config of the tests as it was written before explanations had a section."""
    config = copy.deepcopy(CONFIG)
    del config["explanations"], config["measures"], config["claims"], config["explore"]
    for experiment in config["experiments"].values():
        experiment["lrp"] = experiment.pop("explanations")
    rules = {
        "epsilon": {"rule": "epsilon", "epsilon": 0.1, "explained": "clean", "start": "value"},
        "gamma": {"rule": "gamma", "gamma": 0.1, "unit": "all"},
        "alpha1beta0": {"rule": "alpha1beta0", "activations": "slope"},
    }
    return config | {"lrp": rules, "robustness": {"top_k": [20, 2.5], "pixels": "extreme_halves"}, "figures": {}}


def test_sections_of_before_are_refused_with_a_new_spelling_that_works():
    found = problems(of_before())
    told = [line for problem in found for line in problem.splitlines()]
    assert told[0].startswith("lrp: rules stand within explanations now")
    assert any(line.startswith("robustness: what is measured has names now") for line in told)
    new = yaml.safe_load("\n".join(line for line in told if line in ("explanations:", "measures:") or line.startswith("  ")))
    assert new["explanations"] == {
        "epsilon": {
            "method": "lrp",
            "rule": {"rule": "epsilon", "epsilon": 0.1},
            "explained": "clean",
            "start": "value",
        },
        "gamma": {"method": "lrp", "rule": {"rule": "gamma", "gamma": 0.1}, "unit": "all"},
        "alpha1beta0": {"method": "lrp", "rule": {"rule": "alpha1beta0"}, "activations": "slope"},
    }
    assert new["measures"] == {
        "top20": {"measure": "overlap", "top_k": 20, "pixels": "extreme_halves"},
        "top2_5": {"measure": "overlap", "top_k": 2.5, "pixels": "extreme_halves"},
    }
    config = {key: value for key, value in of_before().items() if key not in ("lrp", "robustness")} | new
    for experiment in config["experiments"].values():
        experiment["explanations"] = experiment.pop("lrp")
    accepted = check(config, SCHEMA)
    defaults = {"over": "mean", "unit": "strongest", "activations": "pass"}
    assert accepted["explanations"]["epsilon"] == new["explanations"]["epsilon"] | defaults


@pytest.mark.parametrize("section", ["lrp", "robustness"])
def test_one_section_of_before_beside_the_new_ones_is_refused_by_name(section):
    (problem, *_) = problems(copy.deepcopy(CONFIG) | {section: of_before()[section]})
    assert problem.startswith(f"{section}: ")


@pytest.mark.parametrize("wrong", [None, [], "epsilon", {"epsilon": None}])
def test_a_section_of_before_that_was_never_right_is_refused_all_the_same(wrong):
    assert any(problem.startswith(("lrp: ", "config: the key 'lrp'")) for problem in problems(CONFIG | {"lrp": wrong}))


@pytest.mark.parametrize(
    ("section", "entry", "sentence"),
    [
        ("attacks", {"method": "pgd_l2", "epsilon": 0}, "attacks.none.epsilon: 0 must be greater than 0"),
        ("attacks", {"method": "fgsm", "epsilon": 0}, "attacks.none.epsilon: 0 must be greater than 0"),
        (
            "trainings",
            {"method": "adversarial", "epochs": 1, "attack": {"method": "pgd_l2", "epsilon": 0}},
            "trainings.none.attack.epsilon: 0 must be greater than 0",
        ),
    ],
)
def test_an_attack_of_no_strength_is_refused(section, entry, sentence, config):
    config[section]["none"] = entry
    assert sentence in problems(config)[0]
