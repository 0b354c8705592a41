"""Every stage of the workflow as a job that a test can run by itself: a tiny run on digits, from the data to the report."""

from __future__ import annotations

import contextlib
import logging
import runpy
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from snakemake.iocontainers import Namedlist

from resilience import catalog
from resilience.provenance import canonical
from tests.conftest import ROOT, templates

LAYERS = ["1", "3", "5"]
NETWORK = {"architecture": "fc2", "width": 4}
PANEL = {"dataset": "digits", "network": "fc2", "attack": "fgsm", "trainings": ["det", "svi"]}
METHODS = {"det": "deterministic", "svi": "svi"}
EXPLANATION = {
    "method": "lrp",
    "rule": {"rule": "epsilon", "epsilon": 0.1},
    "explained": "predicted",
    "over": "mean",
    "unit": "strongest",
    "start": "one",
    "activations": "pass",
}
RANDOM = {"method": "random_map", "explained": "predicted", "over": "mean"}
#: Of the pixels, without which and with which alone networks learn again.
SHARES = [0.2, 0.6]
OF_MAPS = {f"top{k}": {"measure": "overlap", "top_k": k, "pixels": "absolute", "channels": "sum"} for k in (20, 30)}
OF_PREDICTIONS = {"right": {"measure": "accuracy"}}
MANIFOLDS: dict[str, dict[str, Any]] = {
    "plane": {"manifold": "principal_components", "of": "digits", "components": 3},
    "vae": {"manifold": "vae_gan", "of": "digits", "latent": 2, "epochs": 1, "width": 2},
}
DISTANCES = {
    "far": {"measure": "distance_to_manifold", "manifold": "vae", "of": "attacked", "judge": "det", "reconstructions": 2},
    "far_clean": {
        "measure": "distance_to_manifold",
        "manifold": "vae",
        "of": "clean",
        "judge": "none",
        "reconstructions": 2,
    },
    "farther": {"measure": "farther_from_manifold", "manifold": "plane", "judge": "itself", "reconstructions": 0},
}
OF_EXPLANATIONS = {"deletion": {"measure": "deletion", "steps": 4}, "randomisation": {"measure": "randomisation"}}
OF_NETWORKS = {"gradient_norm": {"measure": "gradient_norm"}}
#: Published numbers, for the stage that compares them with a run's.
PUBLISHED = """figure,dataset,network,attack,training,draws,reference,explanation,layer,statistic,value,accuracy,note
Fig. 2,digits,fc2,fgsm,svi,2,det,epsilon,5,mode,-0.07,0.02,
"""


@dataclass(frozen=True)
class Job:
    """A script, what it reads and writes, and what its rule would hand it."""

    script: str
    inputs: Mapping[str, str | list[str]]
    outputs: Mapping[str, str | list[str]]
    wildcards: Mapping[str, Any] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return "-".join(
            [self.script, *(str(self.wildcards[key]) for key in ("training", "inputs", "figure") if key in self.wildcards)]
        )

    @property
    def files(self) -> list[str]:
        """All that it reads."""
        return flat(self.inputs)

    @property
    def products(self) -> list[str]:
        """All that it writes."""
        return flat(self.outputs)

    def run(self, folder: Path) -> str:
        """What the error says that it ends with; nothing if it ends well."""
        script = str(ROOT / f"workflow/scripts/{self.script}.py")
        with contextlib.chdir(folder), as_before():
            try:
                runpy.run_path(script, {"snakemake": self._snakemake()})
            except Exception as error:
                return f"{type(error).__name__}: {error}"
        return ""

    def _snakemake(self) -> SimpleNamespace:
        """What Snakemake puts into a script, as far as ours look at it."""

        def files(named: Mapping[str, str | list[str]]) -> Namedlist:
            found = Namedlist(flat(named))
            for name, value in named.items():
                setattr(found, name, value)
            return found

        return SimpleNamespace(
            input=files(self.inputs),
            output=files(self.outputs),
            wildcards=Namedlist(fromdict={key: str(value) for key, value in self.wildcards.items()}),
            params=SimpleNamespace(recipe=canonical({"script": self.script, "settings": self.settings, "code": ""})),
            log=["log"],
            threads=1,
        )


@contextlib.contextmanager
def as_before() -> Iterator[None]:
    """Undo what a script changes of its process."""
    logger, hook = logging.getLogger("resilience"), sys.excepthook
    handlers, level, propagates = logger.handlers[:], logger.level, logger.propagate
    try:
        yield
    finally:
        for handler in set(logger.handlers) - set(handlers):
            handler.close()
        logger.handlers[:], logger.level, logger.propagate, sys.excepthook = handlers, level, propagates, hook
        logging.captureWarnings(False)


def flat(named: Mapping[str, str | list[str]]) -> list[str]:
    return [file for files in named.values() for file in ([files] if isinstance(files, str) else files)]


def model(training: str, seed: int) -> str:
    return f"results/digits/fc2/{training}/seed{seed}"


def draws(training: str) -> int:
    return 1 if training == "det" else 2


def maps(training: str, seed: int, inputs: str) -> list[str]:
    folder = f"{model(training, seed)}/{inputs}/n{draws(training)}/explanations/epsilon"
    return [*(f"{folder}/layer{layer}.safetensors" for layer in LAYERS), f"{folder}/explained.safetensors"]


def manifold(name: str, seed: int) -> str:
    return f"results/digits/manifolds/{name}/seed{seed}"


def beside(found: list[str]) -> str:
    """The table beside some maps."""
    return f"{Path(found[0]).parent}/measures.csv"


def of_network(training: str, seed: int) -> str:
    return f"{model(training, seed)}/clean/n{draws(training)}/network.csv"


def retrained(explanation: str, seed: int) -> str:
    return f"{model('det', seed)}/dataset/n1/explanations/{explanation}/retrained.csv"


def gradients(seed: int) -> str:
    return f"{model('svi', seed)}/gradients.safetensors"


def under_attack(training: str, seed: int) -> list[str]:
    """The tables of an attacked model: of its predictions, and beside its maps."""
    return [f"{model(training, seed)}/fgsm/n{draws(training)}/predictions.csv", beside(maps(training, seed, "fgsm"))]


def jobs() -> Iterator[Job]:
    """The workflow in little, in the order in which it runs: a job for each script and each kind of input."""
    points = "results/digits/points.safetensors"
    for name, classes in (("digits", 10), ("half_moons", 2)):
        folder, here = f"results/{name}", {"dataset": name}
        settings = {"source": name, "validation": 0.1, "train_points": 20 * classes}
        yield Job("dataset", {}, {"data": f"{folder}/data.safetensors"}, here, settings)
        yield Job(
            "points",
            {"data": f"{folder}/data.safetensors"},
            {"points": f"{folder}/points.safetensors"},
            here,
            {"count": 20, "chosen_as": name},
        )
    trainings = {
        "det": {"method": "deterministic", "epochs": 2, "learning_rate": 0.01},
        "svi": {"method": "svi", "prior": "he", "epochs": 2, "learning_rate": 0.01},
        "hmc": {
            "method": "hmc",
            "prior": "he",
            "start": "det",
            "chains": 1,
            "draws": 2,
            "warmup": 1,
            "step_size": 0.01,
            "leapfrog_steps": 2,
        },
    }
    for seed in (0, 1):
        for training, settings in trainings.items():
            yield Job(
                "train",
                {
                    "data": "results/digits/data.safetensors",
                    "start": f"{model('det', seed)}/weights.safetensors" if "start" in settings else [],
                },
                {
                    key: f"{model(training, seed)}/{file}"
                    for key, file in (("weights", "weights.safetensors"), ("history", "history.csv"), ("fit", "fit.json"))
                },
                {"dataset": "digits", "network": "fc2", "training": training, "seed": seed},
                {"network": NETWORK, "training": settings},
            )
        important = f"{model('det', seed)}/dataset/n1/explanations/epsilon/relevance.safetensors"
        place = {"dataset": "digits", "network": "fc2", "training": "det", "seed": seed}
        yield Job(
            "explain_dataset",
            {"data": "results/digits/data.safetensors", "weights": f"{model('det', seed)}/weights.safetensors"},
            {"relevance": important},
            place | {"draws": 1, "explanation": "epsilon"},
            {"explanation": EXPLANATION, "layers": LAYERS, "network": NETWORK},
        )
        yield Job(
            "derive",
            {"source": "results/digits/data.safetensors", "relevance": important},
            {"data": f"results/without{seed}/data.safetensors"},
            {"dataset": f"without{seed}"},
            {
                "source": "occluded",
                "of": "digits",
                "by": {"network": "fc2", "training": "det", "explanation": "epsilon", "seed": seed},
                "share": 0.3,
            },
        )
        chance = f"{Path(important).parent.with_name('random')}/relevance.safetensors"
        yield Job(
            "explain_dataset",
            {"data": "results/digits/data.safetensors", "weights": f"{model('det', seed)}/weights.safetensors"},
            {"relevance": chance},
            place | {"draws": 1, "explanation": "random"},
            {"explanation": RANDOM, "layers": LAYERS, "network": NETWORK},
        )
        for explanation, maps_of_all in (("epsilon", important), ("random", chance)):
            yield Job(
                "retrain",
                {
                    "data": "results/digits/data.safetensors",
                    "weights": f"{model('det', seed)}/weights.safetensors",
                    "relevance": maps_of_all,
                },
                {"table": retrained(explanation, seed)},
                place | {"draws": 1, "explanation": explanation},
                {
                    "network": NETWORK,
                    "by": {"network": "fc2", "training": "det"},
                    "learns": {"network": NETWORK, "training": trainings["det"]},
                    "shares": SHARES,
                    "repeats": 2,
                },
            )
        for name, settings in MANIFOLDS.items():
            yield Job(
                "manifold",
                {"data": "results/digits/data.safetensors"},
                {
                    key: f"{manifold(name, seed)}/{file}"
                    for key, file in (
                        ("manifold", "manifold.safetensors"),
                        ("history", "history.csv"),
                        ("pictures", "pictures.safetensors"),
                    )
                },
                {"dataset": "digits", "manifold": name, "seed": seed},
                {"manifold": settings},
            )
        for training in METHODS:
            place = {"dataset": "digits", "network": "fc2", "training": training, "seed": seed}
            weights = f"{model(training, seed)}/weights.safetensors"
            attacked = f"{model(training, seed)}/fgsm/n{draws(training)}/inputs.safetensors"
            here = place | {"attack": "fgsm", "draws": draws(training)}
            yield Job(
                "attack",
                {"points": points, "weights": weights},
                {"inputs": attacked},
                here,
                {"attack": {"method": "fgsm", "epsilon": 0.1}, "network": NETWORK},
            )
            for inputs, file in (("clean", points), ("fgsm", attacked)):
                found = maps(training, seed, inputs)
                yield Job(
                    "explain",
                    {"points": points, "inputs": file, "weights": weights},
                    {"maps": found[:-1], "explained": found[-1]},
                    place | {"inputs": inputs, "draws": draws(training), "explanation": "epsilon"},
                    {"explanation": EXPLANATION, "layers": LAYERS, "network": NETWORK},
                )
            clean, explained = (maps(training, seed, inputs)[:-1] for inputs in ("clean", "fgsm"))
            yield Job(
                "measure",
                {"points": points, "clean": clean, "attacked": explained},
                {"table": beside(explained)},
                here | {"explanation": "epsilon"},
                {"measures": OF_MAPS},
            )
            yield Job(
                "predict",
                {
                    "points": points,
                    "attacked": attacked,
                    "weights": weights,
                    "manifolds": [f"{manifold(name, seed)}/manifold.safetensors" for name in MANIFOLDS],
                    "judges": [f"{model('det', seed)}/weights.safetensors"],
                },
                {"table": f"{Path(attacked).parent}/predictions.csv"},
                here,
                {"measures": OF_PREDICTIONS | DISTANCES, "network": NETWORK},
            )
            yield Job(
                "measure_explanation",
                {
                    "points": points,
                    "weights": weights,
                    "maps": clean[-1],
                    "explained": maps(training, seed, "clean")[-1],
                },
                {"table": beside(clean)},
                place | {"draws": draws(training), "explanation": "epsilon"},
                {"measures": OF_EXPLANATIONS, "explanation": EXPLANATION, "layers": LAYERS, "network": NETWORK},
            )
            yield Job(
                "measure_network",
                {"points": points, "weights": weights},
                {"table": of_network(training, seed)},
                place | {"draws": draws(training)},
                {"measures": OF_NETWORKS, "network": NETWORK},
            )
        yield Job(
            "transfer",
            {"inputs": f"{model('det', seed)}/fgsm/n1/inputs.safetensors"},
            {"inputs": f"{model('svi', seed)}/transfer/n2/inputs.safetensors"},
            {"dataset": "digits", "network": "fc2", "training": "svi", "seed": seed, "attack": "transfer", "draws": 2},
        )
        yield Job(
            "match_size",
            {
                "points": points,
                "attacked": [f"{model(name, seed)}/fgsm/n{draws(name)}/inputs.safetensors" for name in METHODS],
            },
            {"inputs": f"{model('det', seed)}/matched/n1/inputs.safetensors"},
            {"dataset": "digits", "network": "fc2", "training": "det", "seed": seed, "attack": "matched", "draws": 1},
            {"attack": {"method": "match_size", "attack": "fgsm", "source": "svi", "draws": 2}},
        )
        yield Job(
            "cancellation",
            {
                "data": "results/digits/data.safetensors",
                "points": points,
                "weights": f"{model('svi', seed)}/weights.safetensors",
            },
            {"table": f"{model('svi', seed)}/cancellation.csv", "gradients": gradients(seed)},
            {"dataset": "digits", "network": "fc2", "training": "svi", "seed": seed},
            {"draws": [1, 2], "neighbours": 12, "dimensions": 3, "network": NETWORK},
        )
    models = [(training, seed) for training in METHODS for seed in (0, 1)]
    tables = [table for each in models for table in under_attack(*each)]
    cancellations = [f"{model('svi', seed)}/cancellation.csv" for seed in (0, 1)]
    scored = [retrained(explanation, seed) for explanation in ("epsilon", "random") for seed in (0, 1)]
    of_scores = {
        "shares": SHARES,
        "random": "random",
        "controls": ["random"],
        "strengths": {"det": {"norm": "", "objective": "", "strength": 0.0}},
    }
    yield Job(
        "scores",
        {"retrained": scored},
        {"table": "results/scores.csv"},
        settings={**of_scores, "roles": {"det": "deterministic"}},
    )
    yield Job(
        "comparisons",
        {
            "measured": tables,
            "cancellation": cancellations,
            "retrained": scored,
            "networks": [of_network(*each) for each in models],
        },
        {"table": "results/comparisons.csv"},
        settings={
            "roles": {"det": "deterministic", "svi": "bayesian"},
            "layers": {"fc2": LAYERS},
            "measures": ["top20"],
            "of_predictions": list(OF_PREDICTIONS),
            "of_networks": list(OF_NETWORKS),
            "growing": [[["digits", "fc2"], ["digits", "fc2"]]],
            "series": [["det", "svi"]],
            "retraining": {**of_scores, "explanations": ["epsilon", "random"]},
            "confidence": 0.95,
        },
    )
    yield Job(
        "outcomes",
        {"measured": tables},
        {"table": "results/outcomes.csv"},
        settings={"layers": {"fc2": LAYERS}, "explanation": "epsilon", "measure": "top20", "noise": {"fgsm": None}},
    )
    clean = [table for each in models for table in (beside(maps(*each, "clean")), of_network(*each))]
    yield Job(
        "summary",
        {"measured": [*tables, *clean]},
        {"table": "results/measures.csv"},
        settings={"measures": sorted([*OF_MAPS, *OF_PREDICTIONS, *OF_EXPLANATIONS, *OF_NETWORKS])},
    )
    yield Job(
        "claims",
        {"table": "results/comparisons.csv"},
        {"table": "results/claims.csv"},
        settings={
            "judged": [[name, catalog.statement(name)] for name in catalog.claims_of(["carbone2021"])],
            "explanation": "epsilon",
            "measure": "top20",
            "confidence": 0.95,
            "by_rules": ["epsilon"],
            "otherwise": [],
            "of_clean_class": [],
            "matched_size": [],
            "noise": [],
            "outputs": {"fc2": LAYERS[-1]},
            "methods": {"epsilon": "lrp", "random": "random_map"},
        },
    )
    pictures = [
        points,
        *(path for training in METHODS for inputs in ("clean", "fgsm") for path in maps(training, 0, inputs)[:-1]),
        *(f"{model(training, 0)}/fgsm/n{draws(training)}/inputs.safetensors" for training in METHODS),
    ]
    shown = {
        "scatter": {"measured": tables},
        "answer": {"claims": ["results/claims.csv"]},
        "cancellation": {"cancellation": cancellations},
        "failed_attack": {"measured": [table for table in tables if "seed0" in table], "maps": pictures},
        "explanations": {"summary": ["results/measures.csv"]},
        "scores_by_training": {"scores": ["results/scores.csv"]},
        "gradient_components": {"gradients": [gradients(seed) for seed in (0, 1)]},
        "distances_to_manifold": {"measured": tables},
        "manifold_pictures": {"projections": [f"{manifold(name, 0)}/pictures.safetensors" for name in MANIFOLDS]},
        "draws_alone": {
            "fits": [
                f"{model(training, seed)}/{file}"
                for training in METHODS
                for seed in (0, 1)
                for file in ("fit.json", "history.csv")
            ]
        },
    }
    for name, inputs in shown.items():
        panel = PANEL | {"trainings": ["svi"]} if name == "gradient_components" else PANEL
        panels = {} if name in ("cancellation", "scores_by_training", "manifold_pictures") else {"panels": [panel]}
        options: dict[str, Any] = {
            "explanations": {"measures": ["top20", "deletion"]},
            "distances_to_manifold": {"measure": "far", "clean": "far_clean"},
            "manifold_pictures": {"dataset": "digits", "manifolds": list(MANIFOLDS)},
        }.get(name, {})
        yield Job(
            "figure",
            inputs,
            {kind: f"results/figures/{name}.{kind}" for kind in ("png", "pdf")},
            {"figure": name},
            {
                "figure": {"figure": name, **panels, **options},
                "methods": METHODS,
                "layers": {"fc2": LAYERS},
                "epsilons": {"fgsm": 0.1},
                "noise": {"fgsm": None},
                "measures": OF_MAPS,
                "titles": {},
            },
        )
    yield Job(
        "report",
        {
            "claims": ["results/claims.csv"],
            "outcomes": "results/outcomes.csv",
            "figures": [f"results/figures/{name}.png" for name in shown],
            "fits": [f"{model(training, seed)}/fit.json" for training in METHODS for seed in (0, 1)],
            "histories": [f"{model(training, seed)}/history.csv" for training in METHODS for seed in (0, 1)],
        },
        {"page": "results/report.html"},
        settings={
            "config": {"results": "results"},
            "templates": templates("report"),
            "flow": {"rules": {"claims": "Judge.", "report": "Tell."}, "arrows": [("claims", "report")]},
            "captions": {name: ["", ""] for name in shown},
            "titles": {},
        },
    )
    yield Job(
        "explore",
        {
            "points": points,
            "attacked": [
                f"{model(training, seed)}/fgsm/n{draws(training)}/inputs.safetensors"
                for training in METHODS
                for seed in (0, 1)
            ],
            "maps": [
                path
                for training in METHODS
                for seed in (0, 1)
                for inputs in ("clean", "fgsm")
                for path in maps(training, seed, inputs)
            ],
        },
        {"page": "results/explore/page.html"},
        settings={
            "page": {"dataset": "digits", "network": "fc2", "attack": "fgsm", "reference": "det", "training": "svi"},
            "templates": templates("explore"),
            "models": [[training, draws(training)] for training in METHODS],
            "methods": METHODS,
            "layers": LAYERS,
            "title": None,
            "epsilon": 0.1,
            "seeds": [0, 1],
            "first": {"explanation": "epsilon", "measure": "top20"},
            "measures": OF_MAPS,
        },
    )
    yield Job(
        "reproduction",
        {"published": "published.csv", "paper_run": tables, "published_run": tables},
        {"table": "results/reproduction.csv"},
        settings={"measure": "top20"},
    )
    yield Job(
        "reproduction_figure",
        {"table": "results/reproduction.csv"},
        {kind: f"results/reproduction.{kind}" for kind in ("png", "pdf")},
        settings={"runs": {"paper": "the paper's", "published": "the published"}},
    )
