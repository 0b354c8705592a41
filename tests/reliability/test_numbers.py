"""What single precision costs, stage by stage, and what comes out where an input is degenerate.

Networks have learnt scikit-learn's digits. Each stage runs in float32, as jobs do, and in float64. Predictions, gradients
and heat maps move by rounding; signs, ranks and choices can flip, and what of that reaches LRP robustness is bounded here.
`-s` prints what docs/reliability.md says.
"""

from __future__ import annotations

from copy import deepcopy
from functools import cache

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

from resilience import artifacts, cancellation, catalog, data, lrp_rules, networks, posterior
from resilience.attacks.ball import AttackError, refuse_no_images
from resilience.attacks.gradient import LossGradient
from resilience.datasets import bundled
from resilience.explanations import lrp
from resilience.graphs import graphs_of
from resilience.measures.maps import RelevanceError, overlap
from resilience.measures.predictions import softmax_robustness
from resilience.measures.top_pixels import top_pixels
from resilience.posterior import Posterior, point, predict
from resilience.training.fit import Task

ARCHITECTURES = {"conv": 16, "fc2": 32}
RULES = {"epsilon": lrp_rules.epsilon(), "gamma": lrp_rules.gamma(), "alpha1beta0": lrp_rules.alpha1beta0()}
FGSM = {"method": "fgsm", "epsilon": 0.1}
ATTACKS = {
    "fgsm": FGSM,
    "fgsm, margin": FGSM | {"objective": "margin"},
    "pgd": {"method": "pgd", "epsilon": 0.1, "steps": 10},
    "mean_of_attacks": {"method": "mean_of_attacks", "attack": FGSM},
    "square": {"method": "square", "epsilon": 0.1, "queries": 60},
    "saliency_top_k": {"method": "saliency_top_k", "epsilon": 0.1, "steps": 5},
    "saliency_region": {"method": "saliency_region", "epsilon": 0.1, "steps": 5},
    "saliency_target": {"method": "saliency_target", "epsilon": 0.1, "steps": 5},
}
POINTS, TOP_K = 200, 20

Learnt = tuple[Posterior, torch.Tensor, torch.Tensor]


@cache
def digits() -> artifacts.Arrays:
    return data.split(bundled.digits(), 0.1, 600, "digits")


@cache
def learnt(architecture: str) -> Learnt:
    """An ensemble of three that has learnt digits, as three draws, with test images and labels."""
    learning = {name: array for name, array in digits().items() if not name.startswith("test.")}
    settings = {"architecture": architecture, "width": ARCHITECTURES[architecture]}
    task = Task.of(settings, learning, 0, None, torch.device("cpu"))
    member = {"method": "maximum_a_posteriori", "prior": "he", "epochs": 15, "learning_rate": 0.01}
    fit = catalog.load("trainings", "ensemble")(task, members=3, of=member)
    chosen = data.balanced_points(digits()["test.y"], POINTS, "digits", "points")
    x, y = (torch.from_numpy(digits()[f"test.{key}"][chosen]) for key in ("x", "y"))
    return Posterior(task.network(), fit.weights), x, y


def in_double(network: Posterior) -> Posterior:
    weights = {name: value.double() for name, value in network.weights.items()}
    return Posterior(deepcopy(network.network).double(), weights)


def attacked(name: str, network: Posterior, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    settings = ATTACKS[name]
    make = catalog.bound("attacks", settings)
    return make(posterior=network, x=x, y=y, generator=torch.Generator().manual_seed(0))


def heat_maps(network: Posterior, x: torch.Tensor, rule: str) -> dict[int, np.ndarray]:
    layers = networks.learnable_layers(network.network)
    maps = lrp.heat_maps(network, x, predict(network, x).argmax(1), RULES[rule], layers)
    return {layer: relevance.numpy() for layer, relevance in maps.items()}


# ---------------------------------------------------------------- float32 beside float64


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_predictions_differ_by_rounding(architecture):
    network, x, _ = learnt(architecture)
    single, double = predict(network, x), predict(in_double(network), x.double())
    largest = float((single - double).abs().max())
    print(f"\n{architecture}: predictions differ by at most {largest:.1e}")
    assert largest < 5e-6
    assert torch.equal(single.argmax(1), double.argmax(1))


@pytest.mark.parametrize("objective", ["likelihood", "margin"])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_gradients_differ_by_rounding_and_hardly_a_sign_does(architecture, objective):
    network, x, y = learnt(architecture)
    single = LossGradient(network, (1, 8, 8), objective)(x, y).double()
    double = LossGradient(in_double(network), (1, 8, 8), objective)(x.double(), y)
    relative = ((single - double).flatten(1).norm(dim=1) / double.flatten(1).norm(dim=1)).numpy()
    signs = float((single.sign() != double.sign()).double().mean())
    print(
        f"\n{architecture}, {objective}: gradients differ by {np.median(relative):.1e} of their size in the median", end=""
    )
    print(f", {relative.max():.1e} at most; {signs:.1e} of the signs differ")
    assert np.median(relative) < 2e-6
    assert relative.max() < 1e-3
    assert signs < 1e-3


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_heat_maps_differ_by_rounding_and_hardly_a_top_pixel_does(architecture, rule):
    network, x, _ = learnt(architecture)
    single, double = heat_maps(network, x, rule), heat_maps(in_double(network), x.double(), rule)
    for layer, relevance in single.items():
        sizes = np.abs(double[layer]).max((1, 2, 3))
        relative = np.abs(relevance - double[layer]).max((1, 2, 3))[sizes > 0] / sizes[sizes > 0]
        pixels = float((top_pixels(relevance, TOP_K) != top_pixels(double[layer], TOP_K)).mean())
        print(f"\n{architecture}, {rule}, layer {layer}: maps differ by {np.median(relative):.1e} of their largest", end="")
        print(f" value in the median, {relative.max():.1e} at most; {pixels:.1e} of the pixels change sides")
        assert np.median(relative) < 5e-6
        assert (relative > 1e-3).mean() <= 0.01
        assert pixels < 1e-3


@pytest.mark.parametrize("attack", ATTACKS)
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_what_reaches_a_robustness_value_is_bounded(architecture, attack):
    """From the attack to the top pixels, all in one precision, then all in the other."""
    network, x, y = learnt(architecture)
    found = []
    for model, images in ((network, x), (in_double(network), x.double())):
        changed = attacked(attack, model, images, y)
        before, after = (heat_maps(model, part, "epsilon") for part in (images, changed))
        values = np.concatenate([overlap(before[layer], after[layer], top_k=TOP_K) for layer in before])
        softmax = softmax_robustness(predict(model, images).numpy(), predict(model, changed).numpy())
        found.append((changed.double().numpy(), values, softmax))
    pixels = float((np.abs(found[0][0] - found[1][0]) > 1e-6).mean())
    difference, softmax = (found[0][key] - found[1][key] for key in (1, 2))
    mean, largest = np.abs(difference).mean(), np.abs(difference).max()
    print(f"\n{architecture}, {attack}: {pixels:.1e} of the pixels differ; LRP robustness of {len(difference)} maps", end="")
    print(f" differs by {mean:.1e} in the mean, {largest:.2f} at most, its mean by {abs(difference.mean()):.1e};", end="")
    print(f" softmax robustness by {np.abs(softmax).max():.1e} at most")
    # One top pixel of twelve in one map of 600 is 1.4e-4.
    assert mean < 1e-3
    assert np.abs(softmax).max() < 1e-3


def test_cancellation_differs_by_rounding():
    network, x, y = learnt("fc2")
    known = torch.from_numpy(digits()["train.x"])
    tangents = cancellation.tangent_spaces(x, known, 50, 10)
    single = cancellation.measure(network, x, y, tangents, [3])
    double = cancellation.measure(in_double(network), x.double(), y, tangents, [3])
    largest = max(float((single[name] - double[name]).abs().max()) for name in cancellation.MEASURES)
    print(f"\nmeasures of cancellation differ by at most {largest:.1e}")
    assert largest < 1e-3


# ---------------------------------------------------------------- degenerate inputs


def test_of_equal_pixels_those_with_the_smaller_index_are_on_top():
    equal = np.full((1, 1, 2, 5), -0.5)
    assert np.flatnonzero(top_pixels(equal, 30)).tolist() == [0, 1, 2]
    equal[0, 0, 1, 4] = 0.6
    assert np.flatnonzero(top_pixels(equal, 30)).tolist() == [0, 1, 9]


def test_blank_heat_maps_have_the_first_pixels_on_top():
    blank, some = np.zeros((1, 1, 2, 5)), np.zeros((1, 1, 2, 5))
    some[0, 0, 0, 1], some[0, 0, 1, 1] = 1, 2
    assert overlap(blank, blank, top_k=20) == 1
    assert overlap(blank, some, top_k=20) == overlap(some, blank, top_k=20) == 0.5
    halves = {"top_k": 20, "pixels": "extreme_halves"}
    assert overlap(blank, some, **halves) == overlap(some, blank, **halves)


@pytest.mark.parametrize("attack", ATTACKS)
@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("value", [0.0, 0.5, 1.0])
def test_constant_images_are_attacked_and_explained_like_others(architecture, attack, value):
    network, _, y = learnt(architecture)
    x = torch.full((5, 1, 8, 8), value)
    changed = attacked(attack, network, x, y[:5])
    refuse_no_images(changed)
    assert float((changed - x).abs().max()) <= 0.1 + 1e-6
    for rule in RULES:
        before, after = heat_maps(network, x, rule), heat_maps(network, changed, rule)
        for layer, relevance in before.items():
            # Relevance is what a pixel contributes, and a black one contributes nothing.
            assert value > 0 or not relevance.any()
            found = overlap(relevance, after[layer], top_k=TOP_K)
            assert ((found >= 0) & (found <= 1)).all()


def test_where_neighbours_are_all_the_same_tangents_are_still_orthonormal():
    tangents = cancellation.tangent_spaces(torch.rand(3, 1, 4, 4), torch.full((20, 1, 4, 4), 0.5), 10, 3)
    torch.testing.assert_close(tangents @ tangents.mT, torch.eye(3, dtype=torch.float64).expand(3, 3, 3))


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_batch_of_one_class_has_the_gradients_of_its_images(architecture):
    network, x, y = learnt(architecture)
    gradient = LossGradient(network, (1, 8, 8), "likelihood")
    one, all_of_them = y == 3, gradient(x, y)
    torch.testing.assert_close(gradient(x[one], y[one]), all_of_them[one], rtol=1e-4, atol=1e-6)


def test_a_training_that_sees_one_class_alone_learns_to_predict_it():
    only = digits()["train.y"] == 3
    part = {"train.x": digits()["train.x"][only], "train.y": digits()["train.y"][only]}
    arrays = part | {name.replace("train", "validation"): array for name, array in part.items()}
    task = Task.of({"architecture": "fc2", "width": 8}, arrays, 0, None, torch.device("cpu"))
    fit = catalog.load("trainings", "deterministic")(task, epochs=10, learning_rate=0.01)
    assert fit.history[-1]["validation_accuracy"] == 1


def test_labels_with_a_single_class_are_refused():
    with pytest.raises(networks.NetworkError, match="at least two"):
        networks.build({"architecture": "fc2", "width": 8}, (1, 8, 8), 1)


def test_points_are_balanced_over_the_classes_that_there_are():
    labels = np.repeat([0, 2, 5], 10)
    chosen = labels[data.balanced_points(labels, 12, "digits")]
    assert np.unique(chosen, return_counts=True)[1].tolist() == [4, 4, 4]
    with pytest.raises(data.DataError, match="over 3 classes"):
        data.balanced_points(labels, 10, "digits")


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_posterior_of_one_draw_is_that_network(architecture):
    several, x, y = learnt(architecture)
    weights = next(iter(several))
    network = deepcopy(several.network)
    network.load_state_dict(weights)
    alone = Posterior(several.network, {name: value[:1] for name, value in several.weights.items()})
    assert torch.equal(predict(alone, x), predict(point(network), x))
    torch.testing.assert_close(predict(alone, x), network(x).softmax(1).detach(), rtol=1e-5, atol=1e-6)
    assert torch.equal(attacked("mean_of_attacks", alone, x, y), attacked("fgsm", alone, x, y))
    (graph,) = graphs_of(alone, (1, 8, 8))
    layers = networks.learnable_layers(network)
    starts = lrp.Starts(layers, layers[-1], predict(alone, x).argmax(1), "strongest", "one")
    of_draw = lrp.sweep(graph, x, RULES["epsilon"], starts)
    for layer, relevance in zip(layers, of_draw, strict=True):
        np.testing.assert_array_equal(heat_maps(alone, x, "epsilon")[layer], relevance.numpy())
    tangents = cancellation.tangent_spaces(x, torch.from_numpy(digits()["train.x"]), 50, 10)
    found = cancellation.measure(alone, x, y, tangents, [1])
    for name in ("cancellation", "cancellation_tangent", "cancellation_normal", "cancellation_by_chance"):
        torch.testing.assert_close(found[name][0], torch.ones(POINTS, dtype=torch.float64))


def saturated(architecture: str) -> Learnt:
    """A network so sure that every softmax is exactly zero or one."""
    network, x, y = learnt(architecture)
    last = max(networks.learnable_layers(network.network))
    weights = {name: value * (1e5 if name.startswith(f"{last}.") else 1) for name, value in network.weights.items()}
    sure = Posterior(network.network, {name: value[:1] for name, value in weights.items()})
    right = predict(sure, x).argmax(1) == y
    return sure, x[right], y[right]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_saturated_softmax_hides_the_gradient_from_the_saturating_objective_alone(architecture):
    network, x, y = saturated(architecture)
    assert set(predict(network, x).unique().tolist()) == {0.0, 1.0}
    make = catalog.load("attacks", "fgsm")
    assert torch.equal(make(network, x, y, epsilon=0.1, objective="saturating"), x)
    assert not LossGradient(network, (1, 8, 8), "saturating")(x, y).any()
    for objective in ("likelihood", "margin"):
        gradient = LossGradient(network, (1, 8, 8), objective)(x, y)
        assert gradient.isfinite().all()
        assert gradient.flatten(1).any(1).all()
    changed = make(network, x, y, epsilon=0.1)
    found = softmax_robustness(predict(network, x).numpy(), predict(network, changed).numpy())
    assert set(found.tolist()) == {0.0, 1.0}
    start = catalog.load("attacks", "pgd")
    still = start(network, x, y, torch.Generator().manual_seed(0), epsilon=0.1, steps=3, objective="saturating")
    assert 0 < float((still - x).abs().max()) <= 0.1 + 1e-6


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_weights_that_are_not_finite_are_neither_written_nor_read(value, tmp_path):
    network, _, _ = learnt("fc2")
    weights = {name: stack.clone() for name, stack in network.weights.items()}
    weights["3.bias"][1, 2] = value
    about = {"architecture": "fc2", "width": ARCHITECTURES["fc2"], "shape": (1, 8, 8), "classes": 10}
    path = tmp_path / "weights.safetensors"
    with pytest.raises(artifacts.ArtifactError, match="bias has values that are not finite; nothing was written"):
        posterior.save(path, weights, posterior.DRAWS, about, 0)
    assert not path.exists()
    save_file({name: stack.numpy() for name, stack in weights.items()}, path)
    with pytest.raises(artifacts.ArtifactError, match="bias has values that are not finite"):
        artifacts.read_tensors(path)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_weights_too_large_for_single_precision_are_refused_at_every_stage(architecture, tmp_path):
    network, x, y = learnt(architecture)
    large = Posterior(network.network, {name: value * 1e30 for name, value in network.weights.items()})
    # A sign of NaN is zero: without a refusal the attack would change nothing, and the network would look robust.
    for attack in set(ATTACKS) - {"square"}:
        with pytest.raises(AttackError, match="weights are too large"):
            attacked(attack, large, x, y)
    maps = heat_maps(large, x, "epsilon")
    for name, array in {"probabilities": predict(large, x).numpy(), "relevance": maps[max(maps)]}.items():
        with pytest.raises(artifacts.ArtifactError, match=f"{name} has values that are not finite"):
            artifacts.write_tensors(tmp_path / "file.safetensors", {name: array})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_relevance_that_is_not_finite_has_no_rank(value):
    relevance = np.ones((3, 1, 2, 2))
    relevance[1, 0, 0, 0] = value
    with pytest.raises(RelevanceError, match="1 of 3 clean heat maps have values that are not finite"):
        overlap(relevance, np.ones_like(relevance), top_k=TOP_K)
    with pytest.raises(RelevanceError, match="1 of 3 attacked heat maps have values that are not finite"):
        overlap(np.ones_like(relevance), relevance, top_k=TOP_K)
