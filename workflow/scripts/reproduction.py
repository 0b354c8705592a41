"""Put the published numbers beside those of the runs."""

from resilience import fork_server

fork_server.hand_over(start=False)

from typing import TYPE_CHECKING

import pandas as pd

from resilience import artifacts, jobs, progress, reproduction
from resilience.tables import gather

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

progress.start(snakemake.log[0])
settings = jobs.settings_of(snakemake)
history = jobs.history_of(snakemake)
measured = {run: gather(map(artifacts.read_table, snakemake.input[f"{run}_run"])) for run in ("paper", "published")}
published = pd.read_csv(snakemake.input.published, keep_default_na=False, dtype={"layer": "str"})
artifacts.write_table(snakemake.output[0], reproduction.compare(published, measured, settings["measure"]), history)
progress.finish()
