"""Pictures and pages as files: written whole, with a digest and a history inside, and compared with them when read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from resilience.artifacts import (
    DIGEST,
    HISTORY,
    REMEDY,
    ArtifactError,
    json_of,
    json_text,
    place_of,
    refuse_changed_history,
    vouched,
    whole,
)
from resilience.digests import short_digest
from resilience.embedding import FORMATS
from resilience.history import History


def write_document(path: str | Path, content: bytes, history: History | None = None) -> None:
    """Write a PNG, PDF or HTML with its digest and history inside; what it shows stays the same."""
    told = vouched(_digest_of(path, content), history)
    with whole(path) as partial:
        partial.write_bytes(FORMATS[Path(path).suffix].embed(content, json_text(told)))


def read_document(path: str | Path) -> tuple[bytes, dict[str, Any]]:
    """A PNG, PDF or HTML as it was before :func:`write_document` put in what it says of itself, and that.

    Raises
    ------
    ArtifactError
        If the file is missing, damaged, another document, or was changed.
    """
    try:
        content, text = FORMATS[Path(path).suffix].split(Path(path).read_bytes())
        told = json_of(text or "")
        intact = told[DIGEST] == _digest_of(path, content) and told.keys() <= {DIGEST, HISTORY}
    except OSError as error:
        raise ArtifactError(f"{path}: cannot be read ({error})") from error
    except (AttributeError, ValueError, KeyError, TypeError) as error:
        raise ArtifactError(f"{path}: is damaged, or says nothing of itself; {REMEDY}") from error
    if not intact:
        raise ArtifactError(f"{path}: is damaged, another document, or was changed after it was written; {REMEDY}")
    refuse_changed_history(path, told[DIGEST], told.get(HISTORY))
    return content, told


def _digest_of(path: str | Path, content: bytes) -> str:
    """Of a document and the place that it belongs to."""
    return short_digest(place_of(path).encode() + b"\n" + content)
