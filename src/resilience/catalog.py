"""What the config can name: datasets, networks, trainings, attacks, explanations, measures and figures.

A function that carries :func:`entry` can be named in the config; its keyword-only parameters are the keys of the entry.
One of the library is named by itself, one in a file of the user's own as ``file.py:function``.
The catalogue is read from the source text, so asking it what exists, and with which parameters, imports no torch and runs
no code.
"""

from __future__ import annotations

import ast
import importlib
import runpy
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, TypeVar, get_args

from resilience import parameters

F = TypeVar("F", bound=Callable[..., Any])

LIBRARY = Path(__file__).parent

#: What claims may compare a training with.
ROLES = ("deterministic", "adversarial", "control", "bayesian")


class FunctionError(ValueError):
    """A function of the user's own that cannot be used. The message says where it is looked for and what it lacks."""


def entry(**traits: Any) -> Callable[[F], F]:
    """Mark a function as one that the config can name. The traits are facts that a plan needs before anything runs.

    Known traits: ``layers`` of a network (names of those that are explained, the last one for its output), ``draws`` of a
    training (their number, or the parameter that holds it), ``at_most`` of a training (the parameter that bounds the number
    of draws), ``shared_by`` of a training (the parameter with the number of chains that share these equally), ``from_point``
    of a training (whether what it starts from is a point estimate), ``share`` of a training (whether its draws may share
    weights, so that it says itself how many fit), ``role`` of a training (deterministic, adversarial, control or bayesian,
    or the parameter that holds it), ``derived`` of an attack (whether it is made from attacked inputs, not from a network),
    ``norm`` of an attack (that of its ball, if it is not ``linf``), ``others`` of one (the parameter that says how many
    draws beyond those of the prediction it is made from, instead of these), ``noise`` of one (whether it is the control of
    others), ``of`` of a measure (what it looks at: maps, predictions, explanation or network), ``classes`` and ``side`` of a
    dataset (how many, and the pixels of an image's shorter side or the parameter that holds them), ``divides`` of one (the
    parameter that must divide that side), ``sides`` of a manifold (how many pixels a side of an image may have), ``span`` of
    one (the parameter with the number of directions or images that span it, which pixels and training images bound),
    ``least_side`` of a network (the fewest such pixels), ``has`` of a network and
    ``needs`` of an explanation or attack (``convolution``, or ``pooled_head``: global average pooling before one linear
    layer), ``at_least`` of an explanation or a rule (which parameters must be no less than which), ``one_more`` of a rule
    (which must be one more than which), ``composite`` of one (whether it is made of the rules of several layers),
    ``control`` of an explanation (whether it says nothing of the network), ``panels`` and ``trainings`` of a figure (the
    most panels, and the fewest trainings in each, that it draws), ``inner_layers`` of a figure (whether it draws these,
    too), ``noise`` of a figure (whether it shows the same networks under random noise, too), ``clean`` of one (the setting
    with the measure of clean images that stands beside its ``measure``).
    """

    def mark(function: F) -> F:
        return function

    return mark


@dataclass(frozen=True)
class Section:
    """A section of the config whose entries each name a function: ``key`` holds the name, ``module`` the functions.

    Beside the keys of its entry a function gets those of ``arguments`` that its signature names. ``trait`` is what it must
    say of itself in :func:`entry`.
    """

    key: str
    module: str
    arguments: tuple[str, ...] = ()
    trait: str = ""


#: What a measure can ask for, by what it is of.
MEASURED = {
    "maps": ("clean", "attacked"),
    "predictions": (
        *("probabilities", "probabilities_attacked", "logits", "logits_attacked", "y"),
        *("x", "x_attacked", "zero_gradient"),
        *("learned", "judgements", "device"),
    ),
    "explanation": ("posterior", "x", "y", "relevance", "explained", "explain", "generator"),
    "network": ("posterior", "x", "y", "generator"),
}
SECTIONS = {
    "datasets": Section("source", "datasets", ("x", "y", "relevance", "mean", "generator")),
    "networks": Section("architecture", "architectures", ("shape", "classes"), "layers"),
    "trainings": Section("method", "training", ("task",), "role"),
    "manifolds": Section("manifold", "manifolds", ("task",)),
    "attacks": Section("method", "attacks", ("posterior", "x", "y", "generator")),
    "rules": Section("rule", "lrp_rules"),
    "explanations": Section("method", "explanations", ("graph", "x", "explained", "layers", "generator")),
    "measures": Section("measure", "measures", tuple(sorted({name for kind in MEASURED.values() for name in kind})), "of"),
    "statements": Section("claim", "claims", ("compared",), "place"),
    "figures": Section(
        "figure",
        "figures",
        (
            *("panels", "style", "measured", "summary", "images", "maps", "cancellation", "comparisons"),
            *("claims", "gradients", "fits", "weights", "scores", "projections"),
        ),
    ),
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
            "properties": {key: {}, **properties},
            "required": [key, *(name for name, parameter in self.parameters.items() if parameter.required)],
            "additionalProperties": False,
        }


def is_own(name: str) -> bool:
    """Whether a name is that of a function in a file of the user's own: ``file.py:function``."""
    return ".py:" in name


def function(section: str, name: str) -> Function:
    """What the source says of the function that an entry of ``section`` names.

    Raises
    ------
    FunctionError
        If it should be in a file of the user's own and is not, or lacks what the section needs.
    """
    return _own_function(section, name, Path.cwd()) if is_own(name) else functions(section)[name]


def load(section: str, name: str) -> Callable[..., Any]:
    """The function that an entry of ``section`` names. One in a file of the user's own runs that file."""
    found = function(section, name)
    if is_own(name):
        return _run(Path(found.module).absolute())[found.name]
    return getattr(importlib.import_module(found.module), found.name)


def bound(section: str, settings: dict[str, Any]) -> Callable[..., Any]:
    """The function that an entry names, with the options of that entry.

    It is called with all that functions of its section may ask for, by name, and hands over what this one asks for.
    """
    make, asked, given = (
        load(section, name_in(section, settings)),
        named(section, settings).inputs,
        options(section, settings),
    )
    return lambda **known: make(**{name: known[name] for name in asked}, **given)


def name_in(section: str, settings: dict[str, Any]) -> str:
    """The name of the function that an entry names."""
    return str(settings[SECTIONS[section].key])


@cache
def _run(file: Path) -> dict[str, Any]:
    return runpy.run_path(str(file))


def named(section: str, settings: dict[str, Any]) -> Function:
    """What the source says of the function that an entry names."""
    return function(section, name_in(section, settings))


def options(section: str, settings: dict[str, Any]) -> dict[str, Any]:
    """The keyword arguments that an entry hands to its function."""
    known = named(section, settings).parameters
    return {key: value for key, value in settings.items() if key in known}


def completed(section: str, settings: dict[str, Any]) -> dict[str, Any]:
    """An entry in which every default is written out, of its function and of the entries that it holds."""
    found = dict(settings)
    for key, parameter in (function := named(section, settings)).parameters.items():
        if not parameter.required:
            found.setdefault(key, default(function, key))
        if key in settings:
            found[key] = _completed_within(parameter.schema, settings[key])
    return found


def _completed_within(schema: dict[str, Any], value: Any) -> Any:
    """A value in which the entries that it is, or holds by name, have every default written out."""
    if not isinstance(value, dict):
        return value
    if "entry_of" in schema:
        return completed(schema["entry_of"], value)
    if isinstance(items := schema.get("additionalProperties"), dict):
        return {name: _completed_within(items, item) for name, item in value.items()}
    for option in schema.get("anyOf", ()):
        value = _completed_within(option, value)
    return value


def default(function: Function, parameter: str) -> Any:
    """The default of a parameter, None if it has none."""
    text = function.parameters[parameter].default
    return ast.literal_eval(text) if text else None


def inner_entries(section: str, settings: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Entries that an entry holds, as (section, entry), such as the attack of an adversarial training."""
    for key, parameter in named(section, settings).parameters.items():
        for _, schema, inner in entries_within((key,), parameter.schema, settings.get(key)):
            yield schema["entry_of"], inner
            yield from inner_entries(schema["entry_of"], inner)


def entries_within(
    path: tuple[str, ...], schema: dict[str, Any], value: Any
) -> Iterator[tuple[tuple[str, ...], dict[str, Any], dict[str, Any]]]:
    """The entries that a value is, or holds by name: where each lies, what may lie there, and the entry."""
    if not isinstance(value, dict):
        return
    if "entry_of" in schema:
        yield path, schema, value
    for option in schema.get("anyOf", ()):
        yield from entries_within(path, option, value)
    if isinstance(items := schema.get("additionalProperties"), dict):
        for name, item in value.items():
            yield from entries_within((*path, name), items, item)


def paths(section: str, settings: dict[str, Any]) -> dict[str, str]:
    """Which keys of an entry hold a path of the user's own, and whether to a file or to a folder."""
    found = {}
    for key, parameter in named(section, settings).parameters.items():
        # A parameter that takes something else, too, holds a path where its value is a text.
        kinds = [part["path_to"] for part in parameter.schema.get("anyOf", [parameter.schema]) if "path_to" in part]
        if kinds and isinstance(settings.get(key), str):
            found[key] = kinds[0]
    return found


def value_in(section: str, settings: dict[str, Any], key: str) -> Any:
    """The value that a key has in an entry, or else in one that it holds, be it the default; None if none has the key."""
    for inner, entry in [(section, settings), *inner_entries(section, settings)]:
        if key in (function := named(inner, entry)).parameters:
            return entry.get(key, default(function, key))
    return None


def stored_draws(training: dict[str, Any]) -> int | None:
    """How many draws the weights of a training have; None for a distribution, which has no last one."""
    function = named("trainings", training)
    number = function.traits.get("draws", function.traits.get("at_most"))
    return int(training.get(number, default(function, number))) if isinstance(number, str) else number


def other_draws(attack: dict[str, Any]) -> int:
    """How many draws an attack is made from that the prediction has none of; 0 if it has those of the prediction."""
    parameter = named("attacks", attack).traits.get("others")
    return int(attack[parameter]) if parameter else 0


def claims_of(judged: list[str]) -> list[str]:
    """The claims that a config judges: of a name of a paper all that its module holds, else that one function.

    Raises
    ------
    FunctionError
        If there is no such paper and no such function.
    """
    found: list[str] = []
    for name in judged:
        if is_own(name):
            function("statements", name)
            found.append(name)
            continue
        of_paper = [key for key, known in functions("statements").items() if paper_of(known) == name]
        if not of_paper and name not in functions("statements"):
            raise FunctionError(f"{name} is neither a paper nor a claim")
        found.extend(of_paper or [name])
    return list(dict.fromkeys(found))


def papers() -> list[str]:
    """The papers whose claims the library holds, such as carbone2021."""
    return sorted({paper_of(known) for known in functions("statements").values()})


def paper_of(claim: Function) -> str:
    """The paper that a claim is of: the module of its function, or the file of the user's own."""
    return claim.module.removesuffix(".py").rpartition("/")[2].rpartition(".")[2]


def statement(claim: str) -> dict[str, str]:
    """What a claim says: its paper, the sentence, where that stands, and the published value, if there is one."""
    found = function("statements", claim)
    about = {"claim": found.name, "sentence": found.summary, "place": found.traits["place"]}
    return {"paper": paper_of(found), **about, "published": str(found.traits.get("published", ""))}


def sources(section: str) -> list[Path]:
    """The files with the functions of a section: one module, or those of a package."""
    module = SECTIONS[section].module
    place = LIBRARY / f"{module}.py"
    return [place] if place.exists() else sorted((LIBRARY / module).glob("*.py"))


@cache
def functions(section: str) -> dict[str, Function]:
    """The functions of the library that entries of ``section`` may name, by name."""
    module = SECTIONS[section].module
    found = {}
    for file in sources(section):
        inner = "" if file.stem in (module, "__init__") else f".{file.stem}"
        found.update(_described(file.read_bytes(), f"resilience.{module}{inner}"))
    return found


@cache
def _own_function(section: str, name: str, folder: Path) -> Function:
    """What a file of the user's own, as seen from a folder, says of a function."""
    file, _, attribute = name.rpartition(":")
    try:
        if not (folder / file).is_file():
            raise FileNotFoundError
        source = (folder / file).read_bytes()
        known = _described(source, file)
    except FileNotFoundError:
        raise FunctionError(f"there is no file {file}") from None
    except (OSError, SyntaxError, ValueError) as error:
        raise FunctionError(f"{file} cannot be read ({getattr(error, 'strerror', None) or error})") from error
    if attribute not in known:
        raise FunctionError(f"{file} has no function {attribute!r} that carries @entry")
    _refuse_what_does_not_fit(known[attribute], SECTIONS[section], name)
    return known[attribute]


def _refuse_what_does_not_fit(found: Function, section: Section, name: str) -> None:
    """Refuse a function whose arguments are not those that it gets, or that does not say what its section must know."""
    offered = section.arguments
    if section.trait == "of" and "of" in found.traits:
        if (of := found.traits["of"]) not in MEASURED:
            raise FunctionError(f"{name} says @entry(of={of!r}); a measure is of {', '.join(MEASURED)}")
        offered = MEASURED[of]
    if unknown := [argument for argument in found.inputs if argument not in offered]:
        taken, known = (", ".join(names) or "nothing" for names in (unknown, offered))
        raise FunctionError(f"{name} takes {taken}; what a function of this section can take is {known}")
    if is_own(name) and found.traits.get("derived"):
        raise FunctionError(f"{name} cannot be derived: it gets a network, not what was attacked before")
    if section.trait and section.trait not in found.traits:
        raise FunctionError(f"{name} does not say its {section.trait}; write @entry({section.trait}=…)")
    _refuse_what_says_nothing(found, name)


def _refuse_what_says_nothing(found: Function, name: str) -> None:
    """Refuse traits and defaults that a plan cannot read: names of no parameter, and what is computed."""
    for trait in ("draws", "at_most", "others", "shared_by", "side", "role"):
        said = found.traits.get(trait)
        if isinstance(said, str) and said not in found.parameters and not (trait == "role" and said in ROLES):
            others = f", nor a role such as {' or '.join(ROLES)}" if trait == "role" else ""
            raise FunctionError(f"{name} says @entry({trait}={said!r}), which is none of its settings{others}")
    if "shared_by" in found.traits and "at_most" not in found.traits:
        raise FunctionError(f"{name} says what shares its draws, and not how many there are; write @entry(at_most=…)")
    layers = found.traits.get("layers", ())
    if not isinstance(layers, tuple | list) or not all(isinstance(layer, int | str) for layer in layers):
        raise FunctionError(f"{name} says @entry(layers={layers!r}); expected names or numbers of layers, such as (1, 3)")
    for key in found.parameters:
        try:
            default(found, key)
        except ValueError:
            raise FunctionError(f"{name}: the default of {key} is computed; write its value out") from None


def _described(source: bytes, module: str) -> dict[str, Function]:
    """The functions of a source text that carry :func:`entry`."""
    nodes = (node for node in ast.parse(source).body if isinstance(node, ast.FunctionDef))
    return {node.name: _describe(node, module, traits) for node in nodes if (traits := _traits(node)) is not None}


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
        case ast.Name(id=name) if known := get_args(getattr(parameters, name, None)):
            base, fragment = known
            return {"type": basic.get(base.__name__, "object"), **fragment}
        case ast.BinOp(left=left, op=ast.BitOr(), right=right):
            return {"anyOf": [_schema(left), _schema(right)]}
        case ast.Subscript(value=ast.Name(id="Literal"), slice=ast.Tuple(elts=values)):
            return {"enum": [ast.literal_eval(value) for value in values]}
        case ast.Subscript(value=ast.Name(id="list"), slice=item):
            return {"type": "array", "items": _schema(item), "minItems": 1}
        case ast.Subscript(value=ast.Name(id="dict"), slice=ast.Tuple(elts=[_, value])):
            return {"type": "object", "additionalProperties": _schema(value)}
    written = ast.unparse(annotation) if annotation else "nothing"
    raise FunctionError(f"a setting cannot be of type {written}; resilience.parameters has types such as Count")
