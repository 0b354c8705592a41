"""Measure what survives an attack, point by point."""

from resilience import fork_server

fork_server.hand_over()

from typing import TYPE_CHECKING

from resilience import artifacts, jobs, progress, robustness

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

progress.start(snakemake.log[0])
settings = jobs.settings_of(snakemake)
history = jobs.history_of(snakemake)
place = snakemake.wildcards
clean, before = artifacts.read_explanations(snakemake.input.clean_maps)
attacked, after = artifacts.read_explanations(snakemake.input.attacked_maps)
table = robustness.table(
    artifacts.read_tensors(snakemake.input.points, ["x", "y", "index"]),
    artifacts.read_tensors(snakemake.input.attacked, ["x", "zero_gradient"]),
    (next(iter(before.values())), next(iter(after.values()))),
    {key: (clean[key], attacked[key]) for key in sorted(clean)},
    settings["top_k"],
    settings["pixels"],
    {
        "dataset": place.dataset,
        "network": place.network,
        "training": place.training,
        "seed": int(place.seed),
        "attack": place.attack,
        "draws": int(place.draws),
    },
)
artifacts.write_table(snakemake.output[0], table, history)
progress.finish()
