"""Programs of Debian's that some tests need, installed where that is allowed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable


def install(purpose: str, missing_packages: Callable[[], list[str]]) -> None:
    """Install the packages that are missing, or end by saying which ones."""
    if not (missing := missing_packages()):
        return
    command = ["apt-get", "install", "-y", "-qq", "--no-install-recommends", *missing]
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        sys.exit(f"{purpose} needs Debian's packages {', '.join(missing)}. As root: {' '.join(command)}")
    quiet = {"stdout": subprocess.DEVNULL, "env": os.environ | {"DEBIAN_FRONTEND": "noninteractive"}}
    subprocess.run(["apt-get", "update", "-qq"], check=True, **quiet)  # type: ignore[call-overload]
    subprocess.run(command, check=True, **quiet)  # type: ignore[call-overload]
    if missing := missing_packages():
        sys.exit(f"Still missing after the installation: {', '.join(missing)}.")
