"""Digests of code that were taken before, in a file: to read the library is quick, to parse it takes longer than a plan.

The same sources have the same digest. So each is kept with the digests of the bytes of all that it could follow from,
whether the code is reached or not: the library, the script, the files of the user's own with those that they import, or
would if they were there, and the version of Python. Where any of these differs, the digest is taken anew. Nothing here rests
on the time or the size of a file.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import sys
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

from resilience.provenance import Code, reached
from resilience.source_files import library_sources, source_of


class KnownDigests:
    """Digests of this library's code, kept in a file that several processes may read and replace at a time.

    Parameters
    ----------
    place
        The file. One that is damaged, or that cannot be written or read, is done without.
    """

    def __init__(self, place: Path):
        self.place = place
        self.library = _digest(sys.version, *(part for item in sorted(library_sources().items()) for part in item))
        self.known = self._read()

    def of(self, script: Path, functions: Iterable[tuple[str, str]] = ()) -> Code:
        """As :func:`resilience.provenance.code_digest`, with the packages."""
        functions = sorted(functions)
        asked = _digest(os.fspath(script), json.dumps(functions))
        kept = self.known.get(asked)
        if kept and all(_digest_of_file(file) == digest for file, digest in kept["files"].items()):
            return Code(kept["digest"], tuple(kept["packages"]))
        code, files = reached(script, functions)
        if files is not None:
            kept = {
                "digest": code.digest,
                "packages": code.packages,
                "files": {file: _digest_of_file(file) for file in files},
            }
            self.known |= {**self._read(), asked: kept}
            self._write()
        return code

    def _read(self) -> dict[str, Any]:
        """What the file keeps of this library: nothing if it is damaged, or is about another one."""
        with suppress(OSError, ValueError, KeyError, TypeError):
            content = json.loads(self.place.read_bytes())
            if content["seal"] == self._seal(content["digests"]):
                return content["digests"]
        return {}

    def _write(self) -> None:
        partial = self.place.with_name(f".{self.place.name}.{secrets.token_hex(4)}")
        with suppress(OSError):
            try:
                self.place.parent.mkdir(parents=True, exist_ok=True)
                partial.write_text(json.dumps({"digests": self.known, "seal": self._seal(self.known)}), encoding="utf-8")
                os.replace(partial, self.place)
            finally:
                partial.unlink(missing_ok=True)

    def _seal(self, digests: dict[str, Any]) -> str:
        """What vouches for digests: that they are as they were written, and of this library."""
        return _digest(self.library, json.dumps(digests, sort_keys=True))


def _digest_of_file(file: str) -> str | None:
    source = source_of(Path(file))
    return None if source is None else _digest(source)


def _digest(*parts: str | bytes) -> str:
    """SHA-256 of several texts, in which it counts where each of them ends."""
    digest = hashlib.sha256()
    for part in parts:
        content = part.encode(errors="surrogateescape") if isinstance(part, str) else part
        digest.update(b"%d:" % len(content) + content)
    return digest.hexdigest()
