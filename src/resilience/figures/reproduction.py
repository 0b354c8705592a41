"""Published numbers beside ours."""

from __future__ import annotations

from typing import TYPE_CHECKING

from resilience.figures import drawing
from resilience.reproduction import NOT_RUN

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

RUN_COLOURS = ("#0072b2", "#d55e00")


def reproduction(compared: pd.DataFrame, runs: dict[str, str]) -> Figure:
    """Every published number that some run has, as a diamond, and what the runs give, as dots with 95 % intervals.

    A dot is hollow where the network classifies less than half of the clean points rightly.

    Parameters
    ----------
    compared
        The table of :func:`resilience.reproduction.compare`.
    runs
        What to call each run, by its name.
    """
    run_at_all = [compared[f"{run}_agreement"] != NOT_RUN for run in runs]
    table = compared[run_at_all[0] | run_at_all[-1]]
    columns = _columns(table)
    longest = max(len(part) for part in columns)
    figure, axes = drawing.canvas(1, len(columns), drawing.PAGE, 1.1 + 0.235 * longest)
    for place, part in zip(axes[0], columns, strict=True):
        _numbers(place, part, runs, longest)
    handles = [axes[0, 0].plot([], [], "D", color=drawing.INK, ms=4, label="published")[0]]
    for colour, name in zip(RUN_COLOURS, runs.values(), strict=False):
        handles.append(axes[0, 0].plot([], [], "o-", color=colour, ms=3.5, lw=1.1, label=name)[0])
    figure.legend(handles=handles, loc="outside upper center", ncols=len(handles), frameon=False, fontsize=8)
    figure.supxlabel(
        "Difference in LRP robustness, or correlation (Fig. 4); 95 % intervals over points and seeds\n"
        "Hollow: the network classifies less than half of the points rightly",
        fontsize=8,
    )
    return figure


def _columns(table: pd.DataFrame) -> list[pd.DataFrame]:
    """The figures of the paper in two columns of about equal length, none of them cut."""
    figures = list(dict.fromkeys(table["figure"]))
    sizes = [int((table["figure"] == name).sum()) for name in figures]
    cut = min(range(1, len(figures)), key=lambda at: abs(sum(sizes[:at]) - sum(sizes[at:])), default=1)
    parts = [table[table["figure"].isin(part)] for part in (figures[:cut], figures[cut:])]
    return [part for part in parts if len(part)]


def _numbers(axes: Axes, table: pd.DataFrame, runs: dict[str, str], longest: int) -> None:
    """One line for each number, under the name of its figure and setting."""
    labels, height, before = [], 0.0, None
    for row in table.to_dict("records"):
        setting = (row["figure"], row["dataset"], row["network"], row["attack"])
        if setting != before:
            height += 1.0 if before else 0.0
            text = f"{row['figure']}: {row['dataset']}, {row['network']}, {row['attack']}"
            where = {"transform": axes.get_yaxis_transform(), "ha": "right", "va": "center"}
            axes.text(-0.02, height, text, fontsize=7, weight="bold", **where)  # type: ignore[arg-type]
            height += 1.0
            before = setting
        against = f" − {row['reference']}" if isinstance(row["reference"], str) and row["reference"] else ""
        draws = f" ({row['draws']})" if row["draws"] > 1 else ""
        explanation = "" if row["explanation"] == "epsilon" else f", {row['explanation']}"
        layer = f"layer {row['layer']}" if str(row["layer"]).isdigit() else row["layer"]
        labels.append((height, f"{row['training']}{draws}{against}, {layer}{explanation}"))
        for step, (run, colour) in enumerate(zip(runs, RUN_COLOURS, strict=False)):
            if row[f"{run}_agreement"] != NOT_RUN:
                level = height + 0.22 * (2 * step - 1)
                axes.plot([row[f"{run}_low"], row[f"{run}_high"]], [level, level], color=colour, lw=1.1)
                learned = row[f"{run}_classified"] >= 0.5
                axes.plot(row[run], level, "o", mec=colour, mfc=colour if learned else "white", ms=3.2, mew=0.9)
        axes.plot(row["value"], height, "D", color=drawing.INK, ms=3.5, zorder=4)
        height += 1.0
    axes.axvline(0, color=drawing.QUIET, lw=0.7, zorder=0)
    axes.set_yticks([place for place, _ in labels], [text for _, text in labels], fontsize=6.5)
    axes.set_ylim(max(height, 1), -0.8)
    axes.set_xlim(-1, 1)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
