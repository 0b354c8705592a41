from __future__ import annotations

import base64
import json
import re

import numpy as np
import pytest
import yaml

from resilience import explore, robustness
from resilience.config import check
from resilience.grid import Grid
from tests.conftest import ROOT, templates
from tests.library.test_config import SCHEMA

RULES, LAYERS, TOP_K = ("epsilon", "gamma"), (1, 3), (10, 25)
ABOUT = {
    "dataset": "digits",
    "network": "fc2",
    "attack": "pgd ε = 0.1",
    "trainings": "Deterministic and HMC",
    "seed": 0,
    "layers": {"1": "layer 1", "3": "layer 3 (output)"},
    "first": {"rule": "epsilon", "k": 25},
}
GENERATOR = np.random.default_rng(0)


def heat_maps(*shape: int) -> np.ndarray:
    """Relevance of very different sizes, with ties and with many zeros."""
    relevance = GENERATOR.standard_normal(shape) ** 3 * 10.0 ** GENERATOR.integers(-6, 3, (shape[0], 1, 1, 1))
    relevance[GENERATOR.random(shape) < 0.5] = 0
    return relevance.round(2).astype(np.float32)


def model(name: str, draws: int, shape: tuple[int, ...], rules=RULES, layers=LAYERS) -> explore.Model:
    probabilities = tuple(GENERATOR.dirichlet(np.ones(10), shape[0]).astype(np.float32) for _ in range(2))
    maps = {(rule, layer): (heat_maps(*shape), heat_maps(*shape)) for rule in rules for layer in layers}
    return explore.Model(name, "#0072b2", draws, GENERATOR.random(shape, dtype=np.float32), probabilities, maps)


def example(shape=(20, 1, 8, 8), name: str = "HMC") -> tuple[dict[str, np.ndarray], list[explore.Model]]:
    """Points, and a reference beside a training that only its most draws have both rules of."""
    points = {"x": GENERATOR.random(shape), "y": np.arange(shape[0]) % 10, "index": 100 + np.arange(shape[0])}
    rules = [RULES, RULES[:1], RULES]
    return points, [model(*one, shape, each) for one, each in zip([(name, 1), (name, 5), (name, 50)], rules, strict=True)]


def page(points, models, chosen=None, pixels="absolute", about=ABOUT) -> str:
    chosen = explore.spread(len(points["y"]), chosen)
    return explore.render(templates("explore"), about, points, models, chosen, TOP_K, pixels)


def data(html: str) -> dict:
    """What a page holds for its script."""
    return json.loads(re.search(r'<script type="application/json"[^>]*>(.*?)</script>', html, flags=re.DOTALL)[1])["content"]


def unpacked(text: str, dtype: type, *shape: int) -> np.ndarray:
    return np.frombuffer(base64.b64decode(text), dtype).reshape(shape)


@pytest.mark.parametrize("pixels", robustness.PIXELS)
@pytest.mark.parametrize("shape", [(20, 1, 8, 8), (6, 3, 5, 7)], ids=["grey", "colour"])
def test_the_share_that_survives_is_exactly_that_of_the_table(shape, pixels):
    points, models = example(shape)
    held = data(page(points, models, pixels=pixels))
    entries = np.prod(shape[1:])
    for of_page, of_model in zip([held["reference"], *held["models"]], models, strict=True):
        for (rule, layer), (clean, attacked) in of_model.maps.items():
            for percent in TOP_K:
                top = of_page["maps"][rule][str(layer)]["top"][str(percent)]
                bits = [unpacked(text, np.uint8, shape[0], -1) for text in top]
                before, after = (np.unpackbits(part, axis=1)[:, :entries].astype(bool) for part in bits)
                expected = robustness.lrp_robustness(clean, attacked, percent, pixels)
                assert np.array_equal((before & after).sum(1) / before.sum(1), expected)


def test_what_is_drawn_is_the_relevance_to_a_127th_of_the_largest():
    points, models = example((6, 3, 5, 7))
    held = data(page(points, models))["reference"]["maps"]["gamma"]["3"]
    drawn = [unpacked(text, np.int8, 6, 5, 7) for text in held["maps"]]
    totals = [part.sum(1) for part in models[0].maps["gamma", 3]]
    largest = np.array(held["largest"])
    assert largest == pytest.approx(np.abs(totals).max((0, 2, 3)), rel=5e-3)
    for steps, total in zip(drawn, totals, strict=True):
        assert np.abs(steps / 127 - total / np.abs(totals).max((0, 2, 3))[:, None, None]).max() <= 0.501 / 127


def test_a_map_without_relevance_is_blank():
    blank = np.zeros((2, 1, 4, 4), dtype=np.float32)
    held = explore.heat_maps((blank, blank), TOP_K, "absolute")
    assert not unpacked(held["maps"][0], np.int8, 2, 4, 4).any()
    assert (held["largest"], held["relevant"]) == ([0, 0], [0, 0])


def test_images_are_kept_to_256_shades():
    points, models = example()
    shown = unpacked(data(page(points, models))["images"], np.uint8, 20, 1, 8, 8)
    assert np.abs(shown / 255 - points["x"]).max() <= 0.5 / 255 + 1e-9


def test_predictions_are_those_of_the_model():
    points, models = example()
    held = data(page(points, models))["models"][1]
    before, after = models[2].probabilities
    assert [part["class"] for part in held["predictions"]] == [before.argmax(1).tolist(), after.argmax(1).tolist()]
    assert held["softmaxRobustness"] == pytest.approx(robustness.softmax_robustness(before, after), abs=1e-4)


def test_fewer_points_are_spread_over_all_classes():
    points, models = example()
    held = data(page(points, models, chosen=5))
    assert [of["index"] for of in held["points"]] == [100, 104, 108, 112, 116]
    assert len(base64.b64decode(held["images"])) == 5 * 64
    assert list(explore.spread(20, 20)) == list(explore.spread(20, None)) == list(range(20))


def test_names_are_text_and_never_code():
    points, models = example(name="</script><script>alert(1)</script>")
    html = page(points, models, about=ABOUT | {"trainings": "<script>alert(2)</script>"})
    assert "<script>alert" not in html
    assert data(html)["reference"]["name"] == "</script><script>alert(1)</script>"


def test_the_page_of_the_default_config_is_small_enough_to_mail():
    config = check(yaml.safe_load((ROOT / "config/config.yaml").read_text(encoding="utf-8")), SCHEMA)
    grid, settings = Grid(config), config["explore"]["hmc"]
    place, count = (settings["dataset"], settings["network"]), config["datasets"][settings["dataset"]]["test_points"]
    points, _ = example((count, 1, 8, 8))
    models = [
        model(
            training, draws, (count, 1, 8, 8), grid.rules(*place, training, settings["attack"], draws), grid.layers(place[1])
        )
        for training, draws in grid.explored(settings)
    ]
    assert [len(each.maps) for each in models] == [9, 3, 3, 9]
    assert 0.2e6 < len(page(points, models, chosen=settings["points"])) < 2e6


def test_colours_are_those_of_the_figures():
    from matplotlib import colormaps
    from matplotlib.colors import to_rgb

    named = re.search(r"const ANCHORS = \[(.*?)\]", templates("explore")["explore.html.j2"])[1]
    anchors = [to_rgb(f"#{colour}") for colour in re.findall(r"\w{6}", named)]
    drawn = colormaps["RdBu_r"](np.linspace(0, 1, len(anchors)))[:, :3]
    assert np.abs(drawn - anchors).max() < 0.0125
