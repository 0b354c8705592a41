"""Checks a config before any job is made, so that whatever cannot work is refused at once and by name."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Iterable, Iterator
from typing import Any

from resilience import tables
from resilience.catalog import (
    SECTIONS,
    Function,
    FunctionError,
    claims_of,
    completed,
    default,
    entries_within,
    function,
    functions,
    is_own,
    papers,
    paths,
)
from resilience.config_files import EXPONENT
from resilience.earlier_configs import renamed
from resilience.grid import GridError
from resilience.refusals import grid_of
from resilience.variants import without_changes_of_nothing

#: Nothing here can be so large. Draws, epochs and widths of that size would fill any memory or take forever.
LARGEST = 10**9
#: So many names are listed where a name is not known and none is near; more are not read.
LISTED = 16
#: Columns that tables of measures and of predictions have beside those of the measures.
COLUMNS_OF_TABLES = frozenset(tables.COLUMNS)
#: Sections in whose entries defaults are written out, so that one that a user writes out changes nothing.
COMPLETED = ("explanations", "measures")
#: The keys of a page to explore that are names, and the sections that these stand in.
EXPLORED = {
    "dataset": "datasets",
    "network": "networks",
    "attack": "attacks",
    "training": "trainings",
    "reference": "trainings",
}


class ConfigError(ValueError):
    """A config that cannot work. The message has one line for each problem: key, value and what would be accepted."""

    def __init__(self, problems: Iterable[str]):
        self.problems = list(problems)
        super().__init__("\n".join(self.problems))


def check(config: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    """The config with defaults filled in, ``2`` for ``2.0``, and without the keys that are the user's own.

    Parameters
    ----------
    config
        As read from YAML.
    schema
        ``workflow/schemas/config.schema.yaml``.

    Raises
    ------
    ConfigError
        If a key is unknown or missing, a value out of range, a name undefined, or the parts contradict each other.
    """
    config = without_changes_of_nothing({key: value for key, value in config.items() if not is_ones_own(key)})
    problems = [*_unusable(config, ())] or [*renamed(config)] or [*_structure(config, schema)]
    if not problems:
        config = _whole_numbers(_with_defaults(config, schema))
        problems = [*_entries(config, schema), *_names(config)]
    if not problems:
        config |= {section: _with_defaults_of_functions(section, config[section]) for section in COMPLETED}
        try:
            grid_of(config)
        except GridError as error:
            problems = [str(error)]
    if problems:
        raise ConfigError(problems)
    return config


def is_ones_own(key: object) -> bool:
    """Whether a key at the top of a config is the user's own, such as ``x-base``: a place for anchors; nothing reads it."""
    return isinstance(key, str) and key.startswith("x-")


def nearest(value: object, known: Iterable[str], listed: Iterable[str] | None = None) -> str:
    """The known names that a mistaken one was probably meant to be, as the end of a sentence; else all, or those listed."""
    names = sorted(known)
    close = difflib.get_close_matches(str(value), names, n=3, cutoff=0.5)
    if close:
        return f"did you mean {' or '.join(close)}?"
    told = names if listed is None else sorted(listed)
    if len(told) > LISTED:
        told = [*told[:LISTED], f"and {len(told) - LISTED} more, which docs/configuration.md has"]
    return f"known: {', '.join(told)}" if told else "none is defined"


def _structure(config: dict[str, Any], schema: dict[str, Any]) -> Iterator[str]:
    from jsonschema import Draft202012Validator

    errors = Draft202012Validator(schema).iter_errors(config)
    in_order = sorted(errors, key=lambda error: [str(part) for part in error.absolute_path])
    yield from dict.fromkeys(_sentence(error, ()) for error in in_order)


def _unusable(value: Any, path: tuple[str, ...]) -> Iterator[str]:
    """Numbers that JSON, and so a recipe, has no word for, or that nothing here is as large as; names that are no text."""
    if isinstance(value, float) and not math.isfinite(value):
        yield f"{_place(path)}: {value!r} is not a finite number; expected one"
    elif isinstance(value, int | float) and abs(value) > LARGEST:
        yield f"{_place(path)}: {_shown(value)} is too large; numbers here are at most {LARGEST}"
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        if isinstance(value, dict) and not isinstance(key, str):
            place = _place(path) or "config"
            yield f"{place}: the name {_shown(key)} is no text{_written(key)}; expected letters, digits and _"
        yield from _unusable(item, (*path, key if isinstance(key, str) else _shown(key)))


def _entries(config: dict[str, Any], schema: dict[str, Any]) -> Iterator[str]:
    for section in SECTIONS.keys() & config.keys():
        shared = schema["properties"][section].get("additionalProperties", {}).get("properties", {})
        for name, settings in config[section].items():
            yield from _entry(section, settings, (section, name), config, set(shared))


def _entry(
    section: str, settings: dict[str, Any], path: tuple[str, ...], config: dict[str, Any], shared: set[str]
) -> Iterator[str]:
    """Problems of one entry: the function it names, that function's parameters, and the names these refer to."""
    from jsonschema import Draft202012Validator

    key = SECTIONS[section].key
    known = functions(section)
    if key not in settings:
        # Those that have the other keys of the entry, if there are any.
        fitting = [name for name, function in known.items() if settings.keys() & function.parameters.keys()]
        yield f"{_place(path)}: the key {key!r} is missing; {nearest('', known, fitting or None)}"
        return
    if not _is_known(section, settings[key]):
        yield f"{_place(path)}.{key}: {_shown(settings[key])} is unknown; {nearest(settings[key], known)}"
        return
    try:
        named = function(section, settings[key])
    except FunctionError as problem:
        yield f"{_place(path)}.{key}: {problem}"
        return
    own = {name: value for name, value in settings.items() if name not in shared or name == key}
    errors = list(Draft202012Validator(named.schema(key)).iter_errors(own))
    yield from dict.fromkeys(_sentence(error, path, also=shared) for error in errors)
    if not errors:
        yield from _references(named, own, path, config)


def _is_known(section: str, name: Any) -> bool:
    """Whether a name can be that of a function: one of the library's, or one in a file of the user's own."""
    return isinstance(name, str) and (name in functions(section) or is_own(name))


def _references(named: Function, settings: dict[str, Any], path: tuple[str, ...], config: dict[str, Any]) -> Iterator[str]:
    for name, parameter in named.parameters.items():
        value = settings.get(name, default(named, name))
        if value is None:
            continue
        for place, schema, named_there in _named_within((*path, name), parameter.schema, value):
            yield from _name(str(named_there), schema, _place(place), config)
        for place, schema, entry in entries_within((*path, name), parameter.schema, value):
            yield from _inner_entry(schema, entry, place, config)


def _named_within(
    path: tuple[str, ...], schema: dict[str, Any], value: Any
) -> Iterator[tuple[tuple[str, ...], dict[str, Any], Any]]:
    """Where a value, or what it holds, names an entry of another section."""
    if "name_in" in schema and isinstance(value, str):
        yield path, schema, value
    # A word that an option has of its own is no name.
    options = schema.get("anyOf", ())
    for option in () if any(value in option.get("enum", ()) for option in options) else options:
        yield from _named_within(path, option, value)
    for key, inner in schema.get("properties", {}).items():
        if key in value:
            yield from _named_within((*path, key), inner, value[key])
    for index, item in enumerate(value if "items" in schema and isinstance(value, list) else ()):
        yield from _named_within((*path, str(index)), schema["items"], item)


def _name(value: str, schema: dict[str, Any], place: str, config: dict[str, Any]) -> Iterator[str]:
    """Problems of a name in a section, which may have to be that of an entry with a certain function or of a kind."""
    section = schema["name_in"]
    if value not in config[section]:
        yield f"{place}: {_shown(value)} is not one of the {section}; {nearest(value, config[section])}"
        return

    def fits(entry: dict[str, Any]) -> bool:
        name = entry.get(SECTIONS[section].key)
        if not _is_known(section, name):
            return True  # That is told of the entry itself.
        is_named = schema.get("function") in (None, name)
        return is_named and ("of" not in schema or function(section, str(name)).traits.get("of") in schema["of"])

    if not fits(config[section][value]):
        wanted = f"{schema['function']}" if "function" in schema else f"measure of {' or of '.join(schema['of'])}"
        able = (key for key, entry in config[section].items() if fits(entry))
        yield f"{place}: {_shown(value)} is no {wanted}; {nearest('', able)}"


def _inner_entry(
    schema: dict[str, Any], settings: dict[str, Any], path: tuple[str, ...], config: dict[str, Any]
) -> Iterator[str]:
    """As of any entry; but what reads a file of the user's own cannot stand here, since the job does not wait for it."""
    section, key = schema["entry_of"], SECTIONS[schema["entry_of"]].key
    problems = list(_entry(section, settings, path, config, set()))
    yield from problems
    if not problems and (kind := schema.get("without")) in function(section, settings[key]).traits:
        able = [name for name, known in functions(section).items() if kind not in known.traits]
        yield f"{_place(path)}.{key}: {_shown(settings[key])} is itself a {kind}; {nearest('', able)}"
    if not problems and paths(section, settings):
        yield f"{_place(path)}.{key}: {settings[key]} reads a file, and can only be an entry of its own"


def _names(config: dict[str, Any]) -> Iterator[str]:
    """Names in experiments, figures, pages and claims that nothing defines, and names that cannot stand side by side."""
    for section in (*(SECTIONS.keys() & config.keys()), "experiments"):
        yield from _alike(config[section], section)
    for name, dataset in config["datasets"].items():
        if "trained_on" in dataset:
            yield from _undefined([dataset["trained_on"]], "datasets", f"datasets.{name}.trained_on", config)
    for name, experiment in config["experiments"].items():
        for section in ("datasets", "networks", "trainings", "attacks", "explanations"):
            yield from _undefined(experiment[section], section, f"experiments.{name}.{section}", config)
    for network in config["networks"]:
        if network.endswith("_output") and (other := network.removesuffix("_output")) in config["networks"]:
            yield f"networks: the name {network!r} is taken by what explains the output of {other}; choose another"
    explaining = {f"explain_{network}{of}" for network in config["networks"] for of in ("", "_output")}
    for name, figure in config["figures"].items():
        for number, panel in enumerate(figure.get("panels", [])):
            place = f"figures.{name}.panels[{number}]"
            for key in ("dataset", "network", "attack"):
                yield from _undefined([panel[key]], f"{key}s", f"{place}.{key}", config)
            yield from _undefined(panel["trainings"], "trainings", f"{place}.trainings", config)
        yield from _undefined(figure.get("colours", {}), "trainings", f"figures.{name}.colours", config)
        if name in explaining:
            yield f"figures: the name {name!r} is taken by a target that explains; choose another"
    for name, page in config["explore"].items():
        for key, section in EXPLORED.items():
            yield from _undefined([page[key]], section, f"explore.{name}.{key}", config)
    if retraining := config.get("retraining"):
        for key in ("datasets", "networks", "trainings", "explanations"):
            yield from _undefined(retraining[key], key, f"retraining.{key}", config)
        for key, section in (("network", "networks"), ("training", "trainings")):
            yield from _undefined([retraining["by"][key]], section, f"retraining.by.{key}", config)
    if config.get("variant") in config["datasets"]:
        yield f"variant: {config['variant']!r} is also one of the datasets, and both name a folder; choose another"
    if config["results"].rstrip("/").rpartition("/")[2] in config["datasets"]:
        yield f"results: {config['results']!r} ends like one of the datasets, and both name a folder; choose another"
    for name in config["measures"]:
        if name in COLUMNS_OF_TABLES:
            yield f"measures: the name {name!r} is that of a column which the tables have anyway; choose another"
    if not (claims := config.get("claims")):
        return
    yield from _undefined([claims["explanation"]], "explanations", "claims.explanation", config)
    yield from _undefined([claims["measure"]], "measures", "claims.measure", config)
    yield from _undefined(claims.get("also", []), "measures", "claims.also", config)
    for number, series in enumerate(claims["growing"]):
        for key in ("dataset", "network"):
            yield from _undefined([place[key] for place in series], f"{key}s", f"claims.growing[{number}].{key}", config)
    for number, trainings in enumerate(claims["series"]):
        yield from _undefined(trainings, "trainings", f"claims.series[{number}]", config)
    for name in claims["judged"]:
        try:
            claims_of([name])
        except FunctionError as problem:
            yield f"claims.judged: {problem}; {nearest(name, [*papers(), *functions('statements')], papers())}"


def _alike(names: Iterable[str], section: str) -> Iterator[str]:
    """Names that differ in case alone would share a file where a file system does not tell case."""
    known: dict[str, str] = {}
    for name in names:
        if (other := known.setdefault(name.lower(), name)) != name:
            yield f"{section}: the names {other!r} and {name!r} differ in case alone; choose another"


def _undefined(names: Iterable[str], section: str, path: str, config: dict[str, Any]) -> Iterator[str]:
    for name in names:
        if name not in config[section]:
            yield f"{path}: {name!r} is not one of the {section}; {nearest(name, config[section])}"


def _sentence(error: Any, prefix: tuple[str, ...], also: Iterable[str] = ()) -> str:
    """A JSON-schema error as one line that says which key, which value and what would be accepted."""
    path = _place([*prefix, *error.absolute_path]) or "config"
    value = _shown(error.instance)
    match error.validator:
        case "additionalProperties":
            known = set(error.schema.get("properties", {})) | set(also)
            unknown = [key for key in error.instance if key not in known]
            return "; ".join(f"{path}: the key {_shown(key)} is unknown; {nearest(key, known)}" for key in unknown)
        case "required":
            first, *others = [repr(key) for key in error.validator_value if key not in error.instance]
            if others:
                return f"{path}: the keys {', '.join([first, *others[:-1]])} and {others[-1]} are missing; add them"
            return f"{path}: the key {first} is missing; add it"
        case "type":
            hint = _written(error.instance) if error.validator_value == "string" else _hint(error.instance)
            return f"{path}: {value} must be of type {error.validator_value}{hint}"
        case "enum":
            return f"{path}: {value} is unknown; {nearest(error.instance, map(str, error.validator_value))}"
        case "minimum":
            return f"{path}: {value} must be at least {error.validator_value}"
        case "maximum":
            return f"{path}: {value} must be at most {error.validator_value}"
        case "exclusiveMinimum":
            return f"{path}: {value} must be greater than {error.validator_value}"
        case "exclusiveMaximum":
            return f"{path}: {value} must be less than {error.validator_value}"
        case "pattern":
            return f"{path}: {value} must match {error.validator_value}: {error.schema['title']}"
        case "maxLength":
            return f"{path}: {value} must have at most {error.validator_value} letters"
        case "uniqueItems":
            return f"{path}: {value} names something twice"
        case "not":
            return f"{path}: the name {value} is taken; choose another"
        case "const":
            return f"{path}: {value} must be {error.validator_value!r}"
        case "minItems" | "minProperties" | "minLength":
            return f"{path}: must not be empty"
        case "anyOf":
            kinds = [option.get("type", "?") for option in error.validator_value]
            numeric = next((e for e in error.context if e.validator not in ("type", "const")), None)
            if numeric:
                return _sentence(numeric, prefix)
            return f"{path}: {value} must be of type {' or '.join(kinds)}{_hint(error.instance)}"
    return f"{path}: {error.message}"


def _place(path: Iterable[object]) -> str:
    """A path of keys as one word; a key that is no plain word is shown as Python writes it."""
    return ".".join(str(key) if re.fullmatch(r"[\w-]+", str(key)) else _shown(key) for key in path)


def _shown(value: object) -> str:
    """A value as Python writes it, in one line of bearable length."""
    try:
        text = repr(value)
    except ValueError:
        return "a number of thousands of digits"  # which Python does not write, since that takes long
    return text if len(text) <= 80 else f"{text[:79]}…"


def _hint(value: object) -> str:
    """How to write a number that YAML takes for text."""
    return f"; YAML reads it as text, write {float(value):g}" if isinstance(value, str) and EXPONENT.fullmatch(value) else ""


def _written(value: object) -> str:
    """What in YAML is no text although it looks like it."""
    words = {"True": "yes, on and true", "False": "no, off and false", "None": "~, null and an empty value"}
    return f", as YAML reads {words[str(value)]}; put a name in quotes" if value is None or isinstance(value, bool) else ""


def _whole_numbers(value: Any) -> Any:
    """The same settings with integers where a number has no fraction."""
    if isinstance(value, dict):
        return {key: _whole_numbers(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_whole_numbers(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _with_defaults_of_functions(section: str, entries: dict[str, Any]) -> dict[str, Any]:
    """Entries in which every parameter of the functions that they name has a value."""
    return {name: completed(section, entry) for name, entry in entries.items()}


def _with_defaults(config: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    """A copy in which every key that the schema gives a default has a value."""
    filled = dict(config)
    for key, part in schema.get("properties", {}).items():
        if "default" in part:
            filled.setdefault(key, part["default"])
        if isinstance(filled.get(key), dict):
            filled[key] = _with_defaults(filled[key], part)
    items = schema.get("additionalProperties")
    if isinstance(items, dict):
        for key, value in filled.items():
            if isinstance(value, dict) and key not in schema.get("properties", {}):
                filled[key] = _with_defaults(value, items)
    return filled
