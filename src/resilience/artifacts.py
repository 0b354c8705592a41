"""The files that pass between stages: tensors as safetensors, tables as CSV, settings as JSON.

Every file is written under another name and renamed when it is whole, and its bytes follow from its content alone.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

if TYPE_CHECKING:
    import pandas as pd

Arrays = dict[str, np.ndarray]
#: safetensors writes several metadata keys in a random order, so everything goes under one.
ABOUT = "about"


class ArtifactError(ValueError):
    """A file that is not what a stage expects. The message names the file and what is wrong with it."""


@contextmanager
def whole(path: str | Path) -> Iterator[Path]:
    """A name to write to that becomes ``path`` when the block ends without an error."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    try:
        yield partial
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def write_tensors(path: str | Path, arrays: Mapping[str, np.ndarray], about: Mapping[str, Any] | None = None) -> None:
    """Write named arrays, with a JSON description in the header.

    Raises
    ------
    ArtifactError
        If an array holds NaN or an infinity: nothing is written then.
    """
    for name, array in arrays.items():
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise ArtifactError(f"{path}: {name} has values that are not finite; nothing was written")
    with whole(path) as partial:
        contiguous = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
        save_file(contiguous, partial, metadata={ABOUT: json.dumps(about or {}, sort_keys=True)})


def read_tensors(path: str | Path, names: Iterable[str] | None = None) -> Arrays:
    """Read named arrays, all of them unless ``names`` says which.

    Raises
    ------
    ArtifactError
        If the file is missing, damaged, lacks an array, or holds a value that is not finite.
    """
    try:
        with safe_open(path, framework="numpy") as file:
            present = set(file.keys())
            wanted = present if names is None else set(names)
            if missing := wanted - present:
                raise ArtifactError(f"{path}: has no tensor {', '.join(sorted(missing))}")
            arrays = {name: file.get_tensor(name) for name in sorted(wanted)}
    except (SafetensorError, OSError) as error:
        raise ArtifactError(f"{path}: cannot be read as safetensors ({error})") from error
    for name, array in arrays.items():
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise ArtifactError(f"{path}: {name} has values that are not finite")
    return arrays


def read_about(path: str | Path) -> dict[str, Any]:
    """The JSON description in the header of a tensor file."""
    try:
        with safe_open(path, framework="numpy") as file:
            return json.loads((file.metadata() or {}).get(ABOUT, "{}"))
    except (SafetensorError, OSError) as error:
        raise ArtifactError(f"{path}: cannot be read as safetensors ({error})") from error


def read_explanations(paths: Iterable[str | Path]) -> tuple[dict[tuple[str, int], np.ndarray], Arrays]:
    """Heat maps [N, C, H, W] by rule and layer, and by rule the predictions [N, classes] that lie beside them.

    Raises
    ------
    ArtifactError
        As :func:`read_tensors` does.
    """
    maps, probabilities = {}, {}
    for path in paths:
        about, arrays = read_about(path), read_tensors(path)
        if "relevance" in arrays:
            maps[about["rule"], about["layer"]] = arrays["relevance"]
        else:
            probabilities[about["rule"]] = arrays["probabilities"]
    return maps, probabilities


def write_table(path: str | Path, table: pd.DataFrame) -> None:
    """Write a table as CSV, floats with as many digits as it takes to read them back unchanged."""
    with whole(path) as partial:
        table.to_csv(partial, index=False, lineterminator="\n")


def read_table(path: str | Path, columns: Iterable[str] = ()) -> pd.DataFrame:
    """Read a CSV table that must have ``columns``.

    Raises
    ------
    ArtifactError
        If the file is missing, empty or damaged, or lacks a column.
    """
    import pandas as pd

    try:
        table = pd.read_csv(path)
    except (OSError, ValueError) as error:
        raise ArtifactError(f"{path}: cannot be read as a CSV table ({error})") from error
    if missing := [column for column in columns if column not in table]:
        raise ArtifactError(f"{path}: has no column {', '.join(missing)}")
    return table


def read_tables(paths: Iterable[str | Path]) -> pd.DataFrame:
    """Read CSV tables and put them under one another; see :func:`read_table`."""
    import pandas as pd

    return pd.concat(map(read_table, paths), ignore_index=True)


def write_json(path: str | Path, content: Mapping[str, Any]) -> None:
    """Write settings or diagnostics as JSON with sorted keys. NaN is refused, since JSON has none."""
    with whole(path) as partial:
        partial.write_text(json.dumps(content, indent=2, sort_keys=True, allow_nan=False) + "\n")


def read_json(path: str | Path) -> dict[str, Any]:
    """Read settings or diagnostics.

    Raises
    ------
    ArtifactError
        If the file is missing or not JSON.
    """
    try:
        return json.loads(Path(path).read_text())
    except (OSError, ValueError) as error:
        raise ArtifactError(f"{path}: cannot be read as JSON ({error})") from error
