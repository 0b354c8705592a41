"""Cancellation of gradients against slower forms of the same formulas, and where the answer is known."""

from __future__ import annotations

import copy
import math

import matplotlib

matplotlib.use("Agg")

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib import pyplot
from scipy import stats
from torch import nn
from torch.func import functional_call
from torch.nn.functional import cross_entropy

from resilience import cancellation, posterior, verdicts
from resilience.config import check
from resilience.figures import cancellation as figures
from resilience.figures.panels import Style
from resilience.grid import Grid
from resilience.posterior import Posterior
from tests.conftest import double_network, noisy_posterior
from tests.library.test_comparisons import compare, judge, only, robustness_tables
from tests.library.test_config import DEFAULT, SCHEMA, problems

SHAPE, CLASSES, POINTS = (1, 4, 4), 3, 7
PIXELS = math.prod(SHAPE)
IDENTITY = {"dataset": "digits", "network": "fc2", "training": "hmc", "seed": 0}
SECTION = {"draws": [1, 10, 5, 50]}


def images(number: int, seed: int = 0) -> torch.Tensor:
    return torch.rand((number, *SHAPE), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def planes(dimensions: int = 3, points: int = POINTS, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    random = torch.randn(points, PIXELS, dimensions, generator=generator, dtype=torch.float64)
    return torch.linalg.qr(random).Q.transpose(1, 2)


LABELS = torch.arange(POINTS) % CLASSES
STACKS = {
    "linear": [nn.Flatten(), nn.Linear(PIXELS, 8), nn.LeakyReLU(), nn.Linear(8, CLASSES)],
    "convolutions": [nn.Conv2d(1, 3, 3, padding=1), nn.LeakyReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(12, CLASSES)],
}


def gradients(network: Posterior, x: torch.Tensor, y: torch.Tensor) -> np.ndarray:
    """∇ₓ of the cross-entropy, by automatic differentiation of one image and one draw at a time, [draws, N, pixels]."""

    def one(weights, image, label):
        image = image[None].clone().requires_grad_()
        loss = cross_entropy(functional_call(network.network, weights, (image,)), label[None])
        return torch.autograd.grad(loss, image)[0].flatten().numpy()

    return np.array([[one(weights, *pair) for pair in zip(x, y, strict=True)] for weights in network])


# ---------------------------------------------------------------- formulas


@pytest.mark.parametrize("layers", STACKS.values(), ids=STACKS)
def test_gradients_are_those_of_automatic_differentiation(layers):
    network = noisy_posterior(double_network(copy.deepcopy(layers), 1), 3)
    x = images(POINTS)
    for stack, expected in zip(cancellation.graphs_of(network, SHAPE), gradients(network, x, LABELS), strict=True):
        direction, log_factor = cancellation.loss_gradient(stack, x, LABELS)
        assert np.allclose(direction * log_factor.exp()[:, None], expected, atol=1e-12)


@pytest.mark.parametrize("layers", STACKS.values(), ids=STACKS)
def test_measures_are_their_formulas(layers):
    network = noisy_posterior(double_network(copy.deepcopy(layers), 1), 6, noise=0.5)
    x, tangents, numbers = images(POINTS), planes(), [1, 2, 6]
    found = cancellation.measure(network, x, LABELS, tangents, numbers)
    every = gradients(network, x, LABELS)
    for row, number in enumerate(numbers):
        for point in range(POINTS):
            g, basis = every[:number, point], tangents[point].numpy()
            tangent = np.array([sum((vector @ one) * vector for vector in basis) for one in g])
            sizes = [np.linalg.norm(one) for one in g]
            for name, part in {"": g, "_tangent": tangent, "_normal": g - tangent}.items():
                expected = np.linalg.norm(part.mean(0)) / np.mean([np.linalg.norm(one) for one in part])
                assert found[f"cancellation{name}"][row, point] == pytest.approx(expected)
            share = np.linalg.norm((g - tangent).mean(0)) ** 2 / np.linalg.norm(g.mean(0)) ** 2
            assert found["normal_share"][row, point] == pytest.approx(share)
            mean = sum(g) / number
            assert np.allclose(found[cancellation.EXPECTED][row, point], mean, rtol=1e-12, atol=1e-14)
            assert found["gradient_size"][row, point] == pytest.approx(sum(sizes) / number)
            assert found["expected_size"][row, point] == pytest.approx(math.sqrt(sum(value**2 for value in mean)))
            assert found["expected_largest"][row, point] == pytest.approx(max(abs(value) for value in mean))
            by_chance = math.sqrt(sum(size**2 for size in sizes)) / sum(sizes)
            assert found["cancellation_by_chance"][row, point] == pytest.approx(by_chance)


def test_tangent_spaces_are_numpys_principal_directions_of_the_nearest():
    x, train = images(POINTS), images(200, seed=1)
    found = cancellation.tangent_spaces(x, train, 12, 4).numpy()
    for image, directions in zip(x.flatten(1).numpy(), found, strict=True):
        known = train.flatten(1).numpy()
        near = known[np.argsort(((known - image) ** 2).sum(1))[:12]]
        values, vectors = np.linalg.eigh(np.cov(near.T))
        largest = vectors[:, np.argsort(-values)[:4]].T
        assert np.allclose(directions @ directions.T, np.eye(4))
        assert np.allclose(np.abs(np.sum(directions * largest, 1)), 1)


def test_more_points_than_are_looked_up_at_a_time_change_nothing():
    many, train = images(2 * cancellation.POINTS_AT_A_TIME + 3), images(100, seed=1)
    found = cancellation.tangent_spaces(many, train, 10, 2)
    alone = torch.cat([cancellation.tangent_spaces(one[None], train, 10, 2) for one in many])
    assert torch.allclose((found * alone).sum(2).abs(), torch.ones(len(many), 2, dtype=torch.float64))


def test_chunks_of_images_change_nothing(monkeypatch):
    network = noisy_posterior(double_network(copy.deepcopy(STACKS["convolutions"]), 1), 4)
    whole = cancellation.measure(network, images(POINTS), LABELS, planes(), [2, 4])
    monkeypatch.setattr(cancellation, "chunk_of", lambda *_: 2)
    parts = cancellation.measure(network, images(POINTS), LABELS, planes(), [2, 4])
    assert all(torch.allclose(whole[name], parts[name]) for name in cancellation.MEASURES)


def test_draws_are_nested():
    network = noisy_posterior(double_network(copy.deepcopy(STACKS["linear"]), 1), 6)
    few = Posterior(network.network, {name: value[:3] for name, value in network.weights.items()})
    first = cancellation.measure(network, images(POINTS), LABELS, planes(), [1, 3, 6])
    second = cancellation.measure(few, images(POINTS), LABELS, planes(), [3])
    assert all(torch.equal(first[name][1], second[name][0]) for name in cancellation.MEASURES)


def test_no_network_is_too_confident():
    """Where the loss is so small that even float64 has no number for it, the ratios are still those of the gradients."""
    network = noisy_posterior(double_network(copy.deepcopy(STACKS["linear"]), 1), 5, noise=0.01)
    last = {name: value.clone() for name, value in network.weights.items()}
    last["3.bias"] += torch.tensor([2000.0, 0.0, 0.0])
    confident = Posterior(network.network, last)
    y = torch.zeros(POINTS, dtype=torch.int64)
    assert (gradients(confident, images(POINTS), y) == 0).all()
    found = cancellation.measure(confident, images(POINTS), y, planes(), [1, 5])
    assert all(torch.isfinite(values).all() for values in found.values())
    assert torch.allclose(found["cancellation"][0], torch.ones(POINTS, dtype=torch.float64))


# ---------------------------------------------------------------- where the answer is known


def running(draws: torch.Tensor, tangents: torch.Tensor) -> dict[str, torch.Tensor]:
    """The measures of given gradients [draws, N, pixels]."""
    mean = cancellation.RunningMean(tangents)
    for gradient in draws:
        mean.add(gradient, torch.zeros(len(gradient), dtype=torch.float64))
    return dict(zip(cancellation.MEASURES, mean.measures(), strict=True))


def random_gradients(draws: int, seed: int = 3) -> torch.Tensor:
    return torch.randn(draws, POINTS, PIXELS, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_identical_draws_do_not_cancel():
    single = posterior.point(double_network(copy.deepcopy(STACKS["linear"]), 1))
    network = Posterior(single.network, {name: value.expand(4, *value.shape[1:]) for name, value in single.weights.items()})
    found = cancellation.measure(network, images(POINTS), LABELS, planes(), [1, 4])
    for name in ("cancellation", "cancellation_tangent", "cancellation_normal"):
        assert torch.allclose(found[name], torch.ones_like(found[name]))
    assert torch.allclose(found["cancellation_by_chance"][1], torch.tensor(0.5, dtype=torch.float64))


def test_opposite_draws_cancel_altogether():
    one = random_gradients(1)
    found = running(torch.cat([one, -one]), planes())
    assert all((found[name] == 0).all() for name in ("cancellation", "cancellation_tangent", "cancellation_normal"))
    assert found["normal_share"].isnan().all()


def test_draws_without_a_gradient_have_no_ratio():
    found = running(torch.zeros(2, POINTS, PIXELS).double(), planes())
    sizes = ("gradient_size", "expected_size", "expected_largest")
    assert all((found.pop(name) == 0).all() for name in sizes)
    assert all(values.isnan().all() for values in found.values())


def test_gradients_within_the_plane_have_no_normal_share():
    tangents = planes()
    inside = torch.einsum("snd,ndp->snp", random_gradients(5)[..., :3], tangents)
    found = running(inside, tangents)
    assert (found["normal_share"] < 1e-28).all()
    assert torch.allclose(found["cancellation"], found["cancellation_tangent"])


def test_only_what_is_normal_cancels_where_draws_differ_there_alone():
    """The theorem's own case: along the manifold all draws agree, across it they come in opposite pairs."""
    tangents, both = planes(), random_gradients(2)
    along = torch.einsum("ndp,ndq,nq->np", tangents, tangents, both[0])
    across = both[1] - torch.einsum("ndp,ndq,nq->np", tangents, tangents, both[1])
    found = running(torch.stack([along + across, along - across]), tangents)
    assert torch.allclose(found["cancellation_tangent"], torch.ones(POINTS, dtype=torch.float64))
    assert (found["cancellation_normal"] < 1e-14).all()
    assert (found["normal_share"] < 1e-28).all()


def test_independent_directions_cancel_as_chance_says():
    draws = random_gradients(400) / random_gradients(400).norm(dim=2, keepdim=True)
    found = running(draws, planes())
    assert found["cancellation"].mean() == pytest.approx(400**-0.5, rel=0.15)
    assert torch.allclose(found["cancellation_by_chance"], torch.full((POINTS,), 400**-0.5, dtype=torch.float64))
    assert found["normal_share"].mean() == pytest.approx(cancellation.normal_share_by_chance(planes()), abs=0.15)


def test_a_manifold_that_is_a_plane_is_found():
    basis = planes(dimensions=2, points=1)[0]
    train = (torch.randn(300, 2, generator=torch.Generator().manual_seed(0)).double() @ basis + 0.5).view(-1, *SHAPE)
    found = cancellation.tangent_spaces(train[:5], train, 20, 2)
    assert torch.allclose(found.transpose(1, 2) @ found, (basis.T @ basis).expand(5, -1, -1))


@pytest.mark.parametrize(
    ("known", "neighbours", "dimensions", "sentence"),
    [
        (10, 12, 2, "cancellation.neighbours: 12 is more than the 10 training images"),
        (100, 50, PIXELS, "cancellation.dimensions: 16 of 16 pixels leave no direction that is normal"),
    ],
)
def test_planes_that_cannot_be_are_refused(known, neighbours, dimensions, sentence):
    with pytest.raises(cancellation.ManifoldError, match=sentence):
        cancellation.tangent_spaces(images(2), images(known), neighbours, dimensions)


# ---------------------------------------------------------------- the table, the claim, the figure


def one_table(training: str = "hmc", seed: int = 0, gain: float = 0.2, numbers: tuple[int, ...] = (1, 10)) -> pd.DataFrame:
    """Tables in which the tangent part cancels less than the normal part, by ``gain`` after most draws."""
    generator = np.random.default_rng(seed)
    measures = {name: generator.uniform(0.3, 0.5, (len(numbers), 40)) for name in cancellation.MEASURES}
    measures["cancellation_tangent"][-1] += gain
    points = {"index": np.arange(100, 140), "y": np.arange(40) % 10}
    return cancellation.table(points, numbers, measures, 0.75, IDENTITY | {"training": training, "seed": seed})


@pytest.fixture(scope="module")
def tables():
    return pd.concat([one_table(training, seed) for training in ("hmc", "map") for seed in range(4)], ignore_index=True)


def test_table_has_a_row_for_each_number_and_point():
    generator = np.random.default_rng(0)
    measures = {name: generator.uniform(size=(2, 3)) for name in cancellation.MEASURES}
    points = {"index": np.array([7, 8, 9]), "y": np.array([1, 0, 2])}
    table = cancellation.table(points, [1, 4], measures, 0.75, IDENTITY)
    assert list(table) == [*IDENTITY, "index", "label", "draws", *cancellation.MEASURES, "normal_share_by_chance"]
    row = only(table, draws=4, index=8)
    assert row["label"] == 0
    assert all(row[name] == measures[name][1, 1] for name in cancellation.MEASURES)
    assert set(table["normal_share_by_chance"]) == {0.75}


def test_comparison_is_tangent_minus_normal_after_most_draws(tables):
    found = compare(robustness_tables(0.1), tables)
    row = only(found, measure="cancellation", training="hmc", reference_role="normal part")
    last = tables[(tables.training == "hmc") & (tables.draws == 10)]
    difference = last["cancellation_tangent"] - last["cancellation_normal"]
    assert row["estimate"] == pytest.approx(difference.mean())
    assert (row["mean"], row["mean_reference"]) == pytest.approx(
        (last["cancellation_tangent"].mean(), last["cancellation_normal"].mean())
    )
    by_seed = difference.groupby(last["seed"]).mean()
    assert row["seed_sd"] == pytest.approx(by_seed.std())
    assert (row["attack"], row["reference"], row["reference_role"], row["draws"]) == ("clean", "hmc", "normal part", 10)
    assert (row["points"], row["seeds"]) == (40, 4)


def test_points_without_a_ratio_do_not_count(tables):
    lacking = tables.copy()
    lacking.loc[(lacking["index"] < 105) & (lacking["seed"] == 1), "cancellation_normal"] = np.nan
    lacking.loc[lacking["index"] == 110, "cancellation_tangent"] = np.nan
    found = compare(robustness_tables(0.1), lacking)
    row = only(found, measure="cancellation", training="hmc", reference_role="normal part")
    last = lacking[(lacking.training == "hmc") & (lacking.draws == 10)]
    assert row["estimate"] == pytest.approx((last["cancellation_tangent"] - last["cancellation_normal"]).mean())
    assert row["points"] == 39


@pytest.mark.parametrize(("gain", "verdict"), [(0.2, verdicts.HOLDS), (-0.2, verdicts.REVERSED)])
def test_only_posteriors_are_judged_and_by_the_sign(gain, verdict, tmp_path):
    tables = pd.concat([one_table(training, seed, gain) for training in ("hmc", "map") for seed in range(4)])
    found = compare(robustness_tables(0.1), tables)
    found.to_csv(tmp_path / "comparisons.csv", index=False)
    judged = judge(pd.read_csv(tmp_path / "comparisons.csv"))
    row = only(judged, claim="theorem")
    assert (row["training"], row["verdict"]) == ("hmc", verdict)


def test_without_tables_the_other_rows_are_the_same(tables):
    measured = robustness_tables(0.1)
    without, along = compare(measured), compare(measured, tables)
    others = along[along["attack"] != "clean"]
    corrected = [name for name in without if name.endswith("_corrected")]
    pd.testing.assert_frame_equal(others.drop(columns=corrected), without.drop(columns=corrected))
    assert list(along) == list(without)
    judged = judge(without)
    assert "theorem" not in set(judged["claim"])


def test_figure_shows_means_over_points_and_seeds_with_t_intervals(tables):
    figure = figures.cancellation(Style({"hmc": "hmc", "map": "maximum_a_posteriori"}), tables)
    left, right = figure.axes
    of_hmc = tables[tables.training == "hmc"]
    for place, name, line in (
        (left, "cancellation_tangent", 0),
        (left, "cancellation_normal", 1),
        (right, "normal_share", 0),
    ):
        expected = of_hmc.groupby("draws")[name].mean()
        assert np.allclose(place.get_lines()[line].get_xydata(), np.c_[expected.index, expected])
    by_seed = of_hmc[of_hmc.draws == 10].groupby("seed")["normal_share"].mean()
    low, high = stats.t.interval(0.95, 3, by_seed.mean(), stats.sem(by_seed))
    band = right.collections[0].get_paths()[0].vertices
    assert np.allclose(sorted(set(band[band[:, 0] == 10][:, 1]))[:2], [low, high])
    names = {text.get_text() for text in left.texts}
    assert {"HMC, tangent", "HMC, normal", "MAP, tangent", "1 / √n"} <= names
    assert any(np.allclose(line.get_ydata(), [1, 10**-0.5]) for line in left.get_lines())
    assert set(right.get_lines()[-1].get_ydata()) == {0.75}
    assert left.get_title(loc="left") == "digits, fc2: 40 points × 4 seeds"
    pyplot.close("all")


def test_names_of_lines_do_not_overlap_and_keep_their_order():
    heights = np.array([0.9, 0.5, 0.51, 0.505, 0.99, 1.0, 0.1])
    moved = figures._apart(heights)
    assert (np.argsort(moved) == np.argsort(heights)).all()
    assert np.diff(np.sort(moved)).min() > 0.9 * figures.APART
    assert moved.max() <= 1
    assert moved[-1] == 0.1


# ---------------------------------------------------------------- the config


def with_section(**values: object) -> dict:
    return copy.deepcopy(DEFAULT) | {"cancellation": SECTION | values}


def test_numbers_of_draws_are_those_of_the_training():
    grid = Grid(check(with_section(), SCHEMA))
    bayesian = [("digits", "fc2", name) for name in ("ensemble", "hmc", "nuts", "svi")]
    assert grid.cancelled() == [("digits", "conv", "svi"), *bayesian]
    assert grid.cancelled_draws("svi") == [1, 5, 10, 50]
    assert grid.cancelled_draws("ensemble") == [1, 5, 10]
    assert Grid(check(with_section(draws=[10, 200]), SCHEMA)).cancelled_draws("hmc") == [10, 100]
    assert Grid(check(with_section(draws=[3, 20]), SCHEMA)).cancelled_draws("ensemble") == [3, 10]


def test_neighbours_and_dimensions_have_defaults():
    section = check(with_section(), SCHEMA)["cancellation"]
    assert (section["neighbours"], section["dimensions"]) == (50, 10)


def test_without_the_section_nothing_is_measured():
    grid = Grid(check(DEFAULT, SCHEMA))
    assert grid.cancelled() == []
    assert "cancellation" not in check(DEFAULT, SCHEMA)


def test_without_several_draws_nothing_can_cancel():
    config = with_section()
    config["figures"] = config["explore"] = {}
    for experiment in config["experiments"].values():
        experiment["trainings"] = ["det"]
    assert problems(config) == [
        "cancellation: no experiment has a posterior or an ensemble of several draws, which could cancel"
    ]


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"draws": [0]}, "cancellation.draws.0: 0 must be at least 1"),
        ({"draws": []}, "cancellation.draws: must not be empty"),
        ({"draws": [1]}, "cancellation.draws: [1] has no number above one"),
        ({"neighbours": 1}, "cancellation.neighbours: 1 must be at least 2"),
        ({"dimensions": 0}, "cancellation.dimensions: 0 must be at least 1"),
        ({"neighbours": 8, "dimensions": 8}, "cancellation.dimensions: 8 directions need more than that many neighbours"),
        ({"neighbors": 8}, "cancellation: the key 'neighbors' is unknown; did you mean neighbours"),
    ],
)
def test_what_cannot_work_is_refused_by_name(values, sentence):
    found = problems(with_section(**values))
    assert any(line.startswith(sentence) for line in found), found


def test_a_figure_without_the_section_is_refused():
    config = copy.deepcopy(DEFAULT)
    config["figures"]["theorem"] = {"figure": "cancellation"}
    assert problems(config) == [
        "figures.theorem: cancellation draws what the section 'cancellation' asks for, which is missing"
    ]
    config["cancellation"] = SECTION
    assert check(config, SCHEMA)["figures"]["theorem"] == {"figure": "cancellation"}
