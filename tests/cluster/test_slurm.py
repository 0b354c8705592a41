"""The profile on a real Slurm of one node: the same bytes, devices, more memory after a kill, and an end when told."""

from __future__ import annotations

import math
import re
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import yaml

from tests.cluster.conftest import Run, start_of
from tests.workflow.conftest import outputs_of

WEIGHTS = "results/digits/fc2/{}/seed0/weights.safetensors"
#: Attacks that are made from others without a GPU.
DERIVED = ("transfer", "matched")


def test_a_cluster_gives_the_bytes_of_a_local_run(clustered, local):
    assert clustered.digests() == local.digests()


def test_short_jobs_share_submissions(cluster, clustered):
    done = Counter(group_of(path) for path in (clustered.folder / "logs").rglob("*.log"))
    together = yaml.safe_load((clustered.folder / "profiles/slurm/config.yaml").read_text(encoding="utf-8"))[
        "group-components"
    ]
    expected = {group: math.ceil(done[group] / together[group]) for group in together}
    jobs = cluster.jobs(clustered)
    submitted = Counter(re.match(r"rule_([a-z]+)", job["Comment"])[1] for job in jobs)
    assert submitted == expected | {"train": done["train"], "attack": done["attack"], "data": 1, "summary": 1}
    assert {job["JobState"] for job in jobs} == {"COMPLETED"}


def test_a_submission_asks_for_what_its_jobs_need_one_after_the_other(cluster, clustered):
    maps = [job for job in cluster.jobs(clustered) if job["Comment"].startswith("rule_maps")]
    assert {job["TimeLimit"] for job in maps} >= {"16:00:00"}
    assert {job["NumCPUs"] for job in maps} == {"1"}
    assert all("mem=2000M" in job["TRES"] for job in maps)


def test_gpu_jobs_run_where_gpus_are_and_get_one_each(cluster, clustered):
    for job in cluster.jobs(clustered):
        on_gpu = re.match(r"rule_(train|attack|maps_explain|predictions)", job["Comment"])
        assert job["Partition"] == ("gpu" if on_gpu else "cpu"), job["Comment"]
        assert job.get("TresPerJob") == ("gres:gpu:1" if on_gpu else None), job["Comment"]
        assert job["NumCPUs"] == "1"
    given = {}
    for log in (clustered.folder / "logs").rglob("*.log"):
        found = re.findall(
            r"was given device (\S+), but PyTorch finds none: computes on the CPU", log.read_text(encoding="utf-8")
        )
        assert len(found) <= 1
        given[log] = found[0] if found else None
    computing = {log for log in given if group_of(log) in ("train", "attack", "maps", "predictions")}
    assert {given[log] for log in computing} == {"0", "1"}
    assert {given[log] for log in set(given) - computing} == {None}


def test_a_job_killed_for_lack_of_memory_is_tried_with_more(cluster, troubled, local):
    project, run = troubled["too little memory at first"]
    status, said = run.finish()
    assert status == 0, said[-5000:]
    jobs = cluster.jobs(project)
    asked = [int(re.search(r"mem=(\d+)M", job["TRES"])[1]) for job in jobs]
    assert asked == [400 * attempt**2 for attempt in range(1, len(jobs) + 1)]
    assert len(jobs) > 1
    assert [job["JobState"] for job in jobs][-1] == "COMPLETED"
    assert project.digests()[WEIGHTS.format("det")] == local.digests()[WEIGHTS.format("det")]


def test_a_job_killed_for_good_is_named_with_its_log(troubled):
    _, run = troubled["too little memory"]
    status, said = run.finish()
    assert status != 0
    last = said.strip().splitlines()[-2:]
    assert re.fullmatch(r"Failed: Slurm killed the job: StepId=\d+\.0 exceeded memory limit \(.*\), being killed", last[0])
    assert last[1] == "  Log: logs/digits/fc2/det/seed0/train.log"


def test_a_job_that_fails_for_good_ends_with_its_cause_and_names_its_log(troubled):
    project, run = troubled["damaged data"]
    status, said = run.finish()
    assert status != 0
    last = said.strip().splitlines()[-2:]
    assert re.fullmatch(r"Failed: ArtifactError: results/digits/data\.safetensors: is damaged.*", last[0])
    assert last[1] == "  Log: logs/digits/fc2/det/seed0/train.log"
    assert not (project.folder / WEIGHTS.format("det")).exists()


def test_an_interrupted_run_cancels_its_jobs_and_goes_on_with_what_was_missing(cluster, troubled, local, tmp_path):
    for _, other in troubled.values():
        other.finish()
    project = start_of(local, tmp_path)
    short, endless = targets = [WEIGHTS.format("det"), WEIGHTS.format("map")]
    config, longer = project.config(), project.config()
    longer["trainings"]["map"]["epochs"] = 10**6
    project.write_config(longer)
    run = cluster.start(project, "--", *targets)
    wait_until(lambda: "Finished jobid: " in run.said.read_text(encoding="utf-8"), 600, run)
    wait_until(lambda: any("RUNNING" in job for job in cluster.slurm.queue()), 60, run)
    status, _ = run.interrupt()
    assert status != 0
    wait_until(lambda: not cluster.slurm.queue(), 30)
    assert sorted(job["JobState"] for job in cluster.jobs(project)) == ["CANCELLED", "COMPLETED"]
    assert not (project.folder / endless).exists()
    before = (project.folder / short).stat().st_mtime_ns

    project.write_config(config)
    plan = outputs_of(project.snakemake("-n", "--rerun-incomplete", "--", *targets).stdout)
    assert short not in plan
    assert endless in plan
    status, said = cluster.start(project, "--", *targets).finish()
    assert status == 0, said[-5000:]
    assert len(cluster.jobs(project)) == 3
    assert (project.folder / short).stat().st_mtime_ns == before
    assert [project.digests()[target] for target in targets] == [local.digests()[target] for target in targets]


def wait_until(condition: Callable[[], bool], seconds: float, run: Run | None = None) -> None:
    """Wait for a condition, as long as a run goes on."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert run is None or run.process.poll() is None, run.said.read_text(encoding="utf-8")[-5000:]
        assert time.monotonic() < deadline
        time.sleep(0.5)


def group_of(log: Path) -> str:
    """The group of the profile that the job of a log belongs to, or its rule."""
    if log.parent.name == "explanations":
        return "tables" if log.stem.endswith(".measures") else "maps"
    if log.name == "attack.log":
        return "transfers" if log.parent.parent.name in DERIVED else "attack"
    return {"train": "train", "predictions": "predictions", "dataset": "data", "points": "data"}.get(log.stem, "summary")
