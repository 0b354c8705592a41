"""Snakemake's memory of what made a file: for the artifacts of this workflow it is the file itself that is asked.

Snakemake takes an object of :class:`snakemake.persistence.PersistenceBase` for its memory, and has no way to name another
one, so :func:`remember_by_artifacts` puts ours where it looks for its own.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from snakemake import workflow
from snakemake.jobs import Job
from snakemake.persistence import NO_PARAMS_CHANGE, ParamsChange
from snakemake.persistence.db import DbPersistence
from snakemake.persistence.file import FilePersistence
from snakemake.settings.types import DeploymentMethod, RerunTrigger

from resilience.adoption import adopt
from resilience.heads import inputs_of, root_of
from resilience.history import expected
from resilience.reruns import Judge, is_ours

#: What the artifacts of this process's plan say of themselves.
JUDGE = Judge()


class _ByArtifacts:
    """Answers for a job of this workflow from what it made, and lets Snakemake answer for all others."""

    def has_metadata(self, job: Job) -> bool:
        return judges(self, job) or super().has_metadata(job)  # type: ignore[misc]

    def has_outdated_metadata(self, job: Job) -> bool:
        return not judges(self, job) and super().has_outdated_metadata(job)  # type: ignore[misc]

    def params_changed(self, job: Job, file: Any = None) -> ParamsChange | bool:
        if not judges(self, job):
            return super().params_changed(job, file)  # type: ignore[misc]
        files = job.output if file is None else [file]
        _fetch([*files, *job.input])
        before, after = JUDGE.differences(job, files)
        return ParamsChange(before, after, set(files)) if before or after else NO_PARAMS_CHANGE

    def input_changed(self, job: Job, file: Any = None) -> Any:
        # The inputs are among what an artifact says of itself.
        return _nothing(file) if judges(self, job) else super().input_changed(job, file)  # type: ignore[misc]

    def software_stack_changed(self, job: Job, file: Any = None) -> Any:
        deployed = self.dag.workflow.deployment_settings.deployment_method  # type: ignore[attr-defined]
        if judges(self, job) and DeploymentMethod.CONDA not in deployed:
            return _nothing(file)
        return super().software_stack_changed(job, file)  # type: ignore[misc]

    async def finished(self, job: Job) -> None:
        if self.dag.workflow.touch and is_ours(job):  # type: ignore[attr-defined]
            for file in filter(Path.exists, map(Path, job.output)):
                inputs = inputs_of(job.input, root_of(file))
                adopt(file, expected(job.params.recipe, job.wildcards_dict, inputs))
        await super().finished(job)  # type: ignore[misc]


class _Files(_ByArtifacts, FilePersistence):
    pass


class _Database(_ByArtifacts, DbPersistence):
    pass


def judges(persistence: Any, job: Job) -> bool:
    """Whether what a job made is asked, rather than Snakemake's records of it.

    What lies in a storage would have to be fetched for that, so it is asked only where there are no records. Who asks for
    ``--rerun-triggers mtime`` is answered by times.
    """
    if not is_ours(job) or RerunTrigger.PARAMS not in persistence.dag.workflow.rerun_triggers:
        return False
    return not any(file.is_storage for file in job.output) or not super(_ByArtifacts, persistence).has_metadata(job)


def remember_by_artifacts() -> None:
    """Let the runs of this process ask artifacts what made them."""
    if workflow.FilePersistence is _Files:
        return
    workflow.FilePersistence, workflow.DbPersistence = _Files, _Database
    newest = Job.output_mintime.fget

    async def no_time() -> None:
        return None

    def output_mintime(job: Job) -> Any:
        """Times of files count where artifacts are not asked."""
        return no_time() if judges(job.dag.workflow.persistence, job) else newest(job)

    Job.output_mintime = property(output_mintime)


def _nothing(file: Any) -> Any:
    """That nothing changed, of a file or of several, as Snakemake wants to be told."""
    return () if file is None else False


def _fetch(files: Iterable[Any]) -> None:
    """See that files lie on this machine, as far as they are: those in a storage are fetched."""
    for file in files:
        if file.is_storage and not Path(file).exists() and file.storage_object.exists():
            Path(file).parent.mkdir(parents=True, exist_ok=True)
            file.storage_object.retrieve_object()
