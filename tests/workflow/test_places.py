"""Where settings and results lie: where Snakemake runs, in a checkout that a group shares, on another disk."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.workflow.conftest import Project, copy_project, outputs_of

WEIGHTS = "digits/fc2/det/seed0/weights.safetensors"


@pytest.fixture(scope="module")
def checkout(tmp_path_factory) -> Project:
    """A clone that nobody works in."""
    return copy_project(tmp_path_factory.mktemp("shared") / "resilience")


def files_of(folder: Path) -> set[Path]:
    return {path for path in folder.rglob("*") if "__pycache__" not in path.parts}


def plan(checkout: Project, folder: Path, *arguments: str) -> str:
    """What Snakemake plans in a folder of one's own, for the Snakefile of a checkout."""
    command = [sys.executable, "-m", "snakemake", "-n", "-s", str(checkout.folder / "Snakefile"), *arguments]
    clean = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "RESILIENCE_FORK_SERVER")}
    done = subprocess.run(command, cwd=folder, env=clean, capture_output=True, encoding="utf-8", check=False, timeout=500)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout + done.stderr


@pytest.mark.parametrize("snakefile", ["Snakefile", "workflow/Snakefile"])
def test_results_may_lie_on_another_disk(snakefile, checkout, tmp_path):
    disk = tmp_path / "scratch/run_1"
    given = ("--config", f"results={disk}", "--snakefile", snakefile)
    planned = outputs_of(checkout.snakemake("-n", *given, "--", str(disk / WEIGHTS)).stdout)
    assert {str(disk / WEIGHTS), str(disk / "digits/data.safetensors")} <= planned
    assert all(path.startswith(f"{disk}/") for path in planned)
    assert not disk.exists()


def test_a_checkout_that_a_group_shares_brings_its_config_along_and_stays_as_it_is(checkout, tmp_path):
    before = files_of(checkout.folder)
    said = plan(checkout, tmp_path, "--config", "seeds=[5]", "--", f"results/{WEIGHTS.replace('seed0', 'seed5')}")
    assert f"Config file {checkout.folder}/config/config.yaml is extended" in said
    assert outputs_of(said) >= {"results/digits/data.safetensors"}
    assert files_of(checkout.folder) == before


def test_the_config_of_the_working_folder_comes_before_that_of_the_checkout(checkout, tmp_path):
    own = Project(tmp_path)
    (tmp_path / "config").mkdir()
    own.write_config(checkout.config() | {"results": "results/mine"}, "config/config.yaml")
    assert f"results/mine/{WEIGHTS}" in outputs_of(plan(checkout, tmp_path, "--", f"results/mine/{WEIGHTS}"))
