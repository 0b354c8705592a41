"""Compare the models pairwise."""

from resilience import fork_server

fork_server.hand_over(start=False)

import json
from typing import TYPE_CHECKING

from resilience import artifacts, comparisons, progress

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

progress.start(snakemake.log[0])
settings = json.loads(snakemake.params.recipe)["settings"]
robustness = artifacts.read_tables(snakemake.input.robustness)
cancellation = artifacts.read_tables(snakemake.input.cancellation) if snakemake.input.cancellation else None
result = comparisons.compare(robustness, **settings, cancellation=cancellation)
artifacts.write_table(snakemake.output[0], result)
progress.finish()
