"""Judge the claims."""

from resilience import fork_server

fork_server.hand_over(start=False)

from typing import TYPE_CHECKING

from resilience import artifacts, claims, jobs, progress

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

progress.start(snakemake.log[0])
settings = jobs.settings_of(snakemake)
history = jobs.history_of(snakemake)
table = claims.judge(
    artifacts.read_table(snakemake.input[0]),
    *(settings[key] for key in ("lrp", "top_k", "confidence", "fixed_class", "matched_size", "noise")),
)
artifacts.write_table(snakemake.output[0], table, history)
progress.finish()
