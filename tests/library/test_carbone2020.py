"""What Carbone et al. 2020 needs beside the main paper: attacks, measures, comparisons, claims and figures."""

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
from torch.nn.functional import cross_entropy

from resilience import catalog, comparisons, networks, tables, verdicts
from resilience.attacks import gradient
from resilience.attacks.fewer_draws import with_fewer_draws
from resilience.attacks.gradient import LossGradient
from resilience.compared import Compared
from resilience.config import check
from resilience.figures import carbone2020, under_attack
from resilience.figures.cancellation import cancellation_of_panels
from resilience.figures.panels import ExpectedGradients, Panel, Style, Trained
from resilience.grid import Grid
from resilience.measures import predictions
from resilience.posterior import Posterior, mean_logits
from tests.conftest import double_network, noisy_posterior
from tests.library.lrp_stacks import STACKS, images
from tests.library.test_cancellation import one_table
from tests.library.test_comparisons import only, robustness_tables
from tests.library.test_config import DEFAULT, SCHEMA, merged, problems

# ---------------------------------------------------------------- attacks


def direction(found):
    return found / found.flatten(1).norm(dim=1)[:, None, None, None]


def test_second_softmax_is_the_published_loss_by_autograd():
    build, shape = STACKS["linear"]
    network, x = double_network(build(True), 0), images(shape, 0, count=6)
    posterior, y = noisy_posterior(network, 5, noise=0.5), torch.arange(6) % 3
    variable = x.clone().requires_grad_()
    probabilities = torch.stack([networks.logits(network, draw, variable).softmax(1) for draw in posterior]).mean(0)
    loss = cross_entropy(probabilities, y, reduction="none")
    # The loss that cannot leave an interval of length 1, here of three classes.
    assert bool(((loss >= math.log(1 + 2 / math.e) - 1e-9) & (loss <= math.log(2 + math.e) + 1e-9)).all())
    (expected,) = torch.autograd.grad(loss.sum(), variable)
    found = LossGradient(posterior, shape, "second_softmax")(x, y)
    torch.testing.assert_close(direction(found), direction(expected), rtol=0, atol=1e-10)
    honest = LossGradient(posterior, shape, "likelihood")(x, y)
    assert not torch.allclose(direction(found), direction(honest), atol=1e-3)


def test_second_softmax_of_a_single_network_is_one_softmax_of_its_logits():
    build, shape = STACKS["linear"]
    network, x = double_network(build(True), 0), images(shape, 0, count=6)
    single, y = noisy_posterior(network, 1), torch.arange(6) % 3
    found = [LossGradient(single, shape, objective)(x, y) for objective in ("second_softmax", "saturating")]
    assert torch.equal(*found)


def test_the_loss_of_mean_logits_is_followed_by_autograd():
    build, shape = STACKS["linear"]
    network, x = double_network(build(True), 0), images(shape, 0, count=6)
    posterior, y = noisy_posterior(network, 5, noise=0.5), torch.arange(6) % 3
    variable = x.clone().requires_grad_()
    mean = torch.stack([networks.logits(network, draw, variable) for draw in posterior]).mean(0)
    (expected,) = torch.autograd.grad(cross_entropy(mean, y, reduction="sum"), variable)
    found = LossGradient(posterior, shape, "mean_logits")(x, y)
    torch.testing.assert_close(direction(found), direction(expected), rtol=0, atol=1e-10)
    of_probabilities = LossGradient(posterior, shape, "likelihood")(x, y)
    assert not torch.allclose(direction(found), direction(of_probabilities), atol=1e-3)
    single = noisy_posterior(network, 1)
    alone = [LossGradient(single, shape, objective)(x, y) for objective in ("mean_logits", "likelihood")]
    assert torch.equal(*alone)


def test_mean_logits_are_those_of_all_draws_and_measured_as_probabilities_are():
    build, shape = STACKS["linear"]
    network, x = double_network(build(True), 0), images(shape, 0, count=6)
    posterior, y = noisy_posterior(network, 5, noise=0.5), np.arange(6) % 3
    slow = np.mean([networks.logits(network, draw, x).detach().numpy() for draw in posterior], axis=0)
    found = mean_logits(posterior, x).numpy()
    assert np.allclose(found, slow)
    assert (predictions.accuracy_by_logits(found, y) == (slow.argmax(1) == y)).all()
    other = np.roll(slow, 1, axis=0)
    softmax = [np.exp(part) / np.exp(part).sum(1, keepdims=True) for part in (slow, other)]
    expected = 1 - abs(softmax[0] - softmax[1]).max(1)
    assert np.allclose(predictions.softmax_robustness_by_logits(slow, other), expected)


def test_an_attack_with_other_draws_needs_a_posterior_that_has_them():
    config = copy.deepcopy(DEFAULT)
    config["attacks"]["others"] = {"method": "with_other_draws", "attack": {"method": "fgsm", "epsilon": 0.1}, "draws": 7}
    assert catalog.other_draws(config["attacks"]["others"]) == 7
    assert catalog.other_draws(config["attacks"]["fgsm"]) == 0
    name = next(iter(config["experiments"]))
    config["experiments"][name]["attacks"] = ["others"]
    assert "attacks.others.draws: 7 draws beyond the" in problems(config)[0]
    config["experiments"] = {name: config["experiments"][name] | {"trainings": ["svi"], "attacks": ["others"]}}
    config |= {"figures": {}, "explore": {}}
    config.pop("claims")
    config.pop("cancellation", None)
    assert check(config, SCHEMA)


def test_fewer_draws_are_the_first_ones_and_all_where_there_are_no_more():
    build, shape = STACKS["linear"]
    network, x = double_network(build(True), 0), images(shape, 0, count=6)
    posterior, y = noisy_posterior(network, 5, noise=0.5), torch.arange(6) % 3
    settings = {"method": "fgsm", "epsilon": 0.2}
    for number in (1, 3, 5, 9):
        first = Posterior(network, {name: value[:number] for name, value in posterior.weights.items()})
        found = with_fewer_draws(posterior, x, y, torch.Generator(), attack=settings, draws=number)
        assert torch.equal(found, gradient.fgsm(first, x, y, epsilon=0.2))
    one, all_of_them = (with_fewer_draws(posterior, x, y, torch.Generator(), attack=settings, draws=n) for n in (1, 9))
    assert not torch.equal(one, all_of_them)


# ---------------------------------------------------------------- measures


@pytest.mark.parametrize(("classes", "least"), [(2, 0.538), (10, 0.853)])
def test_softmax_robustness_of_a_second_softmax_has_a_floor(classes, least):
    before, after = np.eye(classes)[[0]], np.eye(classes)[[1]]
    assert predictions.softmax_robustness(before, after) == 0
    assert predictions.second_softmax(before, after)[0] == pytest.approx(least, abs=5e-4)
    assert predictions.second_softmax(before, before) == 1


def test_second_softmax_is_a_softmax_of_probabilities():
    before, after = np.array([[0.9, 0.1], [0.4, 0.6]]), np.array([[0.2, 0.8], [0.4, 0.6]])
    twice = [torch.tensor(part).softmax(1).numpy() for part in (before, after)]
    expected = 1 - np.abs(twice[0] - twice[1]).max(1)
    assert np.allclose(predictions.second_softmax(before, after), expected)


def test_what_is_lost_beyond_a_share_has_the_sign_of_its_mean():
    y, right = np.zeros(8, dtype=int), np.array([[0.9, 0.1]])
    wrong = 1 - right
    before = np.repeat(right, 8, 0)
    for kept, sign in ((3, 1), (4, 0), (5, -1)):
        after = np.concatenate([np.repeat(right, kept, 0), np.repeat(wrong, 8 - kept, 0)])
        assert np.sign(predictions.lost_beyond(before, after, y).mean()) == sign
    # What was wrong before and is right after it counts for the network.
    assert predictions.lost_beyond(wrong, right, np.array([0])) == -1


# ---------------------------------------------------------------- experiments without explanations


def test_an_experiment_without_explanations_is_attacked_all_the_same():
    config = copy.deepcopy(DEFAULT)
    config["experiments"]["more"] = {
        "datasets": ["half_moons"],
        "networks": ["fc2"],
        "trainings": ["det"],
        "attacks": ["pgd"],
        "draws": [1],
    }
    grid = Grid(check(config, SCHEMA))
    place = ("half_moons", "fc2", "det", "pgd")
    assert (*place, 1) in grid.attacked()
    assert grid.explanations(*place, 1) == []
    assert "" not in {explanation for _, explanation in grid.explained()}
    config["experiments"] = {"more": config["experiments"]["more"]}
    del config["claims"], config["figures"], config["explore"]
    assert Grid(check(config, SCHEMA)).shown["explanation"] == ""


def test_tables_without_maps_are_gathered_and_compared():
    measured = robustness_tables(0.1, seeds=3)
    alone = tables.gather([measured.predictions], measured.measures)
    found = comparisons.compare(alone, {**ROLES}, {"fc2": ("3",)}, ["top20"], 0.95)
    assert set(found["measure"]) == {"softmax_robustness"}


# ---------------------------------------------------------------- comparisons and claims

ROLES = {"det": "deterministic", "map": "control", "adv": "adversarial", "hmc": "bayesian"}


def measured_with_accuracy(**accuracies: float):
    measured = robustness_tables(0.1, seeds=4)
    table = measured.predictions.copy()
    generator = np.random.default_rng(0)
    for name, share in accuracies.items():
        rows = table["training"] == name
        table.loc[rows, "accuracy"] = (generator.random(rows.sum()) < share).astype(float)
    table["broken"] = 0.5 - table["accuracy"]
    return tables.Measured(measured.maps, table, measured.measures)


def gradients(dataset: str, network: str, factor: float, seed: int) -> pd.DataFrame:
    table = one_table("hmc", seed).assign(dataset=dataset, network=network)
    shrinking = np.where(table["draws"] == 10, 0.5, 1.0) * factor
    for name in ("cancellation", "expected_size", "expected_largest"):
        table[name] = (0.4 + 0.01 * table["index"] % 3) * shrinking
    return table


@pytest.fixture(scope="module")
def compared():
    measured = measured_with_accuracy(det=0.2, map=0.3, adv=0.9, hmc=0.8)
    cancelled = pd.concat(
        [
            gradients(dataset, network, factor, seed)
            for seed in range(4)
            for dataset, network, factor in (("few", "fc2", 1.0), ("many", "wide", 0.3), ("some", "fc2", 2.0))
        ]
    )
    layers = {"fc2": ("1", "3"), "wide": ("3",)}
    series = [[["few", "fc2"], ["some", "fc2"], ["many", "wide"]], [["some", "fc2"], ["few", "fc2"]]]
    settings = {"of_predictions": ["accuracy", "broken"], "growing": series}
    return comparisons.compare(measured, ROLES, layers, ["top20"], 0.95, cancelled, **settings)


def judged(table: pd.DataFrame) -> pd.DataFrame:
    known = Compared(table, "epsilon", "top20", outputs={"fc2": "3"})
    claims = {name: catalog.statement(name) for name in catalog.claims_of(["carbone2020"])}
    return verdicts.judge(claims, lambda name: catalog.load("statements", name)(known), 0.95)


def test_the_ends_of_a_series_are_compared_and_no_others(compared):
    larger = compared[compared["reference_role"] == "larger"]
    row = only(larger, measure="expected_size", dataset="few")
    assert (row["network"], row["reference"], row["draws"]) == ("fc2", "wide on many", 10)
    assert row["mean_reference"] == pytest.approx(0.3 * row["mean"])
    assert row["estimate"] == pytest.approx(row["mean"] - row["mean_reference"])
    assert only(larger, measure="expected_size", dataset="some")["reference"] == "fc2 on few"
    assert len(larger) == 2 * 4


def test_numbers_of_draws_are_compared_with_the_next_and_the_first_with_the_last(compared):
    row = only(compared, reference_role="more draws", measure="expected_largest", dataset="few")
    assert (row["draws"], row["reference_draws"], row["attack"]) == (1, 10, "clean")
    assert row["mean_reference"] == pytest.approx(0.5 * row["mean"])
    three = pd.concat([gradients("few", "fc2", 1, seed).replace({"draws": {10: 5}}) for seed in range(3)])
    three = pd.concat([three, three[three["draws"] == 5].assign(draws=20)])
    found = comparisons.compare(robustness_tables(0.1), ROLES, {"fc2": ("1", "3")}, ["top20"], 0.95, three)
    of_draws = found[(found["reference_role"] == "more draws") & (found["measure"] == "cancellation")]
    assert set(zip(of_draws["draws"], of_draws["reference_draws"], strict=True)) == {(1, 5), (5, 20), (1, 20)}


def test_measures_of_predictions_are_compared_with_other_models_and_with_nothing(compared):
    difference = only(compared, measure="accuracy", training="hmc", draws=50, reference="det")
    assert difference["estimate"] == pytest.approx(0.6, abs=0.1)
    alone = only(compared, measure="broken", training="hmc", draws=50, reference_role="nothing")
    assert alone["estimate"] == pytest.approx(alone["mean"]) == pytest.approx(-0.3, abs=0.1)


def test_claims_are_judged_by_their_sign(compared, tmp_path):
    # As the stage reads it, where an empty explanation is a missing value.
    compared.to_csv(tmp_path / "comparisons.csv", index=False)
    found = judged(pd.read_csv(tmp_path / "comparisons.csv"))
    rising = found[found["claim"] == "accuracy_and_draws"]
    assert list(zip(rising["draws"], rising["reference_draws"], strict=True)) == [(50, 10)]
    assert set(found["paper"]) == {"carbone2020"}
    holds = {
        *("expected_gradient_and_draws", "cancellation_and_draws", "accuracy_above_deterministic"),
        "accuracy_above_ensemble",
    }
    assert all((found[found["claim"] == name]["verdict"] == verdicts.HOLDS).all() for name in holds)
    assert list(found[found["claim"] == "attacks_break"]["verdict"]) == [verdicts.REVERSED]
    size = found[found["claim"] == "expected_gradient_and_size"]
    assert list(size["verdict"]) == [verdicts.HOLDS, verdicts.HOLDS]
    assert "noise_breaks" not in set(found["claim"])  # Nothing was exposed to noise here.


@pytest.mark.parametrize(
    ("series", "sentence"),
    [
        ([{"dataset": "digits", "network": "fc2"}], "claims.growing.0: must not be empty"),
        ([{"dataset": "digits", "network": "fc2"}] * 2, "claims.growing[0]: nothing says how far gradients cancel in fc2"),
        ([{"dataset": "digits", "network": "fc3"}] * 2, "claims.growing[0].network: 'fc3' is not one of the networks"),
    ],
)
def test_series_of_what_is_not_there_are_refused(series, sentence):
    config = copy.deepcopy(DEFAULT)
    config["claims"]["growing"] = [series]
    assert problems(config)[0].startswith(sentence)


@pytest.mark.parametrize("name", ["carbone2020", "carbone2020_published"])
def test_both_configs_have_the_same_data_and_judge_the_same_claims(name):
    here, other = merged(f"papers/{name}"), merged("papers/carbone2020")
    assert here["datasets"] == other["datasets"]
    assert here["explanations"] == other["explanations"]
    assert {key: here["claims"][key] for key in ("judged", "growing")} == {
        key: other["claims"][key] for key in ("judged", "growing")
    }
    for key in ("nn", "nn_ensemble", "svi", "hmc"):
        assert here["trainings"][key] == other["trainings"][key]


# ---------------------------------------------------------------- figures

PANEL = Panel("moons", "fc2", "pgd_10", ["nn", "hmc"], ["5"], 0.1)
STYLE = Style({"nn": "deterministic", "hmc": "parallel_hmc"})


def expected(seed: int, shape: tuple[int, ...] = (1, 1, 2)) -> ExpectedGradients:
    generator = np.random.default_rng(seed)
    numbers, points = np.array([1, 10, 100]), 12
    gradient = generator.normal(size=(3, points, *shape)) / numbers[:, None, None, None, None] ** 0.5
    return ExpectedGradients(gradient, numbers, generator.random((points, *shape)), np.arange(points) % 2)


def trained(accuracy: float = 0.9) -> Trained:
    history = pd.DataFrame({"draws": [1, 2], "accuracy_of_draw": [0.5, 0.6], "validation_accuracy": [0.5, 0.7]})
    return Trained({"test_accuracy": accuracy, "parameters": 1234, "diagnostics": {"r_hat_95": 1.1, "chains": 2}}, history)


def summary() -> pd.DataFrame:
    rows = [
        {
            "dataset": "moons",
            "network": "fc2",
            "training": training,
            "attack": attack,
            "draws": draws,
            "measure": measure,
            "mean": 0.1 * draws**0.4,
            "low": 0.05,
            "high": 0.9,
        }
        for training, numbers in (("nn", [1]), ("hmc", [1, 10, 100]))
        for draws in numbers
        for attack in ("pgd_10", "pgd_20")
        for measure in ("accuracy", "softmax_robustness")
    ]
    return pd.DataFrame(rows)


def test_shares_of_gradients_that_vanish_and_grow_are_counted():
    norms = np.array([[4.0, 4.0, 1.0, 0.0, 2.0], [2.0, 5.0, 2.0, 0.0, 1.9], [1.0, 1.0, 3.0, 0.0, 1.8]])
    gradient = norms[:, :, None, None, None] * np.array([1.0, -0.5]).reshape(1, 1, 1, 1, 2)
    found = carbone2020.courses([ExpectedGradients(gradient, np.array([1, 10, 100]), gradient[0], np.zeros(5))])
    # The first vanishes; the second rises in between, the third grows, the fourth is zero, the fifth falls too little.
    assert found == {"vanishing": 0.2, "growing": 0.2, "zero at first": 0.2}


def test_principal_plane_is_that_of_the_largest_eigenvalues():
    draws = np.random.default_rng(0).normal(size=(30, 5)) * [3, 2, 1, 0.5, 0.1]
    places, shares = carbone2020.principal_plane(draws)
    values = np.sort(np.linalg.eigvalsh(np.cov(draws.T)))[::-1]
    assert np.allclose(places.var(axis=0, ddof=1), values[:2])
    assert np.allclose(shares, values[:2] / values.sum())


def test_networks_that_do_not_classify_are_left_out_of_the_grid():
    models = {("moons", "fc2", "hmc", seed): expected(seed) for seed in range(3)}
    fits = {model: trained(0.9 if model[3] else 0.5) for model in models}
    figure = carbone2020.gradient_grid([Panel("moons", "fc2", "pgd", ["hmc"], ["5"], 0.1)], STYLE, models, fits)
    assert "1 of 3 networks classify too little" in figure.get_suptitle()
    (axes,) = figure.axes
    assert sum(len(line.get_xdata()) for line in axes.lines) == 2 * 12
    assert axes.get_xlim() == axes.get_ylim()
    pyplot.close(figure)


def test_lines_against_draws_and_strength_are_the_means():
    other = Panel("moons", "fc2", "pgd_20", ["nn", "hmc"], ["5"], 0.2)
    figure = under_attack.against_draws([PANEL], STYLE, summary())
    drawn = [line for line in figure.axes[0].lines if len(line.get_xdata()) == 3]
    assert np.allclose(drawn[0].get_ydata(), [0.1 * draws**0.4 for draws in (1, 10, 100)])
    pyplot.close(figure)
    figure = under_attack.against_strength([other, PANEL], STYLE, summary())
    assert all(list(line.get_xdata()) == [0.1, 0.2] for line in figure.axes[0].lines)
    assert len(figure.axes[0].lines) == 1 + 3
    assert figure.axes[1].get_xlabel() == "ε (draws: dotted 1, dashed 10, solid 100)"
    pyplot.close(figure)


@pytest.mark.parametrize("name", ["gradient_components", "vanishing_gradients", "draws_alone", "chains", "attack_by_attack"])
def test_figures_are_drawn(name, tmp_path):
    models = {("moons", "fc2", "hmc", seed): expected(seed, (1, 3, 3)) for seed in range(2)}
    weights = {model: {"1.weight": np.random.default_rng(0).normal(size=(6, 3, 2))} for model in models}
    bayesian = Panel("moons", "fc2", "pgd_10", ["hmc"], ["5"], 0.1)
    known = {
        "panels": [bayesian],
        "style": STYLE,
        "gradients": models,
        "weights": weights,
        "summary": summary(),
        "fits": {model: trained() for model in models},
    }
    figure = catalog.bound("figures", {"figure": name})(**known)
    figure.savefig(tmp_path / "figure.png")
    pyplot.close(figure)


def test_what_shrinks_and_what_saturates_is_drawn_from_the_tables(tmp_path):
    table = pd.concat([gradients("moons", "fc2", 1.0, seed) for seed in range(3)])
    panel = Panel("moons", "fc2", "pgd_10", ["hmc"], ["5"], 0.1)
    fits = {("moons", "fc2", "hmc", 0): trained()}
    more = pd.concat([table, table.assign(network="conv")])
    assert len(cancellation_of_panels([panel], STYLE, more).axes) == 2  # One row of them, not two.
    for figure in (
        carbone2020.saturation([panel], STYLE, table),
        carbone2020.gradients_along([panel], STYLE, table, fits),
    ):
        figure.savefig(tmp_path / "figure.png")
        pyplot.close(figure)
