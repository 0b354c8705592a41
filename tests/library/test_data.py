from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from resilience import data
from resilience.data import DataError, Images, Source

SHARED = Path(__file__).parents[3] / "shared" / "data"


def test_digits_are_scikit_learns():
    source = data.digits()
    assert len(source.train) + len(source.test) == 1797
    assert source.train.x.shape[1:] == (1, 8, 8)
    assert (source.train.x.min(), source.train.x.max()) == (0, 1)
    assert source.train.x.dtype == np.float32


def test_half_moons_are_images_of_two_pixels():
    source = data.half_moons(points=300)
    assert source.train.x.shape[1:] == (1, 1, 2)
    assert 0 <= source.train.x.min() < source.train.x.max() <= 1
    assert set(source.test.y) == {0, 1}


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist"])
def test_mnist_is_read_from_a_folder(name):
    if not SHARED.exists():
        pytest.skip(f"{SHARED} is not there: real MNIST is tested on machines that have it")
    source = getattr(data, name)(folder=str(SHARED), download=False)
    assert source.train.x.shape == (60_000, 1, 28, 28)
    assert source.test.x.shape == (10_000, 1, 28, 28)
    assert source.train.x.dtype == np.uint8
    assert (np.bincount(source.test.y) > 800).all()


def test_a_folder_without_mnist_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"MNIST/raw/train-images-idx3-ubyte: is missing; MNIST has train-images"):
        data.mnist(folder=str(tmp_path), download=False)


def downloads(monkeypatch, write: Callable[[Path], object]) -> None:
    """Let torchvision download what a function writes into MNIST's folder, which holds one file."""
    from torchvision import datasets

    monkeypatch.setitem(data.DIGESTS, "MNIST", {"images": hashlib.md5(b"content").hexdigest()})

    def load(root: str, download: bool = False, train: bool = True) -> SimpleNamespace:
        raw = Path(root, "MNIST", "raw")
        if download:
            raw.mkdir(parents=True)
            write(raw)
        return SimpleNamespace(data=torch.zeros(2, 1, 1), targets=torch.tensor([0, 1]))

    monkeypatch.setattr(datasets, "MNIST", load)


def test_what_is_downloaded_appears_as_a_whole(tmp_path, monkeypatch):
    downloads(monkeypatch, lambda raw: (raw / "images").write_bytes(b"content"))
    data.mnist(folder=str(tmp_path / "new" / "data"))
    assert [path.name for path in tmp_path.rglob("*")] == ["new", "data", "MNIST", "raw", "images"]


def test_two_jobs_may_download_the_same_files(tmp_path, monkeypatch):
    def after_another_job(raw: Path) -> None:
        (raw / "images").write_bytes(b"content")
        (tmp_path / "MNIST/raw").mkdir()
        (tmp_path / "MNIST/raw/images").write_bytes(b"content")

    downloads(monkeypatch, after_another_job)
    data.mnist(folder=str(tmp_path))
    assert [path.name for path in tmp_path.rglob("*")] == ["MNIST", "raw", "images"]


def test_a_download_that_fails_leaves_nothing_and_says_what_to_do(tmp_path, monkeypatch):
    def fail(raw: Path) -> None:
        (raw / "half").write_bytes(b"con")
        raise RuntimeError("Error downloading images:\n<urlopen error>")

    downloads(monkeypatch, fail)
    for _ in range(2):
        with pytest.raises(DataError, match=r"MNIST cannot be downloaded: .* images: <urlopen error>; .* put its"):
            data.mnist(folder=str(tmp_path))
    assert [path.name for path in tmp_path.rglob("*")] == ["MNIST"]


@pytest.mark.parametrize("damage", ["cut off", "one bit"])
def test_files_that_are_not_the_published_ones_are_refused(tmp_path, damage, monkeypatch):
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    content = bytes(range(200))
    monkeypatch.setitem(data.DIGESTS, "MNIST", {"images": hashlib.md5(content).hexdigest()})
    (raw / "images").write_bytes(content)
    data._refuse_other_files(raw, "MNIST")
    (raw / "images").write_bytes(content[:-1] if damage == "cut off" else bytes([content[0] ^ 1, *content[1:]]))
    with pytest.raises(DataError, match=r"raw/images: is not the published file; its MD5 is"):
        data._refuse_other_files(raw, "MNIST")


def source_of(counts: list[int]) -> Source:
    y = np.repeat(np.arange(len(counts)), counts)
    x = np.arange(len(y), dtype=np.float32)[:, None, None, None]
    return Source(Images(x, y), Images(x[:3], y[:3]))


def test_split_keeps_every_point_once_and_every_class_in_each_part():
    arrays = data.split(source_of([50, 30, 20]), 0.2, None, "name")
    values = np.concatenate([arrays["train.x"], arrays["validation.x"]]).ravel()
    assert sorted(values) == list(range(100))
    assert list(np.bincount(arrays["validation.y"])) == [10, 6, 4]
    assert len(arrays["test.x"]) == 3


def test_split_follows_from_the_name_of_the_dataset():
    first, second, other = (data.split(source_of([50, 50]), 0.2, None, name) for name in ("a", "a", "b"))
    assert np.array_equal(first["validation.x"], second["validation.x"])
    assert not np.array_equal(first["validation.x"], other["validation.x"])


def test_train_points_are_balanced():
    arrays = data.split(source_of([50, 30, 40]), 0.1, 60, "name")
    assert list(np.bincount(arrays["train.y"])) == [20, 20, 20]
    assert not set(arrays["train.x"].ravel()) & set(arrays["validation.x"].ravel())


def test_points_are_balanced_distinct_and_sorted_by_class():
    labels = np.array([0, 1, 2] * 20)
    index = data.balanced_points(labels, 30, "name", "points")
    assert len(set(index)) == 30
    assert list(labels[index]) == [0] * 10 + [1] * 10 + [2] * 10
    assert np.array_equal(index, data.balanced_points(labels, 30, "name", "points"))
    assert not np.array_equal(index, data.balanced_points(labels, 30, "name", "other"))


def test_every_point_is_as_likely():
    labels = np.array([0, 1] * 50)
    counts = np.zeros(100)
    for number in range(400):
        counts[data.balanced_points(labels, 20, str(number))] += 1
    # Each is drawn with probability 0.2: 80 times of 400, with a standard deviation of 8.
    assert counts.min() > 80 - 40
    assert counts.max() < 80 + 40


@pytest.mark.parametrize(
    ("count", "message"), [(10, "cannot be balanced over 3 classes"), (90, "class 0 has 20 points, 30")]
)
def test_points_that_cannot_be_balanced_are_refused(count, message):
    with pytest.raises(DataError, match=message):
        data.balanced_points(np.array([0, 1, 2] * 20), count, "name")


def test_unit_interval():
    assert np.array_equal(data.unit_interval(np.array([0, 255], dtype=np.uint8)), np.array([0, 1], dtype=np.float32))
    assert np.array_equal(data.unit_interval(np.array([0.5], dtype=np.float32)), np.array([0.5], dtype=np.float32))
