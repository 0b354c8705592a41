"""Nothing that a config, a file or a label says is run, leaves its folder, or fills the memory."""

from __future__ import annotations

import ast
import importlib.metadata
import io
import os
import pickle
import re
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from html.parser import HTMLParser
from itertools import chain
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.text import Text
from packaging.requirements import Requirement

from resilience import artifacts, outcomes, report
from resilience.artifacts import ArtifactError
from resilience.config import ConfigError, check
from resilience.data import DataError
from resilience.datasets import published
from resilience.datasets.npz import npz
from resilience.figures.panels import Panel, Style
from resilience.figures.scatter import scatter
from tests.conftest import ROOT, templates
from tests.library.test_comparisons import assign, compare, judge, robustness_tables

#: What would run what a file or a config says.
PICKLES = {"pickle", "cPickle", "_pickle", "marshal", "shelve", "dill", "cloudpickle", "joblib"}
CALLS = {
    *(
        "eval",
        "exec",
        "compile",
        "__import__",
        "os.system",
        "os.popen",
        "subprocess.getoutput",
        "subprocess.getstatusoutput",
    ),
    *("torch.load", "torch.save", "torch.jit.load", "pd.read_pickle", "pandas.read_pickle", "pd.eval", "pandas.eval"),
    *("yaml.load", "yaml.unsafe_load", "yaml.full_load", "shell"),
}
PYTHON = sorted([*(ROOT / "src").rglob("*.py"), *(ROOT / "workflow").rglob("*.py")])
RULES = sorted([ROOT / "Snakefile", ROOT / "workflow/Snakefile", *(ROOT / "rules").glob("*.smk")])


def unsafe(source: str) -> Iterator[str]:
    """What of Python source would run, unpickle or unpack something that it has not itself written."""
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Import(names=names):
                yield from (alias.name for alias in names if alias.name.split(".")[0] in PICKLES)
            case ast.ImportFrom(module=str(module)) if module.split(".")[0] in PICKLES:
                yield module
            case ast.Call(func=called, keywords=keywords):
                name, given = ast.unparse(called), {keyword.arg: ast.unparse(keyword.value) for keyword in keywords}
                # That of weights alone runs nothing: what is more than tensors is refused.
                called_safely = name == "torch.load" and given.get("weights_only") == "True"
                if (
                    (name in CALLS and not called_safely)
                    or given.get("shell", "False") != "False"
                    or given.get("allow_pickle", "False") != "False"
                ):
                    yield ast.unparse(node)
                if name in ("np.load", "numpy.load") and "allow_pickle" not in given:
                    yield ast.unparse(node)
                if name.endswith((".extractall", ".extract", "unpack_archive")) and given.get("filter") != "'data'":
                    yield ast.unparse(node)


@pytest.mark.parametrize("path", PYTHON, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_source_unpickles_or_runs_what_it_is_given(path):
    assert list(unsafe(path.read_text(encoding="utf-8"))) == []


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "from joblib import load",
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "np.load(path)",
        "np.load(path, allow_pickle=True)",
        "yaml.load(text, Loader=yaml.Loader)",
        "eval(config['x'])",
        "subprocess.run(f'rm {name}', shell=True)",
        "os.system(name)",
        "tarfile.open(path).extractall(place)",
        "zipfile.ZipFile(path).extractall(place)",
    ],
)
def test_such_a_source_would_be_found(source):
    assert list(unsafe(source))


@pytest.mark.parametrize("path", RULES, ids=lambda path: path.name)
def test_no_rule_has_a_shell_command(path):
    """Rules run scripts; whatever Python stands between them is held to the same as the rest."""
    text = re.sub(r"#.*", "", path.read_text(encoding="utf-8"))
    assert not re.search(r"^\s*(shell|run|wrapper|notebook|cwl)\s*:", text, flags=re.M)
    assert not re.search(rf"(?<![\w.])({'|'.join(map(re.escape, [*PICKLES, *CALLS]))})\s*\(", text)
    assert not re.search(r"extractall\((?!.*filter=\"data\")", text)


def test_a_name_that_the_config_may_have_stays_in_its_folder():
    schema = yaml.safe_load((ROOT / "workflow/schemas/config.schema.yaml").read_text(encoding="utf-8"))
    default = yaml.safe_load((ROOT / "config/config.yaml").read_text(encoding="utf-8"))
    accepted = []

    @settings(max_examples=300, deadline=None)
    @given(
        st.text(min_size=1, max_size=12)
        | st.text("./\\ab~$*{}\n\0 -_0", min_size=1, max_size=8)
        | st.from_regex(r"[a-z][a-z0-9_]{0,70}", fullmatch=True)
    )
    def stays(name):
        try:
            check(default | {"results": name, "variant": name}, schema)
        except ConfigError:
            return
        accepted.append(name)
        place = (Path("/project") / name / name).resolve()
        assert place.is_relative_to("/project")
        assert place != Path("/project")
        assert re.fullmatch(r"[\w./-]+", name)

    stays()
    print(f"\n{len(accepted)} of 300 drawn names accepted, none of which leaves the folder")
    assert accepted


HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(1)>\"'&{{ 7 * 7 }}"


class Elements(HTMLParser):
    """What elements a page has, and its text."""

    def __init__(self):
        super().__init__()
        self.names, self.attributes, self.text = [], set(), ""

    def handle_starttag(self, tag, attributes):
        self.names.append(tag)
        self.attributes.update(name for name, _ in attributes)

    def handle_data(self, text):
        self.text += text


def test_a_page_shows_hostile_labels_as_text(tmp_path):
    table = judge(compare(robustness_tables(0.1)))
    about = ["paper", "claim", "sentence", "place", "dataset", "network", "attack", "training", "reference"]
    names = [*about, "explanation", "measure", "verdict"]
    (tmp_path / "figure.png").write_bytes(b"")
    tables = assign(robustness_tables(0.1), mean_change=0.1, zero_gradient=False)
    attacked = outcomes.outcomes(tables, {"fc2": (1, 3)}, "epsilon", "top20", {"pgd": None})
    fit = {"test_accuracy": 1.0, "draws": 1, "parameters": 1, "diagnostics": {}, "warnings": [HOSTILE]}
    page = Elements()
    page.feed(
        report.render(
            templates("report"),
            table.assign(**dict.fromkeys(names, HOSTILE)),
            attacked.assign(**dict.fromkeys(["dataset", "network", "attack", "training"], HOSTILE)),
            [{"name": HOSTILE, "summary": HOSTILE, "reading": HOSTILE, "path": str(tmp_path / "figure.png")}],
            {f"{HOSTILE}/seed0": fit},
            {f"{HOSTILE}/seed0": pd.DataFrame({"epoch": [1], "loss": [1.0]})},
            {HOSTILE: HOSTILE, "claims": HOSTILE},
            [(HOSTILE, "claims")],
            f"datasets: {HOSTILE}",
        )
    )
    of_page = templates("report")["page.html.j2"]
    assert page.names.count("script") == of_page.count("<script") == 1
    assert not {name for name in page.attributes if name.startswith("on")}
    shown = page.text.count(HOSTILE)
    print(f"\na hostile label shown as text in {shown} places of the report")
    assert shown >= len(table) * (len(names) - 3)


def test_a_figure_shows_hostile_labels_as_text():
    label = "<script>alert(1)</script>"
    measured = assign(robustness_tables(0.1), dataset=label)
    panel = Panel(label, "fc2", "pgd", ["det", "hmc"], ["1", "3"], 0.1)
    figure = scatter([panel], Style({"det": "deterministic", "hmc": "hmc"}), measured, measure="top20")
    assert any(label in text.get_text() for text in figure.findobj(Text))


class Planted:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return (os.mkdir, (str(self.path),))


def pickled_npz(path: Path, planted: Path) -> None:
    np.savez(path, x_train=np.array([Planted(planted)] * 4, dtype=object))


def raw_pickle(path: Path, planted: Path) -> None:
    path.write_bytes(pickle.dumps(Planted(planted)))


@pytest.mark.parametrize("write", [pickled_npz, raw_pickle])
def test_no_pickle_is_loaded_as_arrays(write, tmp_path):
    write(tmp_path / "own.npz", tmp_path / "planted")
    with pytest.raises(DataError, match=r"own\.npz: x_train cannot be read; expected numbers in a file of numpy.savez"):
        npz(file=str(tmp_path / "own.npz"))
    assert not (tmp_path / "planted").exists()
    pickle.loads(pickle.dumps(Planted(tmp_path / "planted")))
    assert (tmp_path / "planted").exists(), "the trap itself works"


@pytest.mark.parametrize(
    "read", [artifacts.read_tensors, artifacts.read_foreign_tensors, artifacts.read_table, artifacts.read_json]
)
def test_no_pickle_is_loaded_as_an_artifact(read, tmp_path):
    raw_pickle(tmp_path / "own", tmp_path / "planted")
    with pytest.raises(ArtifactError, match="own: "):
        read(tmp_path / "own")
    assert not (tmp_path / "planted").exists()


def zeros(path: Path, megabytes: int) -> None:
    """Compressed arrays of zeros, a thousandth as large as what they unpack to."""
    x = np.zeros((megabytes, 1024, 1024), np.uint8)
    np.savez_compressed(path, x_train=x, y_train=np.arange(len(x)) % 2, x_test=x[:2], y_test=np.arange(2))


def test_an_archive_that_would_fill_the_memory_is_refused(tmp_path):
    zeros(tmp_path / "own.npz", 300)
    with pytest.raises(
        DataError, match=r"own\.npz: x_train unpacks to 300 MiB, \d+ times what it takes; .* numpy.savez alone"
    ):
        npz(file=str(tmp_path / "own.npz"))


def test_an_archive_that_packs_well_is_not(tmp_path):
    zeros(tmp_path / "own.npz", 4)
    assert npz(file=str(tmp_path / "own.npz")).train.x.shape == (4, 1, 1024, 1024)


def test_an_array_that_claims_to_be_huge_is_refused(tmp_path):
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "|u1", "fortran_order": False, "shape": (10**6, 10**4, 10**3)})
    with zipfile.ZipFile(tmp_path / "own.npz", "w") as archive:
        archive.writestr("x_train.npy", header.getvalue() + bytes(100))
    with pytest.raises(DataError, match=r"own\.npz: x_train cannot be read"):
        npz(file=str(tmp_path / "own.npz"))


def test_an_archive_writes_nothing(tmp_path):
    folder = tmp_path / "inner"
    folder.mkdir()
    with zipfile.ZipFile(folder / "own.npz", "w") as archive:
        for name in ("../outside.npy", str(tmp_path / "elsewhere.npy"), "x_train.npy"):
            archive.writestr(name, b"\x93NUMPY")
    with pytest.raises(DataError):
        npz(file=str(folder / "own.npz"))
    assert [path.name for path in tmp_path.rglob("*")] == ["inner", "own.npz"]


def test_what_is_downloaded_has_a_digest():
    from torchvision import datasets

    of_cifar = datasets.CIFAR10
    meta = (of_cifar.meta["filename"], of_cifar.meta["md5"])
    assert dict([*of_cifar.train_list, *of_cifar.test_list, meta]) == published.DIGESTS["CIFAR10"]
    for name in published.GZIPPED:
        unpacked, resources = published.DIGESTS[name], dict(getattr(datasets, name).resources)
        assert {file.removesuffix(".gz") for file in resources} == set(unpacked)
        assert all(re.fullmatch("[0-9a-f]{32}", digest) for digest in [*resources.values(), *unpacked.values()])


def dependencies() -> Iterator[Requirement]:
    """What the project needs, and what that needs in turn, on this machine."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    groups = project["dependency-groups"]
    of_tests = [groups[part["include-group"]] if isinstance(part, dict) else [part] for part in groups["test"]]
    pending = [Requirement(text) for text in [*project["project"]["dependencies"], *chain.from_iterable(of_tests)]]
    seen = set()
    while pending:
        requirement = pending.pop()
        if requirement.name.lower() in seen or (requirement.marker and not requirement.marker.evaluate({"extra": ""})):
            continue
        seen.add(requirement.name.lower())
        yield requirement
        pending += map(Requirement, importlib.metadata.requires(requirement.name) or [])


def test_every_dependency_is_the_one_that_is_pinned():
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").split()
    pins = {plain(name): version for name, version in (line.split("==") for line in lines)}
    found = {plain(requirement.name): importlib.metadata.version(requirement.name) for requirement in dependencies()}
    print(f"\n{len(found)} packages installed as pinned")
    assert {name: version for name, version in found.items() if pins.get(name) != version} == {}
    assert len(found) > 50


def plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_dependencies_agree_with_each_other():
    done = subprocess.run([sys.executable, "-m", "pip", "check"], capture_output=True, encoding="utf-8", check=False)
    assert done.returncode == 0, done.stdout
