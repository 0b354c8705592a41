"""Functions in files of the user's own: refused by name, part of a job's recipe, and never run because a file says so."""

from __future__ import annotations

import shutil

import pytest
import torch

from resilience import catalog, networks, posterior, provenance, source_files
from resilience.artifacts import ArtifactError
from resilience.config import check
from resilience.networks import NetworkError
from resilience.posterior import POINT
from resilience.provenance import forget
from tests.library.test_config import SCHEMA, changed, problems

OWN = '''
import torch
from torch import nn
from resilience.attacks import ball
from resilience.catalog import entry
from resilience.parameters import Count, Fraction

SIZE = 3

@entry(layers=(1, 3))
def small(shape, classes, *, width: Count = 4):
    """One hidden layer."""
    return nn.Sequential(nn.Flatten(), nn.Linear(16, width), nn.ReLU(), nn.Linear(width, classes))

@entry()
def noise(posterior, x, y, generator, *, epsilon: Fraction):
    """Random signs."""
    ball.refuse_no_images(x)
    return (x + epsilon * SIZE).clamp(0, 1)

@entry(panels=1)
def picture(panels, measured):
    """A picture."""
'''
NETWORK = {"architecture": "own.py:small", "width": 4}


@pytest.fixture
def own(tmp_path, monkeypatch):
    """A file of the user's own in the present folder."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own.py").write_text(OWN, encoding="utf-8")
    forget()
    yield tmp_path / "own.py"
    forget()


def test_functions_of_a_file_are_accepted(own):
    config = changed("networks/fc2", NETWORK)
    config["attacks"]["fgsm"] = {"method": "own.py:noise", "epsilon": 0.1}
    config["figures"]["fig05"]["figure"] = "own.py:picture"
    check(config, SCHEMA)


@pytest.mark.parametrize(
    ("old", "new", "entry", "sentence"),
    [
        ("", "", "other.py:noise", "attacks.pgd.method: there is no file other.py"),
        ("", "", "own.py:nose", "attacks.pgd.method: own.py has no function 'nose' that carries @entry"),
        ("@entry()", "", "own.py:noise", "attacks.pgd.method: own.py has no function 'noise' that carries @entry"),
        ("def noise(", "def noise((", "own.py:noise", "attacks.pgd.method: own.py cannot be read ("),
        ("generator, *", "seed, *", "own.py:noise", "takes seed; what a function of this section can take is posterior"),
        (": Fraction", ": torch.Tensor", "own.py:noise", "a setting cannot be of type torch.Tensor"),
        (": Fraction", ": Nonsense", "own.py:noise", "a setting cannot be of type Nonsense"),
        (": Fraction", "", "own.py:noise", "a setting cannot be of type nothing"),
        ("epsilon: Fraction", "strength: Fraction", "own.py:noise", "attacks.pgd: the key 'strength' is missing"),
        (": Fraction", ": Fraction = 1 / SIZE", "own.py:noise", "the default of epsilon is computed; write its value out"),
    ],
)  # fmt: skip
def test_what_cannot_work_is_refused_by_name(old, new, entry, sentence, own):
    own.write_text(OWN.replace(old, new) if old else OWN, encoding="utf-8")
    (problem,) = problems(changed("attacks/pgd", {"method": entry, "epsilon": 0.1}))[:1]
    assert sentence in problem


def test_values_are_checked_as_those_of_the_library_are(own):
    assert problems(changed("attacks/pgd", {"method": "own.py:noise", "epsilon": 2})) == [
        "attacks.pgd.epsilon: 2 must be at most 1"
    ]


def test_a_network_that_does_not_say_its_layers_is_refused(own):
    own.write_text(OWN.replace("@entry(layers=(1, 3))", "@entry()"), encoding="utf-8")
    assert "networks.fc2.architecture: own.py:small does not say its layers; write @entry(layers=…)" in problems(
        changed("networks/fc2", NETWORK)
    )


def test_an_attack_of_ones_own_is_made_on_a_network(own):
    own.write_text(OWN.replace("@entry()", "@entry(derived=True)"), encoding="utf-8")
    (problem,) = problems(changed("attacks/pgd", {"method": "own.py:noise", "epsilon": 0.1}))
    assert "attacks.pgd.method: own.py:noise cannot be derived" in problem


TRAINING = """

@entry(draws=1, role="control")
def steps(task, *, number: Count = 2, parts: Count = 1):
    'Nothing.'
"""


@pytest.mark.parametrize(
    ("traits", "sentence"),
    [
        ('draws="members", role="control"', "says @entry(draws='members'), which is none of its settings"),
        (
            'draws=1, role="bayes"',
            "says @entry(role='bayes'), which is none of its settings, nor a role such as deterministic",
        ),
        ('at_most="most", role="bayesian"', "says @entry(at_most='most'), which is none of its settings"),
        ('shared_by="parts", role="bayesian"', "and not how many there are; write @entry(at_most=…)"),
        ('at_most="number", shared_by="part", role="bayesian"', "says @entry(shared_by='part'), which is none of its"),
    ],
)
def test_a_training_that_says_what_it_has_not_is_refused(traits, sentence, own):
    own.write_text(OWN + TRAINING.replace('draws=1, role="control"', traits), encoding="utf-8")
    (problem,) = problems(changed("trainings/det", {"method": "own.py:steps"}))
    assert problem.startswith("trainings.det.method: own.py:steps")
    assert sentence in problem


def test_draws_of_any_name_are_shared_by_chains_of_any_name(own):
    own.write_text(OWN + TRAINING.replace("draws=1", 'at_most="number", shared_by="parts"'), encoding="utf-8")
    config = changed("trainings/own", {"method": "own.py:steps", "number": 3, "parts": 2, "start": "det"})
    assert problems(config) == ["trainings.own: the key 'start' is unknown; did you mean parts?"]
    del config["trainings"]["own"]["start"]
    assert problems(config) == ["trainings.own.number: 3 cannot be shared by 2 parts; use a multiple"]


def test_layers_that_are_no_indices_are_refused(own):
    own.write_text(OWN.replace("(1, 3)", "3"), encoding="utf-8")
    (problem,) = problems(changed("networks/fc2", NETWORK))
    assert "own.py:small says @entry(layers=3); expected names or numbers of layers, such as (1, 3)" in problem


def test_a_figure_that_wants_what_no_figure_gets_is_refused(own):
    own.write_text(OWN.replace("(panels, measured)", "(panels, results)"), encoding="utf-8")
    (problem,) = problems(changed("figures/fig05/figure", "own.py:picture"))
    assert "own.py:picture takes results; what a function of this section can take is panels, style, measured" in problem


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("(1, 3)", "(1, 9)", r"says @entry\(layers=\(1, 9\)\), and has no layer 9; those with weights are 1, 3"),
        ("nn.Sequential(nn.Flatten(), nn.Linear(16, width), nn.ReLU(), nn.Linear(width, classes))", "abs",
         "returns a builtin_function_or_method; a network is an nn.Module"),
    ],
)  # fmt: skip
def test_a_network_is_what_it_says(old, new, sentence, own):
    own.write_text(OWN.replace(old, new), encoding="utf-8")
    with pytest.raises(NetworkError, match=sentence):
        networks.build(NETWORK, (1, 4, 4), 2)


def test_weights_run_no_code_of_a_file_that_the_caller_did_not_name(own):
    network = networks.build(NETWORK, (1, 4, 4), 2)
    about = {**NETWORK, "shape": [1, 4, 4], "classes": 2}
    posterior.save("w.safetensors", network.state_dict(), POINT, about, seed=0)
    own.write_text(OWN + "open('traitor', 'w').close()\n", encoding="utf-8")
    catalog._run.cache_clear()
    with pytest.raises(ArtifactError, match=r"its network is own\.py:small, code that .* hand over network="):
        posterior.load("w.safetensors")
    with pytest.raises(ArtifactError, match=r"holds weights of .*own\.py:small.*, not of .*fc2"):
        posterior.load("w.safetensors", network={"architecture": "fc2", "width": 4})
    assert not own.with_name("traitor").exists()
    loaded = posterior.load("w.safetensors", network=NETWORK)
    assert own.with_name("traitor").exists()
    assert torch.equal(loaded.weights["1.weight"][0], network.state_dict()["1.weight"])


def digests(script) -> dict[str, str]:
    forget()
    return {name: provenance.code_digest(script, [("own.py", name)]) for name in ("small", "noise")}


@pytest.mark.parametrize(
    ("old", "new", "reached"),
    [
        ("SIZE = 3", "SIZE = 4", {"noise"}),
        ("nn.ReLU()", "nn.LeakyReLU()", {"small"}),
        ("Random signs.", "Signs at random.", set()),
        ("\nSIZE", "# a comment\nSIZE", set()),
        ("\nSIZE", "\ntorch.set_flush_denormal(True)\nSIZE", {"small", "noise"}),
    ],
)
def test_a_job_depends_on_what_it_reaches_in_the_file(old, new, reached, own, tmp_path):
    script = tmp_path / "script.py"
    script.write_text("", encoding="utf-8")
    before = digests(script)
    own.write_text(OWN.replace(old, new), encoding="utf-8")
    after = digests(script)
    assert {name for name in before if before[name] != after[name]} == reached


def test_a_job_depends_on_what_the_file_reaches_in_the_library(own, tmp_path, monkeypatch):
    script = tmp_path / "script.py"
    script.write_text("", encoding="utf-8")
    before = digests(script)
    ball = tmp_path / "resilience/attacks/ball.py"
    shutil.copytree(source_files.LIBRARY, tmp_path / "resilience", ignore=shutil.ignore_patterns("__pycache__"))
    ball.write_text(ball.read_text(encoding="utf-8").replace("attacked.min()", "(1 * attacked).min()"), encoding="utf-8")
    monkeypatch.setattr(source_files, "LIBRARY", tmp_path / "resilience")
    after = digests(script)
    assert {name for name in before if before[name] != after[name]} == {"noise"}


@pytest.mark.parametrize("section", catalog.SECTIONS)
def test_functions_of_the_library_take_what_they_get(section):
    for name, function in catalog.functions(section).items():
        if not function.traits.get("derived"):
            catalog._refuse_what_does_not_fit(function, catalog.SECTIONS[section], name)
