"""Kim et al. 2019, "Bridging Adversarial Robustness and Gradient Interpretability", and objections to it.

Each function gives the comparisons that decide a claim, each a value that should be above zero. Trainings that are compared
are the standard one with those against attacks, and these with one another where the config has them in a series.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from resilience.catalog import entry
from resilience.compared import the_other_way_round
from resilience.grid import CLEAN
from resilience.tables import NOTHING

if TYPE_CHECKING:
    import pandas as pd

    from resilience.compared import Compared


@entry(place="Sec. 2.1, Fig. 1")
def attacked_farther_than_clean(compared: Compared) -> pd.DataFrame:
    """Adversarial examples are farther from the data manifold than the images that they are made from."""
    rows = _under_attack(compared, "farther")
    return rows[rows["reference_role"] == NOTHING]


@entry(place="Sec. 2.1, Fig. 1", published="medians in this order in 8 of 8 panels")
def nearer_with_strength(compared: Compared) -> pd.DataFrame:
    """Adversarial examples are nearer to the data manifold the stronger the attack that their network was trained against.

    Success is judged by transfer to the standard network.
    """
    return the_other_way_round(_stronger(_under_attack(compared, "farther")))


@entry(place="not in the paper")
def nearer_by_own_success(compared: Compared) -> pd.DataFrame:
    """They are if success is judged by the network that was attacked, too."""
    return the_other_way_round(_stronger(_under_attack(compared, "farther_itself")))


@entry(place="not in the paper")
def nearer_without_learning(compared: Compared) -> pd.DataFrame:
    """They are if the manifold is not learned, but the nearest images or the principal directions of all of them."""
    return the_other_way_round(_stronger(_under_attack(compared, "farther_neighbours", "farther_components")))


@entry(place="Sec. 2.2, Fig. 3", published="36°, 10°, 1°")
def tilt_falls(compared: Compared) -> pd.DataFrame:
    """Adversarial training turns the boundary towards the means of the classes, the stronger the attack the more."""
    return the_other_way_round(_stronger(_on_clean(compared, "tilt")))


@entry(place="Sec. 2.2")
def gradient_along_the_manifold(compared: Compared) -> pd.DataFrame:
    """Adversarial training takes from the gradient what lies across the data manifold, the stronger the attack the more."""
    return the_other_way_round(_stronger(_on_clean(compared, "energy")))


def _under_attack(compared: Compared, *measures: str) -> pd.DataFrame:
    """The comparisons of measures under attacks, not under noise."""
    attacked = ~compared.table["attack"].isin({CLEAN, *compared.noise})
    return compared.table[attacked & compared.table["measure"].isin(measures)]


def _on_clean(compared: Compared, measure: str) -> pd.DataFrame:
    """The comparisons of a measure of networks."""
    return compared.table[(compared.table["attack"] == CLEAN) & (compared.table["measure"] == measure)]


def _stronger(rows: pd.DataFrame) -> pd.DataFrame:
    """Those of an adversarially trained network with the standard one, or with one that was trained against less."""
    return rows[(rows["role"] == "adversarial") & rows["reference_role"].isin({"deterministic", "adversarial"})]
