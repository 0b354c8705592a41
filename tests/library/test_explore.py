from __future__ import annotations

import base64
import json
import re
import zlib
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import yaml

from resilience import explore
from resilience.config import check
from resilience.grid import Grid
from resilience.measures.maps import overlap
from resilience.measures.predictions import softmax_robustness
from resilience.measures.top_pixels import PIXELS
from tests.conftest import ROOT, templates
from tests.library.test_config import SCHEMA

EXPLANATIONS, LAYERS, TOP_K = ("epsilon", "gamma"), (1, 3), (10, 25, 40)
ABOUT = {
    "dataset": "digits",
    "network": "fc2",
    "attack": "pgd ε = 0.1",
    "trainings": "Deterministic and HMC",
    "layers": {"1": "layer 1", "3": "layer 3 (output)"},
    "first": {"explanation": "epsilon", "k": 25},
}
GENERATOR = np.random.default_rng(0)


def heat_maps(*shape: int) -> np.ndarray:
    """Relevance of very different sizes, with ties and with many zeros."""
    relevance = GENERATOR.standard_normal(shape) ** 3 * 10.0 ** GENERATOR.integers(-6, 3, (shape[0], 1, 1, 1))
    relevance[GENERATOR.random(shape) < 0.5] = 0
    return relevance.round(2).astype(np.float32)


def seen(seed: int, shape: tuple[int, ...], explanations=EXPLANATIONS, layers=LAYERS) -> explore.Seen:
    probabilities = tuple(GENERATOR.dirichlet(np.ones(10), shape[0]).astype(np.float32) for _ in range(2))
    maps = {(name, layer): (heat_maps(*shape), heat_maps(*shape)) for name in explanations for layer in layers}
    return explore.Seen(seed, GENERATOR.random(shape, dtype=np.float32), probabilities, maps)


def model(
    name: str, draws: int, shape: tuple[int, ...], explanations=EXPLANATIONS, layers=LAYERS, seeds=(3, 5)
) -> explore.Model:
    return explore.Model(name, "#0072b2", draws, [seen(seed, shape, explanations, layers) for seed in seeds])


def example(
    shape=(20, 1, 8, 8), name: str = "HMC", seeds: Sequence[int] = (3, 5)
) -> tuple[dict[str, np.ndarray], list[explore.Model]]:
    """Points, and a reference beside a training that only its most draws have both explanations of."""
    points = {"x": GENERATOR.random(shape), "y": np.arange(shape[0]) % 10, "index": 100 + np.arange(shape[0])}
    explanations = [EXPLANATIONS, EXPLANATIONS[:1], EXPLANATIONS]
    return points, [
        model(name, draws, shape, each, seeds=seeds) for draws, each in zip([1, 5, 50], explanations, strict=True)
    ]


def page(points, models, chosen=None, pixels="absolute", about=ABOUT, channels="sum") -> str:
    chosen = explore.spread(len(points["y"]), chosen)
    return explore.render(templates("explore"), about, points, models, chosen, explore.Overlaps(TOP_K, pixels, channels))


def data(html: str) -> dict:
    """What a page holds for its script, but for the arrays."""
    return json.loads(re.search(r'<script type="application/json"[^>]*>(.*?)</script>', html, flags=re.DOTALL)[1])["content"]


def arrays(html: str) -> bytes:
    """All arrays of a page, one after the other."""
    return zlib.decompress(base64.b64decode(re.search(r'id="arrays">(.*?)</script>', html, flags=re.DOTALL)[1]))


def unpacked(html: str, begin: int, dtype: type, *shape: int) -> np.ndarray:
    return np.frombuffer(arrays(html), dtype, int(np.prod(shape)), begin).reshape(shape)


@pytest.mark.parametrize("pixels", PIXELS)
@pytest.mark.parametrize(
    ("shape", "channels", "counted"),
    [((20, 1, 8, 8), "sum", 1), ((6, 3, 5, 7), "sum", 1), ((6, 3, 5, 7), "each", 3)],
    ids=["grey", "colour", "channels"],
)
def test_the_share_that_survives_is_exactly_that_of_the_table_under_every_seed(shape, channels, counted, pixels):
    points, models = example(shape)
    html = page(points, models, pixels=pixels, channels=channels)
    held, compared = data(html), 0
    assert held["counted"] == counted
    for of_page, of_model in zip([held["reference"], *held["models"]], models, strict=True):
        for of_seed, expected in zip(of_page["seeds"], of_model.seeds, strict=True):
            assert of_seed["seed"] == expected.seed
            for (explanation, layer), (clean, attacked) in expected.maps.items():
                tops = of_seed["maps"][explanation][str(layer)]["tops"]
                belongs = [unpacked(html, begin, np.uint8, shape[0], counted, *shape[2:]) for begin in tops]
                for place, percent in enumerate(TOP_K):
                    before, after = (part >= len(TOP_K) - place for part in belongs)
                    shared = (before & after).sum((1, 2, 3)) / before.sum((1, 2, 3))
                    expected_share = overlap(clean, attacked, top_k=percent, pixels=pixels, channels=channels)
                    assert np.array_equal(shared, expected_share)
                    compared += 1
    assert compared == 2 * 3 * 2 * (2 + 1 + 2)


def test_what_is_drawn_is_the_relevance_to_a_63rd_of_the_largest_under_every_seed():
    points, models = example((6, 3, 5, 7))
    html = page(points, models)
    for of_seed, expected in zip(data(html)["reference"]["seeds"], models[0].seeds, strict=True):
        held = of_seed["maps"]["gamma"]["3"]
        drawn = [unpacked(html, begin, np.int8, 6, 5, 7) for begin in held["maps"]]
        totals = [part.sum(1) for part in expected.maps["gamma", 3]]
        largest = np.abs(totals).max((0, 2, 3))
        assert held["largest"] == pytest.approx(largest, rel=5e-3)
        for steps, total in zip(drawn, totals, strict=True):
            drawn_at_full = np.where(largest > 0, largest, 1.0)[:, None, None]
            assert np.abs(steps / 63 - total / drawn_at_full).max() <= 0.501 / 63


def test_a_map_without_relevance_is_blank():
    blank = np.zeros((2, 1, 4, 4), dtype=np.float32)
    held = explore.heat_maps((blank, blank), explore.Overlaps(TOP_K, "absolute"))
    assert not np.any(held["maps"])
    assert (held["largest"], held["relevant"]) == ([0, 0], [0, 0])


def test_a_model_with_other_seeds_is_refused():
    points, (reference, *others) = example()
    strange = model("SVI", 5, (20, 1, 8, 8), seeds=(5, 3))
    with pytest.raises(ValueError, match=re.escape("SVI, 5 draws: has the seeds [5, 3], the reference [3, 5]")):
        page(points, [reference, *others, strange])


def test_the_same_maps_give_the_same_page():
    points, models = example()
    assert page(points, models) == page(points, models)


def test_seeds_are_gone_through_one_at_a_time():
    alive, most = [0], [0]

    class Watched(explore.Seen):
        def __del__(self):
            alive[0] -= 1

    def watched():
        for seed in range(4):
            alive[0] += 1
            most[0] = max(most[0], alive[0])
            yield Watched(**vars(seen(seed, (5, 1, 4, 4))))

    points = {"x": np.zeros((5, 1, 4, 4)), "y": np.arange(5), "index": np.arange(5)}
    html = page(points, [explore.Model(name, "#000", 1, watched()) for name in ("Deterministic", "SVI")])
    assert data(html)["seeds"] == [0, 1, 2, 3]
    assert most[0] <= 2


def test_images_are_kept_to_256_shades():
    points, models = example()
    html = page(points, models)
    held = data(html)
    attacked = [
        (of_seed["attacked"], expected.attacked)
        for of_seed, expected in zip(held["reference"]["seeds"], models[0].seeds, strict=True)
    ]
    for begin, expected in [(held["images"], points["x"]), *attacked]:
        shown = unpacked(html, begin, np.uint8, 20, 1, 8, 8)
        assert np.abs(shown / 255 - expected).max() <= 0.5 / 255 + 1e-6


def test_predictions_are_those_of_the_model():
    points, models = example()
    held = data(page(points, models))["models"][1]["seeds"]
    for of_seed, expected in zip(held, models[2].seeds, strict=True):
        before, after = expected.probabilities
        assert [part["class"] for part in of_seed["predictions"]] == [before.argmax(1).tolist(), after.argmax(1).tolist()]
        assert of_seed["softmaxRobustness"] == pytest.approx(softmax_robustness(before, after), abs=1e-4)


def test_fewer_points_are_spread_over_all_classes():
    points, models = example()
    html = page(points, models, chosen=5)
    assert [of["index"] for of in data(html)["points"]] == [100, 104, 108, 112, 116]
    of_maps = 2 * (1 + 1) * 2 * (2 + 1 + 2)
    assert len(arrays(html)) == 5 * 64 * (1 + 2 * (3 + of_maps))
    assert list(explore.spread(20, 20)) == list(explore.spread(20, None)) == list(range(20))


def test_names_are_text_and_never_code():
    points, models = example(name="</script><script>alert(1)</script>")
    html = page(points, models, about=ABOUT | {"trainings": "<script>alert(2)</script>"})
    assert "<script>alert" not in html
    assert data(html)["reference"]["name"] == "</script><script>alert(1)</script>"


def incompressible(model: explore.Model) -> explore.Model:
    """The same with maps of which no value says anything about another."""
    return replace(
        model,
        seeds=[
            replace(
                of_seed,
                maps={
                    key: tuple(GENERATOR.uniform(-1, 1, part.shape).astype(np.float32) for part in pair)
                    for key, pair in of_seed.maps.items()
                },
            )
            for of_seed in model.seeds
        ],
    )


def test_the_page_of_the_default_config_is_small_enough_to_mail_whatever_the_maps():
    config = check(yaml.safe_load((ROOT / "config/config.yaml").read_text(encoding="utf-8")), SCHEMA)
    grid, settings = Grid(config), config["explore"]["hmc"]
    place, shape = (settings["dataset"], settings["network"]), (settings["points"], 1, 8, 8)
    points, _ = example(shape)
    models = []
    for training, draws in grid.explored(settings):
        explanations = grid.explanations(*place, training, settings["attack"], draws)
        whole = model(training, draws, shape, explanations, grid.layers(place[1]), grid.seeds)
        seeds = [
            replace(
                of_seed,
                maps={
                    (name, layer): pair
                    for (name, layer), pair in of_seed.maps.items()
                    if layer in grid.explained_layers(place[1], name)
                },
            )
            for of_seed in whole.seeds
        ]
        models.append(incompressible(replace(whole, seeds=seeds)))
    assert [[len(of_seed.maps) for of_seed in each.seeds] for each in models] == [[maps] * 8 for maps in (10, 3, 3, 10)]
    size = len(page(points, models))
    print(f"\n{size / 1e6:.2f} MB")
    assert 4e6 < size < 5e6


def test_colours_are_those_of_the_figures():
    from matplotlib import colormaps
    from matplotlib.colors import to_rgb

    named = re.search(r"const ANCHORS = \[(.*?)\]", templates("explore")["explore.js"])[1]
    anchors = [to_rgb(f"#{colour}") for colour in re.findall(r"\w{6}", named)]
    drawn = colormaps["RdBu_r"](np.linspace(0, 1, len(anchors)))[:, :3]
    assert np.abs(drawn - anchors).max() < 0.0125


def test_overlaps_are_those_that_count_the_same_pixels():
    measures = {
        "top30": {"measure": "overlap", "top_k": 30},
        "top10": {"measure": "overlap", "top_k": 10, "pixels": "absolute"},
        "ends": {"measure": "overlap", "top_k": 20, "pixels": "extreme_halves"},
        "tau": {"measure": "kendall_tau"},
        "channels": {"measure": "overlap", "top_k": 15, "channels": "each"},
    }
    assert explore.Overlaps.of(measures, "absolute", "each") == explore.Overlaps([15], "absolute", "each")
    assert explore.Overlaps.of(measures, "absolute") == explore.Overlaps([10, 30], "absolute")
    assert explore.Overlaps.of(measures, "extreme_halves") == explore.Overlaps([20], "extreme_halves")
