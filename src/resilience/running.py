"""Who runs here: one run at a time in a folder of results, whose jobs end with it, and what is done after one was killed.

Snakemake's own lock knows one working directory only, and stays behind when Snakemake is killed. The locks here are the
system's: they end with the process that holds them, however that ends.
"""

from __future__ import annotations

import atexit
import errno
import getpass
import os
import shutil
import socket
import tempfile
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import IO

from resilience.fork_server import ends_within

#: Holds the number of the process that jobs belong to.
VARIABLE = "RESILIENCE_RUN"
#: The file in a folder of results that its run holds locked, and which says whose it is.
OWNER = ".running"
#: The file in a working directory that all who work there hold locked together. It names the host of their last run.
PRESENT = Path(".snakemake/resilience.present")
SNAKEMAKE_LOCKS = Path(".snakemake/locks")
#: What the name of a folder ends with in which a file is being written.
PARTIAL = ".partial"
#: Stands for the host of a run whose jobs may outlive it.
CLUSTER = "a cluster"

#: The locks of this process. They are the system's, and last as long as these files are open.
_held: dict[Path, IO[str]] = {}
#: Whether the folders of this process's run are its own, so that jobs may have run.
_begun = False


class RunError(RuntimeError):
    """A run that cannot begin. The message says what is in its way, and what to do."""


def arrive() -> None:
    """Be known to others in this working directory, as long as this process lives."""
    with suppress(OSError):
        PRESENT.parent.mkdir(exist_ok=True)
        _held[PRESENT] = PRESENT.open("a+", encoding="utf-8", errors="surrogateescape")
        _lock(_held[PRESENT], alone=False)


def forget_the_killed(folders: list[str]) -> None:
    """Delete the locks of Snakemake that name files in some folders, if those that put them there are dead.

    That is so where nobody else is in this working directory, and its last run was on this host, without jobs elsewhere.
    """
    if (present := _held.get(PRESENT)) is None:
        return
    with suppress(OSError):
        try:
            if _lock(present, alone=True) and _read(present) in ("", socket.gethostname()):
                for lock in SNAKEMAKE_LOCKS.glob("*.lock"):
                    if any(
                        line.startswith(f"{folder}/")
                        for folder in folders
                        for line in lock.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
                    ):
                        lock.unlink()
        finally:
            _lock(present, alone=False)


def begin(folders: list[str], local: bool) -> None:
    """Be the only run that writes into some folders of results, until this process ends.

    Parameters
    ----------
    folders
        Of results. What killed jobs left half written there is deleted.
    local
        Whether jobs are processes of this host; they end with the run, see :func:`end_with_run`.

    Raises
    ------
    RunError
        If another run writes there, or none can.
    """
    global _begun
    for folder in map(Path, folders):
        _own(folder)
    _begun = True
    if PRESENT in _held:
        _write(_held[PRESENT], socket.gethostname() if local else CLUSTER)
    os.environ.pop(VARIABLE, None)
    if local:
        os.environ[VARIABLE] = str(os.getpid())


def end_with_run() -> None:
    """Let this process end as soon as the run that it belongs to has, since what it would write could be out of date."""
    if owner := os.environ.get(VARIABLE):
        threading.Thread(target=_end_with, args=(int(owner),), daemon=True).start()


def what_is_no_folder(folder: Path) -> Path | None:
    """What lies where a folder, or one that it is to lie in, could not be made: a file, a link to nothing."""
    places = [folder, *folder.parents]
    return next((place for place in places if os.path.lexists(place) and not os.path.isdir(place)), None)


def tidy(folder: Path) -> None:
    """Delete what is half written in a folder of results, but not in those of other runs below it."""
    for place, inner, _ in os.walk(folder):
        for name in [name for name in inner if name.startswith(".") and name.endswith(PARTIAL)]:
            shutil.rmtree(Path(place, name), ignore_errors=True)
            inner.remove(name)
        inner[:] = [name for name in inner if not Path(place, name, OWNER).exists()]


def obstacle(folders: list[str]) -> str:
    """What keeps files from being made in the first of some folders of results where it does, and what to do; or nothing."""
    for folder in folders:
        try:
            with tempfile.TemporaryFile(dir=folder, buffering=0) as file:
                file.write(bytes(1))
        except FileNotFoundError:
            continue
        except OSError as error:
            return _unwritable(folder, error)
    return ""


def locked(file: str) -> str:
    """What to do about a single file that is read-only, though it is due to be made again."""
    return f"{file} cannot be written: it is read-only.{_so_far()} Make it writable, or delete it, and run again."


def _unwritable(folder: str | Path, error: OSError) -> str:
    reason = f"{folder} cannot be written: {error.strerror}.{_so_far()}"
    return f"{reason} Make it writable, make room, or name another folder with the key results of the config."


def _so_far() -> str:
    return "" if _begun else " Nothing was run."


def _own(folder: Path) -> None:
    place = folder / OWNER
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = _held[place] = _locked(place)
        if _read(file):
            tidy(folder)
        now = time.strftime("%Y-%m-%d %H:%M:%S")
        _write(file, f"{getpass.getuser()} on {socket.gethostname()}, process {os.getpid()}, since {now}, in {Path.cwd()}")
    except BlockingIOError:
        owner = place.read_text(encoding="utf-8", errors="surrogateescape") or "it has just begun"
        raise RunError(f"Another run writes into {folder}: {owner}. Wait until it is done, or end it.") from None
    except OSError as error:
        raise RunError(_unwritable(folder, error)) from error
    atexit.register(_leave, place)


def _locked(place: Path) -> IO[str]:
    """A file that this process alone holds locked, or BlockingIOError."""
    while True:
        file = place.open("a+", encoding="utf-8", errors="surrogateescape")
        _lock(file, alone=True)
        if _is_at(place, file):
            return file
        # The run that held it has deleted it meanwhile.
        file.close()


def _leave(place: Path) -> None:
    file = _held.pop(place)
    with suppress(OSError):
        if _is_at(place, file):
            tidy(place.parent)
            place.unlink()
    file.close()


def _is_at(place: Path, file: IO[str]) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), place.stat())
    except FileNotFoundError:
        return False


def _lock(file: IO[str], alone: bool) -> bool:
    """Lock a file, alone or together with others; whether that is possible here at all.

    Raises
    ------
    BlockingIOError
        If it is to be alone and there are others.
    """
    try:
        import fcntl
    except ImportError:
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB if alone else fcntl.LOCK_SH)
    except OSError as error:
        if error.errno in (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP):
            return False
        raise
    return True


def _read(file: IO[str]) -> str:
    file.seek(0)
    return file.read()


def _write(file: IO[str], text: str) -> None:
    file.truncate(0)
    file.write(text)
    file.flush()


def _end_with(process: int) -> None:
    while not ends_within(process, 1.0):
        pass
    os._exit(1)
