"""Which code, and which files of the user's own, a job depends on, as digests that change with these and at no other time.

Snakemake tracks scripts by modification time and imported modules not at all. So each rule gets, among its parameters,
the digest of its script and of all that the script can reach in the library and in files of the user's own:

* every function, class and constant that is reached by name, from the script and from what the config names;
* what each module that is imported on the way does when it is imported (:mod:`resilience.side_effects`), in that order;
* all of a module, and of those that it imports, where the source does not say for certain what of it is used: where the
  module is a value (handed to ``getattr``, stored), or is imported by ``*``, by a name in quotes or not at the head;
* all of the library where code is looked for in ways that cannot be followed (:data:`resilience.places.LOOKS_FOR_CODE`);
* the names of the other packages that are imported; their code is not followed.

Comments, docstrings, layout and annotations do not count, unless code reads them; nor do modules that cannot reach an
artifact (:data:`resilience.places.SILENT`).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from resilience import places, source_files
from resilience.places import ANYWHERE, AS_WRITTEN, BENEATH, OTHERS, PACKAGE, SILENT, UNKNOWN, WHOLE, Place
from resilience.source_files import beneath, is_file, label, library_sources, looked_for, raw_source, source_of


class Code(NamedTuple):
    """The digest of what a job reaches, and the other packages that it imports there, by their top-level names."""

    digest: str
    packages: tuple[str, ...]


def canonical(value: Any) -> str:
    """One text for all ways to write the same settings: keys sorted, ``2.0`` as ``2``.

    Snakemake compares the parameters of a job as a set of values and forgets their names, so a job gets one such text
    with everything that it depends on.
    """
    return json.dumps(_plain(value), sort_keys=True, separators=(",", ":"), allow_nan=False)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value


def code_digest(script: Path, functions: Iterable[Place] = ()) -> str:
    """Digest of ``script`` and of all code that it, or one of the functions, can reach.

    A function is ``(module, name)`` in the library, ``(file, name)`` in a file of the user's own.
    """
    return reached(script, functions)[0].digest


def packages_of(script: Path, functions: Iterable[Place] = ()) -> tuple[str, ...]:
    """The packages, neither of Python nor this library, that the code imports which ``script`` and the functions reach.

    Sorted names as they are imported, such as ``PIL``; without those that only silent modules import.
    """
    return reached(script, functions)[0].packages


def reached(script: Path, functions: Iterable[Place] = ()) -> tuple[Code, list[str] | None]:
    """The code that ``script`` and the functions reach, and all files outside the library that it would change with.

    These may be missing: a file that is not there is not imported. None where they cannot be told.
    """
    walk = _Walk()
    walk.run(str(script), sorted(functions))
    packages = sorted(name for kind, name in walk.reached if kind == PACKAGE)
    content = "\x1e".join([*walk.effects, *sorted(walk.texts), *packages])
    digest = hashlib.sha256(content.encode(errors="surrogateescape")).hexdigest()[:16]
    own = {file for module in walk.loaded if is_file(module) for file in (module, *looked_for(module))}
    unsure = any(kind == BENEATH for kind, _ in walk.reached)
    return Code(digest, tuple(sorted({name.split(".")[0] for name in packages}))), None if unsure else sorted(own)


def forget() -> None:
    """Let the next digest read all sources again."""
    source_files.forget()
    places.forget()


class _Walk:
    """Collects the texts of all that is reached: what modules do on import in the order of that, definitions in any."""

    def __init__(self) -> None:
        self.effects: list[str] = []
        self.texts: set[str] = set()
        self.loaded: dict[str, None] = {}
        self.reached: set[Place] = set()
        self.pending: set[Place] = set()

    def run(self, script: str, functions: list[Place]) -> None:
        for module in (script, *(module for module, _ in functions)):
            if raw_source(module) is None:
                raise FileNotFoundError(f"there is no code to follow in {module}")
        self._load(script, whole=True)
        for module, name in functions:
            self._load(module)
            self.pending.add((module, name))
        self._follow()
        written: set[str] = set()
        while AS_WRITTEN in self.reached and (more := self.loaded.keys() - written - SILENT.keys()):
            written |= more
            self.texts.update(f"{label(module)}:{raw_source(module)!r}" for module in more)
            self.pending.update((module, WHOLE) for module in more)
            self._follow()

    def _follow(self) -> None:
        while self.pending:
            # In a fixed order: that of the modules that are imported on the way counts.
            new = sorted(self.pending - self.reached)
            self.reached.update(new)
            self.pending.clear()
            for place in new:
                self._take(place)

    def _take(self, place: Place) -> None:
        module, name = place
        if place == ANYWHERE:
            self.pending.update((module, WHOLE) for module in library_sources())
        elif module == BENEATH:
            self.texts.update(f"{file}:{source_of(file)!r}" for file in beneath(Path(name).parent))
        elif module == OTHERS:
            self.texts.add(name)
        elif module not in (PACKAGE, UNKNOWN):
            self._load(module)
            text, further = places.piece(module, name)
            self.texts.add(text)
            self.pending |= further

    def _load(self, module: str, whole: bool = False) -> None:
        """Import a module: what it imports and what it does, in this order."""
        if module in self.loaded:
            return
        self.loaded[module] = None
        for step in places.steps(module, whole):
            if isinstance(step, str):
                self._load(step)
            else:
                self.effects.append(step[0])
                self.pending |= step[1]
        self.pending |= places.beside_steps(module)
