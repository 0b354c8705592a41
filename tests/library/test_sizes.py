"""What no machine is expected to hold is refused before any of it is made, users' own networks included."""

from __future__ import annotations

import resource

import pytest
import torch
from torch import nn

from resilience import networks, posterior, sizes
from resilience.posterior import MEAN_FIELD
from resilience.sizes import SizeError

FC2 = {"architecture": "fc2"}


def held() -> int:
    """The most memory that this process has held so far, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


@pytest.mark.parametrize(
    ("settings", "shape", "sentence"),
    [
        (FC2 | {"width": 10**5}, (1, 8, 8), r"10,007,600,010 weights \(40 GB\); one may have 1,000,000,000 \(4 GB\)"),
        (FC2 | {"width": 16384}, (3, 4096, 4096), r"824,902,352,906 weights \(3\.3 TB\); .* make it narrower"),
        ({"architecture": "conv", "width": 10**9}, (1, 28, 28), r"weights \(3\.56 TB\)"),
        (FC2 | {"width": 10**12}, (1, 8, 8), "more weights than can be counted; one may have"),
    ],
)  # fmt: skip
def test_a_network_that_fits_nowhere_is_refused_without_any_of_it_being_made(settings, shape, sentence):
    before = held()
    with pytest.raises(SizeError, match=sentence):
        networks.build(settings, shape, 10)
    assert held() - before < 10**8


OWN = """
import torch
from torch import nn
from resilience.catalog import entry
from resilience.parameters import Count

@entry(layers=(1,))
def plain(shape, classes, *, width: Count):
    layer = nn.Linear(width, classes)
    READS
    return nn.Sequential(nn.Flatten(), layer)
"""


@pytest.mark.parametrize(
    "reads",
    [
        "pass",
        "torch.nn.init.orthogonal_(layer.weight)",
        "layer.weight.data /= layer.weight.detach().std().item()",
        "layer.weight.detach().numpy()",
    ],
)
def test_one_of_ones_own_is_measured_too_and_may_read_its_weights(reads, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own.py").write_text(OWN.replace("READS", reads))
    network = networks.build({"architecture": "own.py:plain", "width": 16}, (1, 4, 4), 2, seed=3)
    assert not network[1].weight.is_meta
    assert network[1].weight.std() > 0
    if reads == "pass":
        with pytest.raises(SizeError, match=r"2,000,000,002 weights \(8 GB\)"):
            networks.build({"architecture": "own.py:plain", "width": 10**9}, (1, 4, 4), 2)


def test_being_measured_leaves_the_initial_weights_as_they_were():
    torch.manual_seed(5)
    expected = nn.Linear(4, 8).weight
    before = torch.random.get_rng_state()
    built = networks.build({"architecture": "fc2", "width": 8}, (1, 2, 2), 2, seed=5)
    assert torch.equal(built[1].weight, expected)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_draws_that_fit_nowhere_are_refused():
    network = networks.build({"architecture": "fc2", "width": 512}, (1, 28, 28), 10)
    sizes.refuse_draws(network, 1000)
    with pytest.raises(
        SizeError, match=r"15,000 draws of 669,706 weights take 40\.2 GB; .* 10,000,000,000 \(40 GB\); take fewer"
    ):
        sizes.refuse_draws(network, 15_000)


def test_draws_from_a_distribution_are_refused_before_they_are_drawn(tmp_path):
    settings = {"architecture": "fc2", "width": 8}
    network = networks.build(settings, (1, 4, 4), 2)
    normal = {
        name: value for key, at in network.state_dict().items() for name, value in ((f"{key}.loc", at), (f"{key}.scale", at))
    }
    posterior.save(tmp_path / "w.safetensors", normal, MEAN_FIELD, {**settings, "shape": [1, 4, 4], "classes": 2}, seed=0)
    assert len(posterior.load(tmp_path / "w.safetensors", 3)) == 3
    with pytest.raises(SizeError, match=r"^100,000,000 draws of 226 weights take 90\.4 GB"):
        posterior.load(tmp_path / "w.safetensors", 10**8)
