"""Programs of Debian's that some tests need, installed where that is allowed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from typing import NoReturn


def install(purpose: str, missing_packages: Callable[[], list[str]]) -> None:
    """Install the packages that are missing, or end by saying which ones."""
    if not (missing := missing_packages()):
        return
    command = ["apt-get", "install", "-y", "-qq", "--no-install-recommends", *missing]
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        give_up(f"{purpose} needs Debian's packages {', '.join(missing)}. As root: {' '.join(command)}")
    quiet = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    for step in (["apt-get", "update", "-qq"], command):
        done = subprocess.run(step, env=quiet, capture_output=True, encoding="utf-8", check=False)
        if done.returncode != 0:
            give_up(f"{purpose} cannot be installed: {' '.join(step)} says {done.stderr.strip()}")
    if missing := missing_packages():
        give_up(f"{purpose} lacks {', '.join(missing)} after their installation.")


def give_up(why: str) -> NoReturn:
    """End with a status that tells .ci/run that there can be no such program here, unlike an error of the tests."""
    print(why, file=sys.stderr)
    sys.exit(os.EX_UNAVAILABLE)
