"""Results in an S3 bucket, served on loopback: the bytes of a local run, and exact reruns."""

from __future__ import annotations

import hashlib
import logging
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import boto3
import numpy as np
import pytest
from moto.server import ThreadedMotoServer

from tests.conftest import ROOT
from tests.workflow.conftest import Project, copy_project, one_of_each, outputs_of
from tests.workflow.test_reruns import CHANGES, setting

COMMAND = "snakemake --cores 2 --default-storage-provider s3 --default-storage-prefix s3://my-bucket"
OPTIONS = COMMAND.split()[1:]


@dataclass(frozen=True)
class Bucket:
    """A bucket, and where its objects lie."""

    name: str
    endpoint: str

    def digests(self) -> dict[str, str]:
        """The digest of every object under results/."""
        found = self.objects().objects.filter(Prefix="results/")
        return {each.key: hashlib.sha256(each.get()["Body"].read()).hexdigest() for each in found}

    def objects(self) -> Any:
        return boto3.resource("s3", endpoint_url=self.endpoint).Bucket(self.name)

    def planned(self, project: Project, *targets: str) -> set[str]:
        """The keys of what a run would make."""
        plan = project.snakemake("-n", *OPTIONS, "--", *targets).stdout
        return {output.removeprefix(f"s3://{self.name}/").split()[0] for output in outputs_of(plan)}


@pytest.fixture(scope="module")
def bucket() -> Iterator[Bucket]:
    """A bucket that lasts as long as these tests, and in the environment what gives access to it."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    endpoint = "http://{}:{}".format(*server.get_host_and_port())
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SNAKEMAKE_STORAGE_S3_ENDPOINT_URL", endpoint)
        for name in ("SNAKEMAKE_STORAGE_S3_ACCESS_KEY", "SNAKEMAKE_STORAGE_S3_SECRET_KEY"):
            patch.setenv(name, "pretend")
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            patch.setenv(name, "pretend")
        bucket = Bucket("my-bucket", endpoint)
        bucket.objects().create()
        yield bucket
    server.stop()


@pytest.fixture(scope="module")
def stored(bucket, tmp_path_factory) -> Project:
    """A finished run on two cores, with its results in the bucket."""
    project = one_of_each(tmp_path_factory.mktemp("stored"))
    project.snakemake(*OPTIONS, "--quiet", "rules")
    return project


def test_the_command_is_the_one_of_the_page():
    assert COMMAND in (ROOT / "docs/cluster.md").read_text(encoding="utf-8")


@pytest.fixture
def local(on_one_core, tmp_path) -> Project:
    """The same on one core and without the bucket."""
    return on_one_core.copied(tmp_path / "local")


def test_a_bucket_holds_the_bytes_of_a_local_run_and_a_change_reruns_what_it_affects(bucket, stored, local):
    before = local.digests()
    assert bucket.digests() == before
    assert not any((stored.folder / "results").rglob("*"))
    assert bucket.planned(stored) == set()
    # Without Snakemake's records, the objects are asked what made them.
    records = stored.folder / ".snakemake/metadata"
    records.rename(records.with_name("kept"))
    assert bucket.planned(stored) == set()
    setting("attacks/margin/epsilon", 0.2)(local)
    config = stored.config()
    stored.write_config(local.config())
    asked, alike = bucket.planned(stored), local.planned()
    stored.write_config(config)
    local.write_config(config)
    assert asked == alike != set()
    shutil.rmtree(stored.folder / ".snakemake/storage")
    shutil.rmtree(records, ignore_errors=True)
    records.with_name("kept").rename(records)
    change, _ = CHANGES["a figure's colour"]
    for project in (stored, local):
        change(project)
    assert bucket.planned(stored) == local.planned()
    local.snakemake("--cores", "2", "--quiet", "rules")
    said = stored.snakemake(*OPTIONS, "--quiet", "rules").stderr
    assert bucket.digests() == local.digests() != before
    for line in ("Figures: s3://my-bucket/results/figures", "Report:  s3://my-bucket/results/report.html"):
        assert line in said


def test_a_job_that_fails_leaves_its_log_here(bucket, tmp_path):
    project = copy_project(tmp_path)
    project.write_config(project.config() | {"results": "results/failing"})
    target = "results/failing/digits/fc2/det/seed0/weights.safetensors"
    project.snakemake(*OPTIONS, "--quiet", "rules", "--", "results/failing/digits/data.safetensors")
    data = bucket.objects().Object("results/failing/digits/data.safetensors")
    data.put(Body=data.get()["Body"].read()[:-1] + b"!")
    done = project.snakemake(*OPTIONS, "--quiet", "rules", "--", target, check=False)
    assert done.returncode
    last = done.stderr.strip().splitlines()[-2:]
    assert re.fullmatch(r"Failed: ArtifactError: .*data\.safetensors: is damaged.*", last[0])
    assert "Traceback" in (project.folder / last[1].removeprefix("  Log: ")).read_text(encoding="utf-8")
    assert target not in bucket.digests()


def test_files_of_the_users_own_are_read_from_where_they_lie(bucket, tmp_path):
    project = copy_project(tmp_path)
    x, labels = np.zeros((40, 8, 8), np.uint8), np.arange(40) % 2
    np.savez(tmp_path / "own.npz", x_train=x, y_train=labels, x_test=x, y_test=labels)
    config = project.config()
    config["datasets"]["own"] = {"source": "npz", "file": "own.npz", "test_points": 20}
    project.write_config(config)
    project.snakemake(*OPTIONS, "--quiet", "rules", "--", "results/own/data.safetensors")
    assert "results/own/data.safetensors" in bucket.digests()
    assert bucket.planned(project, "results/own/data.safetensors") == set()
