"""Where an artifact came from: the settings, code, inputs, packages and device that made it, as it says itself.

A history has no time, host or path in it, so that artifacts stay the same from run to run. It stands in the artifact
(:mod:`resilience.artifacts`, :mod:`resilience.embedding`), so that it is copied, archived and sent along.
"""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cache
from importlib import metadata
from typing import Any

from resilience.digests import short_digest

#: Packages are imported by one name and installed by another.
DISTRIBUTIONS = {"PIL": "pillow", "pyro": "pyro-ppl", "sklearn": "scikit-learn", "yaml": "pyyaml"}
PYTHON = "python"
#: Longer texts in settings, such as the template of a page, are recorded by their digest.
LONGEST_TEXT = 1000
SEAL = "seal"


@dataclass(frozen=True)
class History:
    """What made an artifact.

    Parameters
    ----------
    script
        The script that wrote it, without its suffix.
    wildcards
        What the job was about: dataset, network, training, seed …
    settings
        The part of the config that the job received.
    code
        The digest of all code that it could reach.
    inputs
        By the name of the input, the digest of each file by its place below the folder of results.
    packages
        Versions of Python and of the packages that the code imports.
    device
        ``cpu``, the name of the GPU, or ``unknown``.
    adopted
        Whether the artifact was there before, and somebody vouched that all this would have made it.
    """

    script: str
    wildcards: Mapping[str, str]
    settings: Mapping[str, Any]
    code: str
    inputs: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    packages: Mapping[str, str] = field(default_factory=dict)
    device: str = "cpu"
    adopted: bool = False

    def sealed(self, digest: str) -> dict[str, Any]:
        """As JSON, with a seal that ties it to the content of one artifact."""
        plain = asdict(self)
        return {**plain, SEAL: _digest(digest, _text(plain))}


def unsealed(sealed: Mapping[str, Any], digest: str) -> History:
    """What :meth:`History.sealed` put together.

    Raises
    ------
    ValueError
        If it was changed, or belongs to another artifact.
    """
    plain = {key: value for key, value in sealed.items() if key != SEAL}
    if sealed.get(SEAL) != _digest(digest, _text(plain)):
        raise ValueError("its history was changed, or is another artifact's")
    return History(**plain)


def expected(
    recipe: str,
    wildcards: Mapping[str, str],
    inputs: Mapping[str, Mapping[str, str]],
    device: str = "cpu",
) -> History:
    """The history of what a job makes.

    Parameters
    ----------
    recipe
        What the rule hands the job: its script, settings, the digest of the code, and the packages that this imports.
    wildcards, inputs, device
        As for :class:`History`.
    """
    made_by = recipe_of(recipe)
    versions = {name: version_of(name) for name in (PYTHON, *made_by.get("packages", ()))}
    return History(made_by["script"], dict(wildcards), made_by["settings"], made_by["code"], inputs, versions, device)


@cache
def recipe_of(text: str) -> dict[str, Any]:
    """A recipe as it is recorded: without long texts."""
    recipe = json.loads(text)
    return {**recipe, "settings": abridged(recipe["settings"])}


def abridged(value: Any) -> Any:
    """Settings with the digest of each long text in its place."""
    if isinstance(value, dict):
        return {key: abridged(item) for key, item in value.items()}
    if isinstance(value, list):
        return [abridged(item) for item in value]
    if isinstance(value, str) and len(value) > LONGEST_TEXT:
        return f"{len(value)} characters, {_digest(value)}"
    return value


@cache
def version_of(package: str) -> str:
    """The version of Python, or that which is installed of a package; ``missing`` where it is not."""
    if package == PYTHON:
        return platform.python_version()
    try:
        return metadata.version(DISTRIBUTIONS.get(package, package))
    except metadata.PackageNotFoundError:
        return "missing"


def _text(plain: Mapping[str, Any]) -> str:
    return json.dumps(plain, sort_keys=True)


def _digest(*parts: str) -> str:
    return short_digest("\n".join(parts).encode())
