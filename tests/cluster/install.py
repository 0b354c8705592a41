"""Install what a Slurm of one node needs, or say what is missing; then print what is there."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from importlib.metadata import version

from tests.cluster.one_node import missing_packages, path_of


def main() -> None:
    if missing := missing_packages():
        install = ["apt-get", "install", "-y", "-qq", "--no-install-recommends", *missing]
        if os.geteuid() != 0 or shutil.which("apt-get") is None:
            sys.exit(f"A Slurm of one node needs Debian's packages {', '.join(missing)}. As root: {' '.join(install)}")
        quiet = {"stdout": subprocess.DEVNULL, "env": os.environ | {"DEBIAN_FRONTEND": "noninteractive"}}
        subprocess.run(["apt-get", "update", "-qq"], check=True, **quiet)  # type: ignore[call-overload]
        subprocess.run(install, check=True, **quiet)  # type: ignore[call-overload]
        if missing := missing_packages():
            sys.exit(f"Still missing after the installation: {', '.join(missing)}.")
    for command in (("slurmctld", "-V"), ("munged", "-V")):
        path = path_of(command[0])
        assert path
        print(subprocess.run([path, *command[1:]], capture_output=True, text=True, check=True).stdout.splitlines()[0])
    for package in ("snakemake", "snakemake-executor-plugin-slurm", "snakemake-executor-plugin-slurm-jobstep"):
        print(package, version(package))


if __name__ == "__main__":
    main()
