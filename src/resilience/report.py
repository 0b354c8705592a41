"""The report: one page that holds the verdicts, the figures, the state of every network, the workflow and its settings."""

from __future__ import annotations

import base64
import math
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from resilience import flow, pages
from resilience.verdicts import summarise

if TYPE_CHECKING:
    import pandas as pd

#: A number that stands by itself in a sentence, with its percent sign, but no part of a name such as fc2.
NUMBER = re.compile(r"(?<![\w.])\d+(?:\.\d+)?(?:e[+-]?\d+)?%?(?!\w)")


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
    titles: Mapping[str, str] | None = None,
) -> str:
    """The page as HTML that needs no other file.

    Parameters
    ----------
    templates
        The texts of the Jinja templates ``report.html.j2`` and ``page.html.j2``.
    claims
        The table of :func:`resilience.verdicts.judge`; None if nothing was judged.
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
    titles
        What readers are told of datasets, where that is not their name.
    """
    pictures = [{**figure, "data": base64.b64encode(Path(figure["path"]).read_bytes()).decode()} for figure in figures]
    return pages.fill(
        templates,
        "report.html.j2",
        judged=claims is not None,
        claims=[] if claims is None else summarise(claims),
        rows=[] if claims is None else [_told(row, titles) for row in claims.to_dict("records")],
        outcomes=[{**_told(row, titles), "beside_noise": beside_noise(row)} for row in outcomes.to_dict("records")],
        figures=pictures,
        fits=fits,
        warnings=gather({model: fit["warnings"] for model, fit in fits.items()}),
        losses={model: first_and_last_loss(history) for model, history in histories.items()},
        rules=rules,
        flow=flow.draw(arrows),
        settings=settings,
    )


def _told(row: dict[Any, Any], titles: Mapping[str, str] | None) -> dict[Any, Any]:
    """A row of a table with the dataset called as readers know it."""
    return {**row, "dataset": (titles or {}).get(row["dataset"], row["dataset"])}


def beside_noise(outcome: Mapping[str, Any]) -> str:
    """What an attack leaves of the explanation, beside noise of its epsilon: less, more or as much; empty where unknown.

    Parameters
    ----------
    outcome
        A row of :func:`resilience.outcomes.outcomes`.
    """
    left, under_noise = outcome["left"], outcome["left_noise"]
    if math.isnan(left) or math.isnan(under_noise):
        return ""
    return "as much" if left == under_noise else "more" if left > under_noise else "less"


def gather(warnings: Mapping[str, Sequence[str]]) -> list[dict[str, str]]:
    """Equal warnings of the seeds of a training as one, numbers that differ between them as a range.

    Parameters
    ----------
    warnings
        By model, ``{dataset}/{network}/{training}/seed{s}``, sentences about it.

    Returns
    -------
    list of dict
        ``training``, the model without its seed; ``seeds``, which ones; ``sentence``.
    """
    all_seeds: dict[str, list[int]] = defaultdict(list)
    alike: dict[tuple[str, str, int], list[tuple[int, str]]] = defaultdict(list)
    for model, sentences in warnings.items():
        training, _, seed = model.rpartition("/seed")
        all_seeds[training].append(int(seed))
        # What a model says twice, but for its numbers, is about two things.
        times: dict[str, int] = defaultdict(int)
        for sentence in sentences:
            pattern = NUMBER.sub("0", sentence)
            alike[training, pattern, times[pattern]].append((int(seed), sentence))
            times[pattern] += 1
    return [
        {
            "training": training,
            "seeds": _seeds([seed for seed, _ in found], all_seeds[training]),
            "sentence": _with_ranges([sentence for _, sentence in found]),
        }
        for (training, *_), found in alike.items()
    ]


def _with_ranges(sentences: Sequence[str]) -> str:
    """Sentences that differ in numbers alone as one."""
    numbers = zip(*(NUMBER.findall(sentence) for sentence in sentences), strict=True)
    ordered = (sorted(set(found), key=lambda number: float(number.rstrip("%"))) for found in numbers)
    ranges = iter(found[0] if len(found) == 1 else f"{found[0]} to {found[-1]}" for found in ordered)
    return NUMBER.sub(lambda _: next(ranges), sentences[0])


def _seeds(found: list[int], known: list[int]) -> str:
    """Some of the seeds of a training, runs of them in short."""
    if len(found) == len(known):
        return {1: f"seed {found[0]}", 2: "both seeds"}.get(len(found), f"all {len(found)} seeds")
    runs: list[list[int]] = []
    for seed in sorted(found):
        if runs and seed == runs[-1][-1] + 1:
            runs[-1].append(seed)
        else:
            runs.append([seed])
    parts = (f"{run[0]} to {run[-1]}" if len(run) > 2 else ", ".join(map(str, run)) for run in runs)
    return f"{'seeds' if len(found) > 1 else 'seed'} {', '.join(parts)} ({len(found)} of {len(known)})"


def first_and_last_loss(history: pd.DataFrame) -> str:
    """The loss in the first epoch and in the last, for an ensemble their means over its members; empty without epochs."""
    if not {"epoch", "loss"} <= set(history):
        return ""
    losses = history.groupby("epoch")["loss"].mean()
    return f"{losses.iloc[0]:.3g} → {losses.iloc[-1]:.3g}"
