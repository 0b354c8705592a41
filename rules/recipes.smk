# What a job depends on beside its input files, as one text: its settings, and a digest of the code that it reaches.
# Snakemake reruns a job when this text changes.

from functools import cache


def recipe(script, functions=(), **settings):
    """The recipe of a job that runs ``script`` and calls the functions named by the ``(section, entry)`` pairs."""
    named = tuple(named_function(section, entry) for section, entry in functions)
    return canonical({"settings": settings, "code": code_of(script, named)})


@cache
def code_of(script, functions):
    """The digest of the code that a script and some functions reach, which does not change while a run is planned."""
    return code_digest(ROOT / "workflow/scripts" / script, functions)


def named_function(section, entry):
    """Module and name of the function that an entry names."""
    function = catalog.functions(section)[entry[catalog.SECTIONS[section].key]]
    return function.module, function.name


def dataset_recipe(wildcards):
    """A dataset depends on its entry, but for the number of points that are attacked."""
    entry = config["datasets"][wildcards.dataset]
    settings = {key: value for key, value in entry.items() if key != "test_points"}
    return recipe("dataset.py", [("datasets", entry)], **settings)


def training_recipe(wildcards):
    """A training depends on its own entry, on those that it contains, and on the network's."""
    network, training = config["networks"][wildcards.network], config["trainings"][wildcards.training]
    functions = [
        ("networks", network),
        ("trainings", training),
        *catalog.inner_entries("trainings", training),
    ]
    return recipe("train.py", functions, network=network, training=training)


def attack_recipe(wildcards):
    """An attack depends on its entry and on the code of the network."""
    network, attack = config["networks"][wildcards.network], config["attacks"][wildcards.attack]
    functions = [("attacks", attack), *catalog.inner_entries("attacks", attack), ("networks", network)]
    return recipe("attack.py", functions, attack=attack)


def explain_recipe(wildcards):
    """An explanation depends on its LRP rule, on the layers, and on the code of the network."""
    network, lrp = config["networks"][wildcards.network], config["lrp"][wildcards.rule]
    functions = [("lrp", lrp), ("networks", network)]
    return recipe("explain.py", functions, lrp=lrp, layers=GRID.layers(wildcards.network))


def robustness_recipe(wildcards):
    """Robustness depends on k and on which pixels those are."""
    settings = config["robustness"]
    return recipe("robustness.py", top_k=sorted(settings["top_k"]), pixels=settings["pixels"])


def comparisons_recipe(wildcards):
    """The comparisons depend on the roles of trainings, on the layers, and on k."""
    return recipe(
        "comparisons.py",
        roles={training: GRID.role(training) for training in {cell.training for cell in GRID.cells}},
        layers={network: GRID.layers(network) for network in {cell.network for cell in GRID.cells}},
        top_k=config["claims"]["top_k"],
        confidence=config["claims"]["confidence"],
    )


def figure_recipe(wildcards):
    """A figure depends on its entry, on its function, and on methods, layers and strengths of what it shows."""
    entry = config["figures"][wildcards.figure]
    panels = panels_of(wildcards.figure)
    return recipe(
        "figure.py",
        [("figures", entry)],
        figure=entry,
        methods={
            name: config["trainings"][name]["method"] for panel in panels for name in panel["trainings"]
        },
        layers={panel["network"]: GRID.layers(panel["network"]) for panel in panels},
        epsilons={panel["attack"]: GRID.epsilon(panel["attack"]) for panel in panels},
        pixels=config["robustness"]["pixels"],
    )


def report_recipe(wildcards):
    """The report shows all settings, and the captions that the figures' functions carry."""
    described = {name: figure_function(name) for name in config["figures"]}
    return recipe(
        "report.py",
        config=config,
        template=(ROOT / "workflow/report/report.html.j2").read_text(),
        captions={name: [function.summary, function.description] for name, function in described.items()},
    )
