"""Put the heat maps of two trainings on a page on which a reader picks what to see."""

from resilience import fork_server

fork_server.hand_over(start=False)

import json
from collections import defaultdict
from typing import TYPE_CHECKING

from resilience import artifacts, explore, progress
from resilience.figures.panels import Panel, Style

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

progress.start(snakemake.log[0])
settings = json.loads(snakemake.params.recipe)["settings"]
entry = settings["page"]
points = artifacts.read_tensors(snakemake.input.points, ["x", "y", "index"])

attacked, explained = {}, defaultdict(list)
for path in snakemake.input.attacked:
    about = artifacts.read_about(path)
    attacked[about["training"], int(about["draws"])] = artifacts.read_tensors(path, ["x"])["x"]
for path in snakemake.input.maps:
    about = artifacts.read_about(path)
    explained[about["training"], int(about["draws"]), about["inputs"]].append(path)

style = Style(settings["methods"])
models = []
for training, draws in settings["models"]:
    (clean, before), (after_attack, after) = (
        artifacts.read_explanations(explained[training, draws, inputs]) for inputs in ("clean", entry["attack"])
    )
    models.append(
        explore.Model(
            style.name(training),
            style.colour(training),
            draws,
            attacked[training, draws],
            (next(iter(before.values())), next(iter(after.values()))),
            {key: (clean[key], after_attack[key]) for key in sorted(clean)},
        )
    )
trainings = [entry["reference"], entry["training"]]
panel = Panel(entry["dataset"], entry["network"], entry["attack"], trainings, settings["layers"], settings["epsilon"])
page = explore.render(
    settings["templates"],
    {
        "dataset": entry["dataset"],
        "network": entry["network"],
        "attack": panel.attack_name,
        "trainings": " and ".join(map(style.name, trainings)),
        "seed": settings["seed"],
        "layers": {str(layer): panel.layer_name(layer) for layer in panel.layers},
        "first": settings["first"],
    },
    points,
    models,
    explore.spread(len(points["y"]), entry.get("points")),
    settings["top_k"],
    settings["pixels"],
)
with artifacts.whole(snakemake.output[0]) as partial:
    partial.write_text(page, encoding="utf-8")
progress.finish()
