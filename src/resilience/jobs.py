"""What Snakemake hands the script of a job: its settings, and what the history of that which it makes must say."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from resilience.heads import inputs_of, root_of
from resilience.history import History, expected

if TYPE_CHECKING:
    from snakemake.script import Snakemake


def settings_of(snakemake: Snakemake) -> dict[str, Any]:
    """The part of the config that the job's rule handed it."""
    return json.loads(snakemake.params.recipe)["settings"]


def history_of(snakemake: Snakemake, device: str = "cpu") -> History:
    """The history of what a job makes, with the digests of its inputs as they are now."""
    inputs = inputs_of(snakemake.input, root_of(snakemake.output[0]))
    return expected(snakemake.params.recipe, dict(snakemake.wildcards.items()), inputs, device)
