"""Each environment holds what the scripts of its rules import, no less and no more, in the versions of the project."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from importlib import metadata
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from resilience import catalog
from tests.conftest import ROOT

ENVIRONMENTS = sorted((ROOT / "envs").glob("*.yaml"))
RULE = re.compile(r'"\.\./envs/(\w+)\.yaml".*?"\.\./workflow/scripts/(\w+\.py)"', re.DOTALL)

#: The kinds of measures that the functions of resilience.tables look up.
MEASURED_IN = {
    "table_of_maps": ["maps"],
    "table_of_predictions": ["predictions"],
    "table_of_clean": ["explanation", "network"],
}

#: Imports modules where others are missing, and says which files of the library that took.
ISOLATED = """
import json, sys
from importlib.abc import MetaPathFinder

missing, modules = json.loads(sys.argv[1])

class Missing(MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name.partition(".")[0] in missing:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Missing())
for module in modules:
    __import__(module)
print(json.dumps([module.__file__ for name, module in sys.modules.items() if name.partition(".")[0] == "resilience"]))
"""


def requirements(path: Path) -> dict[str, str]:
    *conda, last = yaml.safe_load(path.read_text(encoding="utf-8"))["dependencies"]
    assert any(part.startswith("python") for part in conda)
    return {canonicalize_name(name): version for name, _, version in (pin.partition("==") for pin in last["pip"])}


def brought(names: set[str]) -> set[str]:
    """Distributions and what they need, as far as it is installed here."""
    pending, found = list(names), set()
    while pending:
        name = canonicalize_name(pending.pop())
        if name in found:
            continue
        found.add(name)
        try:
            needed = [Requirement(line) for line in metadata.requires(name) or []]
        except metadata.PackageNotFoundError:
            continue
        pending += [part.name for part in needed if part.marker is None or part.marker.evaluate({"extra": ""})]
    return found


@cache
def owners() -> dict[str, set[str]]:
    """The distributions of each module that can be imported here."""
    known = metadata.packages_distributions().items()
    return {module: {canonicalize_name(name) for name in names} for module, names in known}


def scripts_of(environment: Path) -> set[Path]:
    rules = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "rules").glob("*.smk"))
    return {ROOT / "workflow/scripts" / script for name, script in RULE.findall(rules) if name == environment.stem}


def imports(file: Path) -> Iterator[str]:
    """What a file imports, its functions included, but for what only its annotations need."""
    pending: list[ast.AST] = [ast.parse(file.read_text(encoding="utf-8"))]
    while pending:
        match pending.pop():
            case ast.If(test=ast.Name(id="TYPE_CHECKING")):
                continue
            case ast.Import(names=names):
                yield from (alias.name for alias in names)
            case ast.ImportFrom(module="resilience", names=names):
                yield from (f"resilience.{alias.name}" for alias in names)
            case ast.ImportFrom(module=str(module)):
                yield module
            case node:
                pending += ast.iter_child_nodes(node)


def named_by_the_config(scripts: set[Path]) -> dict[str, Path]:
    """The modules with the functions that scripts look up, because entries of the config name them, and their files."""
    source = "".join(script.read_text(encoding="utf-8") for script in scripts)
    sections = set(re.findall(r'catalog\.(?:load|bound)\("(\w+)"', source))
    kinds = {kind for table, measured in MEASURED_IN.items() if f"tables.{table}(" in source for kind in measured}
    modules = {function.module for section in sections for function in catalog.functions(section).values()}
    modules |= {function.module for function in catalog.functions("measures").values() if function.traits["of"] in kinds}
    return {module: ROOT.joinpath("src", *module.split(".")).with_suffix(".py") for module in modules}


@pytest.mark.parametrize("path", ENVIRONMENTS, ids=lambda path: path.stem)
def test_environments_have_the_pins_of_the_project(path):
    pins = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").split())
    pinned = {canonicalize_name(name): version for name, version in pins.items()}
    for name, version in requirements(path).items():
        assert pinned[name] == version, f"{path.name}: {name}"


def test_every_script_has_an_environment():
    assert set().union(*map(scripts_of, ENVIRONMENTS)) == set((ROOT / "workflow/scripts").glob("*.py"))


@pytest.mark.parametrize("path", ENVIRONMENTS, ids=lambda path: path.stem)
def test_environments_hold_what_their_scripts_import_and_nothing_else(path):
    held, scripts = set(requirements(path)), scripts_of(path)
    named = named_by_the_config(scripts)
    modules = set(named).union(*map(imports, scripts))
    there = brought(held) | {"resilience"}
    missing = {module for module, names in owners().items() if not names & there}
    done = subprocess.run(
        [sys.executable, "-c", ISOLATED, json.dumps([sorted(missing), sorted(modules)])],
        env=os.environ | {"PYTHONPATH": str(ROOT / "src")},
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert done.returncode == 0, f"{path.name}: {done.stderr.splitlines()[-1]}"
    files = {Path(file) for file in json.loads(done.stdout)} | scripts
    imported = {name.partition(".")[0] for file in files for name in imports(file)}
    needless = held - set().union(*(owners().get(module, set()) for module in imported))
    assert not needless, f"{path.name}: nothing imports {needless}"
    inside = {name.partition(".")[0] for file in named.values() for name in imports(file)}
    assert not inside & missing, f"{path.name}: lacks {inside & missing}, which functions import"
