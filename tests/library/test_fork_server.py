"""Jobs in forks of a warm process: the same status, streams and surroundings as on their own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from resilience import fork_server
from tests.conftest import ROOT

PRELUDE = (
    "import sys; from resilience import fork_server; fork_server.MODULES = ('json',); fork_server.LATER = ('colorsys',)\n"
    "fork_server.hand_over()\n"
)


@pytest.fixture
def owner(tmp_path, monkeypatch):
    """A process that a server may belong to, and the environment of its jobs."""
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    folder = tmp_path / "server"
    folder.mkdir()
    monkeypatch.setenv("RESILIENCE_FORK_SERVER", f"{folder}:{process.pid}")
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "src"))
    yield process, folder
    process.kill()
    process.wait()
    wait_until(lambda: not folder.exists())


def wait_until(condition, seconds: float = 100.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it took too long"
        time.sleep(0.05)


def job(tmp_path: Path, body: str, name: str = "job.py") -> list[str]:
    path = tmp_path / name
    path.write_text(PRELUDE + body, encoding="utf-8")
    return [sys.executable, str(path), "an argument"]


def run(command: list[str], **options) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, encoding="utf-8", check=False, timeout=100, **options)


def test_a_job_has_its_own_arguments_folder_environment_and_streams(owner, tmp_path):
    body = "import os; print(sys.argv[1], os.getcwd(), os.environ['MARK'], os.getppid())\n"
    body += "print('said', file=sys.stderr); sys.exit(3)"
    there = tmp_path / "there"
    there.mkdir()
    done = run(job(tmp_path, body), cwd=there, env=os.environ | {"MARK": "7"})
    *said, parent = done.stdout.rsplit(maxsplit=1)
    assert said == [f"an argument {there} 7"]
    assert int(parent) != os.getpid()
    assert (done.stderr, done.returncode) == ("said\n", 3)


def test_jobs_share_one_server(owner, tmp_path):
    command = job(tmp_path, "import os; print(os.getppid())")
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, encoding="utf-8") for _ in range(2)]
    parents = {process.communicate(timeout=100)[0] for process in both} | {run(command).stdout}
    assert len(parents) == 1


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        ("", 0, ""),
        ("sys.exit('no')", 1, ""),
        ("raise ValueError('odd')", 1, "ValueError: odd"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", 1, "ended without a word"),
    ],
)
def test_a_job_reports_how_it_ended(owner, tmp_path, body, status, said):
    done = run(job(tmp_path, body))
    assert done.returncode == status
    assert said in done.stderr


def test_a_fork_ends_when_the_job_that_waits_for_it_is_killed(owner, tmp_path):
    process = subprocess.Popen(
        job(tmp_path, f"import os, time; open({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid())); time.sleep(600)")
    )
    wait_until(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text(encoding="utf-8"))
    fork = int((tmp_path / "pid").read_text(encoding="utf-8"))
    assert fork != process.pid
    process.send_signal(signal.SIGKILL)
    process.wait()
    wait_until(lambda: not Path(f"/proc/{fork}").exists())


def test_a_server_that_was_killed_is_replaced(owner, tmp_path):
    command = job(tmp_path, "import os; print(os.getppid())")
    server = int(run(command).stdout)
    os.kill(server, signal.SIGKILL)  # Its socket may still take a connection while the kernel frees its memory.
    other = int(run(command).stdout)
    assert other not in (server, os.getpid())


def test_a_server_without_work_imports_what_some_jobs_need(owner, tmp_path):
    command = job(tmp_path, "print('colorsys' in sys.modules)")
    wait_until(lambda: run(command).stdout == "True\n")


def test_a_job_that_needs_no_torch_starts_no_server_but_uses_one(owner, tmp_path):
    body = "import os; print(os.getppid())"
    light = job(tmp_path, body, "light.py")
    Path(light[1]).write_text(PRELUDE.replace("hand_over()", "hand_over(start=False)") + body, encoding="utf-8")
    assert run(light).stdout == f"{os.getpid()}\n"
    assert run(job(tmp_path, body)).stdout == run(light).stdout != f"{os.getpid()}\n"


def test_an_offer_that_was_made_already_stands(monkeypatch):
    monkeypatch.setenv(fork_server.VARIABLE, "/there:1")
    fork_server.offer()
    assert os.environ[fork_server.VARIABLE] == "/there:1"


def test_code_that_was_edited_since_the_server_started_counts(owner, tmp_path):
    assert run(job(tmp_path, "print(1)")).stdout == "1\n"
    assert run(job(tmp_path, "print(2)")).stdout == "2\n"


def test_the_server_ends_with_its_owner(owner, tmp_path):
    process, folder = owner
    run(job(tmp_path, ""))
    assert folder.exists()
    process.kill()
    process.wait()
    wait_until(lambda: not folder.exists())


@pytest.mark.parametrize("place", [None, "/nowhere/at/all:1"])
def test_without_a_server_a_job_runs_as_it_is(tmp_path, monkeypatch, place):
    if place is None:
        monkeypatch.delenv("RESILIENCE_FORK_SERVER", raising=False)
    else:
        monkeypatch.setenv("RESILIENCE_FORK_SERVER", place)
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "src"))
    done = run(job(tmp_path, "import os; print(os.getppid())"))
    assert done.stdout == f"{os.getpid()}\n"
