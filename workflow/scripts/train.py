"""Train a network and measure its clean accuracy."""

from resilience import fork_server

fork_server.hand_over()

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
import torch

from resilience import artifacts, catalog, computing, data, jobs, posterior, progress, sizes
from resilience.seeding import seed_of
from resilience.training import checkpoints
from resilience.training.fit import Task

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

#: Draws that the test accuracy of a posterior without a last draw is measured with.
DRAWS_FOR_ACCURACY = 100
#: Tensors that a distribution has of each weight: mean and standard deviation.
OF_A_DISTRIBUTION = 2

progress.start(snakemake.log[0])
settings = jobs.settings_of(snakemake)
place = snakemake.wildcards
device = computing.prepare(snakemake.threads)
history = jobs.history_of(snakemake, computing.name_of(device))
arrays = artifacts.read_tensors(snakemake.input.data)
start = posterior.load(snakemake.input.start, network=settings["network"]) if snakemake.input.start else None

seed = seed_of(place.dataset, place.network, place.training, place.seed)
learning = {name: array for name, array in arrays.items() if not name.startswith("test.")}
names = artifacts.read_about(snakemake.input.data).get(data.CLASS_NAMES)
task = Task.of(settings["network"], learning, seed, start, device, len(names) if names else None)
# Not an output: Snakemake deletes those of a job that failed, and this is what the next attempt goes on from.
kept = Path(snakemake.output.weights).with_name("checkpoint")
task = replace(task, checkpoints=kept, recipe=snakemake.params.recipe)
if not catalog.named("trainings", settings["training"]).traits.get("share"):
    sizes.refuse_draws(task.network(), catalog.stored_draws(settings["training"]) or OF_A_DISTRIBUTION)
fit = catalog.bound("trainings", settings["training"])(task=task)

weights = snakemake.output.weights
posterior.save(weights, fit.weights, fit.kind, task.about(), seed, history)
draws = DRAWS_FOR_ACCURACY if fit.kind == posterior.MEAN_FIELD else None
trained = posterior.load(weights, draws, settings["network"]).to(device)
test_x = torch.from_numpy(data.unit_interval(arrays["test.x"])).to(device)
accuracy = posterior.accuracy(trained, test_x, torch.from_numpy(arrays["test.y"]).to(device))
for warning in fit.warnings:
    progress.logger.warning("%s", warning)
artifacts.write_table(snakemake.output.history, pd.DataFrame(fit.history), history)
artifacts.write_json(
    snakemake.output.fit,
    {
        "test_accuracy": accuracy,
        "draws": len(trained),
        "parameters": sum(value.numel() for value in trained.network.parameters()),
        "diagnostics": fit.diagnostics,
        "warnings": fit.warnings,
    },
    history,
)
checkpoints.discard(kept)
progress.finish()
