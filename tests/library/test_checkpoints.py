"""Chains that are killed and go on to the same bytes, that tell their cost before they start, and that give up in time."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import pytest
import torch
from pyro.infer import HMC, NUTS

from resilience import networks, posterior, progress
from resilience.training import chains, checkpoints, cost, diagnostics
from resilience.training.fit import TrainingError
from tests.conftest import ROOT
from tests.library.test_cost import Cost
from tests.library.test_training import MAP, task, train

CHAINS, DRAWS, WARMUP = 2, 6, 5
ITERATIONS = CHAINS * (WARMUP + DRAWS)
COMMON = {"prior": "he", "draws": CHAINS * DRAWS, "warmup": WARMUP, "step_size": 0.03, "start": "ensemble"}
METHODS = {
    "hmc": COMMON | {"chains": CHAINS, "leapfrog_steps": 7},
    "nuts": COMMON | {"chains": CHAINS, "max_tree_depth": 4},
    "nuts_on_shards": COMMON | {"shards": CHAINS, "max_tree_depth": 4},
}


class Killed(BaseException):
    """What no training catches."""


@pytest.fixture(scope="module")
def starts():
    return posterior.Posterior(task().network(), train("ensemble", members=CHAINS, of=MAP).weights)


@pytest.fixture
def at(starts, tmp_path, monkeypatch):
    """A task that is kept after every iteration."""
    monkeypatch.setattr(checkpoints, "SECONDS_BETWEEN", 0.0)
    return replace(task(start=starts), checkpoints=tmp_path / "checkpoint", recipe="recipe")


@pytest.fixture
def sampled(monkeypatch):
    """Counts iterations; ``sampled.kill_at`` is the one that is not survived."""

    class Sampled:
        count, kill_at = 0, None

    for kernel in (HMC, NUTS):

        def sample(self, params, usual=kernel.sample):
            Sampled.count += 1
            if Sampled.count == Sampled.kill_at:
                raise Killed
            return usual(self, params)

        monkeypatch.setattr(kernel, "sample", sample)
    return Sampled


def same(first, second) -> bool:
    """Whether two fits have the same bytes."""
    weights = all(
        torch.equal(value, second.weights[name]) and value.dtype == second.weights[name].dtype
        for name, value in first.weights.items()
    )
    return weights and first.history == second.history and first.diagnostics == second.diagnostics


def whole(method, starts, **changes):
    """The fit of a training that nothing interrupts, without checkpoints."""
    return train(method, task(start=starts), **(METHODS[method] | changes))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("moment", [1, 3, WARMUP + 1, WARMUP + 4, WARMUP + DRAWS + 1, ITERATIONS - 2, ITERATIONS])
def test_a_killed_chain_goes_on_to_the_same_bytes(method, moment, at, starts, sampled):
    expected = whole(method, starts)
    sampled.count, sampled.kill_at = 0, moment
    with pytest.raises(Killed):
        train(method, at, **METHODS[method])
    sampled.count, sampled.kill_at = 0, None
    assert same(train(method, at, **METHODS[method]), expected)
    assert sampled.count == ITERATIONS - (moment - 1)


@pytest.mark.parametrize("method", METHODS)
def test_a_chain_may_be_killed_again_and_again(method, at, starts, sampled):
    expected = whole(method, starts)
    while True:
        sampled.count, sampled.kill_at = 0, 4
        try:
            fit = train(method, at, **METHODS[method])
            break
        except Killed:
            continue
    assert same(fit, expected)


def test_a_long_warmup_of_nuts_goes_on_with_its_adaptation(at, starts, sampled):
    """Its schedule has three windows from 20 iterations on."""
    longer = {"warmup": 24, "draws": 8}
    expected = whole("nuts", starts, **longer)
    sampled.count, sampled.kill_at = 0, 23
    with pytest.raises(Killed):
        train("nuts", at, **(METHODS["nuts"] | longer))
    sampled.kill_at = None
    assert same(train("nuts", at, **(METHODS["nuts"] | longer)), expected)


def test_a_job_killed_between_draws_and_state_goes_on(at, starts, monkeypatch):
    expected, usual = whole("hmc", starts), checkpoints.write_tensors

    def write(path, arrays, about):
        if "state" in path.name and about["iteration"] == WARMUP + 3:
            raise Killed
        usual(path, arrays, about)

    monkeypatch.setattr(checkpoints, "write_tensors", write)
    with pytest.raises(Killed):
        train("hmc", at, **METHODS["hmc"])
    monkeypatch.setattr(checkpoints, "write_tensors", usual)
    assert same(train("hmc", at, **METHODS["hmc"]), expected)


PROGRAM = """
import sys
sys.path[:0] = [{source!r}, {root!r}]
import torch
torch.set_num_threads(1)
from dataclasses import replace
from pathlib import Path
from resilience import posterior
from resilience.training import checkpoints
from tests.library.test_training import task, train
checkpoints.SECONDS_BETWEEN = 0.0
at = task(start=posterior.load({start!r}))
train("hmc", replace(at, checkpoints=Path({folder!r}), recipe="recipe"), **{options!r})
"""


def test_a_process_that_is_killed_goes_on(at, starts, tmp_path, sampled, monkeypatch):
    many = METHODS["hmc"] | {"draws": 400}
    start = tmp_path / "start.safetensors"
    posterior.save(start, starts.weights, posterior.DRAWS, at.about(), 0)
    names = {"source": str(ROOT / "src"), "root": str(ROOT), "start": str(start), "folder": str(at.checkpoints)}
    process = subprocess.Popen([sys.executable, "-c", PROGRAM.format(options=many, **names)])
    while not (at.checkpoints / "chain0.draws00003.safetensors").exists():
        assert process.poll() is None
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    monkeypatch.setattr(checkpoints, "SECONDS_BETWEEN", 30.0)
    fit = train("hmc", at, **many)
    assert sampled.count < CHAINS * WARMUP + 400
    assert same(fit, train("hmc", task(start=starts), **many))


@pytest.mark.parametrize("what", ["settings", "seed", "recipe", "data", "start"])
def test_a_checkpoint_of_another_chain_counts_for_nothing(what, at, starts, sampled):
    train("hmc", at, **METHODS["hmc"])
    options, other = METHODS["hmc"], at
    if what == "settings":
        options = options | {"step_size": 0.02}
    elif what == "seed":
        other = replace(at, seed=at.seed + 1)
    elif what == "recipe":
        other = replace(at, recipe="another")
    elif what == "data":
        other = replace(at, x=at.x.flip(3))
    else:
        other = replace(at, start=posterior.Posterior(starts.network, {k: v + 0.01 for k, v in starts.weights.items()}))
    sampled.count = 0
    fit = train("hmc", other, **options)
    assert sampled.count == ITERATIONS
    assert same(fit, train("hmc", replace(other, checkpoints=None), **options))
    assert not same(fit, whole("hmc", starts)) or what == "recipe"


DAMAGES = {
    "shorter": lambda content: content[:-100],
    "another byte": lambda content: content[:-100] + bytes([content[-100] ^ 1]) + content[-99:],
    "no description": lambda content: content.replace(b'{\\"', b'(\\"'),
    "another description": lambda content: content.replace(b'\\"iteration\\": 11', b'\\"iteration\\": 10'),
    "empty": lambda content: b"",
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("file", ["chain1.state", "chain1.draws00002"])
def test_a_damaged_checkpoint_counts_for_nothing(damage, file, at, starts, sampled):
    expected = train("hmc", at, **METHODS["hmc"])
    path = at.checkpoints / f"{file}.safetensors"
    content = path.read_bytes()
    path.write_bytes(DAMAGES[damage](content))
    damaged = path.read_bytes() != content
    assert damaged or damage == "another description", "draws say nothing of iterations"
    sampled.count = 0
    assert same(train("hmc", at, **METHODS["hmc"]), expected)
    assert sampled.count == damaged * (WARMUP + DRAWS), "the other chain is whole"


def test_a_checkpoint_with_a_missing_piece_counts_for_nothing(at, sampled):
    expected = train("hmc", at, **METHODS["hmc"])
    (at.checkpoints / "chain0.draws00001.safetensors").unlink()
    sampled.count = 0
    assert same(train("hmc", at, **METHODS["hmc"]), expected)
    assert sampled.count == WARMUP + DRAWS


def test_a_checkpoint_writes_what_is_new(at, monkeypatch):
    written, usual = [], checkpoints.write_tensors

    def write(path, arrays, about):
        written.append((path.name, arrays))
        usual(path, arrays, about)

    monkeypatch.setattr(checkpoints, "write_tensors", write)
    train("hmc", at, **METHODS["hmc"])
    pieces = [arrays["draws"] for name, arrays in written if "draws" in name]
    assert [piece.shape[0] for piece in pieces] == [1] * CHAINS * DRAWS
    states = {sum(array.nbytes for array in arrays.values()) for name, arrays in written if "state" in name}
    of_weights = pieces[0].nbytes
    assert states == {2 * of_weights + 4 + torch.get_rng_state().numel()}


def test_by_default_a_short_chain_writes_once(at, monkeypatch):
    monkeypatch.setattr(checkpoints, "SECONDS_BETWEEN", 30.0)
    train("hmc", at, **METHODS["hmc"])
    assert sorted(path.name for path in at.checkpoints.iterdir()) == sorted(
        f"chain{chain}.{name}.safetensors" for chain in range(CHAINS) for name in ("draws00000", "state")
    )
    checkpoints.discard(at.checkpoints)
    assert not at.checkpoints.exists()
    checkpoints.discard(at.checkpoints)


# ---------------------------------------------------------------- collapse


def test_a_chain_that_accepts_nothing_gives_up(at):
    options = METHODS["hmc"] | {"step_size": 5.0, "warmup": 30}
    with pytest.raises(TrainingError, match="chain 1 has collapsed: none of its first 20 proposals was accepted; a smaller"):
        train("hmc", at, **options)


def test_a_chain_that_starts_where_nothing_is_likely_gives_up(at, starts):
    far = posterior.Posterior(starts.network, {name: 1e30 * value for name, value in starts.weights.items()})
    with pytest.raises(TrainingError, match="chain 1: the posterior density is zero where it starts"):
        train("hmc", replace(at, start=far), **METHODS["hmc"])


def test_a_step_size_that_vanishes_is_named():
    start = torch.zeros(2)
    kernel = NUTS(potential_fn=lambda site: site["weights"].square().sum(), adapt_mass_matrix=False)
    kernel._adapter.step_size = 1e-9
    assert "step size fell to 1e-09" in diagnostics.collapse(kernel, start, start + 1, diagnostics.PATIENCE)
    assert diagnostics.collapse(kernel, start, start + 1, diagnostics.PATIENCE - 1) is None
    kernel._adapter.step_size = 1e-3
    assert diagnostics.collapse(kernel, start, start + 1, diagnostics.PATIENCE) is None


# ---------------------------------------------------------------- cost


@pytest.fixture
def said():
    """What the library says."""
    lines = []
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(record.getMessage())
    before = progress.logger.level
    progress.logger.addHandler(handler)
    progress.logger.setLevel(logging.INFO)
    yield lines
    progress.logger.removeHandler(handler)
    progress.logger.setLevel(before)


@pytest.mark.parametrize("leapfrog_steps", [7, 49])
def test_hmc_says_how_many_gradients_come(leapfrog_steps, at, said, monkeypatch):
    """49 × 0.006 / 0.006 is less than 49 in a computer."""
    computed, usual = [], chains.potential_energy

    def counted(*arguments):
        potential = usual(*arguments)
        return lambda site: (computed.append(1), potential(site))[1]

    monkeypatch.setattr(chains, "potential_energy", counted)
    train("hmc", at, **(METHODS["hmc"] | {"leapfrog_steps": leapfrog_steps, "step_size": 0.006}))
    number = ITERATIONS * leapfrog_steps
    lines = [line for line in said if "gradients to come" in line]
    assert len(lines) == 1
    assert f" {number:,} gradients to come: " in lines[0]
    measured = len(computed) - number - CHAINS
    assert 1 <= measured <= 1 + cost.REPEATS, "beside those measured there is one at each start"


def test_a_chain_that_goes_on_counts_what_is_left(at, said, sampled):
    sampled.kill_at = WARMUP + 4
    with pytest.raises(Killed):
        train("hmc", at, **METHODS["hmc"])
    said.clear()
    sampled.kill_at = None
    train("hmc", at, **METHODS["hmc"])
    assert any(f" {(ITERATIONS - WARMUP - 3) * 7} gradients to come" in line for line in said)
    assert f"chain 1 goes on after iteration {WARMUP + 3} of {WARMUP + DRAWS}" in said
    said.clear()
    train("hmc", at, **METHODS["hmc"])
    assert not any("gradients to come" in line for line in said)


def test_nuts_says_how_many_at_most(at, said):
    train("nuts_on_shards", at, **METHODS["nuts_on_shards"])
    assert any(f" at most {ITERATIONS * 2**4} gradients to come" in line for line in said)


@pytest.mark.parametrize(
    ("gradients", "of_floor", "computed"), [(10, False, 1), (30, False, 1), (150, False, 2), (5000, True, 1 + cost.REPEATS)]
)
def test_measuring_costs_little(gradients, of_floor, computed, said, monkeypatch):
    calls = []
    monkeypatch.setattr(cost, "timed", lambda work: (work(), 0.05)[1])
    monkeypatch.setattr(cost, "product_floor", lambda *_: 0.04)
    cost.announce(lambda: calls.append(1), task().network(), task().x, gradients)
    assert len(calls) == computed
    assert ("1.25 × the floor of 40 ms" in said[0]) == of_floor


@pytest.mark.parametrize("architecture", ["fc2", "conv"])
def test_the_floor_is_three_products_a_layer_and_nothing_random(architecture):
    network = networks.build({"architecture": architecture, "width": 4}, (1, 8, 8), 3)
    before = torch.get_rng_state()
    with Cost() as counted:
        assert cost.product_floor(network, torch.rand(5, 1, 8, 8, generator=torch.Generator())) > 0
    # It is read, held against its graph, which is as many again, and passed once for the shapes.
    passes = 4
    assert counted.products == 3 * passes + (3 * 3 - 1) * (1 + cost.REPEATS)
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.2, "less than a second"),
        (41.7, "about 42 s"),
        (3599, "about 1 h 0 min"),
        (12_000, "about 3 h 20 min"),
        (200_000, "about 2 d 7 h"),
    ],
)
def test_durations_are_said_in_words(seconds, words):
    assert cost.in_words(seconds) == words
