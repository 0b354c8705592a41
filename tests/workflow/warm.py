"""Snakemake's commands in forks of one process that has imported it: that takes longer than most plans.

Nothing of the project is imported here, so that each fork finds the library in the folder that it works in.
"""

from __future__ import annotations

import atexit
import multiprocessing
import os
import subprocess
import sys
import tempfile
from contextlib import chdir
from pathlib import Path

ROOT = Path(__file__).parents[2]
FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["snakemake.cli", "snakemake.report.html_reporter", "snakemake_storage_plugin_s3", __name__])


def snakemake(
    arguments: list[str], folder: Path, environment: dict[str, str], seconds: float = 1200.0
) -> subprocess.CompletedProcess[str]:
    """Run a command of Snakemake in a folder, as :func:`subprocess.run` would."""
    with tempfile.TemporaryDirectory() as place:
        streams = [Path(place, name) for name in ("stdout", "stderr")]
        process = FORKS.Process(target=_run, args=(arguments, folder, environment, streams))
        # The first one starts the server, which imports from where it is: not from a folder with other tests in it.
        with chdir(ROOT):
            process.start()
        process.join(seconds)
        if process.is_alive():
            process.kill()
            raise subprocess.TimeoutExpired(["snakemake", *arguments], seconds)
        return subprocess.CompletedProcess(
            arguments, process.exitcode, *(stream.read_text(encoding="utf-8") for stream in streams)
        )


def _run(arguments: list[str], folder: Path, environment: dict[str, str], streams: list[Path]) -> None:
    for number, stream in enumerate(streams, start=1):
        os.dup2(os.open(stream, os.O_WRONLY | os.O_CREAT), number)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    sys.argv[:] = ["snakemake", *arguments]
    from snakemake.cli import main

    try:
        main()
    finally:
        atexit._run_exitfuncs()
