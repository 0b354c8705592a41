"""The report: one page that holds the verdicts, the figures and the state of every network."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, StrictUndefined

from resilience.claims import summarise

if TYPE_CHECKING:
    import pandas as pd


def render(
    template: str,
    claims: pd.DataFrame,
    figures: Sequence[Mapping[str, str]],
    fits: Mapping[str, Mapping[str, Any]],
    settings: str,
) -> str:
    """The page as HTML that needs no other file.

    Parameters
    ----------
    template
        The text of a Jinja template.
    claims
        The table of :func:`resilience.claims.judge`.
    figures
        For each figure its ``name``, ``summary``, ``reading`` (how to read it) and ``path`` of the PNG.
    fits
        The contents of ``fit.json`` by model.
    settings
        The config as text.
    """
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    pictures = [{**figure, "data": base64.b64encode(Path(figure["path"]).read_bytes()).decode()} for figure in figures]
    warnings = [(model, sentence) for model, fit in fits.items() for sentence in fit["warnings"]]
    return environment.from_string(template).render(
        claims=summarise(claims),
        rows=claims.to_dict("records"),
        figures=pictures,
        fits=fits,
        warnings=warnings,
        settings=settings,
    )
