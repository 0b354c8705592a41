# What each stage depends on beside its input files.


#: What a dataset does not depend on: what is chosen of it, what is judged on it, and what figures call it.
NOT_OF_THE_DATA = ("test_points", "trained_on", "title", "seeds")


def dataset_recipe(wildcards):
    """A dataset depends on its entry, but for what is done with it, and on the files that it names."""
    entry = filled("datasets", wildcards.dataset, wildcards)
    settings = {key: value for key, value in entry.items() if key not in NOT_OF_THE_DATA}
    if contents := contents_of("datasets", entry):
        settings["contents"] = contents
    return recipe("dataset.py", [("datasets", entry)], **settings)


def derive_recipe(wildcards):
    """A derived dataset depends on its entry; how the source was split stands there."""
    entry = config["datasets"][wildcards.dataset]
    settings = {key: value for key, value in entry.items() if key not in (*NOT_OF_THE_DATA, "validation")}
    return recipe("derive.py", [("datasets", entry)], **settings)


def points_recipe(wildcards):
    """The points depend on how many there are; those of a derived dataset are those of the one that it goes back to."""
    count, root = config["datasets"][wildcards.dataset]["test_points"], GRID.root(wildcards.dataset)
    return recipe("points.py", count=count, chosen_as=root)


def explain_dataset_recipe(wildcards):
    """As an explanation of test points does, that of a dataset depends on its entry, on the layers, and on the network."""
    functions, settings = explained_by(wildcards)
    return recipe("explain_dataset.py", functions, **settings)


def training_recipe(wildcards):
    """A training depends on its own entry, on those that it contains, on the files that it names, and on the network's."""
    network, training = GRID.network(wildcards.network), filled("trainings", wildcards.training, wildcards)
    functions = [
        ("networks", network),
        ("trainings", training),
        *catalog.inner_entries("trainings", training),
    ]
    settings = {"network": network, "training": training}
    if contents := contents_of("trainings", training):
        settings["contents"] = contents
    return recipe("train.py", functions, **settings)


def manifold_recipe(wildcards):
    """A manifold depends on its entry; the other datasets that it is of have one of their own."""
    entry = config["manifolds"][wildcards.manifold] | {"of": wildcards.dataset}
    return recipe("manifold.py", [("manifolds", entry)], manifold=entry)


def attack_recipe(wildcards):
    """An attack depends on its entry and on the network."""
    network, attack = GRID.network(wildcards.network), config["attacks"][wildcards.attack]
    functions = [("attacks", attack), *catalog.inner_entries("attacks", attack), ("networks", network)]
    return recipe("attack.py", functions, attack=attack, network=network)


def match_size_recipe(wildcards):
    """An attack of matched size depends on its entry."""
    attack = config["attacks"][wildcards.attack]
    return recipe("match_size.py", [("attacks", attack)], attack=attack)


def explain_recipe(wildcards):
    """An explanation depends on its entry, on the layers, and on the network."""
    functions, settings = explained_by(wildcards)
    return recipe("explain.py", functions, **settings)


def explained_by(wildcards):
    """The functions and the settings of an explanation and the network that it explains."""
    network, explanation = (
        GRID.network(wildcards.network),
        config["explanations"][wildcards.explanation],
    )
    inner = catalog.inner_entries("explanations", explanation)
    functions = [("explanations", explanation), *inner, ("networks", network)]
    layers = GRID.layers(wildcards.network)
    return functions, {"explanation": explanation, "network": network, "layers": layers}


def measures_of(kind):
    """The measures of a kind, and their functions."""
    measures = GRID.measures(kind)
    return measures, [("measures", settings) for settings in measures.values()]


def measure_recipe(wildcards):
    """What is measured of heat maps depends on the measures of these."""
    measures, functions = measures_of("maps")
    return recipe("measure.py", functions, measures=measures)


def predict_recipe(wildcards):
    """What is measured of predictions depends on the network and on the measures that the dataset has of these."""
    measures, network = GRID.measured_predictions(wildcards.dataset), GRID.network(wildcards.network)
    functions = [("measures", settings) for settings in measures.values()]
    return recipe("predict.py", [*functions, ("networks", network)], measures=measures, network=network)


def measure_explanation_recipe(wildcards):
    """What is measured of a clean explanation depends on it, on the network, and on the measures of these."""
    (measures, of_measures), (functions, settings) = measures_of("explanation"), explained_by(wildcards)
    return recipe("measure_explanation.py", [*of_measures, *functions], measures=measures, **settings)


def measure_network_recipe(wildcards):
    """What is measured of a network depends on it, and on the measures of networks."""
    (measures, functions), network = measures_of("network"), GRID.network(wildcards.network)
    return recipe(
        "measure_network.py", [*functions, ("networks", network)], measures=measures, network=network
    )


def summary_recipe(wildcards):
    """The summary depends on the names of the measures."""
    return recipe("summary.py", measures=sorted(config["measures"]))


def cancellation_recipe(wildcards):
    """Cancellation depends on its section, but for what is combined, and on the network."""
    network = GRID.network(wildcards.network)
    return recipe(
        "cancellation.py",
        [("networks", network)],
        network=network,
        draws=GRID.cancelled_draws(wildcards.training),
        neighbours=config["cancellation"]["neighbours"],
        dimensions=config["cancellation"]["dimensions"],
    )


def retrain_recipe(wildcards):
    """Retrained networks depend on what learns and how, on the shares and repeats, and on the network that is explained."""
    section, network = config["retraining"], GRID.network(wildcards.network)
    learns = {
        "network": GRID.network(section["by"]["network"]),
        "training": config["trainings"][section["by"]["training"]],
    }
    functions = [
        ("networks", network),
        ("networks", learns["network"]),
        ("trainings", learns["training"]),
        *catalog.inner_entries("trainings", learns["training"]),
    ]
    return recipe(
        "retrain.py",
        functions,
        network=network,
        learns=learns,
        **{key: section[key] for key in ("by", "shares", "repeats")},
    )


def scores_recipe(wildcards):
    """The scores depend on the shares, on the random map that they are measured from, and on what trainings are."""
    return recipe(
        "scores.py",
        **of_scores(),
        roles={training: GRID.role(training) for training in config["retraining"]["trainings"]},
    )


def of_scores():
    """What scores are made from, and what trainings they are correlated over."""
    section, strengths = config["retraining"], GRID.strengths()
    return {
        "shares": section["shares"],
        "random": GRID.random_map(),
        "controls": [name for name in section["explanations"] if GRID.is_control(name)],
        "strengths": {name: strengths[name] for name in section["trainings"] if name in strengths},
    }


def outcomes_recipe(wildcards):
    """The outcomes depend on the layers, on what is shown of explanations, and on which attacks are noise."""
    return recipe(
        "outcomes.py",
        layers={network: GRID.layers(network) for _, network, *_ in GRID.attacked()},
        **GRID.shown,
        noise={attack: GRID.noise(attack) for *_, attack, _ in GRID.attacked()},
    )


def comparisons_recipe(wildcards):
    """The comparisons depend on the roles of trainings, on the layers, and on what models are compared by."""
    compared, claims = [*GRID.attacked(), *GRID.cancelled(), *GRID.retrained()], config["claims"]
    return recipe(
        "comparisons.py",
        roles={training: GRID.role(training) for _, _, training, *_ in compared},
        layers={network: GRID.layers(network) for _, network, *_ in compared},
        measures=GRID.compared("maps"),
        of_predictions=GRID.compared("predictions"),
        of_networks=GRID.compared("network"),
        growing=[[[place["dataset"], place["network"]] for place in series] for series in claims["growing"]],
        series=claims["series"],
        confidence=claims["confidence"],
        retraining=of_scores() | {"explanations": config["retraining"]["explanations"]} if SCORED else None,
    )


def claims_recipe(wildcards):
    """The verdicts depend on the claims that are judged, and on what explanations and attacks are."""
    claims = config["claims"]
    explanations = {name: config["explanations"][name] for _, name in GRID.explained()}
    judged = catalog.claims_of(claims["judged"])
    means = [
        name
        for name, entry in sorted(explanations.items())
        if entry["over"] == "mean" and not catalog.named("explanations", entry).traits.get("control")
    ]
    return recipe(
        "claims.py",
        [("statements", {"claim": name}) for name in judged],
        judged=[[name, catalog.statement(name)] for name in judged],
        explanation=claims["explanation"],
        measure=claims["measure"],
        confidence=claims["confidence"],
        by_rules=[name for name in means if explanations[name]["method"] == "lrp"],
        otherwise=[name for name in means if explanations[name]["method"] != "lrp"],
        of_clean_class=sorted(name for name, entry in explanations.items() if entry["explained"] == "clean"),
        matched_size=sorted(MATCHED),
        noise=sorted(NOISY),
        outputs={network: GRID.layers(network)[-1] for _, network, *_ in GRID.attacked()},
        methods={
            name: config["explanations"][name]["method"]
            for *_, name in [*GRID.explained(), *GRID.retrained()]
        },
    )


def figure_recipe(wildcards):
    """A figure depends on its entry, on its function, and on methods, layers, strengths and measures of what it shows."""
    entry = config["figures"][wildcards.figure]
    panels = panels_of(wildcards.figure)
    return recipe(
        "figure.py",
        [("figures", entry)],
        figure=entry,
        methods={name: config["trainings"][name]["method"] for name in trainings_of(wildcards.figure)},
        layers={panel["network"]: GRID.layers(panel["network"]) for panel in panels},
        epsilons={panel["attack"]: GRID.epsilon(panel["attack"]) for panel in panels},
        noise={panel["attack"]: GRID.noise(panel["attack"]) for panel in panels},
        titles=GRID.titles,
        measures=GRID.measures("maps"),
    )


def report_recipe(wildcards):
    """The report shows all settings, the captions that the figures' functions carry, and the rules that lead to it."""
    described = {name: figure_function(name) for name in config["figures"]}
    return recipe(
        "report.py",
        config=config,
        titles=GRID.titles,
        templates=templates("report"),
        captions={name: [function.summary, function.description] for name, function in described.items()},
        flow=flow_to(str(lying_here(f"{RESULTS}/report.html"))),
    )


def explore_recipe(wildcards):
    """A page to explore depends on its entry, on methods, layers, strength and seeds of what it shows, and on the overlaps."""
    page, measures = config["explore"][wildcards.page], GRID.measures("maps")
    return recipe(
        "explore.py",
        page=page,
        templates=templates("explore"),
        models=GRID.explored(page),
        methods={name: config["trainings"][name]["method"] for name in (page["reference"], page["training"])},
        layers=GRID.layers(page["network"]),
        title=GRID.titles.get(page["dataset"]),
        epsilon=GRID.epsilon(page["attack"]),
        seeds=GRID.seeds_of(page["dataset"]),
        first=GRID.shown,
        measures={name: entry for name, entry in measures.items() if entry["measure"] == "overlap"},
    )


def times_recipe(wildcards):
    """The page of run times shows what was measured so far, so it is made anew once any job has run again."""
    seconds = measured_seconds(str(lying_here(f"{LOGS}/times.html")))
    return recipe("times.py", templates=templates("times"), seconds=seconds)


def templates(page):
    """The texts of a page's template, of its script if it has one, and of the template that all pages share."""
    files = [file for name in ("page", page) for file in sorted((ROOT / "workflow/report").glob(f"{name}.*"))]
    return {file.name: file.read_text(encoding="utf-8") for file in files}
