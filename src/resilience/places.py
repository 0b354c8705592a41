"""What a piece of code leads to: the places in the library, and in files of the user's own, that it can reach from there.

Where the source does not say for certain, the answer is to be more than is reached, never less. It is less where packages
find this code by means of their own, and where Python finds a file of the user's by ``PYTHONPATH`` in another folder.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterable, Iterator
from functools import cache

from resilience.side_effects import SideEffects, only_hands_back
from resilience.source_code import LOOKS_AROUND, READS_SOURCE, Import, Source, imports_of, uses
from resilience.source_files import find, is_file, label, modules_in, modules_of, submodule, table_of

#: Modules whose code never reaches an artifact, and why. What they import is imported all the same.
SILENT = {
    "resilience.progress": "hands on what it counts, and writes to the log",
    "resilience.running": "keeps two runs apart, and ends a job that must not go on",
    "resilience.fork_server": "starts the process that a script runs in",
    "resilience.readable": "refuses networks that cannot be explained, and computes nothing",
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


@cache
def steps(module: str, whole: bool) -> list[str | tuple[str, frozenset[Place]]]:
    """What the import of a module does one after the other: the modules that it imports, and its own effects."""
    source = table_of(module)
    if source is None:
        return []
    steps: list[str | tuple[str, frozenset[Place]]] = []
    if not is_file(module):
        steps.extend(module[:end] for end, character in enumerate(module) if character == ".")
    counted = {id(node) for node in _side_effects(module).in_order()}
    for node in source.statements:
        if isinstance(node, ast.Import | ast.ImportFrom):
            steps.extend(found for imported in imports_of(node) for found in modules_of(imported, module))
        counts = id(node) in counted or (whole and not isinstance(node, ast.Import | ast.ImportFrom))
        if counts and module not in SILENT:
            steps.append((f"{label(module)}:{ast.unparse(node)}", places_of(node, module)))
    return steps


@cache
def _side_effects(module: str) -> SideEffects:
    return SideEffects(
        table_of(module) or Source(),
        is_ours=lambda imported: bool(modules_of(imported, module)),
        is_plain=lambda imported: _is_plain(imported, module),
        hands_back=lambda chain: _hands_back(chain, module),
    )


def _is_plain(imported: Import, here: str) -> bool:
    """Whether what is imported from the library or a file of the user's own is bound by a statement without effect."""
    module = find(imported.module, imported.level, here)
    source = table_of(module) if module else None
    if module is None or source is None or imported.name not in source.definitions or imported.name in source.imports:
        return False
    return _side_effects(module).binds_purely(imported.name)


def _is_plain_import(node: ast.stmt) -> bool:
    return isinstance(node, ast.Import | ast.ImportFrom) and all(alias.name != "*" for alias in node.names)


@cache
def beside_steps(module: str) -> frozenset[Place]:
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
def piece(module: str, name: str) -> tuple[str, frozenset[Place]]:
    """The text of what a name stands for in a module, and the places that this leads to."""
    source = None if module in SILENT else table_of(module)
    if source is None:
        return "", frozenset()
    places: set[Place] = set()
    if name == WHOLE:
        places.update((inner, WHOLE) for inner in modules_in(module))
    nodes = source.statements if name == WHOLE else source.definitions.get(name, [])
    for node in nodes:
        known = (module, getattr(node, "name", "")) in FINDS_WHAT_RECIPES_NAME
        places |= places_of(node, module) - ({ANYWHERE} if known else set())
        for imported in imports_of(node) if name == WHOLE else ():
            places.update((found, WHOLE) for found in modules_of(imported, module))
    if name in source.imports:
        places |= set(_meanings((name,), module))
    elif not nodes and name not in ("__file__", "__name__"):
        places.add((module, WHOLE))
    return f"{label(module)}:{name}:" + "\n".join(map(ast.unparse, nodes)), frozenset(places)


def places_of(node: ast.stmt, here: str) -> frozenset[Place]:
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
    if source is None or name in source.rebound or (len(chain) > 1 and chain[-1] != name):
        return False
    return [only_hands_back(node) for node in source.definitions.get(name, [])] == [True]


def forget() -> None:
    """Let the next answer follow from sources that are read again."""
    for remembered in (_side_effects, steps, beside_steps, piece):
        remembered.cache_clear()
