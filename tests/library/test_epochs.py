"""Descents that are killed and go on to the same bytes: point estimates, ensembles and variational inference."""

from __future__ import annotations

import logging
from dataclasses import replace

import pytest
import torch

from resilience import progress
from resilience.training import checkpoints, epochs, point, variational
from tests.library.test_checkpoints import Killed, same
from tests.library.test_training import task, train

EPOCHS, BATCHES = 5, 3
COMMON = {"epochs": EPOCHS, "learning_rate": 0.02, "batch_size": 25, "decay": 0.3}
MAP = {"method": "maximum_a_posteriori", "prior": "he", **COMMON}
METHODS = {
    "deterministic": COMMON,
    "adversarial": COMMON | {"attack": {"method": "pgd", "epsilon": 0.05, "steps": 2}},
    "maximum_a_posteriori": {key: value for key, value in MAP.items() if key != "method"},
    "svi": COMMON | {"prior": "he"},
}
STEPS = EPOCHS * BATCHES


@pytest.fixture
def at(tmp_path, monkeypatch):
    """A task that is kept after every batch."""
    monkeypatch.setattr(checkpoints, "SECONDS_BETWEEN", 0.0)
    return replace(task(), checkpoints=tmp_path / "checkpoint", recipe="recipe")


@pytest.fixture
def stepped(monkeypatch):
    """Counts the steps that have begun; ``stepped.kill_at`` is the one that is not survived."""

    class Stepped:
        count, kill_at = 0, None

    def counted(step, *others):
        def counting(x, y):
            Stepped.count += 1
            if Stepped.count == Stepped.kill_at:
                raise Killed
            return step(x, y)

        return epochs.Descent(counting, *others)

    for module in (point, variational):
        monkeypatch.setattr(module, "Descent", counted)
    return Stepped


def killed(method, at, stepped, moment, **options):
    """Train until a step that is not survived."""
    stepped.count, stepped.kill_at = 0, moment
    torch.manual_seed(moment)
    with pytest.raises(Killed):
        train(method, at, **options)
    stepped.count, stepped.kill_at = 0, None
    torch.manual_seed(0)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("moment", [1, 2, BATCHES, BATCHES + 1, 2 * BATCHES + 2, STEPS])
def test_a_killed_descent_goes_on_to_the_same_bytes(method, moment, at, stepped):
    expected = train(method, **METHODS[method])
    killed(method, at, stepped, moment, **METHODS[method])
    assert same(train(method, at, **METHODS[method]), expected)
    assert stepped.count == STEPS - (moment - 1)


@pytest.mark.parametrize("method", METHODS)
def test_a_descent_may_be_killed_again_and_again(method, at, stepped):
    expected = train(method, **METHODS[method])
    for moment in (4, 5, 3):
        killed(method, at, stepped, moment, **METHODS[method])
    assert same(train(method, at, **METHODS[method]), expected)
    assert stepped.count == STEPS - (3 + 4 + 2)


def test_an_ensemble_goes_on_with_the_members_that_are_done(at, stepped):
    options = {"members": 3, "of": MAP}
    expected = train("ensemble", **options)
    killed("ensemble", at, stepped, STEPS + 5, **options)
    assert same(train("ensemble", at, **options), expected)
    assert stepped.count == 2 * STEPS - 4


def test_a_history_with_gaps_goes_on(at, stepped):
    """Beyond 20 epochs, variational inference does not validate after each of them."""
    longer = METHODS["svi"] | {"epochs": 40}
    expected = train("svi", **longer)
    killed("svi", at, stepped, 50, **longer)
    assert repr(train("svi", at, **longer).history) == repr(expected.history)
    assert "nan" in repr(expected.history)


@pytest.mark.parametrize("what", ["epochs", "batch_size", "seed", "recipe", "data", "validation"])
def test_a_checkpoint_of_another_descent_counts_for_nothing(what, at, stepped):
    train("deterministic", at, **METHODS["deterministic"])
    options, other = METHODS["deterministic"], at
    if what in ("epochs", "batch_size"):
        options = options | {what: options[what] + 1}
    elif what == "seed":
        other = replace(at, seed=at.seed + 1)
    elif what == "recipe":
        other = replace(at, recipe="another")
    elif what == "data":
        other = replace(at, x=at.x.flip(3))
    else:
        other = replace(at, validation_x=at.validation_x.flip(3))
    stepped.count = 0
    fit = train("deterministic", other, **options)
    assert stepped.count >= STEPS
    assert same(fit, train("deterministic", replace(other, checkpoints=None), **options))


def test_a_damaged_checkpoint_counts_for_nothing(at, stepped):
    expected = train("svi", at, **METHODS["svi"])
    path = at.checkpoints / "descent.state.safetensors"
    content = path.read_bytes()
    path.write_bytes(content[:-100] + bytes([content[-100] ^ 1]) + content[-99:])
    stepped.count = 0
    assert same(train("svi", at, **METHODS["svi"]), expected)
    assert stepped.count == STEPS


def test_a_descent_that_is_done_takes_no_more_steps_and_says_so(at, stepped, caplog):
    expected = train("svi", at, **METHODS["svi"])
    stepped.count = 0
    progress.logger.propagate = True
    with caplog.at_level(logging.INFO, progress.logger.name):
        assert same(train("svi", at, **METHODS["svi"]), expected)
    assert stepped.count == 0
    assert f"SVI goes on after batch {STEPS} of {STEPS}" in caplog.text


def test_what_diverges_is_told_as_without_checkpoints(at):
    with pytest.raises(RuntimeError, match="the loss is nan in epoch 1; a smaller learning_rate"):
        train("deterministic", at, **(METHODS["deterministic"] | {"learning_rate": 1e30}))


def test_by_default_a_short_descent_writes_once(at, monkeypatch):
    written, usual = [], checkpoints.write_tensors
    monkeypatch.setattr(checkpoints, "SECONDS_BETWEEN", 30.0)
    monkeypatch.setattr(checkpoints, "write_tensors", lambda path, *rest: (written.append(path.name), usual(path, *rest)))
    train("deterministic", at, **METHODS["deterministic"])
    assert written == ["descent.state.safetensors"]
