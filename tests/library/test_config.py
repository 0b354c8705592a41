"""Configs that cannot work are refused with the key, the value and what would do."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import yaml
from hypothesis import event, given, settings
from hypothesis import strategies as st
from snakemake.utils import update_config

from resilience import catalog
from resilience.config import ConfigError, check, nearest
from tests.conftest import ROOT

SCHEMA = yaml.safe_load((ROOT / "workflow/schemas/config.schema.yaml").read_text())
DEFAULT = yaml.safe_load((ROOT / "config/config.yaml").read_text())
REMOVE = object()


def changed(path: str, value: Any) -> dict[str, Any]:
    """The default config with one value set, or removed."""
    config = copy.deepcopy(DEFAULT)
    *parents, last = path.split("/")
    inner = config
    for key in parents:
        inner = inner[int(key)] if isinstance(inner, list) else inner[key]
    if value is REMOVE:
        del inner[last]
    else:
        inner[int(last) if isinstance(inner, list) else last] = value
    return config


def problems(config: dict[str, Any]) -> list[str]:
    with pytest.raises(ConfigError) as error:
        check(config, SCHEMA)
    return error.value.problems


def test_default_config_is_accepted():
    assert check(DEFAULT, SCHEMA)["lrp"]["epsilon"]["explained"] == "predicted"


def test_defaults_do_not_change_the_config_that_was_given():
    before = copy.deepcopy(DEFAULT)
    check(DEFAULT, SCHEMA)
    assert before == DEFAULT


REFUSED = [
    # typos
    ("sedes", [0], "config: the key 'sedes' is unknown; did you mean seeds"),
    ("attacks/pgd/epsilonn", 0.1, "attacks.pgd: the key 'epsilonn' is unknown; did you mean epsilon"),
    ("attacks/pgd/method", "pdg", "attacks.pgd.method: 'pdg' is unknown; did you mean pgd"),
    ("datasets/digits/sorce", "digits", "datasets.digits: the key 'sorce' is unknown; did you mean source"),
    ("networks/fc2/architecture", "fc3", "networks.fc2.architecture: 'fc3' is unknown; did you mean fc2"),
    ("trainings/svi/prior", "hee", "trainings.svi.prior: 'hee' is unknown; did you mean he"),
    ("lrp/gamma/rule", "gama", "lrp.gamma.rule: 'gama' is unknown; did you mean gamma"),
    ("lrp/epsilon/explained", "predict", "lrp.epsilon.explained: 'predict' is unknown; did you mean predicted"),
    ("figures/fig02/figure", "diferences", "figures.fig02.figure: 'diferences' is unknown; did you mean differences"),
    ("trainings/ensemble/of/method", "map", "trainings.ensemble.of.method: 'map' is unknown"),
    ("trainings/adv/attack/epsilonn", 1, "trainings.adv.attack: the key 'epsilonn' is unknown; did you mean epsilon"),
    # missing
    ("seeds", REMOVE, "config: the key 'seeds' is missing"),
    ("attacks/fgsm/epsilon", REMOVE, "attacks.fgsm: the key 'epsilon' is missing"),
    ("attacks/fgsm/method", REMOVE, "attacks.fgsm: the key 'method' is missing"),
    ("datasets/digits/test_points", REMOVE, "datasets.digits: the key 'test_points' is missing"),
    ("figures/fig02/panels", REMOVE, "figures.fig02: the key 'panels' is missing"),
    # types and ranges
    ("seeds", 3, "seeds: 3 must be of type array"),
    ("seeds", [], "seeds: must not be empty"),
    ("seeds", [1, 1], "seeds: [1, 1] names something twice"),
    ("seeds", [-1], "seeds.0: -1 must be at least 0"),
    ("attacks/pgd/epsilon", 1.5, "attacks.pgd.epsilon: 1.5 must be at most 1"),
    ("attacks/pgd/epsilon", "much", "attacks.pgd.epsilon: 'much' must be of type number"),
    ("attacks/pgd/epsilon", float("nan"), "attacks.pgd.epsilon: nan is not a finite number"),
    ("attacks/pgd/step_size", 2, "attacks.pgd.step_size: 2 must be at most 1"),
    ("attacks/pgd/step_size", "x", "attacks.pgd.step_size: 'x' must be of type number or null"),
    ("attacks/pgd/steps", 0, "attacks.pgd.steps: 0 must be at least 1"),
    ("attacks/pgd/steps", 2.5, "attacks.pgd.steps: 2.5 must be of type integer"),
    ("networks/fc2/width", -4, "networks.fc2.width: -4 must be at least 1"),
    ("trainings/det/learning_rate", 0, "trainings.det.learning_rate: 0 must be greater than 0"),
    ("trainings/adv/attack/epsilon", 7, "trainings.adv.attack.epsilon: 7 must be at most 1"),
    ("datasets/digits/validation", 0.9, "datasets.digits.validation: 0.9 must be at most 0.5"),
    ("robustness/top_k", [0], "robustness.top_k.0: 0 must be greater than 0"),
    ("robustness/top_k", [101], "robustness.top_k.0: 101 must be at most 100"),
    ("claims/confidence", 1, "claims.confidence: 1 must be less than 1"),
    ("figures/fig03/colours", {"hmc": "blue"}, "figures.fig03.colours.hmc: 'blue' must match"),
    ("results", "../elsewhere", "results: '../elsewhere' must match"),
    # names
    ("attacks/clean", {"method": "fgsm", "epsilon": 0.1}, "attacks: the name 'clean' is taken"),
    ("figures/weights", DEFAULT["figures"]["fig05"], "figures: the name 'weights' is taken"),
    ("networks/a-b", {"architecture": "fc2"}, "networks: 'a-b' must match"),
    ("networks/a{b}", {"architecture": "fc2"}, "networks: 'a{b}' must match"),
    ("networks/..", {"architecture": "fc2"}, "networks: '..' must match"),
    (
        "experiments/attacks/trainings",
        ["nutz"],
        "experiments.attacks.trainings: 'nutz' is not one of the trainings; did you mean nuts",
    ),
    (
        "figures/fig05/panels/0/network",
        "fc",
        "figures.fig05.panels[0].network: 'fc' is not one of the networks; did you mean fc2",
    ),
    ("claims/lrp", "eps", "claims.lrp: 'eps' is not one of the lrp; did you mean epsilon"),
    ("attacks/transfer/source", "dett", "attacks.transfer.source: 'dett' is not one of the trainings; did you mean det"),
    (
        "trainings/hmc/start",
        "ensembel",
        "trainings.hmc.start: 'ensembel' is not one of the trainings; did you mean ensemble",
    ),
    # contradictions
    (
        "experiments/attacks/draws",
        [200],
        "experiments.attacks.draws: 200 is more than trainings.hmc.draws, 100",
    ),
    ("claims/top_k", 25, "claims.top_k: 25 is not measured; robustness.top_k has [10, 20, 30]"),
    ("figures/fig02/top_k", 25, "figures.fig02.top_k: 25 is not measured"),
    (
        "figures/fig02/panels/0/attack",
        "margin",
        "figures.fig02.panels[0]: no experiment has digits, conv, det, margin; add it",
    ),
    (
        "figures/fig01/rule",
        "gamma",
        "figures.fig01.panels[0]: no experiment explains digits, conv, det, fgsm by the rule gamma",
    ),
    (
        "figures/fig06/panels/0/trainings",
        ["det"],
        "figures.fig06.panels[0].trainings: failed_attack needs at least 2 trainings",
    ),
    ("figures/fig05/panels", DEFAULT["figures"]["fig02"]["panels"], "figures.fig05.panels: overlap draws 1 panel, not 2"),
    ("explore/hmc/attack", "noise", "explore.hmc.attack: 'noise' is not one of the attacks; known: fgsm, margin, pgd"),
    ("explore/hmc/reference", "detr", "explore.hmc.reference: 'detr' is not one of the trainings; did you mean det"),
    ("explore/hmc/points", 0, "explore.hmc.points: 0 must be at least 1"),
    ("explore/hmc/points", 300, "explore.hmc.points: 300 is more than datasets.digits.test_points, 200"),
    ("explore/hmc/reference", "hmc", "explore.hmc.reference: hmc cannot stand beside itself"),
    ("explore/hmc/training", REMOVE, "explore.hmc: the key 'training' is missing"),
    ("explore/hmc/network", "conv", "explore.hmc.training: no experiment has digits, conv, hmc, pgd; add it to experiments"),
    (
        "explore/hmc",
        {"dataset": "digits", "network": "conv", "attack": "pgd", "training": "svi", "reference": "hmc"},
        "explore.hmc.reference: no experiment has digits, conv, hmc, pgd; add it to experiments",
    ),
    (
        "explore/hmc/reference",
        "nuts",
        "explore.hmc.reference: no experiment explains digits, fc2, nuts, pgd, 100 draws by the rule alpha1beta0",
    ),
    ("attacks/transfer/attack", "transfer", "attacks.transfer.attack: transfer is itself made from another"),
    ("attacks/transfer/source", "hmc", "attacks.transfer.source: hmc is no point estimate"),
    (
        "attacks/transfer",
        {"method": "match_size", "attack": "pgd", "source": "hmc", "draws": 200},
        "attacks.transfer.draws: 200 is more than trainings.hmc.draws, 100",
    ),
    (
        "trainings/adv/attack",
        {"method": "transfer", "attack": "pgd", "source": "det"},
        "trainings.adv.attack.method: transfer is made from attacked inputs; name an attack on a network",
    ),
    ("trainings/hmc/start", "hmc", "trainings.hmc.start: hmc starts from hmc, which has no beginning"),
    (
        "trainings/det",
        {"method": "imported_point", "file": "w.safetensors", "role": "control"},
        "trainings.det.file: 'w.safetensors' would serve the networks conv, fc2 alike; put {network} into the path",
    ),
    (
        "trainings/det",
        {"method": "imported_point", "file": "{network}.safetensors", "role": "control"},
        "trainings.det.file: '{network}.safetensors' would serve the seeds 0, 1, 2, 3, 4 alike; put {seed} into the path",
    ),
    (
        "trainings/det",
        {"method": "imported_point", "file": "w.safetensors", "role": "bayesian"},
        "trainings.det.role: 'bayesian' is unknown; did you mean adversarial",
    ),
    (
        "trainings/ensemble/of",
        {"method": "imported_point", "file": "w{seed}.safetensors", "role": "control"},
        "trainings.ensemble.of.method: imported_point reads a file, and can only be an entry of its own",
    ),
]


@pytest.mark.parametrize(("path", "value", "sentence"), REFUSED, ids=[sentence[:60] for _, _, sentence in REFUSED])
def test_what_cannot_work_is_refused_by_name(path, value, sentence):
    found = problems(changed(path, value))
    assert any(line.startswith(sentence) for line in found), found
    assert all("\n" not in line for line in found)


def merged(*names: str) -> dict:
    """Configs of the project, each laid over those before it, as the command line does."""
    config: dict = {}
    for name in names:
        update_config(config, yaml.safe_load((ROOT / f"config/{name}.yaml").read_text()))
    return config


@pytest.mark.parametrize(
    "names",
    [("config",), ("attacks",), ("paper",), ("published",), ("paper", "small"), ("published", "small")],
    ids=" ".join,
)
def test_every_config_that_comes_along_is_accepted(names):
    assert check(merged(*names), SCHEMA)["results"].startswith("results")


def test_no_config_that_comes_along_is_left_out():
    assert {path.stem for path in (ROOT / "config").glob("*.yaml")} == {
        *("config", "attacks", "paper", "published", "small", "reproduction")
    }


def test_paper_and_published_differ_in_definitions_alone():
    paper, published = merged("paper"), merged("published")
    for section in ("seeds", "datasets", "networks", "experiments", "cancellation", "claims", "figures"):
        assert paper[section] == published[section], section
    for section in ("trainings", "attacks", "lrp"):
        assert list(paper[section]) == list(published[section])


def test_small_results_lie_elsewhere():
    config = check(merged("paper", "small"), SCHEMA)
    assert config["variant"] == "small"
    config["datasets"]["small"] = config["datasets"]["mnist"]
    assert problems(config) == ["variant: 'small' is also one of the datasets, and both name a folder; choose another"]


def test_all_problems_are_named_at_once():
    config = changed("attacks/pgd/epsilon", 3)
    config["networks"]["fc2"]["width"] = 0
    assert len(problems(config)) == 2


def test_networks_differ_in_their_layers_and_trainings_in_their_roles():
    assert {name: f.traits["layers"] for name, f in catalog.functions("networks").items()} == {
        "conv": (0, 3, 7),
        "fc2": (1, 3, 5),
    }
    roles = {name: function.traits["role"] for name, function in catalog.functions("trainings").items()}
    assert roles == {
        "deterministic": "deterministic",
        "adversarial": "adversarial",
        "maximum_a_posteriori": "control",
        "ensemble": "control",
        "svi": "bayesian",
        "hmc": "bayesian",
        "nuts": "bayesian",
        "nuts_on_shards": "bayesian",
        "imported_point": "role",
        "imported_draws": "role",
    }


@pytest.mark.parametrize("section", catalog.SECTIONS)
def test_catalogue_agrees_with_python(section):
    import inspect

    for name, function in catalog.functions(section).items():
        loaded = catalog.load(section, name)
        signature = inspect.signature(loaded)
        named = [key for key, value in signature.parameters.items() if value.kind is value.KEYWORD_ONLY]
        assert list(function.parameters) == named
        assert function.summary.endswith(".")
        for key in named:
            default = signature.parameters[key].default
            assert function.parameters[key].required == (default is inspect.Parameter.empty)
            if not function.parameters[key].required:
                assert catalog.default(function, key) == default


def test_nearest():
    assert nearest("epsilo", ["epsilon", "gamma"]) == "did you mean epsilon?"
    assert nearest("zzz", ["epsilon", "gamma"]) == "known: epsilon, gamma"
    assert nearest("zzz", []) == "none is defined"


PATHS = st.sampled_from([path for path, *_ in REFUSED])
JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@settings(max_examples=300, deadline=None)
@given(PATHS, JUNK)
def test_junk_is_accepted_or_refused_in_lines_but_never_crashes(path, value):
    refused = []
    try:
        check(changed(path, value), SCHEMA)
    except ConfigError as error:
        refused = error.problems
        event("refused")
    assert all(refused)
