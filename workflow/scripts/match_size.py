"""Shrink an attack image by image to the size that it has on another network."""

from resilience import fork_server

fork_server.hand_over(start=False)

from typing import TYPE_CHECKING

from resilience import artifacts, catalog, jobs, progress
from resilience.attacks.matched import match_size

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

progress.start(snakemake.log[0])
points = artifacts.read_tensors(snakemake.input.points, ["x"])
own, others = (artifacts.read_tensors(path, ["x", "zero_gradient"]) for path in snakemake.input.attacked)
settings = jobs.settings_of(snakemake)["attack"]
history = jobs.history_of(snakemake)
x = match_size(points["x"], own["x"], others["x"], **catalog.options("attacks", settings))
artifacts.write_tensors(
    snakemake.output[0], {"x": x, "zero_gradient": own["zero_gradient"]}, dict(snakemake.wildcards.items()), history
)
progress.finish()
