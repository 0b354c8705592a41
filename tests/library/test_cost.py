"""What computations cost, counted: products, memory and imports. Time is measured in ``benchmarks/``, never here."""

from __future__ import annotations

import ast
import subprocess
import sys
import weakref

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from resilience import lrp_rules, networks
from resilience.attacks.gradient import LossGradient
from resilience.explanations import lrp
from resilience.graphs import graphs_of
from tests.conftest import ROOT, double_network, noisy_posterior

SHAPE = (1, 8, 8)
PRODUCTS = ("mm", "addmm", "bmm", "convolution", "convolution_backward")
IMAGES = 6


class Cost(TorchDispatchMode):
    """Counts products, and the bytes of tensors that live at once."""

    def __init__(self):
        super().__init__()
        self.products, self.peak, self._sizes = 0, 0, {}

    def __torch_dispatch__(self, function, types, arguments=(), options=None):
        made = function(*arguments, **(options or {}))
        self.products += function.overloadpacket.__name__ in PRODUCTS
        for tensor in tree_leaves(made):
            if isinstance(tensor, Tensor):
                storage = tensor.untyped_storage()
                if storage.data_ptr() not in self._sizes:
                    self._sizes[storage.data_ptr()] = storage.nbytes()
                    weakref.finalize(storage, self._sizes.pop, storage.data_ptr(), None)
        self.peak = max(self.peak, sum(self._sizes.values()))
        return made


def posterior(architecture: str, draws: int):
    network = networks.build({"architecture": architecture, "width": 16}, SHAPE, 10)
    return noisy_posterior(double_network(list(network), seed=0), draws)


def images(number: int = IMAGES) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.rand(number, *SHAPE, generator=generator, dtype=torch.float64), torch.arange(number) % 10


def cost_of_maps(architecture: str, draws: int, rule=None, layers=None) -> Cost:
    model = posterior(architecture, draws)
    x, y = images()
    graphs_of(model, SHAPE)  # A network is compared with its stack once, which is no cost of its maps.
    with Cost() as cost:
        lrp.heat_maps(model, x, y, rule or lrp_rules.epsilon(), layers or networks.learnable_layers(model.network))
    return cost


def cost_of_gradient(architecture: str, draws: int) -> Cost:
    gradient = LossGradient(posterior(architecture, draws), SHAPE, "likelihood")
    x, y = images()
    with Cost() as cost:
        gradient(x, y)
    return cost


@pytest.fixture
def chunks(monkeypatch):
    """Lets a chunk hold only two images."""
    monkeypatch.setattr("resilience.graphs.LARGEST_CHUNK", 2)
    monkeypatch.setattr("resilience.explain.chunk_of", lambda *_: 2)
    monkeypatch.setattr("resilience.attacks.gradient.chunk_of", lambda *_: 2)


@pytest.mark.parametrize("architecture", ["fc2", "conv"])
def test_output_map_takes_one_product_per_layer_up_and_one_down(architecture):
    """The last layer needs none down: a single class is explained, so a row of its weights is enough."""
    shapes = 3  # one image that finds out the shapes goes up as well
    for draws in (1, 4):
        output = networks.learnable_layers(posterior(architecture, 1).network)[-1:]
        assert cost_of_maps(architecture, draws, layers=output).products <= 2 * shapes + draws * (3 + 2)


@pytest.mark.parametrize("architecture", ["fc2", "conv"])
def test_inner_layers_need_no_further_pass_up(architecture):
    """Maps of inner layers join the pass down: three layers cost one more product, not two more passes."""
    few, many = (cost_of_maps(architecture, draws).products for draws in (1, 5))
    assert (many - few) / 4 <= 3 + 2 + 1


@pytest.mark.parametrize("architecture", ["fc2", "conv"])
def test_gradient_takes_one_product_per_layer_up_and_one_down(architecture):
    few, many = (cost_of_gradient(architecture, draws).products for draws in (1, 5))
    assert (many - few) / 4 == 3 + 3


@pytest.mark.parametrize("cost_of", [cost_of_maps, cost_of_gradient])
@pytest.mark.parametrize("architecture", ["fc2", "conv"])
def test_memory_does_not_grow_with_draws(architecture, cost_of):
    """But for the weights: those of each draw, and once more in the order in which they are used."""
    weights = sum(value[0].nbytes for value in posterior(architecture, 1).weights.values())
    few, many = (cost_of(architecture, draws).peak for draws in (2, 32))
    assert many - few <= 30 * 2 * weights


@pytest.mark.usefixtures("chunks")
def test_memory_of_maps_grows_with_images_only_by_what_goes_in_and_out():
    model = posterior("conv", 2)
    peaks = {}
    for number in (8, 64):
        x, y = images(number)
        with Cost() as cost:
            lrp.heat_maps(model, x, y, lrp_rules.epsilon(), ("0", "3", "7"))
        peaks[number] = cost.peak
    of_one_image = 64 * 8 * (1 + 3 + 3)
    assert peaks[64] - peaks[8] <= 56 * of_one_image


#: Modules that take long to import, and the scripts that may.
HEAVY = {"torch", "pandas", "scipy", "matplotlib", "pyro", "snakemake", "sklearn", "torchvision"}
ALLOWED = {
    "dataset": set(),
    "derive": set(),
    "points": set(),
    "train": {"torch", "pandas"},
    "attack": {"torch"},
    "explain": {"torch"},
    "explain_dataset": {"torch"},
    "predict": {"torch"},
    "measure": {"pandas"},
    "measure_explanation": {"torch"},
    "measure_network": {"torch"},
    "summary": {"scipy"},
    "comparisons": {"pandas", "scipy"},
    "claims": set(),
    "outcomes": set(),
    "figure": {"matplotlib", "pandas"},
    "report": set(),
    "explore": set(),
    "times": set(),
    "verify": set(),
    "history": set(),
    "transfer": set(),
    "match_size": set(),
    "cancellation": {"torch", "pandas"},
    "retrain": {"torch", "pandas"},
    "manifold": {"torch", "pandas"},
    "scores": {"scipy"},
    "reproduction": {"pandas", "scipy"},
    "reproduction_figure": {"matplotlib", "pandas", "scipy"},
}


def test_every_script_is_counted():
    assert {path.stem for path in (ROOT / "workflow/scripts").glob("*.py")} == set(ALLOWED)


@pytest.mark.parametrize("script", ALLOWED)
def test_a_job_imports_only_what_it_needs(script):
    tree = ast.parse((ROOT / f"workflow/scripts/{script}.py").read_text(encoding="utf-8"))
    imports = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
    program = "\n".join(ast.unparse(node) for node in imports) + f"\nimport sys\nprint(*{HEAVY!r} & set(sys.modules))"
    said = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, encoding="utf-8").stdout
    assert set(said.split()) <= ALLOWED[script]


def test_cost_sees_what_it_counts():
    layer = nn.Linear(4, 4)
    with Cost() as cost, torch.no_grad():
        kept = layer(torch.zeros(2, 4))
        layer(kept)
    assert cost.products == 2
    assert cost.peak >= 3 * 32
