"""Configs that cannot work are refused with the key, the value and what would do."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import yaml
from snakemake.utils import update_config

from resilience import catalog
from resilience.config import ConfigError, check, nearest
from tests.conftest import ROOT

SCHEMA = yaml.safe_load((ROOT / "workflow/schemas/config.schema.yaml").read_text(encoding="utf-8"))
DEFAULT = yaml.safe_load((ROOT / "config/config.yaml").read_text(encoding="utf-8"))


def changed(path: str, value: Any) -> dict[str, Any]:
    """The default config with one value set."""
    config = copy.deepcopy(DEFAULT)
    *parents, last = path.split("/")
    inner = config
    for key in parents:
        inner = inner[int(key)] if isinstance(inner, list) else inner[key]
    inner[int(last) if isinstance(inner, list) else last] = value
    return config


def problems(config: dict[str, Any]) -> list[str]:
    with pytest.raises(ConfigError) as error:
        check(config, SCHEMA)
    return error.value.problems


def test_default_config_is_accepted():
    assert check(DEFAULT, SCHEMA)["explanations"]["epsilon"]["explained"] == "predicted"


def test_whole_numbers_are_integers_however_they_are_written():
    config = changed("seeds", [0.0, 1.0])
    config["trainings"]["hmc"]["draws"] = 100.0
    assert check(config, SCHEMA) == check(changed("seeds", [0, 1]), SCHEMA)
    assert [type(seed) for seed in check(config, SCHEMA)["seeds"]] == [int, int]


def test_defaults_do_not_change_the_config_that_was_given():
    before = copy.deepcopy(DEFAULT)
    check(DEFAULT, SCHEMA)
    assert before == DEFAULT


def merged(*names: str) -> dict:
    """Configs of the project, each laid over those before it, as the command line does."""
    config: dict = {}
    for name in names:
        update_config(config, yaml.safe_load((ROOT / f"config/{name}.yaml").read_text(encoding="utf-8")))
    return config


@pytest.mark.parametrize(
    "names",
    [
        ("config",),
        ("mnist5k",),
        ("attacks",),
        ("explanations",),
        ("tutorial",),
        ("paper",),
        ("published",),
        ("papers/carbone2021",),
        ("papers/carbone2021_published",),
        ("paper", "small"),
        ("published", "small"),
        ("papers/carbone2021", "small"),
        ("papers/carbone2021_published", "small"),
        ("cifar10",),
        ("cifar10", "small"),
        ("papers/carbone2021_cifar10_published",),
        ("papers/carbone2021_cifar10_published", "small"),
        ("papers/carbone2020",),
        ("papers/carbone2020", "small"),
        ("papers/carbone2020_published",),
        ("papers/carbone2020_published", "small"),
        ("papers/kim2019",),
        ("papers/kim2019", "small"),
        ("papers/kim2019_cifar10",),
        ("papers/kim2019_cifar10", "small"),
    ],
    ids=" ".join,
)
def test_every_config_that_comes_along_is_accepted(names):
    assert check(merged(*names), SCHEMA)["results"].startswith("results")


def test_no_config_that_comes_along_is_left_out():
    assert {path.stem for path in (ROOT / "config").glob("*.yaml")} == {
        *("config", "mnist5k", "attacks", "explanations", "tutorial", "paper", "published", "small", "reproduction"),
        *("cifar10", "reproduction_cifar10"),
    }
    assert {path.stem for path in (ROOT / "config/papers").glob("*.yaml")} == {
        *("carbone2021", "carbone2021_published", "carbone2021_cifar10", "carbone2021_cifar10_published"),
        *("carbone2020", "carbone2020_published", "kim2019", "kim2019_cifar10"),
    }


def test_the_names_of_before_stand_for_the_configs_of_the_papers():
    assert merged("paper") == merged("papers/carbone2021")
    assert merged("published") == merged("papers/carbone2021_published")
    assert merged("cifar10") == merged("papers/carbone2021_cifar10")


@pytest.mark.parametrize("name", ["carbone2021", "carbone2021_cifar10"])
def test_paper_and_published_differ_in_definitions_alone(name):
    paper, published = merged(f"papers/{name}"), merged(f"papers/{name}_published")
    for section in ("seeds", "datasets", "networks", "experiments", "cancellation", "claims", "figures"):
        assert paper.get(section) == published.get(section), section
    for section in ("trainings", "attacks", "explanations", "measures"):
        assert list(paper[section]) == list(published[section])


def test_what_a_variant_changes_of_an_entry_that_is_not_there_is_passed_over():
    small = check(merged("cifar10", "small"), SCHEMA)
    assert set(small["datasets"]) == {"cifar10", "handwritten"}  # Whole entries, which stand for themselves.
    assert set(small["experiments"]) == set(merged("cifar10")["experiments"])
    assert set(small["trainings"]) == set(merged("cifar10")["trainings"])
    assert (small["networks"]["resnet20"]["width"], small["datasets"]["cifar10"]["source"]) == (8, "image_folder")
    assert "recompressed" in small["datasets"]["cifar10"]["title"]
    more = changed("trainings/more", {"epochs": 3})
    assert problems(more)[0].startswith("trainings.more: the key 'method' is missing")
    assert check(more | {"variant": "other"}, SCHEMA)["trainings"].keys() == DEFAULT["trainings"].keys()
    whole = changed("trainings/more", {"method": "deterministic", "epochs": 3})
    assert "more" in check(whole | {"variant": "other"}, SCHEMA)["trainings"]


def test_a_variant_that_breaks_an_entry_is_refused_all_the_same():
    config = merged("cifar10", "small")
    config["trainings"]["cifar_det"]["epochz"] = 3
    assert problems(config) == ["trainings.cifar_det: the key 'epochz' is unknown; did you mean epochs?"]


@pytest.mark.parametrize("names", [["zero", "one"], ["number"] * 10, ["a"], "abc", [""] * 2])
def test_names_that_do_not_match_the_classes_are_refused(names):
    assert all(
        said.startswith("datasets.digits.class_names") for said in problems(changed("datasets/digits/class_names", names))
    )


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
        "mixture_dnn": (2, 4),
        "mnist_cnn": (1, 3, 7, 9),
        "cifar_cnn": (1, 3, 6, 8, 12, 14),
        "pooled": (0, 3, 7),
        "resnet20": ("conv1", "layer2", "output"),
        "torchvision": ("output",),
    }
    roles = {name: function.traits["role"] for name, function in catalog.functions("trainings").items()}
    assert roles == {
        "deterministic": "deterministic",
        "adversarial": "adversarial",
        "maximum_a_posteriori": "control",
        "ensemble": "control",
        "prior_draws": "control",
        "svi": "bayesian",
        "hmc": "bayesian",
        "nuts": "bayesian",
        "nuts_on_shards": "bayesian",
        "parallel_hmc": "bayesian",
        "hmc_on_last_batch": "bayesian",
        "last_layer_hmc": "bayesian",
        "laplace": "bayesian",
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
