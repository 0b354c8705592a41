"""Judge the claims."""

from resilience import fork_server

fork_server.hand_over(start=False)

import json
from typing import TYPE_CHECKING

from resilience import artifacts, claims, progress

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

progress.start(snakemake.log[0])
settings = json.loads(snakemake.params.recipe)["settings"]
table = claims.judge(
    artifacts.read_table(snakemake.input[0]),
    *(settings[key] for key in ("lrp", "top_k", "confidence", "fixed_class", "matched_size")),
)
artifacts.write_table(snakemake.output[0], table)
progress.finish()
