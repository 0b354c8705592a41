"""The whole history of an artifact: that of itself, of what it was made from, and so on, as text or as W3C PROV.

What is recorded is the digest of each input. So a step whose file lies there no longer, or is another one by now, ends the
lineage there, and says so.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from resilience.heads import head_of, name_below, root_of
from resilience.history import History

#: Names of PROV's records: artifacts by their digests, jobs by those of their histories.
NAMESPACES = {"artifact": "urn:resilience:artifact:", "job": "urn:resilience:job:", "is": "urn:resilience:"}


@dataclass(frozen=True)
class Step:
    """One artifact of a lineage.

    Parameters
    ----------
    name
        The way to it from the folder of results; a file of the user's own has its name alone.
    digest
        By which what was made from it records it.
    history
        None where it is not known: the user's own file, one that is gone, or that is another one by now.
    """

    name: str
    digest: str
    history: History | None

    @property
    def inputs(self) -> Iterator[tuple[str, str, str]]:
        """What it was made from: the input's name, the file's, and its digest."""
        for role, files in (self.history.inputs if self.history else {}).items():
            yield from ((role, name, digest) for name, digest in files.items())


def lineage_of(path: Path) -> dict[str, Step]:
    """All that an artifact goes back to, by digest: itself last, each after what it was made from.

    Raises
    ------
    OSError
        If the artifact cannot be read.
    ValueError
        If it is damaged, or does not say what it was made from.
    """
    head = head_of(path)
    if head.history is None:
        raise ValueError("it does not say what it was made from; an earlier version wrote it")
    top = root_of(path)
    found: dict[str, Step] = {}
    pending = [(path, head.digest, False)]
    while pending:
        place, digest, made = pending.pop()
        if digest in found:
            continue
        step = Step(name_below(str(place), top), digest, _history_at(place, digest))
        if made or step.history is None:
            found[digest] = step
            continue
        pending.append((place, digest, True))
        root = Path(root_of(place))
        pending.extend(
            (Path(os.path.normpath(root / name)), source, False) for _, name, source in reversed(list(step.inputs))
        )
    return found


def _history_at(path: Path, digest: str) -> History | None:
    """What an artifact says of itself, if it is still the one that is asked for."""
    try:
        head = head_of(path)
    except (OSError, ValueError):
        return None
    return head.history if head.digest == digest else None


def as_text(steps: dict[str, Step]) -> str:
    """A lineage to read: what was made alike, but of another seed or attack, say, is one paragraph."""
    groups: dict[str, list[Step]] = defaultdict(list)
    for step in steps.values():
        groups[_alike(step)].append(step)
    return "\n\n".join(_paragraph(group) for group in groups.values())


def _alike(step: Step) -> str:
    if step.history is None:
        return f"unknown {step.name}"
    made = step.history
    return json.dumps([made.script, made.settings, made.code, made.packages, made.device, made.adopted], sort_keys=True)


def _paragraph(group: list[Step]) -> str:
    first, history = group[0], group[0].history
    digest = first.digest
    if len(group) > 1:
        digest = "all " + hashlib.sha256("".join(sorted(step.digest for step in group)).encode()).hexdigest()[:16]
    title = f"{_pattern([step.name for step in group])}" + (f"  ({len(group)} files)" if len(group) > 1 else "")
    if history is None:
        return f"{title}\n    what made it is not known here\n    digest {digest}"
    lines = [title, f"    made by {history.script}, code {history.code}"]
    lines.extend(f"    {key}: {json.dumps(value)}" for key, value in history.settings.items())
    versions = ", ".join(f"{name} {version}" for name, version in history.packages.items())
    lines.append(f"    on {history.device} with {versions}" + (", adopted by --touch" if history.adopted else ""))
    lines.append(f"    digest {digest}")
    return "\n".join(lines)


def _pattern(names: list[str]) -> str:
    """Several paths as one, with what differs in braces."""
    by_length: dict[int, list[list[str]]] = defaultdict(list)
    for name in names:
        by_length[name.count("/")].append(name.split("/"))
    return ", ".join(
        "/".join(
            next(iter(parts)) if len(parts) == 1 else "{" + ",".join(sorted(parts, key=lambda part: (len(part), part))) + "}"
            for parts in map(set, zip(*alike, strict=True))
        )
        for alike in by_length.values()
    )


def as_prov(steps: dict[str, Step]) -> str:
    """A lineage as PROV-JSON (W3C, PROV-DM): artifacts are entities, jobs are activities that used and generated them."""
    from prov.model import PROV_LABEL, PROV_ROLE, ProvDocument

    document = ProvDocument()
    for prefix, address in NAMESPACES.items():
        document.add_namespace(prefix, address)
    for step in steps.values():
        artifact = document.entity(_entity(step.digest), {PROV_LABEL: step.name})
        if step.history is None:
            continue
        made = step.history
        told = json.dumps([made.script, made.wildcards, made.settings, made.code, made.inputs], sort_keys=True)
        job = document.activity(
            f"job:{hashlib.sha256(told.encode()).hexdigest()[:16]}",
            other_attributes={
                PROV_LABEL: made.script,
                "is:settings": json.dumps(made.settings, sort_keys=True),
                "is:wildcards": json.dumps(made.wildcards, sort_keys=True),
                "is:code": made.code,
                "is:packages": json.dumps(made.packages, sort_keys=True),
                "is:device": made.device,
                "is:adopted": made.adopted,
            },
        )
        document.wasGeneratedBy(artifact, job)
        for role, _, digest in step.inputs:
            document.used(job, _entity(digest), other_attributes={PROV_ROLE: role})
    return str(document.unified().serialize(indent=2))


def _entity(digest: str) -> str:
    return f"artifact:{digest.removeprefix('sha256:')}"


FORMS: dict[str, Callable[[dict[str, Step]], str]] = {"text": as_text, "prov": as_prov}


def main(path: str | None, form: str = "text") -> None:
    """Print the lineage of an artifact.

    Raises
    ------
    ValueError
        If there is none, or no such form.
    """
    if path is None:
        raise ValueError("say of which file: snakemake history --config of=results/figures/fig03.png")
    if form not in FORMS:
        raise ValueError(f"form={form}: must be {' or '.join(FORMS)}")
    try:
        print(FORMS[form](lineage_of(Path(path))))
    except (OSError, ValueError) as error:
        raise ValueError(f"{path}: {error}") from error


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except ValueError as problem:
        sys.exit(str(problem))
