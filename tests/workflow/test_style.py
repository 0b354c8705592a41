"""Lint, formatting, types, and what every rule must declare."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest
import yaml

from tests.conftest import ROOT

RULES = [
    (path.name, block)
    for path in sorted((ROOT / "rules").glob("*.smk"))
    for block in re.split(r"^ *rule ?\w*:\n", path.read_text(), flags=re.M)[1:]
]


def run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", *command], cwd=ROOT, capture_output=True, text=True, check=False)


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
    for key in ("threads:", "log:", "benchmark:", "conda:", "params:", "resources:"):
        assert key in block, f"{file}: {key} is missing"
    for resource in ("gpu=", "mem_mb=", "runtime="):
        assert resource in block, f"{file}: {resource} is missing"


def test_every_wildcard_is_constrained():
    wildcards = set(re.findall(r"\{(\w+)\}", "".join(block for _, block in RULES)))
    constrained = set(
        re.findall(r"^    (\w+)=", (ROOT / "rules/settings.smk").read_text().split("wildcard_constraints:")[1], flags=re.M)
    )
    assert wildcards - {"model", "file", "attack", "NETWORK"} <= constrained


def test_names_of_targets_cannot_be_figures():
    schema = yaml.safe_load((ROOT / "workflow/schemas/config.schema.yaml").read_text())
    taken = set(schema["properties"]["figures"]["propertyNames"]["not"]["enum"])
    named = set(
        re.findall(
            r"^ *rule (\w+):",
            "".join(path.read_text() for path in [*(ROOT / "rules").glob("*.smk"), ROOT / "Snakefile"]),
            flags=re.M,
        )
    )
    assert named == taken


def test_the_slurm_profile_groups_the_short_jobs_and_heat_maps():
    profile = yaml.safe_load((ROOT / "profiles/slurm/config.yaml").read_text())
    networks = yaml.safe_load((ROOT / "config/config.yaml").read_text())["networks"]
    rules = "".join(path.read_text() for path in (ROOT / "rules").glob("*.smk"))
    blocks = re.findall(r"^rule (\w+):\n((?:    .*\n|\n)*)", rules, flags=re.M)
    short = {name for name, block in blocks if re.search(r"runtime=\d\d,", block) and "localrule" not in block}
    assert set(profile["groups"]) == short | {f"explain_{network}" for network in networks}
    assert set(profile["group-components"]) <= set(profile["groups"].values())
