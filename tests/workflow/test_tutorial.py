"""The tutorial does what it says."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from PIL import Image

from tests.conftest import ROOT
from tests.workflow.conftest import copy_project

#: The text before a block, the block's language, and the block.
BLOCK = re.compile(r"(.*?)```(\w+)\n(.*?)```", re.DOTALL)


def run(commands: str, folder: Path) -> str:
    """What the commands of a block print, but for those that set up what the tests have."""
    commands = re.sub(r"^(make|source) .*$", "", commands, flags=re.MULTILINE)
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "RESILIENCE_FORK_SERVER")}
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", commands],
        cwd=folder,
        env=environment | {"PATH": path},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        check=False,
    )
    assert done.returncode == 0, f"{commands}\n{done.stdout[-3000:]}"
    return done.stdout


def lines(said: str) -> list[str]:
    """Lines whose decimals may be others on another machine."""
    return [re.sub(r"\d+\.\d+", "0.0", line.rstrip()) for line in said.splitlines()]


def test_each_command_prints_what_is_shown_below_it(tmp_path):
    project, said = copy_project(tmp_path), ""
    for before, language, block in BLOCK.findall((ROOT / "docs/tutorial.md").read_text(encoding="utf-8")):
        if language == "sh":
            said = run(block, project.folder)
        elif language == "text":
            missing = [line for line in lines(block) if line != "…" and line not in lines(said)]
            assert not missing, f"{missing} is not in\n{said}"
        else:
            file = re.findall(r"`(\w+\.\w+)`", before)[-1]
            (project.folder / file).write_text(block, encoding="utf-8")
    figures = project.folder / "results/tutorial/figures"
    assert {path.name for path in figures.iterdir()} >= {"maps.png", "blurred.png"}
    with Image.open(figures / "blurred.png") as drawn, Image.open(ROOT / "docs/images/tutorial.png") as shown:
        assert drawn.size == shown.size
