"""The workflow as a part of another one, and from where the workflow catalogue looks for it."""

from __future__ import annotations

import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import numpy as np
import pytest
import yaml

from tests.conftest import ROOT
from tests.workflow.conftest import Project, copy_project

SNAKEFILE = """
module robust:
    snakefile: config["clone"] + "/{snakefile}"
    config: config["robust"]

use rule * from robust as robust_*

rule arrays:
    input: "source.npz"
    output: "made/arrays.npz"
    shell: "cp {{input}} {{output}}"

rule share:
    "A figure of the importing workflow's own."
    default_target: True
    input:
        table="results/theirs/own/fc2/det/seed0/fgsm/n1/predictions.csv",
        figure="results/theirs/figures/fig05.png",
    output: "share.txt"
    shell: "tail -n +2 {{input.table}} | wc -l > {{output}}"
"""


@pytest.fixture
def clone(tmp_path) -> Project:
    return copy_project(tmp_path / "somewhere/else/resilience")


def importing(clone: Project, folder: Path, snakefile: str) -> Project:
    """A workflow in a folder of its own that imports the clone, and makes the data that it learns from."""
    panel = {"dataset": "own", "network": "fc2", "attack": "fgsm", "trainings": ["det"]}
    settings = clone.config() | {
        "results": "results/theirs",
        "seeds": [0],
        "datasets": {"own": {"source": "npz", "file": "made/arrays.npz", "test_points": 20}},
        "figures": {"fig05": {"figure": "overlap", "panels": [panel]}},
        "explore": {},
    }
    block = settings["experiments"]["posteriors"] | {"datasets": ["own"], "trainings": ["det"]}
    settings["experiments"] = {"theirs": block}
    project = Project(folder)
    folder.mkdir()
    project.write_config({"clone": str(clone.folder), "robust": settings}, "own.yaml")
    (folder / "Snakefile").write_text(SNAKEFILE.format(snakefile=snakefile), encoding="utf-8")
    write_arrays(folder / "source.npz", seed=0)
    return project


def write_arrays(path: Path, seed: int) -> None:
    generator, labels = np.random.default_rng(seed), np.arange(40) % 2
    x = generator.random((40, 8, 8))
    np.savez(path, x_train=x, y_train=labels, x_test=x, y_test=labels)


def test_another_workflow_builds_and_uses_an_artifact(clone, tmp_path):
    own = importing(clone, tmp_path / "own", "Snakefile")
    own.snakemake("--cores", "2", config="own.yaml")
    assert (own.folder / "share.txt").read_text(encoding="utf-8").strip() == "20"
    assert (own.folder / "results/theirs/figures/fig05.png").stat().st_size > 5000
    assert not (clone.folder / "results").exists()
    assert not (clone.folder / "logs").exists()
    assert "Nothing to be done" in own.snakemake("-n", config="own.yaml").stdout
    write_arrays(own.folder / "source.npz", seed=1)
    planned = own.snakemake("-n", config="own.yaml").stdout
    assert "made/arrays.npz" in planned
    assert "output: results/theirs/own/data.safetensors" in planned


@pytest.mark.parametrize("snakefile", ["Snakefile", "workflow/Snakefile"])
def test_everything_is_a_target_of_the_importing_workflow(snakefile, clone, tmp_path):
    own = importing(clone, tmp_path / "own", snakefile)
    planned = own.snakemake("-n", "--", "robust_all", config="own.yaml").stdout
    for file in ("claims.csv", "report.html", "figures/fig05.png"):
        assert f"results/theirs/{file}" in planned
    assert "report.html" not in own.snakemake("-n", "--", "robust_fig05", config="own.yaml").stdout
    assert "share.txt" in own.snakemake("-n", config="own.yaml").stdout


def test_a_config_that_cannot_work_is_refused_by_name(clone, tmp_path):
    own = importing(clone, tmp_path / "own", "Snakefile")
    settings = clone.config()
    settings["attacks"]["fgsm"]["epsilonn"] = 0.1
    own.write_config({"clone": str(clone.folder), "robust": settings}, "own.yaml")
    done = own.snakemake("-n", config="own.yaml", check=False)
    assert done.returncode
    assert "attacks.fgsm: the key 'epsilonn' is unknown; did you mean epsilon?" in done.stdout + done.stderr


def jobs(said: str) -> list[tuple[str, str]]:
    """Rule and output of each job of a dry run."""
    return sorted(re.findall(r"^(?:local)?rule (\w+):\n(?:    (?!output).*\n)*(?:    output: (.*)\n)?", said, flags=re.M))


@pytest.mark.parametrize("target", [[], ["--", "fig03"], ["--", "weights"]], ids=["default", "figure", "weights"])
def test_the_catalogue_finds_the_same_jobs(target, clone):
    top = jobs(clone.snakemake("-n", *target).stdout)
    shim = jobs(clone.snakemake("-n", "--snakefile", "workflow/Snakefile", *target).stdout)
    assert len(top) > 10
    assert shim == top


def test_the_catalogue_finds_the_same_default_config(clone):
    commands = [["-n", "--", "weights"], ["-n", "--snakefile", "workflow/Snakefile", "--", "weights"]]
    top, shim = (jobs(clone.snakemake(*command, config="config/config.yaml").stdout) for command in commands)
    assert top == shim


def test_the_catalogue_finds_what_it_asks_for():
    usage = yaml.safe_load((ROOT / ".snakemake-workflow-catalog.yml").read_text(encoding="utf-8"))["usage"]
    assert usage["software-stack-deployment"]["conda"]
    assert all((ROOT / name).exists() for name in ("workflow/Snakefile", "config/README.md", "LICENSE"))


def test_the_citation_names_the_version_and_licence_of_the_package():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    package = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert (citation["version"], citation["license"]) == (package["version"], package["license"])


def test_a_version_in_a_repository_can_be_imported_without_a_clone(clone, tmp_path):
    """As ``snakedeploy`` does for workflows of the catalogue; what Snakemake would clone is put into its cache."""
    cache = tmp_path / "cache/snakemake/snakemake/source-cache/snakemake-git-cache/github.com/someone/resilience"
    own = Project(tmp_path / "own")
    own.folder.mkdir()
    (own.folder / "Snakefile").write_text(
        'module main:\n    snakefile: github("someone/resilience", path="workflow/Snakefile", tag="v1")\n'
        "    config: config\n\nuse rule * from main\n",
        encoding="utf-8",
    )
    git = ["git", "-C", str(clone.folder), "-c", "user.name=someone", "-c", "user.email=someone@example.org"]
    for command in (["init", "-q"], ["add", "-A"], ["commit", "-q", "-m", "all"], ["tag", "v1"]):
        subprocess.run([*git, *command], check=True)
    subprocess.run(["git", "clone", "-q", "--bare", str(clone.folder), str(cache)], check=True)
    config = str(clone.folder / "tests/config.yaml")
    target = "results/digits/fc2/det/seed0/fit.json"
    shutil.rmtree(clone.folder / "src")
    own.snakemake("--cores", "2", "--", target, config=config, XDG_CACHE_HOME=str(tmp_path / "cache"))
    assert (own.folder / target).exists()
