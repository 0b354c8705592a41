from __future__ import annotations

import hashlib
import json
import os

import numpy as np
import pandas as pd
import pytest

from resilience import artifacts
from resilience.artifacts import ArtifactError

ARRAYS = {"x": np.arange(6, dtype=np.float32).reshape(2, 3), "y": np.array([1, 2]), "flag": np.array([True, False])}


def test_tensors_survive(tmp_path):
    artifacts.write_tensors(tmp_path / "a" / "t.safetensors", ARRAYS, {"rule": "epsilon", "layer": 3})
    found = artifacts.read_tensors(tmp_path / "a" / "t.safetensors")
    assert set(found) == set(ARRAYS)
    assert all(np.array_equal(found[name], ARRAYS[name]) and found[name].dtype == ARRAYS[name].dtype for name in ARRAYS)
    assert artifacts.read_about(tmp_path / "a" / "t.safetensors") == {"rule": "epsilon", "layer": 3}


def test_strides_do_not_matter(tmp_path):
    transposed = np.arange(6, dtype=np.float32).reshape(2, 3).T
    artifacts.write_tensors(tmp_path / "t.safetensors", {"x": transposed})
    assert np.array_equal(artifacts.read_tensors(tmp_path / "t.safetensors")["x"], transposed)


def test_same_content_same_bytes(tmp_path):
    about = {str(number): number for number in range(20)}
    digests = set()
    for number in range(5):
        path = tmp_path / str(number) / "t.safetensors"
        artifacts.write_tensors(path, dict(reversed(ARRAYS.items())) if number % 2 else ARRAYS, about)
        digests.add(hashlib.sha256(path.read_bytes()).hexdigest())
    assert len(digests) == 1


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_not_written(tmp_path, value):
    with pytest.raises(ArtifactError, match=r"t\.safetensors: x has values that are not finite; nothing was written"):
        artifacts.write_tensors(tmp_path / "t.safetensors", {"x": np.array([1, value], dtype=np.float32)})
    assert list(tmp_path.iterdir()) == []


def test_what_is_not_finite_is_not_read(tmp_path):
    from safetensors.numpy import save_file

    save_file({"x": np.array([np.nan], dtype=np.float32)}, tmp_path / "t.safetensors")
    with pytest.raises(ArtifactError, match="x has values that are not finite"):
        artifacts.read_tensors(tmp_path / "t.safetensors")


@pytest.mark.parametrize("damage", ["missing", "empty", "truncated", "garbage"])
def test_damaged_tensors_are_refused_by_name(tmp_path, damage):
    path = tmp_path / "t.safetensors"
    artifacts.write_tensors(path, ARRAYS)
    content = path.read_bytes()
    path.unlink()
    if damage != "missing":
        path.write_bytes({"empty": b"", "truncated": content[:-8], "garbage": b"x" * 200}[damage])
    for read in (artifacts.read_tensors, artifacts.read_about):
        with pytest.raises(ArtifactError, match=r"t\.safetensors: cannot be read as safetensors"):
            read(path)


def test_missing_tensor_is_named(tmp_path):
    artifacts.write_tensors(tmp_path / "t.safetensors", ARRAYS)
    with pytest.raises(ArtifactError, match="has no tensor relevance"):
        artifacts.read_tensors(tmp_path / "t.safetensors", ["relevance"])


def test_what_cannot_be_written_is_named_with_the_reason(tmp_path):
    (tmp_path / "file").write_text("no folder", encoding="utf-8")
    for write, name, content in (
        (artifacts.write_tensors, "t.safetensors", ARRAYS),
        (artifacts.write_table, "t.csv", pd.DataFrame({"a": [1]})),
        (artifacts.write_json, "f.json", {"a": 1}),
    ):
        with pytest.raises(ArtifactError, match=rf"file/{name} cannot be written: .*(Not a directory|File exists)"):
            write(tmp_path / "file" / name, content)


def test_others_may_read_what_is_written_as_the_umask_says(tmp_path):
    before = os.umask(0o027)
    artifacts.write_tensors(tmp_path / "t.safetensors", ARRAYS)
    artifacts.write_json(tmp_path / "f.json", {"a": 1})
    os.umask(before)
    assert {(tmp_path / name).stat().st_mode & 0o777 for name in ("t.safetensors", "f.json")} == {0o640}


def test_two_writers_of_one_file_do_not_share_what_is_half_written(tmp_path):
    path = tmp_path / "f.txt"
    with artifacts.whole(path) as first, artifacts.whole(path) as second:
        first.write_text("first", encoding="utf-8")
        second.write_text("sec", encoding="utf-8")
    assert path.read_text(encoding="utf-8") == "first"
    assert [file.name for file in tmp_path.iterdir()] == ["f.txt"]


def test_an_interrupted_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "f.json"
    artifacts.write_json(path, {"a": 1})
    with pytest.raises(UnicodeEncodeError), artifacts.whole(path) as partial:
        partial.write_text("half, then a letter that cannot be written: \ud800", encoding="utf-8")
    assert artifacts.read_json(path) == {"a": 1}
    assert [file.name for file in tmp_path.iterdir()] == ["f.json"]


def test_tables_survive_to_the_last_digit(tmp_path):
    table = pd.DataFrame({"index": [1, 2], "value": [1 / 3, 1e-17], "name": ["a", "b"], "flag": [True, False]})
    artifacts.write_table(tmp_path / "t.csv", table)
    pd.testing.assert_frame_equal(artifacts.read_table(tmp_path / "t.csv", ["value"]), table, check_exact=True)


def test_what_is_no_table_is_refused_by_name(tmp_path):
    with pytest.raises(ArtifactError, match=r"t\.csv: cannot be read"):
        artifacts.read_table(tmp_path / "t.csv")
    (tmp_path / "t.csv").write_text("a\n1\n", encoding="utf-8")
    with pytest.raises(ArtifactError, match=r"t\.csv: is damaged, another table, or was changed"):
        artifacts.read_table(tmp_path / "t.csv")
    artifacts.write_table(tmp_path / "t.csv", pd.DataFrame({"a": [1]}))
    with pytest.raises(ArtifactError, match=r"t\.csv: has no column b"):
        artifacts.read_table(tmp_path / "t.csv", ["a", "b"])


def test_a_table_without_rows_keeps_its_columns(tmp_path):
    artifacts.write_table(tmp_path / "t.csv", pd.DataFrame({"a": [], "b": []}))
    assert list(artifacts.read_table(tmp_path / "t.csv")) == ["a", "b"]


def test_json_is_sorted_and_has_no_nan(tmp_path):
    artifacts.write_json(tmp_path / "f.json", {"z": 1, "a": 2})
    assert list(json.loads((tmp_path / "f.json").read_text(encoding="utf-8"))) == ["a", "digest", "z"]
    assert artifacts.read_json(tmp_path / "f.json") == {"a": 2, "z": 1}
    with pytest.raises(ValueError, match="not JSON compliant"):
        artifacts.write_json(tmp_path / "g.json", {"a": float("nan")})
    (tmp_path / "f.json").write_text("{", encoding="utf-8")
    with pytest.raises(ArtifactError, match=r"f\.json: is damaged"):
        artifacts.read_json(tmp_path / "f.json")
