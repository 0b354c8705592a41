"""Two runs side by side, each a module of this workflow, and settings laid over both."""

from __future__ import annotations

import pandas as pd
import pytest
import yaml

from tests.reliability import mounts
from tests.workflow.conftest import Project, copy_project

NUMBER = {"figure": "Fig. 2", "dataset": "digits", "network": "fc2", "attack": "fgsm", "draws": 4, "layer": 5, "value": 0.1}


@pytest.fixture
def project(tmp_path) -> Project:
    """The project with two tiny configs that differ in one definition, and with published numbers that both can have."""
    project = copy_project(tmp_path)
    settings = yaml.safe_load((project.folder / "config/reproduction.yaml").read_text(encoding="utf-8"))
    for run, pixels in (("paper", "absolute"), ("published", "extreme_halves")):
        config = project.config() | {"results": f"results/{run}", "cancellation": {"draws": [2, 4]}, "explore": {}}
        for measure in config["measures"].values():
            measure["pixels"] = pixels
        config["experiments"] = {"posteriors": config["experiments"]["posteriors"]}
        config["figures"] = {"fig05": config["figures"]["fig05"], "theorem": {"figure": "cancellation"}}
        project.write_config(config, settings["reproduction"][run])
    numbers = [
        {**NUMBER, "training": "svi", "reference": "det", "statistic": "median"},
        {**NUMBER, "training": "adv", "reference": "det", "statistic": "mode"},
        {**NUMBER, "training": "hmc", "reference": "", "statistic": "correlation"},
        {**NUMBER, "training": "hmc", "reference": "", "statistic": "correlation", "dataset": "cifar10"},
    ]
    table = pd.DataFrame(numbers).assign(explanation="epsilon", accuracy=0.01, note="")
    table.to_csv(project.folder / "workflow/published_values.csv", index=False)
    project.write_config({"variant": "less", "seeds": [1], "trainings": {"det": {"epochs": 3}}}, "less.yaml")
    return project


def run(project: Project, *arguments: str, check: bool = True):
    """Snakemake with both runs."""
    config = project.folder / "tests/config.yaml"
    config.write_text((project.folder / "config/reproduction.yaml").read_text(encoding="utf-8"), encoding="utf-8")
    return project.snakemake("less.yaml", *arguments, check=check)


def test_published_numbers_stand_beside_those_of_both_runs(project):
    said = run(project, "--cores", "2", "--quiet", "rules", "--", "reproduction").stderr
    assert "How many published numbers agree with ours" in said
    folder = project.folder / "results/reproduction/less"
    found = pd.read_csv(folder / "reproduction.csv", keep_default_na=False)
    assert list(found["paper_agreement"].eq("not run")) == [False, False, False, True]
    assert (found["paper"][:3] != found["published"][:3]).any()
    assert list(found["paper_seeds"]) == [1, 1, 1, 0]
    assert (folder / "reproduction.png").stat().st_size > 10_000
    for table in ("explanations/epsilon/measures.csv", "predictions.csv"):
        place = f"digits/fc2/det/seed1/fgsm/n1/{table}"
        assert all((project.folder / f"results/{name}/less/{place}").exists() for name in ("paper", "published"))
    assert len(pd.read_csv(project.folder / "results/paper/less/digits/fc2/det/seed1/history.csv")) == 3


def test_everything_of_both_runs_is_a_target(project):
    planned = run(project, "-n").stdout
    for file in (
        "figures/fig05.png",
        "figures/theorem.png",
        "claims.csv",
        "report.html",
        "digits/fc2/hmc/seed1/cancellation.csv",
    ):
        for name in ("paper", "published"):
            assert f"results/{name}/less/{file}" in planned
    only = run(project, "-n", "--", "paper_fig05").stdout
    assert "results/paper/less/figures/fig05.png" in only
    assert "results/published" not in only


@pytest.mark.skipif(not mounts.possible(), reason="only root can make a folder read-only for everybody")
def test_what_cannot_be_written_is_told_of_once(project):
    """Not once by each of the modules, all of which read the same rules."""
    made = "results/paper/less/digits/points.safetensors"
    run(project, "--cores", "1", "--", made)
    with mounts.undone(project.folder):
        mounts.make_read_only(project.folder / "results")
        refused = run(project, "--cores", "1", "--forcerun", "paper_choose_points", "--", made, check=False)
    assert refused.returncode
    assert refused.stderr.count("results/reproduction/less cannot be written: Read-only file system. Nothing was run.") == 1
    assert refused.stderr.count("cannot be written") == 1
    assert "Write-protected" not in refused.stderr


def test_a_run_without_its_config_is_refused(project):
    settings = yaml.safe_load((project.folder / "config/reproduction.yaml").read_text(encoding="utf-8"))
    settings["reproduction"]["paper"] = "config/papier.yaml"
    project.write_config(settings, "config/reproduction.yaml")
    done = run(project, "-n", check=False)
    assert done.returncode
    assert "reproduction.paper: there is no file" in done.stdout + done.stderr
    del settings["reproduction"]["paper"]
    project.write_config(settings, "config/reproduction.yaml")
    assert "must name a config file for each of paper and published" in run(project, "-n", check=False).stderr
