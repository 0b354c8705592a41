"""Which jobs of a plan must run: those whose artifacts do not say of themselves what config, code and inputs now ask for.

Snakemake decides by records that it keeps in ``.snakemake`` and by the times of files, and both are lost when results are
copied. What an artifact says of itself is not. So for the rules of this workflow that alone counts; Snakemake's records and
times count for all other rules, and for what lies in a storage, as long as the records are there.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from resilience.digests import content_digest
from resilience.heads import Head, head_of, inputs_of, root_of
from resilience.history import History, recipe_of, version_of

if TYPE_CHECKING:
    from snakemake.jobs import Job

#: How the recipes of this workflow begin, whose keys are sorted.
RECIPE = '{"code":'
#: What stands for the digest of a file that is not there.
GONE = ""


class Judge:
    """What the artifacts of a plan say of themselves, compared with what the plan would make.

    Attributes
    ----------
    silent
        Artifacts without a history, which an earlier version wrote.
    other_versions
        How many artifacts were made with another version of a package: ``(package, then, now)``.
    """

    def __init__(self) -> None:
        self.silent: set[str] = set()
        self.other_versions: Counter[tuple[str, str, str]] = Counter()

    def differences(self, job: Job, files: Iterable[str]) -> tuple[set[str], set[str]]:
        """What some artifacts of a job were made from, and what they would be made from now, as far as that differs.

        Packages and device do not count: who installs another version, or goes to another machine, keeps what there is.
        """
        before: set[str] = set()
        after: set[str] = set()
        looked_at: History | None = None
        for file in filter(os.path.exists, map(str, files)):
            told = head_or_flaw(file)
            if isinstance(told, str):
                before.add(f"{file}: {told}")
            elif told.history is None:
                self.silent.add(file)
                before.add(f"{file}: it does not say what it was made from")
            else:
                self._count_versions(told.history)
                if told.history == looked_at:  # What a job makes says the same of itself, unless something is wrong.
                    continue
                looked_at = told.history
                inputs = inputs_of(job.input, root_of(file), digest_or_gone)
                then, now = compared(told.history, job.params.recipe, job.wildcards_dict, inputs)
                before |= then
                after |= now
        return before, after

    def _count_versions(self, history: History) -> None:
        for package, version in history.packages.items():
            if (now := version_of(package)) != version:
                self.other_versions[package, version, now] += 1


@cache
def head_or_flaw(path: str) -> Head | str:
    """What an artifact says of itself, or what is wrong with it."""
    try:
        return head_of(path)
    except (OSError, ValueError) as error:
        return str(error)


def is_ours(job: Job) -> bool:
    """Whether a job is one of this workflow's, which write into artifacts what made them."""
    recipe = getattr(job.params, "recipe", None)
    return isinstance(recipe, str) and recipe.startswith(RECIPE)


def compared(
    then: History, recipe: str, wildcards: Mapping[str, str], inputs: Mapping[str, Mapping[str, str]]
) -> tuple[set[str], set[str]]:
    """What a history says, and what it would say of a job with a recipe, wildcards and inputs, as far as that differs."""
    now = recipe_of(recipe)
    before, after = set(_of_inputs(then.inputs)), set(_of_inputs(inputs))
    # What was made from a file that is gone stays.
    gone = {file for file, digest in after if digest == GONE}
    before = {(file, GONE if file in gone else digest) for file, digest in before}
    if then.settings != now["settings"] or then.script != now["script"]:
        before |= set(_leaves(then.settings, then.script))
        after |= set(_leaves(now["settings"], now["script"]))
    before |= {("code", then.code), *then.wildcards.items()}
    after |= {("code", now["code"]), *wildcards.items()}
    return {" ".join(one) for one in before - after}, {" ".join(one) for one in after - before}


@cache
def digest_or_gone(path: str) -> str:
    """The digest by which an input is recorded."""
    told = head_or_flaw(path)
    if isinstance(told, Head):
        return told.digest
    return content_digest(Path(path)) if os.path.exists(path) else GONE


def _of_inputs(inputs: Mapping[str, Mapping[str, str]]) -> Iterator[tuple[str, str]]:
    for name, files in inputs.items():
        yield from ((f"{name} {file}", digest) for file, digest in files.items())


def _leaves(value: Any, key: str) -> Iterator[tuple[str, str]]:
    """The values in nested settings, each with the keys that lead there."""
    if isinstance(value, Mapping) and value:
        for name, item in value.items():
            yield from _leaves(item, f"{key}.{name}")
    else:
        yield key, repr(value)
