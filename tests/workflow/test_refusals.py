"""What cannot work is refused before any job, in lines that a person can act on."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.workflow.conftest import copy_project

MODEL = "results/digits/fc2/det/seed0"
FIGURE = "results/figures/fig04.png"


def flip_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-20] ^= 4
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("file", "wanted", "reason"),
    [
        (
            f"{MODEL}/fgsm/n1/explanations/epsilon/layer5.safetensors",
            f"{MODEL}/fgsm/n1/explanations/epsilon/measures.csv",
            "is damaged, or was changed after it was written",
        ),
        *(
            (f"{MODEL}/fgsm/n1/{table}", FIGURE, "is damaged, another table, or was changed after it was written")
            for table in ("explanations/epsilon/measures.csv", "predictions.csv")
        ),
    ],
)
def test_a_damaged_file_ends_the_run_that_reads_it_until_it_is_deleted(file, wanted, reason, again):
    before = again.digests()
    flip_a_bit(again.folder / file)
    (again.folder / wanted).unlink()
    done = again.snakemake("--cores", "1", "--", "fig04", wanted, check=False)
    assert done.returncode == 1
    assert f"Failed: ArtifactError: {file}: {reason}; delete it and run again" in done.stderr.splitlines()
    assert again.digests().get(FIGURE) in (None, before[FIGURE]), "drawn anew"
    (again.folder / file).unlink()
    again.snakemake("--cores", "2", "--", "fig04", file)
    assert again.digests() == before


def test_a_layer_that_does_not_exist_is_no_target(finished):
    target = "results/digits/fc2/det/seed0/clean/n1/explanations/epsilon/layer4.safetensors"
    done = finished.snakemake("-n", "--", target, check=False)
    assert done.returncode != 0
    assert target in done.stdout + done.stderr


def test_without_figures_and_claims_there_is_everything_else(tmp_path):
    project = copy_project(tmp_path / "project")
    config = project.config()
    for section in ("claims", "figures", "explore"):
        del config[section]
    project.write_config(config)
    planned = project.planned("all")
    assert {"results/outcomes.csv", "results/report.html"} <= planned
    assert not [path for path in planned if re.search("claims|comparisons|figures|explore", path)]
