"""LRP against a slow dense-matrix version and against zennit, in double precision."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from zennit.attribution import Gradient
from zennit.composites import LayerMapComposite
from zennit.core import BasicHook, Stabilizer
from zennit.rules import AlphaBeta, Epsilon, Gamma, Pass
from zennit.types import Activation, AvgPool, Convolution, Linear

from resilience import graphs, lrp_rules, networks
from resilience.calls import LayerError
from resilience.explain import explained_classes
from resilience.explanations import lrp
from resilience.posterior import Posterior, point
from resilience.reading import read
from tests.conftest import double_network, noisy_posterior
from tests.library.lrp_stacks import PUBLISHED, RULES, STABILISER, STACKS, conv_stack, end_of, images, linear_stack

# ---------------------------------------------------------------- the slow version


def dense(layer: nn.Module, shape: torch.Size) -> tuple[torch.Tensor, torch.Tensor]:
    """A linear layer as a matrix [outputs, inputs] and a bias [outputs], one basis vector at a time."""
    size = shape.numel()
    bias = layer(torch.zeros(1, *shape, dtype=torch.float64)).flatten()
    columns = [layer(row.view(1, *shape)).flatten() - bias for row in torch.eye(size, dtype=torch.float64)]
    return torch.stack(columns, 1), bias


def stabilised(z: torch.Tensor, amount: float) -> torch.Tensor:
    return torch.tensor([value + amount if value >= 0 else value - amount for value in z], dtype=torch.float64)


def shares(rule: str, a: torch.Tensor, w: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """How much of the relevance of output k goes to input j: [outputs, inputs]."""
    if rule.startswith("epsilon"):
        parts = a * w
        return parts / stabilised(parts.sum(1) + b, 0.1)[:, None]
    if rule == "squared_gamma":
        parts, bias = a * (w + 0.3 * w * w.clamp(min=0)), b + 0.3 * b * b.clamp(min=0)
        return parts / stabilised(parts.sum(1) + bias, STABILISER)[:, None]
    if rule == "alpha1beta0_without_bias":
        parts = (a * w).clamp(min=0)
        return parts / stabilised(parts.sum(1), STABILISER)[:, None]
    if rule == "gamma":
        parts, bias = a * (w + 0.3 * w.clamp(min=0)), b + 0.3 * b.clamp(min=0)
        return parts / stabilised(parts.sum(1) + bias, STABILISER)[:, None]
    parts = (a * w).clamp(min=0)
    return parts / stabilised(parts.sum(1) + b.clamp(min=0), STABILISER)[:, None]


def slow_relevance(network: nn.Sequential, x: torch.Tensor, end: int, relevance: torch.Tensor, rule: str) -> torch.Tensor:
    """Relevance of one image from that of the output of ``network[:end]``."""
    inputs = [x]
    for layer in network[:end]:
        inputs.append(layer(inputs[-1]))
    for layer, a in zip(reversed(network[:end]), reversed(inputs[:-1]), strict=True):
        if isinstance(layer, nn.ReLU | nn.LeakyReLU | nn.Flatten):
            relevance = relevance.view(a.shape)
            if rule.endswith("by slope") and not isinstance(layer, nn.Flatten):
                below = torch.full_like(a, getattr(layer, "negative_slope", 0.0))
                relevance = relevance * torch.where(a > 0, torch.ones_like(a), below)
        elif isinstance(layer, nn.MaxPool2d):
            z = layer(a)
            _, winners = nn.functional.max_pool2d(
                a, layer.kernel_size, layer.stride, layer.padding, layer.dilation, return_indices=True
            )
            moved = torch.zeros_like(a).flatten(2)
            for channel in range(z.shape[1]):
                for winner, value in zip(winners[0, channel].flatten(), relevance[0, channel].flatten(), strict=True):
                    moved[0, channel, winner] += value
            relevance = moved.view(a.shape)
        else:
            w, b = dense(layer, a.shape[1:])
            relevance = (relevance.flatten() @ shares(rule, a.flatten(), w, b)).view(a.shape)
    return relevance


def slow_maps(
    network: nn.Sequential,
    x: torch.Tensor,
    explained: torch.Tensor,
    layers: tuple[str, ...],
    rule: str,
    unit: str,
    start: str,
):
    found = {}
    with torch.no_grad():
        for layer in layers:
            end = len(network) if layer == networks.learnable_layers(network)[-1] else end_of(network, layer)
            maps = []
            for image, label in zip(x, explained, strict=True):
                activation = network[:end](image[None])
                flat = activation.flatten()
                if end < len(network) and unit == "all":
                    begin = flat
                else:
                    chosen = label if end == len(network) else flat.argmax()
                    begin = torch.zeros_like(flat)
                    begin[chosen] = flat[chosen] if start == "value" else 1.0
                maps.append(slow_relevance(network, image[None], end, begin.view(activation.shape), rule)[0])
            found[layer] = torch.stack(maps)
    return found


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("stack", STACKS)
def test_every_rule_equals_its_formula(stack, rule, bias, seed):
    build, shape = STACKS[stack]
    network, x = double_network(build(bias), seed), images(shape, seed)
    layers = networks.learnable_layers(network)
    explained = torch.arange(len(x)) % network(x).shape[1]
    fast = lrp.heat_maps(point(network), x, explained, RULES[rule], layers)
    slow = slow_maps(network, x, explained, layers, rule, "strongest", "one")
    for layer in layers:
        torch.testing.assert_close(fast[layer], slow[layer], rtol=0, atol=1e-12 * max(1, float(slow[layer].abs().max())))


@pytest.mark.parametrize("unit", ["strongest", "all"])
@pytest.mark.parametrize("rule", PUBLISHED)
@pytest.mark.parametrize("stack", STACKS)
def test_rules_of_the_published_code_equal_its_formulas(stack, rule, unit):
    build, shape = STACKS[stack]
    network, x = double_network(build(True), 0), images(shape, 0)
    layers = networks.learnable_layers(network)
    explained = torch.arange(len(x)) % network(x).shape[1]
    fast = lrp.heat_maps(point(network), x, explained, PUBLISHED[rule], layers, unit)
    slow = slow_maps(network, x, explained, layers, rule, unit, "one")
    for layer in layers:
        torch.testing.assert_close(fast[layer], slow[layer], rtol=0, atol=1e-12 * max(1, float(slow[layer].abs().max())))


@pytest.mark.parametrize("unit", ["strongest", "all"])
@pytest.mark.parametrize("start", ["one", "value"])
@pytest.mark.parametrize("stack", STACKS)
def test_every_start_equals_its_definition(stack, start, unit):
    build, shape = STACKS[stack]
    network, x = double_network(build(True), 3), images(shape, 3)
    layers = networks.learnable_layers(network)
    explained = torch.zeros(len(x), dtype=torch.int64)
    fast = lrp.heat_maps(point(network), x, explained, RULES["epsilon"], layers, unit, start)
    slow = slow_maps(network, x, explained, layers, "epsilon", unit, start)
    for layer in layers:
        torch.testing.assert_close(fast[layer], slow[layer], rtol=0, atol=1e-12 * max(1, float(slow[layer].abs().max())))


# ---------------------------------------------------------------- zennit


class TextbookGamma(BasicHook):
    """The gamma rule of Montavon et al. 2019 on zennit's machinery; its own Gamma is a generalisation."""

    def __init__(self, gamma: float, stabiliser: float):
        stabilise = Stabilizer.ensure(stabiliser)
        super().__init__(
            input_modifiers=[lambda a: a],
            param_modifiers=[lambda p, _: p + gamma * p.clamp(min=0)],
            output_modifiers=[lambda z: z],
            gradient_mapper=lambda gradient, outputs: [gradient / stabilise(output) for output in outputs],
            reducer=lambda inputs, gradients: inputs[0] * gradients[0],
        )


ZENNIT = {
    "epsilon": Epsilon(epsilon=0.1),
    "gamma": TextbookGamma(0.3, STABILISER),
    "alpha1beta0": AlphaBeta(alpha=1, beta=0, stabilizer=STABILISER),
}
#: zennit sees no weights in an average-pooling, so its gamma rule lacks the factor 1.3 of z before the stabiliser is added.
ZENNIT_POOLING = ZENNIT | {"gamma": Epsilon(epsilon=STABILISER / 1.3)}


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("stack", ["conv", "strided", "linear"])
def test_every_rule_equals_zennit(stack, rule, bias, seed):
    build, shape = STACKS[stack]
    network, x = double_network(build(bias), seed), images(shape, seed)
    layers = networks.learnable_layers(network)
    explained = torch.arange(len(x)) % network(x).shape[1]
    fast = lrp.heat_maps(point(network), x, explained, RULES[rule], layers)
    rules = [(Activation, Pass()), ((Linear, Convolution), ZENNIT[rule]), (AvgPool, ZENNIT_POOLING[rule])]
    composite = LayerMapComposite(rules)
    for layer in layers:
        truncated = network[: end_of(network, layer)]
        flat = truncated(x).flatten(1)
        chosen = explained if len(truncated) == len(network) else flat.argmax(1)
        begin = torch.zeros_like(flat).scatter(1, chosen[:, None], 1.0).view(truncated(x).shape)
        with Gradient(truncated, composite) as attributor:
            _, peer = attributor(x.clone(), begin)
        torch.testing.assert_close(fast[layer], peer, rtol=0, atol=1e-12 * max(1, float(peer.abs().max())))


def test_gamma_equals_zennits_own_where_it_is_the_textbooks():
    """For inputs that are not negative and an output that is positive, the generalised gamma rule is the textbook's."""
    network = double_network([nn.Flatten(), nn.Linear(12, 6)], 0)
    x = images((1, 3, 4), 0, count=20)
    x = x[network(x).amax(1) > 0]
    assert len(x) > 5
    explained = network(x).argmax(1)
    fast = lrp.heat_maps(point(network), x, explained, lrp_rules.gamma(gamma=0.3, stabiliser=STABILISER), ("1",))["1"]
    composite = LayerMapComposite([(Linear, Gamma(gamma=0.3, stabilizer=STABILISER))])
    with Gradient(network, composite) as attributor:
        _, peer = attributor(x.clone(), nn.functional.one_hot(explained, 6).double())
    torch.testing.assert_close(fast, peer, rtol=0, atol=1e-12)


# ---------------------------------------------------------------- properties


def test_epsilon_conserves_relevance_without_biases():
    network, x = double_network(conv_stack(False), 0), images((1, 8, 8), 0)
    explained = network(x).argmax(1)
    maps = lrp.heat_maps(point(network), x, explained, lrp_rules.epsilon(epsilon=1e-12), networks.learnable_layers(network))
    for relevance in maps.values():
        torch.testing.assert_close(relevance.flatten(1).sum(1), torch.ones(len(x), dtype=torch.float64), rtol=1e-8, atol=0)


def test_the_published_alpha_beta_stabilises_only_where_nothing_contributes():
    """R_j = Σ_k (a_j w_jk)⁺ / (z_k + 1e-6 [z_k = 0]) R_k, also where z is far smaller than 1e-6, in float32."""
    network = nn.Sequential(nn.Flatten(), nn.Linear(12, 3, bias=False)).eval()
    network[1].weight.data *= torch.tensor([[1e-7], [1.0], [0.0]])
    x, explained = images((1, 3, 4), 0, 3).float(), torch.arange(3)
    found = lrp.heat_maps(point(network), x, explained, lrp_rules.alpha1beta0_without_bias(), ("1",))["1"]
    parts = (x.flatten(1) * network[1].weight.detach()[explained]).clamp(min=0)
    z = parts.sum(1, keepdim=True)
    torch.testing.assert_close(found.flatten(1), parts / (z + 1e-6 * (z == 0)), rtol=1e-6, atol=0)
    assert bool((found[2] == 0).all())


def test_where_nothing_contributes_large_relevance_cannot_overflow():
    """A unit that its bias alone drives has relevance and z = 0: R / 1e-30 is infinite for R = 1e9, and 0 · ∞ no number."""
    layers = [nn.Conv2d(1, 2, 2), nn.ReLU(), nn.Flatten(), nn.Linear(8, 2, bias=False)]
    network = nn.Sequential(*layers).eval()
    network[0].weight.data = torch.tensor([[[[1.0, 1.0], [1.0, 1.0]]], [[[1.0, 1.0], [1.0, 1.0]]]])
    network[0].bias.data.fill_(1)
    network[3].weight.data = torch.full((2, 8), 1e9)
    x = torch.zeros(1, 1, 3, 3)
    x[..., 2, 2] = 1.0
    rule, target = lrp_rules.alpha1beta0_without_bias(), torch.tensor([0])
    maps = lrp.heat_maps(point(network), x, target, rule, ("0", "3"), "all", "value")
    assert bool(torch.isfinite(maps["0"]).all())
    torch.testing.assert_close(maps["3"], x * 4e9, rtol=1e-6, atol=0)


def test_alpha1beta0_gives_no_negative_relevance():
    network, x = double_network(conv_stack(True), 1), images((1, 8, 8), 1)
    maps = lrp.heat_maps(point(network), x, network(x).argmax(1), RULES["alpha1beta0"], networks.learnable_layers(network))
    assert all(bool((relevance >= 0).all()) for relevance in maps.values())


@pytest.mark.parametrize("rule", RULES)
def test_map_of_a_posterior_is_the_mean_of_the_maps_of_its_draws(rule):
    network, x = double_network(conv_stack(True), 0), images((1, 8, 8), 0)
    posterior = noisy_posterior(network, draws=5)
    explained = torch.arange(len(x)) % 3
    together = lrp.heat_maps(posterior, x, explained, RULES[rule], ("0", "3", "7"))
    alone = [
        lrp.heat_maps(
            Posterior(network, {name: value[None] for name, value in draw.items()}),
            x,
            explained,
            RULES[rule],
            ("0", "3", "7"),
        )
        for draw in posterior
    ]
    for layer, relevance in together.items():
        torch.testing.assert_close(relevance, sum(maps[layer] for maps in alone) / 5, rtol=0, atol=1e-12)


def test_chunks_and_threads_change_nothing(monkeypatch):
    from resilience import computing

    network, x = double_network(conv_stack(True), 0), images((1, 8, 8), 0, count=23)
    posterior = noisy_posterior(network, draws=3)
    explained = torch.zeros(len(x), dtype=torch.int64)
    whole = lrp.heat_maps(posterior, x, explained, RULES["epsilon"], ("0", "3", "7"))
    monkeypatch.setattr(graphs, "LARGEST_CHUNK", 5)
    alone = lrp.heat_maps(posterior, x, explained, RULES["epsilon"], ("0", "3", "7"))
    monkeypatch.setattr(computing, "_workers", 3)
    threaded = lrp.heat_maps(posterior, x, explained, RULES["epsilon"], ("0", "3", "7"))
    for layer in whole:
        torch.testing.assert_close(alone[layer], whole[layer], rtol=0, atol=1e-13)
        assert torch.equal(alone[layer], threaded[layer])


def test_explained_classes():
    network, x = double_network(linear_stack(False), 0), images((1, 3, 4), 0, count=30) - 0.5
    posterior = noisy_posterior(network, draws=4, noise=0.5)
    attacked = x + 0.3 * torch.randn(x.shape, generator=torch.Generator().manual_seed(1), dtype=x.dtype)
    probabilities = {
        key: torch.stack([networks.logits(network, draw, value).softmax(1) for draw in posterior])
        for key, value in {"x": x, "attacked": attacked}.items()
    }
    label = torch.arange(30) % 3
    predicted, clean, own, given = (
        explained_classes(name, posterior, attacked, x, label) for name in ("predicted", "clean", "own", "label")
    )
    assert torch.equal(predicted, probabilities["attacked"].mean(0).argmax(1))
    assert torch.equal(clean, probabilities["x"].mean(0).argmax(1))
    assert torch.equal(own, probabilities["attacked"].argmax(2))
    assert torch.equal(given, label)
    assert not torch.equal(predicted, clean)


@pytest.mark.parametrize(
    ("layers", "name"),
    [
        ([nn.Flatten(), nn.Linear(4, 2), nn.Softmax(1)], r"layer 2 \(Softmax\) computes softmax"),
        ([nn.Conv2d(1, 2, 1), nn.GroupNorm(1, 2)], r"layer 1 \(GroupNorm\) computes group_norm"),
        ([nn.AvgPool2d(2, ceil_mode=True)], r"layer 0 \(AvgPool2d\) pools by windows of different sizes"),
        ([nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2, track_running_stats=False)], r"layer 1 \(BatchNorm2d\) normalises by the"),
        ([nn.Conv2d(1, 1, 1), nn.Flatten(2)], r"returns \[1, 4\], no vector of logits"),
    ],
)
def test_unknown_layers_are_refused_by_name(layers, name):
    with pytest.raises(LayerError, match=name):
        read(nn.Sequential(*layers).eval(), (1, 2, 2))


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.attend = nn.MultiheadAttention(4, 2, batch_first=True)
        self.head = nn.Linear(4, 3)

    def forward(self, x):
        tokens = x.flatten(2).transpose(1, 2)
        return self.head(self.attend(tokens, tokens, tokens, need_weights=False)[0].mean(1))


def test_attention_is_refused_by_name():
    with pytest.raises(LayerError, match=r"layer attend \(MultiheadAttention\) computes scaled_dot_product_attention"):
        read(Attention().eval(), (4, 3, 3))


def test_networks_that_cannot_be_traced_are_refused():
    with pytest.raises(LayerError, match="Bilinear cannot be traced for a batch of images"):
        read(nn.Bilinear(1, 1, 1), (1, 1, 1))


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("architecture", ["conv", "fc2"])
def test_single_precision_finds_the_same_top_pixels(architecture, rule):
    """At the size of MNIST, the top 20 % of float32 and of float64 agree on at least 99.9 % of the pixels."""
    from resilience.measures.top_pixels import top_pixels

    network = networks.build({"architecture": architecture, "width": 64}, (1, 28, 28), 10, seed=1)
    posterior = noisy_posterior(network, draws=5, noise=0.02)
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(40, 1, 28, 28, generator=generator)
    explained = torch.arange(40) % 10
    layers = networks.learnable_layers(network)
    single = lrp.heat_maps(posterior, x, explained, RULES[rule], layers)
    weights = {name: value.double() for name, value in posterior.weights.items()}
    double = lrp.heat_maps(Posterior(network.double(), weights), x.double(), explained, RULES[rule], layers)
    for layer in layers:
        same = top_pixels(single[layer].numpy(), 20) == top_pixels(double[layer].numpy(), 20)
        assert same.mean() >= 0.999
