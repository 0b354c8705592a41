"""Carbone et al. 2020, "Robustness of Bayesian Neural Networks to Gradient-Based Attacks", and objections to it.

Each function gives the comparisons that decide a claim, each a value that should be above zero. What is not in the paper
asks what shrinks an expected gradient, and whether attacks without the flaws of the published ones fail, too (Feng et al.
2024, "Attacking Bayes").
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from resilience.catalog import entry
from resilience.tables import LARGER, MORE_DRAWS, NOTHING

if TYPE_CHECKING:
    import pandas as pd

    from resilience.compared import Compared


@entry(place="Sec. 5.2, Fig. 2 and 3")
def expected_gradient_and_draws(compared: Compared) -> pd.DataFrame:
    """The expected loss gradient of a Bayesian network shrinks with the number of posterior draws."""
    return _first_and_last(_of(compared.clean(), "expected_largest", MORE_DRAWS))


@entry(place="not in the paper")
def cancellation_and_draws(compared: Compared) -> pd.DataFrame:
    """It shrinks since the gradients of draws cancel: their mean does, relative to their mean size."""
    return _first_and_last(_of(compared.clean(), "cancellation", MORE_DRAWS))


@entry(place="Sec. 5.1, Fig. 1")
def expected_gradient_and_size(compared: Compared) -> pd.DataFrame:
    """The expected loss gradient of a Bayesian network shrinks with its width and with the number of training points."""
    return _of(compared.clean(), "expected_size", LARGER)


@entry(place="not in the paper")
def cancellation_and_size(compared: Compared) -> pd.DataFrame:
    """It shrinks with width and points since gradients of draws cancel more, not since each of them is smaller."""
    return _of(compared.clean(), "cancellation", LARGER)


@entry(place="Sec. 5.3")
def accuracy_and_draws(compared: Compared) -> pd.DataFrame:
    """The accuracy of a Bayesian network under attack rises with the number of posterior draws."""
    return compared.with_fewest_draws(compared.measured(compared.attacked(), "accuracy", "bayesian"))


@entry(place="Sec. 5.3")
def robustness_and_draws(compared: Compared) -> pd.DataFrame:
    """The softmax robustness of a Bayesian network rises with the number of posterior draws."""
    return compared.with_fewest_draws(compared.measured(compared.attacked(), "softmax_robustness", "bayesian"))


@entry(place="Sec. 5.3")
def accuracy_above_deterministic(compared: Compared) -> pd.DataFrame:
    """Bayesian networks are more accurate under attack than a single network."""
    return compared.measured(compared.attacked(), "accuracy", "deterministic")


@entry(place="Sec. 5.3")
def robustness_above_deterministic(compared: Compared) -> pd.DataFrame:
    """Bayesian networks have more softmax robustness under attack than a single network."""
    return compared.measured(compared.attacked(), "softmax_robustness", "deterministic")


@entry(place="Sec. 5.3")
def accuracy_above_ensemble(compared: Compared) -> pd.DataFrame:
    """Bayesian networks are more accurate under attack than an ensemble, which averages as they do."""
    return compared.measured(compared.attacked(), "accuracy", "control")


@entry(place="Sec. 5.3")
def robustness_above_ensemble(compared: Compared) -> pd.DataFrame:
    """Bayesian networks have more softmax robustness under attack than an ensemble, which averages as they do."""
    return compared.measured(compared.attacked(), "softmax_robustness", "control")


@entry(place="not in the paper; Feng et al. 2024")
def attacks_break(compared: Compared) -> pd.DataFrame:
    """An attack breaks Bayesian networks: it takes more than half of what they classify rightly."""
    return compared.measured(compared.attacked(), "broken", NOTHING)


@entry(place="not in the paper")
def noise_breaks(compared: Compared) -> pd.DataFrame:
    """So does random noise of the same size, which would make the last claim say nothing of attacks."""
    return compared.measured(compared.under_noise(), "broken", NOTHING)


def _first_and_last(rows: pd.DataFrame) -> pd.DataFrame:
    """Of each model the comparison of fewest draws with most."""
    most = rows.groupby(["dataset", "network", "training"])["reference_draws"].transform("max")
    fewest = rows.groupby(["dataset", "network", "training"])["draws"].transform("min")
    return rows[(rows["reference_draws"] == most) & (rows["draws"] == fewest)]


def _of(rows: pd.DataFrame, measure: str, role: str) -> pd.DataFrame:
    """The comparisons of a measure of gradients with references of a kind."""
    return rows[(rows["measure"] == measure) & (rows["reference_role"] == role)]
