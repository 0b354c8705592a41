"""The reference of every key of the config, written from the schema and from the signatures of what entries name.

``python -m resilience.config_reference workflow/schemas/config.schema.yaml`` prints ``docs/configuration.md``; a test holds
the two equal.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from resilience import catalog

HEAD = """# Configuration

Every key of `config/config.yaml`. This page is printed by
`python -m resilience.config_reference workflow/schemas/config.schema.yaml` from the schema and from the functions that the
entries name, so it cannot lag behind them.

A config is checked before any job starts. Relative folders count from the folder in which Snakemake runs.

* Another config: `snakemake --configfile my.yaml …`; it stands for itself and inherits nothing from the default, which is
  `config/config.yaml` of the folder in which Snakemake runs, or else the one that comes along.
* One value: `snakemake --config 'seeds=[0]' …`.
* Numbers may be written in any way: `2` and `2.0` are the same setting, and so is any order of keys.
* What is said more than once can stand at the top under a key that begins with `x-`, and be named with YAML's anchors:
  `x-adam: &adam {epochs: 60, decay: 0.1}`, and then `det: {<<: *adam, method: deterministic}`. Nothing reads such a key by
  itself: neither what it holds nor its name makes anything run again.
* Where a function of the library can be named, one [in a file of your own](extending.md#functions) can be, too:
  `{method: "my_attacks.py:noise"}`.
"""

#: Sections whose entries stand within those of another.
WITHIN = {"explanations": "rules"}


def write(schema: dict[str, Any]) -> str:
    """The page as Markdown, from the config's schema."""
    parts = [HEAD]
    for name, section in schema["properties"].items():
        parts.append(f"## `{name}`\n\n{_sentence(section)}\n")
        if name in catalog.SECTIONS:
            parts.extend(_entries(name, section))
            parts.extend(_functions(WITHIN[name]) if name in WITHIN else ())
        elif inner := section.get("properties") or section.get("additionalProperties", {}).get("properties"):
            parts.append(_table((key, value, key in _required(section)) for key, value in inner.items()))
        if name == "claims":
            parts.append(_claims())
    return "\n".join(parts)


def _required(section: dict[str, Any]) -> list[str]:
    return section.get("required") or section.get("additionalProperties", {}).get("required", [])


def _entries(name: str, section: dict[str, Any]) -> Iterator[str]:
    """The keys that all entries of a section share, and those of each function that an entry may name."""
    shared = section.get("additionalProperties", {})
    key = catalog.SECTIONS[name].key
    if own := {inner: value for inner, value in shared.get("properties", {}).items() if inner != key}:
        yield "Every entry:\n"
        yield _table((inner, value, inner in shared.get("required", [])) for inner, value in own.items())
    for inner, value in own.items():
        if parts := value.get("items", {}).get("properties"):
            yield f"Every one of the `{inner}`:\n"
            yield _table((part, schema, part in value["items"]["required"]) for part, schema in parts.items())
    yield from _functions(name)


def _functions(name: str) -> Iterator[str]:
    """The keys of each function that an entry may name."""
    key = catalog.SECTIONS[name].key
    for function in catalog.functions(name).values():
        yield f"### `{key}: {function.name}`\n\n{_tidy(function.summary)}\n"
        rows = [
            (
                parameter,
                {
                    **found.schema,
                    "description": _described(name, function, parameter),
                    "default": catalog.default(function, parameter),
                },
                found.required,
            )
            for parameter, found in function.parameters.items()
        ]
        if rows:
            yield _table(rows)


def _claims() -> str:
    """What can be judged, paper by paper."""
    lines = ["| paper | claim | what it says | place |", "|---|---|---|---|"]
    for name in catalog.functions("statements"):
        about = catalog.statement(name)
        lines.append(f"| `{about['paper']}` | `{name}` | {_tidy(about['sentence'])} | {about['place']} |")
    return "\n".join(lines) + "\n"


def _table(rows: Any) -> str:
    lines = ["| key | value | default | meaning |", "|---|---|---|---|"]
    for key, schema, required in rows:
        fallback = "required" if required else f"`{_plain(schema['default'])}`" if "default" in schema else ""
        lines.append(f"| `{key}` | {_values(schema)} | {fallback} | {_sentence(schema)} |")
    return "\n".join(lines) + "\n"


def _values(schema: dict[str, Any]) -> str:
    """What a value may be, in words."""
    if "anyOf" in schema:
        return " or ".join(_values(part) for part in schema["anyOf"])
    if "enum" in schema:
        return " or ".join(f"`{_plain(value)}`" for value in schema["enum"])
    if "name_in" in schema:
        return f"a name in `{schema['name_in']}`"
    if "path_to" in schema:
        return f"path of a {schema['path_to']}"
    if "entry_of" in schema:
        return f"an entry as in `{schema['entry_of']}`"
    if "$ref" in schema:
        return "names" if schema["$ref"].endswith("names") else "a name"
    if "pattern" in schema:
        return str(schema["title"])
    if schema.get("type") == "array":
        return f"list of {_values(schema['items'])}"
    if schema.get("type") == "object":
        inner = schema.get("additionalProperties")
        return f"names, each with {_values(inner)}" if isinstance(inner, dict) else "entries as below"
    bounds = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
    limits = [f"{sign} {schema[bound]}" for bound, sign in bounds.items() if bound in schema]
    kind = {"boolean": "`true` or `false`", "null": "`null`", "string": "text"}.get(
        schema.get("type", ""), schema.get("type", "any")
    )
    return " ".join([kind, *([", ".join(limits)] if limits else [])])


def _plain(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    return {"None": "null", "True": "true", "False": "false"}.get(str(value), str(value))


def _sentence(schema: dict[str, Any]) -> str:
    return _tidy(schema.get("description", ""))


def _tidy(text: str) -> str:
    """One line of Markdown from a docstring."""
    text = re.sub(r":\w+:`~?(?:[\w.]*\.)?(\w+)`", r"`\1`", " ".join(text.split()))
    return text.replace("``", "`").replace("|", "\\|")


def _described(section: str, function: catalog.Function, parameter: str) -> str:
    """What the function's docstring says of a parameter, or else that of another function, one of the same file first."""
    docstrings, own = _docstrings(section), (function.module.rpartition(".")[2], function.name)
    nearest_first = sorted(docstrings, key=lambda place: (place != own, place[0] != own[0]))
    texts = (docstrings[place].get(parameter, "") for place in nearest_first)
    return next((text for text in texts if text and not text.startswith("See ")), "")


@cache
def _docstrings(section: str) -> dict[tuple[str, str], dict[str, str]]:
    """The described parameters of every function in the module of a section, by the file's stem and the function's name."""
    trees = {file.stem: ast.parse(file.read_bytes()) for file in catalog.sources(section)}
    nodes = [(stem, node) for stem, tree in trees.items() for node in tree.body if isinstance(node, ast.FunctionDef)]
    return {(stem, node.name): _parameters(ast.get_docstring(node) or "") for stem, node in nodes}


def _parameters(docstring: str) -> dict[str, str]:
    """Parameters and their descriptions in a docstring of numpy's form."""
    _, _, rest = docstring.partition("Parameters\n----------\n")
    body = re.split(r"\n\n\w+\n-+\n", rest)[0]
    found: dict[str, str] = {}
    for block in re.split(r"\n(?=\S)", body):
        names, _, text = block.partition("\n")
        for name in names.split(","):
            found[name.strip()] = " ".join(text.split())
    return found


if __name__ == "__main__":
    sys.stdout.buffer.write(write(yaml.safe_load(Path(sys.argv[1]).read_text(encoding="utf-8"))).encode())
