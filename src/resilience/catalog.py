"""What the config can name: datasets, networks, trainings, attacks, LRP rules and figures.

A function that carries :func:`entry` can be named in the config; its keyword-only parameters are the keys of the entry.
The catalogue is read from the source text, so asking it what exists, and with which parameters, imports no torch.
"""

from __future__ import annotations

import ast
import importlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, TypeVar, get_args

from resilience import parameters

F = TypeVar("F", bound=Callable[..., Any])

LIBRARY = Path(__file__).parent


def entry(**traits: Any) -> Callable[[F], F]:
    """Mark a function as one that the config can name. The traits are facts that a plan needs before anything runs.

    Known traits: ``layers`` of a network (indices of its learnable layers), ``draws`` of a training (their number, or the
    parameter that holds it), ``at_most`` of a training (the parameter that bounds the number of draws), ``shared_by`` of a
    training (the parameter with the number of chains that share these equally), ``role`` of a training (deterministic,
    adversarial, control or bayesian, or the parameter that holds it), ``derived`` of an attack (whether it is made from
    attacked inputs, not from a network), ``classes`` and ``side`` of a dataset (how many, and the pixels of an image's
    shorter side or the parameter that holds them), ``least_side`` of a network (the fewest such pixels), ``panels`` and
    ``trainings`` of a figure (the most panels, and the fewest trainings in each, that it draws).
    """

    def mark(function: F) -> F:
        return function

    return mark


@dataclass(frozen=True)
class Section:
    """A section of the config whose entries each name a function: ``key`` holds the name, ``module`` the functions."""

    key: str
    module: str


SECTIONS = {
    "datasets": Section("source", "data"),
    "networks": Section("architecture", "networks"),
    "trainings": Section("method", "training"),
    "attacks": Section("method", "attacks"),
    "lrp": Section("rule", "lrp"),
    "figures": Section("figure", "figures"),
}


@dataclass(frozen=True)
class Parameter:
    """A keyword-only parameter of an entry: a JSON-schema fragment, and the default as the source writes it."""

    schema: dict[str, Any]
    required: bool
    default: str


@dataclass(frozen=True)
class Function:
    """What the source says of a function that the config can name: its docstring up to the parameters, and these."""

    name: str
    module: str
    summary: str
    description: str
    inputs: tuple[str, ...]
    parameters: dict[str, Parameter]
    traits: dict[str, Any] = field(default_factory=dict)

    def schema(self, key: str) -> dict[str, Any]:
        """JSON schema of a config entry that names this function under ``key``."""
        properties = {name: parameter.schema for name, parameter in self.parameters.items()}
        return {
            "type": "object",
            "properties": {key: {"const": self.name}, **properties},
            "required": [key, *(name for name, parameter in self.parameters.items() if parameter.required)],
            "additionalProperties": False,
        }


def load(section: str, name: str) -> Callable[..., Any]:
    """The function that an entry of ``section`` names."""
    return getattr(importlib.import_module(functions(section)[name].module), name)


def options(section: str, settings: dict[str, Any]) -> dict[str, Any]:
    """The keyword arguments that an entry hands to its function."""
    known = functions(section)[settings[SECTIONS[section].key]].parameters
    return {key: value for key, value in settings.items() if key in known}


def default(function: Function, parameter: str) -> Any:
    """The default of a parameter, None if it has none."""
    text = function.parameters[parameter].default
    return ast.literal_eval(text) if text else None


def inner_entries(section: str, settings: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Entries that an entry holds, as (section, entry), such as the attack of an adversarial training."""
    for key, parameter in functions(section)[settings[SECTIONS[section].key]].parameters.items():
        if key in settings and (inner := parameter.schema.get("entry_of")):
            yield inner, settings[key]
            yield from inner_entries(inner, settings[key])


def paths(section: str, settings: dict[str, Any]) -> dict[str, str]:
    """Which keys of an entry hold a path of the user's own, and whether to a file or to a folder."""
    described = functions(section)[settings[SECTIONS[section].key]].parameters
    return {key: parameter.schema["path_to"] for key, parameter in described.items() if "path_to" in parameter.schema}


def value_in(section: str, settings: dict[str, Any], key: str) -> Any:
    """The value that an entry, or else one that it holds, gives to a key; None if none does."""
    entries = [settings, *(inner for _, inner in inner_entries(section, settings))]
    return next((entry[key] for entry in entries if key in entry), None)


def sources(section: str) -> list[Path]:
    """The files with the functions of a section: one module, or those of a package."""
    module = SECTIONS[section].module
    place = LIBRARY / f"{module}.py"
    return [place] if place.exists() else sorted((LIBRARY / module).glob("*.py"))


@cache
def functions(section: str) -> dict[str, Function]:
    """The functions that entries of ``section`` may name, by name."""
    module = SECTIONS[section].module
    found = {}
    for file in sources(section):
        inner = "" if file.stem in (module, "__init__") else f".{file.stem}"
        for node in ast.parse(file.read_text()).body:
            if isinstance(node, ast.FunctionDef) and (traits := _traits(node)) is not None:
                found[node.name] = _describe(node, f"resilience.{module}{inner}", traits)
    return found


def _traits(node: ast.FunctionDef) -> dict[str, Any] | None:
    for decorator in node.decorator_list:
        match decorator:
            case ast.Call(func=ast.Name(id="entry"), keywords=keywords):
                return {keyword.arg: ast.literal_eval(keyword.value) for keyword in keywords if keyword.arg}
    return None


def _describe(node: ast.FunctionDef, module: str, traits: dict[str, Any]) -> Function:
    docstring = ast.get_docstring(node) or ""
    summary, _, rest = docstring.partition("\n\n")
    described = {}
    for argument, default in zip(node.args.kwonlyargs, node.args.kw_defaults, strict=True):
        described[argument.arg] = Parameter(
            schema=_schema(argument.annotation),
            required=default is None,
            default="" if default is None else ast.unparse(default),
        )
    return Function(
        name=node.name,
        module=module,
        summary=summary,
        description=rest.partition("Parameters\n----------")[0].rstrip(),
        inputs=tuple(argument.arg for argument in node.args.args),
        parameters=described,
        traits=traits,
    )


def _schema(annotation: ast.expr | None) -> dict[str, Any]:
    """The JSON schema of an annotation: a type of :mod:`resilience.parameters`, a builtin, a union, a list or a literal."""
    basic = {"bool": "boolean", "int": "integer", "float": "number", "str": "string", "None": "null"}
    match annotation:
        case ast.Constant(value=None):
            return {"type": "null"}
        case ast.Name(id=name) if name in basic:
            return {"type": basic[name]}
        case ast.Name(id=name):
            base, fragment = get_args(getattr(parameters, name))
            return {"type": basic.get(base.__name__, "object"), **fragment}
        case ast.BinOp(left=left, op=ast.BitOr(), right=right):
            return {"anyOf": [_schema(left), _schema(right)]}
        case ast.Subscript(value=ast.Name(id="Literal"), slice=ast.Tuple(elts=values)):
            return {"enum": [ast.literal_eval(value) for value in values]}
        case ast.Subscript(value=ast.Name(id="list"), slice=item):
            return {"type": "array", "items": _schema(item), "minItems": 1}
        case ast.Subscript(value=ast.Name(id="dict"), slice=ast.Tuple(elts=[_, value])):
            return {"type": "object", "additionalProperties": _schema(value)}
    raise TypeError(f"no schema for the annotation {annotation and ast.unparse(annotation)!r}")
