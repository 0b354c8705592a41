"""Predict the test points and what an attack made of them, and measure what that changed."""

from resilience import fork_server

fork_server.hand_over()

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import torch

from resilience import artifacts, catalog, computing, jobs, posterior, progress, tables

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


def before_and_after(of: "Callable[[posterior.Posterior, torch.Tensor], torch.Tensor]") -> tuple[np.ndarray, np.ndarray]:
    """What the draws say together of the test points, and of what an attack made of them."""
    before, after = (of(network, torch.from_numpy(arrays["x"]).to(device)) for arrays in (points, attacked))
    return before.cpu().numpy(), after.cpu().numpy()


probabilities = before_and_after(posterior.predict)
asked = {name for entry in settings["measures"].values() for name in catalog.named("measures", entry).inputs}
logits = before_and_after(posterior.mean_logits) if asked & {"logits", "logits_attacked"} else None
identity = {key: place[key] for key in tables.MODEL}
table = tables.table_of_predictions(points, attacked, probabilities, settings["measures"], identity, logits)
artifacts.write_table(snakemake.output[0], table, history)
progress.finish()
