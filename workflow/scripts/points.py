"""Choose the test points."""

from resilience import fork_server

fork_server.hand_over(start=False)

from typing import TYPE_CHECKING

from resilience import artifacts, data, jobs, progress

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

progress.start(snakemake.log[0])
settings = jobs.settings_of(snakemake)
history = jobs.history_of(snakemake)
name = snakemake.wildcards.dataset

test = artifacts.read_tensors(snakemake.input[0], ["test.x", "test.y"])
index = data.balanced_points(test["test.y"], settings["count"], settings["chosen_as"], "points")
artifacts.write_tensors(
    snakemake.output[0],
    {"x": data.unit_interval(test["test.x"][index]), "y": test["test.y"][index], "index": index},
    {"dataset": name, **data.about_classes(artifacts.read_about(snakemake.input[0]).get(data.CLASS_NAMES))},
    history,
)
progress.finish()
