"""Compare the models pairwise."""

import json
from typing import TYPE_CHECKING

import pandas as pd

from resilience import artifacts, comparisons, progress

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

progress.start(snakemake.log[0])
settings = json.loads(snakemake.params.recipe)["settings"]
tables = pd.concat([artifacts.read_table(path) for path in snakemake.input], ignore_index=True)
result = comparisons.compare(tables, **settings)
artifacts.write_table(snakemake.output[0], result)
progress.finish()
