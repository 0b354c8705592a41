"""Install what a Slurm of one node needs, or say what is missing; then print what is there."""

from __future__ import annotations

import subprocess
from importlib.metadata import version

from tests.cluster.one_node import missing_packages, path_of
from tests.debian import install


def main() -> None:
    install("A Slurm of one node", missing_packages)
    for command in (("slurmctld", "-V"), ("munged", "-V")):
        path = path_of(command[0])
        assert path
        print(subprocess.run([path, *command[1:]], capture_output=True, text=True, check=True).stdout.splitlines()[0])
    for package in ("snakemake", "snakemake-executor-plugin-slurm", "snakemake-executor-plugin-slurm-jobstep"):
        print(package, version(package))


if __name__ == "__main__":
    main()
