"""Install what a Slurm of one node needs and start it once, or say what is missing; then print what is there."""

from __future__ import annotations

import subprocess
import tempfile
from importlib.metadata import version
from pathlib import Path

from tests.cluster.one_node import Slurm, missing_packages, path_of
from tests.debian import give_up, install


def main() -> None:
    install("A Slurm of one node", missing_packages)
    start_once()
    for command in (("slurmctld", "-V"), ("munged", "-V")):
        path = path_of(command[0])
        assert path
        print(subprocess.run([path, *command[1:]], capture_output=True, encoding="utf-8", check=True).stdout.splitlines()[0])
    for package in ("snakemake", "snakemake-executor-plugin-slurm", "snakemake-executor-plugin-slurm-jobstep"):
        print(package, version(package))


def start_once() -> None:
    """Start a Slurm and run something on it, or end by saying that none starts on this machine."""
    with tempfile.TemporaryDirectory(prefix="slurm-") as folder:
        slurm = Slurm(Path(folder))
        try:
            slurm.start()
            if slurm.ask("srun", "-n1", "echo", "started") != "started\n":
                give_up("A Slurm starts here, but runs nothing.")
        except AssertionError as error:
            give_up(f"No Slurm starts here: {error}")
        finally:
            slurm.stop()


if __name__ == "__main__":
    main()
