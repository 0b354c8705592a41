from __future__ import annotations

import os
import pty
import subprocess
import sys
import termios

import pytest

from resilience import progress

PROGRAM = """
import sys, time
sys.path.insert(0, {source!r})
from resilience import progress
progress.SECONDS_BETWEEN_LINES = 0.2
progress.start({log!r})
for step in progress.track(range(20), "training"):
    time.sleep(0.05)
{end}
progress.finish()
"""


def run(tmp_path, end: str = "", terminal: bool = False) -> tuple[int, str, str]:
    """Run a job that takes a second; its status, what it says to its reader, and its log."""
    from tests.conftest import ROOT

    program = PROGRAM.format(source=str(ROOT / "src"), log=str(tmp_path / "job.log"), end=end)
    if terminal:
        outer, inner = pty.openpty()
        termios.tcsetwinsize(inner, (24, 100))
        process = subprocess.Popen([sys.executable, "-c", program], stderr=inner, stdin=inner)
        os.close(inner)
        said = b""
        while True:
            try:
                part = os.read(outer, 4096)
            except OSError:
                break
            if not part:
                break
            said += part
        text = said.decode()
        process.wait()
    else:
        process = subprocess.run([sys.executable, "-c", program], stderr=subprocess.PIPE, encoding="utf-8", check=False)
        text = process.stderr
    return process.returncode, text, (tmp_path / "job.log").read_text(encoding="utf-8")


def test_a_terminal_sees_a_bar_with_rate_and_time_left(tmp_path):
    status, said, log = run(tmp_path, terminal=True)
    assert status == 0
    assert "training:" in said
    assert "it/s" in said
    assert "<00:0" in said
    assert "\r" not in log


def test_a_log_gets_plain_lines_now_and_then(tmp_path):
    _, said, log = run(tmp_path)
    assert said == ""
    lines = [line for line in log.splitlines() if " of 20 " in line]
    assert 2 <= len(lines) <= 6
    assert all("per s" in line and "s left" in line for line in lines)
    assert "training: 20 steps in" in log
    assert "peak memory" in log.splitlines()[-1]


def test_a_failure_ends_with_its_cause_and_names_its_log(tmp_path):
    status, said, log = run(tmp_path, end="raise ValueError('the data are odd')")
    assert status == 1
    assert said.splitlines() == ["ValueError: the data are odd", f"Details: {tmp_path / 'job.log'}"]
    assert "Traceback" in log
    assert "cause: ValueError: the data are odd" in log.splitlines()[-1]


@pytest.mark.parametrize(
    ("done", "seconds", "line"),
    [(50, 10.0, "job: 50 of 200 (25 %), 5 per s, 30 s left"), (0, 0.0, "job: 0 of 200 (0 %), 0 per s, inf s left")],
)
def test_line_of_progress(done, seconds, line):
    assert progress.describe("job", done, 200, seconds) == line
