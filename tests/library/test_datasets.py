"""Datasets that are bundled or published: what they deliver, and that nothing else is taken for them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from resilience.data import DataError
from resilience.datasets import bundled, published

SHARED = Path(__file__).parents[3] / "shared" / "data"


def test_digits_are_scikit_learns():
    source = bundled.digits()
    assert len(source.train) + len(source.test) == 1797
    assert source.train.x.shape[1:] == (1, 8, 8)
    assert (source.train.x.min(), source.train.x.max()) == (0, 1)
    assert source.train.x.dtype == np.float32


def test_half_moons_are_images_of_two_pixels():
    source = bundled.half_moons(points=300)
    assert source.train.x.shape[1:] == (1, 1, 2)
    assert 0 <= source.train.x.min() < source.train.x.max() <= 1
    assert set(source.test.y) == {0, 1}


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist"])
def test_mnist_is_read_from_a_folder(name):
    if not SHARED.exists():
        pytest.skip(f"{SHARED} is not there: real MNIST is tested on machines that have it")
    source = getattr(published, name)(folder=str(SHARED), download=False)
    assert source.train.x.shape == (60_000, 1, 28, 28)
    assert source.test.x.shape == (10_000, 1, 28, 28)
    assert source.train.x.dtype == np.uint8
    assert (np.bincount(source.test.y) > 800).all()


def test_a_folder_without_mnist_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"MNIST/raw/train-images-idx3-ubyte: is missing; MNIST has train-images"):
        published.mnist(folder=str(tmp_path), download=False)


def downloads(monkeypatch, write: Callable[[Path], object]) -> None:
    """Let torchvision download what a function writes into MNIST's folder, which holds one file."""
    from torchvision import datasets

    monkeypatch.setitem(published.DIGESTS, "MNIST", {"images": hashlib.md5(b"content").hexdigest()})

    def load(root: str, download: bool = False, train: bool = True) -> SimpleNamespace:
        raw = Path(root, "MNIST", "raw")
        if download:
            raw.mkdir(parents=True)
            write(raw)
        return SimpleNamespace(data=torch.zeros(2, 1, 1), targets=torch.tensor([0, 1]))

    monkeypatch.setattr(datasets, "MNIST", load)


def test_what_is_downloaded_appears_as_a_whole(tmp_path, monkeypatch):
    downloads(monkeypatch, lambda raw: (raw / "images").write_bytes(b"content"))
    published.mnist(folder=str(tmp_path / "new" / "data"))
    assert [path.name for path in tmp_path.rglob("*")] == ["new", "data", "MNIST", "raw", "images"]


def test_two_jobs_may_download_the_same_files(tmp_path, monkeypatch):
    def after_another_job(raw: Path) -> None:
        (raw / "images").write_bytes(b"content")
        (tmp_path / "MNIST/raw").mkdir()
        (tmp_path / "MNIST/raw/images").write_bytes(b"content")

    downloads(monkeypatch, after_another_job)
    published.mnist(folder=str(tmp_path))
    assert [path.name for path in tmp_path.rglob("*")] == ["MNIST", "raw", "images"]


def test_a_download_that_fails_leaves_nothing_and_says_what_to_do(tmp_path, monkeypatch):
    def fail(raw: Path) -> None:
        (raw / "half").write_bytes(b"con")
        raise RuntimeError("Error downloading images:\n<urlopen error>")

    downloads(monkeypatch, fail)
    for _ in range(2):
        with pytest.raises(DataError, match=r"MNIST cannot be downloaded: .* images: <urlopen error>; .* put its"):
            published.mnist(folder=str(tmp_path))
    assert [path.name for path in tmp_path.rglob("*")] == ["MNIST"]


@pytest.mark.parametrize("damage", ["cut off", "one bit"])
def test_files_that_are_not_the_published_ones_are_refused(tmp_path, damage, monkeypatch):
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    content = bytes(range(200))
    monkeypatch.setitem(published.DIGESTS, "MNIST", {"images": hashlib.md5(content).hexdigest()})
    (raw / "images").write_bytes(content)
    published._refuse_other_files(raw, "MNIST")
    (raw / "images").write_bytes(content[:-1] if damage == "cut off" else bytes([content[0] ^ 1, *content[1:]]))
    with pytest.raises(DataError, match=r"raw/images: is not the published file; its MD5 is"):
        published._refuse_other_files(raw, "MNIST")
