"""Explain inputs by one LRP rule, every layer in one sweep."""

from resilience import fork_server

fork_server.hand_over()

from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from resilience import artifacts, catalog, computing, jobs, lrp, posterior, progress

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

progress.start(snakemake.log[0])
settings = jobs.settings_of(snakemake)
options, layers = settings["lrp"], settings["layers"]
place = dict(snakemake.wildcards.items())
device = computing.prepare(snakemake.threads)
history = jobs.history_of(snakemake, computing.name_of(device))
network = posterior.load(snakemake.input.weights, int(place["draws"]), settings["network"]).to(device)
x = torch.from_numpy(artifacts.read_tensors(snakemake.input.inputs, ["x"])["x"]).to(device)
clean = torch.from_numpy(artifacts.read_tensors(snakemake.input.points, ["x"])["x"]).to(device)

probabilities = posterior.predict(network, x)
explained = lrp.explained_classes(options["explained"], network, x, clean)
rule = catalog.load("lrp", options["rule"])(**catalog.options("lrp", options))
rule = replace(rule, by_slope=options["activations"] == "slope")
maps = lrp.heat_maps(network, x, explained, rule, layers, options["unit"], options["start"])
for (layer, relevance), path in zip(maps.items(), snakemake.output.maps, strict=True):
    artifacts.write_tensors(path, {"relevance": relevance.cpu().numpy()}, {**place, "layer": layer}, history)
artifacts.write_tensors(
    snakemake.output.explained,
    {"probabilities": probabilities.cpu().numpy(), "explained": explained.cpu().numpy()},
    place,
    history,
)
progress.finish()
