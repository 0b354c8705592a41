"""Predict the test points and what an attack made of them, and measure what that changed."""

from resilience import fork_server

fork_server.hand_over()

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

before, after = (
    posterior.predict(network, torch.from_numpy(arrays["x"]).to(device)).cpu().numpy() for arrays in (points, attacked)
)
identity = {key: place[key] for key in tables.MODEL}
table = tables.table_of_predictions(points, attacked, (before, after), settings["measures"], identity)
artifacts.write_table(snakemake.output[0], table, history)
progress.finish()
