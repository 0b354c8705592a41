"""The answer in one picture: how much more robust Bayesian explanations are, and than what."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from resilience.catalog import entry
from resilience.figures import drawing
from resilience.figures.panels import Panel, Style
from resilience.verdicts import INCONCLUSIVE

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


#: The claims that a figure of this kind shows.
SHOWN = ["more_robust", "above_adversarial", "not_only_controls", "equally_far", "equally_far_controls", "under_noise"]


@entry(trainings=2)
def answer(panels: list[Panel], style: Style, claims: pd.DataFrame) -> Figure:
    """How much more robust Bayesian explanations are than those of other networks.

    A dot is the mean LRP robustness of a Bayesian network minus that of the network named on the left, over test points and
    seeds; the bar is its 95 % interval, which counts both. A filled dot is a finding after correction for the number of
    claims: right of the line the claim holds, left of it it is reversed. A hollow dot is inconclusive.
    """
    of_panels = {(panel.dataset, panel.network, panel.attack) for panel in panels}
    settings = zip(claims["dataset"], claims["network"], claims["attack"], strict=True)
    wanted = claims[claims["claim"].isin(SHOWN) & np.array([setting in of_panels for setting in settings], dtype=bool)]
    references = [name for name in _trainings(panels) if (wanted["reference"] == name).any()]
    figure, axes = drawing.canvas(1, len(panels), drawing.PAGE, 0.9 + 0.5 * len(references), sharex=True, sharey=True)
    for place, panel in zip(axes[0], panels, strict=True):
        here = wanted[(wanted["dataset"] == panel.dataset) & (wanted["network"] == panel.network)]
        here = here[here["attack"] == panel.attack]
        models = [name for name in panel.trainings if (here["training"] == name).any()]
        for line, reference in enumerate(reversed(references)):
            for step, model in enumerate(models):
                rows = here[(here["reference"] == reference) & (here["training"] == model)]
                height = line + 0.27 * ((len(models) - 1) / 2 - step)
                label = style.name(model) if reference == references[0] else ""
                for _, row in rows.iterrows():
                    _estimate(place, row, height, style.colour(model), label)
        place.axvline(0, color=drawing.QUIET, lw=0.7, zorder=0)
        place.set_yticks(range(len(references)), [f"minus {style.name(name)}" for name in reversed(references)])
        place.set_ylim(-0.6, len(references) - 0.4)
        place.tick_params(axis="y", length=0)
        place.spines["left"].set_visible(False)
        separator = ", " if len(panels) <= 3 else "\n"
        place.set_title(drawing.wrapped(f"{panel.data}{separator}{panel.network}\n{panel.attack_name}", len(panels)))
        if len(here):
            place.set_xlabel(f"{int(here['points'].iloc[0])} points × {int(here['seeds'].iloc[0])} seeds")
        else:
            place.text(0.5, 0.5, "no claim\nis about this", ha="center", va="center", transform=place.transAxes)
    about = dict.fromkeys(f"{row['explanation']}, {row['measure']}" for _, row in wanted.iterrows())
    low, high = axes[0, 0].get_xlim()
    axes[0, 0].set_xlim(low, high + 0.15 * (high - low))
    figure.supxlabel(
        f"What is left of a Bayesian network's explanation ({', '.join(about)}) minus that of another\n"
        "95 % intervals; filled: a finding, hollow: inconclusive",
        fontsize=8,
    )
    return figure


def _trainings(panels: list[Panel]) -> list[str]:
    return list(dict.fromkeys(name for panel in panels for name in panel.trainings))


def _estimate(axes: Axes, row: pd.Series, height: float, colour: str, label: str) -> None:
    """A dot with its interval, filled if it is a finding, and the model's name behind it."""
    face = "white" if row["verdict"] == INCONCLUSIVE else colour
    axes.plot([row["low"], row["high"]], [height, height], color=colour, lw=1.2, solid_capstyle="butt")
    axes.plot(row["estimate"], height, "o", ms=4.5, mec=colour, mfc=face, mew=1.1)
    beside = {"xytext": (4, 0), "textcoords": "offset points"}
    axes.annotate(label, (row["high"], height), color=colour, va="center", fontsize=7.5, **beside)  # type: ignore[arg-type]
