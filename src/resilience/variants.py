"""Settings that are laid over several configs, such as those of config/small.yaml, and change what each of them has."""

from __future__ import annotations

from typing import Any

from resilience.catalog import SECTIONS


def changes_of_nothing(config: dict[str, Any]) -> list[tuple[str, str]]:
    """What a variant would change of entries that are not there, as sections and names: it is laid over several configs.

    Such an entry does not say what it is, which the others do: it names no function, or an experiment no datasets.
    """
    if "variant" not in config:
        return []
    said = {section: SECTIONS[section].key for section in SECTIONS} | {"experiments": "datasets"}
    entries = {section: config[section] for section in said if isinstance(config.get(section), dict)}
    return [
        (section, str(name))
        for section, named_there in entries.items()
        for name, entry in named_there.items()
        if isinstance(entry, dict) and said[section] not in entry
    ]


def without_changes_of_nothing(config: dict[str, Any]) -> dict[str, Any]:
    """The config without these."""
    changed = dict(config)
    for section, name in changes_of_nothing(config):
        changed[section] = {key: entry for key, entry in changed[section].items() if str(key) != name}
    return changed
