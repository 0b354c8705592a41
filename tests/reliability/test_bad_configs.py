"""No config that cannot work gets as far as a job, and every refusal says in one line which key, and what would do."""

from __future__ import annotations

import copy
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import event, given, settings
from hypothesis import strategies as st
from snakemake.utils import update_config

from resilience import config_files
from resilience.config import ConfigError, check
from resilience.grid import Grid
from resilience.provenance import canonical
from tests.conftest import ROOT
from tests.workflow.conftest import Project, copy_project

SCHEMA = yaml.safe_load((ROOT / "workflow/schemas/config.schema.yaml").read_text(encoding="utf-8"))
DEFAULT = yaml.safe_load((ROOT / "config/config.yaml").read_text(encoding="utf-8"))
CORPUS = yaml.safe_load((Path(__file__).parent / "bad_configs.yaml").read_text(encoding="utf-8"))


def changed(at: str | list[Any], *value: Any, given: dict[str, Any] | None = None) -> dict[str, Any]:
    """The default config with one value set, or taken out where there is none, and with what is given besides."""
    config = copy.deepcopy(DEFAULT)
    for place, there in (given or {}).items():
        change(config, place, there)
    change(config, at, *value)
    return config


def change(config: dict[str, Any], at: str | list[Any], *value: Any) -> None:
    """Set the value at a place, or take it out where there is none."""
    *parents, last = at.split(".") if isinstance(at, str) else at
    inner: Any = config
    for key in parents:
        inner = inner[int(key)] if isinstance(inner, list) else inner[key]
    place = int(last) if isinstance(inner, list) else last
    if value:
        inner[place] = copy.deepcopy(value[0])
    else:
        del inner[place]


def refusal(config: dict[str, Any]) -> list[str]:
    """The lines that refuse a config, none if it is accepted; whatever else is raised is a mistake."""
    try:
        Grid(check(config, SCHEMA))
    except ConfigError as error:
        return error.problems
    return []


@pytest.mark.parametrize("kind", CORPUS)
def test_a_config_that_cannot_work_is_refused(kind):
    accepted, slowest = [], 0.0
    for case in CORPUS[kind]:
        begun = time.monotonic()
        value = [case["value"]] if "value" in case else []
        lines = refusal(changed(case["at"], *value, given=case.get("given")))
        slowest = max(slowest, time.monotonic() - begun)
        assert all(line.isprintable() and len(line) < 400 for line in lines), lines
        if not any(line.startswith(case["says"]) and case["remedy"] in line for line in lines):
            accepted.append((case, lines))
    print(f"\n{kind}: {len(CORPUS[kind]) - len(accepted)} of {len(CORPUS[kind])} refused, each within {slowest:.2f} s")
    assert not accepted


def test_the_corpus_is_as_large_as_promised():
    number = sum(map(len, CORPUS.values())) + len(TEXTS)
    print(f"\n{number} broken configs in all")
    assert number >= 150


def test_the_default_config_is_not_refused():
    assert refusal(DEFAULT) == []


def test_a_key_of_ones_own_is_no_part_of_the_config():
    own = {"x-base": {"epsilon": float("nan"), None: 10**400}, "x-": [1], "x-seeds": {"x-inner": {}}}
    assert check(DEFAULT | own, SCHEMA) == check(DEFAULT, SCHEMA)
    assert refusal(DEFAULT | {"x": 1}) == [
        "config: the key 'x' is unknown; known: " + ", ".join(sorted(SCHEMA["properties"]))
    ]
    assert refusal(changed("claims.x-also", 1)) == ["claims: the key 'x-also' is unknown; did you mean also?"]


def test_anchors_may_stand_under_a_key_of_ones_own(tmp_path):
    text = (ROOT / "config/tutorial.yaml").read_text(encoding="utf-8")
    with_anchor = "x-adam: &adam {learning_rate: 0.01}\n" + text.replace(
        "epochs: 30, learning_rate: 0.01", "<<: *adam, epochs: 30"
    )
    assert with_anchor.count("adam") == 3
    (tmp_path / "own.yaml").write_text(with_anchor, encoding="utf-8")
    assert list(config_files.problems(tmp_path / "own.yaml")) == []
    assert check(yaml.safe_load(with_anchor), SCHEMA) == check(yaml.safe_load(text), SCHEMA)


#: Python does not write a number of so many digits, nor, in decimals, read it.
HUGE = 10**5000


@pytest.mark.parametrize("at", ["seeds", "seeds.0", "trainings.hmc.draws", "figures.fig02.panels.0.dataset", "results"])
def test_a_number_of_thousands_of_digits_is_refused_by_its_key(at):
    assert refusal(changed(at, HUGE)) == [
        f"{at}: a number of thousands of digits is too large; numbers here are at most 1000000000"
    ]
    assert refusal(changed(at, -HUGE)) == refusal(changed(at, HUGE))


def test_a_number_of_thousands_of_digits_on_the_command_line_stays_text():
    config = {"seeds": [0]}
    given = {"seeds": ["9" * 5000, "0x_", "0b_"]}
    update_config(config, given)
    config_files.retype(config, given)
    assert config == given


#: Config files that YAML reads without a word, and the lines that refuse them.
TEXTS = {
    "a key twice": ("seeds: [0]\nseeds: [1]", "line 2: the key 'seeds' stands in line 1, too; keep one of them"),
    "a key twice further in": (
        "attacks:\n  pgd: {steps: 3}\n  fgsm: {}\n  pgd: {steps: 4}",
        "line 4: the key 'pgd' stands in line 2, too; keep one of them",
    ),
    "a key twice in JSON": (
        '{"seeds": [0],\n"seeds": [1]}',
        "line 2: the key 'seeds' stands in line 1, too; keep one of them",
    ),
    "a key twice in quotes": ("a: 1\n'a': 2", "line 2: the key 'a' stands in line 1, too; keep one of them"),
    "a tuple": (
        "seeds: !!python/tuple [0]",
        "line 1: a value is marked '!!python/tuple'; expected text, numbers, lists and keys without such a mark",
    ),
    "a function": (
        "results: !!python/name:os.getcwd",
        "line 1: a value is marked '!!python/name:os.getcwd'; expected text, numbers, lists and keys without such a mark",
    ),
    "bytes": (
        "results: !!binary aGk=",
        "line 1: a value is marked '!!binary'; expected text, numbers, lists and keys without such a mark",
    ),
    "a set": (
        "seeds: !!set {1}",
        "line 1: a value is marked '!!set'; expected text, numbers, lists and keys without such a mark",
    ),
    "a date": ("results: 2026-01-01", "line 1: '2026-01-01' is read as a date; put it in quotes"),
    "Python": (
        "__use_yte__: true",
        "line 1: __use_yte__ would have Python run by the config; write the values out",
    ),
    "a list that holds itself": (
        "seeds: &seeds [*seeds]",
        "an anchor (&) stands for something that it is itself a part of; write it out",
    ),
    "a mapping that holds itself": (
        "seeds: &seeds {a: {b: *seeds}}",
        "an anchor (&) stands for something that it is itself a part of; write it out",
    ),
    "a billion values": (
        "a: &a [x, x, x, x, x, x, x, x, x, x]\n"
        + "\n".join(
            f"{new}: &{new} [{', '.join(['*' + old] * 10)}]" for old, new in zip("abcdefgh", "bcdefghi", strict=True)
        ),
        "with its aliases (*) unfolded it has 1.23e+09 values; at most 100000 are read",
    ),
}


@pytest.mark.parametrize("name", TEXTS)
def test_what_yaml_passes_over_is_refused_by_line(name, tmp_path):
    text, sentence = TEXTS[name]
    (tmp_path / "own.yaml").write_text(text, encoding="utf-8")
    assert [
        line.split(": ", 1)[1] if ", line" not in line else line.split(", ", 1)[1]
        for line in config_files.problems(tmp_path / "own.yaml")
    ] == [sentence]


LEGAL = """
base: &base {method: pgd, epsilon: 0.1}
attacks:
  pgd: {<<: *base, steps: 3}
  strong: {<<: *base, epsilon: 0.2}
seeds: &seeds [0, 1]
again: *seeds
"""


@pytest.mark.parametrize("text", [LEGAL, "", "# nothing", "- 1", '{"seeds": [0]}', "seeds: 'a: a'"])
def test_what_is_legal_is_not_refused(text, tmp_path):
    (tmp_path / "own.yaml").write_text(text, encoding="utf-8")
    assert list(config_files.problems(tmp_path / "own.yaml")) == []


@pytest.mark.parametrize("path", sorted((ROOT / "config").glob("*.yaml")), ids=lambda path: path.stem)
def test_no_config_that_comes_along_is_refused(path):
    assert list(config_files.problems(path)) == []


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"seeds": ["0", "1"]}, {"seeds": [0, 1], "attacks": {"pgd": {"epsilon": 0.5}}}),
        ({"attacks": {"pgd": {"epsilon": "0.1"}}}, {"seeds": [3], "attacks": {"pgd": {"epsilon": 0.1}}}),
        ({"attacks": {"pgd": {"epsilon": "1e-3"}}}, {"seeds": [3], "attacks": {"pgd": {"epsilon": 0.001}}}),
        (
            {"attacks": {"pgd": {"random": "true", "x": "null"}}},
            {"seeds": [3], "attacks": {"pgd": {"epsilon": 0.5, "random": True, "x": None}}},
        ),
        ({"seeds": "much"}, {"seeds": "much", "attacks": {"pgd": {"epsilon": 0.5}}}),
        (
            {"seeds": ["1.5", "a: b", "2026-01-01", "[", "!!python/tuple"]},
            {"seeds": [1.5, "a: b", "2026-01-01", "[", "!!python/tuple"], "attacks": {"pgd": {"epsilon": 0.5}}},
        ),
    ],
)
def test_values_of_the_command_line_are_what_they_would_be_in_a_file(given, expected):
    config: dict[str, Any] = {"seeds": [3], "attacks": {"pgd": {"epsilon": 0.5}}}
    update_config(config, given)
    config_files.retype(config, given)
    assert config == expected


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where something stands in a config."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield (*path, key)
        yield from places(item, (*path, key))


def found(path: tuple[Any, ...]) -> Any:
    value: Any = DEFAULT
    for key in path:
        value = value[key]
    return value


PLACES = list(places(DEFAULT))
JUNK = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.dates()
    | st.binary(max_size=3)
    | st.sampled_from(["..", "a/b", "{seed}", "*", "\n", "1e5", "digits", "det", 10**40, (1, 2)]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5) | st.integers(), inner, max_size=3),
    max_leaves=5,
)


def survives(config: dict[str, Any]) -> None:
    """A config is refused in lines, or everything that is planned from it can be."""
    lines = refusal(config)
    event("refused" if lines else "accepted")
    assert all(line and line.isprintable() and len(line) < 2000 for line in lines), lines
    if not lines:
        checked = check(config, SCHEMA)
        assert canonical(checked)
        assert Grid(checked).trained()


@settings(max_examples=400, deadline=None)
@given(st.sampled_from(PLACES), JUNK | st.sampled_from(PLACES).map(found))
def test_a_wrong_value_anywhere_is_refused_in_lines_or_harmless(path, value):
    survives(changed(list(path), value))


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(PLACES), st.text(max_size=8) | st.integers() | st.sampled_from(["digits", "det", "fc2", "all"]), JUNK)
def test_a_key_too_many_is_refused_in_lines_or_harmless(path, key, value):
    *parents, last = path
    if isinstance(last, int):
        parents = parents[:-1]
    survives(changed([*parents, key], value))


@settings(max_examples=100, deadline=None)
@given(st.sampled_from(PLACES))
def test_whatever_is_missing_is_refused_in_lines_or_harmless(path):
    survives(changed(list(path)))


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Project:
    return copy_project(tmp_path_factory.mktemp("refused"))


TINY = yaml.safe_load((ROOT / "tests/config.yaml").read_text(encoding="utf-8"))
OWN = {"source": "npz", "file": "nowhere.npz", "test_points": 20}
#: What is laid over the tiny config, what else the command line says, and the line that refuses it.
RUNS = {
    "typo": (
        {"attacks": {"pgd": {"epsilonn": 0.1}}},
        [],
        "attacks.pgd: the key 'epsilonn' is unknown; did you mean epsilon?",
    ),
    "contradiction": (
        {"experiments": {"explanations": {"draws": [5]}}},
        [],
        "experiments.explanations.draws: 5 is more than trainings.hmc.draws, 4",
    ),
    "name": (
        {"networks": {"../../x": {"architecture": "fc2"}}},
        [],
        r"networks: '../../x' must match ^[A-Za-z][A-Za-z0-9_]*(?!\n)$: letters, digits and _, a letter first",
    ),
    "text": ("seeds: [2]\nseeds: [3]", [], "own.yaml, line 2: the key 'seeds' stands in line 1, too; keep one of them"),
    "bomb": (TEXTS["a billion values"][0], [], "own.yaml: " + TEXTS["a billion values"][1]),
    "command line": ({}, ["--config", "seeds=3"], "seeds: 3 must be of type array"),
    "command line, further in": (
        {},
        ["--config", "measures={top20: {top_k: 1e4}}"],
        "measures.top20.top_k: 10000 must be at most 100",
    ),
    "no such file": (
        {"datasets": {"digits": OWN}},
        [],
        "datasets.digits.file: there is no file nowhere.npz",
    ),
    "reproduction": (
        {"reproduction": ["config/paper.yaml"]},
        [],
        "reproduction: ['config/paper.yaml'] must name a config file for each of paper and published",
    ),
    "a file in place of the folder of results": (
        {"results": "Snakefile"},
        [],
        "results: 'Snakefile' needs a folder Snakefile, and Snakefile is none; name another, or move it away",
    ),
    "a file further up": (
        {"results": "config/config.yaml/mine"},
        [],
        "results: 'config/config.yaml/mine' needs a folder config/config.yaml/mine, and config/config.yaml is none; "
        "name another, or move it away",
    ),
    "as the catalog starts it": (
        {"seeds": []},
        ["--snakefile", "workflow/Snakefile"],
        "seeds: must not be empty",
    ),
}


@pytest.mark.parametrize("name", RUNS)
def test_a_run_ends_with_that_line_alone_and_without_a_job(name, project):
    overlay, arguments, sentence = RUNS[name]
    text = overlay if isinstance(overlay, str) else yaml.safe_dump(overlay)
    (project.folder / "own.yaml").write_text(text, encoding="utf-8")
    begun = time.monotonic()
    done = project.snakemake("own.yaml", "--cores", "1", *arguments, check=False)
    print(f"\n{name}: {sentence}, after {time.monotonic() - begun:.1f} s")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-2:] == ["The config cannot work.", sentence]
    assert "Traceback" not in done.stderr
    assert 'File "' not in done.stderr
    assert not (project.folder / "results").exists()
    assert not (project.folder / "logs").exists()


PARTIAL = {"results": "results", "seeds": [0], "experiments": TINY["experiments"]}


@pytest.mark.parametrize("snakefile", ["Snakefile", "workflow/Snakefile"])
def test_a_config_inherits_nothing_from_the_default(snakefile, project):
    project.write_config(PARTIAL, "partial.yaml")
    done = project.snakemake("-n", "--snakefile", snakefile, "--config", "seeds=[1]", config="partial.yaml", check=False)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("config: the keys 'datasets', 'networks', 'trainings',")


#: What Snakemake itself cannot load, before a line of this workflow is read.
UNREADABLE = {
    "empty": (b"", "Config file must be given as JSON or YAML with keys at top level."),
    "a list": (b"- 1", "Config file must be given as JSON or YAML with keys at top level."),
    "a tab": (b"a:\n\tb: 1", "Config file is not valid JSON or YAML."),
    "another encoding": ("a: größe".encode("latin-1"), "'utf-8' codec can't decode byte"),
}


@pytest.mark.parametrize("name", UNREADABLE)
def test_what_snakemake_cannot_load_ends_before_a_job(name, project):
    content, sentence = UNREADABLE[name]
    (project.folder / "unreadable.yaml").write_bytes(content)
    done = project.snakemake("--cores", "1", config="unreadable.yaml", check=False)
    assert done.returncode == 1
    assert sentence in done.stderr
    assert not (project.folder / "results").exists()
