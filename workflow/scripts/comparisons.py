"""Compare the models pairwise."""

from resilience import fork_server

fork_server.hand_over(start=False)

from typing import TYPE_CHECKING

from resilience import artifacts, comparisons, jobs, progress, scores, tables

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

progress.start(snakemake.log[0])
settings = jobs.settings_of(snakemake)
history = jobs.history_of(snakemake)
measured = tables.gather(map(artifacts.read_table, snakemake.input.measured))
cancellation, networks = (
    artifacts.read_tables(snakemake.input[name]) if snakemake.input[name] else None for name in ("cancellation", "networks")
)
scored = None
if retraining := settings.pop("retraining"):
    retrained = artifacts.read_tables(snakemake.input.retrained)
    table = scores.with_scores(retrained, retraining["shares"], retraining["random"])
    about = {key: retraining[key] for key in ("explanations", "controls", "strengths")}
    scored = comparisons.Scored(table, **about)
result = comparisons.compare(measured, **settings, cancellation=cancellation, networks=networks, scored=scored)
artifacts.write_table(snakemake.output[0], result, history)
progress.finish()
