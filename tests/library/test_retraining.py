"""Networks that learn again from what explanations leave: against the derived dataset, slow formulas and scipy."""

from __future__ import annotations

import copy
from dataclasses import replace

import matplotlib

matplotlib.use("Agg")

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from matplotlib import pyplot
from scipy import ndimage, stats
from torch.nn.functional import cross_entropy

from resilience import artifacts, catalog, comparisons, computing, data, posterior, retraining, score_table, scores, verdicts
from resilience.compared import Compared, the_other_way_round
from resilience.comparisons.models import Model, pairs
from resilience.comparisons.scores import Scored
from resilience.comparisons.statistics import correlation_along, mean, resamples
from resilience.config import ConfigError, check
from resilience.figures import retraining as figures
from resilience.figures.panels import Style
from resilience.grid import Grid
from resilience.training.fit import Task
from tests.conftest import ROOT
from tests.library.explained_networks import network as explained_network
from tests.library.explained_networks import predicted, relevance
from tests.library.test_comparisons import only, robustness_tables

SCHEMA = yaml.safe_load((ROOT / "workflow/schemas/config.schema.yaml").read_text(encoding="utf-8"))
NETWORK = {"architecture": "fc2", "width": 6}
TRAINING = {"method": "deterministic", "epochs": 3, "learning_rate": 0.02, "batch_size": 16}
SHARES = [0.2, 0.6]
CPU = torch.device("cpu")


# ---------------------------------------------------------------- networks that learn again


@pytest.fixture(scope="module")
def source() -> dict[str, np.ndarray]:
    """Images of three classes, each bright in a row of its own, 6 × 6 pixels."""
    generator, found = np.random.default_rng(0), {}
    for split, count in (("train", 60), ("validation", 12), ("test", 30)):
        y = np.arange(count) % 3
        x = generator.uniform(0, 0.5, (count, 1, 6, 6)) + 0.4 * (np.arange(6) % 3 == y[:, None])[:, None, :, None]
        found |= {f"{split}.x": x.astype(np.float32), f"{split}.y": y}
    return found


@pytest.fixture(scope="module")
def important(source) -> dict[str, np.ndarray]:
    generator = np.random.default_rng(1)
    # Whole numbers, so that there are ties.
    return {
        f"{split}.relevance": generator.integers(-4, 5, source[f"{split}.x"].shape).astype(float) for split in data.SPLITS
    }


def learned_by_hand(arrays, seed):
    """Whether each test image is right, by an ordinary training."""
    learning = {name: array for name, array in arrays.items() if not name.startswith("test.")}
    task = Task.of(NETWORK, learning, seed, None, CPU, 3)
    weights = catalog.bound("trainings", TRAINING)(task=task).weights
    logits = torch.func.functional_call(task.network(), weights, (torch.from_numpy(arrays["test.x"]),))
    return logits.argmax(1).numpy() == arrays["test.y"]


@pytest.mark.parametrize("keep", ["rest", "top"])
@pytest.mark.parametrize("share", SHARES)
def test_a_network_learns_again_as_one_does_from_the_derived_dataset(source, important, keep, share):
    learn = retraining.Retraining(NETWORK, TRAINING, 3, CPU)
    found = retraining.retrain(source, important, SHARES, [7], learn, ["occluded digits"])
    entry = {"source": "occluded", "of": "digits", "by": {}, "share": share, "keep": keep}
    derived = data.derive(source, important, catalog.bound("datasets", entry), "occluded digits")
    expected = learned_by_hand(derived, 7)
    assert np.array_equal(found[f"{'roar' if keep == 'rest' else 'kar'}_{share}"], expected)
    assert 0.2 < expected.mean() <= 1


def test_both_ends_are_measured_and_repeats_are_means(source, important):
    learn = retraining.Retraining(NETWORK, TRAINING, 3, CPU)
    found = retraining.retrain(source, important, SHARES, [7, 8], learn, ["a"])
    assert list(found) == ["none_replaced", "roar_0.2", "roar_0.6", "kar_0.2", "kar_0.6", "all_replaced"]
    as_it_is = [learned_by_hand(source, seed) for seed in (7, 8)]
    assert np.array_equal(found["none_replaced"], np.mean(as_it_is, axis=0))
    mean_of_training = source["train.x"].astype(float).mean()
    nothing = {
        name: np.full_like(array, mean_of_training) if name.endswith("x") else array for name, array in source.items()
    }
    assert np.array_equal(found["all_replaced"], np.mean([learned_by_hand(nothing, seed) for seed in (7, 8)], axis=0))
    # Of one colour, all images are of one class.
    assert found["all_replaced"].mean() == pytest.approx(1 / 3)


def test_what_one_protocol_replaces_the_other_leaves(source, important):
    left = dict(retraining.occluded_datasets(source, important, [0.25], ["a"]))
    without, alone = left["roar_0.25"], left["kar_0.25"]
    for split in data.SPLITS:
        gone = [images[f"{split}.x"] != source[f"{split}.x"] for images in (without, alone)]
        assert (gone[0].sum((1, 2, 3)) == 9).all()
        assert (gone[0] ^ gone[1]).all()
        magnitude = np.abs(important[f"{split}.relevance"])
        lowest_gone = np.where(gone[0], magnitude, np.inf).min((1, 2, 3))
        assert (lowest_gone >= np.where(gone[0], -np.inf, magnitude).max((1, 2, 3))).all()


def test_shares_are_nested_also_among_pixels_of_equal_importance(source):
    alike = {f"{split}.relevance": np.zeros_like(source[f"{split}.x"]) for split in data.SPLITS}
    left = dict(retraining.occluded_datasets(source, alike, [0.25, 0.5], ["a"]))
    gone = [left[name]["test.x"] != source["test.x"] for name in ("roar_0.25", "roar_0.5")]
    assert not (gone[0] & ~gone[1]).any()


def test_seeds_follow_from_the_dataset_the_seed_and_what_learns_alone():
    by, place = (
        {"network": "cnn", "training": "det"},
        {"dataset": "digits", "seed": 0, "network": "fc2", "explanation": "lrp"},
    )
    found = retraining.seeds_of(place, by, 3)
    assert found == retraining.seeds_of(place | {"network": "conv", "training": "adv", "explanation": "random"}, by, 3)
    assert found[:2] == retraining.seeds_of(place, by, 2)
    others = [place | {"seed": 1}, place | {"dataset": "mnist"}]
    everything = [*found, *(seed for other in others for seed in retraining.seeds_of(other, by, 3))]
    everything += retraining.seeds_of(place, by | {"training": "adv"}, 3)
    assert len(set(everything)) == len(everything)


def test_it_goes_on_where_it_was_stopped_and_any_number_of_threads_gives_the_same(source, important, tmp_path):
    def found(learn):
        return retraining.retrain(source, important, SHARES, [7], learn, ["a"])

    learn = retraining.Retraining(NETWORK, TRAINING, 3, CPU, tmp_path, "recipe")
    expected = found(replace(learn, checkpoints=None))
    calls = []

    def stopped(images, seed, name):
        calls.append(name)
        if len(calls) == 4:
            raise InterruptedError
        return learn(images, seed, name)

    with pytest.raises(InterruptedError):
        found(stopped)
    assert len(list(tmp_path.iterdir())) == 3
    computing.prepare(2)
    try:
        again = found(learn)
    finally:
        computing.prepare(1)
    assert all(np.array_equal(again[name], expected[name]) for name in expected)


def test_right_is_the_class_of_the_mean_of_all_draws(source):
    built = Task.of(NETWORK, {name: source[name] for name in source if "test" not in name}, 1, None, CPU, 3).network()
    draws = {name: torch.stack([value, -value]) for name, value in built.state_dict().items()}
    mixture = posterior.Posterior(built, draws)
    probabilities = sum(
        torch.func.functional_call(built, draw, (torch.from_numpy(source["test.x"]),)).softmax(1) for draw in mixture
    )
    expected = probabilities.argmax(1).numpy() == source["test.y"]
    assert np.array_equal(retraining.right(mixture, source, CPU), expected)


# ---------------------------------------------------------------- explanations


def test_edges_are_sobels_filter_in_each_channel():
    x = torch.rand(3, 2, 5, 7, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = catalog.load("explanations", "edges")(x)
    for image, edges in zip(x.numpy(), found.numpy(), strict=True):
        for channel, of_channel in zip(image, edges, strict=True):
            slopes = [ndimage.sobel(channel, axis=axis, mode="nearest") for axis in (0, 1)]
            assert np.allclose(of_channel, np.hypot(*slopes))


def test_gradient_times_input_from_grey_is_that_of_images_from_minus_one_to_one():
    model, x = explained_network("pooled")
    classes = predicted(model, x)
    scaled = (2 * x - 1).requires_grad_()
    loss = cross_entropy(model((scaled + 1) / 2), classes, reduction="sum")
    (gradient,) = torch.autograd.grad(loss, scaled)
    found = relevance("gradient_times_input", model, x, classes, of="loss", baseline=0.5)
    assert torch.allclose(found, (scaled * gradient).detach(), rtol=1e-9, atol=1e-14)


# ---------------------------------------------------------------- scores


def test_a_score_is_the_area_between_two_curves_by_a_slow_trapezoid():
    generator = np.random.default_rng(0)
    places, heights = [0, 0.1, 0.3, 0.7, 1], generator.uniform(size=(5, 4))
    for image in range(4):
        slow = sum(
            (places[step + 1] - places[step]) * (heights[step, image] + heights[step + 1, image]) / 2 for step in range(4)
        )
        assert scores.area(places, heights)[image] == pytest.approx(slow)


def test_keeping_a_share_replaces_what_remains():
    assert scores.curve("roar", [0.9, 0.1]) == {0: "none_replaced", 0.1: "roar_0.1", 0.9: "roar_0.9", 1: "all_replaced"}
    assert scores.curve("kar", [0.3, 0.9]) == {0: "none_replaced", 0.1: "kar_0.9", 0.7: "kar_0.3", 1: "all_replaced"}


def test_scores_are_those_of_kim_et_al_worked_by_hand():
    image = {"dataset": "d", "network": "n", "seed": 0, "index": 0, "draws": 1, "none_replaced": 1.0, "all_replaced": 0.0}
    chance = image | {"training": "std", "explanation": "random", "roar_0.5": 1.0, "kar_0.5": 0.0, "right": 1.0}
    found = scores.with_scores(
        pd.DataFrame(
            [
                chance,
                image | {"training": "adv", "explanation": "lrp", "roar_0.5": 0.0, "kar_0.5": 1.0, "right": 1.0},
                image | {"training": "adv", "explanation": "bad", "roar_0.5": 1.0, "kar_0.5": 0.0, "right": 1.0},
            ]
        ),
        [0.5],
        "random",
    )
    # Random: 1, 1, 0 under ROAR and 1, 0, 0 under KAR, of areas .75 and .25; LRP: the other way round.
    assert found[["roar", "kar"]].to_numpy().tolist() == [[0, 0], [0.5, 0.5], [0, 0]]


STRENGTHS = {
    "std": {"norm": "", "objective": "", "strength": 0.0},
    "weak": {"norm": "l2", "objective": "likelihood", "strength": 0.25},
    "strong": {"norm": "l2", "objective": "likelihood", "strength": 1.0},
    "wide": {"norm": "linf", "objective": "likelihood", "strength": 1.0},
}
ROLES = {"std": "deterministic", "weak": "adversarial", "strong": "adversarial", "wide": "adversarial"}
ROLES |= {"map": "control", "hmc": "bayesian"}
#: By how much an explanation of a training makes right images wrong (ROAR) or lets them stay right (KAR), beside chance.
SKILL = {"std": 0.2, "weak": 0.3, "strong": 0.45, "wide": 0.25, "map": 0.22, "hmc": 0.4}
ORDER = ["random", "edges", "gradient", "product"]
METHODS = {"random": "random_map", "edges": "edges", "gradient": "gradient", "product": "gradient_times_input"}


def made(seeds: int = 3, points: int = 150) -> pd.DataFrame:
    """Networks that learned again after explanations of six trainings; the more skill there is, the better these are."""
    parts = []
    for seed in range(seeds):
        luck = np.random.default_rng(seed).uniform(size=(6, points))
        for training, skill in SKILL.items():
            for explanation, more in (("random", None), ("edges", 0.03), ("gradient", 0.0), ("product", 0.2)):
                if explanation in ("random", "edges") and training != "std":
                    continue
                edge = {"random": 0.0, "edges": 0.03}.get(explanation, skill + (more or 0))
                own = np.random.default_rng([seed, *explanation.encode(), *training.encode()]).normal(0, 0.02, points)
                parts.append(
                    pd.DataFrame(
                        {
                            "dataset": "digits",
                            "network": "fc2",
                            "training": training,
                            "seed": seed,
                            "draws": 10 if training == "hmc" else 1,
                            "explanation": explanation,
                            "index": np.arange(points),
                            "label": 0,
                            "right": luck[0] < 0.99 - 0.3 * skill,
                            "none_replaced": luck[1] < 0.98,
                            **dict.fromkeys(("roar_0.2", "roar_0.6"), luck[2] + own < 0.8 - edge),
                            **dict.fromkeys(("kar_0.2", "kar_0.6"), luck[3] + own < 0.3 + edge),
                            "all_replaced": luck[5] < 0.1,
                        }
                    )
                )
    return pd.concat(parts, ignore_index=True).astype({"right": float})


@pytest.fixture(scope="module")
def scored() -> pd.DataFrame:
    return scores.with_scores(made(), SHARES, "random")


@pytest.fixture(scope="module")
def compared(scored) -> pd.DataFrame:
    about = Scored(scored, ORDER, ["random", "edges"], STRENGTHS)
    nobody = robustness_tables(0.1, seeds=2, points=10)
    roles = {"det": "deterministic", "map": "control", "adv": "adversarial", "hmc": "bayesian", **ROLES}
    series = [["std", "weak", "strong"]]
    found = comparisons.compare(nobody, roles, {"fc2": ("1", "3")}, ["top20"], 0.95, series=series, scored=about)
    return found[found["attack"] == "clean"]


def test_the_table_of_scores_has_a_row_for_each_explanation_and_what_it_is_made_from(scored, tmp_path):
    made_table = score_table.summarise(scored, SHARES, ROLES, STRENGTHS, ["random", "edges"])
    artifacts.write_table(tmp_path / "scores.csv", made_table)
    table = artifacts.read_table(tmp_path / "scores.csv")
    assert len(table) == 2 * (2 * 6 + 2)
    row = only(table, training="strong", explanation="product", protocol="roar")
    tables = made()
    of_it, by_chance = (
        tables[(tables["training"] == training) & (tables["explanation"] == explanation)]
        for training, explanation in (("strong", "product"), ("std", "random"))
    )
    curves = [
        [part[name].mean() for name in ("none_replaced", "roar_0.2", "roar_0.6", "all_replaced")]
        for part in (by_chance, of_it)
    ]
    slow = np.trapezoid(np.subtract(*curves), [0, 0.2, 0.6, 1])
    assert row["score"] == pytest.approx(slow)
    assert row["low"] < slow < row["high"]
    assert [row[f"accuracy_{q}"] for q in (0, 0.2, 0.6, 1)] == pytest.approx(curves[1])
    assert np.isnan(row["accuracy_0.4"])
    assert (row["norm"], row["strength"], row["seeds"], row["points"]) == ("l2", 1, 3, 150)
    assert row["test_accuracy"] == pytest.approx(of_it["right"].mean())
    chance = only(table, explanation="random", protocol="kar")
    assert (chance["score"], chance["low"], chance["p"], bool(chance["control"])) == (0, 0, 1, True)
    assert np.isnan(only(table, training="hmc", explanation="product", protocol="kar")["strength"])


def test_keeping_is_scored_the_other_way_round(scored):
    table = score_table.summarise(scored, SHARES, ROLES, STRENGTHS, ["random", "edges"])
    tables = made()
    curves = [
        [tables[(tables["training"] == training) & (tables["explanation"] == name)][column].mean() for column in columns]
        for training, name in (("hmc", "gradient"), ("std", "random"))
        for columns in [("none_replaced", "kar_0.6", "kar_0.2", "all_replaced")]
    ]
    slow = np.trapezoid(np.subtract(*curves), [0, 0.4, 0.8, 1])
    assert only(table, training="hmc", explanation="gradient", protocol="kar")["score"] == pytest.approx(slow)


# ---------------------------------------------------------------- comparisons


@pytest.mark.parametrize("ranks", [True, False])
def test_correlations_along_models_are_scipys_for_each_seed(ranks):
    generator = np.random.default_rng(0)
    values = generator.normal(size=(2, 5, 3, 40)) + np.arange(5)[:, None, None] / 5
    first, second = ([mean(of_model) for of_model in part] for part in values)
    function = stats.spearmanr if ranks else stats.pearsonr
    found = correlation_along(first, second, ranks)
    for seed in range(3):
        assert found.by_seed[seed] == pytest.approx(function(*values[:, :, seed].mean(-1)).statistic)
    assert found.estimate == pytest.approx(found.by_seed.mean())
    drawn = np.repeat(np.arange(40), resamples(40)[17].astype(int))
    of_resample = function(*values[:, :, 1][..., drawn].mean(-1)).statistic
    assert found.by_both[1, 17] == pytest.approx(of_resample)
    assert found.by_point[17] == pytest.approx(found.by_both[:, 17].mean())
    degrees = [0, 0.25, 0.5, 0.5, 1]
    against = correlation_along(degrees, second, ranks)
    assert against.by_seed[2] == pytest.approx(function(degrees, values[1, :, 2].mean(-1)).statistic)
    assert correlation_along([1.0] * 5, second, ranks).estimate == 0


def test_along_a_series_each_is_compared_with_the_one_before_and_the_last_with_the_first():
    models = [Model(name, ROLES[name], 1, pd.DataFrame(), {}) for name in ("std", "weak", "strong", "wide")]
    found = {(model.training, reference.training) for model, reference in pairs(models, [["std", "weak", "strong", "wide"]])}
    by_role = {(name, "std") for name in ("weak", "strong", "wide")}
    assert {(model.training, reference.training) for model, reference in pairs(models)} == by_role
    assert found == by_role | {("strong", "weak"), ("wide", "strong")}
    turned = {(model.training, reference.training) for model, reference in pairs(models, [["weak", "std"]])}
    assert turned == by_role | {("std", "weak")}


def test_a_series_counts_under_attack_too():
    table = robustness_tables(0.1, seeds=2, points=20)
    roles = {"det": "deterministic", "map": "control", "adv": "adversarial", "hmc": "bayesian"}
    found = comparisons.compare(table, roles, {"fc2": ("1", "3")}, ["top20"], 0.95, series=[["map", "adv"]])
    row = only(found, training="adv", reference="map", measure="softmax_robustness")
    assert (row["role"], row["reference_role"]) == ("adversarial", "control")


def test_models_are_compared_by_the_same_explanation_image_by_image(compared, scored):
    row = only(compared, measure="ROAR score", training="hmc", reference="map", explanation="product")
    one, other = (
        scored[(scored["training"] == name) & (scored["explanation"] == "product")].set_index(["seed", "index"])["roar"]
        for name in ("hmc", "map")
    )
    assert row["estimate"] == pytest.approx((one - other).mean())
    assert (row["layer"], row["reference_role"], row["seeds"], row["points"]) == ("3", "control", 3, 150)
    neighbours = compared[(compared["measure"] == "KAR score") & (compared["training"] == "strong")]
    neighbours = neighbours[neighbours["explanation"] == "gradient"]
    assert set(neighbours["reference"]) == {"std", "weak", "random", "edges"}
    models = compared[compared["reference_role"].isin(ROLES.values())]
    assert set(models["explanation"]) == {"gradient", "product"}


def test_explanations_are_compared_within_a_model_the_later_minus_the_earlier(compared, scored):
    row = only(compared, measure="KAR score", training="weak", reference_role="other explanation")
    assert (row["explanation"], row["reference"]) == ("product", "gradient")
    of_weak = scored[scored["training"] == "weak"]
    one, other = (
        of_weak[of_weak["explanation"] == name].set_index(["seed", "index"])["kar"] for name in ("product", "gradient")
    )
    assert row["estimate"] == pytest.approx((one - other).mean())
    beside = only(compared, measure="ROAR score", training="weak", explanation="gradient", reference="edges")
    edges = scored[scored["explanation"] == "edges"].set_index(["seed", "index"])["roar"]
    mine = of_weak[of_weak["explanation"] == "gradient"].set_index(["seed", "index"])["roar"]
    assert beside["estimate"] == pytest.approx((mine - edges).mean())
    assert beside["reference_role"] == "control explanation"
    chance = only(compared, measure="ROAR score", training="weak", explanation="gradient", reference="random")
    assert chance["estimate"] == pytest.approx(mine.mean())


def test_scores_are_correlated_with_strength_and_accuracy_over_the_trainings_of_a_norm(compared, scored):
    for kind, function in (("rank", stats.spearmanr), ("linear", stats.pearsonr)):
        for against in ("strength", "test accuracy"):
            name = f"{kind} correlation of ROAR score with {against}"
            row = only(compared, measure=name, explanation="gradient")
            assert (row["training"], row["role"], row["reference_role"], row["seeds"]) == ("l2", "adversarial", "nothing", 3)
            by_seed = []
            for seed in range(3):
                here = scored[(scored["seed"] == seed) & (scored["explanation"] == "gradient")].groupby("training")
                trainings = ["std", "weak", "strong"]
                x = [0, 0.25, 1] if against == "strength" else here["right"].mean()[trainings]
                by_seed.append(function(x, here["roar"].mean()[trainings]).statistic)
            assert row["estimate"] == pytest.approx(np.mean(by_seed))
    # Standard and one training against ℓ∞ are two strengths, and no correlation.
    assert not (compared["training"] == "linf").any()


def test_what_is_trained_against_is_named_by_norm_and_objective():
    assert scores.attack_of({"norm": "l2", "objective": "likelihood"}) == "l2"
    assert scores.attack_of({"norm": "l2", "objective": "carlini_wagner"}) == "l2 carlini_wagner"
    assert scores.attack_of({"norm": "", "objective": ""}) == ""


# ---------------------------------------------------------------- claims

CLAIMS = {
    "roar_and_strength": {("l2", "gradient", ""), ("l2", "product", "")},
    "global_above_local": {(name, "product", "gradient") for name in ("std", "weak", "strong", "wide")},
    "kar_of_products_and_strength": {("l2", "product", "")},
    "kar_of_gradients_and_l2": {("l2", "gradient", "")},
    "roar_and_test_accuracy": {("l2", "gradient", ""), ("l2", "product", "")},
    "bayesian_above_deterministic": {("hmc", name, "std") for name in ("gradient", "product")},
    "bayesian_above_controls": {("hmc", name, "map") for name in ("gradient", "product")},
    "gradients_above_controls": {
        ("std", name, control) for name in ("gradient", "product") for control in ("random", "edges")
    },
}


@pytest.mark.parametrize("claim", CLAIMS)
@pytest.mark.parametrize("read", [False, True], ids=["as compared", "as read from the file"])
def test_a_claim_is_about_its_comparisons_alone(claim, read, compared, tmp_path):
    table = compared
    if read:
        artifacts.write_table(tmp_path / "comparisons.csv", compared)
        table = artifacts.read_table(tmp_path / "comparisons.csv").fillna({"reference": ""})
    found = catalog.load("statements", claim)(Compared(table, "epsilon", "top20", methods=METHODS))
    assert set(zip(found["training"], found["explanation"], found["reference"], strict=True)) == CLAIMS[claim]


PLANTED = {
    "roar_and_strength": 1,
    "global_above_local": 1,
    "kar_of_products_and_strength": 1,
    # KAR scores of gradients rise here, too.
    "kar_of_gradients_and_l2": -1,
    "roar_and_test_accuracy": 1,
    "bayesian_above_deterministic": 1,
    "bayesian_above_controls": 1,
    "gradients_above_controls": 1,
}


@pytest.mark.parametrize("claim", PLANTED)
def test_claims_follow_what_was_planted(claim, compared):
    known = Compared(compared, "epsilon", "top20", methods=METHODS)
    rows = catalog.load("statements", claim)(known)
    table = verdicts.judge({claim: catalog.statement(claim)}, lambda _: rows, 0.95)
    assert (PLANTED[claim] * table["estimate"] > 0).all()
    assert (verdicts.REVERSED if PLANTED[claim] < 0 else verdicts.HOLDS) in set(table["verdict"])


def test_comparisons_the_other_way_round_are_those_of_the_reference_with_the_model(compared):
    rows = compared[compared["measure"] == "ROAR score"]
    turned = the_other_way_round(rows)
    for one, other in (
        ("estimate", "estimate"),
        ("low", "high"),
        ("low_points", "high_points"),
        ("effect_size", "effect_size"),
    ):
        assert np.allclose(turned[one], -rows[other])
    assert np.allclose(turned["mean"] - turned["mean_reference"], turned["estimate"])
    assert np.allclose(turned["p"], rows["p"])
    assert np.allclose(the_other_way_round(turned)["p_mann_whitney"], rows["p_mann_whitney"])


# ---------------------------------------------------------------- figures


@pytest.fixture
def drawn(scored, compared):
    table = score_table.summarise(scored, SHARES, ROLES, STRENGTHS, ["random", "edges"])
    style = Style(
        {name: name if name == "hmc" else role for name, role in (ROLES | {"map": "maximum_a_posteriori"}).items()}
    )
    yield style, table, compared
    pyplot.close("all")


@pytest.mark.parametrize("against", ["strength", "test_accuracy"])
def test_the_scatter_tells_the_correlations_of_the_table(drawn, against):
    style, table, compared = drawn
    figure = figures.scores_by_strength(style, table, compared, explanations=["gradient", "product"], against=against)
    roar, kar = figure.axes
    assert (roar.get_ylabel(), kar.get_ylabel()) == ("ROAR score", "KAR score")
    told = [text.get_text() for text in roar.get_legend().get_texts()]
    assert [text.split("\n")[0] for text in told] == ["ℓ2, gradient", "ℓ∞, gradient", "ℓ2, product", "ℓ∞, product"]
    row = only(compared, measure=f"rank correlation of ROAR score with {against.replace('_', ' ')}", explanation="product")
    assert f"ρ = {row['estimate']:.2f}".replace("-", "−") in told[2]
    assert "ρ" not in told[1]
    dots = [line for line in roar.lines if line.get_linestyle() == "None"]
    assert [len(line.get_xdata()) for line in dots] == [3, 2, 3, 2]


def test_curves_end_where_both_ends_were_measured(drawn):
    style, table, _ = drawn
    figure = figures.accuracy_after_removal(style, table, explanations=["gradient"], trainings=["std", "hmc"])
    shown = [axes for axes in figure.axes if axes.get_visible()]
    assert len(shown) == 4
    lines = shown[1].lines
    assert len(lines) == 3
    row = only(table, training="hmc", explanation="gradient", protocol="roar")
    assert lines[-1].get_xdata().tolist() == [0, 0.2, 0.6, 1]
    assert lines[-1].get_ydata().tolist() == pytest.approx([row[f"accuracy_{q}"] for q in (0, 0.2, 0.6, 1)])


def test_every_training_has_a_dot_for_each_explanation(drawn):
    style, table, _ = drawn
    figure = figures.scores_by_training(style, table)
    assert len(figure.axes) == 4
    names = [text.get_text() for text in figure.axes[0].get_yticklabels()]
    assert names[0] == "Deterministic"
    assert names[-1] == "HMC, n = 10"
    dots = [line.get_xdata()[0] for line in figure.axes[0].lines if line.get_marker() == "o"]
    assert dots[-1] == only(table, training="hmc", explanation="gradient", protocol="roar")["score"]
    assert len(dots) == 6


# ---------------------------------------------------------------- the config


RETRAINING = {
    "datasets": ["digits"],
    "networks": ["fc2"],
    "trainings": ["adv", "svi", "nuts"],
    "explanations": ["random", "edges", "gamma"],
    "draws": [2, 4],
    "by": {"network": "conv", "training": "det"},
    "shares": [0.1, 0.5],
}


def config(**changes):
    """The tests' config with networks that learn again, some keys of the section changed."""
    found = yaml.safe_load((ROOT / "tests/config.yaml").read_text(encoding="utf-8"))
    found["explanations"] |= {
        "random": {"method": "random_map"},
        "edges": {"method": "edges"},
        "each": {"method": "gradient", "over": "each"},
        "cam": {"method": "cam"},
    }
    found["trainings"]["of_file"] = {"method": "imported_point", "file": "w_{seed}.safetensors", "role": "control"}
    found["datasets"]["view"] = {
        "source": "saturated",
        "of": "digits",
        "level": 8,
        "test_points": 20,
        "trained_on": "digits",
    }
    found["retraining"] = copy.deepcopy(RETRAINING) | changes
    return found


def test_the_grid_has_each_explanation_of_each_model_and_controls_once():
    grid = Grid(check(config(), SCHEMA))
    of_adv = [("digits", "fc2", "adv", 1, name) for name in ("edges", "gamma", "random")]
    others = [("digits", "fc2", training, draws, "gamma") for training in ("nuts", "svi") for draws in (2, 4)]
    assert grid.retrained() == [*of_adv, *others]
    assert grid.random_map() == "random"
    del (without := check(config(), SCHEMA))["retraining"]
    assert Grid(without).retrained() == []


def test_what_is_explained_is_trained_even_where_no_experiment_names_it():
    alone = config(networks=["conv"])
    grid = Grid(check(alone, SCHEMA))
    assert {("digits", "conv", name) for name in ("adv", "svi", "nuts", "ensemble")} <= set(grid.trained())


def test_strength_is_epsilon_over_the_largest_of_its_norm():
    found = config()
    found["trainings"] |= {
        "linf": {"method": "adversarial", "epochs": 1, "attack": {"method": "pgd", "epsilon": 0.025}},
        "l2": {
            "method": "adversarial",
            "epochs": 1,
            "attack": {"method": "pgd_l2", "epsilon": 4, "objective": "carlini_wagner"},
        },
    }
    assert Grid(check(found, SCHEMA)).strengths() == {
        "det": {"norm": "", "objective": "", "strength": 0},
        "adv": {"norm": "linf", "objective": "likelihood", "strength": 1},
        "linf": {"norm": "linf", "objective": "likelihood", "strength": 0.25},
        "l2": {"norm": "l2", "objective": "carlini_wagner", "strength": 1},
    }


REFUSED = {
    "a share of nothing": ({"shares": [0]}, "retraining.shares.0: 0 must be greater than 0"),
    "a share of everything": ({"shares": [0.5, 1]}, "retraining.shares.1: 1 must be less than 1"),
    "no random map": (
        {"explanations": ["gamma", "edges"]},
        "retraining.explanations: none of gamma, edges is a random map, which scores are measured from; add random",
    ),
    "a map for each draw": ({"explanations": ["random", "each"]}, "each has a map for each draw"),
    "what the network has not": ({"explanations": ["random", "cam"]}, "needs global average pooling"),
    "judged by others": ({"datasets": ["view"]}, "retraining.datasets: view is judged by what learned on digits"),
    "a posterior that learns": (
        {"by": {"network": "fc2", "training": "svi"}},
        "retraining.by.training: svi is no point estimate",
    ),
    "weights from a file": (
        {"by": {"network": "fc2", "training": "of_file"}},
        "retraining.by.training: of_file does not learn from images alone",
    ),
    "too many draws": ({"draws": [9]}, "retraining.draws: 9 is more than trainings.nuts.draws, 4"),
    "an unknown explanation": ({"explanations": ["random", "gamm"]}, "did you mean gamma"),
    "an unknown network": ({"by": {"network": "fc3", "training": "det"}}, "retraining.by.network: 'fc3' is not one"),
    "no repeats": ({"repeats": 0}, "retraining.repeats: 0 must be at least 1"),
}


@pytest.mark.parametrize(("changes", "says"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_work_is_refused_by_its_key(changes, says):
    with pytest.raises(ConfigError) as refused:
        check(config(**changes), SCHEMA)
    assert says in str(refused.value)


def test_figures_and_series_are_refused_that_nothing_stands_behind():
    def says(found):
        with pytest.raises(ConfigError) as refused:
            check(found, SCHEMA)
        return str(refused.value)

    drawing = config() | {
        "figures": {"curves": {"figure": "accuracy_after_removal", "explanations": ["epsilon"], "trainings": ["adv"]}}
    }
    assert "figures.curves.explanations: epsilon is not one of retraining.explanations; name some of random" in says(drawing)
    drawing["figures"]["curves"] |= {"explanations": ["gamma"], "trainings": ["det"]}
    assert "figures.curves.trainings: det is not one of retraining.trainings" in says(drawing)
    del drawing["retraining"]
    assert "draws what the section 'retraining' asks for, which is missing" in says(drawing)
    series = config()
    series["claims"]["series"] = [["det", "advv"]]
    assert "claims.series[0]: 'advv' is not one of the trainings; did you mean adv" in says(series)
