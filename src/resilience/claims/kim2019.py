"""Kim et al. 2019, "Bridging Adversarial Robustness and Gradient Interpretability", and what it did not ask.

Each function gives the comparisons that decide a claim, each a value that should be above zero.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from resilience.catalog import entry
from resilience.compared import reversed_rows
from resilience.scores import KAR, PROTOCOLS, ROAR, SCORES, STRENGTH, TEST_ACCURACY, correlation_name
from resilience.tables import CONTROL, OTHER_EXPLANATION

if TYPE_CHECKING:
    import pandas as pd

    from resilience.compared import Compared

#: The local and the global explanation of the paper.
GRADIENT, PRODUCT = "gradient", "gradient_times_input"


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
    return reversed_rows(rows[rows["training"].str.split().str[0] == "l2"])


@entry(place="Sec. 3.3", published="linear: −0.94 to −0.98")
def roar_and_test_accuracy(compared: Compared) -> pd.DataFrame:
    """The ROAR scores of gradients, and of gradients times input, fall with test accuracy, a trade-off."""
    return reversed_rows(compared.made_by(_correlations(compared, ROAR, TEST_ACCURACY), GRADIENT, PRODUCT))


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


def _scores(rows: pd.DataFrame, reference: str) -> pd.DataFrame:
    """The scores of both protocols beside references of a kind."""
    return rows[rows["measure"].isin([SCORES[protocol] for protocol in PROTOCOLS]) & (rows["reference_role"] == reference)]
