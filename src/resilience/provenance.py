"""Which code, and which files of the user's own, a job depends on, as digests that change with these and at no other time.

Snakemake tracks scripts by modification time and imported modules not at all. So each rule gets, among its parameters,
the digest of its script and of all that the script can reach in the library and in files of the user's own:

* every function, class and constant that is reached by name, from the script and from what the config names;
* what each module that is imported on the way does when it is imported (:mod:`resilience.side_effects`), in that order;
* all of a module, and of those that it imports, where the source does not say for certain what of it is used: where the
  module is a value (handed to ``getattr``, stored), or is imported by ``*``, by a name in quotes or not at the head;
* all of the library where code is looked for in ways that cannot be followed (:data:`LOOKS_FOR_CODE`);
* the names of the other packages that are imported; their code is not followed.

Comments, docstrings, layout and annotations do not count, unless code reads them; nor do modules that cannot reach an
artifact (:data:`SILENT`).
"""

from __future__ import annotations

import ast
import hashlib
import json
import os
import sys
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from resilience.side_effects import SideEffects, only_hands_back
from resilience.source_code import LOOKS_AROUND, READS_SOURCE, Import, imports_of, uses
from resilience.source_files import (
    beneath,
    find,
    is_file,
    label,
    library_sources,
    looked_for,
    modules_of,
    raw_source,
    source_of,
    submodule,
    table_of,
)

#: Modules whose code never reaches an artifact, and why. What they import is imported all the same.
SILENT = {
    "resilience.progress": "hands on what it counts, and writes to the log",
    "resilience.running": "keeps two runs apart, and ends a job that must not go on",
    "resilience.fork_server": "starts the process that a script runs in",
    "resilience.training.cost": "measures gradients and throws them away, and writes to the log",
}
#: What finds code by names that are computed, or among all that there is.
LOOKS_FOR_CODE = (
    *("eval", "exec", "__import__", "__builtins__", "__loader__", "__spec__", "builtins", "importlib", "runpy"),
    *("pkgutil", "pickle", "shelve", "gc.get_objects", "gc.get_referrers", "sys.modules", "sys._getframe"),
    *("inspect.currentframe", "inspect.stack", "inspect.getmodule"),
)
#: What does not, although its name says so.
LOOKS_FOR_NONE = ("importlib.metadata", "importlib.resources")
#: What says where files are imported from.
LOOKS_ELSEWHERE = ("sys.path", "sys.meta_path", "sys.path_hooks", "site")
#: What reads annotations or the source of what it is given, beside the names in ``READS_SOURCE``.
READERS = (
    *("pydantic", "attr", "attrs", "beartype", "typeguard", "jaxtyping", "msgspec", "cattrs", "torch.jit"),
    "torch.library",
)
#: Where the library looks for code all the same: it finds functions that entries of a config name. The recipe of a job names
#: those of its entries, and they are followed from there.
FINDS_WHAT_RECIPES_NAME = frozenset((("resilience.catalog", "load"), ("resilience.catalog", "_run")))

#: A name in a module. A module of the library goes by its name, one of the user's own and a script by their paths.
Place = tuple[str, str]
#: Instead of a name: all of the module.
WHOLE = "*"
#: Instead of a module: a package of others, what an imported name of others is, and what cannot be followed.
PACKAGE, OTHERS, UNKNOWN = "package", "others", "unknown"
#: What cannot be followed: into the library, into the files beneath that of the user's own, and into what is no code.
ANYWHERE, AS_WRITTEN = (UNKNOWN, "anywhere"), (UNKNOWN, "as written")
BENEATH = "beneath"


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
    for remembered in (library_sources, source_of, table_of, find, modules_of, looked_for, _steps, _beside_steps, _piece):
        remembered.cache_clear()


class _Walk:
    """Collects the texts of all that is reached: what modules do on import in the order of that, definitions in any."""

    def __init__(self) -> None:
        self.effects: list[str] = []
        self.texts: set[str] = set()
        self.loaded: dict[str, None] = {}
        self.reached: set[Place] = set()
        self.pending: set[Place] = set()

    def run(self, script: str, functions: list[Place]) -> None:
        if raw_source(script) is None:
            raise FileNotFoundError(f"there is no script {script}")
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
            places = sorted(self.pending - self.reached)
            self.reached.update(places)
            self.pending.clear()
            for place in places:
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
            text, places = _piece(module, name)
            self.texts.add(text)
            self.pending |= places

    def _load(self, module: str, whole: bool = False) -> None:
        """Import a module: what it imports and what it does, in this order."""
        if module in self.loaded:
            return
        self.loaded[module] = None
        for step in _steps(module, whole):
            if isinstance(step, str):
                self._load(step)
            else:
                self.effects.append(step[0])
                self.pending |= step[1]
        self.pending |= _beside_steps(module)


@cache
def _steps(module: str, whole: bool) -> list[str | tuple[str, frozenset[Place]]]:
    """What the import of a module does one after the other: the modules that it imports, and its own effects."""
    source = table_of(module)
    if source is None:
        return []
    steps: list[str | tuple[str, frozenset[Place]]] = []
    if not is_file(module):
        steps.extend(module[:end] for end, character in enumerate(module) if character == ".")
    judge = SideEffects(source, lambda found: bool(modules_of(found, module)), lambda chain: _hands_back(chain, module))
    counted = {id(node) for node in judge.in_order()}
    for node in source.statements:
        if isinstance(node, ast.Import | ast.ImportFrom):
            steps.extend(found for imported in imports_of(node) for found in modules_of(imported, module))
        counts = id(node) in counted or (whole and not isinstance(node, ast.Import | ast.ImportFrom))
        if counts and module not in SILENT:
            steps.append((f"{label(module)}:{ast.unparse(node)}", _places(node, module)))
    return steps


def _is_plain_import(node: ast.stmt) -> bool:
    return isinstance(node, ast.Import | ast.ImportFrom) and all(alias.name != "*" for alias in node.names)


@cache
def _beside_steps(module: str) -> frozenset[Place]:
    """What else the imports at the head of a module lead to: packages of others, and files in folders without a head."""
    source = None if module in SILENT else table_of(module)
    found: set[Place] = set()
    for imported in (imported for node in source.statements for imported in imports_of(node)) if source else ():
        ours = modules_of(imported, module)
        if not ours:
            found.update(_package(imported))
        elif not imported.name and find(imported.module.split(".")[0], 0, module) is None:
            found.update((place, WHOLE) for place in ours)
    return frozenset(found)


def _package(imported: Import) -> Iterator[Place]:
    if not imported.level and imported.module.split(".")[0] not in (*sys.stdlib_module_names, "resilience"):
        yield PACKAGE, imported.module


@cache
def _piece(module: str, name: str) -> tuple[str, frozenset[Place]]:
    """The text of what a name stands for in a module, and the places that this leads to."""
    source = None if module in SILENT else table_of(module)
    if source is None:
        return "", frozenset()
    places: set[Place] = set()
    nodes = source.statements if name == WHOLE else source.definitions.get(name, [])
    for node in nodes:
        known = (module, getattr(node, "name", "")) in FINDS_WHAT_RECIPES_NAME
        places |= _places(node, module) - ({ANYWHERE} if known else set())
        for imported in imports_of(node) if name == WHOLE else ():
            places.update((found, WHOLE) for found in modules_of(imported, module))
    if name in source.imports:
        places |= set(_meanings((name,), module))
    elif not nodes and name not in ("__file__", "__name__"):
        places.add((module, WHOLE))
    return f"{label(module)}:{name}:" + "\n".join(map(ast.unparse, nodes)), frozenset(places)


def _places(node: ast.stmt, here: str) -> frozenset[Place]:
    """The places that a statement of a module leads to."""
    chains, imports = uses(node)
    places = {place for chain in chains for place in _meanings(chain, here)}
    for imported in imports if not _is_plain_import(node) else ():
        places.update((found, WHOLE) for found in modules_of(imported, here))
        if not modules_of(imported, here):
            places.update(_package(imported))
            places.update(_unknown(".".join(filter(None, (imported.module, imported.name.strip("*")))), here))
    return frozenset(places)


def _meanings(chain: tuple[str, ...], here: str) -> Iterator[Place]:
    """The places that a name of a module, with the attributes that follow, stands for."""
    source = table_of(here)
    if source is None:
        return
    name, *attributes = chain
    if not READS_SOURCE.isdisjoint(chain):
        yield AS_WRITTEN
    if not LOOKS_AROUND.isdisjoint(chain):
        yield ANYWHERE
    if name in source.definitions:
        yield here, name
    for imported in source.imports.get(name, ()):
        yield from _imported(imported, attributes, here)
        if not modules_of(imported, here):
            yield OTHERS, f"{label(here)}:{name}={imported.module}:{imported.name}"
            yield from _unknown(".".join(filter(None, (imported.module, imported.name, *attributes))), here)
    if name not in source.definitions and name not in source.imports:
        yield from _unknown(".".join(chain), here)
    if name in ("globals", "locals", "vars"):
        yield here, WHOLE


def _imported(imported: Import, attributes: list[str], here: str) -> Iterator[Place]:
    """The places that an import stands for with the attributes that follow, through packages as far as these go."""
    module, name, level = imported
    place = find(module, level, here)
    if name:
        inner = find(f"{module}.{name}".strip("."), level, here)
        if place and (inner is None or _binds(place, name)):
            yield place, name
        place = inner
    while place and attributes and (inner := submodule(place, attributes[0])):
        if _binds(place, attributes[0]):
            yield place, attributes[0]
        place, attributes = inner, attributes[1:]
    if place:
        yield place, attributes[0] if attributes else WHOLE


def _binds(module: str, name: str) -> bool:
    source = table_of(module)
    return source is not None and (name in source.definitions or name in source.imports)


def _unknown(full: str, here: str) -> Iterator[Place]:
    """What cannot be followed of what others wrote, by its full name; a module as a value stands for all that it holds."""

    def among(names: Iterable[str]) -> bool:
        return any(full == name or full.startswith(f"{name}.") or name.startswith(f"{full}.") for name in names)

    if among(READERS) or not READS_SOURCE.isdisjoint(full.split(".")):
        yield AS_WRITTEN
    if among(LOOKS_FOR_CODE) and not full.startswith(LOOKS_FOR_NONE):
        yield ANYWHERE
    elif not among(LOOKS_ELSEWHERE):
        return
    if is_file(here):
        yield BENEATH, here


def _hands_back(chain: tuple[str, ...], here: str) -> bool:
    """Whether a decorator is one of the library that hands back what it decorates."""
    places = {(module, name) for module, name in _meanings(chain, here) if module not in (OTHERS, UNKNOWN)}
    if len(places) != 1:
        return False
    ((module, name),) = places
    source = table_of(module)
    nodes = source.definitions.get(name, []) if source else []
    return [only_hands_back(node) for node in nodes] == [True]
