# The published numbers beside those of two runs, under the paper's definitions and under those they were made with. Each
# run is this workflow as a module, with a config of its own; what else stands in this config is laid over both.

import csv
from copy import deepcopy

from snakemake.utils import update_config

from resilience import config_files

RUNS = {"paper": "the paper's definitions", "published": "the definitions of the published code"}
PUBLISHED = ROOT / "workflow/published_values.csv"

if not isinstance(config["reproduction"], dict) or set(config["reproduction"]) - {"results"} != set(RUNS):
    refuse(
        f"reproduction: {config['reproduction']!r} must name a config file for each of {' and '.join(RUNS)}"
    )


def settings_of(run):
    """The config of a run, with what else stands in this one laid over it."""
    path = ROOT / str(config["reproduction"][run])
    if not path.is_file():
        refuse(f"reproduction.{run}: there is no file {path}; name one, such as config/{run}.yaml")
    if flaws := list(config_files.problems(path)):
        refuse("\n".join(flaws))
    settings = yaml.safe_load(path.read_text(encoding="utf-8"))
    update_config(settings, {key: deepcopy(value) for key, value in config.items() if key != "reproduction"})
    if not settings.get("claims"):
        refuse(
            f"reproduction.{run}: {path} has no claims; add the section, which says what the published numbers are about"
        )
    return settings


SETTINGS = {run: settings_of(run) for run in RUNS}
RESULTS, LOGS = folders(
    str(config["reproduction"].get("results", "results/reproduction")), config.get("variant")
)
WRITTEN = [RESULTS, *(folders(run["results"], run.get("variant"))[0] for run in SETTINGS.values())]


pathvars:
    results=RESULTS,
    logs="logs",


module paper:
    snakefile:
        "../Snakefile"
    config:
        SETTINGS["paper"]


use rule * from paper as paper_*


module published:
    snakefile:
        "../Snakefile"
    config:
        SETTINGS["published"]


use rule * from published as published_*


def tables_of(run):
    """The tables of a run that the published numbers are compared with."""
    from resilience.config import check
    from resilience.grid import Grid

    schema = yaml.safe_load((ROOT / "workflow/schemas/config.schema.yaml").read_text(encoding="utf-8"))
    settings = check(deepcopy(SETTINGS[run]), schema)
    grid = Grid(settings)
    results, _ = folders(settings["results"], settings.get("variant"))
    with PUBLISHED.open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        for training in {row["training"], row["reference"]} - {""}:
            here = (row["dataset"], row["network"], training, row["attack"])
            for draws in grid.draws_of(*here):
                for seed in grid.seeds_of(row["dataset"]):
                    attacked = f"{results}/{here[0]}/{here[1]}/{training}/seed{seed}/{here[3]}/n{draws}"
                    yield f"{attacked}/predictions.csv"
                    if row["explanation"] in grid.explanations(*here, draws):
                        yield f"{attacked}/explanations/{row['explanation']}/measures.csv"


rule reproduction_table:
    """Put every published number beside those of the two runs."""
    input:
        published=local(str(PUBLISHED)),
        paper_run=sorted(set(tables_of("paper"))),
        published_run=sorted(set(tables_of("published"))),
    output:
        "<results>/reproduction.csv",
    log:
        "<logs>/reproduction/table.log",
    benchmark:
        "<logs>/reproduction/table.tsv"
    conda:
        "../envs/tables.yaml"
    threads: 1
    resources:
        gpu=0,
        mem_mb=growing_from(2000),
        runtime=30,
    params:
        recipe=recipe("reproduction.py", measure=SETTINGS["paper"]["claims"]["measure"]),
    script:
        "../workflow/scripts/reproduction.py"


rule reproduction_figure:
    """Draw every published number beside those of the two runs."""
    input:
        "<results>/reproduction.csv",
    output:
        png="<results>/reproduction.png",
        pdf="<results>/reproduction.pdf",
    log:
        "<logs>/reproduction/figure.log",
    benchmark:
        "<logs>/reproduction/figure.tsv"
    conda:
        "../envs/figures.yaml"
    threads: 1
    resources:
        gpu=0,
        mem_mb=growing_from(1000),
        runtime=10,
    params:
        recipe=recipe("reproduction_figure.py", runs=RUNS),
    script:
        "../workflow/scripts/reproduction_figure.py"


rule reproduction:
    """Every published number beside ours, as a table and a picture."""
    input:
        rules.reproduction_table.output,
        rules.reproduction_figure.output,
    localrule: True
