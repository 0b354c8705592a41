"""What is measured of heat maps, attacks, chains and trainings."""

from __future__ import annotations

import argparse
from collections.abc import Callable

import torch
from torch import Tensor

from benchmarks import peers
from benchmarks.floor import floor_of
from benchmarks.timing import Row, compare, in_turn
from resilience import catalog, computing, lrp_rules, networks
from resilience.attacks.gradient import LossGradient
from resilience.explanations import lrp
from resilience.graphs import graphs_of
from resilience.networks import Shape
from resilience.posterior import Posterior
from resilience.training import chains, prior
from resilience.training.fit import Task

MNIST: Shape = (1, 28, 28)
RULES = {"epsilon": lrp_rules.epsilon(), "gamma": lrp_rules.gamma(), "alpha1beta0": lrp_rules.alpha1beta0()}
MICROSECONDS = 1e6


def prepare(options: argparse.Namespace) -> None:
    """Set PyTorch up as jobs do, or, with ``--allocator default``, leave freed memory to glibc as other programs do."""
    if options.allocator == "jobs":
        computing.prepare(options.threads)
    else:
        torch.set_num_threads(options.threads)


def posterior_of(architecture: str, width: int, draws: int) -> Posterior:
    """Draws that scatter around initial weights."""
    network = networks.build({"architecture": architecture, "width": width}, MNIST, 10, seed=0)
    generator = torch.Generator().manual_seed(0)
    state = network.state_dict()
    return Posterior(
        network,
        {name: value + 0.02 * torch.randn((draws, *value.shape), generator=generator) for name, value in state.items()},
    )


def data_of(images: int) -> tuple[Tensor, Tensor]:
    """Images that are mostly black, as MNIST's, with labels."""
    generator = torch.Generator().manual_seed(1)
    x = torch.rand(images, *MNIST, generator=generator)
    return torch.where(x > 0.8, x, 0.0), torch.randint(0, 10, (images,), generator=generator)


def lrp_rows(options: argparse.Namespace) -> list[Row]:
    """Heat maps: three rules, the output alone and all layers, against the floor and against peers."""
    prepare(options)
    rows = []
    for architecture in ("conv", "fc2"):
        posterior = posterior_of(architecture, options.width, options.draws)
        x, y = data_of(options.images)
        layers = networks.learnable_layers(posterior.network)
        floor = floor_of(graphs_of(posterior, MNIST)[0], x)
        few = 4

        def ours(rule: str, chosen: tuple[str, ...], posterior=posterior, x=x, y=y) -> Callable[[], object]:  # type: ignore[no-untyped-def]
            return lambda: lrp.heat_maps(posterior, x, y, RULES[rule], chosen)

        subjects: dict[str, Callable[[], object]] = {
            # The last layer is not passed on the way down: one class is explained, so one row of its weights is enough.
            f"{architecture} floor": repeated(floor.passes(spared=1), options.draws),
            f"{architecture} epsilon": ours("epsilon", layers[-1:]),
            f"{architecture} epsilon, all layers": ours("epsilon", layers),
            f"{architecture} gamma": ours("gamma", layers[-1:]),
            f"{architecture} alpha1beta0": ours("alpha1beta0", layers[-1:]),
            f"{architecture} epsilon, zennit": peers.zennit(posterior, x, y),
            f"{architecture} epsilon, captum": peers.captum(posterior, x, y),
            f"{architecture} epsilon, one image at a time": peers.one_at_a_time(posterior, x, y, few),
        }
        seconds = in_turn(subjects, options.repeats)
        slow = f"{architecture} epsilon, one image at a time"
        seconds[slow] = [value * options.images / few for value in seconds[slow]]
        base = f"{architecture} epsilon"
        to = dict.fromkeys(subjects, base) | {base: f"{architecture} floor"}
        del to[f"{architecture} floor"]
        scale = MICROSECONDS / (options.images * options.draws)
        rows += compare("lrp", seconds, scale, "µs per image × draw", to)
    return rows


def attack_rows(options: argparse.Namespace) -> list[Row]:
    """Posterior-predictive gradients against the floor and against autograd."""
    prepare(options)
    rows = []
    for architecture in ("conv", "fc2"):
        posterior = posterior_of(architecture, options.width, options.draws)
        x, y = data_of(options.images)
        gradient = LossGradient(posterior, MNIST, "likelihood")
        floor = floor_of(graphs_of(posterior, MNIST)[0], x)
        subjects: dict[str, Callable[[], object]] = {
            f"{architecture} gradient floor": repeated(floor.passes(), options.draws),
            f"{architecture} gradient": lambda gradient=gradient, x=x, y=y: gradient(x, y),  # type: ignore[misc]
            f"{architecture} gradient, autograd": peers.gradient_by_autograd(posterior, x, y),
        }
        seconds = in_turn(subjects, options.repeats)
        base = f"{architecture} gradient"
        to = {base: f"{architecture} gradient floor", f"{architecture} gradient, autograd": base}
        rows += compare("attack", seconds, MICROSECONDS / (options.images * options.draws), "µs per image × draw", to)
    return rows


def training_rows(options: argparse.Namespace) -> list[Row]:
    """A gradient of a chain against the floor, and an adversarial epoch against a deterministic one."""
    prepare(options)
    points = 6000
    x, y = data_of(points)
    task = Task({"architecture": "fc2", "width": options.width}, x, y, x[:10], y[:10], 10, 0)
    network = task.network()
    potential = chains.potential_energy(task, prior.standard_deviations(network, "he"))
    vector = networks.flat(dict(network.state_dict()))

    def gradient() -> None:
        site = {"weights": vector.clone().requires_grad_()}
        torch.autograd.grad(potential(site), site["weights"])

    a = [x.flatten(1), *(torch.rand(points, options.width) for _ in range(2))]
    z = [torch.rand(points, options.width) for _ in range(2)] + [torch.rand(points, 10)]
    weights = [layer.weight.detach() for layer in (dict(network.named_children())[name] for name in ("1", "3", "5"))]

    def products() -> None:
        for inputs, weight, outputs in zip(a, weights, z, strict=True):
            inputs @ weight.t()
            outputs.t() @ inputs
        for weight, outputs in zip(weights[1:], z[1:], strict=True):
            outputs @ weight

    seconds = in_turn({"fc2 chain floor": products, "fc2 chain gradient": gradient}, options.repeats)
    rows = compare("training", seconds, 1e3, f"ms per gradient, {points} points", {"fc2 chain gradient": "fc2 chain floor"})
    for architecture, count in (("conv", 512), ("fc2", 4096)):
        x, y = data_of(count)
        task = Task({"architecture": architecture, "width": options.width}, x, y, x[:10], y[:10], 10, 0)
        settings = {
            "deterministic": {},
            "adversarial": {"attack": {"method": "fgsm", "epsilon": 0.2}},
            "svi": {"prior": "he"},
        }
        subjects = {
            f"{architecture} {method} epoch": lambda method=method, extra=extra, task=task: catalog.load(
                "trainings", method
            )(  # type: ignore[misc]
                task, epochs=1, **extra
            )
            for method, extra in settings.items()
        }
        seconds = in_turn(subjects, max(3, options.repeats // 3))
        to = {f"{architecture} {method} epoch": f"{architecture} deterministic epoch" for method in ("adversarial", "svi")}
        rows += compare("training", seconds, MICROSECONDS / count, "µs per image", to)
    return rows


def repeated(run: Callable[[], None], times: int) -> Callable[[], None]:
    """The same, several times."""

    def run_again() -> None:
        for _ in range(times):
            run()

    return run_again
