"""Explain inputs, every layer that the explanation has in one sweep."""

from resilience import fork_server

fork_server.hand_over()

from typing import TYPE_CHECKING

import torch

from resilience import artifacts, catalog, computing, explain, jobs, posterior, progress
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
x = torch.from_numpy(artifacts.read_tensors(snakemake.input.inputs, ["x"])["x"]).to(device)
points = artifacts.read_tensors(snakemake.input.points, ["x", "y"])
clean, y = (torch.from_numpy(points[name]).to(device) for name in ("x", "y"))

probabilities = posterior.predict(network, x)
explained = explain.explained_classes(entry["explained"], network, x, clean, y)
explanation = catalog.bound("explanations", entry)
maps = explain.explain(network, x, explained, explanation, layers, entry["over"], seed_of(*place.values()))
for relevance, layer, path in zip(maps, layers[-len(maps) :], snakemake.output.maps, strict=True):
    artifacts.write_tensors(path, {"relevance": relevance.cpu().numpy()}, {**place, "layer": layer}, history)
artifacts.write_tensors(
    snakemake.output.explained,
    {"probabilities": probabilities.cpu().numpy(), "explained": explained.cpu().numpy()},
    place,
    history,
)
progress.finish()
