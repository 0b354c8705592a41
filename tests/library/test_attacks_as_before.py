"""Attacks whose entries are older than the loop that they are made of give what they gave before it, bit for bit."""

from __future__ import annotations

import hashlib

import pytest
import torch

from resilience import catalog
from resilience.posterior import predict
from tests.conftest import double_network, noisy_posterior
from tests.library.lrp_stacks import STACKS, images

#: Entries, and SHA-256 of the images that they made before there was a loop. In double precision with steps along signs, so
#: that no rounding of another processor changes them.
BEFORE: list[tuple[dict[str, object], str]] = [
    (
        {"method": "fgsm", "epsilon": 0.1, "objective": "likelihood"},
        "4150bcda85f101308307499ce99e065527bd79668f6936b321a71040cf5ecb41",
    ),
    (
        {"method": "fgsm", "epsilon": 0.1, "objective": "margin"},
        "2c2d673fef679d6d361ea897ec2837e274068ff278178a10e2b7dda3945ea7da",
    ),
    (
        {"method": "fgsm", "epsilon": 0.1, "objective": "saturating"},
        "4150bcda85f101308307499ce99e065527bd79668f6936b321a71040cf5ecb41",
    ),
    (
        {"method": "pgd", "epsilon": 0.1, "objective": "likelihood"},
        "33ba7758afa030451742b4dcd658de697efd42b92ad03252d9412d253758248d",
    ),
    (
        {"method": "pgd", "epsilon": 0.1, "objective": "margin"},
        "956f357d2e9f6350eebae844933112bea7ce468642957ac64f4c3519a6f5336a",
    ),
    (
        {"method": "pgd", "epsilon": 0.1, "objective": "saturating"},
        "33ba7758afa030451742b4dcd658de697efd42b92ad03252d9412d253758248d",
    ),
    (
        {"method": "pgd", "epsilon": 0.1, "steps": 7, "step_size": 0.03},
        "175611c860819783b78e76b582f64bd38cdf1385f6acc16f993d84535e23bb80",
    ),
    (
        {"method": "square", "epsilon": 0.1},
        "fef2b6f6309eef8cd64dd0364c4faba667d7149225a5e02e30e44a718beee570",
    ),
    (
        {"method": "square", "epsilon": 0.2, "queries": 30, "share": 0.5},
        "62eea11f5f71f9bdd5e72b35dd957a8db1c21dfd156f490c14defe2499006db5",
    ),
    (
        {"method": "noise", "epsilon": 0.1},
        "3f5985d2347c40d82a03838ba3740aca394574eb287e7cd41d604f8d8a86302d",
    ),
    (
        {"method": "mean_of_attacks", "attack": {"method": "pgd", "epsilon": 0.1, "steps": 5}},
        "d4fa4af6cde219f29b94129abd74f208f8d4946d8d3575f35ab5f0fd8b9a7a12",
    ),
    (
        {"method": "saliency_top_k", "epsilon": 0.1},
        "f2bab95bc0964d0cd3488de074a3edc9a98ab4e4fb0719af4ec268eb8c4843ac",
    ),
    (
        {"method": "saliency_top_k", "epsilon": 0.2, "restarts": 2, "steps": 5, "step_size": 0.05, "top_k": 30},
        "0305446fa3d5e079e04c9b3983165b220b809080f2327eddac9a85c2fde43a42",
    ),
    (
        {"method": "saliency_region", "epsilon": 0.1, "region": 30},
        "716db275485c50fdbb8b1236e7c679661c5b80a2b126be70832c6eb905966bcd",
    ),
    (
        {"method": "saliency_target", "epsilon": 0.1, "prediction_weight": 0.5},
        "a2e8e8291248aab1e38cca76095f3990aae17d8dac2ec859b499371183c10094",
    ),
]


@pytest.mark.parametrize(("entry", "digest"), BEFORE, ids=lambda part: str(part) if isinstance(part, dict) else "")
def test_an_old_entry_makes_the_images_of_before(entry, digest):
    build, shape = STACKS["conv"]
    posterior, x = noisy_posterior(double_network(build(True), 0), 3), images(shape, 0, count=8)
    y = predict(posterior, x).argmax(1)
    make = catalog.bound("attacks", entry)
    found = make(posterior=posterior, x=x, y=y, generator=torch.Generator().manual_seed(0))
    assert hashlib.sha256(found.numpy().tobytes()).hexdigest() == digest
