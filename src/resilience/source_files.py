"""Where the source of a module lies: in the library, or in a file of the user's own, beside the one that imports it.

A module of the library goes by its name, a script and a file of the user's own by their paths. Each is read once, so that
all digests of a plan are of the same text.
"""

from __future__ import annotations

import ast
import os
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from resilience.source_code import Import, Source, read, uses

LIBRARY = Path(__file__).parent


@cache
def library_sources() -> dict[str, bytes]:
    """The source of every module of the library by the module's name, as it was when it was first asked for."""
    places = {file: file.relative_to(LIBRARY.parent).with_suffix("").parts for file in sorted(LIBRARY.rglob("*.py"))}
    return {".".join(parts).removesuffix(".__init__"): file.read_bytes() for file, parts in places.items()}


@cache
def source_of(file: Path) -> bytes | None:
    """The source of a script or of a file of the user's own, as it was when first asked for; None if there is none."""
    return file.read_bytes() if file.is_file() else None


@cache
def table_of(module: str) -> Source | None:
    """A module of the library, a script or a file of the user's own as a table; None for what is none of these."""
    source = raw_source(module)
    try:
        return None if source is None else read(source)
    except (SyntaxError, ValueError):
        return Source([ast.Raise(exc=ast.Constant(value=source))])


def raw_source(module: str) -> bytes | None:
    """The text of a module of the library, of a script or of a file of the user's own; None for what is none of these."""
    return source_of(Path(module)) if is_file(module) else library_sources().get(module)


def is_file(module: str) -> bool:
    """Whether a module goes by its path."""
    return module.endswith(".py")


def label(module: str) -> str:
    """What stands for a module in texts: of a script its name alone, wherever the workflow lies."""
    return Path(module).name if os.path.isabs(module) else module


@cache
def modules_of(imported: Import, here: str) -> tuple[str, ...]:
    """The modules of the library and the files of the user's own that an import imports, packages before what is in them."""
    module, name, level = imported
    parts = f"{module}.{name}".strip(".").split(".") if name not in ("", "*") else module.split(".")
    found = (find(".".join(parts[:end]), level, here) for end in range(0 if level else 1, len(parts) + 1))
    return tuple(dict.fromkeys(place for place in found if place))


@cache
def find(module: str, level: int, here: str) -> str | None:
    """The module of the library, or the file, that a name in an import means; None for what others wrote."""
    if not is_file(here) and level:
        parts = here.split(".")
        is_package = any(name.startswith(f"{here}.") for name in library_sources())
        module = ".".join([*parts[: len(parts) + is_package - level], *filter(None, [module])])
    if not (is_file(here) and level) and module in library_sources():
        return module
    return next((file for file in _candidates(module, level, here) if source_of(Path(file)) is not None), None)


def submodule(module: str, name: str) -> str | None:
    """The module of that name in a package."""
    if not is_file(module):
        return find(f"{module}.{name}", 0, module)
    return find(name, 1, module) if Path(module).name == "__init__.py" else None


def modules_in(module: str) -> list[str]:
    """All modules of a package; of another module none."""
    if not is_file(module):
        return [name for name in library_sources() if name.startswith(f"{module}.")]
    is_package = Path(module).name == "__init__.py"
    return [os.path.normpath(file) for file in beneath(Path(module).parent)] if is_package else []


def _candidates(module: str, level: int, here: str) -> list[str]:
    """The files that an import in a script or in a file of the user's own may mean: beside it, or where the run is."""
    if not is_file(here) or (not level and module.split(".")[0] in (*sys.stdlib_module_names, "resilience")):
        return []
    beside = Path(here).parent.joinpath(*[".."] * (level - 1))
    folders = [beside] if level or beside.is_absolute() else list(dict.fromkeys((beside, Path())))
    stems = [folder.joinpath(*module.split(".")) for folder in folders]
    return [os.path.normpath(file) for stem in stems for file in (stem / "__init__.py", f"{stem}.py")]


@cache
def looked_for(file: str) -> frozenset[str]:
    """The files that a script or a file of the user's own would import if they were there."""
    source = table_of(file)
    imports = {imported for node in source.statements for imported in uses(node).imports} if source else set()
    found: set[str] = set()
    for module, name, level in imports:
        for dotted in {module, f"{module}.{name}".strip(".*")}:
            parts = dotted.split(".")
            found.update(part for end in range(len(parts)) for part in _candidates(".".join(parts[: end + 1]), level, file))
    return frozenset(found)


def beneath(folder: Path) -> Iterator[Path]:
    """All Python files in a folder and those in it, but those whose names start with a dot."""
    for place, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (Path(place, file) for file in sorted(files) if file.endswith(".py"))


def forget() -> None:
    """Let all sources be read again."""
    for remembered in (library_sources, source_of, table_of, find, modules_of, looked_for):
        remembered.cache_clear()
