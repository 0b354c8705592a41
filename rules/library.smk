# The library, and what a job depends on of it: its settings and a digest of the code that it reaches, as one text.
# Snakemake reruns a job when this text changes.

import sys
from functools import cache
from pathlib import Path

ROOT = Path(workflow.current_basedir.get_path_or_uri(secret_free=True)).parent
sys.path.insert(0, str(ROOT / "src"))

import yaml
from snakemake.exceptions import WorkflowError

from resilience import catalog, devices, fork_server
from resilience.provenance import canonical, code_digest

fork_server.let_jobs_import_from(ROOT / "src")


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


def growing_from(megabytes):
    """The memory of a job, as much again with each attempt: a job that was killed for lack of it is tried with more."""
    return lambda wildcards, attempt: megabytes * attempt


def folders(results, variant):
    """The folders of results and logs; those of a variant lie in a folder of its own below."""
    place = Path(results, variant) if variant else Path(results)
    return str(place), str(Path("logs", *place.parts[1:]))
