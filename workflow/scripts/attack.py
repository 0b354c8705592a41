"""Attack the test points through a network."""

from resilience import fork_server

fork_server.hand_over()

from typing import TYPE_CHECKING

import torch

from resilience import artifacts, catalog, computing, jobs, posterior, progress
from resilience.attacks.ball import refuse_no_images
from resilience.attacks.gradient import LossGradient, Objective
from resilience.networks import image_shape
from resilience.seeding import seed_of

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

progress.start(snakemake.log[0])
recipe = jobs.settings_of(snakemake)
settings = recipe["attack"]
place = snakemake.wildcards
device = computing.prepare(snakemake.threads)
history = jobs.history_of(snakemake, computing.name_of(device))
predicting = int(place.draws)
others = catalog.other_draws(settings)
network = posterior.load(snakemake.input.weights, predicting + others, recipe["network"]).to(device)
# Whoever attacks has the draws of the prediction, or others.
network = network.part(predicting, predicting + others) if others else network
points = artifacts.read_tensors(snakemake.input.points)
x, y = torch.from_numpy(points["x"]).to(device), torch.from_numpy(points["y"]).to(device)

generator = torch.Generator().manual_seed(seed_of(*place))
attacked = catalog.bound("attacks", settings)(posterior=network, x=x, y=y, generator=generator)
refuse_no_images(attacked)
objective: Objective = catalog.value_in("attacks", settings, "objective") or "likelihood"
gradient = LossGradient(network, image_shape(x), objective)(x, y)
artifacts.write_tensors(
    snakemake.output[0],
    {"x": attacked.cpu().numpy(), "zero_gradient": (gradient == 0).flatten(1).all(1).cpu().numpy()},
    dict(place.items()),
    history,
)
progress.finish()
