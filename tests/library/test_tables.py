"""Tables of measures: what each row holds, by hand."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

from resilience import tables
from tests.library.test_comparisons import robustness_tables

MEASURES = {
    "top25": {"measure": "overlap", "top_k": 25},
    "top50": {"measure": "overlap", "top_k": 50},
    "angle": {"measure": "cosine"},
}
RELEVANCE = np.array([[[[4, 3], [2, 0]]], [[[1, 2], [3, 4]]]], dtype=np.float32)
INDEX = np.array([7, 9])


def test_table_of_maps_has_a_row_for_each_point_and_a_column_for_each_measure():
    table = tables.table_of_maps(INDEX, RELEVANCE, RELEVANCE[:, :, ::-1], MEASURES, {"training": "det", "layer": "5"})
    assert list(table) == ["training", "layer", "index", "relevant", "top25", "top50", "angle"]
    assert list(table["index"]) == [7, 9]
    assert list(table["training"]) == ["det", "det"]
    assert list(table["relevant"]) == [0.75, 1.0]
    assert list(table["top25"]) == [0, 0]
    assert list(table["top50"]) == [0.0, 0.0]
    assert np.allclose(table["angle"], [16 / 29, 22 / 30])


def test_a_map_for_each_draw_is_measured_as_the_mean_over_draws():
    generator = np.random.default_rng(0)
    clean, attacked = generator.normal(size=(2, 2, 5, 1, 4, 4)).astype(np.float32)
    clean[:, 1, 0, 0] = 0
    table = tables.table_of_maps(INDEX, clean, attacked, MEASURES, {})
    alone = [tables.table_of_maps(INDEX, clean[:, draw], attacked[:, draw], MEASURES, {}) for draw in range(5)]
    for name in ("relevant", *MEASURES):
        assert np.allclose(table[name], np.mean([of_draw[name] for of_draw in alone], axis=0), atol=1e-15)
    assert list(table["relevant"]) == [0.95, 0.95]


def test_table_of_predictions_has_a_row_for_each_point():
    x = np.zeros((2, 1, 2, 2), dtype=np.float32)
    attacked = x.copy()
    attacked[0, 0, 0] = [0.5, 0.1]
    table = tables.table_of_predictions(
        {"x": x, "y": np.array([0, 1]), "index": INDEX},
        {"x": attacked, "zero_gradient": np.array([False, True])},
        (np.array([[0.9, 0.1], [0.2, 0.8]]), np.array([[0.3, 0.7], [0.2, 0.8]])),
        {"kept": {"measure": "conditional_accuracy"}, "far": {"measure": "l2_change"}},
        {"training": "det"},
    )
    assert list(table["index"]) == [7, 9]
    assert list(table["label"]) == [0, 1]
    assert list(table["training"]) == ["det", "det"]
    assert list(table["prediction"]) == [0, 1]
    assert list(table["prediction_attacked"]) == [1, 1]
    assert np.allclose(table["softmax_robustness"], [0.4, 1.0])
    assert np.allclose(table["largest_change"], [0.5, 0])
    assert np.allclose(table["mean_change"], [0.15, 0])
    assert list(table["zero_gradient"]) == [False, True]
    assert list(table["kept"]) == [0, 1]
    assert np.allclose(table["far"], [np.sqrt(0.26), 0])


OWN = '''
import numpy as np
import torch
from resilience.catalog import entry

@entry(of="explanation")
def drawn(relevance, explain, posterior, generator):
    """The largest relevance, a hundred times that by another network, and a random number."""
    other = explain(posterior)
    assert relevance.shape == other.shape and relevance.dim() == 4
    largest = relevance.flatten(1).amax(1) + 100 * other.flatten(1).amax(1)
    return (largest + 1e6 * torch.rand(len(relevance), generator=generator)).numpy()
'''


@pytest.fixture
def own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own.py").write_text(OWN, encoding="utf-8")
    return {"one": {"measure": "own.py:drawn"}, "two": {"measure": "own.py:drawn"}}


def test_what_is_measured_of_each_draw_alone_is_the_mean_over_draws_with_the_same_numbers_for_all(own):
    relevance, other = torch.rand(2, 3, 4, 1, 2, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    known = {"relevance": relevance, "posterior": None, "explain": lambda _: other}
    table = tables.table_of_clean(
        np.array([3, 1, 2]), own, known, lambda: torch.Generator().manual_seed(5), {"attack": "clean"}
    )
    random = torch.rand(3, generator=torch.Generator().manual_seed(5)).numpy()
    expected = (relevance.flatten(2).amax(2) + 100 * other.flatten(2).amax(2)).mean(1).numpy() + 1e6 * random
    assert np.allclose(table["one"], expected, rtol=1e-6)
    assert list(table["one"]) == list(table["two"])
    assert (list(table["index"]), set(table["attack"])) == ([3, 1, 2], {"clean"})


def test_gathered_tables_stand_beside_each_other_in_any_order():
    measured = robustness_tables(0.1, seeds=2, points=5)
    parts = [part for table in (measured.maps, measured.predictions) for _, part in table.groupby(["training", "seed"])]
    found = tables.gather(reversed(parts), measured.measures)
    assert (len(found.maps), len(found.predictions)) == (len(measured.maps), len(measured.predictions))
    table = found.of("gamma", "3")
    assert len(table) == len(measured.predictions)
    for row in table.sample(10, random_state=0).to_dict("records"):
        of_maps, of_predictions = found.maps, found.predictions
        for name in tables.POINT:
            of_maps, of_predictions = (part[part[name] == row[name]] for part in (of_maps, of_predictions))
        ((_, of_map),) = of_maps[(of_maps["explanation"] == "gamma") & (of_maps["layer"] == "3")].iterrows()
        assert row["top20"] == of_map["top20"]
        assert [row["softmax_robustness"]] == list(of_predictions["softmax_robustness"])


def test_an_explanation_that_nobody_made_has_no_rows_but_all_columns():
    measured = robustness_tables(0.1, seeds=1, points=5)
    empty = measured.of("gradient", "3")
    assert len(empty) == 0
    assert set(measured.of("epsilon", "3")) == set(empty)
    assert (measured.explanations("3"), measured.explanations("2")) == (["epsilon", "gamma"], [])


def test_a_measure_that_another_explanation_alone_has_is_no_column():
    measured = robustness_tables(0.1, seeds=1, points=5)
    other = measured.maps[measured.maps["explanation"] == "gamma"].rename(columns={"top20": "top10"})
    found = tables.gather([measured.maps[measured.maps["explanation"] == "epsilon"], other, measured.predictions])
    assert "top10" not in found.of("epsilon", "3")
    assert "top20" not in found.of("gamma", "3")


def test_chance_is_known_of_overlaps_alone():
    measured = tables.Measured(pd.DataFrame(), pd.DataFrame(), MEASURES)
    assert (measured.chance("top25"), measured.chance("angle")) == (0.25, None)
    assert (measured.title("top25"), measured.title("angle")) == ("overlap of the top 25 % of pixels", "angle")
