"""What each attack did to each network: how far it pushed, what it broke, and what was left of the explanation."""

from __future__ import annotations

from typing import TYPE_CHECKING

from resilience.robustness import column, relevant

if TYPE_CHECKING:
    import pandas as pd

SETTING = ["dataset", "network", "attack", "training", "draws"]


def outcomes(
    tables: pd.DataFrame, layers: dict[str, tuple[int, ...]], lrp: str, top_k: float, noise: dict[str, str | None]
) -> pd.DataFrame:
    """Means over test points and seeds for each attacked network.

    Parameters
    ----------
    tables
        The robustness tables of all models, under one another.
    layers
        Learnable layers of each network; the last one stands for the output.
    lrp, top_k
        LRP rule and k of the LRP robustness.
    noise
        For each attack the one that is random noise of the same epsilon, its control, or None.

    Returns
    -------
    pandas.DataFrame
        The setting, ``seeds`` and ``points``; shares of points that are classified rightly before (``right``) and after
        (``right_attacked``); ``mean_change`` of a pixel; share of points with no gradient to follow (``zero_gradient``);
        ``softmax_robustness``; and of the maps that explain the output ``lrp_robustness`` and the share of ``relevant``
        pixels, both empty where the rule was not used. ``softmax_robustness_noise`` and ``lrp_robustness_noise`` are those
        of the same network under noise, empty where it was not exposed to any.
    """
    import pandas as pd

    found = {
        setting: _outcome(group, layers[setting[1]][-1], lrp, top_k) for setting, group in tables.groupby(SETTING, sort=True)
    }
    rows = []
    for (dataset, network, attack, training, draws), outcome in found.items():
        control = found.get((dataset, network, noise[attack], training, draws), {})
        beside = {f"{name}_noise": control.get(name, float("nan")) for name in ("softmax_robustness", "lrp_robustness")}
        rows.append(dict(zip(SETTING, (dataset, network, attack, training, draws), strict=True)) | outcome | beside)
    return pd.DataFrame(rows)


def _outcome(table: pd.DataFrame, output: int, lrp: str, top_k: float) -> dict[str, float]:
    measured = {"lrp_robustness": column(lrp, output, top_k), "relevant": relevant(lrp, output)}
    return {
        "seeds": table["seed"].nunique(),
        "points": table["index"].nunique(),
        "right": (table["prediction"] == table["label"]).mean(),
        "right_attacked": (table["prediction_attacked"] == table["label"]).mean(),
        **{name: table[name].mean() for name in ("mean_change", "zero_gradient", "softmax_robustness")},
        **{name: table[source].mean() if source in table else float("nan") for name, source in measured.items()},
    }
