"""Kim et al. 2019, "Bridging Adversarial Robustness and Gradient Interpretability", and what it did not ask.

Each function gives the comparisons that decide a claim, each a value that should be above zero. Trainings that are compared
are the standard one with those against attacks, and these with one another where the config has them in a series.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from resilience.catalog import entry
from resilience.compared import the_other_way_round
from resilience.scores import KAR, PROTOCOLS, ROAR, SCORES, STRENGTH, TEST_ACCURACY, correlation_name
from resilience.tables import CONTROL, NOTHING, OTHER_EXPLANATION

if TYPE_CHECKING:
    import pandas as pd

    from resilience.compared import Compared

#: The local and the global explanation of the paper.
GRADIENT, PRODUCT = "gradient", "gradient_times_input"


@entry(place="Sec. 2.1")
def attacked_farther_than_clean(compared: Compared) -> pd.DataFrame:
    """Adversarial examples are farther from the data manifold than the images that they are made from."""
    rows = compared.table[~compared.table["attack"].isin(set(compared.noise))]
    return rows[(rows["measure"] == "farther") & (rows["reference_role"] == NOTHING)]


@entry(place="Sec. 2.1", published="modes, rescaled: .63, .60, .50, .42 (MNIST, ℓ2)")
def nearer_with_strength(compared: Compared) -> pd.DataFrame:
    """Adversarial examples are nearer to the data manifold the stronger the attack that their network was trained against.

    Success is judged by transfer to the standard network.
    """
    return the_other_way_round(_stronger(compared.attacked("adversarial"), "farther"))


@entry(place="not in the paper")
def nearer_by_own_success(compared: Compared) -> pd.DataFrame:
    """They are if success is judged by the network that was attacked, too."""
    return the_other_way_round(_stronger(compared.attacked("adversarial"), "farther_itself"))


@entry(place="not in the paper")
def nearer_without_learning(compared: Compared) -> pd.DataFrame:
    """They are if the manifold is not learned, but the nearest images or the principal directions of all of them."""
    rows = compared.attacked("adversarial")
    return the_other_way_round(_stronger(rows, "farther_neighbours", "farther_components"))


@entry(place="Sec. 2.2", published="36°, 10°, 1°")
def tilt_falls(compared: Compared) -> pd.DataFrame:
    """Adversarial training turns the boundary towards the means of the classes, the stronger the attack the more."""
    return the_other_way_round(_stronger(compared.clean("adversarial"), "tilt"))


@entry(place="Sec. 2.2")
def gradient_along_the_manifold(compared: Compared) -> pd.DataFrame:
    """Adversarial training takes from the gradient what lies across the data manifold, the stronger the attack the more."""
    return the_other_way_round(_stronger(compared.clean("adversarial"), "energy"))


@entry(place="Sec. 3.2", published="0.89 to 0.99")
def roar_and_strength(compared: Compared) -> pd.DataFrame:
    """The ROAR scores of gradients, and of gradients times input, rise with the strength of adversarial training."""
    return compared.made_by(_correlations(compared, ROAR, STRENGTH), GRADIENT, PRODUCT)


@entry(place="Sec. 3.2", published="ROAR: 0.018 standard, 0.007 strongest")
def global_above_local(compared: Compared) -> pd.DataFrame:
    """Gradients times input, which are global, have higher ROAR and KAR scores than gradients, which are local."""
    published = compared.table["role"].isin(["deterministic", "adversarial"])
    rows = _scores(compared.table[published], OTHER_EXPLANATION)
    return compared.beside(compared.made_by(rows, PRODUCT), GRADIENT)


@entry(place="Sec. 3.2", published="linear: 0.63 (l2), 0.89 (linf)")
def kar_of_products_and_strength(compared: Compared) -> pd.DataFrame:
    """The KAR score of gradients times input rises with the strength of adversarial training."""
    return compared.made_by(_correlations(compared, KAR, STRENGTH), PRODUCT)


@entry(place="Sec. 3.2", published="linear: −0.53 (l2)")
def kar_of_gradients_and_l2(compared: Compared) -> pd.DataFrame:
    """The KAR score of gradients falls with the strength of adversarial training in ℓ2 balls."""
    rows = compared.made_by(_correlations(compared, KAR, STRENGTH), GRADIENT)
    return the_other_way_round(rows[rows["training"].str.split().str[0] == "l2"])


@entry(place="Sec. 3.3", published="linear: −0.94 to −0.98")
def roar_and_test_accuracy(compared: Compared) -> pd.DataFrame:
    """The ROAR scores of gradients, and of gradients times input, fall with test accuracy, a trade-off."""
    return the_other_way_round(compared.made_by(_correlations(compared, ROAR, TEST_ACCURACY), GRADIENT, PRODUCT))


@entry(place="not in the paper")
def bayesian_above_deterministic(compared: Compared) -> pd.DataFrame:
    """Explanations of Bayesian networks have higher ROAR and KAR scores than those of a single network."""
    return _scores_of_bayesian(compared, "deterministic")


@entry(place="not in the paper")
def bayesian_above_controls(compared: Compared) -> pd.DataFrame:
    """Explanations of Bayesian networks have higher ROAR and KAR scores than those of MAP networks and of ensembles."""
    return _scores_of_bayesian(compared, "control")


@entry(place="not in the paper")
def gradients_above_controls(compared: Compared) -> pd.DataFrame:
    """Of a standard network gradients, and gradients times input, score higher than what says nothing of the network."""
    rows = compared.made_by(compared.clean("deterministic"), GRADIENT, PRODUCT)
    return _scores(rows, CONTROL)


def _correlations(compared: Compared, protocol: str, against: str) -> pd.DataFrame:
    """The rank correlations of the scores of a protocol over adversarial trainings."""
    rows = compared.clean("adversarial")
    return rows[rows["measure"] == correlation_name("rank correlation", protocol, against)]


def _scores_of_bayesian(compared: Compared, reference: str) -> pd.DataFrame:
    """The scores of Bayesian networks with most draws beside those of networks of a role."""
    rows = _scores(compared.clean(), reference)
    return rows[rows["draws"] == rows.groupby(["dataset", "network", "training"])["draws"].transform("max")]


def _stronger(rows: pd.DataFrame, *measures: str) -> pd.DataFrame:
    """Those of some measures with the standard network, or with one that was trained against less."""
    return rows[rows["measure"].isin(measures) & rows["reference_role"].isin({"deterministic", "adversarial"})]


def _scores(rows: pd.DataFrame, reference: str) -> pd.DataFrame:
    """The scores of both protocols beside references of a kind."""
    return rows[rows["measure"].isin([SCORES[protocol] for protocol in PROTOCOLS]) & (rows["reference_role"] == reference)]
