"""How a config of an earlier version is written today."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import yaml


def renamed(config: dict[str, Any]) -> Iterator[str]:
    """Sections of an earlier version, with the new spelling of what stands in them."""
    if isinstance(rules := config.get("lrp"), dict):
        yield "lrp: rules stand within explanations now, which need not be LRP; replace the section by"
        yield "explanations:"
        for name, settings in rules.items():
            if isinstance(settings, dict):
                shared = {
                    key: value for key, value in settings.items() if key in ("explained", "start", "unit", "activations")
                }
                rule = {key: value for key, value in settings.items() if key not in shared}
                yield f"  {_flow(name)}: {_flow({'method': 'lrp', 'rule': rule, **shared})}"
        yield "and in experiments lrp by explanations, else lrp and rule by explanation, figure: rules by by_explanation"
    if isinstance(section := config.get("robustness"), dict):
        yield "robustness: what is measured has names now; replace the section by"
        yield "measures:"
        pixels = {key: value for key, value in section.items() if key == "pixels"}
        for percent in top_k if isinstance(top_k := section.get("top_k"), list) else [top_k]:
            if isinstance(percent, int | float):
                name = f"top{percent:g}".replace(".", "_")
                yield f"  {name}: {_flow({'measure': 'overlap', 'top_k': percent, **pixels})}"
        yield "and top_k in claims and figures by the name of a measure, such as measure: top20"


def _flow(value: Any) -> str:
    """An entry, or its name, as one writes it in one line of YAML."""
    written = yaml.safe_dump([value], default_flow_style=True, sort_keys=False, width=math.inf)
    return " ".join(written.split()).removeprefix("[").removesuffix("]")
