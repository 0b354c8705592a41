"""Draw the published numbers beside those of the runs."""

from resilience import fork_server

fork_server.hand_over(start=False)

from typing import TYPE_CHECKING

from resilience import artifacts, jobs, progress
from resilience.figures import drawing
from resilience.figures.reproduction import reproduction

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

progress.start(snakemake.log[0])
settings = jobs.settings_of(snakemake)
history = jobs.history_of(snakemake)
figure = reproduction(artifacts.read_table(snakemake.input[0]), settings["runs"])
drawing.save(figure, snakemake.output, history)
progress.finish()
