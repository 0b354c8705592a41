"""What the documentation tells a reader to do works as written."""

from __future__ import annotations

import re

import pandas as pd
import yaml

from tests.conftest import ROOT
from tests.workflow.conftest import copy_project

LINK = re.compile(r"\]\((?!http)([^)#]*)(?:#([^)]*))?\)")
BLOCK = re.compile(r"`(src/resilience/[\w/]+\.py)`:\n\n```python\n(.*?)```", re.DOTALL)


def anchors(text: str) -> set[str]:
    """The anchors of a page's headings."""
    heads = re.findall(r"^#+ (.*)$", text, flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


def test_links_lead_somewhere():
    pages = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
    for page in pages:
        for target, anchor in LINK.findall(page.read_text()):
            file = (page.parent / target) if target else page
            assert file.exists(), f"{page.name}: {target}"
            assert not anchor or anchor in anchors(file.read_text()), f"{page.name}: #{anchor}"


def test_own_things_work_as_the_page_says(tmp_path):
    page = (ROOT / "docs/extending.md").read_text()
    project = copy_project(tmp_path)
    blocks = BLOCK.findall(page)
    assert len(blocks) == page.count("```python")
    for file, code in blocks:
        path = project.folder / file
        path.write_text(f"{path.read_text()}\n\n{code}" if path.exists() else code)
    config = project.config()
    for section, entries in yaml.safe_load(page.split("```yaml\n")[1].split("```")[0]).items():
        config[section].update(entries)
    project.write_config(config)
    project.snakemake("--cores", "2", "accuracy")
    assert (project.folder / "results/figures/accuracy.png").exists()
    table = pd.read_csv(project.folder / "results/stripes/fc1/smoothed/seed0/noise/n1/robustness.csv")
    assert {"lrp_epsilon_layer3_top20", "lrp_zplus_layer1_top30"} <= set(table.columns)
    assert (table["label"] == table["prediction"]).mean() > 0.9


def test_the_example_of_the_first_page_is_one_that_is_tested():
    example = (ROOT / "README.md").read_text().split("```python\n")[1].split("```")[0]
    assert example in (ROOT / "docs/extending.md").read_text()
