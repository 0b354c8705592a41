"""Files of the user's own: their contents decide what is built anew, and without them nothing starts."""

from __future__ import annotations

import os

import numpy as np
import pytest
from safetensors.torch import save_file

from resilience import networks
from tests.workflow.conftest import Project, copy_project

ENTRY = {"source": "npz", "file": "own.npz", "test_points": 20}
WEIGHTS = {"method": "imported_point", "file": "w{seed}.safetensors", "role": "control"}
DATA, MODEL = "results/own/data.safetensors", "results/own/fc2/own/seed0/weights.safetensors"


def write_arrays(project: Project, seed: int) -> None:
    generator, labels = np.random.default_rng(seed), np.arange(40) % 2
    x = generator.integers(0, 255, (40, 8, 8), np.uint8)
    np.savez(project.folder / "own.npz", x_train=x, y_train=labels, x_test=x, y_test=labels)


def write_weights(project: Project, seed: int) -> None:
    network = networks.build(project.config()["networks"]["fc2"], (1, 8, 8), 2, seed=seed)
    save_file(dict(network.state_dict()), project.folder / "w0.safetensors")


@pytest.fixture
def project(tmp_path) -> Project:
    """The tiny config with a dataset and weights of the user's own, one seed and few jobs."""
    project = copy_project(tmp_path)
    config = project.config() | {"seeds": [0], "datasets": {"own": ENTRY}, "figures": {}, "explore": {}}
    config["trainings"]["own"] = WEIGHTS
    experiment = config["experiments"]["posteriors"] | {"datasets": ["own"], "trainings": ["own"]}
    project.write_config(config | {"experiments": {"own": experiment}})
    write_arrays(project, 0)
    write_weights(project, 0)
    return project


def test_content_decides_what_is_built_anew(project):
    project.snakemake("--cores", "1", "--", MODEL)
    arrays, weights = project.folder / "own.npz", project.folder / "w0.safetensors"
    for file in (arrays, weights):
        os.utime(file)
    assert project.planned(MODEL) == set()
    write_weights(project, 1)
    os.utime(weights, (0, 0))
    assert project.planned(DATA) == set()
    assert MODEL in project.planned(MODEL)
    write_weights(project, 0)
    assert project.planned(MODEL) == set()
    write_arrays(project, 1)
    os.utime(arrays, (0, 0))
    assert {DATA, MODEL} <= project.planned(MODEL)


@pytest.mark.parametrize(
    ("file", "sentence"),
    [
        ("own.npz", "datasets.own.file: there is no file own.npz"),
        ("w0.safetensors", "trainings.own.file: there is no file w0.safetensors"),
    ],
)
def test_a_missing_file_ends_the_run_before_it_starts(file, sentence, project):
    (project.folder / file).unlink()
    done = project.snakemake("--cores", "1", check=False)
    assert done.returncode
    assert sentence in done.stderr
    assert not (project.folder / "results").exists()
    (project.folder / file).mkdir()
    assert sentence in project.snakemake("-n", check=False).stderr


def test_a_missing_folder_ends_the_run_before_it_starts(project):
    config = project.config()
    config["datasets"]["own"] = {"source": "image_folder", "folder": "pictures/{dataset}", "size": 8, "test_points": 20}
    project.write_config(config)
    sentence = "datasets.own.folder: there is no folder pictures/own"
    assert sentence in project.snakemake("-n", check=False).stderr
    (project.folder / "pictures/own").mkdir(parents=True)
    assert DATA in project.planned(DATA)


def test_a_bad_file_fails_its_job_with_a_sentence(project):
    (project.folder / "own.npz").write_text("text", encoding="utf-8")
    done = project.snakemake("--cores", "1", "--", DATA, check=False)
    assert done.returncode
    assert "own.npz: x_train cannot be read; expected numbers in a file of numpy.savez" in done.stderr
