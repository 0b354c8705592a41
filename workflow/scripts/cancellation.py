"""Measure how far the loss gradients of single draws cancel in their mean."""

from resilience import fork_server

fork_server.hand_over()

from typing import TYPE_CHECKING

import numpy as np
import torch

from resilience import artifacts, cancellation, computing, data, jobs, posterior, progress

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

progress.start(snakemake.log[0])
settings = jobs.settings_of(snakemake)
place = snakemake.wildcards
numbers = settings["draws"]
device = computing.prepare(snakemake.threads)
history = jobs.history_of(snakemake, computing.name_of(device))
network = posterior.load(snakemake.input.weights, numbers[-1], settings["network"]).to(device)
points = artifacts.read_tensors(snakemake.input.points)
x, y = torch.from_numpy(points["x"]).to(device), torch.from_numpy(points["y"]).to(device)
arrays = artifacts.read_tensors(snakemake.input.data)

if data.TANGENTS in arrays:
    tangents = torch.from_numpy(arrays[data.TANGENTS][points["index"]]).to(device)
else:
    train = torch.from_numpy(data.unit_interval(arrays["train.x"])).to(device)
    tangents = cancellation.tangent_spaces(x, train, settings["neighbours"], settings["dimensions"])
measures = cancellation.measure(network, x, y, tangents, numbers)
expected = measures.pop(cancellation.EXPECTED).float().view(len(numbers), *x.shape)
table = cancellation.table(
    points,
    numbers,
    {name: values.cpu().numpy() for name, values in measures.items()},
    cancellation.normal_share_by_chance(tangents),
    {"dataset": place.dataset, "network": place.network, "training": place.training, "seed": int(place.seed)},
)
artifacts.write_table(snakemake.output.table, table, history)
artifacts.write_tensors(
    snakemake.output.gradients,
    {"gradient": expected.cpu().numpy(), "draws": np.array(numbers), "x": points["x"], "y": points["y"]},
    {"dataset": place.dataset, "network": place.network, "training": place.training, "seed": place.seed},
    history,
)
progress.finish()
