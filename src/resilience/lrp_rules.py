"""Rules of Layer-wise Relevance Propagation: how a layer shares the relevance of its outputs among its inputs.

The rules are those of Montavon et al. 2019, "Layer-Wise Relevance Propagation: An Overview", Sec. 10.2 (the paper's
Sec. VII-D): with a the input of a layer, w its weights, b its bias and R_k the relevance of its outputs,

    R_j = Σ_k  a_j ρ(w_jk) / (ε + Σ_{0,j} a_j ρ(w_jk))  R_k ,   where a_0 = 1 and w_0k = b_k.

A rule says what ρ and ε are; :mod:`resilience.explanations.lrp` applies it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from resilience.catalog import entry
from resilience.parameters import NonNegative, Positive

#: One summand of z = Σ a_j ρ(w_jk): an input, a weight and a bias.
Term = tuple[Tensor, Tensor, Tensor | None]


@dataclass(frozen=True)
class Rule:
    """How layers share relevance among their inputs.

    ``terms`` and ``stabiliser`` are the terms of z and what keeps it from zero in the division. An activation passes
    relevance on unchanged, or with ``by_slope`` times its slope at that input, as the published code does.
    """

    terms: Callable[[Tensor, Tensor, Tensor | None], list[Term]]
    stabiliser: float
    by_slope: bool = False


@entry()
def epsilon(*, epsilon: Positive = 0.1) -> Rule:
    """Epsilon rule: R_j = Σ_k a_j w_jk / (z_k + ε sign z_k) R_k (Montavon et al. 2019, Sec. 10.2.1).

    Parameters
    ----------
    epsilon
        ε; it absorbs relevance of weak or contradictory contributions.
    """
    return Rule(lambda a, w, b: [(a, w, b)], epsilon)


@entry()
def gamma(*, gamma: NonNegative = 0.1, stabiliser: Positive = 1e-6) -> Rule:
    """Gamma rule: ρ(w) = w + γ w⁺, for the bias too (Montavon et al. 2019, Sec. 10.2.1).

    Parameters
    ----------
    gamma
        γ; 0 is the rule without it, large values let only positive weights count.
    stabiliser
        Added to the size of z, which might be zero.
    """

    def terms(a: Tensor, w: Tensor, b: Tensor | None) -> list[Term]:
        return [(a, w + gamma * w.clamp(min=0), None if b is None else b + gamma * b.clamp(min=0))]

    return Rule(terms, stabiliser)


@entry()
def alpha1beta0(*, stabiliser: Positive = 1e-6) -> Rule:
    """Alpha-beta rule with α = 1, β = 0: only positive contributions count (Montavon et al. 2019, Sec. 10.2.3).

    The contribution of an input is (a_j w_jk)⁺ = a_j⁺ w_jk⁺ + a_j⁻ w_jk⁻, that of the bias b_k⁺.
    """

    def terms(a: Tensor, w: Tensor, b: Tensor | None) -> list[Term]:
        positive = (a.clamp(min=0), w.clamp(min=0), None if b is None else b.clamp(min=0))
        return [positive, (a.clamp(max=0), w.clamp(max=0), None)]

    return Rule(terms, stabiliser)


@entry()
def squared_gamma(*, gamma: NonNegative = 0.1, stabiliser: Positive = 1e-10) -> Rule:
    """The gamma rule of the published code: ρ(w) = w + γ w w⁺, which for small weights is hardly more than ρ(w) = w.

    Parameters
    ----------
    gamma
        γ.
    stabiliser
        Added to the size of z, which might be zero.
    """

    def terms(a: Tensor, w: Tensor, b: Tensor | None) -> list[Term]:
        return [(a, w + gamma * w * w.clamp(min=0), None if b is None else b + gamma * b * b.clamp(min=0))]

    return Rule(terms, stabiliser)


@entry()
def alpha1beta0_without_bias(*, stabiliser: NonNegative = 0.0) -> Rule:
    """The alpha-beta rule of the published code: as ``alpha1beta0``, but biases do not count.

    Parameters
    ----------
    stabiliser
        Added to z. The published code stabilises where z = 0 alone, where nothing contributes and nothing is passed on.
    """
    inner = alpha1beta0(stabiliser=stabiliser)
    return Rule(lambda a, w, b: inner.terms(a, w, None), stabiliser)
