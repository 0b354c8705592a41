"""Make a dataset from another one: the same splits and labels, with images that are changed."""

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

source = artifacts.read_tensors(snakemake.input.source)
relevance = artifacts.read_tensors(snakemake.input.relevance) if snakemake.input.relevance else {}
arrays = data.derive(source, relevance, catalog.bound("datasets", settings), name)
known = artifacts.read_about(snakemake.input.source).get(data.CLASS_NAMES)
names = data.class_names_of(arrays["train.y"], settings.get("class_names"), known, name)
artifacts.write_tensors(snakemake.output[0], arrays, {"dataset": name, **data.about_classes(names)}, history)
progress.finish()
