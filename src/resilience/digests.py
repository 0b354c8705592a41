"""Digests of what is in a text, a file or a folder."""

from __future__ import annotations

import hashlib
import os
from functools import cache
from pathlib import Path


def short_digest(content: bytes) -> str:
    """The first 64 bits of a SHA-256: enough against accidents, and short enough to stand in every row of a table."""
    return "sha256:" + hashlib.sha256(content).hexdigest()[:16]


@cache
def content_digest(path: Path) -> str:
    """Digest of a file, or of the names and contents of all files in a folder but those whose names start with a dot."""
    if path.is_file():
        with path.open("rb") as content:
            return hashlib.file_digest(content, "sha256").hexdigest()[:16]
    inside = sorted((file.relative_to(path) for file in path.rglob("[!.]*")), key=os.fsencode)
    shown = [file for file in inside if not any(part.startswith(".") for part in file.parts)]
    contents = [
        os.fsencode(file) + f":{content_digest(path / file) if (path / file).is_file() else ''}".encode() for file in shown
    ]
    return hashlib.sha256(b"\x1e".join(contents)).hexdigest()[:16]
