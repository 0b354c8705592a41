"""What a rule of Layer-wise Relevance Propagation is: ratios of sums, and mixtures of these.

With a the input of a layer, w its weights, b its bias and R_k the relevance of its outputs, a ratio says

    R_j = Σ_k  t_jk / (ε + t_0k + Σ_j t_jk)  R_k

with terms t_jk such as a_j w_jk, and t_0k those of the bias. :mod:`resilience.lrp_rules` has the rules that a config can
name, :mod:`resilience.lrp_composites` says which of them a layer gets, :mod:`resilience.explanations.lrp` applies them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

#: One summand of z = Σ a_j ρ(w_jk): an input, a weight and a bias. The input may be that of one image for all.
Term = tuple[Tensor, Tensor, Tensor | None]
Terms = Callable[[Tensor, Tensor, Tensor | None], list[Term]]
#: How much a ratio counts: a number, or as many as a layer has outputs, by what these are.
Factor = float | Callable[[Tensor], Tensor]


@dataclass(frozen=True, kw_only=True)
class Sharing:
    """What all rules have.

    An activation passes relevance on unchanged, or with ``by_slope`` times its slope at that input, as the published code
    does.
    """

    by_slope: bool = False


@dataclass(frozen=True)
class Rule(Sharing):
    """One ratio: ``terms`` and ``stabiliser`` are the terms of z and what keeps it from zero in the division.

    ``of_nonnegative`` are the terms that are left where no input is negative, as behind a ReLU, if some are not.
    """

    terms: Terms
    stabiliser: float
    of_nonnegative: Terms | None = None

    @property
    def parts(self) -> tuple[tuple[Factor, Rule], ...]:
        """Itself, once."""
        return ((1.0, self),)


@dataclass(frozen=True)
class Mixture(Sharing):
    """A weighted sum of ratios: how much each counts, and the ratio."""

    parts: tuple[tuple[Factor, Rule], ...]


@dataclass(frozen=True)
class Boxed(Sharing):
    """A rule that knows between which values pixels lie, and so what a layer that sees them can get: z^B."""

    low: float
    high: float
    stabiliser: float

    def between(self, low: Tensor, high: Tensor) -> Rule:
        """The rule of a layer whose input lies between two [1, …]: a w − low w⁺ − high w⁻, in which no bias is left."""

        def terms(a: Tensor, w: Tensor, b: Tensor | None) -> list[Term]:
            return [(a, w, None), (low, -w.clamp(min=0), None), (high, -w.clamp(max=0), None)]

        return Rule(terms, self.stabiliser)


#: The rule of one layer.
LayerRule = Rule | Mixture | Boxed
