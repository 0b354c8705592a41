"""A GPU for each job of a workstation: jobs that run side by side take the devices from a pool.

A cluster gives every job a device of its own; on one machine all jobs would compute on the first. So where Snakemake runs
jobs itself and sees more than one device, it offers them, and each job that computes takes one by locking its file. The lock
ends with the process, however that ends.
"""

from __future__ import annotations

import atexit
import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from typing import IO

from resilience.progress import logger

#: What CUDA computes on: numbers or names of devices, with commas between.
CUDA = "CUDA_VISIBLE_DEVICES"
#: Holds the folder of the locks and the devices.
VARIABLE = "RESILIENCE_DEVICES"
SECONDS_BETWEEN_TRIES = 0.2

_held: list[IO[str]] = []


def offer() -> None:
    """Let the jobs of this process take devices, if there is more than one."""
    names = visible()
    if len(names) > 1 and os.name == "posix":
        folder = tempfile.mkdtemp(prefix="resilience-devices-")
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        os.environ[VARIABLE] = f"{folder}:{','.join(names)}"


def visible() -> list[str]:
    """The devices of this process: those that it was given, else all of the machine."""
    if CUDA in os.environ:
        return [name.strip() for name in os.environ[CUDA].split(",") if name.strip()]
    try:
        command = ["nvidia-smi", "--query-gpu=index", "--format=csv,noheader"]
        done = subprocess.run(command, capture_output=True, encoding="utf-8", check=True, timeout=60)
    except (OSError, subprocess.SubprocessError):
        return []
    return done.stdout.split()


def take() -> None:
    """Compute on a device that no other job holds, once there is one; without an offer, on what there is."""
    if VARIABLE not in os.environ:
        return
    folder, _, names = os.environ.pop(VARIABLE).partition(":")
    waited = False
    while not (name := _lock_one(Path(folder), names.split(","))):
        if not waited:
            logger.info("waits for a device: other jobs hold all of %s", names)
        waited = True
        time.sleep(SECONDS_BETWEEN_TRIES)
    os.environ[CUDA] = name


def _lock_one(folder: Path, names: list[str]) -> str | None:
    """Lock the first device that is free, and keep it as long as this process lives."""
    import fcntl  # only where there is an offer: Windows lacks it

    for name in names:
        file = (folder / name.replace("/", "-")).open("w", encoding="utf-8")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
        else:
            _held.append(file)
            return name
    return None
