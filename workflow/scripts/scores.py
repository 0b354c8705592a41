"""Put the ROAR and KAR scores of all explanations into one table."""

from resilience import fork_server

fork_server.hand_over(start=False)

from typing import TYPE_CHECKING

from resilience import artifacts, jobs, progress, score_table, scores

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

progress.start(snakemake.log[0])
settings = jobs.settings_of(snakemake)
history = jobs.history_of(snakemake)
retrained = artifacts.read_tables(snakemake.input)
scored = scores.with_scores(retrained, settings["shares"], settings["random"])
table = score_table.summarise(scored, settings["shares"], settings["roles"], settings["strengths"], settings["controls"])
artifacts.write_table(snakemake.output[0], table, history)
progress.finish()
