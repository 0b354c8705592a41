"""Carbone et al. 2021, "Resilience of Bayesian Layer-Wise Explanations under Adversarial Attacks", and objections to it.

Each function gives the comparisons that decide a claim, each a value that should be above zero. What is not in the paper
asks whether the advantage is the posterior's at all.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from resilience.catalog import entry

if TYPE_CHECKING:
    import pandas as pd

    from resilience.compared import Compared


@entry(place="Sec. V-A")
def more_robust(compared: Compared) -> pd.DataFrame:
    """Bayesian explanations are more robust under attack than deterministic ones."""
    return compared.explanations(compared.attacked(), "deterministic")


@entry(place="Sec. V-A")
def inner_layers(compared: Compared) -> pd.DataFrame:
    """Bayesian explanations are more robust than deterministic ones in the internal layers, too."""
    return compared.explanations(compared.attacked(), "deterministic", layers="inner")


@entry(place="Sec. V-A")
def all_rules(compared: Compared) -> pd.DataFrame:
    """Bayesian explanations are more robust than deterministic ones under the other LRP rules, too."""
    return compared.explanations(compared.attacked(), "deterministic", among=compared.other_rules)


@entry(place="Abstract, Sec. I")
def failed_attacks(compared: Compared) -> pd.DataFrame:
    """Bayesian explanations are more robust than deterministic ones even where the attack fails."""
    return compared.explanations(compared.attacked(), "deterministic", subset="unbroken")


@entry(place="not in the paper")
def fixed_class(compared: Compared) -> pd.DataFrame:
    """Bayesian explanations of the class before the attack are more robust than deterministic ones, too."""
    return compared.explanations(compared.attacked(), "deterministic", among=compared.of_fixed_class)


@entry(place="not in the paper")
def other_explanations(compared: Compared) -> pd.DataFrame:
    """Bayesian explanations are more robust than deterministic ones where they are made in another way than by LRP, too."""
    return compared.explanations(compared.attacked(), "deterministic", among=compared.other_ways)


@entry(place="not in the paper")
def other_explanations_controls(compared: Compared) -> pd.DataFrame:
    """Made otherwise than by LRP, the advantage remains over networks that share the prior or the averaging."""
    return compared.explanations(compared.attacked(), "control", among=compared.other_ways)


@entry(place="Sec. V-A")
def above_adversarial(compared: Compared) -> pd.DataFrame:
    """Adversarially trained networks have low LRP robustness compared to Bayesian ones."""
    return compared.explanations(compared.attacked(), "adversarial")


@entry(place="Sec. II-C, V-B")
def predictions(compared: Compared) -> pd.DataFrame:
    """Bayesian predictions are more robust under attack than deterministic ones."""
    return compared.measured(compared.attacked(), "softmax_robustness", "deterministic")


@entry(place="Sec. V-B")
def correlation(compared: Compared) -> pd.DataFrame:
    """LRP robustness grows with softmax robustness in Bayesian networks more than in deterministic ones."""
    return compared.correlations(compared.attacked(), "deterministic")


@entry(place="Sec. V-B")
def correlation_and_draws(compared: Compared) -> pd.DataFrame:
    """The correlation of LRP and softmax robustness grows with the number of posterior draws."""
    return compared.with_fewest_draws(compared.correlations(compared.attacked(), "bayesian"))


@entry(place="not in the paper")
def not_only_controls(compared: Compared) -> pd.DataFrame:
    """The advantage is the posterior's: it remains over networks that share its prior or its averaging."""
    return compared.explanations(compared.attacked(), "control")


@entry(place="not in the paper")
def equally_far(compared: Compared) -> pd.DataFrame:
    """Bayesian explanations are more robust than deterministic ones that are pushed equally far."""
    return compared.explanations(compared.matched(), "deterministic")


@entry(place="not in the paper")
def equally_far_controls(compared: Compared) -> pd.DataFrame:
    """Pushed equally far, the advantage remains over networks that share the posterior's prior or its averaging."""
    return compared.explanations(compared.matched(), "control")


@entry(place="not in the paper")
def under_noise(compared: Compared) -> pd.DataFrame:
    """Bayesian explanations are more robust than deterministic ones under random noise, too, which is no attack."""
    return compared.explanations(compared.under_noise(), "deterministic")


@entry(place="Sec. IV-B, Theorem IV.1")
def theorem(compared: Compared) -> pd.DataFrame:
    """In the mean over draws, gradients of the loss cancel more across the data manifold than along it."""
    return compared.measured(compared.clean(), "cancellation", "normal part")
