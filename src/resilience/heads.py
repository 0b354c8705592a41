"""What artifacts say of themselves in their first bytes: digest and history, for plans, which have no time to read all.

Nothing here compares a digest with the content; a file that was cut short is found out as far as its head tells.
"""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from resilience.artifacts import ABOUT, DIGEST, HISTORY, added_to, belongs_elsewhere, json_of, place_of
from resilience.digests import content_digest
from resilience.embedding import FORMATS
from resilience.history import History, unsealed

if TYPE_CHECKING:
    from snakemake.iocontainers import Namedlist

#: What reading raises where a file is not what was written.
DAMAGE = (AttributeError, LookupError, TypeError, struct.error)
#: Longer headers are no artifact's; a file that claims one is another's, or damaged.
LONGEST_HEADER = 100_000_000


@dataclass(frozen=True)
class Head:
    """What an artifact says of itself.

    Parameters
    ----------
    digest
        Of its content and place.
    history
        None if it says none: a version before this one wrote it, or something else.
    """

    digest: str
    history: History | None


def head_of(path: str | Path) -> Head:
    """The head of an artifact.

    Raises
    ------
    OSError
        If it cannot be read.
    ValueError
        If it is no artifact, damaged, cut short, or another one than its place says.
    """
    try:
        told = _told(os.fspath(path))
        sealed = told.get(HISTORY)
        if isinstance(sealed, str):  # That of a table is read where it is asked for: most are asked for their digests.
            sealed = json_of(sealed)
        return Head(told[DIGEST], None if sealed is None else unsealed(sealed, told[DIGEST]))
    except DAMAGE as error:
        raise ValueError("it is damaged") from error


def recorded_digest(path: str) -> str:
    """The digest by which an input is recorded: what it says of itself, or that of all its bytes if it is no artifact."""
    try:
        return _told(path)[DIGEST]
    except (OSError, ValueError, *DAMAGE):
        return content_digest(Path(path))


def _told(path: str) -> dict[str, Any]:
    """What stands in the head of an artifact. A path is a text here: a plan has thousands of them."""
    told = READERS.get(os.path.splitext(path)[1], _document)(path)
    if not isinstance(told.get(DIGEST), str):
        raise ValueError("it has no digest")
    if belongs_elsewhere(path, told):
        raise ValueError(f"it holds what belongs to {told['place']}")
    return told


def _tensors(path: str) -> dict[str, Any]:
    with open(path, "rb") as file:
        start = file.read(8)
        length = struct.unpack("<Q", start)[0] if len(start) == 8 else 0
        if not 0 < length < LONGEST_HEADER:
            raise ValueError("it is no safetensors file")
        header = json.loads(file.read(length))
        about = json.loads(header.pop("__metadata__", {}).get(ABOUT, "{}"))
        end = 8 + length + max((tensor["data_offsets"][1] for tensor in header.values()), default=0)
        if os.fstat(file.fileno()).st_size != end:
            raise ValueError("it was cut short")
    return about


def _table(path: str) -> dict[str, Any]:
    with open(path, encoding="utf-8", newline="") as file:
        names = file.readline()
        first = file.readline()
    if names.endswith(f",{DIGEST}\n"):  # A version without histories wrote it.
        return {DIGEST: first.rstrip("\n").rpartition(",")[2]}
    _, digest, history = added_to(names + first)
    return {DIGEST: digest, HISTORY: history or None}


def _json(path: str) -> dict[str, Any]:
    return json.loads(Path(path).read_bytes())


def _document(path: str) -> dict[str, Any]:
    suffix = os.path.splitext(path)[1]
    if suffix not in FORMATS:
        raise ValueError(f"{suffix} is no kind of artifact")
    text = FORMATS[suffix].split(Path(path).read_bytes()).text
    return {DIGEST: ""} if text is None else json.loads(text)  # Without a text, a version without histories wrote it.


READERS = {".safetensors": _tensors, ".csv": _table, ".json": _json}


def root_of(path: str | Path) -> str:
    """The folder of results in which an artifact lies."""
    whole, place = os.fspath(path), place_of(path)
    return whole[: len(whole) - len(place)].rstrip("/") or "."


def inputs_of(inputs: Namedlist, root: str, digest: Callable[[str], str] = recorded_digest) -> dict[str, dict[str, str]]:
    """What the history of an artifact below a folder of results says of the inputs of its job.

    By the name of the input, the digest of each file by the way there from that folder; the user's own files by their names
    alone, since where they lie is the machine's matter.
    """
    names = list(inputs.keys())
    files = {name: inputs[name] for name in names} if names else {"files": list(inputs)}
    found: dict[str, dict[str, str]] = {}
    for name, of_name in files.items():
        paths = [of_name] if isinstance(of_name, str) else of_name
        told = found.setdefault(name, {})
        for path in map(str, paths):
            called = name_below(path, root)
            while called in told and "/" not in called:  # Files of the user's own, in two folders.
                called += "'"
            told[called] = digest(path)
    return found


def name_below(path: str, root: str) -> str:
    """What a file is called in a folder of results: the way there, or its name alone if it is no artifact."""
    if path.startswith(f"{root}/"):
        return path[len(root) + 1 :]
    # What lies in another folder of results has a place there; all else is the user's own.
    return Path(os.path.relpath(path, root)).as_posix() if "/" in place_of(path) else Path(path).name
