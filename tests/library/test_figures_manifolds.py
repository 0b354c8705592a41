"""What figures of manifolds draw is what tables and files say."""

from __future__ import annotations

from dataclasses import replace

import matplotlib

matplotlib.use("Agg")

import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot
from scipy.stats import norm

from resilience.figures import manifolds
from resilience.figures.panels import Panel, Projections, Style
from resilience.tables import Measured

PANEL = Panel("digits", "fc2", "pgd", ["det", "weak", "strong"], ["5"], 4.0)
STYLE = Style({"det": "deterministic", "weak": "adversarial", "strong": "adversarial"})


@pytest.fixture(autouse=True)
def _close():
    yield
    pyplot.close("all")


@pytest.fixture
def measured() -> Measured:
    """Of two seeds whose manifolds are at different distances; every third point does not count."""
    rows = []
    generator = np.random.default_rng(0)
    for seed in (0, 1):
        clean = generator.uniform(1 + seed, 3 + 2 * seed, 30)
        for training, further in (("det", 2.0), ("weak", 1.0), ("strong", 0.3)):
            here = {"dataset": "digits", "network": "fc2", "training": training, "seed": seed, "attack": "pgd", "draws": 1}
            attacked = np.where(np.arange(30) % 3 > 0, clean + further, np.nan)
            rows.append(pd.DataFrame({**here, "index": np.arange(30), "clean": clean, "far": attacked}))
    return Measured(pd.DataFrame(), pd.concat(rows, ignore_index=True), {})


def test_distances_are_rescaled_by_the_extremes_of_the_clean_ones_of_each_seed(measured):
    clean, attacked = manifolds.rescaled(PANEL, measured, "far", "clean")
    table = measured.predictions
    expected = []
    for seed in (0, 1):
        of_seed = table[(table["training"] == "weak") & (table["seed"] == seed)]
        low, high = of_seed["clean"].min(), of_seed["clean"].max()
        expected.extend((value - low) / (high - low) for value in of_seed["far"] if value == value)
    assert (clean.min(), clean.max(), len(clean)) == (0, 1, 60)
    assert attacked["weak"].tolist() == pytest.approx(expected)
    assert len(attacked["weak"]) == 40


def test_densities_medians_and_numbers_are_those_of_the_distances(measured):
    figure = manifolds.distances_to_manifold([PANEL], STYLE, measured, measure="far", clean="clean")
    place = figure.axes[0]
    clean, attacked = manifolds.rescaled(PANEL, measured, "far", "clean")
    said = [text.get_text() for text in place.get_legend().get_texts()]
    names = ["clean", "Deterministic", "weak", "strong"]
    distances = [clean, *attacked.values()]
    assert said == [
        f"{name}: {np.median(of_one):.2f} ({len(of_one)})" for name, of_one in zip(names, distances, strict=True)
    ]
    curves = [line for line in place.lines if len(line.get_xdata()) > 2]
    for line, of_one in zip(curves, attacked.values(), strict=True):
        where, heights = line.get_xdata()[200], line.get_ydata()[200]
        assert heights == pytest.approx(norm.pdf(where, of_one, 0.25 * of_one.std(ddof=1)).mean())
    marks = [line.get_xdata()[0] for line in place.lines if len(line.get_xdata()) == 2]
    assert marks == pytest.approx([np.median(of_one) for of_one in distances])


def test_a_network_that_the_attack_changed_nothing_of_has_no_density(measured):
    table = measured.predictions.copy()
    table.loc[table["training"] == "strong", "far"] = np.nan
    nothing = Measured(pd.DataFrame(), table, {})
    figure = manifolds.distances_to_manifold([PANEL, PANEL], STYLE, nothing, measure="far", clean="clean")
    for place in figure.axes:
        assert place.get_legend().get_texts()[-1].get_text() == "strong: none (0)"
        assert len([line for line in place.lines if len(line.get_xdata()) > 2]) == 2


def test_networks_of_one_training_are_told_apart_from_light_to_dark():
    found = manifolds.shades(PANEL, STYLE)
    assert found["det"] == pytest.approx((0x4D / 255,) * 3)
    assert sum(found["weak"]) > sum(found["strong"])
    chosen = replace(STYLE, chosen={"weak": "#000000"})
    assert manifolds.shades(PANEL, chosen)["weak"] == (0, 0, 0)


def test_manifolds_are_shown_beside_the_images_with_their_distances():
    x = np.random.default_rng(0).uniform(size=(20, 1, 8, 8)).astype(np.float32)
    known = {"vae": Projections(3, x, x / 2, x), "plane": Projections(3, x, x + 0.125)}
    figure = manifolds.manifold_pictures(STYLE, known, dataset="digits", manifolds=["plane", "vae"], images=5)
    axes = np.array(figure.axes).reshape(4, 5)
    assert [row[0].get_ylabel() for row in axes] == ["test images", "plane", "vae", "drawn from\nvae"]
    assert [place.get_xlabel() for place in axes[1]] == ["1.00"] * 5
    assert axes[2, 4].get_xlabel() == f"{np.sqrt((x[4].astype(float) ** 2).sum()) / 2:.2f}"
    assert np.array_equal(axes[0, 2].images[0].get_array(), x[2, 0])
    assert axes[1, 0].images[0].get_array().max() <= 1
