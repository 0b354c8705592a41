"""Draw a figure: read what its function has arguments for, call it, write PNG and PDF."""

from resilience import fork_server

fork_server.hand_over(start=False)

from typing import TYPE_CHECKING, Any

import pandas as pd

from resilience import artifacts, catalog, data, jobs, progress, tables
from resilience.figures import drawing
from resilience.figures.panels import Maps, Panel, Style

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake


def read_pictures(paths: list[str], panels: list[Panel], measures: tables.Measures) -> list[Maps]:
    """Images and heat maps of each panel, before and after the attack."""
    clean: dict[Any, Any] = {}
    class_names: dict[Any, list[str] | None] = {}
    attacked: dict[Any, Any] = {}
    maps: dict[Any, Any] = {}
    draws: dict[Any, int] = {}
    seed = 0
    for path in paths:
        about, arrays = artifacts.read_about(path), artifacts.read_tensors(path)
        if "relevance" in arrays:
            maps[about["dataset"], about["network"], about["training"], about["inputs"], about["layer"]] = arrays[
                "relevance"
            ]
        elif "training" in about:
            key = (about["dataset"], about["network"], about["attack"], about["training"])
            attacked[key], draws[key], seed = arrays["x"], int(about["draws"]), int(about["seed"])
        else:
            clean[about["dataset"]], class_names[about["dataset"]] = arrays["x"], about.get(data.CLASS_NAMES)
    found = []
    for panel in panels:
        here = (panel.dataset, panel.network)
        found.append(
            Maps(
                seed,
                {name: draws[*here, panel.attack, name] for name in panel.trainings},
                {name: (clean[panel.dataset], attacked[*here, panel.attack, name]) for name in panel.trainings},
                {
                    (name, layer): (maps[*here, name, "clean", layer], maps[*here, name, panel.attack, layer])
                    for name in panel.trainings
                    for layer in panel.layers
                    if (*here, name, "clean", layer) in maps
                },
                measures,
                class_names[panel.dataset],
            )
        )
    return found


progress.start(snakemake.log[0])
settings = jobs.settings_of(snakemake)
history = jobs.history_of(snakemake)
entry = settings["figure"]
panels = [
    Panel(
        **panel,
        layers=settings["layers"][panel["network"]],
        epsilon=settings["epsilons"][panel["attack"]],
        noise=settings["noise"][panel["attack"]],
        called=settings["titles"].get(panel["dataset"]),
    )
    for panel in entry.get("panels", [])
]
readers = {
    "panels": lambda: panels,
    "style": lambda: Style(settings["methods"], entry.get("colours", {}), settings["titles"]),
    "measured": lambda: tables.gather(map(artifacts.read_table, snakemake.input.measured), settings["measures"]),
    "cancellation": lambda: pd.concat(map(artifacts.read_table, snakemake.input.cancellation), ignore_index=True),
    "summary": lambda: artifacts.read_table(snakemake.input.summary[0]),
    "maps": lambda: read_pictures(snakemake.input.maps, panels, settings["measures"]),
    "comparisons": lambda: artifacts.read_table(snakemake.input.comparisons[0]),
    "claims": lambda: artifacts.read_table(snakemake.input.claims[0]),
}
wanted = catalog.named("figures", entry).inputs
figure = catalog.bound("figures", entry)(**{name: readers[name]() for name in wanted})
drawing.save(figure, snakemake.output, history)
progress.finish()
