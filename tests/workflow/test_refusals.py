"""What cannot work is refused before any job, in lines that a person can act on."""

from __future__ import annotations


def test_a_layer_that_does_not_exist_is_no_target(finished):
    target = "results/digits/fc2/det/seed0/clean/n1/lrp/epsilon/layer4.safetensors"
    done = finished.snakemake("-n", "--", target, check=False)
    assert done.returncode != 0
    assert target in done.stdout + done.stderr
