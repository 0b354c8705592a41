"""The profile on a real Slurm of one node: the same bytes, devices, more memory after a kill, and an end when told."""

from __future__ import annotations

import re
import shutil
import time

import pytest

from tests.workflow.conftest import Project, copy_project

MODEL = "results/digits/fc2/det/seed0"


@pytest.fixture
def started(finished, tmp_path) -> Project:
    """A project that has the data and nothing else."""
    project = copy_project(tmp_path / "project")
    (project.folder / "results/digits").mkdir(parents=True)
    for file in ("data.safetensors", "points.safetensors"):
        shutil.copy2(finished.folder / "results/digits" / file, project.folder / "results/digits")
    return project


def test_a_cluster_gives_the_bytes_of_a_local_run(clustered, finished):
    assert clustered.project.digests() == finished.digests()


def test_short_jobs_share_submissions(clustered):
    logs = list((clustered.project.folder / "logs").rglob("*.log"))
    assert len(logs) > 150
    assert len(clustered.jobs) < len(logs) / 2
    assert {job["JobState"] for job in clustered.jobs} == {"COMPLETED"}


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
    computing = [log for log in given if log.name in ("train.log", "attack.log") or log.parent.name == "lrp"]
    transferred = [log for log in computing if log.parent.parent.name == "transfer" and log.name == "attack.log"]
    devices = {given[log] for log in computing if log not in transferred}
    assert devices == {"0", "1"}
    assert {given[log] for log in set(given) - set(computing) | set(transferred)} == {None}


def test_a_job_killed_for_lack_of_memory_is_tried_with_more(cluster, started, finished):
    limits = ["--set-resources", "train:mem_mb=400 * attempt * attempt"]
    _, jobs = cluster.run(started, *limits, "--", f"{MODEL}/weights.safetensors")
    asked = [int(re.search(r"mem=(\d+)M", job["TRES"])[1]) for job in jobs]
    print("\nMemory of the attempts (MB):", asked)
    assert asked == [400 * attempt**2 for attempt in range(1, len(jobs) + 1)]
    assert len(jobs) > 1
    assert [job["JobState"] for job in jobs][-1] == "COMPLETED"
    assert started.digests()[f"{MODEL}/weights.safetensors"] == finished.digests()[f"{MODEL}/weights.safetensors"]


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


def test_an_interrupted_run_cancels_its_jobs_and_goes_on_with_what_was_missing(cluster, started, finished):
    models = [f"results/digits/fc2/{training}/seed{seed}" for training in ("det", "map") for seed in (0, 1)]
    targets = [f"{model}/weights.safetensors" for model in models]
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
    said_of_rest = started.snakemake("-n", "--rerun-incomplete", "--", *targets).stdout
    plan = "".join(re.findall(r"^    output: (.*)$", said_of_rest, flags=re.M))
    there = {target: (started.folder / target).stat().st_mtime_ns for target in targets if target not in plan}
    assert 1 <= ended(said) == len(there) < len(targets)
    _, jobs = cluster.run(started, "--", *targets)
    print(f"\n{len(there)} of {len(targets)} were there; going on submitted {len(jobs)}.")
    assert len(jobs) == len(targets) - len(there)
    assert {target: (started.folder / target).stat().st_mtime_ns for target in there} == there
    same = started.digests()
    assert {target: same[target] for target in targets} == {target: finished.digests()[target] for target in targets}


def ended(said: str) -> int:
    """How many jobs Snakemake knows to have ended well."""
    return said.count("Finished jobid: ")
