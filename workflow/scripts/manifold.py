"""Learn the manifold of a dataset from its training images."""

from resilience import fork_server

fork_server.hand_over()

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
import torch

from resilience import artifacts, catalog, computing, data, jobs, progress
from resilience.manifolds import saving
from resilience.manifolds.manifold import Learned
from resilience.manifolds.pictures import of_every_class, pictures
from resilience.seeding import seed_of
from resilience.training import checkpoints
from resilience.training.fit import Task

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

progress.start(snakemake.log[0])
settings = jobs.settings_of(snakemake)["manifold"]
place = snakemake.wildcards
device = computing.prepare(snakemake.threads)
history = jobs.history_of(snakemake, computing.name_of(device))
arrays = artifacts.read_tensors(snakemake.input.data)

seed = seed_of("manifold", place.dataset, place.manifold, place.seed)
learning = {name: array for name, array in arrays.items() if not name.startswith("test.")}
task = Task.of(settings, learning, seed, None, device)
# Not an output: Snakemake deletes those of a job that failed, and this is what the next attempt goes on from.
kept = Path(snakemake.output.manifold).with_name("checkpoint")
task = replace(task, checkpoints=kept, recipe=snakemake.params.recipe)
learned: Learned = catalog.bound("manifolds", settings)(task=task)

about = dict(place.items())
saving.save(snakemake.output.manifold, learned.manifold, seed_of(seed, "draws"), about, history)
artifacts.write_table(snakemake.output.history, pd.DataFrame(learned.history), history)
shown = of_every_class(arrays["test.y"])
test_x = torch.from_numpy(data.unit_interval(arrays["test.x"][shown])).to(device)
artifacts.write_tensors(snakemake.output.pictures, pictures(learned.manifold, test_x, shown, seed), about, history)
checkpoints.discard(kept)
progress.finish()
