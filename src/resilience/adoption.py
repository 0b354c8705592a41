"""Artifacts that are taken for what the config now asks for, because somebody vouches for them: ``snakemake --touch``.

Their content stays; their history becomes that of now, and says that it was adopted.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from resilience.artifacts import (
    DIGEST,
    REMEDY,
    ArtifactError,
    digest_of_text,
    read_about,
    read_json,
    read_tensors,
    read_text,
    split_table,
    write_json,
    write_table_text,
    write_tensors,
)
from resilience.documents import write_document
from resilience.embedding import FORMATS
from resilience.heads import head_of
from resilience.history import History

#: The device of an artifact whose first history is that of its adoption.
UNKNOWN = "unknown"


def adopt(path: str | Path, history: History) -> None:
    """Give an artifact a history, also one that a version without histories wrote.

    Who vouches that it would be made to the same content does not know with which packages and on which device it was made:
    those stay what they were, or are not known.

    Raises
    ------
    ArtifactError, ValueError
        If it is damaged, or belongs to another place.
    """
    made = head_of(path).history or replace(history, packages={}, device=UNKNOWN)
    history = replace(history, packages=made.packages, device=made.device, adopted=True)
    match Path(path).suffix:
        case ".safetensors":
            write_tensors(path, read_tensors(path), read_about(path), history)
        case ".json":
            write_json(path, read_json(path), history)
        case ".csv":
            write_table_text(path, _bare(path), history)
        case suffix:
            write_document(path, FORMATS[suffix].split(Path(path).read_bytes()).content, history)


def _bare(path: str | Path) -> str:
    """The text of a table without what was added to it, by this version or by one without histories."""
    text = read_text(path)
    names, _, first = text.partition("\n")
    if names.endswith(f",{DIGEST}"):
        digest = first.partition("\n")[0].rpartition(",")[2]
        bare = text.replace(f",{DIGEST}\n", "\n", 1).replace(f",{digest}\n", "\n")
    else:
        try:
            bare, digest, _ = split_table(text)
        except ValueError:  # Without rows, such a version had the digest for a name.
            bare, _, digest = text.rstrip("\n").rpartition(",")
            bare += "\n"
    if digest != digest_of_text(path, bare):
        raise ArtifactError(f"{path}: is damaged, another table, or was changed after it was written; {REMEDY}")
    return bare
