"""The profile on a real Slurm of one node: the same bytes, devices, more memory after a kill, and an end when told."""

from __future__ import annotations

import math
import re
import shutil
import time
from collections import Counter
from pathlib import Path

import pytest
import yaml

from tests.workflow.conftest import Project, copy_project, outputs_of

MODEL = "results/digits/fc2/det/seed0"
#: Attacks that are made from others without a GPU.
DERIVED = ("transfer", "matched")


@pytest.fixture
def started(local, tmp_path) -> Project:
    """A project that has the data and nothing else."""
    project = copy_project(tmp_path / "project", seeds=1)
    (project.folder / "results/digits").mkdir(parents=True)
    for file in ("data.safetensors", "points.safetensors"):
        shutil.copy2(local.folder / "results/digits" / file, project.folder / "results/digits")
    return project


def test_a_cluster_gives_the_bytes_of_a_local_run(clustered, local):
    assert clustered.project.digests() == local.digests()


def test_short_jobs_share_submissions(clustered):
    project = clustered.project
    done = Counter(group_of(path) for path in (project.folder / "logs").rglob("*.log"))
    together = yaml.safe_load((project.folder / "profiles/slurm/config.yaml").read_text())["group-components"]
    expected = {group: math.ceil(done[group] / together[group]) for group in together}
    submitted = Counter(re.match(r"rule_([a-z]+)", job["Comment"])[1] for job in clustered.jobs)
    assert submitted == expected | {"train": done["train"], "attack": done["attack"], "data": 1, "summary": 1}
    assert {job["JobState"] for job in clustered.jobs} == {"COMPLETED"}


def test_a_submission_asks_for_what_its_jobs_need_one_after_the_other(clustered):
    largest = max((job for job in clustered.jobs if "maps" in job["Comment"]), key=lambda job: job["TimeLimit"])
    assert (largest["TimeLimit"], largest["NumCPUs"]) == ("16:00:00", "1")
    assert "mem=2000M" in largest["TRES"]


def test_gpu_jobs_run_where_gpus_are_and_get_one_each(clustered):
    for job in clustered.jobs:
        on_gpu = re.match(r"rule_(train|attack|maps_explain)", job["Comment"])
        assert job["Partition"] == ("gpu" if on_gpu else "cpu"), job["Comment"]
        assert job.get("TresPerJob") == ("gres:gpu:1" if on_gpu else None), job["Comment"]
        assert job["NumCPUs"] == "1"
    given = {}
    for log in (clustered.project.folder / "logs").rglob("*.log"):
        found = re.findall(r"was given device (\S+), but PyTorch finds none: computes on the CPU", log.read_text())
        assert len(found) <= 1
        given[log] = found[0] if found else None
    computing = {log for log in given if group_of(log) in ("train", "attack", "maps")}
    assert {given[log] for log in computing} == {"0", "1"}
    assert {given[log] for log in set(given) - computing} == {None}


def test_a_job_killed_for_lack_of_memory_is_tried_with_more(cluster, started, local):
    limits = ["--set-resources", "train:mem_mb=400 * attempt * attempt"]
    _, jobs = cluster.run(started, *limits, "--", f"{MODEL}/weights.safetensors")
    asked = [int(re.search(r"mem=(\d+)M", job["TRES"])[1]) for job in jobs]
    print("\nMemory of the attempts (MB):", asked)
    assert asked == [400 * attempt**2 for attempt in range(1, len(jobs) + 1)]
    assert len(jobs) > 1
    assert [job["JobState"] for job in jobs][-1] == "COMPLETED"
    assert started.digests()[f"{MODEL}/weights.safetensors"] == local.digests()[f"{MODEL}/weights.safetensors"]


def test_a_job_that_fails_for_good_ends_with_its_cause_and_names_its_log(cluster, started):
    config = started.config()
    config["trainings"]["det"]["learning_rate"] = 1e30
    started.write_config(config)
    status, said = cluster.start(started, "--retries", "0", "--", f"{MODEL}/weights.safetensors").finish()
    assert status != 0
    last = said.strip().splitlines()[-2:]
    assert last[0].startswith("Failed: TrainingError: the loss is nan in epoch")
    assert last[1] == "  Log: logs/digits/fc2/det/seed0/train.log"
    assert not (started.folder / MODEL / "weights.safetensors").exists()


def test_a_job_killed_for_good_is_named_with_its_log(cluster, started):
    limits = ["--set-resources", "train:mem_mb=400", "--retries", "0"]
    status, said = cluster.start(started, *limits, "--", f"{MODEL}/weights.safetensors").finish()
    assert status != 0
    last = said.strip().splitlines()[-2:]
    assert re.fullmatch(r"Failed: Slurm killed the job: StepId=\d+\.0 exceeded memory limit \(.*\), being killed", last[0])
    assert last[1] == "  Log: logs/digits/fc2/det/seed0/train.log"


def test_an_interrupted_run_cancels_its_jobs_and_goes_on_with_what_was_missing(cluster, started, local):
    targets = [f"results/digits/fc2/{training}/seed0/weights.safetensors" for training in ("det", "map", "adv", "svi")]
    run = cluster.start(started, "--", *targets)
    deadline = time.monotonic() + 600
    while not (ended(run.said.read_text()) and any("RUNNING" in job for job in cluster.slurm.queue())):
        assert run.process.poll() is None, run.said.read_text()
        assert time.monotonic() < deadline, run.said.read_text()
        time.sleep(0.5)
    status, said = run.interrupt()
    assert status != 0
    deadline = time.monotonic() + 30
    while cluster.slurm.queue():
        assert time.monotonic() < deadline, cluster.slurm.queue()
        time.sleep(0.5)
    plan = outputs_of(started.snakemake("-n", "--rerun-incomplete", "--", *targets).stdout)
    there = {target: (started.folder / target).stat().st_mtime_ns for target in targets if target not in plan}
    assert 1 <= ended(said) == len(there) < len(targets)
    _, jobs = cluster.run(started, "--", *targets)
    print(f"\n{len(there)} of {len(targets)} were there; going on submitted {len(jobs)}.")
    assert len(jobs) == len(targets) - len(there)
    assert {target: (started.folder / target).stat().st_mtime_ns for target in there} == there
    same = started.digests()
    assert {target: same[target] for target in targets} == {target: local.digests()[target] for target in targets}


def group_of(log: Path) -> str:
    """The group of the profile that the job of a log belongs to, or its rule."""
    if log.parent.name == "lrp":
        return "maps"
    if log.name == "attack.log":
        return "transfers" if log.parent.parent.name in DERIVED else "attack"
    return {"train": "train", "robustness": "tables", "dataset": "data", "points": "data"}.get(log.stem, "summary")


def ended(said: str) -> int:
    """How many jobs Snakemake knows to have ended well."""
    return said.count("Finished jobid: ")
