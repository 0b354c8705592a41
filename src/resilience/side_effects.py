"""Which statements of a module do more than bind a name when the module is imported: those count wherever it is.

Nothing is taken to be without effect unless it is known to be. What is taken for an effect and is none costs a run too many.
"""

from __future__ import annotations

import ast
from collections.abc import Callable

from resilience.source_code import Import, Source

#: Decorators that hand the function or the class back, or wrap it, and do nothing else.
DECORATORS = frozenset(
    (
        *("property", "staticmethod", "classmethod", "functools.cache", "functools.lru_cache"),
        *("functools.cached_property", "functools.total_ordering", "dataclasses.dataclass", "contextlib.contextmanager"),
        *("abc.abstractmethod", "typing.overload", "typing.final", "typing.runtime_checkable", "torch.no_grad"),
        "torch.inference_mode",
    )
)
#: Classes whose subclasses are registered nowhere, beside the built-in ones.
BASES = frozenset(
    (
        *("abc.ABC", "enum.Enum", "enum.IntEnum", "enum.StrEnum", "typing.Protocol", "typing.NamedTuple"),
        *("typing.TypedDict", "typing.Generic", "torch.nn.Module", "torch.autograd.Function"),
    )
)
#: Functions that make a value of their arguments and call none of these.
CALLS = frozenset(
    (
        *("frozenset", "set", "tuple", "list", "dict", "range", "len", "sum", "abs", "round", "int", "float", "str"),
        *("bool", "bytes", "object", "slice", "zip", "enumerate", "re.compile", "pathlib.Path", "logging.getLogger"),
        *("typing.TypeVar", "typing.NewType", "typing.ParamSpec", "weakref.WeakKeyDictionary"),
        *("weakref.WeakValueDictionary", "collections.defaultdict", "collections.deque", "collections.Counter"),
        *("collections.namedtuple", "dataclasses.field", "types.MappingProxyType", "fractions.Fraction"),
        *("threading.Lock", "threading.local", "math.sqrt", "math.log"),
    )
)


class SideEffects:
    """Judges the statements of one module.

    Parameters
    ----------
    source
        The module.
    is_ours
        Whether what is imported is of the library or of the user's own, not of a package whose names are known here.
    is_plain
        Whether what is imported, if it is ours, is bound by a statement without effect that it is known by.
    hands_back
        Whether the decorator that a chain of names stands for is one of the library that only hands its function back.
    """

    def __init__(
        self,
        source: Source,
        is_ours: Callable[[Import], bool],
        is_plain: Callable[[Import], bool],
        hands_back: Callable[[tuple[str, ...]], bool],
    ) -> None:
        self.source = source
        self.is_ours = is_ours
        self.is_plain = is_plain
        self.hands_back = hands_back
        self.pure_names: dict[str, bool] = {}

    def in_order(self) -> list[ast.stmt]:
        """The statements with an effect, and those whose order decides what a name stands for."""
        return [node for node in self.source.statements if self._counts(node)]

    def _counts(self, node: ast.stmt) -> bool:
        if isinstance(node, ast.Import | ast.ImportFrom):
            bound = {alias.asname or alias.name.split(".")[0] for alias in node.names}
            return bool(bound & self.source.rebound) or "*" in bound
        names = {name for name, nodes in self.source.definitions.items() if node in nodes} if self.source.rebound else set()
        return bool(names & self.source.rebound) or not self._only_binds(node)

    def _only_binds(self, node: ast.stmt) -> bool:
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                arguments = [argument for argument in ast.walk(node.args) if isinstance(argument, ast.arg)]
                annotations = [*(argument.annotation for argument in arguments), node.returns]
                evaluated = [*node.args.defaults, *node.args.kw_defaults, *annotations]
                return all(map(self._only_hands_back, node.decorator_list)) and all(
                    map(self._is_pure, filter(None, evaluated))
                )
            case ast.ClassDef(bases=bases, keywords=[], body=body, decorator_list=decorators):
                hooks = {inner.name for inner in body if isinstance(inner, ast.FunctionDef)}
                return (
                    all(map(self._registers_no_subclass, bases))
                    and all(map(self._only_hands_back, decorators))
                    and all(map(self._only_binds, body))
                    and not hooks & {"__init_subclass__", "__class_getitem__", "__set_name__"}
                )
            case ast.Assign(targets=targets, value=value):
                several = any(not isinstance(target, ast.Name) for target in targets)
                return all(map(_is_names, targets)) and self._is_pure(value, operand=several)
            case ast.AnnAssign(target=ast.Name(), annotation=annotation, value=value):
                return self._is_pure(annotation) and (value is None or self._is_pure(value))
            case ast.Expr(value=ast.Constant()) | ast.Pass():
                return True
        return False

    def _only_hands_back(self, decorator: ast.expr) -> bool:
        arguments: list[ast.expr] = []
        if isinstance(decorator, ast.Call):
            arguments = [*decorator.args, *(keyword.value for keyword in decorator.keywords)]
            decorator = decorator.func
        if isinstance(decorator, ast.Attribute) and decorator.attr in ("setter", "deleter"):
            return isinstance(decorator.value, ast.Name) and not arguments
        chain = chain_of(decorator)
        known = bool(chain) and (self._meant(chain) in DECORATORS or self.hands_back(chain))
        return known and all(map(self._is_pure, arguments))

    def _registers_no_subclass(self, base: ast.expr) -> bool:
        if isinstance(base, ast.Subscript):
            return self._registers_no_subclass(base.value) and self._is_pure(base.slice)
        chain = chain_of(base)
        if len(chain) == 1 and chain[0] in self.source.definitions:
            classes = all(isinstance(node, ast.ClassDef) for node in self.source.definitions[chain[0]])
            return classes and self.binds_purely(chain[0])
        meant = self._meant(chain)
        return meant in BASES or (bool(meant) and "." not in meant)

    def _is_pure(self, node: ast.expr, operand: bool = False) -> bool:
        """Whether to evaluate an expression does nothing; an operand is asked for what it does under operators and calls."""
        match node:
            case ast.Constant():
                return True
            case ast.Name(id=name):
                return not operand or self._is_harmless(name)
            case ast.Attribute(value=inner):
                return self._is_pure(inner, operand=True)
            case ast.Lambda(args=arguments):
                return all(self._is_pure(default) for default in [*arguments.defaults, *arguments.kw_defaults] if default)
            case ast.Tuple(elts=parts) | ast.List(elts=parts):
                return all(self._is_pure(part, operand) for part in parts)
            case ast.Call(func=function, args=arguments, keywords=keywords):
                values = [*arguments, *(keyword.value for keyword in keywords)]
                return self._calls_nothing_else(function) and all(self._is_pure(value, operand=True) for value in values)
            case ast.GeneratorExp() | ast.ListComp() | ast.SetComp() | ast.DictComp():
                return self._goes_through_purely(node)
            case ast.BinOp() | ast.BoolOp() | ast.UnaryOp() | ast.Compare() | ast.IfExp() | ast.Subscript() | ast.Starred():
                pass
            case ast.Dict() | ast.Set() | ast.JoinedStr() | ast.FormattedValue() | ast.Slice():
                pass
            case _:
                return False
        parts = [part for part in ast.iter_child_nodes(node) if isinstance(part, ast.expr)]
        return all(self._is_pure(part, operand=True) for part in parts)

    def _goes_through_purely(self, node: ast.GeneratorExp | ast.ListComp | ast.SetComp | ast.DictComp) -> bool:
        inner = [node.key, node.value] if isinstance(node, ast.DictComp) else [node.elt]
        through = [part for each in node.generators for part in (each.iter, *each.ifs)]
        return all(self._is_pure(part, operand=True) for part in [*inner, *through])

    def _calls_nothing_else(self, function: ast.expr) -> bool:
        if isinstance(function, ast.Attribute) and isinstance(function.value, ast.Constant):
            return True
        return self._meant(chain_of(function)) in CALLS

    def _is_harmless(self, name: str) -> bool:
        """Whether what a name stands for has no operators of the library's own making."""
        if name in self.source.imports:
            return all(self.is_plain(found) for found in self.source.imports[name] if self.is_ours(found))
        return name not in self.source.definitions or self.binds_purely(name)

    def binds_purely(self, name: str) -> bool:
        """Whether a name of the module stands for what statements without an effect make."""
        if name not in self.pure_names:
            self.pure_names[name] = False  # for one that is made of itself
            self.pure_names[name] = all(map(self._binds_what_is_harmless, self.source.definitions[name]))
        return self.pure_names[name]

    def _binds_what_is_harmless(self, node: ast.stmt) -> bool:
        if isinstance(node, ast.Assign | ast.AnnAssign) and node.value and not self._is_pure(node.value, operand=True):
            return False
        return self._only_binds(node)

    def _meant(self, chain: tuple[str, ...]) -> str:
        """The full name of what a chain of names stands for, if others wrote it; a bare one is built in."""
        if not chain or chain[0] in self.source.definitions or "*" in self.source.imports:
            return ""
        if chain[0] not in self.source.imports:
            return chain[0] if len(chain) == 1 else ""
        imported, *others = self.source.imports[chain[0]]
        if others or self.is_ours(imported):
            return ""
        return ".".join(filter(None, (imported.module, imported.name, *chain[1:])))


def only_hands_back(node: ast.stmt) -> bool:
    """Whether a function, used as a decorator, returns what it decorates: at once, or by a function that it makes."""
    match node:
        case ast.FunctionDef(
            args=ast.arguments(args=[first]), decorator_list=[], body=[ast.Return(value=ast.Name(id=name))]
        ):
            return name == first.arg
        case ast.FunctionDef(decorator_list=[], body=[inner, ast.Return(value=ast.Name(id=name))]):
            return isinstance(inner, ast.FunctionDef) and inner.name == name and only_hands_back(inner)
    return False


def chain_of(node: ast.expr) -> tuple[str, ...]:
    """``a.b.c`` as names; nothing if it is another expression."""
    names: list[str] = []
    while isinstance(node, ast.Attribute):
        names.append(node.attr)
        node = node.value
    return (node.id, *reversed(names)) if isinstance(node, ast.Name) else ()


def _is_names(target: ast.expr) -> bool:
    """Whether an assignment to a target binds names and changes nothing else."""
    return isinstance(target, ast.Name) or (
        isinstance(target, ast.Tuple | ast.List) and all(isinstance(part, ast.Name) for part in target.elts)
    )
