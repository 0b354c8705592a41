"""The files that pass between stages: tensors as safetensors, tables as CSV, settings as JSON.

Every file is written under another name and renamed when it is whole, and its bytes follow from its content, its place and
its history alone. Each carries a digest of content and place, which readers compare, and its history: in the header of a
tensor file, as the last columns of a table, as keys of JSON. Pictures and pages are :mod:`resilience.documents`.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import secrets
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from resilience import running
from resilience.digests import short_digest
from resilience.history import History, unsealed

if TYPE_CHECKING:
    import pandas as pd

Arrays = dict[str, np.ndarray]
#: safetensors writes several metadata keys in a random order, so everything goes under one.
ABOUT = "about"
DIGEST, HISTORY = "digest", "history"
#: What follows the folder of results in the path of an artifact, from its dataset on. That folder may be moved as a whole.
PLACE = re.compile(r"([^/]+/){3}seed\d+/.+|[^/]+/(data|points)\.safetensors|(figures|explore)/[^/]+$|[^/]+$")
#: The digest and the history at the end of the first line that has them.
ADDED = re.compile(r',(sha256:[0-9a-f]{16}),(|"(?:[^"]|"")*"|[a-z]+)\n')
REMEDY = "delete it and run again"


class ArtifactError(ValueError):
    """A file that is not what a stage expects. The message names the file and what is wrong with it."""


@contextmanager
def whole(path: str | Path) -> Iterator[Path]:
    """A name to write to that becomes ``path`` when the block ends without an error.

    Raises
    ------
    ArtifactError
        If the file cannot be written: the disk is full, or the folder is read-only, say.
    """
    path = Path(path)
    # A folder of its own: no two processes write to the same file, and safetensors puts a file of its own beside it.
    folder = path.with_name(f".{path.name}.{secrets.token_hex(4)}{running.PARTIAL}")
    partial = folder / path.name
    try:
        folder.mkdir(parents=True)
        yield partial
        # Safetensors lets nobody but the owner read what it writes.
        partial.chmod(folder.stat().st_mode & 0o666)
        os.replace(partial, path)
    except (OSError, SafetensorError) as error:
        raise ArtifactError(f"{path} cannot be written: {error}") from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def place_of(path: str | Path) -> str:
    """Which artifact a path is: the end of it that stays when a folder of results is moved."""
    found = PLACE.search(os.fspath(path))
    return found[0] if found else ""


def vouched(digest: str, history: History | None) -> dict[str, Any]:
    """What an artifact says of itself beside its content: the digest, and the history where there is one."""
    return {DIGEST: digest} | ({HISTORY: history.sealed(digest)} if history else {})


def refuse_changed_history(path: str | Path, digest: str, history: Any) -> None:
    """Raise ArtifactError if what an artifact says of its history is not what was written."""
    try:
        if history is not None:
            unsealed(history, digest)
    except (ValueError, TypeError, AttributeError) as error:
        raise ArtifactError(f"{path}: is damaged, {error}; {REMEDY}") from error


def digest_of(arrays: Mapping[str, np.ndarray], about: Mapping[str, Any]) -> str:
    """SHA-256 of named arrays, their types and shapes, and a description of them."""
    digest = hashlib.sha256(json.dumps(about, sort_keys=True).encode())
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        digest.update(f"{name} {array.dtype} {array.shape}".encode())
        digest.update(array.data)
    return digest.hexdigest()


def write_tensors(
    path: str | Path,
    arrays: Mapping[str, np.ndarray],
    about: Mapping[str, Any] | None = None,
    history: History | None = None,
) -> None:
    """Write named arrays, with a JSON description, a digest and a history in the header.

    Raises
    ------
    ArtifactError
        If an array holds NaN or an infinity: nothing is written then.
    """
    for name, array in arrays.items():
        if not _is_finite(array):
            raise ArtifactError(f"{path}: {name} has values that are not finite; nothing was written")
    contiguous = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    header = {**(about or {}), "place": place_of(path)}
    header |= vouched(digest_of(contiguous, header), history)
    with whole(path) as partial:
        save_file(contiguous, partial, metadata={ABOUT: json_text(header)})


def read_tensors(path: str | Path, names: Iterable[str] | None = None) -> Arrays:
    """Read named arrays that :func:`write_tensors` wrote, all of them unless ``names`` says which.

    Raises
    ------
    ArtifactError
        If the file is missing, damaged, of another place, lacks an array, or holds a value that is not finite.
    """
    header, arrays = _header(path), read_foreign_tensors(path)
    digest, history = header.pop(DIGEST, None), header.pop(HISTORY, None)
    if digest != digest_of(arrays, header):
        raise ArtifactError(f"{path}: is damaged, or was changed after it was written; {REMEDY}")
    refuse_changed_history(path, digest, history)
    _refuse_what_belongs_elsewhere(path, header)
    wanted = set(arrays) if names is None else set(names)
    if missing := wanted - set(arrays):
        raise ArtifactError(f"{path}: has no tensor {', '.join(sorted(missing))}")
    return {name: arrays[name] for name in sorted(wanted)}


def read_foreign_tensors(path: str | Path) -> Arrays:
    """Read all arrays of a safetensors file that something else wrote, so that no digest vouches for it.

    Raises
    ------
    ArtifactError
        If the file is missing, cannot be read, or holds a value that is not finite.
    """
    try:
        with safe_open(path, framework="numpy") as file:
            arrays = {name: file.get_tensor(name) for name in sorted(file.keys())}
    except (SafetensorError, OSError) as error:
        raise ArtifactError(f"{path}: cannot be read as safetensors ({error})") from error
    for name, array in arrays.items():
        if not _is_finite(array):
            raise ArtifactError(f"{path}: {name} has values that are not finite")
    return arrays


def read_about(path: str | Path) -> dict[str, Any]:
    """The JSON description in the header of a tensor file; :func:`read_tensors` is what compares the digest.

    Raises
    ------
    ArtifactError
        If the header cannot be read, or describes a file of another place.
    """
    header = _header(path)
    _refuse_what_belongs_elsewhere(path, header)
    return {key: value for key, value in header.items() if key not in ("place", DIGEST, HISTORY)}


def _refuse_what_belongs_elsewhere(path: str | Path, header: Mapping[str, Any]) -> None:
    if belongs_elsewhere(path, header):
        raise ArtifactError(f"{path}: holds what belongs to {header['place']}; {REMEDY}")


def belongs_elsewhere(path: str | Path, header: Mapping[str, Any]) -> bool:
    """Whether a header is that of a file of another place. A copy outside of a folder of results claims to be nothing."""
    here = place_of(path)
    return header.get("place", here) != here and "/" in here


def _header(path: str | Path) -> dict[str, Any]:
    try:
        with safe_open(path, framework="numpy") as file:
            return json_of((file.metadata() or {}).get(ABOUT, "{}"))
    except (SafetensorError, OSError, ValueError) as error:
        raise ArtifactError(f"{path}: cannot be read as safetensors ({error})") from error


def _is_finite(array: np.ndarray) -> bool:
    return array.dtype.kind != "f" or bool(np.isfinite(array).all())


def read_explanations(paths: Iterable[str | Path]) -> tuple[dict[tuple[str, str], np.ndarray], Arrays]:
    """Heat maps [N, C, H, W] by explanation and layer, and by explanation the predictions [N, classes] that lie beside them.

    Raises
    ------
    ArtifactError
        As :func:`read_tensors` does.
    """
    maps, probabilities = {}, {}
    for path in paths:
        about, arrays = read_about(path), read_tensors(path)
        if "relevance" in arrays:
            maps[about["explanation"], about["layer"]] = arrays["relevance"]
        else:
            probabilities[about["explanation"]] = arrays["probabilities"]
    return maps, probabilities


def write_table(path: str | Path, table: pd.DataFrame, history: History | None = None) -> None:
    """Write a table as CSV, floats with as many digits as it takes to read them back unchanged.

    Two columns are added: ``digest`` holds in every row the digest of the table without them, ``history`` in the first row
    the history as JSON. Without rows both are the names of these columns.

    Raises
    ------
    ArtifactError
        If a text in the table has more than one line.
    """
    text = table.to_csv(index=False, lineterminator="\n")
    if text.count("\n") != 1 + len(table):
        raise ArtifactError(f"{path}: a text in the table has more than one line; nothing was written")
    write_table_text(path, text, history)


def write_table_text(path: str | Path, text: str, history: History | None) -> None:
    """Write what :func:`split_table` says that a table is without what is added: a line of names, and one for each row."""
    digest = digest_of_text(path, text)
    told = '"{}"'.format(json_text(history.sealed(digest)).replace('"', '""')) if history else ""
    lines = text.removesuffix("\n").split("\n")
    added = [f"{DIGEST},{HISTORY}", f"{digest},{told}", *[f"{digest},"] * (len(lines) - 2)]
    if len(lines) == 1:
        added = [f"{digest},{told or HISTORY}"]
    whole_lines = [f"{line},{more}\n" for line, more in zip(lines, added, strict=True)]
    with whole(path) as partial:
        partial.write_text("".join(whole_lines), encoding="utf-8")


def split_table(text: str) -> tuple[str, str, Any]:
    """The text of a table without what was added, its digest and its history; ValueError if nothing was added."""
    whole_line, digest, told = added_to(text)
    bare = text.replace(f",{DIGEST},{HISTORY}\n", "\n", 1).replace(whole_line, "\n", 1).replace(f",{digest},\n", "\n")
    return bare, digest, json_of(told) if told else None


def added_to(text: str) -> tuple[str, str, str]:
    """What was added to the first line of a table that has it, the digest, and the history as text; else ValueError."""
    found = ADDED.search(text)
    if found is None:
        raise ValueError("it has no digest")
    told = "" if found[2] == HISTORY else found[2].removeprefix('"').removesuffix('"').replace('""', '"')
    return found[0], found[1], told


def json_of(text: str) -> Any:
    """What :func:`json_text` wrote; ValueError if it is not written in just that way."""
    value = json.loads(text)
    if json_text(value) != text:
        raise ValueError("it was changed after it was written")
    return value


def json_text(value: Any) -> str:
    """JSON in one line, with sorted keys, and without what could end a comment or an element of HTML."""
    return json.dumps(value, sort_keys=True).replace("<", "\\u003c").replace(">", "\\u003e")


def read_table(path: str | Path, columns: Iterable[str] = ()) -> pd.DataFrame:
    """Read a table that :func:`write_table` wrote and that must have ``columns``; those that were added are left out.

    Raises
    ------
    ArtifactError
        If the file is missing, damaged or of another place, or lacks a column.
    """
    import pandas as pd

    text = read_text(path)
    try:
        bare, digest, history = split_table(text)
        intact = digest == digest_of_text(path, bare)
    except ValueError:
        intact = False
    if not intact:
        raise ArtifactError(f"{path}: is damaged, another table, or was changed after it was written; {REMEDY}")
    refuse_changed_history(path, digest, history)
    table = pd.read_csv(io.StringIO(text), dtype={"layer": "str"}).iloc[:, :-2]
    if missing := [column for column in columns if column not in table]:
        raise ArtifactError(f"{path}: has no column {', '.join(missing)}")
    return table


def read_tables(paths: Iterable[str | Path]) -> pd.DataFrame:
    """Read CSV tables and put them under one another; see :func:`read_table`."""
    import pandas as pd

    return pd.concat(map(read_table, paths), ignore_index=True)


def write_json(path: str | Path, content: Mapping[str, Any], history: History | None = None) -> None:
    """Write settings or diagnostics as JSON with sorted keys, digest and history. NaN is refused, since JSON has none."""
    text = _json({**content, **vouched(digest_of_text(path, _json(content)), history)})
    with whole(path) as partial:
        partial.write_text(text, encoding="utf-8")


def read_json(path: str | Path) -> dict[str, Any]:
    """Read settings or diagnostics that :func:`write_json` wrote.

    Raises
    ------
    ArtifactError
        If the file is missing, not JSON, damaged or of another place.
    """
    text = read_text(path)
    try:
        content = json.loads(text)
        intact = text == _json(content)
        digest, history = content.pop(DIGEST), content.pop(HISTORY, None)
        intact = intact and digest == digest_of_text(path, _json(content))
    except (ValueError, KeyError, AttributeError, TypeError):
        intact = False
    if not intact:
        raise ArtifactError(f"{path}: is damaged, another file, or was changed after it was written; {REMEDY}")
    refuse_changed_history(path, digest, history)
    return content


def read_text(path: str | Path) -> str:
    """The text of a file, or ArtifactError."""
    try:
        return Path(path).read_bytes().decode()
    except OSError as error:
        raise ArtifactError(f"{path}: cannot be read ({error})") from error
    except UnicodeDecodeError as error:
        raise ArtifactError(f"{path}: is damaged, {error}; {REMEDY}") from error


def _json(content: Mapping[str, Any]) -> str:
    return json.dumps(content, indent=2, sort_keys=True, allow_nan=False) + "\n"


def digest_of_text(path: str | Path, text: str) -> str:
    """Of a text and the place that it belongs to."""
    return short_digest(f"{place_of(path)}\n{text}".encode())
