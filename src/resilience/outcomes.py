"""What each attack did to each network: how far it pushed, what it broke, and what was left of the explanation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from resilience.tables import SETTING, Measured

if TYPE_CHECKING:
    import pandas as pd


def outcomes(
    measured: Measured, layers: dict[str, Sequence[str]], explanation: str, measure: str, noise: dict[str, str | None]
) -> pd.DataFrame:
    """Means over test points and seeds for each attacked network.

    Parameters
    ----------
    measured
        The tables of all models.
    layers
        Learnable layers of each network; the last one stands for the output.
    explanation, measure
        Which explanation, and by which measure it is said how much of it is left.
    noise
        For each attack the one that is random noise of the same epsilon, its control, or None.

    Returns
    -------
    pandas.DataFrame
        The setting, ``seeds`` and ``points``; shares of points that are classified rightly before (``right``) and after
        (``right_attacked``); ``mean_change`` of a pixel; share of points with no gradient to follow (``zero_gradient``);
        ``softmax_robustness``; and of the maps of an ``explanation`` of the output what is ``left`` by a ``measure``, and
        the share of ``relevant`` pixels, both empty where there are none. ``softmax_robustness_noise`` and ``left_noise``
        are those of the same network under noise, empty where it was not exposed to any.
    """
    import pandas as pd

    groups = measured.predictions.groupby(SETTING, sort=True)
    outputs = measured.maps[measured.maps["layer"] == measured.maps["network"].map(lambda network: layers[network][-1])]
    outputs = outputs[outputs["explanation"] == explanation]
    left = outputs.rename(columns={measure: "left"}).groupby(SETTING, sort=True)[["left", "relevant"]].mean()
    found = {setting: _outcome(group) for setting, group in groups}
    for setting, outcome in found.items():
        known = dict(left.loc[setting]) if setting in left.index else dict.fromkeys(left, float("nan"))
        outcome.update({"explanation": explanation, "measure": measure, **known})
    rows = []
    for (dataset, network, attack, training, draws), outcome in found.items():
        control = found.get((dataset, network, noise[attack], training, draws), {})
        beside = {f"{name}_noise": control.get(name, float("nan")) for name in ("softmax_robustness", "left")}
        rows.append(dict(zip(SETTING, (dataset, network, attack, training, draws), strict=True)) | outcome | beside)
    return pd.DataFrame(rows)


def _outcome(predictions: pd.DataFrame) -> dict[str, Any]:
    return {
        "seeds": predictions["seed"].nunique(),
        "points": predictions["index"].nunique(),
        "right": (predictions["prediction"] == predictions["label"]).mean(),
        "right_attacked": (predictions["prediction_attacked"] == predictions["label"]).mean(),
        **{name: predictions[name].mean() for name in ("mean_change", "zero_gradient", "softmax_robustness")},
    }
