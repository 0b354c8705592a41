"""Attacks that were made on another network."""

from __future__ import annotations

from resilience.catalog import entry
from resilience.parameters import AttackName, TrainingName


@entry(derived=True)
def transfer(*, attack: AttackName, source: TrainingName) -> None:
    """The inputs that another attack makes on another network, a point estimate with the same seed.

    It needs no gradient of the network that it is used on, so it shows robustness that is only a vanished gradient.

    Parameters
    ----------
    attack
        The attack, itself made on a network.
    source
        The training that it is made on, a point estimate.
    """
    raise TypeError("a transferred attack is a copy of another network's attacked inputs, not a computation")
