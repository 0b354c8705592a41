"""A module's source as a table: what each name is bound to, what is imported, and which names a piece of code uses.

This knows the rules of Python alone: nothing of files, of this library, or of jobs.
"""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

#: Attributes and functions through which code reads what is no code: docstrings, annotations, comments.
READS_SOURCE = frozenset(
    (
        *("__doc__", "__annotations__", "__annotate__", "__text_signature__", "get_type_hints", "get_annotations"),
        *("getdoc", "getsource", "getsourcelines", "signature", "singledispatch", "singledispatchmethod"),
    )
)
#: Attributes through which code finds other code that it does not name.
LOOKS_AROUND = frozenset(("__subclasses__", "__globals__", "f_globals", "__code__"))
_NOTICED = READS_SOURCE | LOOKS_AROUND
_Function = ast.FunctionDef | ast.AsyncFunctionDef
_Comprehension = ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp


class Import(NamedTuple):
    """``from module import name``, or ``import module`` without a name, ``level`` packages above."""

    module: str
    name: str = ""
    level: int = 0


class Uses(NamedTuple):
    """What code uses: names that are not local to it, each with the attributes that follow, and what is imported inside."""

    chains: frozenset[tuple[str, ...]]
    imports: frozenset[Import]


@dataclass
class Source:
    """A module's statements in order, without docstrings and what only type checkers see, and what its names stand for."""

    statements: list[ast.stmt] = field(default_factory=list)
    definitions: dict[str, list[ast.stmt]] = field(default_factory=dict)
    imports: dict[str, list[Import]] = field(default_factory=dict)
    #: Names that several statements bind: what they stand for depends on the order.
    rebound: frozenset[str] = frozenset()
    #: Whether annotations are text that nothing evaluates by itself: ``from __future__ import annotations``.
    deferred: bool = False


def read(source: bytes | str) -> Source:
    """The table of a source text.

    Raises
    ------
    SyntaxError, ValueError
        If it is no Python.
    """
    tree = ast.parse(source)
    heads = [imported for node in tree.body for imported in imports_of(node)]
    found = Source(list(_statements(tree.body, Import("typing", "TYPE_CHECKING") in heads)))
    found.deferred = Import("__future__", "annotations") in heads
    _strip(found.statements, found.deferred)
    times: Counter[str] = Counter()
    for node in found.statements:
        if isinstance(node, ast.Import | ast.ImportFrom):
            for imported, alias in zip(imports_of(node), node.names, strict=True):
                bound = alias.asname or alias.name.split(".")[0]
                meaning = imported if alias.asname or imported.name else Import(bound)
                if meaning not in found.imports.setdefault(bound, []):
                    found.imports[bound].append(meaning)
                    times[bound] += 1
        else:
            for bound in bound_by(node):
                found.definitions.setdefault(bound, []).append(node)
                times[bound] += 1
    found.rebound = frozenset(name for name, number in times.items() if number > 1)
    return found


def imports_of(node: ast.stmt) -> list[Import]:
    """What an import statement imports; of another statement nothing."""
    match node:
        case ast.Import(names=names):
            return [Import(alias.name) for alias in names]
        case ast.ImportFrom(module=origin, names=names, level=level):
            return [Import(origin or "", alias.name, level) for alias in names]
    return []


def bound_by(node: ast.stmt) -> set[str]:
    """The names that a statement binds where it stands, in whatever way."""
    names: set[str] = set()
    pending: list[ast.AST] = [node]
    while pending:
        child = pending.pop()
        match child:
            case ast.Name(id=name, ctx=ast.Store() | ast.Del()):
                names.add(name)
            case ast.alias(name=name, asname=asname):
                names.add(asname or name.split(".")[0])
            case ast.MatchAs(name=str(name)) | ast.MatchStar(name=str(name)) | ast.ExceptHandler(name=str(name)):
                names.add(name)
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                names.add(name)
                continue
            case ast.Lambda() | ast.ListComp() | ast.SetComp() | ast.DictComp() | ast.GeneratorExp():
                continue
        pending.extend(_children(child))
    return names


def uses(node: ast.AST) -> Uses:
    """What a statement of a module, or an expression of one, uses of the module and of others."""
    found = _Uses()
    found.visit(node, frozenset())
    return Uses(frozenset(found.chains), frozenset(found.imports))


class _Uses:
    """Goes through a piece of code with the names that are local there: those stand for nothing of the module.

    A name that is taken for one of the module though it is local costs a run too many; the other way round is a mistake.
    """

    def __init__(self) -> None:
        self.chains: set[tuple[str, ...]] = set()
        self.imports: set[Import] = set()

    def visit(self, node: ast.AST, local: frozenset[str]) -> None:
        match node:
            case ast.Name(id=name):
                if name not in local:
                    self.chains.add((name,))
            case ast.Attribute():
                self._attribute(node, local)
            case ast.Constant(value=value):
                if isinstance(value, str) and value in _NOTICED:
                    self.chains.add((value,))
            case ast.Import() | ast.ImportFrom():
                self.imports.update(imports_of(node))
            case ast.Call(
                func=ast.Name(id="__import__") | ast.Attribute(attr="import_module") | ast.Name(id="import_module")
            ):
                self._import_by_name(node, local)
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                self._all([*node.decorator_list, node.args, node.returns], local)
                self._all(node.body, _inside(node, local))
            case ast.Lambda():
                self.visit(node.args, local)
                self.visit(node.body, _inside(node, local))
            case ast.ListComp() | ast.SetComp() | ast.DictComp() | ast.GeneratorExp():
                self._comprehension(node, local)
            case _:
                self._all(_children(node), local)

    def _all(self, nodes: Iterator[ast.AST] | list, local: frozenset[str]) -> None:
        for node in nodes:
            if node is not None:
                self.visit(node, local)

    def _attribute(self, node: ast.Attribute, local: frozenset[str]) -> None:
        names: list[str] = []
        inner: ast.expr = node
        while isinstance(inner, ast.Attribute):
            names.append(inner.attr)
            inner = inner.value
        self.chains.update((name,) for name in names if name in _NOTICED)
        if not isinstance(inner, ast.Name):
            self.visit(inner, local)
        elif inner.id not in local:
            self.chains.add((inner.id, *reversed(names)))

    def _import_by_name(self, node: ast.Call, local: frozenset[str]) -> None:
        """A module that is named by a literal is one that is imported here; of any other nothing is known."""
        match node:
            case ast.Call(args=[ast.Constant(value=str(name))], keywords=[]) if name and not name.startswith("."):
                self.imports.add(Import(name))
            case _:
                self._all(_children(node), local)

    def _comprehension(self, node: _Comprehension, local: frozenset[str]) -> None:
        """What a comprehension goes through first is looked up outside of it."""
        targets = [part for generator in node.generators for part in ast.walk(generator.target)]
        inside = local | {part.id for part in targets if isinstance(part, ast.Name)}
        first = node.generators[0]
        self.visit(first.iter, local)
        self._all([first.target, *first.ifs, *node.generators[1:]], inside)
        self._all([part for part in _children(node) if part not in node.generators], inside)


def _children(node: ast.AST) -> list[ast.AST]:
    """As :func:`ast.iter_child_nodes`, without operators and contexts, which hold no names: half of the time of a digest."""
    found: list[ast.AST] = []
    for name in node._fields:
        value = getattr(node, name, None)
        if isinstance(value, list):
            found.extend(part for part in value if isinstance(part, ast.AST))
        elif isinstance(value, ast.AST) and not isinstance(value, ast.expr_context | ast.operator):
            found.append(value)
    return found


def _inside(function: _Function | ast.Lambda, local: frozenset[str]) -> frozenset[str]:
    """The names that are local in a function's body, if ``local`` are around it."""
    arguments = function.args
    bound = {argument.arg for argument in [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]}
    bound.update(argument.arg for argument in (arguments.vararg, arguments.kwarg) if argument)
    shared: set[str] = set()
    for statement in [] if isinstance(function, ast.Lambda) else function.body:
        bound |= bound_by(statement)
        shared.update(_shared(statement))
    return (local | bound) - shared


def _shared(node: ast.AST) -> Iterator[str]:
    """The names of the module that a statement of a function declares to be global."""
    if isinstance(node, ast.Global):
        yield from node.names
    elif isinstance(node, ast.stmt | ast.excepthandler | ast.match_case) and not isinstance(node, _Function | ast.ClassDef):
        for child in _children(node):
            yield from _shared(child)


def _statements(body: list[ast.stmt], knows_checkers: bool) -> Iterator[ast.stmt]:
    """The statements of a module that do something, without what only type checkers see."""
    for node in body:
        match node:
            case ast.If(test=ast.Name(id="TYPE_CHECKING"), orelse=otherwise) if knows_checkers:
                yield from _statements(otherwise, knows_checkers)
            case ast.Expr(value=ast.Constant()) | ast.Pass():
                continue
            case _:
                yield node


def _strip(body: list[ast.stmt], deferred: bool, in_class: bool = False) -> None:
    """Take docstrings out of statements, and annotations, if nothing evaluates them.

    With ``from __future__ import annotations`` they are text to Python, too. Those of a decorated function and of a class
    stay as text, since the decorator, a dataclass or :mod:`resilience.catalog` may read it. What they name is not followed:
    only what evaluates them gets there, and that says so by one of the names in :data:`READS_SOURCE`.
    """
    for place, node in enumerate(body):
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                if ast.get_docstring(node, clean=False) is not None:
                    node.body = node.body[1:] or [ast.Pass()]
                if deferred and not isinstance(node, ast.ClassDef):
                    _strip_signature(node)
            case ast.AnnAssign(target=target, value=value) if deferred:
                node.annotation = _as_text(node.annotation)
                if not in_class and value is not None:
                    body[place] = ast.copy_location(ast.Assign(targets=[target], value=value), node)
        inside = isinstance(node, ast.ClassDef) or (in_class and not isinstance(node, _Function))
        for block in _blocks(node):
            _strip(block, deferred, inside)


def _blocks(node: ast.AST) -> Iterator[list[ast.stmt]]:
    """The lists of statements that a statement holds."""
    for name in ("body", "orelse", "finalbody"):
        yield from [block] if (block := getattr(node, name, None)) else []
    for part in [*getattr(node, "handlers", []), *getattr(node, "cases", [])]:
        yield part.body


def _strip_signature(node: _Function) -> None:
    """The annotations of a function's arguments and of what it returns: as text if it is decorated, else none."""
    kept = bool(node.decorator_list)
    arguments = node.args
    for argument in [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs, arguments.vararg, arguments.kwarg]:
        if argument is not None and argument.annotation is not None:
            argument.annotation = _as_text(argument.annotation) if kept else None
    if node.returns is not None:
        node.returns = _as_text(node.returns) if kept else None


def _as_text(annotation: ast.expr) -> ast.expr:
    return ast.copy_location(ast.Constant(value=ast.unparse(annotation)), annotation)
