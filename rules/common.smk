# What every stage needs: the checked settings, the combinations that they ask for, and the folders.

import sys
from pathlib import Path

ROOT = Path(workflow.current_basedir.get_path_or_uri(secret_free=True)).parent
sys.path.insert(0, str(ROOT / "src"))

import yaml
from snakemake.exceptions import WorkflowError

from resilience import catalog, fork_server
from resilience.config import ConfigError, check
from resilience.grid import CLEAN, Grid
from resilience.provenance import canonical, code_digest

fork_server.let_jobs_import_from(ROOT / "src")

try:
    config = check(config, yaml.safe_load((ROOT / "workflow/schemas/config.schema.yaml").read_text()))
except ConfigError as error:
    raise WorkflowError(f"The config cannot work.\n{error}") from None

GRID = Grid(config)
TRANSFERRED = {name for name in config["attacks"] if GRID.source(name)}


def one_of(names):
    """A wildcard constraint: one of the names, or nothing at all."""
    return "|".join(sorted(map(str, names))) or "(?!)"


pathvars:
    results=config["results"].rstrip("/"),
    logs=str(Path("logs", *Path(config["results"]).parts[1:])),


wildcard_constraints:
    dataset=one_of(config["datasets"]),
    network=one_of(config["networks"]),
    training=one_of(config["trainings"]),
    seed=one_of(config["seeds"]),
    attack=one_of(config["attacks"]),
    inputs=one_of([CLEAN, *config["attacks"]]),
    draws=r"[1-9]\d*",
    rule=one_of(config["lrp"]),
    layer=r"\d+",
    figure=one_of(config["figures"]),
