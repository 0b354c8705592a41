# The checked settings of one run, the combinations that they ask for, its folders, and what its wildcards may be.

from resilience import config_files
from resilience.config import ConfigError, check
from resilience.grid import CLEAN, Grid
from resilience.variants import changes_of_nothing

if flaws := [flaw for file in workflow.configfiles for flaw in config_files.problems(file)]:
    refuse("\n".join(flaws))

# What `snakemake history` is asked on the command line is no setting of a run.
ASKED = {
    key: str(config.pop(key))
    for key in ("of", "form")
    if key in config and key in workflow.config_settings.config
}

config_files.retype(config, workflow.config_settings.config)
if (nothing := changes_of_nothing(config)) and workflow.exec_mode == ExecMode.DEFAULT:
    logger.info(
        f"Passed over, since the config that {config['variant']} is laid over has no entry of that name: "
        + ", ".join(f"{section}.{name}" for section, name in nothing)
    )
try:
    config = check(
        config, yaml.safe_load((ROOT / "workflow/schemas/config.schema.yaml").read_text(encoding="utf-8"))
    )
except ConfigError as error:
    refuse(error)

GRID = Grid(config)


def attacks_by(method):
    """The attacks of one method."""
    return {name for name, attack in config["attacks"].items() if attack["method"] == method}


TRANSFERRED, MATCHED = attacks_by("transfer"), attacks_by("match_size")
NOISY = {name for name in config["attacks"] if GRID.is_noise(name)}


def one_of(names):
    """A wildcard constraint: one of the names, or nothing at all."""
    return "|".join(sorted(map(str, names))) or "(?!)"


RESULTS, LOGS = folders(config["results"], config.get("variant"))
WRITTEN = [RESULTS]


pathvars:
    results=RESULTS,
    logs=LOGS,


wildcard_constraints:
    dataset=one_of(config["datasets"]),
    network=one_of(config["networks"]),
    training=one_of(config["trainings"]),
    seed=one_of({seed for dataset in config["datasets"] for seed in GRID.seeds_of(dataset)}),
    manifold=one_of(config["manifolds"]),
    attack=one_of(config["attacks"]),
    inputs=one_of([CLEAN, *config["attacks"]]),
    draws=r"[1-9]\d*",
    explanation=one_of(config["explanations"]),
    layer=r"[^/]+",
    figure=one_of(config["figures"]),
    page=one_of(config["explore"]),
