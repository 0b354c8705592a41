"""What is made from explanations beside what an attack leaves of them: what they say of a network, and further datasets."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from resilience.artifacts import read_table, read_tensors
from tests.workflow.conftest import Project, copy_project

SHARE = 0.25
WITHOUT = {
    "source": "occluded",
    "of": "digits",
    "by": {"network": "fc2", "training": "det", "explanation": "epsilon"},
    "share": SHARE,
    "test_points": 20,
}
MEASURES = {
    "top20": {"measure": "overlap", "top_k": 20},
    "right": {"measure": "accuracy"},
    "deletion": {"measure": "deletion", "steps": 4},
    "gradient_norm": {"measure": "gradient_norm"},
}


RETRAINING = {
    "datasets": ["digits"],
    "networks": ["fc2"],
    "trainings": ["svi"],
    "explanations": ["random", "gradient"],
    "draws": [2],
    "by": {"network": "conv", "training": "det"},
    "shares": [SHARE],
}


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Project:
    """A network that learns digits without what another network's explanation calls important, measured in every way."""
    project = copy_project(tmp_path_factory.mktemp("from_explanations"), seeds=1)
    config = project.config() | {"measures": MEASURES, "figures": {}, "explore": {}}
    del config["claims"]
    config["datasets"]["without"] = WITHOUT
    config["retraining"] = RETRAINING
    config["figures"] = {"scored": {"figure": "scores_by_training"}}
    config["explanations"] |= {
        "gradient": {"method": "gradient"},
        "random": {"method": "random_map"},
        "draws": config["explanations"]["gamma"] | {"over": "each"},
    }
    config["experiments"] = {
        "own": {
            "datasets": ["without"],
            "networks": ["fc2"],
            "trainings": ["det", "svi"],
            "attacks": ["fgsm"],
            "explanations": ["epsilon", "gradient", "draws"],
            "draws": [2],
        }
    }
    project.write_config(config)
    project.snakemake("--cores", "2", "--quiet", "rules", "--", "summary", "outcomes", "retraining", "scored")
    return project


def test_the_most_important_pixels_are_replaced_by_the_mean(built):
    before, after = (read_tensors(built.folder / f"results/{name}/data.safetensors") for name in ("digits", "without"))
    explained = built.folder / "results/digits/fc2/det/seed0/dataset/n1/explanations/epsilon/relevance.safetensors"
    relevance = np.abs(read_tensors(explained)["test.relevance"]).sum(1).reshape(len(before["test.y"]), -1)
    images = [data["test.x"].reshape(relevance.shape) for data in (before, after)]
    changed = ~np.isclose(*images, atol=1e-6)
    mean = before["train.x"].mean()
    np.testing.assert_allclose(images[1][changed], mean, atol=1e-6)
    count = round(SHARE * relevance.shape[1])
    assert changed.sum(1).max() == count
    least = np.sort(relevance, axis=1)[:, -count]
    assert (relevance >= least[:, None])[changed].all()
    np.testing.assert_array_equal(after["test.y"], before["test.y"])


def test_every_measure_stands_in_the_summary_where_it_belongs(built):
    table = pd.read_csv(built.folder / "results/measures.csv")
    places = dict(iter(table.groupby("measure")))
    assert set(MEASURES) <= set(places)
    for measure, attack, explained in (
        ("top20", "fgsm", True),
        ("right", "fgsm", False),
        ("deletion", "clean", True),
        ("gradient_norm", "clean", False),
    ):
        rows = places[measure]
        assert set(rows["dataset"]) == {"without"}
        assert set(rows["attack"]) == {attack}
        assert set(rows["training"]) == {"det", "svi"}
        assert set(rows["explanation"].dropna()) == ({"epsilon", "gradient", "draws"} if explained else set())
        assert (rows["points"] == 20).all()
        assert rows["mean"].notna().all()
    layers = {name: set(rows["layer"]) for name, rows in places["top20"].groupby("explanation")}
    assert layers == {"epsilon": {1, 3, 5}, "draws": {1, 3, 5}, "gradient": {5}}
    assert set(places["deletion"]["layer"]) == {5}


def test_each_draw_has_a_map_of_its_own(built):
    model = built.folder / "results/without/fc2/svi/seed0"
    for inputs in ("clean", "fgsm"):
        maps = read_tensors(model / inputs / "n2/explanations/draws/layer5.safetensors")["relevance"]
        assert maps.shape == (20, 2, 1, 8, 8)
        assert not np.array_equal(maps[:, 0], maps[:, 1])


def test_what_a_dataset_is_made_from_is_not_made_anew_with_it(built, tmp_path):
    again = built.copied(tmp_path / "again")
    assert again.planned("summary", "outcomes") == set()
    config = again.config()
    config["datasets"]["without"]["share"] = 0.5
    again.write_config(config)
    planned = again.planned("summary", "outcomes")
    assert {"results/without/data.safetensors", "results/without/fc2/det/seed0/weights.safetensors"} <= planned
    assert not [path for path in planned if path.startswith("results/digits/")]


def test_another_explanation_of_what_is_important_makes_the_dataset_anew(built, tmp_path):
    again = built.copied(tmp_path / "again")
    config = again.config()
    config["explanations"]["epsilon"]["rule"]["epsilon"] = 0.2
    again.write_config(config)
    planned = again.planned("results/without/data.safetensors")
    assert planned == {
        "results/without/data.safetensors",
        "results/digits/fc2/det/seed0/dataset/n1/explanations/epsilon/relevance.safetensors",
    }


def test_networks_learn_again_from_what_explanations_leave(built):
    scores = read_table(built.folder / "results/scores.csv").set_index(["explanation", "protocol"])
    for explanation in ("random", "gradient"):
        folder = built.folder / f"results/digits/fc2/svi/seed0/dataset/n2/explanations/{explanation}"
        table = read_table(folder / "retrained.csv")
        test = read_tensors(built.folder / "results/digits/data.safetensors")["test.y"]
        assert (table["index"].tolist(), table["label"].tolist()) == (list(range(len(test))), test.tolist())
        for protocol in ("roar", "kar"):
            ends = [table[name].mean() for name in ("none_replaced", f"{protocol}_{SHARE}", "all_replaced")]
            replaced = SHARE if protocol == "roar" else 1 - SHARE
            row = scores.loc[explanation, protocol]
            assert [row[f"accuracy_{q:g}"] for q in (0, replaced, 1)] == pytest.approx(ends)
        assert not (folder / "checkpoint").exists()
    assert scores.loc[("random", "roar"), "score"] == 0
    # With other networks as without an experiment of their own.
    assert (built.folder / "results/digits/fc2/svi/seed0/weights.safetensors").exists()
