# What one run needs as well as two side by side: the library, recipes of jobs, their memory, and the folders.

import gc
import re
import sys
import tempfile
from functools import cache
from inspect import signature
from pathlib import Path

from snakemake.common import overwrite_function_params
from snakemake.sourcecache import HostingProviderFile


def own_folder(source):
    """The folder of this workflow: where it lies, or a copy of the version that a module took from a repository."""
    if not isinstance(source, HostingProviderFile):
        return Path(source.get_path_or_uri(secret_free=True)).parent
    commit = source.hosted_repo.repo.commit(source.ref)
    folder = Path(".snakemake/resilience", commit.hexsha).absolute()
    if not folder.exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent) as partial:
            whole = Path(partial, "whole")
            for blob in commit.tree.traverse(lambda item, _: item.type == "blob"):
                (whole / blob.path).parent.mkdir(parents=True, exist_ok=True)
                (whole / blob.path).write_bytes(blob.data_stream.read())
            whole.rename(folder)
    return folder


# A plan makes millions of small objects and drops few of them: looking for garbage every 700 took a quarter of its time.
gc.set_threshold(1_000_000)

ROOT = own_folder(workflow.current_basedir)
sys.path.insert(0, str(ROOT / "src"))

import yaml
from snakemake.exceptions import WorkflowError
from snakemake.settings.types import ExecMode

from resilience import catalog, devices, fork_server, persistence, running
from resilience.known_digests import KnownDigests
from resilience.digests import content_digest
from resilience.provenance import canonical

fork_server.let_jobs_import_from(ROOT / "src")
# Snakemake 9 asks three times for each job where the copy of its script lies, and works that out anew.
workflow.sourcecache._cache = cache(workflow.sourcecache._cache)
if workflow.exec_mode == ExecMode.DEFAULT:
    running.arrive()
    persistence.remember_by_artifacts()


def hand_scripts_over_early():
    """Have jobs that hand themselves over to the fork server do so before they import Snakemake, which takes longer than that.

    Snakemake puts its imports before the first line of a script, and so before the one that hands it over. That line does it
    still where a script is started in another way.
    """
    from snakemake.script import PythonScript

    execute = PythonScript._execute_cmd

    def execute_early(job, command, **options):
        hands_over = re.search(r"^fork_server\.hand_over\((start=False)?\)$", job.source, flags=re.M)
        if hands_over and job.container_img is None and command == "{py_exec} {fname:q}":
            kind = "short" if hands_over[1] else "script"
            command, options["early"] = f"{{py_exec}} {{early:q}} {kind} {{fname:q}}", fork_server.__file__
        return execute(job, command, **options)

    PythonScript._execute_cmd = execute_early


def recipe(script, functions=(), **settings):
    """The recipe of a job that runs ``script`` and calls the functions named by the ``(section, entry)`` pairs.

    That is all that the job depends on beside its input files: its settings and a digest of the code that it reaches; and
    the packages that this imports, whose versions are recorded. It is one text, since Snakemake keeps no names of parameters.
    """
    named = tuple(named_function(section, entry) for section, entry in functions)
    code, packages = code_of(script, named)
    return canonical({"script": Path(script).stem, "settings": settings, "code": code, "packages": packages})


DIGESTS = KnownDigests(Path(".snakemake/resilience/code_digests.json"))


@cache
def code_of(script, functions):
    """Digest and packages of the code that a script and some functions reach, which do not change while a run is planned."""
    return DIGESTS.of(ROOT / "workflow/scripts" / script, functions)


def named_function(section, entry):
    """Module and name of the function that an entry names."""
    function = catalog.named(section, entry)
    return function.module, function.name


def refuse(problem):
    """End before any job, with what is wrong alone: Snakemake would print where in the workflow an error was raised."""
    sys.exit(f"The config cannot work.\n{problem}")


def has_no_config():
    """Whether no config was named, but for single values of the command line; a module that has one passes over defaults."""
    return not (workflow.modifier.is_main_snakefile() and workflow.config_settings.configfiles)


def default_config():
    """The config of the folder that Snakemake runs in, or else the one that comes along with this workflow."""
    here, own = Path("config/config.yaml"), ROOT / "config/config.yaml"
    return here if here.is_file() else own


def growing_from(megabytes):
    """The memory of a job, as much again with each attempt: a job that was killed for lack of it is tried with more."""
    return with_known_arguments(lambda wildcards, attempt: megabytes * attempt)


def with_known_arguments(function):
    """The function, which Snakemake need not inspect whenever it calls it: that is done once for each job and keyword."""
    overwrite_function_params(function, signature(function).parameters)
    return function


def folders(results, variant):
    """The folders of results and logs; those of a variant lie in a folder of its own below."""
    place = Path(results, variant) if variant else Path(results)
    logs = Path("logs", *place.parts[1:])
    for folder in (place, logs):
        if in_the_way := running.what_is_no_folder(folder):
            refuse(
                f"results: {results!r} needs a folder {folder}, and {in_the_way} is none; name another, or move it away"
            )
    return str(place), str(logs)
