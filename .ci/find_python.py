"""Print the path of the oldest or the newest Python here that the project allows: ``find_python.py oldest``, or ``newest``.

Looked at are those on the path and those of pyenv, as far as they can make virtual environments. Python 3.8 can run this.
"""

import glob
import os
import re
import subprocess
import sys

PROJECT = os.path.join(os.path.dirname(os.path.abspath(__file__)), os.pardir, "pyproject.toml")
#: Prints the version if that is a release, and fails where no virtual environment can be made.
ASK = "import ensurepip, sys, venv; print(*sys.version_info[:3]) if sys.version_info[3] == 'final' else sys.exit(1)"


def lowest_allowed():
    """The lowest version that the project allows, as numbers."""
    with open(PROJECT, encoding="utf-8") as file:
        found = re.search(r'^requires-python = ">=([\d.]+)"$', file.read(), flags=re.M)
    return tuple(map(int, found[1].split(".")))


def candidates():
    """Paths of what may be a Python 3; one behind a link is there once."""
    folders = os.environ.get("PATH", os.defpath).split(os.pathsep)
    patterns = [os.path.join(folder, "python3*") for folder in folders if folder]
    patterns.append(os.path.expanduser("~/.pyenv/versions/*/bin/python3*"))
    paths = [path for pattern in patterns for path in sorted(glob.glob(pattern))]
    first = {}
    for path in paths:
        if re.match(r"python3(\.\d+)?$", os.path.basename(path)):
            first.setdefault(os.path.realpath(path), path)
    return first.values()


def version(path):
    """The version of a Python as numbers; None where it does not run, or cannot make virtual environments."""
    try:
        done = subprocess.run([path, "-c", ASK], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return tuple(map(int, done.stdout.split())) if done.returncode == 0 else None


if __name__ == "__main__":
    choose = {"oldest": min, "newest": max}[sys.argv[1]]
    lowest = lowest_allowed()
    found = [(number, path) for path in candidates() if (number := version(path)) and number >= lowest]
    if not found:
        sys.exit(f"No Python here is {'.'.join(map(str, lowest))} or newer and can make virtual environments.")
    number = choose(number for number, _ in found)
    print(next(path for other, path in found if other == number))
