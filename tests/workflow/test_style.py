"""Lint, formatting, types, and what every rule must declare."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.conftest import ROOT

RULES = [
    (path.name, block)
    for path in sorted((ROOT / "rules").glob("*.smk"))
    for block in re.split(r"^ *rule ?\w*:\n", path.read_text(encoding="utf-8"), flags=re.M)[1:]
]


def run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", *command], cwd=ROOT, capture_output=True, encoding="utf-8", check=False)


@pytest.mark.parametrize(
    "command",
    [
        ("ruff", "check", "."),
        ("ruff", "format", "--check", "."),
        ("mypy",),
        ("snakefmt", "--check", "."),
        ("snakemake", "--lint"),
    ],
    ids=" ".join,
)
def test_checkers_are_silent(command):
    done = run(*command)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(("file", "block"), RULES, ids=lambda part: part if len(part) < 20 else "")
def test_every_rule_declares_what_a_cluster_needs(file, block):
    assert block.lstrip().startswith('"""'), "a rule without a docstring"
    if "script:" not in block:
        assert "localrule: True" in block
        return
    for key in ("threads:", "log:", "conda:", "params:", "resources:", *(["benchmark:"] if "output:" in block else [])):
        assert key in block, f"{file}: {key} is missing"
    for resource in ("gpu=", "mem_mb=", "runtime="):
        assert resource in block, f"{file}: {resource} is missing"


def texts_without_encoding(path: Path) -> list[int]:
    """Lines that read or write text as the locale has it: of Python more than ruff sees, and of rules, which it does not."""
    source = path.read_text(encoding="utf-8")
    if path.suffix != ".py":
        found = re.finditer(r"_text\((?!.*encoding=)|(?<!tarfile\.)\bopen\((?!.*(?:encoding=|b\"))|text=True", source)
        return [source.count("\n", 0, each.start()) + 1 for each in found]
    calls = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)]
    return [
        call.lineno
        for call in calls
        if (isinstance(call.func, ast.Attribute) and call.func.attr in ("read_text", "write_text"))
        or any(key.arg in ("text", "universal_newlines") for key in call.keywords)
        if not any(key.arg == "encoding" for key in call.keywords)
    ]


def test_every_text_says_its_encoding():
    """Else the locale decides what is read, and with it which jobs are up to date."""
    parts = ("src", "rules", "workflow", "tests", "benchmarks", "docs")
    files = [
        ROOT / "Snakefile",
        *(path for part in parts for path in (ROOT / part).rglob("*") if path.suffix in (".py", ".smk")),
    ]
    assert {str(path): lines for path in files if (lines := texts_without_encoding(path))} == {}


def test_every_wildcard_is_constrained():
    wildcards = set(re.findall(r"\{(\w+)\}", "".join(block for _, block in RULES)))
    constrained = set(
        re.findall(
            r"^    (\w+)=",
            (ROOT / "rules/settings.smk").read_text(encoding="utf-8").split("wildcard_constraints:")[1],
            flags=re.M,
        )
    )
    assert wildcards - {"model", "file", "attack", "NETWORK"} <= constrained


def test_names_of_targets_cannot_be_figures():
    schema = yaml.safe_load((ROOT / "workflow/schemas/config.schema.yaml").read_text(encoding="utf-8"))
    taken = set(schema["properties"]["figures"]["propertyNames"]["not"]["enum"])
    named = set(
        re.findall(
            r"^ *rule (\w+):",
            "".join(path.read_text(encoding="utf-8") for path in [*(ROOT / "rules").glob("*.smk"), ROOT / "Snakefile"]),
            flags=re.M,
        )
    )
    assert named == taken


def test_the_slurm_profile_groups_the_short_jobs_and_heat_maps():
    profile = yaml.safe_load((ROOT / "profiles/slurm/config.yaml").read_text(encoding="utf-8"))
    networks = yaml.safe_load((ROOT / "config/config.yaml").read_text(encoding="utf-8"))["networks"]
    rules = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "rules").glob("*.smk"))
    blocks = re.findall(r"^rule (\w+):\n((?:    .*\n|\n)*)", rules, flags=re.M)
    short = {name for name, block in blocks if re.search(r"runtime=\d\d,", block) and "localrule" not in block}
    maps = {f"explain_{network}{of}" for network in networks for of in ("", "_output")}
    assert set(profile["groups"]) == short | maps
    assert set(profile["group-components"]) <= set(profile["groups"].values())
