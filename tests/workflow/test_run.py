"""The run itself: byte-identical files, named targets, single files, and what is said when it ends."""

from __future__ import annotations

import os
import re
import time

import pandas as pd
import pytest

from tests.workflow.conftest import copy_project
from tests.workflow.test_refusals import flip_a_bit


def test_one_core_and_two_give_the_same_bytes(finished, on_one_core):
    """Here those of each network; a bucket filled on two cores is compared with the tables, figures and pages as well."""
    found = {path: digest for path, digest in on_one_core.digests().items() if path.startswith("results/digits/")}
    assert len(found) > 80
    assert found.items() <= finished.digests().items()


def test_noise_is_no_attack_among_the_claims(finished):
    claims = pd.read_csv(finished.folder / "results/claims.csv")
    assert set(claims[claims["attack"] == "noise"]["claim"]) == {"under_noise"}
    assert set(claims[claims["attack"] == "matched"]["claim"]) == {"equally_far"}


def test_jobs_on_their_own_give_the_same_bytes_as_forks_of_a_warm_process(finished, tmp_path):
    other = copy_project(tmp_path / "other")
    common = other.folder / "Snakefile"
    common.write_text(common.read_text(encoding="utf-8").replace("if workflow.local_exec:", "if False:"), encoding="utf-8")
    targets = [
        "results/digits/fc2/hmc/seed0/pgd/n4/explanations/gamma/measures.csv",
        "results/digits/fc2/hmc/seed0/pgd/n4/predictions.csv",
        "results/digits/conv/svi/seed1/fgsm/n4/explanations/epsilon/layer3.safetensors",
    ]
    other.snakemake("--cores", "2", "--quiet", "rules", "--", *targets)
    found = other.digests()
    assert set(targets) < set(found)
    assert found.items() <= finished.digests().items()


def test_any_single_file_can_be_asked_for(tmp_path):
    project = copy_project(tmp_path / "project")
    target = "results/digits/fc2/det/seed1/clean/n1/explanations/gamma/layer3.safetensors"
    planned = project.planned(target)
    assert target in planned
    assert {re.sub(r"seed\d/", "", path) for path in planned if "/fc2/" not in path} == {
        "results/digits/data.safetensors",
        "results/digits/points.safetensors",
    }
    assert all("fc2/det/seed1" in path for path in planned if "/fc2/" in path)


@pytest.mark.parametrize(
    ("target", "pattern"),
    [
        ("weights", r"weights\.safetensors|history\.csv|fit\.json"),
        ("attacks", r"inputs\.safetensors"),
        ("explanations", r"explanations/\w+/(layer\d|explained)\.safetensors"),
        ("figures", r"figures/\w+\.(png|pdf)"),
        ("claims", r"claims\.csv"),
        ("datasets", r"data\.safetensors"),
        ("points", r"points\.safetensors"),
        ("measures", r"explanations/\w+/measures\.csv|predictions\.csv"),
        ("outcomes", r"outcomes\.csv"),
        ("summary", r"results/measures\.csv"),
        ("report", r"report\.html"),
        ("explore", r"explore/\w+\.html"),
        ("fig03", r"figures/fig03\.(png|pdf)"),
    ],
)
def test_named_targets(target, pattern, tmp_path, everything):
    planned = copy_project(tmp_path / "project").planned(target)
    wanted = {path for path in everything if re.search(pattern, path)}
    assert wanted
    assert wanted <= planned


#: What a newcomer may ask for by the name of its stage.
STAGES = {
    *("datasets", "points", "weights", "attacks", "explanations", "measures", "outcomes", "comparisons", "claims"),
    *("summary", "figures", "explore", "report"),
}


def test_list_reads_as_a_table_of_contents(finished):
    said = finished.snakemake("--list-target-rules").stdout
    listed = dict(re.findall(r"^(\w+) \((.+)\)$", said, flags=re.M))
    assert len(listed) == len(said.strip().splitlines())
    assert set(listed) == STAGES | {"all", "times", "verify", "history"} | set(finished.config()["figures"])
    assert all(description.endswith(".") for description in listed.values())
    assert "layer" in listed["fig01"]


def test_the_end_of_a_run_says_where_things_lie(finished):
    (finished.folder / "results/report.html").touch()
    said = finished.snakemake("--cores", "1", "--forcerun", "report", "--quiet", "rules", "--", "report").stderr
    places = {"Figures": "figures", "Claims": "claims.csv", "Report": "report.html", "Explore": "explore"}
    for name, place in places.items():
        assert f"{name}:".ljust(8) + f" results/{place}" in said


def test_a_failed_job_ends_with_its_cause_and_names_its_log(again):
    target, data = "results/digits/fc2/det/seed0/weights.safetensors", again.folder / "results/digits/data.safetensors"
    flip_a_bit(data)
    (again.folder / target).unlink()
    done = again.snakemake("--cores", "1", "--quiet", "rules", "--", target, check=False)
    assert done.returncode != 0
    last = done.stderr.strip().splitlines()[-2:]
    assert last[0].startswith("Failed: ArtifactError: results/digits/data.safetensors: ")
    assert last[1] == "  Log: logs/digits/fc2/det/seed0/train.log"
    assert "Traceback" in (again.folder / "logs/digits/fc2/det/seed0/train.log").read_text(encoding="utf-8")
    assert not (again.folder / target).exists()


@pytest.mark.parametrize("order", [1, -1])
def test_of_what_slurm_said_of_a_killed_job_the_most_telling_is_repeated(order, again):
    """Slurm's daemons write into the log of a submission in any order."""
    said = ["Exceeded job memory limit", "StepId=2.0 exceeded memory limit (762437632 > 419430400), being killed"][::order]
    log = again.folder / ".snakemake/slurm_logs/rule_train/2.log"
    log.parent.mkdir(parents=True)
    killed = "logs/digits/fc2/killed/seed0/train.log"
    log.write_text(
        f"localrule train:\n    log: {killed}\n" + "".join(f"slurmstepd-node: error: {line}\n" for line in said),
        encoding="utf-8",
    )
    in_this_run = time.time() + 3600
    os.utime(log, (in_this_run, in_this_run))
    target = again.folder / "results/digits/points.safetensors"
    flip_a_bit(again.folder / "results/digits/data.safetensors")
    target.unlink()
    done = again.snakemake("--cores", "1", "--quiet", "rules", "--", "results/digits/points.safetensors", check=False)
    assert done.returncode != 0
    assert f"Failed: Slurm killed the job: {max(said, key=len)}\n  Log: {killed}\n" in done.stderr


def test_poor_chains_are_warned_of_in_log_and_report(finished):
    log = (finished.folder / "logs/digits/fc2/hmc/seed0/train.log").read_text(encoding="utf-8")
    assert "WARNING" in log
    assert "Read with care" in (finished.folder / "results/report.html").read_text(encoding="utf-8")


def test_each_job_computes_on_one_of_several_devices(finished, tmp_path):
    """Pretend devices: the jobs are given them, find that PyTorch cannot use them, and say so."""
    project = copy_project(tmp_path / "project")
    targets = [f"results/digits/fc2/{training}/seed0/weights.safetensors" for training in ("hmc", "nuts")]
    project.snakemake("--cores", "2", "--resources", "gpu=2", "--", *targets, CUDA_VISIBLE_DEVICES="3,7")
    logs = [path.read_text(encoding="utf-8") for path in (project.folder / "logs/digits/fc2").rglob("train.log")]
    assert len(logs) == 3
    assert all(re.search(r"was given device [37], but", log) for log in logs)
    assert {target: project.digests()[target] for target in targets} == {
        target: finished.digests()[target] for target in targets
    }


def test_results_can_lie_elsewhere(finished, tmp_path):
    project = copy_project(tmp_path / "project")
    config = project.config()
    config["results"] = "results/small"
    project.write_config(config)
    project.snakemake("--cores", "1", "--quiet", "rules", "--", "results/small/digits/points.safetensors")
    same = finished.digests()["results/digits/points.safetensors"]
    assert project.digests()["results/small/digits/points.safetensors"] == same
    assert (project.folder / "logs/small/digits/points.log").exists()


def test_the_report_draws_the_rules_that_lead_to_it(finished):
    text = (finished.folder / "results/report.html").read_text(encoding="utf-8")
    drawn = set(re.findall(r"<text[^>]*>(\w+)</text>", text))
    assert drawn == {
        *("dataset", "choose_points", "train", "attack", "transfer", "match_size", "explain_conv", "explain_fc2"),
        *("measure", "predict", "outcomes", "comparisons", "claims", "figure", "report"),
    }


def test_run_times_follow_the_last_run_and_no_result_follows_them(again, finished):
    again.snakemake("--cores", "1", "--quiet", "rules", "--", "times")
    page = again.folder / "logs/times.html"
    before, log = page.read_text(encoding="utf-8"), again.folder / "logs/digits/fc2/det/seed0/train.tsv"
    assert again.planned("times") == set()
    lines = log.read_text(encoding="utf-8").splitlines()
    log.write_text("\n".join([lines[0], "\t".join(["4321.0", *lines[1].split("\t")[1:]]), ""]), encoding="utf-8")
    assert again.planned() == set()
    assert again.planned("times") == {"logs/times.html"}
    again.snakemake("--cores", "1", "--quiet", "rules", "--", "times")
    assert "4321.0" in page.read_text(encoding="utf-8")
    assert "4321.0" not in before
    assert again.digests() == finished.digests()


def test_snakemakes_own_report_shows_figures_tables_and_pages_without_a_network(finished, tmp_path):
    nowhere = {"http_proxy": "http://127.0.0.1:9", "https_proxy": "http://127.0.0.1:9"}
    finished.snakemake("--report", str(tmp_path / "report.html"), **nowhere)
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    for label in ("Figures", "Tables", "Pages", "explore by_rules", "How LRP robustness is counted"):
        assert label in text
