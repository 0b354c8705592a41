"""Kim et al. 2019: the normal distributions in the plane, the boundaries between them, and the paper's networks."""

from __future__ import annotations

import matplotlib

matplotlib.use("Agg")

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib import pyplot
from torch import nn

from resilience import catalog, verdicts
from resilience.architectures import kim2019
from resilience.compared import Compared
from resilience.data import DataError
from resilience.datasets.gaussians import COVARIANCE, MEANS, gaussians
from resilience.figures import kim2019 as kim2019_figures
from resilience.figures.panels import Maps, Panel, Style
from resilience.measures.boundary import boundary_tilt, off_manifold_energy
from resilience.networks import logits
from resilience.posterior import Posterior, point
from resilience.tables import Measured
from tests.conftest import double_network, noisy_posterior
from tests.library.test_derived import change


def test_the_gaussians_have_the_published_means_and_covariance_up_to_one_scale():
    source = gaussians(points=20000)
    x = np.concatenate([source.train.x, source.test.x]).reshape(-1, 2).astype(float)
    y = np.concatenate([source.train.y, source.test.y])
    assert (x.min(), x.max()) == (0, 1)
    means = np.array([x[y == label].mean(0) for label in (0, 1)])
    scale = (means[0] - means[1])[0] / 2.4
    assert np.allclose((means[0] - means[1]) / scale, MEANS[0] - MEANS[1], atol=0.01)
    for label in (0, 1):
        assert np.allclose(np.cov(x[y == label].T) / scale**2, COVARIANCE, atol=0.004)
    assert np.bincount(y).tolist() == [10000, 10000]


def test_the_manifold_of_a_class_is_the_axis_of_most_variance():
    tangents = gaussians(points=100).tangents
    along = np.linalg.eigh(COVARIANCE)[1][:, 1]
    assert np.allclose(abs(tangents[:, 0] @ along), 1)


def test_another_seed_has_other_points():
    one, other = (gaussians(points=100, seed=seed).train.x for seed in (0, 1))
    assert not np.allclose(one, other)
    assert np.array_equal(one, gaussians(points=100).train.x)


def test_a_plane_is_a_grid_over_the_square():
    found = change("plane", np.zeros((9, 1, 1, 2), np.float32)).reshape(-1, 2)
    assert found.tolist() == [[a / 2, b / 2] for b in range(3) for a in range(3)]
    assert change("plane", np.zeros((7, 1, 1, 2), np.float32)).reshape(-1, 2).tolist() == found[:7].tolist()


def test_a_plane_of_images_is_refused():
    with pytest.raises(DataError, match="points of two coordinates"):
        change("plane", np.zeros((4, 1, 8, 8), np.float32))


CLASSES = 3
X = torch.rand((12, 1, 2, 2), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
Y = torch.arange(12) % CLASSES


def several() -> Posterior:
    layers = [nn.Flatten(), nn.Linear(4, 7), nn.ReLU(), nn.Linear(7, CLASSES)]
    return noisy_posterior(double_network(layers, 1), 3, noise=0.5)


def slow_normals(posterior: Posterior) -> np.ndarray:
    """Mean over draws of the unit gradient of log Σ_{j≠y} exp(z_j − z_y), image by image, by automatic differentiation."""
    found = []
    for image, label in zip(X, Y, strict=True):
        total = np.zeros(4)
        for draw in posterior:
            at = image[None].clone().requires_grad_()
            z = logits(posterior.network, draw, at)[0]
            others = torch.cat([z[:label], z[label + 1 :]])
            gradient = torch.autograd.grad(others.logsumexp(0) - z[label], at)[0].flatten().numpy()
            total += gradient / np.linalg.norm(gradient)
        found.append(total / len(posterior))
    return np.array(found)


def test_tilt_is_the_angle_to_the_mean_of_the_runner_up():
    posterior = several()
    means = [X[label == Y].flatten(1).mean(0).numpy() for label in range(CLASSES)]
    expected = []
    for image, label, normal in zip(X, Y.tolist(), slow_normals(posterior), strict=True):
        z = np.mean([logits(posterior.network, draw, image[None])[0].detach().numpy() for draw in posterior], axis=0)
        other = max((j for j in range(CLASSES) if j != label), key=lambda j: z[j])
        towards = means[other] - means[label]
        cosine = normal @ towards / np.linalg.norm(normal) / np.linalg.norm(towards)
        expected.append(np.degrees(np.arccos(cosine)))
    assert np.allclose(boundary_tilt(posterior, X, Y), expected)


@pytest.mark.parametrize("dimensions", [1, 2])
def test_off_manifold_energy_is_what_the_principal_directions_leave(dimensions):
    posterior = several()
    centred = np.concatenate([(part := X[label == Y].flatten(1).numpy()) - part.mean(0) for label in range(CLASSES)])
    axes = np.linalg.eigh(centred.T @ centred)[1][:, ::-1]
    expected = [
        sum((normal @ axes[:, axis]) ** 2 for axis in range(dimensions, 4)) / (normal @ normal)
        for normal in slow_normals(posterior)
    ]
    assert np.allclose(off_manifold_energy(posterior, X, Y, dimensions=dimensions), expected)


@pytest.mark.parametrize("degrees", [0, 30, 90])
def test_the_tilt_of_a_straight_boundary_is_known(degrees):
    """A linear network of two classes whose means lie beside each other, with a normal that is turned."""
    network = double_network([nn.Flatten(), nn.Linear(2, 2)], 0)
    towards = [np.cos(np.radians(degrees)), np.sin(np.radians(degrees))]
    with torch.no_grad():
        network[1].weight.copy_(torch.tensor([towards, [-part for part in towards]]))
    x = torch.tensor([[0.9, 0.6], [0.9, 0.4], [0.1, 0.6], [0.1, 0.4]], dtype=torch.float64).reshape(4, 1, 1, 2)
    y = torch.tensor([0, 0, 1, 1])
    assert np.allclose(boundary_tilt(point(network), x, y), degrees, atol=1e-5)
    # Within a class the points vary along the second axis alone, so the manifold runs there.
    expected = np.cos(np.radians(degrees)) ** 2
    assert np.allclose(off_manifold_energy(point(network), x, y), expected)


def test_where_no_gradient_is_there_is_no_direction():
    network = double_network([nn.Flatten(), nn.Linear(4, CLASSES)], 0)
    with torch.no_grad():
        network[1].weight.zero_()
    assert np.isnan(boundary_tilt(point(network), X, Y)).all()
    assert np.isnan(off_manifold_energy(point(network), X, Y)).all()


@pytest.mark.parametrize(
    ("name", "shape", "parameters"),
    [
        ("mixture_dnn", (1, 1, 2), 2 * 128 + 128 + 128 * 2 + 2),
        ("mnist_cnn", (1, 28, 28), 25 * 32 + 32 + 25 * 32 * 64 + 64 + 64 * 14 * 14 * 1024 + 1024 + 1024 * 10 + 10),
        (
            "cifar_cnn",
            (3, 32, 32),
            (9 * 3 * 32 + 32 + 9 * 32 * 32 + 32)
            + (9 * 32 * 64 + 64 + 9 * 64 * 64 + 64)
            + (8 * 8 * 64 * 512 + 512 + 512 * 10 + 10),
        ),
    ],
)
def test_the_networks_are_the_published_ones(name, shape, parameters):
    network = getattr(kim2019, name)(shape, 2 if name == "mixture_dnn" else 10)
    assert sum(value.numel() for value in network.parameters()) == parameters
    x = torch.rand(2, *shape)
    assert torch.equal(network(x), network[1:](2 * x - 1))
    for layer in network:
        if isinstance(layer, nn.Conv2d | nn.Linear):
            bound = (6 / sum(nn.init._calculate_fan_in_and_fan_out(layer.weight))) ** 0.5
            assert 0.9 * bound < layer.weight.abs().max() <= bound
            assert not layer.bias.any()


# ---------------------------------------------------------------- claims


def row(measure, training, reference, estimate, **about):
    """A comparison that is sure of itself."""
    return {
        "dataset": "digits",
        "network": "cnn",
        "attack": "far",
        "measure": measure,
        "explanation": "",
        "layer": "8",
        "subset": "all",
        "training": training,
        "role": "adversarial",
        "draws": 1,
        "reference": reference,
        "reference_role": "deterministic",
        "reference_draws": 1,
        "mean": 1 + estimate,
        "mean_reference": 1.0,
        "estimate": estimate,
        "low": estimate - 0.01,
        "high": estimate + 0.01,
        "low_points": estimate - 0.01,
        "high_points": estimate + 0.01,
        "seed_sd": 0,
        "p": 1e-6,
        "effect_size": estimate,
        "seeds": 3,
        "points": 9,
        "p_wilcoxon": 0.1,
        "p_mann_whitney": 0.1,
        "relevant": np.nan,
        "relevant_reference": np.nan,
        **about,
    }


@pytest.fixture(scope="module")
def judged():
    nothing = {"reference_role": "nothing"}
    series = {"reference_role": "adversarial"}
    clean = {"attack": "clean"}
    rows = [
        row("farther", "strong", "", 0.3, **nothing),
        row("farther", "strong", "standard", -0.2),
        row("farther", "strong", "weak", -0.1, **series),
        row("farther", "strong", "standard", 0.2, attack="noise"),
        row("farther_itself", "strong", "standard", 0.2),
        row("farther_components", "strong", "standard", -0.2),
        row("farther_neighbours", "strong", "standard", 0.2),
        row("tilt", "strong", "plain", -30, **clean),
        row("tilt", "strong", "weak", -9, **clean, **series),
        row("tilt", "svi", "plain", -9, **clean, role="bayesian"),
        row("energy", "strong", "plain", -0.4, **clean),
    ]
    known = Compared(pd.DataFrame(rows), "gradient", "top20", noise={"noise"}, outputs={"cnn": "8"})
    names = [
        *("attacked_farther_than_clean", "nearer_with_strength", "nearer_by_own_success", "nearer_without_learning"),
        *("tilt_falls", "gradient_along_the_manifold"),
    ]
    claims = {name: catalog.statement(name) for name in names}
    return verdicts.judge(claims, lambda name: catalog.load("statements", name)(known), 0.95)


@pytest.mark.parametrize(
    ("claim", "expected"),
    [
        ("attacked_farther_than_clean", [("strong", "", "holds")]),
        ("nearer_with_strength", [("standard", "strong", "holds"), ("weak", "strong", "holds")]),
        ("nearer_by_own_success", [("standard", "strong", "reversed")]),
        ("nearer_without_learning", [("standard", "strong", "holds"), ("standard", "strong", "reversed")]),
        ("tilt_falls", [("plain", "strong", "holds"), ("weak", "strong", "holds")]),
        ("gradient_along_the_manifold", [("plain", "strong", "holds")]),
    ],
)
def test_claims_of_what_falls_are_about_adversarial_training_alone(claim, expected, judged):
    rows = judged[judged["claim"] == claim]
    assert list(zip(rows["training"], rows["reference"], rows["verdict"], strict=True)) == expected
    assert (rows["paper"] == "kim2019").all()


# ---------------------------------------------------------------- figures

STYLE = Style({"plain": "deterministic", "strong": "adversarial"})


def predictions_of(dataset, training, labels, predicted):
    return pd.DataFrame(
        {
            "dataset": dataset,
            "network": "dnn",
            "training": training,
            "seed": 0,
            "attack": "far",
            "draws": 1,
            "index": np.arange(len(labels)),
            "label": labels,
            "prediction": predicted,
            "prediction_attacked": predicted,
        }
    )


def test_boundaries_are_drawn_with_the_best_one_and_the_numbers_of_all_seeds(tmp_path):
    source = gaussians(points=600)
    x, y = source.train.x, source.train.y
    grid = change("plane", np.zeros((100, 1, 1, 2), np.float32))
    trainings = ["plain", "strong"]
    panels = [Panel(name, "dnn", "far", trainings, ["3"], 0.5) for name in ("gaussians", "plane")]
    images = [Maps(0, {}, dict.fromkeys(trainings, (at, at - 0.1)), {}) for at in (x, grid)]
    right = (grid.reshape(-1, 2)[:, 0] < 0.5).astype(int)
    tables = [
        predictions_of(dataset, name, labels, predicted)
        for dataset, labels, predicted in (("gaussians", y, y), ("plane", right, right))
        for name in trainings
    ]
    measured = Measured(pd.DataFrame(), pd.concat(tables, ignore_index=True), {})
    summary = pd.DataFrame(
        [
            {
                "dataset": "gaussians",
                "network": "dnn",
                "training": name,
                "attack": "clean",
                "draws": 1,
                "explanation": "",
                "layer": "",
                "measure": "tilt",
                "mean": mean,
                "low": mean - 1,
                "high": mean + 1,
                "seeds": 10,
                "points": 9,
            }
            for name, mean in (("plain", 36.0), ("strong", 1.0))
        ]
    )
    figure = kim2019_figures.boundary_tilting(panels, STYLE, images, measured, summary)
    places = {place.get_title(): place for place in figure.axes}
    assert places["Deterministic"].get_xlabel() == "tilt 36 [35, 37], 10 seeds"
    # The best normal of these distributions lies at 81° to the first axis, and the means 4.8° from it.
    tilt = np.degrees(np.arccos(_cosine(np.linalg.solve(COVARIANCE, MEANS[0] - MEANS[1]), MEANS[0] - MEANS[1])))
    drawn = float(places["data"].get_xlabel().rpartition(" ")[2].rstrip("°"))
    assert drawn == pytest.approx(tilt, abs=5)
    figure.savefig(tmp_path / "figure.png")
    pyplot.close(figure)


def _cosine(one, other):
    return one @ other / np.linalg.norm(one) / np.linalg.norm(other)


def test_pictures_of_gradients_are_clipped_and_symmetric_and_those_of_attacks_say_the_class(tmp_path):
    generator = np.random.default_rng(0)
    x, gradient = generator.random((6, 1, 8, 8)), generator.normal(size=(6, 1, 8, 8))
    gradient[0, 0, 0, 0] = 1e3
    trainings = ["plain", "strong"]
    panel = Panel("digits", "dnn", "far", trainings, ["3"], 0.5)
    maps = Maps(0, {}, dict.fromkeys(trainings, (x, x)), {(name, "3"): (gradient, gradient) for name in trainings})
    figure = kim2019_figures.gradient_pictures([panel], STYLE, [maps], explanation="gradient", points=2)
    drawn = figure.axes[1].images[0]
    low, high = np.percentile(gradient[0], [0.5, 99.5])
    assert drawn.get_array().max() == pytest.approx(high)
    assert drawn.norm.vmax == -drawn.norm.vmin == pytest.approx(max(abs(low), abs(high)))
    figure.savefig(tmp_path / "gradients.png")
    said = [predictions_of("digits", name, np.arange(6), np.arange(6) + step) for step, name in enumerate(trainings)]
    measured = Measured(pd.DataFrame(), pd.concat(said, ignore_index=True), {})
    figure = kim2019_figures.attack_pictures([panel], STYLE, [maps], measured, points=2)
    titles = [place.get_title() for place in figure.axes]
    assert titles[3:] == ["original\n3", "Deterministic\n3", "Adversarially trained\n4"]
    figure.savefig(tmp_path / "attacks.png")
    pyplot.close("all")
