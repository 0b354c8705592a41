"""Compare the models pairwise."""

import json
from typing import TYPE_CHECKING

import pandas as pd

from resilience import artifacts, comparisons, progress

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake


def read_tables(paths: list[str]) -> pd.DataFrame:
    """Tables under one another."""
    return pd.concat(map(artifacts.read_table, paths), ignore_index=True)


progress.start(snakemake.log[0])
settings = json.loads(snakemake.params.recipe)["settings"]
robustness = read_tables(snakemake.input.robustness)
cancellation = read_tables(snakemake.input.cancellation) if snakemake.input.cancellation else None
result = comparisons.compare(robustness, **settings, cancellation=cancellation)
artifacts.write_table(snakemake.output[0], result)
progress.finish()
