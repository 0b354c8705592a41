"""Measure what an attack leaves of an explanation, point by point."""

from resilience import fork_server

fork_server.hand_over(start=False)

from typing import TYPE_CHECKING

import pandas as pd

from resilience import artifacts, jobs, progress, tables

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

progress.start(snakemake.log[0])
settings = jobs.settings_of(snakemake)
history = jobs.history_of(snakemake)
place = dict(snakemake.wildcards.items()) | {key: int(snakemake.wildcards[key]) for key in ("seed", "draws")}
identity = {key: place[key] for key in (*tables.MODEL, "explanation")}
index = artifacts.read_tensors(snakemake.input.points, ["index"])["index"]
of_layers = []
for clean, attacked in zip(snakemake.input.clean, snakemake.input.attacked, strict=True):
    before, after = (artifacts.read_tensors(path, ["relevance"])["relevance"] for path in (clean, attacked))
    here = identity | {"layer": artifacts.read_about(clean)["layer"]}
    of_layers.append(tables.table_of_maps(index, before, after, settings["measures"], here))
artifacts.write_table(snakemake.output[0], pd.concat(of_layers, ignore_index=True), history)
progress.finish()
