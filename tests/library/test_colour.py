"""Colour images and names of classes in figures and on pages to explore."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from matplotlib import pyplot

from resilience.figures import answer, heat_maps
from resilience.figures.panels import Maps, Panel, Style
from resilience.measures.top_pixels import number_of_top_pixels
from tests.library.test_comparisons import robustness_tables
from tests.library.test_explore import ABOUT, data, example, page

PANEL = Panel("cifar10", "fc2", "pgd", ["det", "hmc"], ["1", "3"], 0.1, called="CIFAR-10 (recompressed)")
STYLE = Style({"det": "deterministic", "hmc": "hmc"})
NAMES = ["ape", "bee", "cat"]


@pytest.fixture(scope="module")
def tables():
    measured = robustness_tables(0.1, seeds=1)
    for table in (measured.maps, measured.predictions):
        table["dataset"] = "cifar10"
    return measured


@pytest.fixture(scope="module")
def pictures() -> Maps:
    generator = np.random.default_rng(0)
    pair = tuple(generator.uniform(0, 1, (2, 60, 3, 4, 4)).astype(np.float32))
    maps = {
        (name, layer): tuple(generator.normal(size=(2, 60, 3, 4, 4)).astype(np.float32))
        for name in PANEL.trainings
        for layer in PANEL.layers
    }
    measures = {"top20": {"measure": "overlap", "top_k": 20}}
    return Maps(0, {"det": 1, "hmc": 50}, dict.fromkeys(PANEL.trainings, pair), maps, measures, NAMES)


@pytest.fixture(autouse=True)
def _close():
    yield
    pyplot.close("all")


def test_classes_are_called_by_their_names_and_datasets_by_their_titles(tables, pictures):
    figure = heat_maps.layers([PANEL], STYLE, tables, [pictures], measure="top20")
    titles = {place.get_title() for place in figure.axes}
    assert {"Image x\nclassified as bee", "Attacked x̃\nclassified as ape"} <= titles
    assert "CIFAR-10 (recompressed), fc2, pgd" in figure.get_suptitle()
    title = heat_maps.failed_attack([PANEL], STYLE, tables, [pictures], measure="top20").get_suptitle()
    assert any(f"class\N{NO-BREAK SPACE}{name}," in title for name in NAMES)
    unnamed = replace(pictures, class_names=None)
    titles = {place.get_title() for place in heat_maps.layers([PANEL], STYLE, tables, [unnamed], measure="top20").axes}
    assert "Image x\nclassified as 1" in titles
    assert [replace(PANEL, called=called).data for called in (None, "a title")] == ["cifar10", "a title"]


@pytest.mark.parametrize(("channels", "counted"), [("sum", 16), ("each", 48)])
def test_images_are_drawn_in_their_colours_and_maps_as_the_sum_over_channels(tables, pictures, channels, counted):
    pictures = replace(pictures, measures={"top20": {"measure": "overlap", "top_k": 20, "channels": channels}})
    figure = heat_maps.layers([PANEL], STYLE, tables, [pictures], measure="top20")
    image, drawn = figure.axes[0].images[0].get_array(), figure.axes[1].images[0]
    (point,) = [number for number, x in enumerate(pictures.images["det"][0]) if np.array_equal(x.transpose(1, 2, 0), image)]
    clean = pictures.layers["det", "1"][0][point]
    total, shown = clean.sum(0), ~drawn.get_array().mask
    assert drawn.norm.vmin == -drawn.norm.vmax
    assert np.array_equal(drawn.get_array()[shown], total[shown])
    top = pictures.top(clean, "top20")
    assert (top.size, top.sum()) == (counted, number_of_top_pixels(counted, 20))
    assert np.array_equal(shown, top.any(0))
    if channels == "sum":
        assert np.abs(total[shown]).min() > np.abs(total[~shown]).max()
    outlined = heat_maps.overlap([PANEL], STYLE, tables, [pictures], measure="top20").axes[0]
    assert outlined.get_xlabel().endswith("the top 3 of 16" if channels == "sum" else "the top 9 of 48 channels")


def test_a_map_of_a_colour_image_fills_the_scale(tables, pictures):
    """The largest sum over channels, not the largest channel, is red or blue."""
    figure = heat_maps.failed_attack([PANEL], STYLE, tables, [pictures], measure="top20")
    for row in (0, 1):
        maps = [place.images[0] for place in figure.axes[4 * row + 2 : 4 * row + 4]]
        assert maps[0].norm.vmax == pytest.approx(max(float(np.abs(drawn.get_array()).max()) for drawn in maps))


def test_titles_of_panels_have_the_title_of_the_dataset():
    columns = ("dataset", "network", "attack", "claim", "reference", "training", "explanation", "measure")
    import pandas as pd

    figure = answer.answer([PANEL], STYLE, pd.DataFrame(columns=columns))
    assert figure.axes[0].get_title().startswith("CIFAR-10 (recompressed), fc2")


def test_layers_are_called_by_number_or_by_name(tables, pictures):
    panel = replace(PANEL, layers=["1", "layer2.0.conv1", "output"])
    assert [panel.layer_name(layer) for layer in panel.layers] == ["layer 1", "layer2.0.conv1", "output"]
    assert replace(PANEL, layers=["conv1", "linear"]).layer_name("linear") == "linear (output)"


def test_a_page_has_the_names_of_classes_where_there_are_some():
    points, models = example((6, 3, 5, 7))
    assert data(page(points, models))["classNames"] is None
    names = [f"class {number}" for number in range(9)] + ["</script>"]
    html = page(points, models, about=ABOUT | {"class_names": names})
    assert data(html)["classNames"] == names
    assert '</script>"' not in html
