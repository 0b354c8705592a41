"""Distances to a manifold that is made by hand, of the points that count, with and without a judge."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from resilience import tables
from resilience.manifolds import saving
from resilience.manifolds.principal_components import Plane
from resilience.measures.manifolds import distance_to_manifold, farther_from_manifold
from tests.library.pretend_device import CPU, pretend_device

#: Images of three pixels, on a line where only the first one varies, and off it by 3 and 4 tenths.
X = np.array([[0.1, 0.5, 0.5], [0.9, 0.5, 0.5], [0.3, 0.8, 0.9]], np.float32).reshape(3, 1, 1, 3)
ATTACKED = np.array([[0.4, 0.5, 0.5], [0.9, 0.2, 0.1], [0.3, 0.5, 0.5]], np.float32).reshape(3, 1, 1, 3)
CLEAN_DISTANCES, ATTACKED_DISTANCES = [0, 0, 0.5], [0, 0.5, 0]
FIRST, SECOND = [0.8, 0.2], [0.3, 0.7]
#: The network's own predictions change at the last two points, the judge's at the first two.
OWN = (np.array([FIRST, FIRST, SECOND]), np.array([FIRST, SECOND, FIRST]))
JUDGED = {"standard": (np.array([FIRST, SECOND, FIRST]), np.array([SECOND, FIRST, FIRST]))}
COUNTED = {"none": [0, 1, 2], "itself": [1, 2], "standard": [0, 1]}


@pytest.fixture
def learned(tmp_path) -> dict[str, str]:
    line = Plane(torch.tensor([0.2, 0.5, 0.5]).double(), torch.tensor([[1.0, 0, 0]]).double())
    saving.save(path := tmp_path / "manifold.safetensors", line, 0, {})
    return {"line": str(path)}


def among(values, counted):
    return [value if place in counted else math.nan for place, value in enumerate(values)]


@pytest.mark.parametrize("judge", COUNTED)
def test_points_count_whose_prediction_the_judge_sees_changed(judge, learned):
    known = (X, ATTACKED, *OWN, learned, JUDGED, CPU)
    attacked = distance_to_manifold(*known, manifold="line", judge=judge)
    clean = distance_to_manifold(*known, manifold="line", judge=judge, of="clean")
    farther = farther_from_manifold(*known, manifold="line", judge=judge)
    assert attacked == pytest.approx(among(ATTACKED_DISTANCES, COUNTED[judge]), abs=1e-6, nan_ok=True)
    assert clean == pytest.approx(among(CLEAN_DISTANCES, COUNTED[judge]), abs=1e-6, nan_ok=True)
    assert farther == pytest.approx(among([0, 0.5, -0.5], COUNTED[judge]), abs=1e-6, nan_ok=True)


def test_distances_are_columns_of_the_table_of_predictions(learned):
    points = {"x": X, "y": np.array([0, 1, 0]), "index": np.arange(3)}
    attacked = {"x": ATTACKED, "zero_gradient": np.zeros(3, bool)}
    measures = {
        "far": {"measure": "distance_to_manifold", "manifold": "line", "judge": "standard"},
        "right": {"measure": "accuracy"},
    }
    beside = {"learned": learned, "judgements": JUDGED, "device": CPU}
    table = tables.table_of_predictions(points, attacked, OWN, measures, {"dataset": "lines"}, beside)
    assert table["far"].tolist() == pytest.approx([0, 0.5, math.nan], abs=1e-6, nan_ok=True)
    assert table["right"].tolist() == [1, 1, 1]


def test_a_pretended_gpu_measures_what_the_cpu_measures(learned):
    expected = farther_from_manifold(X, ATTACKED, *OWN, learned, JUDGED, CPU, manifold="line")
    with pretend_device() as device:
        torch.use_deterministic_algorithms(True)
        found = farther_from_manifold(X, ATTACKED, *OWN, learned, JUDGED, device, manifold="line")
    assert np.array_equal(found, expected)
