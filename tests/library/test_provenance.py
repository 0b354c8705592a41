"""The digest of a job's code changes when code that the job can reach changes, and at no other time."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

import pytest

from resilience import places, provenance, source_files
from resilience.provenance import forget
from tests.conftest import ROOT


@pytest.fixture
def library(tmp_path, monkeypatch):
    """A copy of the library and of the scripts that a test may edit."""
    shutil.copytree(ROOT / "src/resilience", tmp_path / "resilience", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "workflow/scripts", tmp_path / "scripts", ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(source_files, "LIBRARY", tmp_path / "resilience")

    def edit(file: str, old: str, new: str) -> None:
        path = tmp_path / file
        text = path.read_text(encoding="utf-8")
        assert text.count(old) >= 1, f"{old!r} is not in {file}"
        path.write_text(text.replace(old, new), encoding="utf-8")
        forget()

    forget()
    yield tmp_path / "scripts", edit
    forget()


LRP = ("resilience.explanations.lrp", "lrp")
JOBS = {
    "dataset": ("dataset.py", [("resilience.datasets.bundled", "digits")]),
    "points": ("points.py", []),
    "train det": ("train.py", [("resilience.training.point", "deterministic"), ("resilience.architectures.stacks", "fc2")]),
    "train svi": ("train.py", [("resilience.training.variational", "svi"), ("resilience.architectures.stacks", "fc2")]),
    "train conv": (
        "train.py",
        [("resilience.training.point", "deterministic"), ("resilience.architectures.stacks", "conv")],
    ),
    "train adv": (
        "train.py",
        [
            ("resilience.training.point", "adversarial"),
            ("resilience.attacks.gradient", "fgsm"),
            ("resilience.architectures.stacks", "fc2"),
        ],
    ),
    "train hmc": ("train.py", [("resilience.training.chains", "hmc"), ("resilience.architectures.stacks", "fc2")]),
    "train nuts": ("train.py", [("resilience.training.chains", "nuts"), ("resilience.architectures.stacks", "fc2")]),
    "attack fgsm": ("attack.py", [("resilience.attacks.gradient", "fgsm"), ("resilience.architectures.stacks", "fc2")]),
    "attack pgd": ("attack.py", [("resilience.attacks.gradient", "pgd"), ("resilience.architectures.stacks", "fc2")]),
    "transfer": ("transfer.py", []),
    "match size": ("match_size.py", [("resilience.attacks.matched", "match_size")]),
    "explain epsilon": (
        "explain.py",
        [LRP, ("resilience.lrp_rules", "epsilon"), ("resilience.architectures.stacks", "fc2")],
    ),
    "explain gamma": ("explain.py", [LRP, ("resilience.lrp_rules", "gamma"), ("resilience.architectures.stacks", "fc2")]),
    "explain dataset": (
        "explain_dataset.py",
        [LRP, ("resilience.lrp_rules", "gamma"), ("resilience.architectures.stacks", "fc2")],
    ),
    "retrain": (
        "retrain.py",
        [("resilience.training.point", "deterministic"), ("resilience.architectures.stacks", "fc2")],
    ),
    "predict": ("predict.py", [("resilience.measures.predictions", "accuracy"), ("resilience.architectures.stacks", "fc2")]),
    "measure overlap": ("measure.py", [("resilience.measures.maps", "overlap")]),
    "measure cosine": ("measure.py", [("resilience.measures.maps", "cosine")]),
    "measure explanation": (
        "measure_explanation.py",
        [
            ("resilience.measures.sanity", "deletion"),
            LRP,
            ("resilience.lrp_rules", "epsilon"),
            ("resilience.architectures.stacks", "fc2"),
        ],
    ),
    "measure network": (
        "measure_network.py",
        [("resilience.measures.networks", "gradient_norm"), ("resilience.architectures.stacks", "fc2")],
    ),
    "summary": ("summary.py", []),
    "scores": ("scores.py", []),
    "comparisons": ("comparisons.py", []),
    "claims": ("claims.py", [("resilience.claims.carbone2021", "more_robust")]),
    "outcomes": ("outcomes.py", []),
    "figure scatter": ("figure.py", [("resilience.figures.scatter", "scatter")]),
    "figure boxes": ("figure.py", [("resilience.figures.by_explanation", "by_explanation")]),
    "report": ("report.py", []),
}
ON_CLEAN = {"measure explanation", "measure network"}
TORCH = {name for name in JOBS if name.split()[0] in ("train", "attack", "explain", "retrain", "predict")} | ON_CLEAN
EXPLAIN = {name for name in JOBS if name.split()[0] == "explain"} | {"measure explanation"}
MEASURES_OF_MAPS = {"measure overlap", "measure cosine"}
FIGURES = {"figure scatter", "figure boxes"}
CALL_OPTIONS = TORCH | FIGURES | MEASURES_OF_MAPS | {"dataset", "match size", "claims"}
LOAD_SEEDING = TORCH | {"dataset", "points", "comparisons", "figure scatter", "figure boxes", "summary", "scores"}

EDITS = {
    "a comment": (
        "resilience/attacks/gradient.py",
        "        for restart in range(restarts):",
        "        # one after the other\n        for restart in range(restarts):",
        set(),
    ),
    "a docstring": ("resilience/lrp_rules.py", '"""Epsilon rule:', '"""The epsilon rule:', set()),
    "the layout": (
        "resilience/verdicts.py",
        "if seeds < SEEDS_FOR_A_VERDICT or p >= level:",
        "if (seeds < SEEDS_FOR_A_VERDICT\n            or p >= level):",
        set(),
    ),
    "what is only shown": ("resilience/progress.py", "mininterval=0.5", "mininterval=0.7", set()),
    "one dataset": ("resilience/datasets/bundled.py", "bunch.images / 16", "bunch.images / 17", {"dataset"}),
    "the choice of points": (
        "resilience/data.py",
        "divmod(count, len(classes))",
        "divmod(count + 0, len(classes))",
        {"dataset", "points"},
    ),
    "one training": (
        "resilience/training/variational.py",
        "points = len(task.x)",
        "points = 1 + len(task.x)",
        {"train svi"},
    ),
    "what point estimates share": (
        "resilience/training/point.py",
        "optimiser.zero_grad()",
        "optimiser.zero_grad(set_to_none=True)",
        {"train det", "train conv", "train adv", "retrain"},
    ),
    "one network": (
        "resilience/architectures/stacks.py",
        "nn.Linear(math.prod(shape), width)",
        "nn.Linear(math.prod(shape), width, True)",
        TORCH - {"train conv"},
    ),
    "one attack": (
        "resilience/attacks/gradient.py",
        "aim.descend(Ball(x, epsilon), sign, ball_step",
        "aim.descend(Ball(x, epsilon), sign, 1 * ball_step",
        {"attack pgd"},
    ),
    "another attack": (
        "resilience/attacks/gradient.py",
        'sign, epsilon, 1, x, "FGSM")',
        'sign, 1.0 * epsilon, 1, x, "FGSM")',
        {"attack fgsm", "train adv"},
    ),
    "what attacks share": (
        "resilience/attacks/gradient.py",
        "present = torch.maximum(largest, log_weight)",
        "present = log_weight",
        {"attack fgsm", "attack pgd", "train adv"},
    ),
    "one rule": (
        "resilience/lrp_rules.py",
        "w + gamma * w.clamp(min=0)",
        "w + gamma * w.clamp(min=0.0)",
        {"explain gamma", "explain dataset"},
    ),
    "what rules share": (
        "resilience/explanations/lrp.py",
        "relevance.div_(stabilised)",
        "relevance.div_(1 * stabilised)",
        EXPLAIN,
    ),
    "how draws are put together": (
        "resilience/explain.py",
        "return total / draws",
        "return total / max(draws, 1)",
        EXPLAIN,
    ),
    "what layers compute": (
        "resilience/operations.py",
        "return s @ weight",
        "return torch.matmul(s, weight)",
        {"attack fgsm", "attack pgd", "train adv", "measure network"} | EXPLAIN,
    ),
    "what is measured of all predictions": (
        "resilience/measures/predictions.py",
        "return 1 - np.abs(",
        "return 1.0 - np.abs(",
        {"predict"},
    ),
    "one measure": (
        "resilience/measures/maps.py",
        "return (before & after).sum((1, 2, 3))",
        "return (after & before).sum((1, 2, 3))",
        {"measure overlap"},
    ),
    "what is measured of all maps": (
        "resilience/tables.py",
        "return np.mean(list(values), axis=0)",
        "return np.mean([*values], axis=0)",
        MEASURES_OF_MAPS,
    ),
    "one measure of networks": (
        "resilience/measures/networks.py",
        "return self._total / self._weights[:, None]",
        "return (self._total / self._weights[:, None])[:]",
        {"measure network"},
    ),
    "a claim that is judged": (
        "resilience/claims/carbone2021.py",
        '''deterministic ones."""
    return compared.explanations(compared.attacked(), "deterministic")''',
        '''deterministic ones."""
    return compared.explanations(compared.attacked(), "deterministic", "all")''',
        {"claims"},
    ),
    "a claim that is not judged": (
        "resilience/claims/carbone2021.py",
        'subset="unbroken"',
        'subset="all"',
        set(),
    ),
    "the statistics": (
        "resilience/comparisons/statistics.py",
        "RESAMPLES = 1000",
        "RESAMPLES = 1001",
        {"comparisons", "figure scatter", "summary", "scores"},
    ),
    "the verdict": ("resilience/verdicts.py", "if low > 0:", "if low > 0.01:", {"claims"}),
    "one figure": ("resilience/figures/scatter.py", "alpha=0.3", "alpha=0.4", {"figure scatter"}),
    "what figures share": ("resilience/figures/drawing.py", '"savefig.dpi": 250', '"savefig.dpi": 251', FIGURES),
    "one script": (
        "scripts/explain.py",
        "probabilities = posterior",
        "probabilities = 1 * posterior",
        {"explain epsilon", "explain gamma"},
    ),
    "one script of measures": (
        "scripts/measure_network.py",
        "seed = seed_of(*snakemake.wildcards)",
        "seed = 1 + seed_of(*snakemake.wildcards)",
        {"measure network"},
    ),
    "which keys of an entry a function gets": (
        "resilience/catalog.py",
        "for key, value in settings.items() if key in known}",
        "for key, value in settings.items() if key in known and value}",
        CALL_OPTIONS,
    ),
    "how a function is found": (
        "resilience/catalog.py",
        "return getattr(importlib.import_module(found.module), found.name)",
        "return getattr(importlib.import_module(found.module), found.name, None)",
        CALL_OPTIONS - {"match size"},
    ),
    "types of settings, which an entry is read with": (
        "resilience/parameters.py",
        '"entry_of": "attacks"',
        '"entry_of": "networks"',
        CALL_OPTIONS,
    ),
    "the sampler that an annotation of another names": (
        "resilience/training/chains.py",
        "class NoUTurn:",
        "class NoUTurn:\n    unused = 1\n",
        {"train nuts"},
    ),
    "an annotation": (
        "resilience/training/chains.py",
        "sampler: FixedLength | NoUTurn",
        "sampler: NoUTurn | FixedLength",
        set(),
    ),
    "an effect of what is imported on the way": (
        "resilience/seeding.py",
        "import hashlib",
        "import hashlib\n\n_ = hashlib.new('md5')",
        LOAD_SEEDING,
    ),
    "a module that tells what a gradient costs": ("resilience/training/cost.py", "REPEATS = 3", "REPEATS = 4", set()),
    "which device is taken": (
        "resilience/devices.py",
        "os.environ[CUDA] = name",
        "os.environ[CUDA] = name.strip()",
        TORCH,
    ),
    "the page": ("resilience/pages.py", "autoescape=True", "autoescape=bool(1)", {"report"}),
}


def digests(scripts) -> dict[str, str]:
    return {name: provenance.code_digest(scripts / script, functions) for name, (script, functions) in JOBS.items()}


@pytest.mark.parametrize("name", EDITS)
def test_an_edit_reaches_the_jobs_that_use_it_and_no_others(name, library):
    scripts, edit = library
    file, old, new, expected = EDITS[name]
    before = digests(scripts)
    edit(file, old, new)
    after = digests(scripts)
    assert {job for job in JOBS if before[job] != after[job]} == expected


def test_digest_does_not_depend_on_where_the_library_lies(library):
    scripts, _ = library
    here = digests(scripts)
    source_files.LIBRARY = ROOT / "src/resilience"
    forget()
    assert digests(ROOT / "workflow/scripts") == here


@pytest.mark.parametrize(
    ("first", "second", "same"),
    [
        ({"a": 1, "b": {"c": 2, "d": 3}}, {"b": {"d": 3, "c": 2}, "a": 1}, True),
        ({"a": 2}, {"a": 2.0}, True),
        ({"a": [1, 2.0]}, {"a": (1.0, 2)}, True),
        ({"epochs": 5, "kernel": 10}, {"epochs": 10, "kernel": 5}, False),
        ({"a": 2}, {"a": 2.5}, False),
        ({"a": "2"}, {"a": 2}, False),
        ({"a": True}, {"a": 1}, False),
        ({"a": None}, {}, False),
        ({"a": [1, 2]}, {"a": [2, 1]}, False),
    ],
)
def test_canonical_text(first, second, same):
    assert (provenance.canonical(first) == provenance.canonical(second)) == same


DIGESTS = """
import sys
from pathlib import Path
from resilience import digests, provenance

for name in ("train.py", "report.py", "explore.py"):
    print(provenance.code_digest(Path(sys.argv[1], name)))
print(provenance.code_digest(Path(sys.argv[1], "train.py"), [("own.py", "own")]))
print(digests.content_digest(Path("pictures")))
"""


def test_digests_are_the_same_in_every_locale(other_locale, tmp_path):
    own = "from resilience.catalog import entry\n\n\n@entry()\ndef own(*, name: str = 'Zürich – 東京'):\n    return name\n"
    (tmp_path / "own.py").write_text(own, encoding="utf-8")
    for name in ("Äpfel", "Birnen", "東京"):
        (tmp_path / "pictures" / name).mkdir(parents=True)
        (tmp_path / "pictures" / name / "ö.png").write_bytes(name.encode())
    command = [sys.executable, "-c", DIGESTS, str(ROOT / "workflow/scripts")]
    found = [
        subprocess.run(
            command,
            cwd=tmp_path,
            env=os.environ | {"PYTHONPATH": str(ROOT / "src")} | locale,
            check=True,
            capture_output=True,
            encoding="ascii",
        ).stdout.split()
        for locale in ({"PYTHONUTF8": "1"}, other_locale)
    ]
    assert len(found[0]) == 5
    assert found[0] == found[1]


def test_places_of_the_library_that_look_for_code_are_known():
    """What is found there has to be named by the recipe of a job, or never to reach an artifact."""
    forget()
    found = {
        (module, getattr(node, "name", ""))
        for module in source_files.library_sources().keys() - {"resilience.source_code"}  # which lists such names
        for node in source_files.table_of(module).statements
        if places.ANYWHERE in places.places_of(node, module)
    }
    assert {place for place in found if place[0] not in places.SILENT} == places.FINDS_WHAT_RECIPES_NAME
    scripts = [str(script) for script in (ROOT / "workflow/scripts").glob("*.py")]
    assert scripts
    for script in scripts:
        for node in source_files.table_of(script).statements:
            assert places.ANYWHERE not in places.places_of(node, script), script


def test_silent_modules_are_there():
    assert places.SILENT.keys() <= source_files.library_sources().keys()
