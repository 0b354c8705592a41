"""Measure what a network does around clean inputs, point by point."""

from resilience import fork_server

fork_server.hand_over()

from typing import TYPE_CHECKING

import torch

from resilience import artifacts, computing, jobs, posterior, progress, tables
from resilience.grid import CLEAN
from resilience.seeding import seed_of

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

progress.start(snakemake.log[0])
settings = jobs.settings_of(snakemake)
place = dict(snakemake.wildcards.items()) | {"attack": CLEAN}
place |= {key: int(snakemake.wildcards[key]) for key in ("seed", "draws")}
device = computing.prepare(snakemake.threads)
history = jobs.history_of(snakemake, computing.name_of(device))
network = posterior.load(snakemake.input.weights, place["draws"], settings["network"]).to(device)
points = artifacts.read_tensors(snakemake.input.points, ["x", "y", "index"])
x, y = torch.from_numpy(points["x"]).to(device), torch.from_numpy(points["y"]).to(device)
seed = seed_of(*snakemake.wildcards)


def generator() -> torch.Generator:
    """One for each measure, so that a new measure changes nothing of another."""
    return torch.Generator().manual_seed(seed)


known = {"posterior": network, "x": x, "y": y}
identity = {key: place[key] for key in tables.MODEL}
table = tables.table_of_clean(points["index"], settings["measures"], known, generator, identity)
artifacts.write_table(snakemake.output[0], table, history)
progress.finish()
