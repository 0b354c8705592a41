"""Train networks again on what an explanation leaves of the images, and see which test images they classify rightly."""

from resilience import fork_server

fork_server.hand_over()

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from resilience import artifacts, computing, data, jobs, posterior, progress, retraining
from resilience.training import checkpoints

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

progress.start(snakemake.log[0])
settings = jobs.settings_of(snakemake)
place = dict(snakemake.wildcards.items())
by = settings["by"]
device = computing.prepare(snakemake.threads)
history = jobs.history_of(snakemake, computing.name_of(device))
arrays = artifacts.read_tensors(snakemake.input.data)
relevance = artifacts.read_tensors(snakemake.input.relevance)
explained = posterior.load(snakemake.input.weights, int(place["draws"]), settings["network"]).to(device)
names = artifacts.read_about(snakemake.input.data).get(data.CLASS_NAMES)
classes = len(names) if names else int(arrays["train.y"].max()) + 1

# Not an output: Snakemake deletes those of a job that failed, and this is what the next attempt goes on from.
kept = Path(snakemake.output[0]).with_name("checkpoint")
learn = retraining.Retraining(
    settings["learns"]["network"], settings["learns"]["training"], classes, device, kept, snakemake.params.recipe
)
seeds = retraining.seeds_of(place, by, settings["repeats"])
found = retraining.retrain(arrays, relevance, settings["shares"], seeds, learn, list(place.values()))
identity = {
    **{key: place[key] for key in ("dataset", "network", "training")},
    **{key: int(place[key]) for key in ("seed", "draws")},
    "explanation": place["explanation"],
}
table = pd.DataFrame(
    {
        **identity,
        "index": np.arange(len(arrays["test.y"])),
        "label": arrays["test.y"],
        "right": retraining.right(explained, arrays, device),
        **found,
    }
)
artifacts.write_table(snakemake.output[0], table, history)
checkpoints.discard(kept)
progress.finish()
