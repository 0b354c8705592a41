"""The pretrained network of docs/extending.md, from its config and a state_dict to heat maps of a posterior."""

from __future__ import annotations

import copy
import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from resilience import catalog, data, lrp_rules, posterior
from resilience.attacks import gradient
from resilience.config import check
from resilience.explanations import lrp
from resilience.refusals import grid_of
from resilience.training.fit import Task
from tests.conftest import ROOT
from tests.library.test_config import SCHEMA

#: Pictures of these lie in the folder, and these are their places among the thousand.
BIRDS = {"goldfinch": 11, "bald eagle": 22}


def documented() -> dict:
    """The tiny config of the tests with the entries of that page, and no experiments but theirs."""
    section = (
        (ROOT / "docs/extending.md").read_text(encoding="utf-8").split("## A pretrained network\n")[1].split("\n## ")[0]
    )
    entries = section.split("```yaml\n")[1].split("```")[0]
    config = yaml.safe_load((ROOT / "tests/config.yaml").read_text(encoding="utf-8"))
    config = copy.deepcopy(config) | {"seeds": [0], "experiments": {}, "figures": {}, "explore": {}}
    config.pop("claims", None)
    for name, more in yaml.safe_load(entries).items():
        config[name].update(more)
    return config


def birds_in(folder: Path) -> None:
    """Pictures of 40 × 30 pixels of two of a thousand classes, and a network of torchvision that has learned nothing."""
    from torchvision import models

    classes = models.ResNet18_Weights.DEFAULT.meta["categories"]
    (folder / "imagenet.txt").write_text("\n".join(classes) + "\n", encoding="utf-8")
    numbers = np.random.default_rng(0)
    for part, name, number in itertools.product(("train", "test"), BIRDS, range(4)):
        file = folder / "birds" / part / name / f"{number}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        pixels = numbers.integers(0, 120, (30, 40, 3)) + 120 * (name == "goldfinch")
        Image.fromarray(pixels.astype(np.uint8)).save(file)
    torch.manual_seed(0)
    torch.save(models.resnet18().state_dict(), folder / "resnet18.pth")


@pytest.fixture
def birds(tmp_path, monkeypatch):
    birds_in(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_it_is_attacked_and_explained_as_the_page_says(birds):
    config = check(documented(), SCHEMA)
    grid = grid_of(config)
    assert grid.layers("resnet") == ("layer2", "output")
    assert {training for _, _, training in grid.trained()} == {"pretrained", "sampled"}

    settings = config["datasets"]["birds"] | {"folder": str(birds / "birds"), "size": 64}
    source = catalog.bound("datasets", settings)()
    assert source.class_names is not None
    assert {source.class_names[label]: label for label in source.test.y} == BIRDS
    arrays = {}
    for part, images in (("train", source.train), ("validation", source.train), ("test", source.test)):
        arrays |= {f"{part}.x": images.x, f"{part}.y": images.y}
    network = grid.network("resnet")
    learning = {name: value for name, value in arrays.items() if not name.startswith("test.")}
    classes = len(source.class_names)
    task = Task.of(network, learning, 1, None, torch.device("cpu"), classes)
    x = torch.from_numpy(data.unit_interval(arrays["test.x"]))[::2]
    start = None
    for training, draws in (("pretrained", 1), ("sampled", 10)):
        task = Task.of(network, learning, 1, start, torch.device("cpu"), classes)
        fit = catalog.bound("trainings", config["trainings"][training])(task=task)
        posterior.save(birds / f"{training}.safetensors", fit.weights, fit.kind, task.about(), seed=1)
        start = loaded = posterior.load(birds / f"{training}.safetensors", network=network)
        assert len(loaded) == draws
        y = posterior.predict(loaded, x).argmax(1)
        attacked = gradient.fgsm(loaded, x, y, epsilon=0.05)
        assert 0.04 < float((attacked - x).abs().max()) < 0.0501
        assert 0 <= float(attacked.min()) <= float(attacked.max()) <= 1
        maps = lrp.heat_maps(loaded, attacked, y, lrp_rules.epsilon(epsilon=0.1), layers=list(grid.layers("resnet")))
        assert set(maps) == {"layer2", "output"}
        for found in maps.values():
            assert found.shape == x.shape
            assert bool(found.isfinite().all())
            assert float(found.abs().amax()) > 0
    # Ten draws of the last layer, of a thousand classes by 512 features and a bias, hold all else once.
    sizes = [(birds / f"{name}.safetensors").stat().st_size for name in ("pretrained", "sampled")]
    assert sizes[1] < sizes[0] + 1.01 * 10 * 1000 * 513 * 4
