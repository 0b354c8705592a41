"""Take over the inputs that an attack made on another network."""

from resilience import fork_server

fork_server.hand_over(start=False)

from typing import TYPE_CHECKING

from resilience import artifacts, jobs, progress

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

progress.start(snakemake.log[0])
history = jobs.history_of(snakemake)
arrays = artifacts.read_tensors(snakemake.input[0], ["x", "zero_gradient"])
artifacts.write_tensors(snakemake.output[0], arrays, dict(snakemake.wildcards.items()), history)
progress.finish()
