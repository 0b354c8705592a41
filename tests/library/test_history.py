"""What an artifact says of what made it, and what of that decides whether it is made anew."""

from __future__ import annotations

import json
import platform
from dataclasses import replace

import numpy as np
import pytest

from resilience import artifacts
from resilience.heads import head_of, inputs_of, recorded_digest, root_of
from resilience.history import History, abridged, expected, unsealed, version_of
from resilience.provenance import canonical
from resilience.reruns import compared

RECIPE = canonical(
    {"script": "attack", "settings": {"attack": {"epsilon": 0.1, "steps": 3}}, "code": "c0de", "packages": ["torch"]}
)
MADE = expected(RECIPE, {"seed": "0"}, {"points": {"digits/points.safetensors": "d1"}})


def test_a_seal_ties_a_history_to_one_artifact():
    sealed = json.loads(json.dumps(MADE.sealed("d0")))
    assert unsealed(sealed, "d0") == MADE
    for changed, digest in [
        (sealed, "another"),
        ({**sealed, "code": "other"}, "d0"),
        ({**sealed, "adopted": True}, "d0"),
        ({key: value for key, value in sealed.items() if key != "seal"}, "d0"),
    ]:
        with pytest.raises(ValueError, match="its history was changed, or is another artifact's"):
            unsealed(changed, digest)


def test_versions_are_those_of_the_packages_that_the_code_imports():
    import torch

    assert dict(MADE.packages) == {"python": platform.python_version(), "torch": version_of("torch")}
    assert torch.__version__.startswith(version_of("torch").split("+")[0])
    assert version_of("yaml") == version_of("pyyaml") != "missing"
    assert version_of("no_such_package") == "missing"


def test_long_texts_are_recorded_by_their_digest():
    short = {"a": ["b" * 1000, 1], "c": None}
    assert abridged(short) == short
    told, other = (abridged({"page": character * 1001})["page"] for character in "xy")
    assert told.startswith("1001 characters, sha256:")
    assert told != other


@pytest.mark.parametrize(
    ("now", "inputs", "before", "after"),
    [
        ({}, {}, set(), set()),
        ({"packages": ["numpy"]}, {}, set(), set()),
        ({"code": "other"}, {}, {"code c0de"}, {"code other"}),
        (
            {"settings": {"attack": {"epsilon": 0.2, "steps": 3}}},
            {},
            {"attack.attack.epsilon 0.1"},
            {"attack.attack.epsilon 0.2"},
        ),
        ({"settings": {"attack": {"epsilon": 0.1}}}, {}, {"attack.attack.steps 3"}, set()),
        (
            {},
            {"digits/points.safetensors": "d2"},
            {"points digits/points.safetensors d1"},
            {"points digits/points.safetensors d2"},
        ),
        ({}, {"digits/points.safetensors": ""}, set(), set()),
        (
            {},
            {"other/points.safetensors": "d1"},
            {"points digits/points.safetensors d1"},
            {"points other/points.safetensors d1"},
        ),
    ],
    ids=["nothing", "packages", "code", "a value", "a key", "an input", "an input that is gone", "another input"],
)
def test_what_differs_is_told(now, inputs, before, after):
    recipe = canonical(json.loads(RECIPE) | now)
    found = compared(MADE, recipe, MADE.wildcards, {"points": inputs or {"digits/points.safetensors": "d1"}})
    assert found == (before, after)


def test_what_a_file_is_about_counts():
    """The training of another seed has the same settings, code and inputs."""
    assert compared(MADE, RECIPE, {"seed": "1"}, MADE.inputs) == ({"seed 0"}, {"seed 1"})


def test_settings_written_in_another_way_are_the_same():
    recipe = canonical({**json.loads(RECIPE), "settings": {"attack": {"steps": 3.0, "epsilon": 0.1}}})
    assert compared(MADE, recipe, MADE.wildcards, MADE.inputs) == (set(), set())


def test_inputs_are_named_from_the_folder_of_results(tmp_path):
    here, other = tmp_path / "runs/here", tmp_path / "runs/other"
    place = "digits/fc2/det/seed0/weights.safetensors"
    for folder in (here, other):
        (folder / place).parent.mkdir(parents=True)
        artifacts.write_tensors(folder / place, {"x": np.zeros(2)}, {"folder": folder.name})
    own = [tmp_path / "a/pictures.npz", tmp_path / "b/pictures.npz"]
    for number, file in enumerate(own):
        file.parent.mkdir()
        file.write_bytes(bytes([number]))
    weights = [str(here / place), str(other / place)]
    named = {"weights": weights[0], "both": weights, "own": list(map(str, own))}
    told = inputs_of(named, root_of(here / "claims.csv"))
    assert list(told["weights"]) == [place]
    assert list(told["both"]) == [place, f"../other/{place}"]
    assert len(set(told["both"].values())) == 2
    assert list(told["own"]) == ["pictures.npz", "pictures.npz'"]
    assert len(set(told["own"].values())) == 2
    assert told["weights"][place] == recorded_digest(str(here / place)) == head_of(here / place).digest


def test_a_history_changes_the_recorded_digest_nothing(tmp_path):
    """A file that is made again to the same content is what it was, for those that were made from it."""
    path = tmp_path / "digits/points.safetensors"
    path.parent.mkdir()
    digests = set()
    for history in (None, MADE, replace(MADE, code="other")):
        artifacts.write_tensors(path, {"x": np.zeros(2)}, {}, history)
        digests.add(head_of(path).digest)
        assert head_of(path).history == (History(**vars(history)) if history else None)
    assert len(digests) == 1
