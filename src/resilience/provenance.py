"""Which code, and which files of the user's own, a job depends on, as digests that change with these and at no other time.

Snakemake tracks scripts by modification time and imported modules not at all. So each rule gets, among its parameters,
the digest of its script and of every function, class and constant that the script can reach, in the library and in the
files of the user's own that the config names. Comments, docstrings and layout do not count; nor do modules that cannot reach
an artifact (:data:`SILENT`).
"""

from __future__ import annotations

import ast
import hashlib
import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

LIBRARY = Path(__file__).parent
#: Modules whose code never reaches an artifact: what they do is shown, logged or checked before a job starts.
SILENT = frozenset(
    f"resilience.{name}"
    for name in (
        "catalog",
        "config",
        "parameters",
        "progress",
        "provenance",
        "known_digests",
        "fork_server",
        "running",
        "devices",
        "training.cost",
    )
)


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


@dataclass
class Module:
    """A module of the library as a table of definitions: name → source node, and what each imported name stands for."""

    definitions: dict[str, list[ast.stmt]] = field(default_factory=dict)
    imports: dict[str, tuple[str, str | None]] = field(default_factory=dict)
    effects: list[ast.stmt] = field(default_factory=list)


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


def code_digest(script: Path, functions: Iterable[tuple[str, str]] = ()) -> str:
    """Digest of ``script`` and of all code that it, or one of the functions, can reach.

    A function is ``(module, name)`` in the library, ``(file, name)`` in a file of the user's own.
    """
    start = _read(source_of(script), package="")
    nodes = [*start.effects, *_all_nodes(start)]
    texts = [f"script:{_text(node)}" for node in nodes]
    pending = {*functions, *((imported, "") for imported, _ in start.imports.values())}
    pending.update(reference for node in nodes for reference in _references(node, start, here=""))
    reached: set[tuple[str, str]] = set()
    while pending:
        place = pending.pop()
        reached.add(place)
        of_place, references = _definition(*place)
        texts.extend(of_place)
        pending.update(references - reached)
    return hashlib.sha256("\x1e".join(sorted(texts)).encode()).hexdigest()[:16]


@cache
def library_sources() -> dict[str, bytes]:
    """The source of every module of the library by the module's name, as it was when it was first asked for."""
    places = {file: file.relative_to(LIBRARY.parent).with_suffix("").parts for file in sorted(LIBRARY.rglob("*.py"))}
    return {".".join(parts).removesuffix(".__init__"): file.read_bytes() for file, parts in places.items()}


@cache
def source_of(file: Path) -> bytes:
    """The source of a script or of a file of the user's own, as it was when it was first asked for."""
    return file.read_bytes()


def forget() -> None:
    """Let the next digest read all sources again."""
    for remembered in (library_sources, source_of, _module, _definition):
        remembered.cache_clear()


@cache
def _definition(module_name: str, name: str) -> tuple[list[str], frozenset[tuple[str, str]]]:
    """The texts of what a name stands for in a module, or of the module's own effects, and all that these refer to."""
    module = None if module_name in SILENT else _module(module_name)
    if module is None:
        return [], frozenset()
    nodes = module.definitions.get(name, []) if name else module.effects
    texts = [f"{module_name}:{name}:{_text(node)}" for node in nodes]
    references = {(module_name, "")}
    references.update(reference for node in nodes for reference in _references(node, module, here=module_name))
    if name in module.imports:
        target, attribute = module.imports[name]
        references.add((target, attribute or ""))
    return texts, frozenset(references)


@cache
def _module(name: str) -> Module | None:
    """The table of a module of the library or of a file of the user's own, or None for what others wrote."""
    if name.endswith(".py"):
        return _read(source_of(Path(name)), package="")
    source = library_sources().get(name)
    return None if source is None else _read(source, package=name)


def _read(source: str | bytes, package: str) -> Module:
    """The table of a module's source, without docstrings."""
    module = Module()
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and ast.get_docstring(node, clean=False) is not None:
            node.body = node.body[1:] or [ast.Pass()]
    for node in tree.body:
        match node:
            case ast.Import(names=names):
                for alias in names:
                    bound = alias.asname or alias.name.split(".")[0]
                    module.imports[bound] = (alias.name if alias.asname else bound, None)
            case ast.ImportFrom(module=origin, names=names, level=0) if origin:
                for alias in names:
                    inner = f"{origin}.{alias.name}"
                    target = (inner, None) if inner in library_sources() else (origin, alias.name)
                    module.imports[alias.asname or alias.name] = target
            case ast.FunctionDef(name=name) | ast.ClassDef(name=name):
                module.definitions.setdefault(name, []).append(node)
            case ast.Assign(targets=[ast.Name(id=name)]) | ast.AnnAssign(target=ast.Name(id=name)):
                module.definitions.setdefault(name, []).append(node)
            case ast.Expr(value=ast.Constant()):
                continue
            case _:
                module.effects.append(node)
    return module


def _all_nodes(module: Module) -> Iterator[ast.stmt]:
    for nodes in module.definitions.values():
        yield from nodes


def _references(node: ast.stmt, module: Module, here: str) -> Iterator[tuple[str, str]]:
    """The library definitions that a piece of code names, as ``(module, name)``."""
    for child, local in _with_local_names(node, frozenset()):
        match child:
            case ast.Name(id=name) if name in local:
                continue
            case ast.Attribute(value=ast.Name(id=name), attr=attribute) if name in module.imports and name not in local:
                target, inner = module.imports[name]
                yield (target, inner or attribute)
            case ast.Name(id=name) if name in module.imports:
                target, inner = module.imports[name]
                if inner:
                    yield (target, inner)
            case ast.Name(id=name) if name in module.definitions and here:
                yield (here, name)


def _with_local_names(node: ast.AST, local: frozenset[str]) -> Iterator[tuple[ast.AST, frozenset[str]]]:
    """Every node of a piece of code, with the names that are local there: those stand for nothing of the module."""
    yield node, local
    bound, inside = _scope(node)
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.comprehension):
            for part in ast.iter_child_nodes(child):
                yield from _with_local_names(part, local | bound if part in inside else local)
        else:
            yield from _with_local_names(child, local | bound if child in inside else local)


def _scope(node: ast.AST) -> tuple[frozenset[str], list[ast.AST]]:
    """The names that a node binds, and the parts of it that see them."""
    match node:
        case ast.FunctionDef():
            return _bound(node), list(node.body)
        case ast.Lambda():
            return _bound(node), [node.body]
        case ast.ListComp() | ast.SetComp() | ast.DictComp() | ast.GeneratorExp():
            targets = [name for generator in node.generators for name in ast.walk(generator.target)]
            parts = [*ast.iter_child_nodes(node), *(part for each in node.generators for part in ast.iter_child_nodes(each))]
            # What a comprehension goes through first is looked up outside of it.
            inside = [part for part in parts if part is not node.generators[0].iter]
            return frozenset(name.id for name in targets if isinstance(name, ast.Name)), inside
    return frozenset(), []


@cache
def _bound(function: ast.FunctionDef | ast.Lambda) -> frozenset[str]:
    """Names that a function binds: its arguments, and what it assigns, imports or defines."""
    names = {argument.arg for argument in ast.walk(function.args) if isinstance(argument, ast.arg)}
    shared: set[str] = set()
    pending: list[ast.AST] = list(function.body) if isinstance(function, ast.FunctionDef) else []
    while pending:
        node = pending.pop()
        match node:
            case ast.Name(id=name, ctx=ast.Store()):
                names.add(name)
            case ast.Global(names=of_module):
                shared.update(of_module)
            case ast.alias(name=name, asname=asname):
                names.add(asname or name.split(".")[0])
            case ast.MatchAs(name=str(name)) | ast.MatchStar(name=str(name)) | ast.ExceptHandler(name=str(name)):
                names.add(name)
            case ast.FunctionDef(name=name) | ast.ClassDef(name=name):
                names.add(name)
                continue
            case ast.Lambda() | ast.ListComp() | ast.SetComp() | ast.DictComp() | ast.GeneratorExp():
                continue
        pending.extend(ast.iter_child_nodes(node))
    return frozenset(names - shared)


@cache
def _text(node: ast.stmt) -> str:
    """The code of a node without comments and layout."""
    return ast.unparse(node)
