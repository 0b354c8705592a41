"""The report: one page that holds the verdicts, the figures, the state of every network, the workflow and its settings."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from resilience import flow, pages
from resilience.claims import summarise

if TYPE_CHECKING:
    import pandas as pd


def render(
    templates: Mapping[str, str],
    claims: pd.DataFrame | None,
    outcomes: pd.DataFrame,
    figures: Sequence[Mapping[str, str]],
    fits: Mapping[str, Mapping[str, Any]],
    histories: Mapping[str, pd.DataFrame],
    rules: Mapping[str, str],
    arrows: Sequence[tuple[str, str]],
    settings: str,
) -> str:
    """The page as HTML that needs no other file.

    Parameters
    ----------
    templates
        The texts of the Jinja templates ``report.html.j2`` and ``page.html.j2``.
    claims
        The table of :func:`resilience.claims.judge`; None if nothing was judged.
    outcomes
        The table of :func:`resilience.outcomes.outcomes`.
    figures
        For each figure its ``name``, ``summary``, ``reading`` (how to read it) and ``path`` of the PNG.
    fits
        The contents of ``fit.json`` by model.
    histories
        The tables of ``history.csv`` by model.
    rules
        What each rule of the workflow does.
    arrows
        Pairs of a rule and one that reads what it makes.
    settings
        The config as text.
    """
    pictures = [{**figure, "data": base64.b64encode(Path(figure["path"]).read_bytes()).decode()} for figure in figures]
    warnings = [(model, sentence) for model, fit in fits.items() for sentence in fit["warnings"]]
    return pages.fill(
        templates,
        "report.html.j2",
        judged=claims is not None,
        claims=[] if claims is None else summarise(claims),
        rows=[] if claims is None else claims.to_dict("records"),
        outcomes=outcomes.to_dict("records"),
        figures=pictures,
        fits=fits,
        losses={model: first_and_last_loss(history) for model, history in histories.items()},
        warnings=warnings,
        rules=rules,
        flow=flow.draw(arrows),
        settings=settings,
    )


def first_and_last_loss(history: pd.DataFrame) -> str:
    """The loss in the first epoch and in the last, for an ensemble their means over its members; empty without epochs."""
    if not {"epoch", "loss"} <= set(history):
        return ""
    losses = history.groupby("epoch")["loss"].mean()
    return f"{losses.iloc[0]:.3g} → {losses.iloc[-1]:.3g}"
