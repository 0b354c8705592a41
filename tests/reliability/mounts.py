"""Small disks and read-only folders, which only root can mount. However the process ends, none of them is left behind."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

CLONE_NEWNS = 0x20000


@cache
def possible() -> bool:
    """Whether mounts can be made here. From now on they are this process's own and its children's, and end with the last.

    Ask before there is a process that others are forks of, which would not see them. ``os.unshare`` would do, but came with
    Python 3.12.
    """
    if os.geteuid() != 0 or shutil.which("mount") is None or ctypes.CDLL(None).unshare(CLONE_NEWNS) != 0:
        return False
    # What the rest of the machine mounts is still seen here, but not the other way round.
    return subprocess.run(["mount", "--make-rslave", "/"], capture_output=True, check=False).returncode == 0


def mount(*arguments: str) -> None:
    """Mount something, in this process alone."""
    assert possible()
    subprocess.run(["mount", *arguments], check=True)


def make_read_only(place: Path) -> None:
    """Let nothing be written to a file or below a folder."""
    mount("--bind", str(place), str(place))
    mount("-o", "remount,bind,ro", str(place))


def umount(place: Path) -> None:
    """Undo the last mount at a place."""
    subprocess.run(["umount", "--lazy", str(place)], check=True)


@contextmanager
def undone(folder: Path) -> Iterator[None]:
    """Undo at the end whatever was mounted below a folder, whether that ends well or not."""
    try:
        yield
    finally:
        for place in reversed(below(folder)):
            umount(place)


def below(folder: Path) -> list[Path]:
    """What is mounted below a folder, in the order in which it was; one place may be there several times."""
    places = [Path(line.split()[1]) for line in Path("/proc/self/mounts").read_text(encoding="utf-8").splitlines()]
    return [place for place in places if place.is_relative_to(folder.resolve())]
