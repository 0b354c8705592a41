"""Whatever way code reaches other code, an edit of that is seen; what it does not reach, and comments, change nothing.

The library of these tests is a small one, with three jobs: a script that each case writes, one that calls a function of the
user's own, and one that stays apart.
"""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent

import pytest

from resilience import provenance, source_files
from tests.library.edits_of_code import LIBRARY, LIMIT, NOT_REACHED, REACHED, Case, in_script

NOT_CHANGED = {
    "a comment": Case(REACHED["a function"].script, ("resilience/attacks/ball.py", "LIMIT = 1", "LIMIT = 1  # one")),
    "a docstring": Case(REACHED["a function"].script, ("resilience/attacks/ball.py", "A ball.", "The ball.")),
    "the layout": Case(REACHED["a function"].script, ("resilience/attacks/ball.py", "size) * LIMIT", "size) *  (LIMIT)")),
    "an annotation": Case(REACHED["a function"].script, ("resilience/attacks/ball.py", "size: int", "size: float")),
    "what an annotation names": Case(
        REACHED["a function"].script, ("resilience/shapes.py", "corners = 1", "corners = 2"), {"apart"}
    ),
    "what a dataclass's annotation names": Case(
        "from resilience.record import Record\nRecord()\n",
        ("resilience/shapes.py", "corners = 1", "corners = 2"),
        {"apart"},
        {
            "resilience/record.py": """
                from __future__ import annotations

                from dataclasses import dataclass

                from resilience.shapes import Shape


                @dataclass
                class Record:
                    shape: Shape | None = None
                """
        },
    ),
    "another function of the module": Case(REACHED["a function"].script, NOT_REACHED),
    "another function by the full name": Case(REACHED["a module by its full name"].script, NOT_REACHED),
    "a constant that nothing reads": Case(
        REACHED["a function"].script, ("resilience/attacks/ball.py", 're.compile("1")', 're.compile("2")')
    ),
    "a function of a module with effects": Case("import resilience.sets_type\n",
                                                ("resilience/sets_type.py", "return 1", "return 2")),
    "a function that a harmless decorator marks": Case(
        "from resilience import marked\n",
        ("resilience/marked.py", "return 1", "return 2"),
        files={"resilience/marked.py": "from resilience.registry import marked\n\n\n@marked(at=1)\ndef f(): return 1\n"},
    ),
    "an own type under an operator": Case(
        "from resilience import listed\n",
        ("resilience/listed.py", "return 1", "return 2"),
        files={"resilience/listed.py": "from resilience.shapes import Shape\n\n\ndef f(x: list[Shape]): return 1\n"},
    ),
    "a module that is imported for type checkers": Case(
        "from resilience.attacks.ball import ball\nball()\n", ("resilience/shapes.py", "corners", "import torch; corners"),
        {"apart"},
    ),
    "what is only shown": Case("from resilience import progress\nprogress.shown()\n",
                               ("resilience/progress.py", "return 1", "return 2")),
    "an import of Python's own that nothing uses": Case(
        REACHED["a function"].script, in_script("from", "import json\nfrom")
    ),
    "the order of imports without effects": Case(
        "import resilience.shapes\nimport resilience.attacks.ball\n",
        in_script("shapes\nimport resilience.attacks.ball", "attacks.ball\nimport resilience.shapes"),
    ),
    "a name that is local": Case(
        "from resilience.attacks import ball\nball.other()\n[ball for ball in (1, 2)]\n",
        ("resilience/attacks/ball.py", "np.ones", "np.zeros"),
    ),
}  # fmt: skip
OWN_FILES = {
    "the file": Case("", ("own.py", "return 1", "return 2"), {"own"}),
    "an effect of it": Case("", ("own.py", "def own", "print(1)\n\n\ndef own"), {"own"}),
    "a constant of it that nothing reads": Case("", ("own.py", "def own", "X = 1\n\n\ndef own"), set()),
    "what it reaches in the library": Case(
        "", LIMIT, {"own"}, {"own.py": "import resilience.attacks.ball\ndef own(): return resilience.attacks.ball.ball()\n"}
    ),
    "a file beside it": Case(
        "", ("near.py", "return 1", "return 2"), {"own"},
        {"own.py": "from near import f\n\n\ndef own(): return f()\n", "near.py": "def f(): return 1\n"},
    ),
    "what is not used of a file beside it": Case(
        "", ("near.py", "return 3", "return 4"), set(),
        {"own.py": "import near\n\n\ndef own(): return near.f()\n", "near.py": "def f(): return 1\n\n\ndef g(): return 3\n"},
    ),
    "what a file beside it imports": Case(
        "", ("far.py", "X = 1", "X = 2"), {"own"},
        {
            "own.py": "from near import f\n\n\ndef own(): return f()\n",
            "near.py": "import far\n\n\ndef f(): return far.X\n",
            "far.py": "X = 1\n",
        },
    ),
    "a file beside it as a value": Case(
        "", ("near.py", "return 1", "return 2"), {"own"},
        {"own.py": "import near\n\n\ndef own(): return getattr(near, 'f')()\n", "near.py": "def f(): return 1\n"},
    ),
    "a package beside it": Case(
        "", ("near/inner.py", "return 1", "return 2"), {"own"},
        {
            "own.py": "import near\n\n\ndef own(): return near.f()\n",
            "near/__init__.py": "from .inner import f\n",
            "near/inner.py": "def f(): return 1\n",
        },
    ),
    "a file in a folder beside it": Case(
        "", ("near/inner.py", "return 1", "return 2"), {"own"},
        {"own.py": "import near.inner\n\n\ndef own(): return near.inner.f()\n", "near/inner.py": "def f(): return 1\n"},
    ),
    "a file that is looked for elsewhere": Case(
        "", ("lib/near.py", "return 1", "return 2"), {"own"},
        {
            "own.py": "import sys\nsys.path.insert(0, 'lib')\nfrom near import f\n\n\ndef own(): return f()\n",
            "lib/near.py": "def f(): return 1\n",
        },
    ),
    "a file beside it by a name that is computed": Case(
        "", ("near.py", "return 1", "return 2"), {"own"},
        {
            "own.py": "import importlib\n\n\ndef own(name='near'): return importlib.import_module(name).f()\n",
            "near.py": "def f(): return 1\n",
        },
    ),
    "a file beside it that is no Python": Case(
        "", ("near.py", "1", "2"), {"own"},
        {"own.py": "import near\n\n\ndef own(): return near.f()\n", "near.py": "def 1(:\n"},
    ),
}  # fmt: skip
CASES = {
    **{f"reached: {name}": case for name, case in REACHED.items()},
    **{f"not: {name}": case._replace(changes=case.changes - {"script"}) for name, case in NOT_CHANGED.items()},
    **{f"own: {name}": case for name, case in OWN_FILES.items()},
}


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Writes files of the small library, the scripts and what is beside them; the current folder is theirs."""

    def write(files: dict[str, str]) -> None:
        for name, text in files.items():
            Path(name).parent.mkdir(parents=True, exist_ok=True)
            Path(name).write_text(dedent(text), encoding="utf-8")
        provenance.forget()

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(source_files, "LIBRARY", tmp_path / "resilience")
    write(LIBRARY)
    yield write
    provenance.forget()


def digests() -> dict[str, str]:
    return {
        "script": provenance.code_digest(Path("script.py").absolute()),
        "own": provenance.code_digest(Path("plain.py").absolute(), [("own.py", "own")]),
        "apart": provenance.code_digest(Path("apart.py").absolute()),
    }


@pytest.mark.parametrize("name", CASES)
def test_an_edit_changes_the_jobs_that_it_reaches(name, write):
    script, (file, old, new), changes, files = CASES[name]
    write({"script.py": script, **files})
    before = digests()
    text = Path(file).read_text(encoding="utf-8")
    assert text.count(old) == 1
    write({file: text.replace(old, new)})
    after = digests()
    assert {job for job in before if before[job] != after[job]} == changes


def test_a_file_that_comes_to_lie_beside_one_counts(write):
    write({"own.py": "import near\n\n\ndef own(): return near.f()\n"})
    before = digests()
    write({"near.py": "def f(): return 1\n"})
    after = digests()
    assert {job for job in before if before[job] != after[job]} == {"own"}


@pytest.mark.parametrize(
    ("script", "function", "missing"),
    [
        ("missing.py", ("own.py", "own"), r"missing\.py"),
        ("plain.py", ("missing.py", "own"), r"missing\.py"),
        ("plain.py", ("resilience.missing", "f"), r"resilience\.missing"),
    ],
)
def test_what_is_missing_has_no_digest(script, function, missing, write):
    with pytest.raises(FileNotFoundError, match=f"no code to follow in {missing}"):
        provenance.code_digest(Path(script), [function])


@pytest.mark.parametrize(
    ("script", "files", "packages"),
    [
        ("", {}, ()),
        ("import os, json\nimport resilience.shapes\n", {}, ()),
        ("import resilience.attacks.ball\n", {}, ("numpy",)),
        ("import resilience.leads_there\n", {}, ("torch",)),
        ("import scipy.stats, PIL.Image\nfrom scipy import special\n", {}, ("PIL", "scipy")),
        ("def f():\n    import pandas as pd\n", {}, ("pandas",)),
        ("try:\n    import pandas\nexcept ImportError:\n    pass\n", {}, ("pandas",)),
        ("from resilience.late import f\nf()\n", {"resilience/late.py": "def f():\n    import pandas\n"}, ("pandas",)),
        ("import resilience.late\n", {"resilience/late.py": "def f():\n    import pandas\n"}, ()),
        ("from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import pandas\n", {}, ()),
        ("import resilience.progress\n", {"resilience/progress.py": "import tqdm\n"}, ()),
        ("import near\n", {"near.py": "import numpy\n"}, ("numpy",)),
        ("import importlib\nimportlib.import_module('pandas')\n", {}, ("pandas",)),
    ],
)  # fmt: skip
def test_packages_are_those_that_the_code_imports(script, files, packages, write):
    write({"script.py": script, **files})
    found = provenance.packages_of(Path("script.py").absolute())
    assert tuple(name for name in found if "import_module" not in script or name == "pandas") == packages


def test_the_packages_of_a_function_are_those_of_its_file_too(write):
    write({"own.py": "import pandas\n\n\ndef own(): return 1\n"})
    assert provenance.packages_of(Path("script.py").absolute(), [("own.py", "own")]) == ("pandas",)
