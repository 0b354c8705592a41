"""Combinations that cannot work, refused before anything runs: each function here knows one reason."""

from __future__ import annotations

import math
from typing import Any

from resilience.catalog import Function, inner_entries, named, other_draws, paths, stored_draws, value_in
from resilience.grid import Grid, GridError, number_in

#: What a figure can draw that is not made without a section of the config, and that section.
DRAWN = {
    "cancellation": "cancellation",
    "gradients": "cancellation",
    "scores": "retraining",
    "comparisons": "claims",
    "claims": "claims",
}


#: The most channels that images have.
COLOURS = 3
#: What an explanation, or an attack on one, may need of a network, in words.
NEEDED = {"convolution": "a convolution", "pooled_head": "global average pooling before one linear layer"}


def grid_of(config: dict[str, Any]) -> Grid:
    """The grid of a config whose entries and names are known to be right.

    Raises
    ------
    GridError
        If a combination cannot be built. The message names the key, the value and what would be accepted.
    """
    for section in ("attacks", "trainings"):
        for name, settings in config[section].items():
            _check_inner(section, settings, f"{section}.{name}")
    for dataset in config["datasets"]:
        _check_derived(config["datasets"], dataset)
    grid = Grid(config)
    for attack in config["attacks"]:
        _check_source(grid, attack)
    for training in config["trainings"]:
        _check_chains(grid, training)
        _check_start(grid, training)
    for dataset in config["datasets"]:
        _check_balance(grid, dataset)
        _check_class_names(grid, dataset)
        if by := grid.explainer(dataset):
            _check_explainer(grid, dataset, by)
        if divided := grid.function("datasets", dataset).traits.get("divides"):
            _check_patches(grid, dataset, divided)
    for training in config["trainings"]:
        _check_own_files(grid, training)
    for dataset, network in sorted({(cell.dataset, cell.network) for cell in grid.cells}):
        _check_size(grid, dataset, network)
    for network, explanation in grid.explained():
        _check_needs(grid, network, "explanations", explanation)
    for network, attack in sorted({(cell.network, cell.attack) for cell in grid.cells}):
        _check_needs(grid, network, "attacks", attack)
    for training, attack, draws in sorted({(cell.training, cell.attack, cell.draws) for cell in grid.cells}):
        _check_other_draws(grid, training, attack, draws)
    for explanation in config["explanations"]:
        _check_bounds(grid, explanation)
    for manifold in config["manifolds"]:
        _check_manifold(grid, manifold)
    _check_measures(grid)
    for measure in grid.measures("predictions"):
        _check_judged_images(grid, measure)
    if "claims" in config:
        _check_claims(grid, config["claims"])
    if "cancellation" in config:
        _check_cancellation(grid)
    if "retraining" in config:
        _check_retraining(grid)
    for name, figure in config["figures"].items():
        _check_figure(grid, name, figure)
    for name, page in config["explore"].items():
        _check_page(grid, name, page)
    return grid


def _check_needs(grid: Grid, network: str, section: str, name: str) -> None:
    """An explanation by class activation maps, or an attack on one, needs a network that has such maps."""
    needing, function = grid.function(section, name), grid.function("networks", network)
    needs = needing.traits.get("needs")
    if needs is not None and needs not in function.traits.get("has", ()):
        known = grid.config["networks"]
        able = [other for other in known if needs in grid.function("networks", other).traits.get("has", ())]
        done = "explain" if section == "explanations" else "attack"
        others = f"{done} {' or '.join(able)} by it" if able else f"name a network that says @entry(has=({needs!r},))"
        raise GridError(
            f"{section}.{name}: {needing.name} needs {NEEDED.get(needs, needs)}, which networks.{network} ({function.name}) "
            f"has not; {others}"
        )


def _check_bounds(grid: Grid, explanation: str) -> None:
    """A parameter that another one bounds, such as a window that a stride must not jump over, here or in a rule."""
    settings = grid.config["explanations"][explanation]
    for section, entry in [("explanations", settings), *inner_entries("explanations", settings)]:
        function = named(section, entry)
        place = f"explanations.{explanation}" if entry is settings else f"explanations.{explanation}: {function.name}"
        for larger, smaller in function.traits.get("at_least", {}).items():
            values = [value_in(section, entry, key) for key in (larger, smaller)]
            if values[0] < values[1]:
                raise GridError(f"{place}.{smaller}: {values[1]} is more than {larger}, {values[0]}; take at most that")
        for larger, smaller in function.traits.get("one_more", {}).items():
            values = [value_in(section, entry, key) for key in (larger, smaller)]
            if not math.isclose(values[0], values[1] + 1):
                raise GridError(f"{place}.{larger}: {values[0]} is not one more than {smaller}, {values[1]}; make it so")


def _check_measures(grid: Grid) -> None:
    """Every attack is judged by heat maps; what an explanation says is measured of one class, and of layers there are."""
    if not grid.measures("maps"):
        raise GridError("measures: none is of heat maps, which every attack is judged by; add one, such as overlap")
    for name, measure in grid.measures("explanation").items():
        for network, explanation in grid.explained():
            if grid.config["explanations"][explanation]["explained"] == "own":
                raise GridError(
                    f"measures.{name}: {explanation} explains each draw's own class, and it is measured of one; take out "
                    "explained: own, or the measure"
                )
            layers = grid.function("networks", network).traits["layers"]
            counted = all(isinstance(layer, int) for layer in layers)  # A stack says all that it has.
            if counted and (measure.get("layers") or 0) > (there := len(layers)):
                raise GridError(f"measures.{name}.layers: {measure['layers']} is more than networks.{network} has, {there}")


def _check_manifold(grid: Grid, manifold: str) -> None:
    """A manifold is learned from images of a size that it takes, and spanned by fewer of them than there are."""
    function, settings = grid.function("manifolds", manifold), grid.config["manifolds"][manifold]
    place, sides, key = f"manifolds.{manifold}", function.traits.get("sides"), function.traits.get("span")
    for dataset in grid.learned_from(manifold):
        side = _side(grid, dataset)
        if sides and math.isfinite(side) and side not in sides:
            raise GridError(
                f"{place}.of: images of {dataset} have {side} pixels a side, and {function.name} takes those of "
                f"{', '.join(map(str, sides))}; name another dataset, or another manifold, such as principal_components"
            )
        points = grid.config["datasets"][grid.root(dataset)].get("train_points", math.inf)
        # Images whose side is known here are square, or have two pixels; how many channels they have is not.
        for most, what in ((points, "training images"), (COLOURS * side**2 - 1, "directions")) if key else ():
            if (number := number_in(function, settings, str(key))) > most:
                raise GridError(f"{place}.{key}: {number} is more than {dataset} has {what}, {most}; take at most that")


def _check_judged_images(grid: Grid, measure: str) -> None:
    """A manifold judges images of datasets that it is learned from, and a judge is a single network trained on them."""
    manifold, judge = grid.manifold_of(measure), grid.judge_of(measure)
    datasets = sorted({cell.dataset for cell in grid.cells})
    if manifold and not any(dataset in grid.learned_from(manifold) for dataset in datasets):
        raise GridError(
            f"measures.{measure}.manifold: {manifold} is learned from other images than it judges, "
            f"{', '.join(grid.learned_from(manifold))}; name one that is of {' or '.join(datasets)}"
        )
    if judge is None:
        return
    if grid.function("trainings", judge).traits.get("draws") != 1:
        raise GridError(f"measures.{measure}.judge: {judge} is no point estimate; name one, such as deterministic")
    trained = grid.trained()
    for dataset, network in sorted({(cell.dataset, cell.network) for cell in grid.cells}):
        here = (grid.trained_on(dataset), network, judge)
        if measure in grid.measured_predictions(dataset) and here not in trained:
            raise GridError(f"measures.{measure}.judge: no experiment has {', '.join(here)}; add it to experiments")


def _check_claims(grid: Grid, claims: dict[str, Any]) -> None:
    if claims["explanation"] not in {explanation for _, explanation in grid.explained()}:
        raise GridError(f"claims.explanation: no experiment has {claims['explanation']}; add it to one")
    of_maps = grid.measures("maps")
    of_all = of_maps | grid.measures("predictions") | grid.measures("network")
    for key, names, known in (("measure", [claims["measure"]], of_maps), ("also", claims.get("also", []), of_all)):
        for name in names:
            if name not in known:
                kind = "heat maps" if known is of_maps else "heat maps, predictions or a network"
                raise GridError(
                    f"claims.{key}: {name} is no measure of {kind}, by which models are compared; name {' or '.join(known)}"
                )
    cancelled = {(dataset, network) for dataset, network, _ in grid.cancelled()}
    for number, series in enumerate(claims["growing"]):
        seeds = {place["dataset"]: grid.seeds_of(place["dataset"]) for place in series}
        if len({tuple(of_dataset) for of_dataset in seeds.values()}) > 1:
            said = ", ".join(f"{dataset}: {of_dataset}" for dataset, of_dataset in seeds.items())
            raise GridError(f"claims.growing[{number}]: compared are networks of equal seeds, and these differ ({said})")
        for place in series:
            if (place["dataset"], place["network"]) not in cancelled:
                raise GridError(
                    f"claims.growing[{number}]: nothing says how far gradients cancel in {place['network']} on "
                    f"{place['dataset']}; add it to an experiment with several draws, and the section cancellation"
                )


def _check_derived(datasets: dict[str, Any], dataset: str) -> None:
    """A derived dataset goes back to one that is read, and what is trained elsewhere needs the same classes."""
    seen = [dataset]
    while source := datasets[seen[-1]].get("of"):
        if source in seen:
            raise GridError(f"datasets.{dataset}.of: {' is made from '.join([*seen, source])}, which has no beginning")
        seen.append(source)
    trained_on = datasets[dataset].get("trained_on", dataset)
    if trained_on != dataset and datasets[trained_on].get("trained_on", trained_on) != trained_on:
        raise GridError(f"datasets.{dataset}.trained_on: nothing is trained on {trained_on} itself; name what that names")
    if trained_on != dataset and "seeds" in datasets[dataset]:
        raise GridError(f"datasets.{dataset}.seeds: networks learn on {trained_on}; put the key there")
    if len(seen) > 1 and "train_points" in datasets[dataset]:
        raise GridError(f"datasets.{dataset}.train_points: its splits are those of {seen[1]}; take the key out")
    if "by" in datasets[dataset] and datasets[source := seen[1]].get("trained_on", source) != source:
        raise GridError(f"datasets.{dataset}.by: nothing is trained on {source} itself, so no network explains it")


def _check_explainer(grid: Grid, dataset: str, by: dict[str, Any]) -> None:
    place = f"datasets.{dataset}.by"
    if by["seed"] not in (seeds := grid.seeds_of(grid.config["datasets"][dataset]["of"])):
        raise GridError(f"{place}.seed: {by['seed']} is not one of the seeds; name one of {seeds}")
    if grid.config["explanations"][by["explanation"]]["over"] == "each":
        raise GridError(f"{place}.explanation: {by['explanation']} has a map for each draw, and one is needed; name another")
    _check_needs(grid, by["network"], "explanations", by["explanation"])


def _check_patches(grid: Grid, dataset: str, key: str) -> None:
    number = grid.config["datasets"][dataset][key]
    pixels = _side(grid, dataset)
    if math.isfinite(pixels) and pixels % number:
        raise GridError(f"datasets.{dataset}.{key}: {number} does not divide {pixels} pixels a side; name a divisor")


def _side(grid: Grid, dataset: str) -> float:
    """The pixels of an image's shorter side, infinity where nothing says how many there are."""
    root = grid.root(dataset)
    side = grid.function("datasets", root).traits.get("side", math.inf)
    return grid.config["datasets"][root][side] if isinstance(side, str) else side


def _check_source(grid: Grid, attack: str) -> None:
    settings, place = grid.config["attacks"][attack], f"attacks.{attack}"
    if not grid.derived(settings):
        return
    inner, source = settings["attack"], settings["source"]
    if grid.derived(grid.config["attacks"][inner]):
        raise GridError(f"{place}.attack: {inner} is itself made from another; name an attack on a network")
    if settings["method"] == "transfer" and grid.function("trainings", source).traits.get("draws") != 1:
        raise GridError(f"{place}.source: {source} is no point estimate; attacks are transferred from a single network")


def _check_other_draws(grid: Grid, training: str, attack: str, draws: int) -> None:
    """An attack from draws that the prediction has none of needs a posterior with so many more."""
    others, stored = other_draws(grid.config["attacks"][attack]), stored_draws(grid.config["trainings"][training])
    if others and stored is not None and draws + others > stored:
        raise GridError(
            f"attacks.{attack}.draws: {others} draws beyond the {draws} of the prediction are more than "
            f"trainings.{training} has, {stored}; ask for fewer, or attack posteriors that have more"
        )


def _check_start(grid: Grid, training: str) -> None:
    seen = [training]
    while start := grid.start(seen[-1]):
        if start in seen:
            raise GridError(f"trainings.{training}.start: {' starts from '.join([*seen, start])}, which has no beginning")
        seen.append(start)
    if len(seen) > 1:
        _check_number_of_starts(grid, training, seen[1])
        _check_prior(grid, training, seen[1])


def _check_number_of_starts(grid: Grid, training: str, start: str) -> None:
    """Each chain starts from another draw of the training that it starts from, which must so have a last one."""
    traits = grid.function("trainings", training).traits
    place, chains = f"trainings.{training}.start", traits.get("shared_by")
    there = stored_draws(grid.config["trainings"][start])
    if traits.get("from_point") and there != 1:
        raise GridError(f"{place}: {start} is no point estimate; name a training of one network")
    if chains is None or traits.get("from_point"):
        return
    needed = number_in(grid.function("trainings", training), grid.config["trainings"][training], chains)
    if there is None:
        raise GridError(f"{place}: {start} is a distribution without a last draw; name a point estimate or an ensemble")
    if there < needed:
        raise GridError(f"{place}: {start} has {there} draws, and each of the {needed} {chains} needs one to start from")


def _check_prior(grid: Grid, training: str, start: str) -> None:
    """Chains start near modes of their own posterior; weights that were found without a prior do not contradict that."""
    for key in ("prior", "prior_scale"):
        here, there = (value_in("trainings", grid.config["trainings"][name], key) for name in (training, start))
        if None not in (here, there) and here != there:
            raise GridError(
                f"trainings.{training}.{key}: {here} is not that of {start}, {there}, whose weights it starts from; "
                "give both the same, or name another start"
            )


def _check_chains(grid: Grid, training: str) -> None:
    function, settings = grid.function("trainings", training), grid.config["trainings"][training]
    if chains := function.traits.get("shared_by"):
        bound = function.traits["at_most"]
        draws, number = number_in(function, settings, bound), number_in(function, settings, chains)
        if draws % number:
            raise GridError(f"trainings.{training}.{bound}: {draws} cannot be shared by {number} {chains}; use a multiple")


def _check_balance(grid: Grid, dataset: str) -> None:
    settings = grid.config["datasets"][dataset]
    classes = grid.function("datasets", grid.root(dataset)).traits.get("classes", 1)
    for key in ("test_points", "train_points"):
        if settings.get(key, classes) % classes:
            raise GridError(
                f"datasets.{dataset}.{key}: {settings[key]} cannot be balanced over {classes} classes; use a multiple"
            )


def _check_class_names(grid: Grid, dataset: str) -> None:
    names = grid.config["datasets"][dataset].get("class_names")
    classes = grid.function("datasets", grid.root(dataset)).traits.get("classes")
    if names and classes and len(names) != classes:
        raise GridError(f"datasets.{dataset}.class_names: {len(names)} names for {classes} classes; give each class one")


def _check_size(grid: Grid, dataset: str, network: str) -> None:
    least = grid.function("networks", network).traits.get("least_side", 1)
    if _side(grid, dataset) < least:
        raise GridError(
            f"networks.{network}: needs images of at least {least} pixels a side, which {dataset} has not; use fc2 there"
        )


def _check_own_files(grid: Grid, training: str) -> None:
    """Weights belong to one network that was trained once, so several of these need several files."""
    settings = grid.config["trainings"][training]
    uses = [place for place in grid.trained() if place[2] == training]
    several: dict[str, set[Any]] = {
        "dataset": {dataset for dataset, *_ in uses},
        "network": {network for _, network, _ in uses},
        "seed": {seed for dataset, *_ in uses for seed in grid.seeds_of(dataset)},
    }
    for key in paths("trainings", settings):
        for axis, values in several.items():
            if len(values) > 1 and f"{{{axis}}}" not in settings[key]:
                named = ", ".join(map(str, sorted(values)))
                raise GridError(
                    f"trainings.{training}.{key}: {settings[key]!r} would serve the {axis}s {named} alike; "
                    f"put {{{axis}}} into the path and give each a file of its own"
                )


def _check_cancellation(grid: Grid) -> None:
    section = grid.config["cancellation"]
    if not grid.cancelled():
        raise GridError("cancellation: no experiment has a posterior or an ensemble of several draws, which could cancel")
    for training in sorted({training for _, _, training in grid.cancelled()}):
        if grid.cancelled_draws(training)[-1] < 2:
            raise GridError(
                f"cancellation.draws: {section['draws']} has no number above one, and nothing cancels in one draw"
            )
    if section["dimensions"] >= section["neighbours"]:
        raise GridError(
            f"cancellation.dimensions: {section['dimensions']} directions need more than that many neighbours, "
            f"not {section['neighbours']}"
        )


def _check_retraining(grid: Grid) -> None:
    """Each explanation has one map of an image, a random one stands beside, and what learns from it learns by itself."""
    section, config = grid.config["retraining"], grid.config
    for dataset in section["datasets"]:
        if (elsewhere := grid.trained_on(dataset)) != dataset:
            raise GridError(
                f"retraining.datasets: {dataset} is judged by what learned on {elsewhere}, and nothing is trained on it "
                f"itself; name {elsewhere}"
            )
        for network in (*section["networks"], section["by"]["network"]):
            _check_size(grid, dataset, network)
    for explanation in section["explanations"]:
        if config["explanations"][explanation]["over"] == "each":
            raise GridError(
                f"retraining.explanations: {explanation} has a map for each draw, and one says which pixels go; name another"
            )
        for network in section["networks"]:
            _check_needs(grid, network, "explanations", explanation)
    if grid.random_map() is None:
        known = [name for name, entry in config["explanations"].items() if entry["method"] == "random_map"]
        raise GridError(
            f"retraining.explanations: none of {', '.join(section['explanations'])} is a random map, which scores are "
            f"measured from; add {' or '.join(known) or 'one, {method: random_map}'}"
        )
    _check_what_learns_again(grid, section["by"]["training"])


def _check_what_learns_again(grid: Grid, training: str) -> None:
    function, place = grid.function("trainings", training), "retraining.by.training"
    if function.traits.get("draws") != 1:
        raise GridError(f"{place}: {training} is no point estimate, as what learns again is; name one")
    if paths("trainings", grid.config["trainings"][training]) or grid.start(training):
        raise GridError(f"{place}: {training} does not learn from images alone; name a training that does")


def _check_figure(grid: Grid, name: str, figure: dict[str, Any]) -> None:
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


def _check_page(grid: Grid, name: str, page: dict[str, Any]) -> None:
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


def _check_inner(section: str, settings: dict[str, Any], place: str) -> None:
    """An ensemble is made of point estimates, and an attack within an entry is one on a network."""
    for inner, entry in inner_entries(section, settings):
        function = named(inner, entry)
        if inner == "trainings" and function.traits.get("draws") != 1:
            raise GridError(f"{place}: holds {function.name}, which is no point estimate; name one, such as deterministic")
        if inner == "attacks" and function.traits.get("derived"):
            raise GridError(
                f"{place}: holds {function.name}, which is made from attacked inputs; name an attack on a network"
            )
