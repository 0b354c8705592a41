# Which files a job reads, where that depends on the settings.

import itertools
import os


def model_path(dataset, network, training, seed):
    """Folder of a trained network."""
    return f"<results>/{dataset}/{network}/{training}/seed{seed}"


def maps_of(model, inputs, draws, explanation, network):
    """The heat maps of one (model, inputs, explanation), a file for each layer."""
    folder = f"{model}/{inputs}/n{draws}/explanations/{explanation}"
    return [f"{folder}/layer{layer}.safetensors" for layer in GRID.explained_layers(network, explanation)]


def explained_maps(inputs, wildcards):
    """The heat maps of the inputs of one model, clean or attacked, by the explanation that a job is about."""
    model = model_path(wildcards.dataset, wildcards.network, wildcards.training, wildcards.seed)
    return maps_of(model, inputs, wildcards.draws, wildcards.explanation, wildcards.network)


def attacked_models():
    """Folder and wildcards of everything that is attacked."""
    for dataset, network, training, attack, draws in GRID.attacked():
        for seed in GRID.seeds_of(dataset):
            yield model_path(dataset, network, training, seed), dataset, network, training, attack, draws


ALL_DATASETS = sorted({dataset for dataset, *_ in GRID.trained()})
ALL_MODELS = [
    model_path(dataset, network, training, seed)
    for dataset, network, training in GRID.trained()
    for seed in GRID.seeds_of(dataset)
]
ALL_ATTACKS = [f"{model}/{attack}/n{draws}" for model, *_, attack, draws in attacked_models()]
ALL_EXPLAINED = [
    (model, network, attack, draws, explanation)
    for model, dataset, network, training, attack, draws in attacked_models()
    for explanation in GRID.explanations(dataset, network, training, attack, draws)
]
ALL_MAPS = sorted(
    {
        path
        for model, network, attack, draws, explanation in ALL_EXPLAINED
        for inputs in (CLEAN, attack)
        for path in maps_of(model, inputs, draws, explanation, network)
    }
)


def table_of(model, inputs, draws, explanation):
    """The table beside the maps of one (model, inputs, explanation)."""
    return f"{model}/{inputs}/n{draws}/explanations/{explanation}/measures.csv"


ALL_UNDER_ATTACK = [
    *(f"{attack}/predictions.csv" for attack in ALL_ATTACKS),
    *(table_of(model, attack, draws, explanation) for model, _, attack, draws, explanation in ALL_EXPLAINED),
]
ALL_NETWORK_TABLES = (
    sorted({f"{model}/{CLEAN}/n{draws}/network.csv" for model, *_, draws in attacked_models()})
    if GRID.measures("network")
    else []
)
ALL_CLEAN = sorted(
    {
        *(
            table_of(model, CLEAN, draws, explanation)
            for model, _, _, draws, explanation in ALL_EXPLAINED
            if GRID.measures("explanation")
        ),
        *ALL_NETWORK_TABLES,
    }
)
ALL_TABLES = [*ALL_UNDER_ATTACK, *ALL_CLEAN]
ALL_CANCELLATIONS = [
    f"{model_path(dataset, network, training, seed)}/cancellation.csv"
    for dataset, network, training in GRID.cancelled()
    for seed in GRID.seeds_of(dataset)
]
ALL_RETRAINED = [
    f"{model_path(dataset, network, training, seed)}/dataset/n{draws}/explanations/{explanation}/retrained.csv"
    for dataset, network, training, draws, explanation in GRID.retrained()
    for seed in GRID.seeds_of(dataset)
]

ALL_COMPARED_NETWORKS = ALL_NETWORK_TABLES if GRID.compared("network") else []

JUDGED = ["<results>/claims.csv"] if "claims" in config else []
SCORED = ["<results>/scores.csv"] if "retraining" in config else []


def filled(section, name, wildcards):
    """An entry in whose own paths ``~`` and ``$NAME`` are expanded, and names in braces stand for those of the job."""
    entry = dict(config[section][name])
    for key in catalog.paths(section, entry):
        for wildcard, value in wildcards.items():
            entry[key] = entry[key].replace(f"{{{wildcard}}}", value)
        entry[key] = str(Path(os.path.expandvars(entry[key])).expanduser())
    return entry


def own_files(section, name, wildcards):
    """The files and folders of the user's own that an entry names; not their times count, but their contents do.

    What another rule makes, in a workflow that this one is a module of, need not be there yet. They lie here even where
    results lie in a storage.
    """
    entry = filled(section, name, wildcards)
    for key, kind in catalog.paths(section, entry).items():
        path = Path(entry[key])
        if not is_made(path) and not (path.is_dir() if kind == "folder" else path.is_file()):
            unset = "; set the variable" if "$" in str(path) else ""
            refuse(f"{section}.{name}.{key}: there is no {kind} {path}{unset}")
        yield local(str(path) if is_made(path) else ancient(str(path)))


def contents_of(section, entry):
    """What the recipe of a job says of the files that an entry names: digests, unless another rule makes them."""
    found = {key: Path(entry[key]) for key in catalog.paths(section, entry)}
    return {key: content_digest(path) for key, path in found.items() if not is_made(path)}


def is_made(path):
    """Whether a rule makes a file, so that its time decides what is run again."""
    return any(rule.is_producer(str(path)) for rule in workflow.rules)


def trained_weights(wildcards):
    """The weights of a network, which may have learned on another dataset than it is judged on."""
    dataset = GRID.trained_on(wildcards.dataset)
    return f"{model_path(dataset, wildcards.network, wildcards.training, wildcards.seed)}/weights.safetensors"


def manifold_path(dataset, manifold, seed):
    """Folder of a manifold that is learned from a dataset."""
    return f"<results>/{dataset}/manifolds/{manifold}/seed{seed}"


def measured_manifolds(wildcards):
    """The manifolds that measures of predictions ask for."""
    named = {GRID.manifold_of(measure) for measure in GRID.measured_predictions(wildcards.dataset)} - {None}
    folders = [manifold_path(wildcards.dataset, manifold, wildcards.seed) for manifold in sorted(named)]
    return [f"{folder}/manifold.safetensors" for folder in folders]


def judging_weights(wildcards):
    """The weights of the networks that say for measures of predictions which points count."""
    judges = {GRID.judge_of(measure) for measure in GRID.measured_predictions(wildcards.dataset)} - {None}
    place = (GRID.trained_on(wildcards.dataset), wildcards.network)
    return [f"{model_path(*place, judge, wildcards.seed)}/weights.safetensors" for judge in sorted(judges)]


def explained_before(wildcards):
    """The explanation of every image that a derived dataset is made by, if there is one."""
    by = GRID.explainer(wildcards.dataset)
    if by is None:
        return []
    model = model_path(GRID.source(wildcards.dataset), by["network"], by["training"], by["seed"])
    return f"{model}/dataset/n{by['draws']}/explanations/{by['explanation']}/relevance.safetensors"


def start_weights(wildcards):
    """Weights of the training that this one starts from, if it starts from one."""
    start = GRID.start(wildcards.training)
    if start is None:
        return []
    model = model_path(wildcards.dataset, wildcards.network, start, wildcards.seed)
    return f"{model}/weights.safetensors"


def attacked_before(wildcards):
    """The attacked inputs that an attack is made from, those of its source last."""
    for training, attack, draws in GRID.made_from(wildcards.training, wildcards.attack, int(wildcards.draws)):
        model = model_path(wildcards.dataset, wildcards.network, training, wildcards.seed)
        yield f"{model}/{attack}/n{draws}/inputs.safetensors"


def explained_inputs(wildcards):
    """The images that are explained: the test points, or what an attack made of them."""
    if wildcards.inputs == CLEAN:
        return f"<results>/{wildcards.dataset}/points.safetensors"
    model = model_path(wildcards.dataset, wildcards.network, wildcards.training, wildcards.seed)
    return f"{model}/{wildcards.inputs}/n{wildcards.draws}/inputs.safetensors"


def explanations(inputs, dataset, network, training, seed, attack, draws):
    """The heat maps of all explanations of an attacked model that have one for all draws, and the classes that they explain."""
    model = model_path(dataset, network, training, seed)
    for explanation in GRID.explanations(dataset, network, training, attack, int(draws)):
        if config["explanations"][explanation]["over"] != "each":
            yield from maps_of(model, inputs, draws, explanation, network)
            yield f"{model}/{inputs}/n{draws}/explanations/{explanation}/explained.safetensors"


def figure_function(name):
    """What the catalogue says of the function that draws a figure."""
    return catalog.named("figures", config["figures"][name])


def panels_of(name):
    """The panels of a figure."""
    return config["figures"][name].get("panels", [])


def trainings_of(name):
    """The trainings that a figure shows: those of its panels, or of the section that it draws."""
    shown = {training for panel in panels_of(name) for training in panel["trainings"]}
    if "cancellation" in figure_function(name).inputs:
        shown.update(training for _, _, training in GRID.cancelled())
    if "scores" in figure_function(name).inputs:
        shown.update(config["retraining"]["trainings"])
    return shown


def measured_tables(name):
    """The tables of the panels of a figure, of its explanation or of all; beside maps only those of the models shown."""
    function = figure_function(name)
    shows_one = bool({"maps", "images"} & set(function.inputs))
    drawn = catalog.value_in("figures", config["figures"][name], "explanation")
    for panel in panels_of(name):
        place, attacks = (panel["dataset"], panel["network"]), [panel["attack"]]
        seeds = GRID.seeds_of(panel["dataset"])
        if function.traits.get("noise") and (noise := GRID.noise(panel["attack"])):
            attacks.append(noise)
        for training, attack in itertools.product(panel["trainings"], attacks):
            draws = GRID.draws_of(*place, training, attack)
            for seed in seeds[:1] if shows_one else seeds:
                for number in draws[-1:] if shows_one else draws:
                    model, here = model_path(*place, training, seed), (*place, training, attack, number)
                    yield f"{model}/{attack}/n{number}/predictions.csv"
                    for explanation in GRID.explanations(*here):
                        if drawn in (None, explanation):
                            yield table_of(model, attack, number, explanation)


def shown_models(name):
    """The models of the panels of a figure of which one is shown: of the first seed and with most draws, and their attack."""
    for panel in panels_of(name):
        place, attack = (panel["dataset"], panel["network"]), panel["attack"]
        for training in panel["trainings"]:
            model = model_path(*place, training, GRID.seeds_of(panel["dataset"])[0])
            yield model, panel["network"], attack, GRID.draws_of(*place, training, attack)[-1]


def panel_images(name):
    """Test points of the panels of a figure, and what an attack made of them."""
    yield from (f"<results>/{panel['dataset']}/points.safetensors" for panel in panels_of(name))
    for model, _, attack, draws in shown_models(name):
        yield f"{model}/{attack}/n{draws}/inputs.safetensors"


def panel_maps(name):
    """Heat maps of the panels of a figure, before and after an attack, and their images."""
    explanation = catalog.value_in("figures", config["figures"][name], "explanation")
    yield from panel_images(name)
    for model, network, attack, draws in shown_models(name):
        for inputs in (CLEAN, attack):
            yield from maps_of(model, inputs, draws, explanation, network)


def panel_models(name):
    """Wildcards of the networks of the panels of a figure, with every seed."""
    for panel in panels_of(name):
        for seed, training in itertools.product(GRID.seeds_of(panel["dataset"]), panel["trainings"]):
            yield panel["dataset"], panel["network"], training, seed


def panel_gradients(name):
    """The expected gradients of the panels of a figure, of those that have several draws."""
    for dataset, network, training, seed in panel_models(name):
        if (dataset, network, training) in GRID.cancelled():
            yield f"{model_path(dataset, network, training, seed)}/gradients.safetensors"


def panel_weights(name):
    """The weights of the panels of a figure."""
    for dataset, network, training, seed in panel_models(name):
        yield f"{model_path(GRID.trained_on(dataset), network, training, seed)}/weights.safetensors"


def panel_fits(name):
    """What is said of the trainings of the panels of a figure: their diagnostics and their course."""
    for dataset, network, training, seed in panel_models(name):
        for file in ("fit.json", "history.csv"):
            yield f"{model_path(GRID.trained_on(dataset), network, training, seed)}/{file}"


def projected_pictures(name):
    """What the manifolds that a figure shows make of test images, those of the first seed."""
    figure = config["figures"][name]
    for manifold in figure["manifolds"]:
        yield f"{manifold_path(figure['dataset'], manifold, GRID.seeds_of(figure['dataset'])[0])}/pictures.safetensors"


FIGURE_INPUTS = {
    "measured": measured_tables,
    "summary": lambda name: ["<results>/measures.csv"],
    "images": panel_images,
    "maps": panel_maps,
    "cancellation": lambda name: ALL_CANCELLATIONS,
    "gradients": panel_gradients,
    "fits": panel_fits,
    "weights": panel_weights,
    "scores": lambda name: ["<results>/scores.csv"],
    "projections": projected_pictures,
    "comparisons": lambda name: ["<results>/comparisons.csv"],
    "claims": lambda name: ["<results>/claims.csv"],
}


def figure_input(kind, name):
    """The files of one kind that a figure needs: none, unless its function has an argument of that name."""
    return sorted(set(FIGURE_INPUTS[kind](name))) if kind in figure_function(name).inputs else []


def explored_models(name):
    """What a page to explore shows, as wildcards: a model and its attack for each number of draws and each seed."""
    page = config["explore"][name]
    place = {key: page[key] for key in ("dataset", "network", "attack")}
    for (training, draws), seed in itertools.product(GRID.explored(page), GRID.seeds_of(page["dataset"])):
        yield {**place, "training": training, "seed": seed, "draws": draws}


def explored_inputs(name):
    """The attacked images of a page to explore."""
    for model in explored_models(name):
        yield "<results>/{dataset}/{network}/{training}/seed{seed}/{attack}/n{draws}/inputs.safetensors".format(
            **model
        )


def explored_maps(name):
    """The heat maps of a page to explore, before and after the attack, and the predictions beside them."""
    for model in explored_models(name):
        for inputs in (CLEAN, model["attack"]):
            yield from explanations(inputs, **model)
