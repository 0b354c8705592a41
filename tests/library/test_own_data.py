"""Data of the user's own: read as it is, or refused with the file, what is wrong with it, and what was expected."""

from __future__ import annotations

import io
import os
import re
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, event, example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from resilience import data
from resilience.data import DataError, Source
from resilience.datasets.image_folder import image_folder
from resilience.datasets.npz import npz
from resilience.digests import content_digest

LABELS = np.arange(12) % 3
GREY = np.linspace(0, 1, 12 * 4 * 5).reshape(12, 4, 5)
GOOD = {"x_train": GREY, "y_train": LABELS, "x_test": GREY[::-1], "y_test": LABELS}


def write(path: Path, **arrays: np.ndarray | None) -> str:
    """The good arrays with some of them replaced, or left out."""
    np.savez(path, **{name: array for name, array in (GOOD | arrays).items() if array is not None})
    return str(path)


@pytest.mark.parametrize(
    ("x", "shape", "kind"),
    [
        (GREY, (1, 4, 5), np.float32),
        (GREY.astype(np.float16), (1, 4, 5), np.float32),
        ((GREY * 255).astype(np.uint8), (1, 4, 5), np.uint8),
        (np.stack([GREY] * 3, 1), (3, 4, 5), np.float32),
    ],
)
def test_arrays_are_read_as_they_are(x, shape, kind, tmp_path):
    source = npz(file=write(tmp_path / "own.npz", x_train=x, x_test=x, extra=np.ones(3)))
    assert source.train.x.shape == (12, *shape)
    assert source.train.x.dtype == kind
    assert np.array_equal(source.train.x.ravel(), x.ravel().astype(kind))
    assert np.array_equal(source.test.y, LABELS)


def test_channels_may_come_last(tmp_path):
    """As Keras and most programs that read pictures keep them."""
    tall = GREY.reshape(12, 5, 4)
    file = write(tmp_path / "own.npz", **{part: np.stack([tall, tall / 2, tall / 4], 3) for part in ("x_train", "x_test")})
    with pytest.raises(
        DataError, match=r"own.npz: x_train has shape \(12, 5, 4, 3\), .* 5 channels .* add `channels: last`"
    ):
        npz(file=file)
    train = npz(file=file, channels="last").train.x
    assert train.shape == (12, 3, 5, 4)
    assert np.array_equal(train[:, 1], (tall / 2).astype(np.float32))
    assert npz(file=file, channels="first").train.x.shape == (12, 5, 4, 3)


@pytest.mark.parametrize("shape", [(12, 1, 5, 3), (12, 3, 5, 4), (12, 4, 5, 1), (12, 5, 2, 6)])
def test_channels_that_may_well_come_first_are_read_so(shape, tmp_path):
    x = np.linspace(0, 1, int(np.prod(shape))).reshape(shape)
    assert npz(file=write(tmp_path / "own.npz", x_train=x, x_test=x)).train.x.shape == shape


def test_images_without_channels_are_read_in_any_order(tmp_path):
    file = write(tmp_path / "own.npz")
    assert all(npz(file=file, channels=order).train.x.shape == (12, 1, 4, 5) for order in (None, "first", "last"))


BAD_ARRAYS = {
    "x_train": [
        (None, "has no array x_train; found x_test, y_test, y_train"),
        (GREY * 255, r"x_train has values from 0 to 255; expected floats in \[0, 1\], or uint8"),
        (GREY - 0.5, r"x_train has values from -0.5 to 0.5; expected floats in \[0, 1\]"),
        (np.full_like(GREY, np.nan), r"x_train has values from nan to nan; expected floats in \[0, 1\]"),
        (GREY.reshape(12, 20), r"x_train has shape \(12, 20\); expected \[N, C, H, W\] or \[N, H, W\]"),
        (GREY[:, :0], r"x_train has shape \(12, 0, 5\); expected .* none of them zero"),
        (np.array(0.5), r"x_train has shape \(\); expected"),
        (GREY > 0.5, r"x_train has type bool; expected uint8, or floats in \[0, 1\]"),
        ((GREY > 0.5).astype(np.uint8), r"x_train is uint8 with values up to 1 of 255; if 1 is white, save x_train.astype"),
        ((GREY * 255).astype(int), r"x_train has type int64; expected uint8, or floats in \[0, 1\]"),
        (GREY.astype(complex), "x_train has type complex128; expected uint8, or floats"),
        (np.array([{}] * 12), "x_train cannot be read; expected numbers in a file of numpy.savez"),
        (GREY[:, :3], r"x_test has images of shape \(1, 4, 5\), but x_train \(1, 3, 5\)"),
    ],
    "y_train": [
        (None, "has no array y_train"),
        (LABELS[:5], r"y_train is int64 \(5,\); expected integers \(12,\), one for each image"),
        (LABELS[:, None], r"y_train is int64 \(12, 1\); expected integers \(12,\)"),
        (np.eye(3)[LABELS].astype(int), r"y_train is int64 \(12, 3\); expected integers \(12,\), one for each image"),
        (LABELS.astype(float), r"y_train is float64 \(12,\); expected integers"),
        (LABELS.astype(str), "y_train is <U21 .*; expected integers"),
        (LABELS + 1, r"y_train has the classes 1, 2, 3; expected 0, 1, … without a gap"),
        (LABELS - 1, r"y_train has the classes -1, 0, 1; expected 0, 1, …"),
        (LABELS * 2, r"y_train has the classes 0, 2, 4; expected 0, 1, …"),
        (LABELS * 0, r"y_train has the classes 0; expected 0, 1, … without a gap, at least two"),
        (np.array([0, 1] * 5 + [0, 2]), "y_train has class 2 once; expected at least twice"),
    ],
    "y_test": [
        (np.array([0, 1] * 6), "y_test has the classes 0, 1; expected those of y_train, 0, 1, 2"),
        (np.arange(12) % 4, "y_test has the classes 0, 1, 2, 3; expected those of y_train, 0, 1, 2"),
    ],
}


@pytest.mark.parametrize(
    ("name", "array", "sentence"), [(name, *case) for name, cases in BAD_ARRAYS.items() for case in cases]
)
def test_a_bad_array_is_refused_by_name(name, array, sentence, tmp_path):
    file = write(tmp_path / "own.npz", **{name: array})
    with pytest.raises(DataError, match=f"own.npz: {sentence}"):
        npz(file=file)


def whole_npz() -> bytes:
    content = io.BytesIO()
    np.savez(content, **GOOD)
    return content.getvalue()


def zipped(name: str, content: bytes) -> bytes:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr(name, content)
    return archive.getvalue()


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@example(b"")
@example(zipped("x_train.npy", b"\x93NUMPY\x01\x00\x05\x00junk!"))
@example(zipped("x_train.txt", b"0 1"))
@given(
    st.binary(max_size=200)
    | st.integers(0, len(whole_npz()) - 1).map(lambda end: whole_npz()[:end])
    | st.binary(max_size=60).map(lambda junk: zipped("x_train.npy", b"\x93NUMPY\x01\x00" + junk))
)
def test_a_damaged_file_is_refused_but_never_crashes(tmp_path, content):
    file = tmp_path / "own.npz"
    file.write_bytes(content)
    with pytest.raises(DataError, match=r"own.npz: .*x_train"):
        npz(file=str(file))


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.sampled_from(sorted(GOOD)),
    hnp.arrays(
        st.sampled_from([np.float32, np.float64, np.uint8, np.int64, np.uint16, bool]),
        hnp.array_shapes(min_dims=0, max_dims=4, max_side=3) | st.sampled_from([(12,), (12, 4, 5)]),
        # Jobs flush such numbers to zero, and a test that ran one leaves it so.
        elements={"allow_subnormal": False},
    ),
)
def test_any_array_gives_images_or_a_sentence(tmp_path, name, array):
    read_or_refused(lambda: npz(file=write(tmp_path / "own.npz", **{name: array})), tmp_path / "own.npz")


def read_or_refused(read: Callable[[], Source], file: Path) -> None:
    """What is read is as it should be, and what is not read is refused by name."""
    refused = ""
    try:
        check(read())
    except DataError as error:
        refused = str(error)
    event("refused" if refused else "read")
    assert not refused or refused.startswith(f"{file}: ")


def check(source: Source) -> None:
    """What every source must deliver."""
    for part in (source.train, source.test):
        assert part.x.ndim == 4
        assert part.x.dtype in (np.float32, np.uint8)
        pixels = data.unit_interval(part.x)
        assert pixels.min() >= 0
        assert pixels.max() <= 1
        assert part.y.dtype == np.int64
        assert len(part.x) == len(part.y)


@pytest.fixture
def pictures(tmp_path) -> Path:
    """Two classes of pictures of several kinds and sizes."""
    folder = tmp_path / "pictures"
    for part, count in (("train", 3), ("test", 1)):
        for place, name in enumerate(["zebra", "ape"]):
            (folder / part / name).mkdir(parents=True)
            for number in range(count):
                colour = (200, 100 * place, number)
                Image.new("RGB", (9, 7 + number), colour).save(folder / part / name / f"{number}.png")
    return folder


def test_pictures_are_read_by_class(pictures):
    Image.new("L", (30, 20), 200).save(pictures / "test/ape/last.jpg")
    (pictures / "train/ape/.hidden").write_text("does not count", encoding="utf-8")
    source = image_folder(folder=str(pictures), size=6, channels=3)
    assert source.train.x.shape == (6, 3, 6, 6)
    assert list(source.train.y) == [0, 0, 0, 1, 1, 1]
    assert list(source.test.y) == [0, 0, 1]
    assert source.class_names == ("ape", "zebra")
    assert np.array_equal(source.train.x[4, :, 0, 0], [200, 0, 1])
    assert (source.test.x[1] == 200).all()
    grey = image_folder(folder=str(pictures), size=6)
    assert grey.train.x.shape == (6, 1, 6, 6)
    check(source)
    check(grey)


def test_folders_find_their_places_among_all_classes_of_a_network(pictures, tmp_path):
    names = ["zebra", "ox", "bee", "ape"]
    (tmp_path / "classes.txt").write_text("zebra\nox \nbee\nape\n\n", encoding="utf-8")
    for classes in (names, str(tmp_path / "classes.txt")):
        source = image_folder(folder=str(pictures), size=6, classes=classes)
        assert source.class_names == ("zebra", "ox", "bee", "ape")
        assert list(source.train.y) == [3, 3, 3, 0, 0, 0]
        assert list(source.test.y) == [3, 0]
        check(source)
    assert data.class_names_of(source.train.y, None, source.class_names, "own") == names
    assert data.class_names_of(source.train.y, ["Zebra", "Ochse", "Biene", "Affe"], source.class_names, "own")[3] == "Affe"
    with pytest.raises(DataError, match=r"^datasets\.own\.class_names: 2 names for 4 classes"):
        data.class_names_of(source.train.y, ["a", "b"], source.class_names, "own")


@pytest.mark.parametrize(
    ("classes", "sentence"),
    [
        (["zebras", "ox", "bee", "apes"], "train/ape: is none of the 4 classes; is it apes?"),
        (["ox", "bee", "cat", "dog"], "train/ape: is none of the 4 classes, which begin with ox, bee, cat"),
        (["ape", "zebra", "bee", "zebra"], "train/zebra: is the name of several classes, 1, 3; rename one of them"),
        (["ape"], "classes: names 1 classes; expected at least two"),
        ("none.txt", "none.txt: cannot be read; expected a text file, a class a line"),
        (b"ape\n\nzebra\n", "line 2 is empty; expected the name of class 1"),
        ("ape\nzebra".encode("utf-16"), "cannot be read; expected a text file"),
    ],
)
def test_a_list_of_classes_that_does_not_fit_is_refused(pictures, tmp_path, monkeypatch, classes, sentence):
    monkeypatch.chdir(tmp_path)
    if isinstance(classes, bytes):
        (tmp_path / "classes.txt").write_bytes(classes)
        classes = "classes.txt"
    with pytest.raises(DataError, match=re.escape(sentence)):
        image_folder(folder=str(pictures), size=6, classes=classes)


def test_labels_of_an_npz_may_leave_out_classes_that_are_listed(tmp_path):
    arrays = {"x_train": np.zeros((4, 5, 5)), "y_train": [1, 1, 3, 3], "x_test": np.zeros((2, 5, 5)), "y_test": [3, 1]}
    np.savez(tmp_path / "own.npz", **arrays)
    source = npz(file=str(tmp_path / "own.npz"), classes=["a", "b", "c", "d", "e"])
    assert list(source.train.y) == [1, 1, 3, 3]
    assert source.class_names == ("a", "b", "c", "d", "e")
    with pytest.raises(DataError, match=r"y_train has the classes 1, 3; expected at least two from 0 to 2, as 3 are listed"):
        npz(file=str(tmp_path / "own.npz"), classes=["a", "b", "c"])
    with pytest.raises(DataError, match=r"expected 0, 1, … without a gap, at least two; if these are some of a network's"):
        npz(file=str(tmp_path / "own.npz"))


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK"])
def test_every_kind_of_8_bit_picture_is_read(mode, pictures):
    white = Image.new("RGB", (8, 8), (255, 255, 255)).convert(mode)
    white.save(pictures / "train/ape/0.png", "TIFF" if mode == "CMYK" else "PNG")
    assert (image_folder(folder=str(pictures), size=4, channels=3).train.x[0] == 255).all()


def cut_off(path: Path) -> None:
    Image.effect_noise((40, 40), 50).save(path)
    path.write_bytes(path.read_bytes()[:-200])


def bomb(path: Path) -> None:
    """A picture of some kilobytes that unpacks to 100 million pixels."""
    Image.new("1", (10_000, 10_000)).save(path)


def no_folder(path: Path) -> None:
    for file in path.parent.iterdir():
        file.unlink()
    path.parent.rmdir()


def empty_folder(path: Path) -> None:
    no_folder(path)
    path.parent.mkdir()


def single(path: Path) -> None:
    for file in sorted(path.parent.iterdir())[1:]:
        file.unlink()


def another_class(path: Path) -> None:
    (path.parents[1] / "bee").mkdir()
    Image.new("L", (4, 4)).save(path.parents[1] / "bee/0.png")


BAD_PICTURES = {
    "no picture": (
        lambda path: path.write_text("text", encoding="utf-8"),
        "train/ape/0.png: is no picture that can be read; expected PNG",
    ),
    "cut off": (cut_off, "train/ape/0.png: is no picture that can be read"),
    "bomb": (bomb, "train/ape/0.png: is no picture that can be read; .*decompression bomb"),
    "16 bits": (
        lambda path: Image.new("I;16", (4, 4), 60_000).save(path),
        "train/ape/0.png: is a picture of mode I;16; expected 8 bits",
    ),
    "unknown kind": (lambda path: Image.new("L", (4, 4)).save(path, "GIF"), "train/ape/0.png: is no picture"),
    "what Windows leaves there": (
        lambda path: path.with_name("Thumbs.db").write_bytes(bytes.fromhex("d0cf11e0a1b11ae1")),
        "train/ape/Thumbs.db: is no picture that can be read",
    ),
    "folder in a class": (lambda path: path.with_name("more").mkdir(), "train/ape/more: is no file; expected a picture"),
    "pipe": (lambda path: os.mkfifo(path.with_name("pipe")), "train/ape/pipe: is no file; expected a picture"),
    "file beside the classes": (
        lambda path: (path.parents[1] / "notes.txt").write_text("", encoding="utf-8"),
        "train/notes.txt: lies beside the class folders",
    ),
    "a class is missing": (no_folder, "train/ape: is missing; test has a class of that name"),
    "another class": (another_class, "test/bee: is missing; train has a class of that name"),
    "an empty class": (empty_folder, "train/ape: is empty; expected pictures of the class ape"),
    "a single picture": (single, "train/ape: has a single picture; expected at least two"),
    "a link that leaves": (
        lambda path: path.with_name("link.png").symlink_to("/etc/hostname"),
        "train/ape/link.png: leads out of .*pictures, to /etc/hostname",
    ),
    "a link of a class that leaves": (
        lambda path: (path.parents[1] / "bee").symlink_to("/etc"),
        "train/bee: leads out of .*pictures, to /etc",
    ),
    "a link to nothing": (lambda path: path.with_name("link.png").symlink_to("none.png"), "link.png: is no file"),
}


@pytest.mark.parametrize("name", BAD_PICTURES)
def test_a_bad_folder_is_refused_by_file(name, pictures):
    damage, sentence = BAD_PICTURES[name]
    damage(pictures / "train/ape/0.png")
    with pytest.raises(DataError, match=sentence):
        image_folder(folder=str(pictures), size=4)


def test_a_folder_without_its_parts_is_refused(tmp_path):
    with pytest.raises(DataError, match="train: is missing; expected a folder"):
        image_folder(folder=str(tmp_path), size=4)
    (tmp_path / "train").mkdir()
    (tmp_path / "test").mkdir()
    with pytest.raises(DataError, match="train: has the classes none; expected at least two folders"):
        image_folder(folder=str(tmp_path), size=4)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_a_damaged_picture_is_read_or_refused_but_never_crashes(pictures, data_):
    file = pictures / "train/ape/0.png"
    kind = data_.draw(st.sampled_from(["PNG", "JPEG", "BMP", "TIFF", "WEBP"]))
    content = io.BytesIO()
    Image.linear_gradient("L").resize((12, 12)).save(content, kind)
    damaged = bytearray(content.getvalue())
    for place in data_.draw(st.lists(st.integers(0, len(damaged) - 1), min_size=1, max_size=8)):
        damaged[place] = data_.draw(st.integers(0, 255))
    file.write_bytes(bytes(damaged))
    read_or_refused(lambda: image_folder(folder=str(pictures), size=4), file)


def test_a_digest_changes_with_content_alone(pictures):
    def digest() -> str:
        content_digest.cache_clear()
        return content_digest(pictures)

    before = digest()
    file = pictures / "train/ape/0.png"
    os.utime(file, (0, 0))
    (pictures / ".note").write_text("does not count", encoding="utf-8")
    assert digest() == before
    content = file.read_bytes()
    file.write_bytes(content[:-1] + b"x")
    assert digest() != before
    file.write_bytes(content)
    assert digest() == before
    file.rename(file.with_name("9.png"))
    assert digest() != before
