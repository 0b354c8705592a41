"""Draw a figure: read what its function has arguments for, call it, write PNG and PDF."""

from resilience import fork_server

fork_server.hand_over(start=False)

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from resilience import artifacts, catalog, data, jobs, progress, tables
from resilience.figures import drawing
from resilience.figures.panels import ExpectedGradients, Maps, Model, Panel, Projections, Style, Trained

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake


def read_pictures(paths: list[str], panels: list[Panel], measures: tables.Measures) -> list[Maps]:
    """Images of each panel, and heat maps where there are any, before and after the attack."""
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


def model_of(about: dict[str, Any]) -> Model:
    """Whose file it is."""
    return str(about["dataset"]), str(about["network"]), str(about["training"]), int(about["seed"])


def read_gradients(paths: list[str]) -> dict[Model, ExpectedGradients]:
    """Expected gradients of each network."""
    read = ((artifacts.read_about(path), artifacts.read_tensors(path)) for path in paths)
    return {model_of(about): ExpectedGradients(**arrays) for about, arrays in read}


def placed(paths: list[str]) -> dict[Model, str]:
    """The folder of each network, by what its path says of it."""
    folders = [Path(path).parent for path in paths]
    return {
        (folder.parts[-4], folder.parts[-3], folder.parts[-2], int(folder.name.removeprefix("seed"))): str(folder)
        for folder in folders
    }


def read_fits(paths: list[str]) -> dict[Model, Trained]:
    """What training says of each network."""
    return {
        model: Trained(artifacts.read_json(f"{folder}/fit.json"), artifacts.read_table(f"{folder}/history.csv"))
        for model, folder in placed(paths).items()
    }


def read_weights(paths: list[str]) -> dict[Model, dict[str, Any]]:
    """The weights of each network, as its file has them."""
    return {model: artifacts.read_tensors(f"{folder}/weights.safetensors") for model, folder in placed(paths).items()}


def read_projections(paths: list[str]) -> dict[str, Projections]:
    """What each manifold makes of test images, by its name."""
    read = ((artifacts.read_about(path), artifacts.read_tensors(path)) for path in paths)
    return {
        about["manifold"]: Projections(int(about["seed"]), arrays["x"], arrays["projection"], arrays.get("sample"))
        for about, arrays in read
    }


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
    "images": lambda: read_pictures(snakemake.input.images, panels, settings["measures"]),
    "maps": lambda: read_pictures(snakemake.input.maps, panels, settings["measures"]),
    "comparisons": lambda: artifacts.read_table(snakemake.input.comparisons[0]),
    "gradients": lambda: read_gradients(snakemake.input.gradients),
    "fits": lambda: read_fits(snakemake.input.fits),
    "weights": lambda: read_weights(snakemake.input.weights),
    "scores": lambda: artifacts.read_table(snakemake.input.scores[0]),
    "projections": lambda: read_projections(snakemake.input.projections),
    "claims": lambda: artifacts.read_table(snakemake.input.claims[0]),
}
wanted = catalog.named("figures", entry).inputs
figure = catalog.bound("figures", entry)(**{name: readers[name]() for name in wanted})
drawing.save(figure, snakemake.output, history)
progress.finish()
