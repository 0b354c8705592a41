"""The Laplace approximation and its curvature, against dense matrices that automatic differentiation gives."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.functional import cross_entropy, unfold

from resilience import catalog, networks, posterior
from resilience.posterior import DRAWS, Posterior
from resilience.training import curvature, last_layer
from resilience.training import prior as priors
from resilience.training.fit import Task, TrainingError

CLASSES = 3


class Small(nn.Module):
    """A convolution, batch normalisation, a grouped convolution, an activation in place, a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(2, 2, 2, stride=2, padding=1)
        self.normalise = nn.BatchNorm2d(2)
        self.grouped = nn.Conv2d(2, 2, 1, groups=2, bias=False)
        self.act = nn.SiLU(inplace=True)
        self.linear = nn.Linear(2 * 9, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(self.grouped(self.normalise(self.act(self.convolution(x)))).flatten(1))


@pytest.fixture
def small() -> tuple[nn.Module, dict[str, Tensor], Tensor, dict[str, float]]:
    torch.manual_seed(0)
    network = Small().double().eval()
    with torch.no_grad():
        for value in networks.weights_of(network).values():
            value.copy_(0.5 + 0.3 * torch.randn_like(value).clamp(min=-1))
    x = torch.rand(7, 2, 5, 5, dtype=torch.float64)
    return network, networks.weights_of(network), x, priors.prior_of(network, "lecun").deviations


def dense_gauss_newton(network, weights, x, names) -> Tensor:
    """Σ_n J_nᵀ (diag(p) − p pᵀ) J_n, plainly."""
    chosen = {name: weights[name] for name in names}
    total = 0.0
    for image in x.split(1):

        def logits(*values: Tensor, image: Tensor = image) -> Tensor:
            return functional_call(network, weights | dict(zip(names, values, strict=True)), (image,))[0]

        jacobian = torch.autograd.functional.jacobian(logits, tuple(chosen.values()))
        j = torch.cat([part.flatten(1) for part in jacobian], 1)
        p = functional_call(network, weights, (image,))[0].softmax(0).detach()
        total = total + j.T @ (torch.diag(p) - torch.outer(p, p)) @ j
    return total


def covariance_of(block: curvature.Curvature) -> Tensor:
    """Of draws: noise passes through a matrix M, so that it is M Mᵀ."""
    columns = []
    for noise in torch.eye(block.size, dtype=torch.float64):
        drawn = block.noise_to_draw(noise)
        assert {name: tuple(value.shape) for name, value in drawn.items()} == block.shapes
        columns.append(torch.cat([value.flatten() for value in drawn.values()]))
    matrix = torch.stack(columns, 1)
    return matrix @ matrix.T


def prior_precision(shapes, deviations) -> Tensor:
    return torch.cat(
        [torch.full((torch.Size(shape).numel(),), deviations[name] ** -2).double() for name, shape in shapes.items()]
    )


def test_root_of_the_hessian_of_the_cross_entropy():
    logits = torch.randn(4, 5, dtype=torch.float64)
    root = curvature.root_of_hessian(logits)
    for index in range(4):
        expected = torch.autograd.functional.hessian(lambda z: cross_entropy(z[None], torch.tensor([2])), logits[index])
        torch.testing.assert_close(root[index] @ root[index].T, expected, rtol=0, atol=1e-14)


def test_full_and_diagonal_are_those_of_the_dense_matrix(small, monkeypatch):
    network, weights, x, deviations = small
    names = list(deviations)
    dense = dense_gauss_newton(network, weights, x, names)
    monkeypatch.setattr(curvature, "NUMBERS_AT_A_TIME", 3 * CLASSES * len(dense))  # Several batches.
    block = curvature.full(network, weights, x, deviations)
    precision = dense + torch.diag(prior_precision(block.shapes, deviations))
    torch.testing.assert_close(covariance_of(block), torch.linalg.inv(precision), rtol=1e-8, atol=1e-10)
    found = curvature.diagonal(network, weights, x, deviations)
    torch.testing.assert_close(found.precision, precision.diagonal(), rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(covariance_of(found), torch.diag(1 / precision.diagonal()), rtol=1e-10, atol=1e-12)


def test_kronecker_is_the_dense_product_of_its_factors(small):
    """The factors are written out image by image, position by position and class by class."""
    network, weights, x, deviations = small
    scales, *blocks, others = curvature.kronecker(network, weights, x, deviations)
    names = [sorted(block.shapes) for block in blocks]
    assert names == [["convolution.bias", "convolution.weight"], ["linear.bias", "linear.weight"]]
    assert sorted(scales.shapes) == ["normalise.bias", "normalise.weight"]
    assert sorted(others.shapes) == ["grouped.weight"]
    for block in (scales, others):
        dense = dense_gauss_newton(network, weights, x, list(block.shapes))
        expected = 1 / (dense.diagonal() + prior_precision(block.shapes, deviations))
        torch.testing.assert_close(covariance_of(block).diagonal(), expected, rtol=1e-9, atol=1e-12)

    features = network.grouped(network.normalise(network.act(network.convolution(x)))).flatten(1).detach()
    for block, layer in zip(blocks, ("convolution", "linear"), strict=False):
        inputs = outputs = 0.0
        count = 0
        for image, feature in zip(x, features, strict=True):
            z = (network.convolution(image[None]) if layer == "convolution" else network.linear(feature[None])).detach()
            z.requires_grad_()
            logits = z[0]
            if layer == "convolution":
                logits = network.linear(network.grouped(network.normalise(nn.functional.silu(z))).flatten(1))[0]
            p = logits.detach().softmax(0)
            for c in range(CLASSES):
                slope = p[c].sqrt() * (torch.eye(CLASSES, dtype=torch.float64)[c] - p)
                [g] = torch.autograd.grad(logits, z, slope, retain_graph=True)
                rows = g[0].flatten(1).T if g.dim() == 4 else g
                outputs = outputs + sum(torch.outer(row, row) for row in rows)
            patches = unfold(image[None], 2, 1, 1, 2)[0].T if layer == "convolution" else feature[None]
            for patch in patches:
                with_one = torch.cat([patch, torch.ones(1, dtype=torch.float64)])
                inputs = inputs + torch.outer(with_one, with_one)
                count += 1
        shape = block.shapes[f"{layer}.weight"]
        wide = torch.kron(outputs / count, inputs) + deviations[f"{layer}.weight"] ** -2 * torch.eye(
            shape[0] * (len(inputs)), dtype=torch.float64
        )
        covariance = torch.linalg.inv(wide)
        # From [outputs, inputs and 1] to weights and then biases.
        places = torch.arange(len(wide)).view(shape[0], -1)
        order = torch.cat([places[:, :-1].flatten(), places[:, -1]])
        torch.testing.assert_close(covariance_of(block), covariance[order][:, order], rtol=1e-8, atol=1e-10)


def test_kronecker_of_one_image_and_one_layer_is_exact():
    network = nn.Sequential(nn.Flatten(), nn.Linear(4, 3)).double().eval()
    weights, x = networks.weights_of(network), torch.rand(1, 1, 2, 2, dtype=torch.float64)
    deviations = {"1.weight": 0.7, "1.bias": 0.7}
    [block] = curvature.kronecker(network, weights, x, deviations)
    torch.testing.assert_close(
        covariance_of(block), covariance_of(curvature.full(network, weights, x, deviations)), rtol=1e-9, atol=1e-12
    )


@pytest.fixture(scope="module")
def task() -> Task:
    generator = torch.Generator().manual_seed(0)
    y = torch.arange(60) % CLASSES
    x = 0.2 * torch.rand(60, 1, 6, 6, generator=generator) + 0.3 * y[:, None, None, None]
    settings = {"architecture": "resnet20", "width": 2, "blocks": 1}
    plain = Task(settings, x[:40], y[:40], x[40:], y[40:], classes=CLASSES, seed=3)
    options = {"prior": "lecun", "epochs": 60, "learning_rate": 0.02, "batch_size": 20}
    fit = catalog.load("trainings", "maximum_a_posteriori")(plain, **options)
    return replace(plain, start=Posterior(plain.network(), {name: value[None] for name, value in fit.weights.items()}))


def laplace(task: Task, **options):
    return catalog.load("trainings", "laplace")(task, **({"prior": "lecun", "draws": 4, "start": "map"} | options))


@pytest.mark.parametrize("weights", ["last_layer", "all"])
@pytest.mark.parametrize("structure", ["full", "kronecker", "diagonal"])
def test_draws_are_nested_and_share_what_is_not_drawn(weights, structure, task, tmp_path):
    few, many = (laplace(task, weights=weights, structure=structure, draws=draws) for draws in (2, 4))
    again, other = laplace(task, weights=weights, structure=structure), laplace(replace(task, seed=4), weights=weights)
    last = {"linear.weight", "linear.bias"}
    drawn = last if weights == "last_layer" else set(networks.parameters_of(task.network()))
    start = next(iter(task.start))
    for name, value in many.weights.items():
        assert torch.equal(value, again.weights[name])
        assert torch.equal(value[:2], few.weights[name])
        assert torch.equal(value, start[name].expand_as(value)) != (name in drawn)
    assert not torch.equal(many.weights["linear.weight"], other.weights["linear.weight"])
    posterior.save(tmp_path / "w.safetensors", many.weights, many.kind, task.about(), 0)
    loaded = posterior.load(tmp_path / "w.safetensors", 3)
    shared = {name for name, stack in loaded.weights.items() if posterior.is_shared(stack)}
    assert shared == set(many.weights) - drawn
    assert many.kind == DRAWS
    for count in (1, 3):
        first = Posterior(task.network(), {name: value[:count] for name, value in many.weights.items()})
        found = posterior.accuracy(first, task.validation_x, task.validation_y)
        assert many.history[count - 1] == {"draws": count, "validation_accuracy": pytest.approx(found)}


def test_the_last_layer_has_the_exact_hessian(task):
    """For a linear layer the Gauss-Newton matrix is the Hessian of the whole network's potential in that layer."""
    network, start = task.network(), next(iter(task.start))
    prior = priors.prior_of(network, "lecun")
    last = last_layer.last_layer_of(task, start, prior)
    block = curvature.full(last.task.network(), last.weights, last.task.x, last.prior.deviations)
    names = ["linear.weight", "linear.bias"]
    start = {name: value.double() for name, value in start.items()}
    network.double()

    def potential(weight: Tensor, bias: Tensor) -> Tensor:
        logits = functional_call(network, start | {"linear.weight": weight, "linear.bias": bias}, (task.x.double(),))
        energy = sum(
            (value / prior.deviations[name]).square().sum() / 2 for name, value in zip(names, (weight, bias), strict=True)
        )
        return cross_entropy(logits, task.y, reduction="sum") + energy

    parts = torch.autograd.functional.hessian(potential, tuple(start[name] for name in names))
    sizes = [start[name].numel() for name in names]
    hessian = torch.cat(
        [
            torch.cat([part.reshape(rows, columns) for part, columns in zip(row, sizes, strict=True)], 1)
            for row, rows in zip(parts, sizes, strict=True)
        ]
    )
    torch.testing.assert_close(covariance_of(block), torch.linalg.inv(hessian), rtol=1e-4, atol=1e-7)


def test_what_is_too_large_or_starts_from_several_is_refused(task, monkeypatch):
    monkeypatch.setattr(curvature, "MOST_IN_FULL", 100)
    with pytest.raises(
        TrainingError, match=r"structure: full would need a matrix of [\d,]+ rows .*; it may have 100; take kron"
    ):
        laplace(task, structure="full", weights="all")
    two = Posterior(
        task.start.network, {name: value.expand(2, *value.shape[1:]) for name, value in task.start.weights.items()}
    )
    with pytest.raises(TrainingError, match="start has 2 draws; name a training with one, a point estimate"):
        laplace(replace(task, start=two))


# ---------------------------------------------------------------- last-layer HMC


def hmc(task: Task, **options):
    settings = {
        "prior": "lecun",
        "chains": 2,
        "draws": 8,
        "warmup": 3,
        "step_size": 0.1,
        "leapfrog_steps": 5,
        "start": "map",
    }
    return catalog.load("trainings", "last_layer_hmc")(task, **(settings | options))


def test_hmc_of_the_last_layer_samples_its_posterior():
    """Against importance sampling of the whole network's density in that layer, which has nine parameters."""
    generator = torch.Generator().manual_seed(0)
    x, y = torch.rand(30, 1, 2, 2, generator=generator), torch.arange(30) % CLASSES
    task = Task({"architecture": "fc2", "width": 2}, x, y, x, y, classes=CLASSES, seed=3)
    task = replace(task, start=posterior.point(task.network(seed=1)))
    fit = hmc(task, draws=1000, warmup=50, step_size=0.2, leapfrog_steps=6)
    assert min(fit.diagnostics["acceptance"]) > 0.7
    assert fit.diagnostics["r_hat_95"] < 1.05

    network, start = task.network().double(), {name: value.double() for name, value in next(iter(task.start)).items()}
    prior, names = priors.prior_of(network, "lecun"), ["5.weight", "5.bias"]
    like = {name: start[name] for name in names}

    def energy(vector: Tensor) -> Tensor:
        last = networks.by_name(vector, like)
        logits = functional_call(network, start | last, (x.double(),))
        of_layer = sum((value / prior.deviations[name]).square().sum() / 2 for name, value in last.items())
        return cross_entropy(logits, y, reduction="sum") + of_layer

    mode = networks.flat(like).requires_grad_()
    optimiser = torch.optim.LBFGS([mode], max_iter=100, line_search_fn="strong_wolfe")
    optimiser.step(lambda: (optimiser.zero_grad(), (value := energy(mode)).backward(), value)[-1])
    mode = mode.detach()
    root = torch.linalg.cholesky(torch.autograd.functional.hessian(energy, mode)).T
    noise = torch.randn(20_000, len(mode), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    proposed = mode + 1.1 * torch.linalg.solve_triangular(root, noise.T, upper=True).T
    share = (noise.square().sum(1) / 2 - torch.func.vmap(energy)(proposed)).softmax(0)
    assert 1 / share.square().sum() > 5000
    mean = share @ proposed
    deviation = (share @ (proposed - mean).square()).sqrt()
    drawn = torch.cat([fit.weights[name].flatten(1) for name in names], 1).double()
    # At least 300 effective draws: standard errors of 6 % of a deviation, and of 4 % of its size.
    assert bool(((drawn.mean(0) - mean).abs() < 0.2 * deviation).all())
    assert bool(((drawn.std(0) / deviation - 1).abs() < 0.15).all())


def test_hmc_of_the_last_layer_repeats_itself_and_shares_all_other_weights(task):
    first, second = hmc(task), hmc(task)
    start = next(iter(task.start))
    for name, value in first.weights.items():
        assert torch.equal(value, second.weights[name])
        assert len(value) == 8
        if not name.startswith("linear."):
            assert torch.equal(value[0], start[name])
            assert value.stride(0) == 0
    whole = Posterior(task.network(), first.weights)
    assert first.history[-1]["validation_accuracy"] == posterior.accuracy(whole, task.validation_x, task.validation_y)
    with pytest.raises(TrainingError, match="7 draws cannot be shared by 2 chains"):
        hmc(task, draws=7)


def test_a_network_without_a_last_linear_layer_is_refused():
    x, y = torch.rand(6, 3, 32, 32), torch.arange(6) % 2
    at = Task({"architecture": "torchvision", "name": "squeezenet1_1"}, x, y, x, y, classes=2, seed=0)
    start = posterior.point(at.network())
    with pytest.raises(TrainingError, match="torchvision does not end in a linear layer"):
        laplace(replace(at, start=start))


# ---------------------------------------------------------------- SVI from a start


def test_svi_starts_at_a_point_with_deviations_relative_to_its_weights(task):
    options = {"prior": "lecun", "epochs": 1, "learning_rate": 1e-9, "batch_size": 40, "initial_scale": 0.2}
    svi = catalog.load("trainings", "svi")
    moped = svi(task, **options, start="map", initial_scale_of="weights").weights
    plain, fresh = svi(task, **options, start="map").weights, svi(task, **options).weights
    start, deviations = next(iter(task.start)), priors.prior_of(task.network(), "lecun").deviations
    for name, sigma in deviations.items():
        torch.testing.assert_close(moped[f"{name}.loc"], start[name], rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(
            moped[f"{name}.scale"], (0.2 * start[name].abs()).clamp(min=0.002 * sigma), rtol=1e-4, atol=0
        )
        torch.testing.assert_close(plain[f"{name}.scale"], torch.full_like(start[name], 0.2 * sigma), rtol=1e-4, atol=0)
    assert not torch.allclose(fresh["conv1.weight.loc"], start["conv1.weight"])
    # One batch has passed, of which the running averages take a tenth.
    expected = 0.9 * start["bn1.running_mean"] + 0.1 * task.network().bn1.running_mean
    assert (moped["bn1.running_mean"] - expected).abs().max() < 0.1
