"""What figures and pages cannot show."""

from __future__ import annotations

from typing import Any

from resilience.catalog import Function, named, value_in
from resilience.grid import Grid, GridError

#: What a figure can draw that is not made without a section of the config, and that section.
DRAWN = {
    "cancellation": "cancellation",
    "gradients": "cancellation",
    "scores": "retraining",
    "comparisons": "claims",
    "claims": "claims",
}


def check_figure(grid: Grid, name: str, figure: dict[str, Any]) -> None:
    """A figure draws what the config has, in panels that it can hold."""
    function = named("figures", figure)
    panels, place = figure.get("panels", []), f"figures.{name}"
    if "panels" in function.inputs and not panels:
        raise GridError(f"{place}: the key 'panels' is missing; add it")
    for drawn, section in DRAWN.items():
        if drawn in function.inputs and section not in grid.config:
            raise GridError(f"{place}: {figure['figure']} draws what the section {section!r} asks for, which is missing")
    if "scores" in function.inputs:
        for key in ("explanations", "trainings"):
            for one in figure.get(key, []):
                if one not in grid.config["retraining"][key]:
                    known = ", ".join(grid.config["retraining"][key])
                    raise GridError(f"{place}.{key}: {one} is not one of retraining.{key}; name some of {known}")
    if len(panels) > function.traits.get("panels", len(panels)):
        raise GridError(f"{place}.panels: {figure['figure']} draws {function.traits['panels']} panel, not {len(panels)}")
    explanation = value_in("figures", figure, "explanation")
    if function.traits.get("inner_layers") and "layers" not in grid.function("explanations", explanation).inputs:
        raise GridError(
            f"{place}.explanation: {explanation} has no maps of inner layers, which {function.name} draws; name one by lrp"
        )
    if "maps" in function.inputs and explanation is None:
        raise GridError(f"{place}: {figure['figure']} draws maps, and has no setting explanation that says which")
    if "maps" in function.inputs and grid.config["explanations"][explanation]["over"] == "each":
        raise GridError(f"{place}.explanation: {explanation} has a map for each draw, and a figure shows one; name another")
    for number, panel in enumerate(panels):
        _check_panel(grid, f"{place}.panels[{number}]", panel, function, explanation)
    if "projections" in function.inputs:
        _check_projections(grid, place, figure)
    if clean := function.traits.get("clean"):
        _check_distances(grid, place, figure, clean)


def _check_projections(grid: Grid, place: str, figure: dict[str, Any]) -> None:
    for manifold in figure["manifolds"]:
        if figure["dataset"] not in (known := grid.learned_from(manifold)):
            raise GridError(
                f"{place}.dataset: {manifold} is not learned from {figure['dataset']}; name {' or '.join(known)}"
            )


def _check_distances(grid: Grid, place: str, figure: dict[str, Any], clean: str) -> None:
    """Distances of attacked and of clean images are drawn on one axis, so both are to the same manifold."""
    attacked, settings = (grid.config["measures"][figure[key]] for key in ("measure", clean))
    wanted = attacked | {"of": "clean", "judge": "none"}
    for key in ("manifold", "reconstructions", "of", "judge"):
        if settings[key] != wanted[key]:
            raise GridError(
                f"{place}.{clean}: {figure[clean]} has {key}: {settings[key]}; name a measure with {key}: {wanted[key]}"
            )
    if attacked["of"] != "attacked":
        raise GridError(f"{place}.measure: {figure['measure']} is of clean images; name a measure with of: attacked")
    for number, panel in enumerate(figure["panels"]):
        if panel["dataset"] not in (known := grid.learned_from(attacked["manifold"])):
            raise GridError(
                f"{place}.panels[{number}].dataset: {attacked['manifold']} is not learned from {panel['dataset']}; "
                f"name {' or '.join(known)}"
            )


def _check_panel(grid: Grid, place: str, panel: dict[str, Any], function: Function, explanation: str | None) -> None:
    least = function.traits.get("trainings", 1)
    if len(panel["trainings"]) < least:
        raise GridError(f"{place}.trainings: {function.name} needs at least {least} trainings, the reference first")
    for training in panel["trainings"]:
        here = (panel["dataset"], panel["network"], training, panel["attack"])
        draws = grid.draws_of(*here)
        if not draws:
            raise GridError(f"{place}: no experiment has {', '.join(here)}; add it to experiments")
        if explanation and explanation not in grid.explanations(*here, draws[-1]):
            raise GridError(f"{place}: no experiment explains {', '.join(here)} by {explanation}; add it to experiments")


def check_page(grid: Grid, name: str, page: dict[str, Any]) -> None:
    """A page to explore shows two models that have the same explanations."""
    place, (dataset, network, attack) = f"explore.{name}", (page["dataset"], page["network"], page["attack"])
    if page["training"] == page["reference"]:
        raise GridError(f"{place}.reference: {page['reference']} cannot stand beside itself; name another training")
    for key in ("training", "reference"):
        if not grid.draws_of(dataset, network, page[key], attack):
            here = f"{dataset}, {network}, {page[key]}, {attack}"
            raise GridError(f"{place}.{key}: no experiment has {here}; add it to experiments")
    (reference, of_reference), *models = grid.explored(page)
    known = grid.explanations(dataset, network, reference, attack, of_reference)
    for training, draws in models:
        for explanation in grid.explanations(dataset, network, training, attack, draws):
            if explanation not in known:
                here = f"{dataset}, {network}, {reference}, {attack}, {of_reference} draws"
                raise GridError(
                    f"{place}.reference: no experiment explains {here} by {explanation}, as it does {training}; "
                    "add it to experiments"
                )
    if "overlap" not in {settings["measure"] for settings in grid.measures("maps").values()}:
        raise GridError(f"{place}: a page shows the top pixels, and no measure is an overlap; add one")
    test_points = grid.config["datasets"][dataset]["test_points"]
    if page.get("points", 1) > test_points:
        raise GridError(f"{place}.points: {page['points']} is more than datasets.{dataset}.test_points, {test_points}")
