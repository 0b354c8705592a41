"""Say what each attack did to each network."""

from resilience import fork_server

fork_server.hand_over(start=False)

from typing import TYPE_CHECKING

from resilience import artifacts, jobs, progress, tables
from resilience.outcomes import outcomes

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

progress.start(snakemake.log[0])
settings = jobs.settings_of(snakemake)
history = jobs.history_of(snakemake)
artifacts.write_table(
    snakemake.output[0], outcomes(tables.gather(map(artifacts.read_table, snakemake.input)), **settings), history
)
progress.finish()
