"""Runs short jobs in forks of one process that has imported torch once.

Importing torch takes longer than most jobs of a small run. So the first job that needs it starts a server that imports what
jobs import; each job then hands itself over: the server forks, and the fork runs the job's script with the job's own
arguments, folder, environment and streams, and reports its status. A job whose server is gone, or was never wanted, runs as
it is. The server ends with the process that it belongs to, and a fork ends when the job that waits for it does.

A job that hands itself over lives for milliseconds, so what only the server needs is imported there.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import time
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import NoReturn

#: Holds the folder of the server's socket and the number of the process that the server belongs to.
VARIABLE = "RESILIENCE_FORK_SERVER"
#: What jobs import, none of it ours: code that is edited during a run counts from the next job on.
#: The first optimiser of a process imports ``torch._dynamo``, and takes as long for it as for all the rest.
MODULES = (
    *("torch", "torch.func", "torch._dynamo"),
    *("safetensors.numpy", "pandas", "pyro.infer", "pyro.optim", "tqdm", "snakemake.script"),
)
#: What takes long in some jobs only: reading a network by ``torch.export``, whose first call imports these; in the last jobs
#: of a run, tables of comparisons, and figures.
LATER = ("torch.export._trace", "sympy.tensor.tensor", "scipy.stats", "matplotlib.figure", "seaborn")
SECONDS_TO_START = 60.0
#: What a fork sends before it runs a job; the job's status follows.
TAKEN = b"+"


def let_jobs_import_from(folder: Path) -> None:
    """Make the jobs of this process import the library from a folder, even where another copy is installed."""
    known = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    os.environ["PYTHONPATH"] = os.pathsep.join(dict.fromkeys([str(folder), *filter(None, known)]))


def offer() -> None:
    """Let the jobs of this process start a server and hand themselves over, unless one is offered to it already."""
    import atexit
    import shutil
    import tempfile

    if VARIABLE not in os.environ and hasattr(os, "fork") and hasattr(socket, "send_fds"):
        folder = tempfile.mkdtemp(prefix="resilience-")
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        os.environ[VARIABLE] = f"{folder}:{os.getpid()}"


def hand_over(start: bool = True) -> None:
    """Run the calling script in a fork of the server and end with its status; return if there is no server.

    Parameters
    ----------
    start
        Whether to start a server where none runs: not for a job that is done before one has imported torch.
    """
    if VARIABLE not in os.environ:
        return
    folder, _, owner = os.environ.pop(VARIABLE).rpartition(":")
    address = str(Path(folder, sha256(sys.executable.encode()).hexdigest()[:8]))
    job = json.dumps({"argv": sys.argv, "path": sys.path, "folder": os.getcwd(), "environment": dict(os.environ)}).encode()
    connection = _connect(address, owner, start)
    while connection is not None and not _taken(job, connection):
        # The server was killed between the connection and the fork; nothing of the job has run.
        connection = _connect(address, owner, start)
    if connection is None:
        return
    status = b""
    with suppress(ConnectionError):
        status = connection.recv(1)
    if not status:
        print(
            "The process of this job ended without a word; it may have been killed, for lack of memory, say.",
            file=sys.stderr,
        )
    os._exit(status[0] if status else 1)


def run_script(script: str, start: bool) -> NoReturn:
    """Be the process of a script that hands itself over, but do so before the script imports anything; else become it."""
    sys.argv, sys.path[0] = [script], str(Path(script).resolve().parent)
    hand_over(start)
    os.execv(sys.executable, [sys.executable, script])


def _connect(address: str, owner: str, start: bool) -> socket.socket | None:
    """A connection to the server at an address, which may be started if it does not run yet."""
    if not Path(address).parent.is_dir():
        return None
    connection = socket.socket(socket.AF_UNIX)
    deadline = time.monotonic() + SECONDS_TO_START
    started = False
    while time.monotonic() < deadline:
        try:
            connection.connect(address)
        except OSError as error:
            if not start:
                return None
            if isinstance(error, ConnectionRefusedError):
                # Its server was killed.
                Path(address).unlink(missing_ok=True)
                started = False
            if not started:
                import subprocess

                command = [sys.executable, __file__, "serve", address, owner, json.dumps([MODULES, LATER])]
                quiet = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.DEVNULL)
                subprocess.Popen(command, start_new_session=True, **quiet)  # type: ignore[call-overload]
                started = True
            time.sleep(0.05)
        else:
            return connection
    return None


def _taken(job: bytes, connection: socket.socket) -> bool:
    """Send a job to the server; whether a fork of it is about to run the job."""
    try:
        socket.send_fds(connection, [len(job).to_bytes(8, "big")], [0, 1, 2])
        connection.sendall(job)
        return connection.recv(1) == TAKEN
    except ConnectionError:
        return False


def serve(address: str, owner: int, modules: list[str], later: list[str]) -> None:
    """Fork for every job that hands itself over, until the owner is gone.

    Some modules are imported before the first job is taken, others one by one, whenever no job comes.
    """
    import shutil
    import signal

    listener = socket.socket(socket.AF_UNIX)
    # Two first jobs may start two servers: the one that binds stays.
    listener.bind(address)
    listener.listen(64)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1"))
    for module in modules:
        _import(module)
    try:
        while not ends_within(owner, 0.0):
            listener.settimeout(0.05 if later else 1.0)
            try:
                connection, _ = listener.accept()
            except TimeoutError:
                if later:
                    _import(later.pop(0))
                continue
            if os.fork() == 0:
                listener.close()
                _work(connection)
            connection.close()
    finally:
        shutil.rmtree(Path(address).parent, ignore_errors=True)


def _import(module: str) -> None:
    """Import a module that is there: a job's environment holds what that job imports, not what all of them do."""
    import gc
    from importlib import import_module

    with suppress(ImportError):
        import_module(module)
    # None of it is garbage, and a fork that looked there for some would copy its pages.
    gc.freeze()


def _work(connection: socket.socket) -> NoReturn:
    """Be the job at the other end of a connection, and report its status."""
    import runpy
    import signal
    import threading

    connection.settimeout(None)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    header, streams, _, _ = socket.recv_fds(connection, 8, 3)
    with connection.makefile("rb") as reader:
        job = json.loads(reader.read(int.from_bytes(header, "big")))
    connection.sendall(TAKEN)
    for own, stream in enumerate(streams):
        os.dup2(stream, own)
    threading.Thread(target=_end_with, args=(connection,), daemon=True).start()
    os.environ.clear()
    os.environ.update(job["environment"])
    os.chdir(job["folder"])
    sys.argv, sys.path[:] = job["argv"], job["path"]
    status = 0
    try:
        runpy.run_path(sys.argv[0], run_name="__main__")
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException as error:
        sys.excepthook(type(error), error, error.__traceback__)
        status = 1
    sys.stdout.flush()
    sys.stderr.flush()
    connection.sendall(bytes([status]))
    os._exit(status)


def _end_with(connection: socket.socket) -> None:
    """End this process when the job that waits for it is gone."""
    if connection.recv(1) == b"":
        os._exit(1)


def ends_within(process: int, seconds: float) -> bool:
    """Whether a process has ended, or does within some seconds."""
    import select

    try:
        handle = os.pidfd_open(process)
    except ProcessLookupError:
        return True
    except (AttributeError, OSError):
        # Not Linux, or an old one.
        time.sleep(seconds)
        try:
            os.kill(process, 0)
        except PermissionError:
            return False
        except ProcessLookupError:
            return True
        return False
    try:
        poll = select.poll()
        poll.register(handle, select.POLLIN)
        return bool(poll.poll(1000 * seconds))
    finally:
        os.close(handle)


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["serve", address, owner, modules]:
            serve(address, int(owner), *json.loads(modules))
        case ["script" | "short" as kind, script]:
            run_script(script, start=kind == "script")
