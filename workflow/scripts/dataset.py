"""Read or download a dataset and split it."""

from resilience import fork_server

fork_server.hand_over(start=False)

import json
from typing import TYPE_CHECKING

from resilience import artifacts, catalog, data, progress

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

progress.start(snakemake.log[0])
settings = json.loads(snakemake.params.recipe)["settings"]
name = snakemake.wildcards.dataset

source = catalog.load("datasets", settings["source"])(**catalog.options("datasets", settings))
arrays = data.split(source, settings["validation"], settings.get("train_points"), name)
artifacts.write_tensors(snakemake.output[0], arrays, {"dataset": name})
progress.finish()
