"""What results say of themselves: plans rest on it, ``verify`` compares it, ``history`` prints it."""

from __future__ import annotations

import json
import re
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from prov.model import ProvDocument

from resilience import artifacts, verification
from resilience.embedding import FORMATS
from resilience.heads import head_of
from resilience.history import History
from tests.workflow.conftest import Project

MODEL = "results/digits/fc2/hmc/seed0"
MAPS = f"{MODEL}/pgd/n4/explanations/gamma/layer5.safetensors"
#: What is made from it, and what comes along: all layers are made by one job.
FROM_MAPS = [
    r"fc2/hmc/seed0/pgd/n4/explanations/gamma/(layer\d|explained)\.",
    r"fc2/hmc/seed0/pgd/n4/explanations/gamma/measures",
    r"results/(comparisons|claims|outcomes|measures)\.csv",
    r"figures/(answer|fig03)\.",
    r"report\.html",
    r"explore/by_rules\.html",
]


def expected(project: Project, patterns: list[str]) -> set[str]:
    files = [str(path.relative_to(project.folder)) for path in (project.folder / "results").rglob("*")]
    return {file for file in files if Path(file).suffix and any(re.search(pattern, file) for pattern in patterns)}


def swapped(path: Path) -> None:
    shutil.copy(str(path).replace("seed0", "seed1"), path)


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def emptied(path: Path) -> None:
    path.write_bytes(b"")


def of_another_config(path: Path) -> None:
    """The same place in other results, where gamma was another."""
    history = head_of(path).history
    explanation = history.settings["explanation"]
    changed = {"explanation": {**explanation, "rule": {**explanation["rule"], "gamma": 0.3}}}
    other = History(**vars(history) | {"settings": {**history.settings, **changed}})
    artifacts.write_tensors(path, artifacts.read_tensors(path), artifacts.read_about(path), other)


def with_a_changed_history(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b'gamma\\": 0.1', b'gamma\\": 0.2'))


@pytest.mark.parametrize("damage", [swapped, truncated, emptied, of_another_config, with_a_changed_history])
def test_what_is_not_what_its_place_says_is_made_anew(damage, again, finished):
    before = again.digests()
    damage(again.folder / MAPS)
    assert again.digests()[MAPS] != before[MAPS]
    assert again.planned() == expected(finished, FROM_MAPS)
    shutil.rmtree(again.folder / ".snakemake")
    assert again.planned() == expected(finished, FROM_MAPS)
    again.snakemake("--cores", "2", "--quiet", "rules", "--", f"{MODEL}/pgd/n4/explanations/gamma/measures.csv")
    assert again.digests() == before


@pytest.mark.parametrize("file", ["fit.json", "history.csv", "weights.safetensors"])
def test_a_file_of_another_seed_is_made_anew_though_all_that_it_was_made_from_is_the_same(file, again, finished):
    model = again.folder / "results/digits/fc2/det/seed0"
    before = again.digests()
    swapped(model / file)
    assert f"results/digits/fc2/det/seed0/{file}" in again.planned()
    again.snakemake("--cores", "2", "--quiet", "rules", "--", f"results/digits/fc2/det/seed0/{file}")
    assert again.digests() == before


def test_a_table_from_older_heat_maps_is_made_anew(again, finished):
    """The maps are whole and say what the config asks for, but the table says that it was made from others."""
    path = again.folder / MAPS
    arrays = artifacts.read_tensors(path)
    history = head_of(path).history
    artifacts.write_tensors(path, {"relevance": arrays["relevance"] + 1}, artifacts.read_about(path), history)
    assert again.planned() == expected(finished, FROM_MAPS[1:])
    done = again.snakemake("--cores", "1", "verify", check=False)
    assert done.returncode
    table = f"{MODEL}/pgd/n4/explanations/gamma/measures.csv"
    assert (
        f"{table}: made from another digits/fc2/hmc/seed0/pgd/n4/explanations/gamma/layer5.safetensors than lies there"
        in done.stdout
    )
    assert "damaged or outdated" in done.stderr.strip().splitlines()[-2]


def test_intermediate_files_that_are_gone_are_not_missed(again):
    (again.folder / MAPS).unlink()
    shutil.rmtree(again.folder / ".snakemake")
    assert again.planned() == set()
    states = {finding.state for finding in verification.verify(again.folder / "results")}
    assert states == {verification.WHOLE, verification.INCOMPLETE}


def test_verify_finds_all_that_is_built_whole_whenever_it_is_asked(finished):
    for _ in range(2):
        done = finished.snakemake("--cores", "1", "verify")
        assert re.fullmatch(r"(\d+) files: \1 whole\n", done.stdout)


@pytest.mark.parametrize("suffix", [".safetensors", ".csv", ".json", ".png", ".pdf", ".html"])
def test_verify_names_what_is_damaged(suffix, again):
    path = sorted((again.folder / "results").rglob(f"*{suffix}"))[-1]
    content = bytearray(path.read_bytes())
    content[-len(content) // 8] ^= 1
    path.write_bytes(content)
    (again.folder / "results/notes.txt").write_text("mine", encoding="utf-8")
    done = again.snakemake("--cores", "1", "verify", check=False)
    name = path.relative_to(again.folder)
    assert done.returncode
    assert done.stdout.startswith(f"{name}: ")
    assert re.search(r"1 no artifact", done.stdout)
    assert done.stderr.strip().splitlines()[-2].startswith("Failed: FaultError: ")


def without_history(path: Path) -> None:
    """The file as a version without histories wrote it."""
    match path.suffix:
        case ".safetensors":
            artifacts.write_tensors(path, artifacts.read_tensors(path), artifacts.read_about(path))
        case ".json":
            artifacts.write_json(path, artifacts.read_json(path))
        case ".csv":
            bare, digest, _ = artifacts.split_table(path.read_text(encoding="utf-8"))
            names, *lines = bare.splitlines()
            old = [f"{names},digest", *(f"{line},{digest}" for line in lines)] if lines else [f"{names},{digest}"]
            path.write_text("".join(f"{line}\n" for line in old), encoding="utf-8")
        case suffix:
            path.write_bytes(FORMATS[suffix].split(path.read_bytes()).content)


def test_results_of_a_version_without_histories_are_kept_until_somebody_decides(again, finished):
    for path in verification.files_in(again.folder / "results"):
        without_history(path)
    before = again.digests()
    for metadata in (True, False):
        if not metadata:
            shutil.rmtree(again.folder / ".snakemake")
        for dry in (True, False):
            done = again.snakemake(*(["-n"] if dry else ["--cores", "2"]), "--quiet", "rules", check=False)
            assert bool(done.returncode) != dry
            said = [line for line in done.stderr.splitlines() if "does not say what it was made from" in line]
            assert len(said) == 1
            assert "results/digits/data.safetensors, for one" in said[0]
            assert "snakemake --touch" in said[0]
    assert again.digests() == before
    again.snakemake("--touch", "--cores", "2", "--quiet", "rules")
    shutil.rmtree(again.folder / ".snakemake")
    assert again.planned() == set()
    for path in verification.files_in(again.folder / "results"):
        original = head_of(finished.folder / path.relative_to(again.folder))
        assert head_of(path).digest == original.digest, path
        unknown = {"adopted": True, "device": "unknown", "packages": {}}
        assert vars(head_of(path).history) == vars(original.history) | unknown, path
    assert {finding.state for finding in verification.verify(again.folder / "results")} == {verification.WHOLE}


def test_a_change_that_somebody_vouches_for_is_adopted(again):
    """A change of code that changes no result: ``--touch`` takes what is there for what it would make."""
    script = again.folder / "workflow/scripts/claims.py"
    script.write_text(
        script.read_text(encoding="utf-8").replace("output[0], table", "output[0], (table)[:]"), encoding="utf-8"
    )
    assert "results/claims.csv" in again.planned()
    before = pd.read_csv(again.folder / "results/claims.csv").drop(columns="history")
    made = head_of(again.folder / "results/claims.csv").history
    again.snakemake("--touch", "--cores", "2", "--quiet", "rules")
    assert again.planned() == set()
    after = pd.read_csv(again.folder / "results/claims.csv").drop(columns="history")
    pd.testing.assert_frame_equal(after, before)
    adopted = head_of(again.folder / "results/claims.csv").history
    assert adopted.adopted
    assert adopted.code != made.code
    assert adopted.packages == made.packages


def test_nothing_in_a_history_tells_of_the_machine(finished):
    """No path, host or time, so that the bytes are the same wherever and whenever they are made."""
    for path in verification.files_in(finished.folder / "results"):
        head = head_of(path)
        assert head.history is not None, path
        told = json.dumps(head.history.sealed(head.digest))
        assert str(finished.folder) not in told
        assert "/tmp" not in told
        assert socket.gethostname() not in re.split(r"\W+", told)
        assert re.search(r"20\d\d-\d\d-\d\d", told) is None


def history_of(project: Project, file: str, *settings: str) -> str:
    return project.snakemake("--cores", "1", "history", "--config", f"of={file}", *settings).stdout


def test_history_traces_a_figure_back_to_its_data(finished):
    told = history_of(finished, "results/figures/fig03.png")
    for line in (
        "digits/data.safetensors",
        '    source: "digits"',
        "digits/fc2/hmc/{seed0,seed1}/weights.safetensors  (2 files)",
        '    attack: {"epsilon": 0.1, "method": "pgd", "steps": 3}',
        "figures/fig03.png",
    ):
        assert line in told.splitlines()
    assert told.index("digits/data.safetensors") < told.index("figures/fig03.png")
    assert re.search(r"python [\d.]+", told)


def each(relations: dict[str, Any]) -> Iterator[dict[str, str]]:
    """The records of one kind: PROV-JSON puts those of the same two things into a list."""
    for one in relations.values():
        yield from one if isinstance(one, list) else [one]


def test_history_is_prov(finished):
    told = json.loads(history_of(finished, "results/claims.csv", "form=prov"))
    read = ProvDocument.deserialize(content=json.dumps(told))
    assert len(read.get_records()) > 100
    labels = {entity["prov:label"]: name for name, entity in told["entity"].items()}
    makers = {one["prov:entity"]: one["prov:activity"] for one in each(told["wasGeneratedBy"])}
    used: dict[str, set[str]] = {}
    for one in each(told["used"]):
        used.setdefault(one["prov:activity"], set()).add(one["prov:entity"])
    reached, pending = set(), [labels["claims.csv"]]
    while pending:
        reached.add(entity := pending.pop())
        pending.extend(used.get(makers.get(entity, ""), set()) - reached)
    assert reached == set(told["entity"])
    assert labels["digits/data.safetensors"] in reached
    attack = next(job for job in told["activity"].values() if job["prov:label"] == "attack")
    assert "epsilon" in json.loads(attack["is:settings"])["attack"]


def test_history_says_where_a_lineage_ends(again):
    """The weights are others by now than those that the attack was made on."""
    path = again.folder / f"{MODEL}/weights.safetensors"
    arrays, about, history = artifacts.read_tensors(path), artifacts.read_about(path), head_of(path).history
    artifacts.write_tensors(path, {name: array + 1 for name, array in arrays.items()}, about, history)
    told = history_of(again, MAPS)
    assert "digits/fc2/hmc/seed0/weights.safetensors\n    what made it is not known here" in told


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ([], "say of which file: snakemake history --config of=results/figures/fig03.png"),
        (["of=results/nothing.csv"], "results/nothing.csv: .*No such file"),
        (["of=Snakefile"], "Snakefile: .* no kind of artifact"),
        (["of=results/claims.csv", "form=xml"], "form=xml: must be text or prov"),
    ],
)
def test_history_refuses_in_a_sentence(settings, said, finished):
    asked = ["--config", *settings] if settings else []
    done = finished.snakemake("--cores", "1", "history", *asked, check=False)
    assert done.returncode
    assert re.search(said, done.stderr.strip().splitlines()[-2])
    assert finished.planned() == set()


def test_what_history_is_asked_stands_on_the_command_line_and_in_no_config(again):
    again.write_config(again.config() | {"of": "results/claims.csv"})
    done = again.snakemake("-n", check=False)
    assert done.returncode
    assert "config: the key 'of' is unknown" in done.stderr


def test_versions_that_differ_are_told_and_rerun_nothing(again):
    for path in verification.files_in(again.folder / "results"):
        history = head_of(path).history
        if path.suffix == ".json" and "python" in history.packages:
            packages = {**history.packages, "numpy": "1.0"}
            artifacts.write_json(path, artifacts.read_json(path), History(**vars(history) | {"packages": packages}))
    done = again.snakemake("-n")
    assert "Nothing to be done" in done.stdout + done.stderr
    assert re.search(r"\d+ files were made with numpy 1\.0; here it is [\d.]+\. They are kept\.", done.stderr)
