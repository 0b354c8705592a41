"""Predict the test points and what an attack made of them, and measure what that changed."""

from resilience import fork_server

fork_server.hand_over()

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from resilience import artifacts, catalog, computing, jobs, posterior, progress, tables
from resilience.posterior import Posterior, mean_logits, predict

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

progress.start(snakemake.log[0])
settings = jobs.settings_of(snakemake)
place = dict(snakemake.wildcards.items()) | {key: int(snakemake.wildcards[key]) for key in ("seed", "draws")}
device = computing.prepare(snakemake.threads)
history = jobs.history_of(snakemake, computing.name_of(device))
network = posterior.load(snakemake.input.weights, place["draws"], settings["network"]).to(device)
points = artifacts.read_tensors(snakemake.input.points, ["x", "y", "index"])
attacked = artifacts.read_tensors(snakemake.input.attacked, ["x", "zero_gradient"])


def said(of: "Callable[[Posterior, torch.Tensor], torch.Tensor]", network: Posterior) -> tables.Probabilities:
    """By the draws of a network together, before and after the attack."""
    before, after = (of(network, torch.from_numpy(arrays["x"]).to(device)) for arrays in (points, attacked))
    return before.cpu().numpy(), after.cpu().numpy()


judges = {Path(path).parts[-3]: posterior.load(path, 1, settings["network"]) for path in snakemake.input.judges}
beside = {
    "learned": {Path(path).parts[-3]: path for path in snakemake.input.manifolds},
    "judgements": {training: said(predict, judge.to(device)) for training, judge in judges.items()},
    "device": device,
}
if {"logits", "logits_attacked"} & {
    name for entry in settings["measures"].values() for name in catalog.named("measures", entry).inputs
}:
    beside["logits"], beside["logits_attacked"] = said(mean_logits, network)
identity = {key: place[key] for key in tables.MODEL}
table = tables.table_of_predictions(points, attacked, said(predict, network), settings["measures"], identity, beside)
artifacts.write_table(snakemake.output[0], table, history)
progress.finish()
