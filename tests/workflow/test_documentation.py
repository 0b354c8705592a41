"""What the documentation tells a reader to do works as written."""

from __future__ import annotations

import re
from itertools import product

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from PIL import Image

from resilience import networks, posterior
from resilience.artifacts import read_tensors
from tests.conftest import ROOT
from tests.workflow.conftest import Project, copy_project

LINK = re.compile(r"\]\((?!http)([^)#]*)(?:#([^)]*))?\)")
OWN_FILE = re.compile(r"In `(my_\w+\.py)`:\n\n```python\n(.*?)```", re.DOTALL)


def anchors(text: str) -> set[str]:
    """The anchors of a page's headings."""
    heads = re.findall(r"^#+ (.*)$", text, flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


def test_links_lead_somewhere():
    pages = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
    for page in pages:
        for target, anchor in LINK.findall(page.read_text(encoding="utf-8")):
            file = (page.parent / target) if target else page
            assert file.exists(), f"{page.name}: {target}"
            assert not anchor or anchor in anchors(file.read_text(encoding="utf-8")), f"{page.name}: #{anchor}"


def section(heading: str) -> str:
    """A section of docs/extending.md."""
    return (ROOT / "docs/extending.md").read_text(encoding="utf-8").split(f"\n## {heading}\n")[1].split("\n## ")[0]


def blocks(text: str, language: str) -> list[str]:
    """The blocks of one language in a page; what shows how to use something has ten lines or fewer."""
    found = re.findall(rf"```{language}\n(.*?)```", text, flags=re.DOTALL)
    assert all(len(list(filter(None, block.splitlines()))) <= 10 for block in found)
    return found


def little(entries: str) -> dict:
    """The tiny config with some entries more, and with no experiments and figures but theirs."""
    config = yaml.safe_load((ROOT / "tests/config.yaml").read_text(encoding="utf-8")) | {
        "experiments": {},
        "figures": {},
        "explore": {},
    }
    for name, more in yaml.safe_load(entries).items():
        config.setdefault(name, {}).update(more)
    return config


def test_own_data_is_read_as_the_page_says(tmp_path, monkeypatch):
    page, project = section("Data"), copy_project(tmp_path)
    project.write_config(little(*blocks(page, "yaml")))
    monkeypatch.chdir(tmp_path)
    exec(*blocks(page, "python"), {})
    for part, name, number in product(("train", "test"), ("bright", "dark"), range(30)):
        file = tmp_path / "home/pictures" / part / name / f"{number}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (20, 18), (250 * (name == "bright"), number, 0)).save(file)
    targets = [f"results/{name}/fc2/det/seed0/fgsm/n1/predictions.csv" for name in ("mine", "pictures")]
    project.snakemake("--cores", "2", "--", *targets, HOME=str(tmp_path / "home"))
    assert read_tensors("results/mine/data.safetensors")["test.x"].shape == (297, 1, 8, 8)
    assert read_tensors("results/pictures/data.safetensors")["test.x"].shape == (60, 3, 16, 16)
    table = pd.read_csv(targets[1])
    assert list(table["prediction"]) == list(table["label"])


def test_own_weights_are_taken_as_the_page_says(tmp_path, monkeypatch):
    page, project = section("Weights"), copy_project(tmp_path)
    project.write_config(little(*blocks(page, "yaml")))
    monkeypatch.chdir(tmp_path)
    settings = project.config()["networks"]["fc2"]
    state_dicts = [
        [networks.build(settings, (1, 8, 8), 10, seed=10 * seed + draw).state_dict() for draw in range(4)] for seed in (0, 1)
    ]
    exec(*blocks(page, "python"), {"state_dicts": state_dicts})
    model = "results/digits/fc2/sampled/seed1"
    project.snakemake("--cores", "2", "--", f"{model}/fgsm/n3/predictions.csv", "results/digits/fc2/point/seed1/fit.json")
    assert len(posterior.load(f"{model}/weights.safetensors")) == 3
    point = posterior.load("results/digits/fc2/point/seed1/weights.safetensors")
    assert all(torch.equal(value[0], state_dicts[1][0][name]) for name, value in point.weights.items())
    assert len(project.planned()) > 10


def test_another_workflow_goes_on_as_the_page_says(tmp_path):
    page, clone = section("Part of another workflow"), copy_project(tmp_path / "resilience")
    (tmp_path / "Snakefile").write_text(*blocks(page, "snakemake"), encoding="utf-8")
    (tmp_path / "histogram.py").write_text(
        "import pandas as pd\n"
        "figure = pd.read_csv(snakemake.input[0])['top20'].plot.hist().figure\n"
        "figure.savefig(snakemake.output[0])\n",
        encoding="utf-8",
    )
    own = Project(tmp_path)
    own.write_config({"explanations": clone.config() | {"results": "results/explanations"}}, "config.yaml")
    _, *arguments = blocks(page, "sh")[0].split()
    own.snakemake(*arguments, config="config.yaml")
    assert (tmp_path / "histogram.png").stat().st_size > 5000
    assert not (clone.folder / "results").exists()
    assert not (clone.folder / ".snakemake").exists()


def test_own_functions_work_as_the_page_says(tmp_path, monkeypatch):
    page, project = section("Functions"), copy_project(tmp_path)
    functions = OWN_FILE.findall(page)
    assert len(functions) == page.count("```python")
    for file, code in functions:
        (tmp_path / file).write_text(code, encoding="utf-8")
    config = little(page.split("```yaml\n")[1].split("```")[0])
    config["experiments"]["own"]["trainings"] += ["map", "svi"]  # What the claim compares.
    project.write_config(config)
    project.snakemake("--cores", "2", "accuracy", "claims")
    assert (tmp_path / "results/figures/accuracy.png").exists()
    model = "results/stripes/fc1/smoothed/seed0"
    table = pd.read_csv(tmp_path / model / "blur/n1/predictions.csv")
    assert (table["label"] == table["prediction"]).mean() > 0.9
    assert (table["farther"] < 0).mean() > 0.9  # A blur takes away what a constant image has not.
    assert "farther" not in pd.read_csv(tmp_path / "results/faded/fc1/smoothed/seed0/blur/n1/predictions.csv")
    layers = {"epsilon": {1, 3}, "zplus": {1, 3}, "rectified": {3}}
    for explanation, explained in layers.items():
        table = pd.read_csv(tmp_path / model / f"blur/n1/explanations/{explanation}/measures.csv")
        assert {"top20", "top30", "sign_flips"} <= set(table.columns)
        assert set(table["layer"]) == explained
    claims = pd.read_csv(tmp_path / "results/claims.csv")
    own = claims[claims["claim"] == "prior_is_enough"]
    assert set(zip(own["paper"], own["training"], own["reference"], strict=True)) == {("my_claims", "svi", "map")}
    assert set(own["dataset"]) == {"stripes", "faded"}
    bright, faded = (read_tensors(tmp_path / f"results/{name}/data.safetensors") for name in ("stripes", "faded"))
    grey = bright["train.x"].mean()
    np.testing.assert_allclose(faded["test.x"], (grey + 0.5 * (bright["test.x"] - grey)).clip(0, 1), atol=1e-6)
    assert not list((tmp_path / "results/faded").rglob("weights.safetensors"))

    monkeypatch.chdir(tmp_path / model)
    (tmp_path / model / "my_networks.py").write_bytes((tmp_path / "my_networks.py").read_bytes())
    (call,) = re.findall(r"`(posterior\.load\(.*?\))`", page)
    assert len(eval(call)) == 1

    attack = tmp_path / "my_attacks.py"
    attack.write_text(
        attack.read_text(encoding="utf-8").replace("mean = avg", "# of nine pixels\n    mean = avg"), encoding="utf-8"
    )
    assert project.planned("accuracy") == set()
    attack.write_text(
        attack.read_text(encoding="utf-8").replace("clamp(-epsilon, epsilon)", "clamp(-epsilon, 0)"), encoding="utf-8"
    )
    planned = project.planned("accuracy")
    assert f"{model}/blur/n1/inputs.safetensors" in planned
    assert f"{model}/weights.safetensors" not in planned


@pytest.mark.parametrize("heading", ["A network", "An attack", "A figure", "An LRP rule", "A measure", "A claim"])
def test_what_is_shown_has_ten_lines_or_fewer(heading):
    assert blocks(section("Functions").split(f"### {heading}\n")[1].split("### ")[0], "python")


def test_targets_of_the_first_page_can_be_asked_for(tmp_path):
    (names,) = re.findall(r"weights +# also: (.*)\n", (ROOT / "README.md").read_text(encoding="utf-8"))
    assert len(copy_project(tmp_path).planned("weights", *names.split(", "))) > 10


def test_the_example_of_the_first_page_is_one_that_is_tested():
    example = (ROOT / "README.md").read_text(encoding="utf-8").split("```python\n")[1].split("```")[0]
    assert example in (ROOT / "docs/extending.md").read_text(encoding="utf-8")
