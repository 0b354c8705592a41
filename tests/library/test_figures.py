"""The figures' data: what is drawn is what the tables say."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from itertools import pairwise

import matplotlib

matplotlib.use("Agg")

import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot
from scipy import stats

from resilience import verdicts
from resilience.figures import answer, beside_noise, by_explanation, differences, drawing, heat_maps, scatter
from resilience.figures.panels import Maps, Panel, Style
from resilience.measures.maps import overlap
from resilience.measures.top_pixels import number_of_top_pixels
from resilience.tables import Measured
from tests.library.test_comparisons import MEASURES, assign, compare, judge, robustness_tables, together, without

PANEL = Panel("digits", "fc2", "pgd", ["det", "adv", "map", "hmc"], ["1", "3"], 0.1)
STYLE = Style({"det": "deterministic", "adv": "adversarial", "map": "maximum_a_posteriori", "hmc": "hmc"})


@pytest.fixture(scope="module")
def tables():
    return robustness_tables(0.1, seeds=3)


@pytest.fixture(autouse=True)
def _close():
    yield
    pyplot.close("all")


def only_training(measured, training):
    """The rows of one training."""
    of_maps, of_predictions = (table[table["training"] == training] for table in (measured.maps, measured.predictions))
    return Measured(of_maps, of_predictions, measured.measures)


def axes_by_title(figure):
    return {place.get_title(): place for place in figure.axes}


def test_differences_show_the_mean_of_each_difference(tables):
    figure = differences.differences([PANEL], STYLE, tables, measure="top20")
    titles = axes_by_title(figure)
    assert any(title.endswith("layer 1 (ties: only 10 % relevant)") for title in titles)
    place = titles["layer 3 (output)"]
    labels = [tick.get_text() for tick in place.get_yticklabels()]
    assert labels == ["HMC, n = 50", "HMC, n = 10", "MAP", "Adversarially trained"]
    dots = [line.get_xdata()[0] for line in place.get_lines() if line.get_marker() == "o"]
    maps, keys = tables.of("epsilon", "3"), ["seed", "index"]
    det = maps[maps.training == "det"].set_index(keys)["top20"]
    for (training, draws), dot in zip([("hmc", 50), ("hmc", 10), ("map", 1), ("adv", 1)], dots, strict=True):
        model = maps[(maps.training == training) & (maps.draws == draws)].set_index(keys)["top20"]
        assert dot == pytest.approx((model - det).mean())
    assert "60 points × 3 seeds" in place.get_xlabel()


def test_answer_shows_attacks_of_matched_size_and_says_where_there_is_no_claim(tables):
    table = judge(compare(tables), matched_size={"pgd"})
    figure = answer.answer([PANEL, replace(PANEL, attack="fgsm")], STYLE, table)
    shown, empty = figure.axes
    assert [label.get_text() for label in shown.get_yticklabels()] == ["minus MAP", "minus Deterministic"]
    assert len([line for line in shown.get_lines() if line.get_marker() == "o"]) == 2
    assert [text.get_text() for text in empty.texts] == ["no claim\nis about this"]


def test_points_without_a_value_are_left_out_and_so_is_an_explanation_that_has_none(tables):
    """Such as the rank correlation of constant maps."""
    maps = tables.maps.copy()
    maps.loc[maps["index"] < 5, "top20"] = np.nan
    nothing = maps[maps["explanation"] == "epsilon"].assign(explanation="constant", top20=np.nan)
    some = Measured(pd.concat([maps, nothing], ignore_index=True), tables.predictions, tables.measures)
    figure = by_explanation.by_explanation([PANEL], STYLE, some, measure="top20")
    assert {tick.get_text() for tick in figure.axes[-1].get_xticklabels()} == {"ε", "γ"}
    drawn = scatter.scatter([PANEL], STYLE, some, explanation="epsilon", measure="top20")
    without_them = Measured(maps[maps["index"] >= 5], tables.predictions, tables.measures)
    expected = scatter.scatter([PANEL], STYLE, without_them, explanation="epsilon", measure="top20")
    said = [[text.get_text() for text in place.texts] for place in drawn.axes]
    assert said == [[text.get_text() for text in place.texts] for place in expected.axes]
    blank = scatter.scatter([PANEL], STYLE, some, explanation="constant", measure="top20")
    assert not any(place.texts for place in blank.axes)
    beside_noise.beside_noise([PANEL], STYLE, some, explanation="constant", measure="top20")


def test_an_attack_stands_beside_noise_of_its_strength(tables):
    noisy = assign(without(tables, training="adv"), attack="random")
    noisy = Measured(noisy.maps.assign(top20=noisy.maps["top20"] + 0.1), noisy.predictions, MEASURES)
    panel = replace(PANEL, noise="random")
    figure = beside_noise.beside_noise([panel], STYLE, together(tables, noisy), explanation="epsilon", measure="top20")
    marks = {"o": {}, "x": {}}
    for line in figure.axes[0].lines:
        if line.get_marker() in marks:
            marks[line.get_marker()][round(float(line.get_ydata()[0]))] = float(line.get_xdata()[0])
    maps = tables.of("epsilon", "3")
    hmc = maps[(maps["training"] == "hmc") & (maps["draws"] == 50)]
    assert marks["o"][0] == pytest.approx(hmc["top20"].mean())
    assert marks["x"][0] == pytest.approx(hmc["top20"].mean() + 0.1)
    assert (set(marks["o"]), set(marks["x"])) == ({0, 1, 2, 3}, {0, 1, 3})


def test_boxes_are_the_quartiles_and_stars_the_corrected_tests(tables):
    figure = by_explanation.by_explanation([PANEL], STYLE, tables, measure="top20")
    place = figure.axes[5]
    maps, keys = tables.of("gamma", "3"), ["seed", "index"]
    hmc = maps[(maps.training == "hmc") & (maps.draws == 50)].set_index(keys)["top20"]
    difference = hmc - maps[maps.training == "det"].set_index(keys)["top20"]
    box = place.patches[1].get_path().vertices[:, 1]
    assert (box.min(), box.max()) == pytest.approx(tuple(np.quantile(difference, [0.25, 0.75])))
    assert {text.get_text() for text in place.texts} == {"****"}
    assert [tick.get_text() for tick in place.get_xticklabels()] == ["ε", "γ"]


@pytest.mark.parametrize(("value", "shown"), [(0.126, "0.13"), (-0.126, "−0.13"), (-0.001, "0.00"), (-1.0, "−1.00")])
def test_numbers_have_a_minus_sign_only_where_it_is_seen(value, shown):
    assert drawing.signed(value) == shown


def test_titles_of_many_columns_do_not_overlap(tables):
    panel, style = PANEL, STYLE
    for other in ("map2", "map3"):
        tables = together(tables, assign(only_training(tables, "map"), training=other))
        panel = replace(panel, trainings=[*panel.trainings, other])
        style = replace(style, methods={**style.methods, other: "maximum_a_posteriori"})
    figure = by_explanation.by_explanation([panel], style, tables, measure="top20")
    figure.canvas.draw()
    boxes = [place.title.get_window_extent() for place in figure.axes if place.get_title()]
    assert len(boxes) == 5
    assert all(left.x1 < right.x0 for left, right in pairwise(boxes))


@pytest.mark.parametrize("kind", ["answer", "boxes"])
def test_the_long_name_of_a_dataset_stays_above_its_column(tables, kind):
    panels = [replace(PANEL, called="CIFAR-10 (a subset, JPEG-recompressed twice)")] * 2
    if kind == "answer":
        figure = answer.answer(panels, STYLE, judge(compare(robustness_tables(0.1))))
    else:
        two = [replace(panel, trainings=["det", "adv", "hmc"]) for panel in panels]
        figure = by_explanation.by_explanation(two, STYLE, tables, measure="top20", layers="output")
    figure.canvas.draw()
    boxes = [place.title.get_window_extent() for place in figure.axes[:2]]
    assert boxes[0].x1 < boxes[1].x0
    assert boxes[1].x1 < figure.bbox.x1


def test_several_clouds_of_a_scatter_say_where_they_are_from(tables):
    other = Panel("digits", "fc2", "fgsm", PANEL.trainings, PANEL.layers, 0.1)
    figure = scatter.scatter([PANEL, other], STYLE, together(tables, assign(tables, attack="fgsm")), measure="top20")
    assert {"digits, fc2, pgd\nDeterministic", "digits, fc2, fgsm\nDeterministic"} <= set(axes_by_title(figure))


def test_scatter_shows_every_point_and_its_correlation(tables):
    figure = scatter.scatter([PANEL], STYLE, tables, measure="top20")
    place = figure.axes[7]
    (cloud,) = [line for line in place.get_lines() if line.get_marker() == "."]
    assert len(cloud.get_xdata()) == 3 * 60
    maps = tables.of("epsilon", "3")
    table = maps[(maps.training == "hmc") & (maps.draws == 50)]
    expected = np.mean(
        [stats.spearmanr(part["top20"], part["softmax_robustness"]).statistic for _, part in table.groupby("seed")]
    )
    assert place.texts[0].get_text().startswith(f"ρ = {drawing.signed(expected)} [")


def test_answer_fills_findings_and_leaves_the_rest_hollow(tables):
    table = judge(compare(robustness_tables(0.1)))
    figure = answer.answer([PANEL], STYLE, table)
    place = figure.axes[0]
    assert [tick.get_text() for tick in place.get_yticklabels()] == [
        "minus MAP",
        "minus Adversarially trained",
        "minus Deterministic",
    ]
    dots = {
        round(line.get_ydata()[0]): line
        for line in place.get_lines()
        if line.get_marker() == "o" and line.get_xdata()[0] != 0
    }
    for height, reference in enumerate(["map", "adv", "det"]):
        claim = {"map": "not_only_controls", "adv": "above_adversarial", "det": "more_robust"}[reference]
        row = table[(table.claim == claim) & (table.reference == reference)].iloc[0]
        assert dots[height].get_xdata()[0] == pytest.approx(row["estimate"])
        assert (dots[height].get_markerfacecolor() == "white") == (row["verdict"] == verdicts.INCONCLUSIVE)


@pytest.fixture(scope="module")
def pictures(tables):
    generator = np.random.default_rng(0)
    pair = tuple(generator.uniform(0, 1, (2, 60, 1, 4, 4)).astype(np.float32))
    maps = {(name, layer): tuple(generator.normal(size=(2, 60, 1, 4, 4))) for name in ("det", "hmc") for layer in ("1", "3")}
    return Maps(0, {"det": 1, "hmc": 50}, {"det": pair, "hmc": pair}, maps, MEASURES)


def test_overlap_counts_what_it_shows(tables, pictures):
    figure = heat_maps.overlap([PANEL], STYLE, tables, [pictures], measure="top20")
    maps = tables.of("epsilon", "3")
    table = maps[(maps.training == "det") & (maps.seed == 0)].reset_index(drop=True)
    point = int(table.sort_values(["top20", "index"], kind="stable").index[30])
    clean, attacked = (part[point : point + 1] for part in pictures.layers["det", "3"])
    expected = overlap(clean, attacked, top_k=20)[0]
    assert f"= {expected:.2f}" in figure.axes[2].get_xlabel()
    outlined = [patch for patch in figure.axes[0].patches if not patch.get_fill()]
    assert len(outlined) == number_of_top_pixels(16, 20)


def test_failed_attack_is_one_that_failed_on_both(tables, pictures):
    panel = Panel("digits", "fc2", "pgd", ["det", "hmc"], ["1", "3"], 0.1)
    for choice in ("median", "largest"):
        figure = heat_maps.failed_attack([panel], STYLE, tables, [pictures], measure="top20", choice=choice)
        assert f"{choice} difference of 20 such images" in figure.get_suptitle()


def test_where_no_attack_failed_the_title_says_so(tables, pictures):
    panel = Panel("digits", "fc2", "pgd", ["det", "hmc"], ["1", "3"], 0.1)
    broken = Measured(tables.maps, tables.predictions.assign(prediction_attacked=2), MEASURES)
    title = heat_maps.failed_attack([panel], STYLE, broken, [pictures], measure="top20").get_suptitle()
    assert "although no attack failed on both" in title
    assert "rightly" not in title


def test_boxes_name_the_place_of_each_panel_and_can_show_the_output_alone(tables):
    figure = by_explanation.by_explanation([PANEL, PANEL], STYLE, tables, measure="top20", layers="output")
    titles = [place.get_title() for place in figure.axes]
    assert len(titles) == 2 * (len(PANEL.trainings) - 1)
    assert titles[0].startswith(f"{PANEL.dataset}, {PANEL.network}, {PANEL.attack}\n")


def test_chance_is_where_unrelated_maps_would_be(tables):
    figure = scatter.scatter([PANEL], STYLE, tables, measure="top20")
    lines = [line.get_xdata()[0] for line in figure.axes[0].lines if line.get_linestyle() == ":"]
    assert lines == [0.2]
    figure = differences.differences([PANEL], STYLE, tables, measure="top20")
    place = figure.axes[0]
    (line,) = [line for line in place.lines if line.get_linestyle() == ":"]
    reference = PANEL.of(tables.of("epsilon", PANEL.layers[0]), PANEL.reference)["top20"].mean()
    assert line.get_xdata()[0] == pytest.approx(0.2 - reference)


def test_layers_show_the_attack_that_succeeded(tables, pictures):
    figure = heat_maps.layers([PANEL], STYLE, tables, [pictures], measure="top20")
    titles = [place.get_title() for place in figure.axes]
    assert "Image x\nclassified as 1" in titles
    assert "Attacked x̃\nclassified as 0" in titles
    of_layers = []
    for layer in ("1", "3"):
        maps = tables.of("epsilon", layer)
        found = maps[(maps.training == "det") & (maps.seed == 0) & (maps.prediction_attacked == 0)]
        of_layers.append(found.set_index("index")["top20"])
    point = of_layers[1].reset_index().sort_values(["top20", "index"], kind="stable")["index"].iloc[len(of_layers[1]) // 2]
    shares = [f"{100 * of_layer[point]:.0f} % survive" for of_layer in of_layers]
    shares[0] += ",\nblank pixels counted"
    assert [place.get_xlabel() for place in figure.axes[4:6]] == shares


def test_only_chosen_pixels_with_relevance_are_coloured():
    _, axes = drawing.canvas(1, 1, 2, 2)
    relevance = np.array([[[0.0, 1.0], [-2.0, 3.0]]])
    chosen = np.array([[[True, True], [False, True]]])
    drawn = drawing.show_map(axes[0, 0], relevance, 3.0, chosen)
    assert np.array_equal(drawn.get_array().mask, [[True, False], [True, False]])


@pytest.mark.parametrize("suffix", ["png", "pdf"])
def test_same_figure_same_bytes(tables, tmp_path, suffix):
    digests = set()
    for number in range(2):
        path = tmp_path / str(number) / f"figure.{suffix}"
        drawing.save(scatter.scatter([PANEL], STYLE, tables, measure="top20"), [path])
        digests.add(hashlib.sha256(path.read_bytes()).hexdigest())
    assert len(digests) == 1


@pytest.mark.parametrize(("p", "mark"), [(0.2, "n.s."), (0.05, "*"), (0.01, "**"), (0.001, "***"), (1e-5, "****")])
def test_stars_are_the_papers(p, mark):
    assert drawing.stars(p) == mark


def test_names_and_colours():
    style = Style({"a": "hmc", "b": "hmc", "c": "svi"}, {"c": "#123456"})
    assert (style.name("a"), style.name("c")) == ("a", "SVI")
    assert (style.colour("a"), style.colour("c")) == ("#0072b2", "#123456")


def test_no_figure_imports_torch():
    import os
    import subprocess
    import sys

    from resilience import catalog
    from tests.conftest import ROOT

    modules = sorted({function.module for function in catalog.functions("figures").values()})
    program = f"import sys, {', '.join(modules)}; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", program], check=True, env=os.environ | {"PYTHONPATH": str(ROOT / "src")})
