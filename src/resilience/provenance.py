"""Which code, and which files of the user's own, a job depends on, as digests that change with these and at no other time.

Snakemake tracks scripts by modification time and imported modules not at all. So each rule gets, among its parameters,
the digest of its script and of all that the script can reach in the library and in files of the user's own:

* every function, class and constant that is reached by name, from the script and from what the config names;
* what each module that is imported on the way does when it is imported (:mod:`resilience.side_effects`), in that order;
* all of a module, and of those that it imports, where the source does not say for certain what of it is used: where the
  module is a value (handed to ``getattr``, stored), or is imported by ``*``, by a name in quotes or elsewhere than at the head;
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
from resilience.source_code import READS_SOURCE, Import, Source, imports_of, read, uses

LIBRARY = Path(__file__).parent
#: Modules whose code never reaches an artifact, and why. What they import is imported all the same.
SILENT = {
    "resilience.progress": "hands on what it counts, and writes to the log",
    "resilience.running": "keeps two runs apart, and ends a job that must not go on",
    "resilience.fork_server": "starts the process that a script runs in",
    "resilience.training.cost": "measures gradients and throws them away, and writes to the log",
}
#: What finds code by names that are computed, or among all that there is.
LOOKS_FOR_CODE = (
    *("eval", "exec", "__import__", "__builtins__", "__loader__", "__spec__", "builtins", "importlib", "runpy", "pkgutil"),
    *("gc.get_objects", "gc.get_referrers", "sys.modules", "sys._getframe", "inspect.currentframe", "inspect.stack"),
    *("inspect.getmodule", "object.__subclasses__", "pickle", "shelve"),
)
#: What does not, although its name says so.
LOOKS_FOR_NONE = ("importlib.metadata", "importlib.resources")
#: What says where files are imported from.
LOOKS_ELSEWHERE = ("sys.path", "sys.meta_path", "sys.path_hooks", "site")
#: What reads annotations or the source of what it is given, beside the names in ``READS_SOURCE``.
READERS = (
    "pydantic",
    "attr",
    "attrs",
    "beartype",
    "typeguard",
    "jaxtyping",
    "msgspec",
    "cattrs",
    "torch.jit",
    "torch.library",
)
#: Where the library looks for code all the same: it finds the functions that the entries of a config name, and a recipe names
#: those of its job, so that they are followed from there.
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
    own = {file for module in walk.loaded if _is_file(module) for file in (module, *_looked_for(module))}
    unsure = any(kind == BENEATH for kind, _ in walk.reached)
    return Code(digest, tuple(sorted({name.split(".")[0] for name in packages}))), None if unsure else sorted(own)


@cache
def library_sources() -> dict[str, bytes]:
    """The source of every module of the library by the module's name, as it was when it was first asked for."""
    places = {file: file.relative_to(LIBRARY.parent).with_suffix("").parts for file in sorted(LIBRARY.rglob("*.py"))}
    return {".".join(parts).removesuffix(".__init__"): file.read_bytes() for file, parts in places.items()}


@cache
def source_of(file: Path) -> bytes | None:
    """The source of a script or of a file of the user's own, as it was when it was first asked for; None if there is none."""
    return file.read_bytes() if file.is_file() else None


def forget() -> None:
    """Let the next digest read all sources again."""
    for remembered in (library_sources, source_of, _module, _steps, _piece, _find, _looked_for):
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
        self._load(script, whole=True)
        for module, name in functions:
            self._load(module)
            self.pending.add((module, name))
        self._follow()
        while AS_WRITTEN in self.reached and (more := {(module, WHOLE) for module in self.loaded} - self.reached):
            self.texts.update(f"{_label(module)}:{_raw(module)!r}" for module, _ in more)
            self.pending |= more
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
            self.texts.update(f"{file}:{source_of(file)!r}" for file in _beneath(Path(name).parent))
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
        self.pending.update(_packages(module))


@cache
def _module(name: str) -> Source | None:
    """A module of the library, a script or a file of the user's own as a table; None for what is none of these."""
    source = _raw(name)
    try:
        return None if source is None else read(source)
    except (SyntaxError, ValueError):
        return Source([ast.Raise(exc=ast.Constant(value=source))])


def _raw(module: str) -> bytes | None:
    return source_of(Path(module)) if _is_file(module) else library_sources().get(module)


def _is_file(module: str) -> bool:
    return module.endswith(".py")


def _label(module: str) -> str:
    """What stands for a module in texts: of a script its name alone, wherever the workflow lies."""
    return Path(module).name if os.path.isabs(module) else module


@cache
def _steps(module: str, whole: bool) -> list[str | tuple[str, frozenset[Place]]]:
    """What the import of a module does one after the other: the modules that it imports, and its own effects."""
    source = _module(module)
    if source is None:
        return []
    steps: list[str | tuple[str, frozenset[Place]]] = []
    if not _is_file(module):
        steps.extend(module[:end] for end, character in enumerate(module) if character == ".")
    judge = SideEffects(source, lambda found: bool(_modules_of(found, module)), lambda chain: _hands_back(chain, module))
    counted = {id(node) for node in (source.statements if whole else judge.in_order())}
    for node in source.statements:
        if isinstance(node, ast.Import | ast.ImportFrom):
            steps.extend(found for imported in imports_of(node) for found in _modules_of(imported, module))
        if id(node) in counted and module not in SILENT and not (whole and _is_plain_import(node)):
            steps.append((f"{_label(module)}:{ast.unparse(node)}", _places(node, module)))
    return steps


def _is_plain_import(node: ast.stmt) -> bool:
    return isinstance(node, ast.Import | ast.ImportFrom) and all(alias.name != "*" for alias in node.names)


def _packages(module: str) -> Iterator[Place]:
    """The packages of others that a module imports at its head."""
    source = None if module in SILENT else _module(module)
    for node in source.statements if source else ():
        for imported in imports_of(node):
            if not _modules_of(imported, module):
                yield from _package(imported)


def _package(imported: Import) -> Iterator[Place]:
    if not imported.level and imported.module.split(".")[0] not in (*sys.stdlib_module_names, "resilience"):
        yield PACKAGE, imported.module


@cache
def _piece(module: str, name: str) -> tuple[str, frozenset[Place]]:
    """The text of what a name stands for in a module, and the places that this leads to."""
    source = None if module in SILENT else _module(module)
    if source is None:
        return "", frozenset()
    places: set[Place] = set()
    nodes = source.statements if name == WHOLE else source.definitions.get(name, [])
    for node in nodes:
        places |= _places(node, module)
        for imported in imports_of(node) if name == WHOLE else ():
            places.update((found, WHOLE) for found in _modules_of(imported, module))
    if name in source.imports:
        places.update(_meanings((name,), module))
    elif not nodes and name not in ("__file__", "__name__"):
        places.add((module, WHOLE))
    if (module, name) in FINDS_WHAT_RECIPES_NAME:
        places.discard(ANYWHERE)
    return f"{_label(module)}:{name}:" + "\n".join(map(ast.unparse, nodes)), frozenset(places)


def _places(node: ast.stmt, here: str) -> frozenset[Place]:
    """The places that a statement of a module leads to."""
    chains, imports = uses(node)
    places = {place for chain in chains for place in _meanings(chain, here)}
    for imported in imports if not _is_plain_import(node) else ():
        places.update((found, WHOLE) for found in _modules_of(imported, here))
        if not _modules_of(imported, here):
            places.update(_package(imported))
            places.update(_unknown(".".join(filter(None, (imported.module, imported.name.strip("*")))), here))
    return frozenset(places)


def _meanings(chain: tuple[str, ...], here: str) -> Iterator[Place]:
    """The places that a name of a module, with the attributes that follow, stands for."""
    source = _module(here)
    if source is None:
        return
    name, *attributes = chain
    if not READS_SOURCE.isdisjoint(chain):
        yield AS_WRITTEN
    if name in source.definitions:
        yield here, name
    for imported in source.imports.get(name, ()):
        yield from _imported(imported, attributes, here)
        if not _modules_of(imported, here):
            yield OTHERS, f"{_label(here)}:{name}={imported.module}:{imported.name}"
            yield from _unknown(".".join(filter(None, (imported.module, imported.name, *attributes))), here)
    if name not in source.definitions and name not in source.imports:
        yield from _unknown(".".join(chain), here)
    if name in ("globals", "locals", "vars"):
        yield here, WHOLE


def _imported(imported: Import, attributes: list[str], here: str) -> Iterator[Place]:
    """The places that an import stands for with the attributes that follow, through packages as far as these go."""
    module, name, level = imported
    place = _find(module, level, here)
    if name:
        inner = _find(f"{module}.{name}".strip("."), level, here)
        if place and (inner is None or _binds(place, name)):
            yield place, name
        place = inner
    while place and attributes and (inner := _inside(place, attributes[0])):
        if _binds(place, attributes[0]):
            yield place, attributes[0]
        place, attributes = inner, attributes[1:]
    if place:
        yield place, attributes[0] if attributes else WHOLE


def _binds(module: str, name: str) -> bool:
    source = _module(module)
    return source is not None and (name in source.definitions or name in source.imports)


def _unknown(full: str, here: str) -> Iterator[Place]:
    """What cannot be followed of what others wrote, by its full name; a module as a value stands for all that it holds."""

    def among(names: Iterable[str]) -> bool:
        return any(full == name or full.startswith(f"{name}.") or name.startswith(f"{full}.") for name in names)

    if among(READERS):
        yield AS_WRITTEN
    if among(LOOKS_FOR_CODE) and not full.startswith(LOOKS_FOR_NONE):
        yield ANYWHERE
    elif not among(LOOKS_ELSEWHERE):
        return
    if _is_file(here):
        yield BENEATH, here


def _hands_back(chain: tuple[str, ...], here: str) -> bool:
    """Whether a decorator is one of the library that hands back what it decorates."""
    places = {(module, name) for module, name in _meanings(chain, here) if module not in (OTHERS, UNKNOWN)}
    if len(places) != 1:
        return False
    ((module, name),) = places
    source = _module(module)
    nodes = source.definitions.get(name, []) if source else []
    return [only_hands_back(node) for node in nodes] == [True]


def _modules_of(imported: Import, here: str) -> list[str]:
    """The modules of the library and the files of the user's own that an import imports, packages before what is in them."""
    module, name, level = imported
    parts = f"{module}.{name}".strip(".").split(".") if name not in ("", WHOLE) else module.split(".")
    found = (_find(".".join(parts[:end]), level, here) for end in range(0 if level else 1, len(parts) + 1))
    return list(dict.fromkeys(place for place in found if place))


@cache
def _find(module: str, level: int, here: str) -> str | None:
    """The module of the library, or the file, that a name in an import means; None for what others wrote."""
    if not _is_file(here) and level:
        parts = here.split(".")
        is_package = any(name.startswith(f"{here}.") for name in library_sources())
        module = ".".join([*parts[: len(parts) + is_package - level], *filter(None, [module])])
    if not (_is_file(here) and level) and module in library_sources():
        return module
    return next((file for file in _candidates(module, level, here) if source_of(Path(file)) is not None), None)


def _inside(module: str, name: str) -> str | None:
    """The module of that name in a package."""
    if not _is_file(module):
        return _find(f"{module}.{name}", 0, module)
    return _find(name, 1, module) if Path(module).name == "__init__.py" else None


def _candidates(module: str, level: int, here: str) -> list[str]:
    """The files that an import in a script or in a file of the user's own may mean: beside it, or where the run is."""
    if not _is_file(here) or (not level and module.split(".")[0] in (*sys.stdlib_module_names, "resilience")):
        return []
    beside = Path(here).parent.joinpath(*[".."] * (level - 1))
    folders = [beside] if level or beside.is_absolute() else list(dict.fromkeys((beside, Path())))
    stems = [folder.joinpath(*module.split(".")) for folder in folders]
    return [os.path.normpath(file) for stem in stems for file in (f"{stem}.py", stem / "__init__.py")]


@cache
def _looked_for(file: str) -> frozenset[str]:
    """The files that a script or a file of the user's own would import if they were there."""
    source = _module(file)
    imports = {imported for node in source.statements for imported in uses(node).imports} if source else set()
    found: set[str] = set()
    for module, name, level in imports:
        for dotted in {module, f"{module}.{name}".strip(".*")}:
            parts = dotted.split(".")
            found.update(part for end in range(len(parts)) for part in _candidates(".".join(parts[: end + 1]), level, file))
    return frozenset(found)


def _beneath(folder: Path) -> Iterator[Path]:
    """All Python files in a folder and those in it, but those whose names start with a dot."""
    for place, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (Path(place, file) for file in sorted(files) if file.endswith(".py"))
