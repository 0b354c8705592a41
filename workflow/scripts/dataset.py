"""Read or download a dataset and split it."""

from resilience import fork_server

fork_server.hand_over(start=False)

from typing import TYPE_CHECKING

from resilience import artifacts, catalog, data, jobs, progress

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

progress.start(snakemake.log[0])
settings = jobs.settings_of(snakemake)
history = jobs.history_of(snakemake)
name = snakemake.wildcards.dataset

source = catalog.bound("datasets", settings)()
arrays = data.split(source, settings["validation"], settings.get("train_points"), name)
names = data.class_names_of(source.train.y, settings.get("class_names"), source.class_names, name)
artifacts.write_tensors(snakemake.output[0], arrays, {"dataset": name, **data.about_classes(names)}, history)
progress.finish()
