"""What cannot work is refused before any job, in lines that a person can act on."""

from __future__ import annotations

import time

import pytest

from tests.library.test_config import REFUSED
from tests.workflow.conftest import copy_project


@pytest.mark.parametrize(
    ("section", "entry", "sentence"),
    [
        (
            "attacks",
            {"pgd": {"method": "pgd", "epsilonn": 0.1}},
            "attacks.pgd: the key 'epsilonn' is unknown; did you mean epsilon?",
        ),
        ("networks", {"fc2": {"architecture": "fc9"}}, "networks.fc2.architecture: 'fc9' is unknown; did you mean fc2?"),
        ("robustness", {"top_k": [400]}, "robustness.top_k.0: 400 must be at most 100"),
    ],
)
def test_a_bad_config_ends_the_run_before_it_starts(section, entry, sentence, tmp_path):
    project = copy_project(tmp_path / "project")
    config = project.config()
    config[section] = config[section] | entry
    project.write_config(config)
    begun = time.monotonic()
    done = project.snakemake("--cores", "1", check=False)
    assert done.returncode != 0
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr
    assert not (project.folder / "results").exists()
    assert time.monotonic() - begun < 20


def test_a_layer_that_does_not_exist_is_no_target(finished):
    target = "results/digits/fc2/det/seed0/clean/n1/lrp/epsilon/layer4.safetensors"
    done = finished.snakemake("-n", "--", target, check=False)
    assert done.returncode != 0
    assert target in done.stdout + done.stderr


def test_the_table_of_refusals_is_worth_its_name():
    assert len(REFUSED) >= 40
