"""Put the mean of every measure of every explanation into one table."""

from resilience import fork_server

fork_server.hand_over(start=False)

from typing import TYPE_CHECKING

from resilience import artifacts, jobs, progress, summary

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

progress.start(snakemake.log[0])
settings = jobs.settings_of(snakemake)
history = jobs.history_of(snakemake)
table = summary.summarise(map(artifacts.read_table, snakemake.input), settings["measures"])
artifacts.write_table(snakemake.output[0], table, history)
progress.finish()
