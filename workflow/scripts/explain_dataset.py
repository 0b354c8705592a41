"""Explain every image of a dataset, the network's output alone."""

from resilience import fork_server

fork_server.hand_over()

from typing import TYPE_CHECKING

import torch

from resilience import artifacts, catalog, computing, data, explain, jobs, posterior, progress
from resilience.seeding import seed_of

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

progress.start(snakemake.log[0])
settings = jobs.settings_of(snakemake)
entry, layers = settings["explanation"], settings["layers"]
place = dict(snakemake.wildcards.items())
device = computing.prepare(snakemake.threads)
history = jobs.history_of(snakemake, computing.name_of(device))
network = posterior.load(snakemake.input.weights, int(place["draws"]), settings["network"]).to(device)
arrays = artifacts.read_tensors(snakemake.input.data)

explanation = catalog.bound("explanations", entry)
found = {}
for split in data.SPLITS:
    x = torch.from_numpy(data.unit_interval(arrays[f"{split}.x"])).to(device)
    y = torch.from_numpy(arrays[f"{split}.y"]).to(device)
    explained = explain.explained_classes(entry["explained"], network, x, x, y)
    seed = seed_of(*place.values(), split)
    maps = explain.explain(network, x, explained, explanation, layers, entry["over"], seed)
    found[f"{split}.relevance"] = maps[-1].cpu().numpy()
artifacts.write_tensors(snakemake.output[0], found, place, history)
progress.finish()
