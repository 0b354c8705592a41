"""What networks learn from what explanations leave of the images: ROAR and KAR (Kim et al. 2019, Sec. 3.2 and 3.3)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np
from matplotlib.ticker import MaxNLocator, PercentFormatter

from resilience.catalog import entry
from resilience.figures import drawing
from resilience.figures.panels import Style
from resilience.parameters import ExplanationName, TrainingName
from resilience.scores import PROTOCOLS, STRENGTH, TEST_ACCURACY, attack_of, correlation_name

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

#: Okabe and Ito's colours, one for each explanation in the order of a figure.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#b08c00", "#56b4e9", "#8a60b0", "#4d4d4d")
#: Marks and lines of the norms of attacks that were trained against, in alphabetical order.
MARKS, LINES = ("o", "s", "^"), ("solid", (0, (4, 2)), (0, (1, 1)))
CALLED = {"l1": "ℓ1", "l2": "ℓ2", "linf": "ℓ∞"}
ROLES = ("deterministic", "adversarial", "control", "bayesian")
#: How far dots of different explanations stand apart, as a share of the axis, so that their intervals can be told apart.
APART = 0.012
#: Panels beside each other.
COLUMNS = 4


@entry()
def scores_by_strength(
    style: Style,
    scores: pd.DataFrame,
    comparisons: pd.DataFrame,
    *,
    explanations: list[ExplanationName],
    against: Literal["strength", "test_accuracy"] = "strength",
) -> Figure:
    """ROAR and KAR scores of explanations against the strength of adversarial training, or against test accuracy.

    A dot is a training, with its 95 % interval over points and seeds; the network without adversarial training belongs to
    each norm and has strength 0. Strength is the attack's epsilon over the largest of its norm. Lines are fitted by least
    squares. ρ is the rank correlation and r the linear one, means over seeds, with intervals that count points and seeds,
    but not which trainings there are.

    Parameters
    ----------
    explanations
        Which.
    against
        What stands on the horizontal axis.
    """
    found = _of_attacks(scores[scores["explanation"].isin(explanations)])
    places = list(found.groupby(["dataset", "network", "objective"], sort=True))
    figure, axes = drawing.canvas(len(places), 2, drawing.PAGE, 0.4 + 3.4 * len(places))
    for row, ((dataset, network, objective), table) in enumerate(places):
        judged = comparisons[(comparisons["dataset"] == dataset) & (comparisons["network"] == network)]
        for place, protocol in zip(axes[row], PROTOCOLS, strict=True):
            _scatter(place, table[table["protocol"] == protocol], judged, explanations, against)
            place.set_ylabel(f"{protocol.upper()} score")
        raised = "" if objective in ("", "likelihood") else f", {objective.replace('_', ' ')}"
        setting = f"{style.titles.get(dataset, dataset)}, {network}{raised}"
        axes[row, 0].set_title(f"{setting}: {table['points'].max()} points × {table['seeds'].max()} seeds", loc="left")
    return figure


def _of_attacks(scores: pd.DataFrame) -> pd.DataFrame:
    """The trainings that have a strength: those without an attack once for each (norm, objective) of the others."""
    import pandas as pd

    rated = _with_texts(scores[scores["strength"].notna()])
    plain, against = rated[rated["norm"] == ""], rated[rated["norm"] != ""]
    attacks = against[["norm", "objective"]].drop_duplicates()
    return pd.concat([against, *(plain.assign(**attack._asdict()) for attack in attacks.itertuples(index=False))])


def _with_texts(scores: pd.DataFrame) -> pd.DataFrame:
    """The same with empty texts where a table that was read has a missing norm or objective."""
    texts = {name: scores[name].astype(object).where(scores[name].notna(), "") for name in ("norm", "objective")}
    return scores.assign(**texts)


def _scatter(axes: Axes, table: pd.DataFrame, comparisons: pd.DataFrame, explanations: Sequence[str], against: str) -> None:
    """Dots, lines and correlations of each norm and explanation under one protocol."""
    protocol = str(table["protocol"].iloc[0])
    name = STRENGTH if against == "strength" else TEST_ACCURACY
    axes.axhline(0, color=drawing.QUIET, lw=0.7, zorder=1)
    for order, (colour, explanation) in enumerate(zip(_colours(explanations), explanations, strict=True)):
        for number, (norm, rows) in enumerate(table[table["explanation"] == explanation].groupby("norm", sort=True)):
            mark, line = MARKS[number % len(MARKS)], LINES[number % len(LINES)]
            x, y = rows[against].to_numpy(dtype=float), rows["score"].to_numpy(dtype=float)
            bars = [y - rows["low"].to_numpy(), rows["high"].to_numpy() - y]
            beside = x + APART * np.ptp(table[against]) * (order - (len(explanations) - 1) / 2)
            axes.errorbar(beside, y, bars, fmt="none", ecolor=colour, elinewidth=0.6, alpha=0.5, zorder=2)
            attack = attack_of({"norm": norm, "objective": rows["objective"].iloc[0]})
            label = f"{CALLED.get(str(norm), norm)}, {explanation.replace('_', ' ')}"
            label += _correlations(comparisons, protocol, name, attack, explanation)
            axes.plot(beside, y, mark, color=colour, ms=3.6, mew=0.6, mfc=colour if number == 0 else "white", zorder=4)
            ends = np.array([x.min(), x.max()])
            if ends[0] < ends[1]:
                axes.plot(ends, np.polyval(np.polyfit(x, y, 1), ends), color=colour, lw=1.1, ls=line, zorder=3)
            axes.plot(
                [], [], color=colour, marker=mark, ls=line, ms=3.6, mfc=colour if number == 0 else "white", label=label
            )
    axes.set_xlabel(
        "strength of adversarial training" if against == "strength" else "test accuracy of the explained network"
    )
    if against == "test_accuracy":
        axes.xaxis.set_major_locator(MaxNLocator(4))
        axes.xaxis.set_major_formatter(PercentFormatter(1, symbol=" %"))
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.16), frameon=False, fontsize=6.3, handlelength=2.8)


def _correlations(comparisons: pd.DataFrame, protocol: str, against: str, attack: str, explanation: str) -> str:
    """Both correlations as a legend tells them; nothing where there are too few strengths."""
    told = []
    for symbol, kind in (("ρ", "rank correlation"), ("r", "linear correlation")):
        rows = comparisons[
            (comparisons["measure"] == correlation_name(kind, protocol, against))
            & (comparisons["training"] == attack)
            & (comparisons["explanation"] == explanation)
        ]
        for row in rows.itertuples():
            low, high = (drawing.signed(float(np.clip(value, -1, 1))) for value in (row.low, row.high))
            told.append(f"{symbol} = {drawing.signed(row.estimate)} [{low}, {high}]")
    return "\n" + ", ".join(told) if told else ""


@entry()
def accuracy_after_removal(
    style: Style, scores: pd.DataFrame, *, explanations: list[ExplanationName], trainings: list[TrainingName]
) -> Figure:
    """Accuracy of networks that learned from what explanations leave, against the share of the pixels that are replaced.

    ROAR replaces the most important pixels first, so what finds them makes accuracy fall early; KAR keeps these to the last,
    so it makes accuracy stay. Grey are explanations that say nothing of the network, dashed the random map, from whose curve
    scores are measured; both ends are measured. Lines are means over test points and seeds.

    Parameters
    ----------
    explanations
        Which.
    trainings
        Whose, a panel for each.
    """
    shown = scores[scores["control"] | (scores["explanation"].isin(explanations) & scores["training"].isin(trainings))]
    places = list(shown.groupby(["dataset", "network", "protocol"], sort=False))
    across = min(COLUMNS, len(trainings))
    down = -(-len(trainings) // across)
    size = (len(places) * down, across)
    figure, axes = drawing.canvas(*size, drawing.PAGE, 0.5 + 1.75 * size[0], sharex=True, sharey=True)
    for axis in axes.flat[:]:
        axis.set_visible(False)
    lines: dict[str, Line2D] = {}
    for number, ((dataset, network, protocol), table) in enumerate(places):
        block = axes[number * down : (number + 1) * down].ravel()
        for place, training in zip(block, trainings, strict=False):
            place.set_visible(True)
            lines |= _curves(place, table, explanations, training)
            place.set_title(style.short(training))
        for place in axes[number * down : (number + 1) * down, 0]:
            place.set_ylabel(f"{style.titles.get(dataset, dataset)}, {network}\n{protocol.upper()}: test accuracy")
            place.yaxis.set_major_formatter(PercentFormatter(1, symbol=" %", decimals=0))
    axes[0, 0].xaxis.set_major_formatter(PercentFormatter(1, symbol=" %", decimals=0))
    for place in axes[-1]:
        place.set_xlabel("pixels replaced")
    figure.legend(list(lines.values()), list(lines), loc="outside lower center", ncols=4, frameon=False, fontsize=7)
    return figure


def _curves(axes: Axes, table: pd.DataFrame, explanations: Sequence[str], training: str) -> dict[str, Line2D]:
    """A line for each explanation of a training, and for what says nothing of it; the lines by their names."""
    replaced = [name for name in table if name.startswith("accuracy_")]
    places = np.array([float(name.removeprefix("accuracy_")) for name in replaced])
    controls = sorted(table.loc[table["control"], "explanation"].unique())
    drawn: dict[str, Line2D] = {}
    colours = dict(zip(explanations, _colours(explanations), strict=True))
    for explanation in (*controls, *explanations):
        rows = table[table["explanation"] == explanation]
        if explanation not in controls:
            rows = rows[rows["training"] == training]
        if not len(rows):
            continue
        heights = rows.loc[rows["draws"].idxmax(), replaced].to_numpy(dtype=float)
        known = np.isfinite(heights)
        dashes = LINES[1 + controls.index(explanation) % 2] if explanation in controls else "solid"
        colour = drawing.QUIET if explanation in controls else colours[explanation]
        (line,) = axes.plot(places[known], heights[known], color=colour, lw=1.2, ls=dashes, marker=".", ms=3.5)
        drawn[explanation.replace("_", " ")] = line
    return drawn


@entry()
def scores_by_training(style: Style, scores: pd.DataFrame) -> Figure:
    """ROAR and KAR scores of every explanation of every training, with 95 % intervals over points and seeds.

    Zero is the random map. Dashed is an explanation that says nothing of the network either, such as a filter of edges: what
    lies left of it finds less than that. A posterior has its most draws. The strength of an attack that was trained against
    is its epsilon over the largest of its norm.
    """
    places = list(scores.groupby(["dataset", "network"], sort=True))
    panels = [(place, explanation) for place, table in places for explanation in _explanations(table)]
    models = {place: _models(table) for place, table in places}
    heights = [len(models[place]) for place, _ in panels]
    figure, axes = drawing.canvas(
        len(panels), 2, drawing.PAGE, 0.5 + sum(0.35 + 0.15 * height for height in heights), height_ratios=heights
    )
    tables = dict(places)
    for row, (place, explanation) in enumerate(panels):
        names = [_named(style, *model) for model in models[place].itertuples(index=False, name=None)]
        for axis, protocol in zip(axes[row], PROTOCOLS, strict=True):
            table = tables[place]
            _dots(axis, table[table["protocol"] == protocol], models[place], explanation, style)
            axis.set_yticks(range(len(names)), names if axis is axes[row, 0] else [""] * len(names))
            axis.set_ylim(len(names) - 0.5, -0.5)
            axis.tick_params(labelsize=6.5)
        setting = f"{style.titles.get(place[0], place[0])}, {place[1]}: " if len(places) > 1 else ""
        axes[row, 0].set_title(f"{setting}{explanation.replace('_', ' ')}", loc="left")
    for axis, protocol in zip(axes[-1], PROTOCOLS, strict=True):
        axis.set_xlabel(f"{protocol.upper()} score")
    for column in axes.T:
        low, high = (pick(axis.get_xlim()[end] for axis in column) for pick, end in ((min, 0), (max, 1)))
        for axis in column:
            axis.set_xlim(low, high)
    return figure


def _explanations(table: pd.DataFrame) -> Iterator[str]:
    yield from sorted(table.loc[~table["control"], "explanation"].unique())


def _models(table: pd.DataFrame) -> pd.DataFrame:
    """Each training with most draws, by role, norm and strength: ``training``, ``draws`` and ``strength``."""
    models = _with_texts(table[~table["control"]]).fillna({"strength": 0.0})
    models = models.assign(_role=models["role"].map(ROLES.index)).sort_values(
        ["_role", "norm", "strength", "training", "draws"]
    )
    return models.drop_duplicates("training", keep="last")[["training", "draws", "strength"]].reset_index(drop=True)


def _named(style: Style, training: str, draws: int, strength: float) -> str:
    details = f", strength {strength:.2g}" if strength else f", n = {draws}" if draws > 1 else ""
    return f"{style.name(training)}{details}"


def _dots(axes: Axes, table: pd.DataFrame, models: pd.DataFrame, explanation: str, style: Style) -> None:
    """The score of one explanation of each model, and lines at zero and at those that say nothing of a model."""
    axes.axvline(0, color=drawing.QUIET, lw=0.7, zorder=1)
    for row in table[table["control"] & (table["score"] != 0)].itertuples():
        axes.axvline(row.score, color=drawing.QUIET, lw=0.8, ls=(0, (4, 2)), zorder=1)
    here = table[table["explanation"] == explanation]
    for height, model in enumerate(models.itertuples()):
        for row in here[(here["training"] == model.training) & (here["draws"] == model.draws)].itertuples():
            colour = style.colour(model.training)
            axes.plot([row.low, row.high], [height] * 2, color=colour, lw=1, zorder=2)
            axes.plot(row.score, height, "o", color=colour, ms=3.5, zorder=3)


def _colours(explanations: Sequence[str]) -> list[str]:
    return [COLOURS[number % len(COLOURS)] for number in range(len(explanations))]
