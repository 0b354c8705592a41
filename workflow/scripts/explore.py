"""Put the heat maps of two trainings on a page on which a reader picks what to see."""

from resilience import fork_server

fork_server.hand_over(start=False)

from collections import defaultdict
from collections.abc import Iterator
from typing import TYPE_CHECKING

from resilience import artifacts, data, documents, explore, jobs, progress
from resilience.figures.panels import Panel, Style

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

progress.start(snakemake.log[0])
settings = jobs.settings_of(snakemake)
history = jobs.history_of(snakemake)
entry = settings["page"]
points = artifacts.read_tensors(snakemake.input.points, ["x", "y", "index"])

attacked, explained = {}, defaultdict(list)
for path in snakemake.input.attacked:
    about = artifacts.read_about(path)
    attacked[about["training"], int(about["draws"]), int(about["seed"])] = path
for path in snakemake.input.maps:
    about = artifacts.read_about(path)
    explained[about["training"], int(about["draws"]), int(about["seed"]), about["inputs"]].append(path)


def seen(training: str, draws: int) -> Iterator[explore.Seen]:
    """What a model makes of the points, one seed after the other: all of them at once could be gigabytes."""
    for seed in settings["seeds"]:
        (clean, before), (after_attack, after) = (
            artifacts.read_explanations(explained[training, draws, seed, inputs]) for inputs in ("clean", entry["attack"])
        )
        yield explore.Seen(
            seed,
            artifacts.read_tensors(attacked[training, draws, seed], ["x"])["x"],
            (next(iter(before.values())), next(iter(after.values()))),
            {key: (clean[key], after_attack[key]) for key in sorted(clean)},
        )


# A page shows the overlaps that count pixels alike, as the first of them does.
first = settings["measures"].get(settings["first"]["measure"]) or next(iter(settings["measures"].values()))
overlaps = explore.Overlaps.of(settings["measures"], first["pixels"], first["channels"])
style = Style(settings["methods"])
models = [
    explore.Model(style.name(training), style.colour(training), draws, seen(training, draws))
    for training, draws in settings["models"]
]
trainings = [entry["reference"], entry["training"]]
panel = Panel(entry["dataset"], entry["network"], entry["attack"], trainings, settings["layers"], settings["epsilon"])
page = explore.render(
    settings["templates"],
    {
        "dataset": settings["title"] or entry["dataset"],
        "class_names": artifacts.read_about(snakemake.input.points).get(data.CLASS_NAMES),
        "network": entry["network"],
        "attack": panel.attack_name,
        "trainings": " and ".join(map(style.name, trainings)),
        "layers": {str(layer): panel.layer_name(layer) for layer in panel.layers},
        "first": {"explanation": settings["first"]["explanation"], "k": first["top_k"]},
    },
    points,
    models,
    explore.spread(len(points["y"]), entry.get("points")),
    overlaps,
)
documents.write_document(snakemake.output[0], page.encode(), history)
progress.finish()
