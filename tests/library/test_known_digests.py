"""A digest that was kept is the one that would be taken now: after any edit, and whatever became of the file it lies in."""

from __future__ import annotations

import json
import os

import pytest

from resilience import known_digests, provenance, source_files
from resilience.known_digests import KnownDigests

SCRIPT = "from resilience.measure import measure\nmeasure()\n"
OWN = "def own(): return 1\n"


@pytest.fixture
def code(tmp_path, monkeypatch):
    """A small library, a script and a file of the user's own; what takes their digest counts how often it does."""
    library = tmp_path / "resilience"
    library.mkdir()
    (library / "__init__.py").write_text("", encoding="utf-8")
    (library / "measure.py").write_text("def measure(): return 1\n", encoding="utf-8")
    (library / "unused.py").write_text("def unused(): return 1\n", encoding="utf-8")
    (tmp_path / "script.py").write_text(SCRIPT, encoding="utf-8")
    (tmp_path / "own.py").write_text(OWN, encoding="utf-8")
    monkeypatch.setattr(source_files, "LIBRARY", library)
    monkeypatch.chdir(tmp_path)
    provenance.forget()
    yield tmp_path
    provenance.forget()


@pytest.fixture
def taken(monkeypatch):
    """The scripts whose digests were taken, not found."""
    scripts = []

    def counted(script, functions):
        scripts.append(script.name)
        return provenance.reached(script, functions)

    monkeypatch.setattr(known_digests, "reached", counted)
    return scripts


def digest(code, functions=(("own.py", "own"),)) -> str:
    """As a new process would give it."""
    provenance.forget()
    return KnownDigests(code / "kept/digests.json").of(code / "script.py", functions).digest


def test_a_digest_is_taken_once_by_all_processes(code, taken):
    first = digest(code)
    assert digest(code) == first == provenance.code_digest(code / "script.py", [("own.py", "own")])
    assert taken == ["script.py"]


@pytest.mark.parametrize(
    ("file", "text", "changes"),
    [
        ("resilience/measure.py", "def measure(): return 2\n", True),
        ("resilience/measure.py", "def measure(): return 1  # one\n", False),
        ("resilience/unused.py", "def unused(): return 2\n", False),
        ("script.py", SCRIPT + "measure()\n", True),
        ("own.py", "def own(): return 2\n", True),
    ],
)
def test_an_edit_has_the_digest_taken_anew_even_where_time_and_size_stay(code, taken, file, text, changes):
    before = digest(code)
    path = code / file
    status = path.stat()
    path.write_text(text, encoding="utf-8")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert (digest(code) != before) == changes
    assert taken == ["script.py"] * 2


@pytest.mark.parametrize(
    ("own", "before", "after"),
    [
        ("import near\n\n\ndef own(): return near.X\n", {"near.py": "X = 1\n"}, {"near.py": "X = 2\n"}),
        ("import near\n\n\ndef own(): return near.X\n", {}, {"near.py": "X = 2\n"}),
        ("import near\n\n\ndef own(): return near.X\n", {"near.py": "X = 1\n"}, {"near/__init__.py": "X = 1\nX = 2\n"}),
        ("def own():\n    import near\n    return near.X\n", {}, {"near.py": "X = 2\n"}),
        ("__import__('near')\n\n\ndef own(): return 1\n", {}, {"near.py": "X = 2\n"}),
        ("import near\n\n\ndef own(): return near.X\n", {"near.py": "from far import *\n"}, {"far.py": "X = 2\n"}),
        ("import sys\nsys.path.append('lib')\n\n\ndef own(): return 1\n", {}, {"lib/near.py": "X = 2\n"}),
    ],
)
def test_what_an_own_file_imports_is_asked_for_again(code, own, before, after):
    def write(files):
        for name, text in files.items():
            (code / name).parent.mkdir(exist_ok=True)
            (code / name).write_text(text, encoding="utf-8")

    write({"own.py": own, **before})
    first = digest(code)
    write(after)
    assert digest(code) != first
    assert digest(code) == provenance.code_digest(code / "script.py", [("own.py", "own")])


def test_packages_are_kept_with_a_digest(code, taken):
    (code / "own.py").write_text("import scipy.stats, PIL\n\n\ndef own(): return 1\n", encoding="utf-8")
    for _ in range(2):
        provenance.forget()
        found = KnownDigests(code / "kept/digests.json").of(code / "script.py", [("own.py", "own")])
        assert found == provenance.Code(provenance.code_digest(code / "script.py", [("own.py", "own")]), ("PIL", "scipy"))
    assert taken == ["script.py"]


def test_another_version_of_python_takes_its_own(code, taken, monkeypatch):
    digest(code)
    monkeypatch.setattr(known_digests.sys, "version", "4.0")
    digest(code)
    assert len(taken) == 2


def test_functions_do_not_share_a_digest(code):
    assert digest(code, [("own.py", "own")]) != digest(code, [("resilience.unused", "unused")]) != digest(code, [])


def test_two_processes_keep_what_both_took(code, taken):
    place = code / "kept/digests.json"
    one, other = KnownDigests(place), KnownDigests(place)
    one.of(code / "script.py", [])
    other.of(code / "script.py", [("own.py", "own")])
    again = KnownDigests(place)
    again.of(code / "script.py", [])
    again.of(code / "script.py", [("own.py", "own")])
    assert len(taken) == 2


@pytest.mark.parametrize("damage", ["cut", "changed", "another shape", "a folder"])
def test_a_damaged_file_is_done_without(code, taken, damage):
    right = digest(code)
    place = code / "kept/digests.json"
    text = place.read_text(encoding="utf-8")
    match damage:
        case "cut":
            place.write_text(text[: len(text) // 2], encoding="utf-8")
        case "changed":
            place.write_text(text.replace(right, "0" * len(right)), encoding="utf-8")
        case "another shape":
            place.write_text(json.dumps([1]), encoding="utf-8")
        case "a folder":
            place.unlink()
            place.mkdir()
    assert digest(code) == right
    assert len(taken) == 2


def test_a_file_edited_while_digests_are_taken_is_kept_under_what_was_read(code, monkeypatch):
    """Else the digest of the old text would stand for the new one from then on."""

    def edited_meanwhile(script, functions):
        (code / "resilience/measure.py").write_text("def measure(): return 2\n", encoding="utf-8")
        (code / "script.py").write_text(SCRIPT * 2, encoding="utf-8")
        return provenance.reached(script, functions)

    monkeypatch.setattr(known_digests, "reached", edited_meanwhile)
    before = digest(code)
    monkeypatch.undo()
    monkeypatch.setattr(source_files, "LIBRARY", code / "resilience")
    monkeypatch.chdir(code)
    after = digest(code)
    assert after == provenance.code_digest(code / "script.py", [("own.py", "own")]) != before
