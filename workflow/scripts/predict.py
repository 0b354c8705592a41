"""Predict the test points and what an attack made of them, and measure what that changed."""

from resilience import fork_server

fork_server.hand_over()

from pathlib import Path
from typing import TYPE_CHECKING

import torch

from resilience import artifacts, computing, jobs, posterior, progress, tables

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


def predicted(network: posterior.Posterior) -> tables.Probabilities:
    """By a network, before and after the attack."""
    before, after = (torch.from_numpy(arrays["x"]).to(device) for arrays in (points, attacked))
    return posterior.predict(network, before).cpu().numpy(), posterior.predict(network, after).cpu().numpy()


judges = {Path(path).parts[-3]: posterior.load(path, 1, settings["network"]) for path in snakemake.input.judges}
beside = {
    "learned": {Path(path).parts[-3]: path for path in snakemake.input.manifolds},
    "judgements": {training: predicted(judge.to(device)) for training, judge in judges.items()},
    "device": device,
}
identity = {key: place[key] for key in tables.MODEL}
table = tables.table_of_predictions(points, attacked, predicted(network), settings["measures"], identity, beside)
artifacts.write_table(snakemake.output[0], table, history)
progress.finish()
