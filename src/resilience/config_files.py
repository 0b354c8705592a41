"""What a config file says that YAML passes over in silence, and values of the command line as YAML would read them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

#: More values than any config needs; a few lines of YAML whose names stand for lists of names unfold to billions.
MOST_VALUES = 100_000
#: What can be told from text by its looks, and beside it what JSON has, too, and how a mapping takes over another's keys.
NUMBERS = frozenset(f"tag:yaml.org,2002:{kind}" for kind in ("int", "float", "bool", "null"))
PLAIN = NUMBERS | {f"tag:yaml.org,2002:{kind}" for kind in ("str", "seq", "map", "merge")}
#: The reader in C where PyYAML was built with it: ten times faster, with the same nodes.
READER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
DATE = "tag:yaml.org,2002:timestamp"
#: A number that YAML 1.1 takes for text, since it wants a point and a sign.
EXPONENT = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+")


def problems(path: str | Path) -> Iterator[str]:
    """What must not stand in a config file: keys that stand twice, values that are no plain YAML, names of themselves.

    Parameters
    ----------
    path
        A file that YAML can read.

    Yields
    ------
    str
        One line for each: file, line, what is wrong and what would do.
    """
    root = yaml.compose(Path(path).read_text(encoding="utf-8"), Loader=READER)
    if root is None:
        return
    nodes: dict[int, yaml.Node] = {}
    size = _unfolded(root, nodes, {})
    name = Path(path).name
    if size is None:
        yield f"{name}: an anchor (&) stands for something that it is itself a part of; write it out"
    elif size > MOST_VALUES:
        yield f"{name}: with its aliases (*) unfolded it has {size:.3g} values; at most {MOST_VALUES} are read"
    for node in nodes.values():
        place = f"{name}, line {node.start_mark.line + 1}"
        if node.tag == DATE:
            yield f"{place}: {node.value!r} is read as a date; put it in quotes"
        elif node.tag not in PLAIN:
            kind = node.tag.replace("tag:yaml.org,2002:", "!!")
            yield f"{place}: a value is marked {kind!r}; expected text, numbers, lists and keys without such a mark"
        elif isinstance(node, yaml.MappingNode):
            yield from _twice(node, name)


def _unfolded(node: yaml.Node, seen: dict[int, yaml.Node], sizes: dict[int, int]) -> int | None:
    """The number of values below a node with aliases unfolded, None if that never ends; ``seen`` gathers every node once."""
    if id(node) in seen:
        return sizes.get(id(node))
    seen[id(node)] = node
    parts = node.value if isinstance(node, yaml.CollectionNode) else []
    inner = [part for pair in parts for part in pair] if isinstance(node, yaml.MappingNode) else parts
    found = [_unfolded(part, seen, sizes) for part in inner]
    if None in found:
        return None
    sizes[id(node)] = 1 + sum(size for size in found if size is not None)
    return sizes[id(node)]


def _twice(node: yaml.MappingNode, name: str) -> Iterator[str]:
    first: dict[tuple[str, str], int] = {}
    for key, _ in node.value:
        if not isinstance(key, yaml.ScalarNode):
            continue
        line, known = key.start_mark.line + 1, (key.tag, key.value)
        if known in first:
            yield f"{name}, line {line}: the key {key.value!r} stands in line {first[known]}, too; keep one of them"
        elif key.value == "__use_yte__":
            yield f"{name}, line {line}: __use_yte__ would have Python run by the config; write the values out"
        first[known] = line


def retype(config: dict[str, Any], given: dict[str, Any]) -> None:
    """Read what stands in lists and mappings on the command line as a config file would be read.

    Snakemake takes ``--config 'seeds=[0]'`` for a list of texts.

    Parameters
    ----------
    config
        Is changed in place, where it holds what was given.
    given
        The values of ``--config`` as Snakemake read them.
    """
    for key, value in given.items():
        if isinstance(value, dict) and isinstance(config.get(key), dict):
            retype(config[key], value)
        elif key in config and config[key] == value:
            config[key] = _typed(value)


def _typed(value: Any) -> Any:
    if isinstance(value, list):
        return [_typed(item) for item in value]
    if isinstance(value, dict):
        return {key: _typed(item) for key, item in value.items()}
    if not isinstance(value, str):
        return value
    if EXPONENT.fullmatch(value):
        return float(value)
    loader = yaml.SafeLoader("")
    kind = loader.resolve(yaml.ScalarNode, value, (True, False))
    try:
        return loader.construct_object(yaml.ScalarNode(kind, value)) if kind in NUMBERS else value
    except ValueError:
        return value  # looks like a number and is none, or has thousands of digits
