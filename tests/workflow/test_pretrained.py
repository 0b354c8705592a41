"""The pretrained network of docs/extending.md through the workflow: a ResNet-18 from its own file, layer by layer."""

from __future__ import annotations

import pandas as pd
import torch

from resilience import artifacts
from tests.library.test_pretrained import birds_in, documented
from tests.workflow.conftest import copy_project

MODEL = "results/birds/resnet/pretrained/seed0"
TABLE = f"{MODEL}/fgsm/n1/explanations/epsilon/measures.csv"


def test_a_residual_network_of_torchvision_is_explained_by_the_names_of_its_layers(tmp_path):
    project = copy_project(tmp_path)
    birds_in(project.folder)
    config = documented()
    config["datasets"]["birds"] |= {"folder": "birds", "size": 32}
    project.write_config(config)
    project.snakemake("--cores", "1", "--", TABLE)
    table = pd.read_csv(project.folder / TABLE)
    assert set(table["layer"]) == {"layer2", "output"}
    assert table["top20"].between(0, 1).all()
    folder = project.folder / f"{MODEL}/clean/n1/explanations/epsilon"
    relevance = artifacts.read_tensors(folder / "layerlayer2.safetensors", ["relevance"])["relevance"]
    assert relevance.shape == (len(table) // 2, 3, 32, 32)
    assert bool(torch.from_numpy(relevance).isfinite().all())


def test_a_layer_that_the_network_does_not_have_is_named(tmp_path):
    project = copy_project(tmp_path)
    birds_in(project.folder)
    config = documented()
    config["datasets"]["birds"] |= {"folder": "birds", "size": 32}
    config["networks"]["resnet"]["layers"] = ["layer9", "output"]
    project.write_config(config)
    done = project.snakemake("--cores", "1", "--", TABLE, check=False)
    assert "the network has no layer layer9; its layers are " in done.stdout + done.stderr
