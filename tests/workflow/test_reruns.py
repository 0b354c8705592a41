"""A change reruns the jobs that it affects and no others."""

from __future__ import annotations

import os
import random
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.workflow.conftest import Project, copy_project

#: What follows from a change of any table under attack: the claims, the figure that shows them, and the report.
CLAIMS = [r"comparisons\.csv", r"claims\.csv", r"outcomes\.csv", r"figures/answer\.", r"report\.html"]

#: The same, and the summary of all tables, which no claim is made from.
GATHERED = [*CLAIMS, SUMMARY := r"results/measures\.csv"]

#: The tables beside the attacked maps, which hold no predictions.
OF_MAPS = r"explanations/\w+/measures\.csv"

#: The pages to explore: one has several numbers of draws, the other several explanations.
ALL_PAGES = [OF_DRAWS := r"explore/numbers_of_draws\.html", OF_RULES := r"explore/by_rules\.html"]


def figures(*names: str) -> list[str]:
    return [rf"figures/{name}\." for name in names]


def under(model: str, *inputs: str) -> list[str]:
    """Everything that is made of some attacked inputs of a model, and the inputs themselves."""
    return [rf"{model}/seed\d/{name}/" for name in inputs]


Change = Callable[[Project], None]


def setting(path: str, value: object) -> Change:
    """Set one value of the config."""

    def change(project: Project) -> None:
        config = project.config()
        *parents, last = path.split("/")
        inner = config
        for key in parents:
            inner = inner[key]
        inner[last] = value
        project.write_config(config)

    return change


def edit(file: str, old: str, new: str) -> Change:
    """Replace a piece of source text."""

    def change(project: Project) -> None:
        text = (project.folder / file).read_text(encoding="utf-8")
        assert text.count(old) == 1, f"{old!r} is in {file} {text.count(old)} times"
        (project.folder / file).write_text(text.replace(old, new), encoding="utf-8")

    return change


def append(file: str, line: str) -> Change:
    """Add a line to the end of a source."""

    def change(project: Project) -> None:
        with (project.folder / file).open("a", encoding="utf-8") as source:
            source.write(f"\n{line}\n")

    return change


def reorder(project: Project) -> None:
    def turned(value: object) -> object:
        return {key: turned(value[key]) for key in reversed(value)} if isinstance(value, dict) else value

    project.write_config(turned(project.config()))  # type: ignore[arg-type]


def swap(project: Project) -> None:
    config = project.config()
    hmc = config["trainings"]["hmc"]
    hmc["warmup"], hmc["leapfrog_steps"] = hmc["leapfrog_steps"], hmc["warmup"]
    project.write_config(config)


def touch(project: Project) -> None:
    for part in ("Snakefile", "rules", "workflow", "src", "config", "profiles", "envs"):
        place = project.folder / part
        for path in [place, *place.rglob("*")]:
            os.utime(path)


def new_dataset(project: Project) -> None:
    config = project.config()
    config["datasets"]["moons"] = {"source": "half_moons", "test_points": 20, "points": 200}
    block = {"datasets": ["moons"], "attacks": ["fgsm"], "explanations": ["epsilon"]}
    config["experiments"]["moons"] = config["experiments"]["explanations"] | block
    project.write_config(config)


def new_explanation(project: Project) -> None:
    config = project.config()
    config["explanations"]["sharp"] = {"method": "lrp", "rule": {"rule": "gamma", "gamma": 1.0}}
    config["experiments"]["explanations"]["explanations"].append("sharp")
    project.write_config(config)


#: Changes after which there are outputs that there were not before.
WITH_NEW_OUTPUTS = {
    *("a new seed", "a new dataset", "number of draws", "a new explanation"),
    *("a new measure of explanations", "a new measure of networks"),
}

#: What one job makes of the maps of an explanation, and the tables beside the attacked ones.
OF_GAMMA = [rf"fc2/(det|hmc)/seed\d/{inputs}/n\d/explanations/gamma/" for inputs in ("clean", "pgd")]
CHANGES: dict[str, tuple[Change, list[str]]] = {
    "nothing": (lambda project: None, []),
    "strength of one attack": (
        setting("attacks/margin/epsilon", 0.2),
        [*under("fc2/(map|nuts)", "margin"), *GATHERED],
    ),
    "strength of an attack that is transferred": (
        setting("attacks/pgd/epsilon", 0.2),
        [*under("fc2/(det|hmc)", "pgd"), *under("fc2/(map|nuts)", "transfer"), *GATHERED, *figures("fig03"), OF_RULES],
    ),
    "one LRP parameter": (
        setting("explanations/gamma/rule/gamma", 0.2),
        [*OF_GAMMA, *GATHERED, *figures("fig03"), OF_RULES],
    ),
    "a figure's colour": (
        setting("figures/fig03/colours", {"hmc": "#112233"}),
        [*figures("fig03"), r"report\.html"],
    ),
    "a training's epochs": (
        setting("trainings/map/epochs", 9),
        [
            r"fc2/map/seed\d/(weights|history|fit)\.",
            *under("fc2/map", "clean", "margin"),
            r"fc2/map/seed\d/transfer/n1/(explanations|predictions)",
            *GATHERED,
        ],
    ),
    "epochs of the members of an ensemble, where chains start": (
        setting("trainings/ensemble/of/epochs", 9),
        [
            r"fc2/(ensemble|hmc|nuts)/seed\d/(weights|history|fit)\.",
            *under("fc2/(ensemble|hmc|nuts)", "clean", "fgsm", "pgd", "margin"),
            r"fc2/nuts/seed\d/transfer/n4/(explanations|predictions)",
            *GATHERED,
            *figures("fig02", "fig03", "fig06"),
            *ALL_PAGES,
        ],
    ),
    "number of draws": (
        setting("experiments/posteriors/draws", [2, 3, 4]),
        [
            *(rf"fc2/(svi|hmc)/seed\d/{inputs}/n3/" for inputs in ("clean", "fgsm")),
            *GATHERED,
            *figures("fig02", "fig04"),
            OF_DRAWS,
        ],
    ),
    "a new seed": (
        setting("seeds", [0, 1, 2]),
        [r"/seed2/", *GATHERED, *figures("fig02", "fig03", "fig04", "beside_noise"), *ALL_PAGES],
    ),
    "a new explanation": (
        new_explanation,
        [r"fc2/(det|hmc)/seed\d/(clean|pgd)/n\d/explanations/sharp/", *GATHERED, *figures("fig03"), OF_RULES],
    ),
    "an explanation that no experiment asks for": (
        setting("explanations/sharp", {"method": "lrp", "rule": {"rule": "gamma", "gamma": 1.0}}),
        [r"report\.html"],
    ),
    "a new measure of maps": (
        setting("measures/spearman", {"measure": "spearman"}),
        [OF_MAPS, *GATHERED, *figures("fig0.", "beside_noise")],
    ),
    "a new measure of predictions": (
        setting("measures/accuracy", {"measure": "accuracy"}),
        [r"predictions\.csv", *GATHERED, *figures("fig0.", "beside_noise")],
    ),
    "a new measure of explanations": (
        setting("measures/deletion", {"measure": "deletion"}),
        [r"/clean/n\d/explanations/\w+/measures\.csv", SUMMARY, r"report\.html"],
    ),
    "a new measure of networks": (
        setting("measures/gradient_norm", {"measure": "gradient_norm"}),
        [r"/clean/n\d/network\.csv", SUMMARY, r"report\.html"],
    ),
    "a new dataset": (new_dataset, [r"results/moons/", *GATHERED]),
    "number of test points": (
        setting("datasets/digits/test_points", 30),
        [
            r"points\.",
            r"/seed\d/(clean|fgsm|pgd|margin|transfer|matched|noise)/",
            *GATHERED,
            *figures("fig0.", "beside_noise"),
            *ALL_PAGES,
        ],
    ),
    "another k": (
        setting("measures/top40", {"measure": "overlap", "top_k": 40}),
        [OF_MAPS, *GATHERED, *figures("fig0.", "beside_noise"), *ALL_PAGES],
    ),
    "which pixels count as the top k": (
        setting("measures/top20/pixels", "extreme_halves"),
        [OF_MAPS, *GATHERED, *figures("fig0.", "beside_noise"), *ALL_PAGES],
    ),
    "how activations pass relevance on": (
        setting("explanations/gamma/activations", "slope"),
        [*OF_GAMMA, *GATHERED, *figures("fig03"), OF_RULES],
    ),
    "a default that is written out": (setting("explanations/gamma/activations", "pass"), []),
    "a default of a measure that is written out": (setting("measures/top20/pixels", "absolute"), []),
    "measure of the claims": (setting("claims/measure", "top30"), [*CLAIMS, *ALL_PAGES]),
    "points of a page to explore": (setting("explore/by_rules/points", 5), [OF_RULES, r"report\.html"]),
    "how a page to explore is written": (
        edit("src/resilience/explore.py", "STEPS = 63", "STEPS = 60"),
        ALL_PAGES,
    ),
    "what all pages look like": (
        edit("workflow/report/page.html.j2", "font: 16px/1.5", "font: 17px/1.5"),
        [*ALL_PAGES, r"report\.html"],
    ),
    "order of the keys": (reorder, []),
    "2 written as 2.0": (setting("attacks/pgd/steps", 3.0), []),
    "two values swapped between two keys": (
        swap,
        [
            r"fc2/hmc/seed\d/(weights|history|fit)\.",
            *under("fc2/hmc", "clean", "fgsm", "pgd"),
            *GATHERED,
            *figures("fig02", "fig03", "fig06"),
            *ALL_PAGES,
        ],
    ),
    "a function of the library that one stage uses": (
        edit("src/resilience/training/variational.py", "points = len(task.x)", "points = int(len(task.x))"),
        [
            r"/svi/seed\d/(weights|history|fit)\.",
            *under("(fc2|conv)/svi", "clean", "fgsm"),
            *under("conv/svi", "noise"),
            *under("fc2/(det|svi)", "matched"),
            *GATHERED,
            *figures("fig02", "fig04", "beside_noise"),
        ],
    ),
    "a script": (
        edit("workflow/scripts/claims.py", "snakemake.output[0], table", "str(snakemake.output[0]), table"),
        [r"claims\.csv", *figures("answer"), r"report\.html"],
    ),
    "a figure's function": (
        edit("src/resilience/figures/scatter.py", "alpha=0.3", "alpha=0.4"),
        [*figures("fig04"), r"report\.html"],
    ),
    "only a comment": (
        edit(
            "src/resilience/attacks/gradient.py",
            "    return aim.descend(Ball(",
            "    # A comment.\n    return aim.descend(Ball(",
        ),
        [],
    ),
    "only an annotation": (
        edit(
            "src/resilience/training/chains.py",
            "    sampler: FixedLength | NoUTurn,\n    prior: Prior,\n    chains",
            "    sampler: NoUTurn | FixedLength,\n    prior: Prior,\n    chains",
        ),
        [],
    ),
    "a sampler that an annotation names beside another": (
        edit("src/resilience/training/chains.py", "matrix=False,\n            max", "matrix=True,\n            max"),
        [
            r"fc2/nuts/seed\d/(weights|history|fit)\.",
            *under("fc2/nuts", "clean", "margin"),
            r"fc2/nuts/seed\d/transfer/n4/(explanations|predictions)",
            *GATHERED,
        ],
    ),
    "what a module does when it is imported": (
        append("src/resilience/measures/maps.py", "_ = np.seterr(under='ignore')"),
        [OF_MAPS, r"predictions\.csv", *GATHERED, *figures("fig0.", "beside_noise"), *ALL_PAGES],
    ),
    "how the settings of an entry become arguments": (
        edit(
            "src/resilience/catalog.py",
            "{key: value for key, value in settings.items() if key in known}",
            "{key: value for key, value in settings.items() if key in known and key}",
        ),
        [r"results/"],
    ),
    "how numbers are compared, in a script": (
        edit("workflow/scripts/outcomes.py", "outcomes(tables", "outcomes(*[]) if False else outcomes(tables"),
        [r"outcomes\.csv", r"report\.html"],
    ),
    "how random signs are drawn": (
        edit("src/resilience/attacks/ball.py", "return 2.0 * torch.randint(0, 2,", "return 2.0 * torch.randint(0, 1 + 1,"),
        [r"/noise/", *GATHERED, *figures("beside_noise")],
    ),
    "classes that are balanced": (
        edit("workflow/scripts/points.py", '"index": index}', '"index": index + 0}'),
        [
            r"points\.",
            r"/seed\d/(clean|fgsm|pgd|margin|transfer|matched|noise)/",
            *GATHERED,
            *figures("fig0.", "beside_noise"),
            *ALL_PAGES,
        ],
    ),
    "how transferred inputs are taken over": (
        edit("workflow/scripts/transfer.py", '["x", "zero_gradient"])', '["x", "zero_gradient"][:])'),
        [r"fc2/(map|nuts)/seed\d/transfer/", *GATHERED],
    ),
    "how far claims are corrected": (
        edit("src/resilience/multiple_testing.py", "np.minimum(scaled, 1)", "np.minimum(scaled, 1.0)"),
        [*CLAIMS[:2], *figures("answer", "fig03"), r"report\.html"],
    ),
    "only a docstring": (edit("src/resilience/lrp_rules.py", '"""Epsilon rule:', '"""The epsilon rule:'), []),
    "touch of every source file": (touch, []),
}  # fmt: skip


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_reruns_what_it_affects_and_nothing_else(name, again, everything):
    change, patterns = CHANGES[name]
    change(again)
    planned = again.planned()
    known = everything | planned if name in WITH_NEW_OUTPUTS else everything
    expected = {output for output in known if any(re.search(pattern, output) for pattern in patterns)}
    assert planned - expected == set(), "reruns too much"
    assert expected - planned == set(), "reruns too little"
    for pattern in patterns:
        assert any(re.search(pattern, output) for output in planned), f"{pattern} matches nothing"
    for lose in (lose_metadata, lose_times):
        lose(again)
        assert again.planned() == planned, lose.__name__


def lose_metadata(project: Project) -> None:
    shutil.rmtree(project.folder / ".snakemake")


def lose_times(project: Project) -> None:
    """Every file of the results is of a time of its own, in no order."""
    generator = random.Random(0)
    for path in (project.folder / "results").rglob("*"):
        time = generator.randrange(1_600_000_000, 1_700_000_000)
        os.utime(path, (time, time))


@pytest.mark.parametrize("name", ["a figure's colour", "a training's epochs"])
def test_after_the_rerun_nothing_is_left_to_do(name, again):
    CHANGES[name][0](again)
    again.snakemake("--cores", "2", "--quiet", "rules")
    assert again.planned() == set()


def test_going_back_gives_the_same_files(again, finished):
    """A change and its undoing: the rebuilt files are the old ones, byte for byte."""
    before = again.config()
    setting("trainings/map/epochs", 9)(again)
    target = "results/digits/fc2/map/seed0/margin/n1/explanations/epsilon/layer5.safetensors"
    again.snakemake("--cores", "2", "--quiet", "rules", "--", target)
    assert again.digests()[target] != finished.digests()[target]
    again.write_config(before)
    again.snakemake("--cores", "2", "--quiet", "rules", "--", target)
    assert again.digests() == finished.digests()
    assert again.planned() == set()


def copy_keeping_times(source: Path, target: Path) -> None:
    shutil.copytree(source, target)


def copy_plainly(source: Path, target: Path) -> None:
    """As ``cp -r`` does: every file is as old as its copy, in no particular order."""
    subprocess.run(["cp", "-r", str(source), str(target)], check=True)


@pytest.mark.parametrize(
    ("copy", "parts"),
    [
        (copy_keeping_times, ["results", ".snakemake"]),
        (copy_plainly, ["results", ".snakemake"]),
        (copy_keeping_times, ["results"]),
        (copy_plainly, ["results"]),
    ],
    ids=["all, times kept", "all, times lost", "results only, times kept", "results only, times lost"],
)
def test_a_fresh_clone_beside_copied_results_reruns_nothing(copy, parts, finished, tmp_path):
    clone = copy_project(tmp_path / "clone")
    for part in parts:
        copy(finished.folder / part, clone.folder / part)
    assert clone.planned() == set()


def test_another_locale_reruns_nothing(finished, other_locale):
    """In a process that starts in that locale, which the forks of a warm one do not."""
    command = [sys.executable, "-m", "snakemake", "--configfile", "tests/config.yaml", "-n"]
    clean = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(command, cwd=finished.folder, env=clean | other_locale, capture_output=True, check=False)
    said = (done.stdout + done.stderr).decode(errors="replace")
    assert done.returncode == 0, said
    assert "Nothing to be done" in said, said
