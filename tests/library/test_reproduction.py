"""Published numbers beside ours: the statistics, re-implemented more slowly, and what counts as agreement."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import yaml

from resilience import reproduction
from resilience.comparisons.statistics import resamples
from resilience.figures.reproduction import reproduction as draw
from resilience.networks import build, learnable_layers
from resilience.tables import Measured, gather
from tests.conftest import ROOT

PUBLISHED = ROOT / "workflow/published_values.csv"
CONFIGS = {
    name: yaml.safe_load((ROOT / f"config/{name}.yaml").read_text(encoding="utf-8")) for name in ("paper", "published")
}
OF_CIFAR10 = {
    name: yaml.safe_load((ROOT / f"config/papers/{name}.yaml").read_text(encoding="utf-8"))
    for name in ("carbone2021_cifar10", "carbone2021_cifar10_published")
}


@pytest.fixture
def published() -> pd.DataFrame:
    return pd.read_csv(PUBLISHED, keep_default_na=False, dtype={"layer": "str"})


def tables(shift: float, seeds: int = 3, points: int = 40) -> Measured:
    """Tables of a deterministic network and of a Bayesian one that is better by ``shift``."""
    generator = np.random.default_rng(0)
    parts = []
    for training, draws, mean in (("det", 1, 0.4), ("svi", 20, 0.4 + shift)):
        for seed in range(seeds):
            values = np.clip(mean + 0.05 * generator.standard_normal(points), 0, 1)
            place = {
                "dataset": "mnist",
                "network": "conv",
                "attack": "fgsm",
                "training": training,
                "draws": draws,
                "seed": seed,
            }
            of_maps = {"explanation": "epsilon", "layer": "0", "top20": values}
            of_predictions = {"softmax_robustness": values**2, "label": 1, "prediction": 1}
            parts += [pd.DataFrame({**place, "index": np.arange(points), **each}) for each in (of_maps, of_predictions)]
    return gather(parts, {"top20": {"measure": "overlap", "top_k": 20}})


def row(statistic: str, value: float, reference: str = "det") -> pd.DataFrame:
    about = {"figure": "Fig. 0", "dataset": "mnist", "network": "conv", "attack": "fgsm", "training": "svi", "draws": 100}
    return pd.DataFrame(
        [{**about, "reference": reference, "explanation": "epsilon", "layer": "0", "statistic": statistic, "value": value}]
    ).assign(accuracy=0.01, note="")


@pytest.mark.parametrize("name", OF_CIFAR10)
def test_every_published_number_of_cifar10_is_a_comparison_that_its_configs_make(published, name):
    here = published[published["dataset"] == "cifar10"]
    assert dict(here["figure"].value_counts()) == {"Fig. 3": 6, "Fig. 10": 6, "Fig. 11": 6}
    config = OF_CIFAR10[name]
    assert set(here["network"]) == set(config["networks"])
    assert set(here["layer"]) == {"output"}
    for number in here.to_dict("records"):
        for training in (number["training"], number["reference"]):
            assert any(
                training in block["trainings"]
                and number["attack"] in block["attacks"]
                and number["explanation"] in block["explanations"]
                and (number["draws"] == 1 or number["draws"] in block["draws"])
                for block in config["experiments"].values()
            ), number


def test_every_published_number_is_a_comparison_that_both_configs_make_or_is_on_colour_images(published):
    assert len(published) == 74
    assert not published.duplicated([name for name in published if name not in ("value", "accuracy", "note")]).any()
    for config in CONFIGS.values():
        for number in published[published["dataset"] != "cifar10"].to_dict("records"):
            blocks = [
                block
                for block in config["experiments"].values()
                if number["dataset"] in block["datasets"]
                and number["network"] in block["networks"]
                and number["attack"] in block["attacks"]
                and number["explanation"] in block["explanations"]
                and {number["training"]} <= set(block["trainings"])
            ]
            assert blocks, number
            assert number["draws"] == 1 or any(number["draws"] in block["draws"] for block in blocks), number
            network = build(config["networks"][number["network"]] | {"width": 16}, (1, 28, 28), 10)
            assert number["layer"] in learnable_layers(network)


def test_median_is_that_of_resampled_points():
    values = np.random.default_rng(1).random((3, 15))
    found = reproduction.median(values)
    assert found.estimate == np.median(values)
    assert found.by_seed == pytest.approx(np.median(values, axis=1))
    for counts, value in zip(resamples(15)[:20], found.by_point, strict=False):
        slow = np.sort(np.concatenate([np.repeat(seed, counts.astype(int)) for seed in values]))
        assert value == slow[int(np.ceil(len(slow) / 2)) - 1]


def test_mode_is_where_most_values_lie():
    generator = np.random.default_rng(2)
    values = np.where(generator.random((2, 500)) < 0.7, 0.3, -0.4) + 0.02 * generator.standard_normal((2, 500))
    found = reproduction.mode(values)
    assert found.estimate == pytest.approx(0.3, abs=0.02)
    assert found.by_point.std() < 0.02


def test_pearson_is_numpys():
    generator = np.random.default_rng(3)
    first, second = generator.random((3, 30)), generator.random((3, 30))
    found = reproduction.pearson(first, second)
    slow = [np.corrcoef(one, two)[0, 1] for one, two in zip(first, second, strict=True)]
    assert found.by_seed == pytest.approx(slow)
    counts = resamples(30)[4].astype(int)
    pairs = zip(first, second, strict=True)
    resampled = [np.corrcoef(np.repeat(one, counts), np.repeat(two, counts))[0, 1] for one, two in pairs]
    assert found.by_point[4] == pytest.approx(np.mean(resampled))
    assert reproduction.pearson(np.ones((1, 5)), generator.random((1, 5))).estimate == 0


@pytest.mark.parametrize(
    ("value", "low", "high", "expected"),
    [
        (0.2, 0.1, 0.3, "agrees"),
        (0.305, 0.1, 0.3, "agrees"),
        (0.4, 0.1, 0.3, "same side"),
        (-0.2, -0.1, -0.05, "same side"),
        (0.2, -0.1, 0.1, "differs"),
        (-0.2, 0.1, 0.3, "differs"),
        (0.0, 0.1, 0.3, "differs"),
    ],
)
def test_agreement(value, low, high, expected):
    assert reproduction.agreement(value, 0.01, low, high) == expected


def test_each_run_is_compared_on_its_own():
    table = reproduction.compare(row("median", 0.3), {"paper": tables(0.0), "published": tables(0.3)}, "top20")
    assert list(reproduction.summarise(table, ["paper", "published"])["distance"]) == pytest.approx([0.3, 0], abs=0.03)
    found = table.iloc[0]
    assert found["value"] == 0.3
    assert found["paper"] == pytest.approx(0, abs=0.03)
    assert found["published"] == pytest.approx(0.3, abs=0.03)
    assert (found["paper_agreement"], found["paper_draws"], found["paper_points"]) == ("differs", 20, 40)
    assert found["paper_classified"] == 1


def test_a_number_that_no_run_has_is_named():
    found = reproduction.compare(row("median", 0.3).assign(dataset="cifar10"), {"paper": tables(0.0)}, "top20")
    assert list(found["paper_agreement"]) == ["not run"]
    assert found["paper"].isna().all()
    counts = reproduction.summarise(found, ["paper"]).loc["Fig. 0", "paper"]
    assert (counts["agrees"], counts["not run"]) == (0, 1)


def test_figure_shows_a_line_for_each_number(tmp_path):
    numbers = pd.concat([row("median", 0.3), row("mode", 0.2).assign(figure="Fig. 2"), row("correlation", 0.5, "")])
    found = reproduction.compare(numbers, {"paper": tables(0.1), "published": tables(0.3)}, "top20")
    figure = draw(found, {"paper": "the paper's", "published": "the published"})
    labels = [text.get_text() for axes in figure.axes for text in axes.get_yticklabels()]
    assert sorted(labels) == ["svi (100) − det, layer 0", "svi (100) − det, layer 0", "svi (100), layer 0"]
