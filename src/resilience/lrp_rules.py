"""Rules of Layer-wise Relevance Propagation: how a layer shares the relevance of its outputs among its inputs.

Most are those of Montavon et al. 2019, "Layer-Wise Relevance Propagation: An Overview", Sec. 10.2 (the paper's
Sec. VII-D): with a the input of a layer, w its weights, b its bias and R_k the relevance of its outputs,

    R_j = Σ_k  a_j ρ(w_jk) / (ε + Σ_{0,j} a_j ρ(w_jk))  R_k ,   where a_0 = 1 and w_0k = b_k.

Each function makes a rule from its parameters: one ratio or several (:mod:`resilience.lrp_ratios`), or a rule for each kind
of layer (:mod:`resilience.lrp_composites`). :mod:`resilience.explanations.lrp` applies it.
"""

from __future__ import annotations

import math

from torch import Tensor, ones_like

from resilience import catalog
from resilience.catalog import entry
from resilience.lrp_composites import PROPORTIONAL, Composite
from resilience.lrp_ratios import Boxed, LayerRule, Mixture, Rule, Term
from resilience.parameters import LayerRuleEntry, NonNegative, Positive


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
    return Rule(_positive, stabiliser, _positive_of_nonnegative)


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
    return Rule(lambda a, w, b: _positive(a, w, None), stabiliser, lambda a, w, b: _positive_of_nonnegative(a, w, None))


@entry()
def zplus(*, stabiliser: Positive = 1e-6) -> Rule:
    """z⁺ rule: R_j = Σ_k (a_j w_jk)⁺ / Σ_{0,j} (a_j w_jk)⁺ R_k, which is ``alpha1beta0`` by its other name.

    As zennit has it. Montavon et al. 2017, Sec. 4.2, where it comes from, know no negative inputs and no biases that add.
    """
    return alpha1beta0(stabiliser=stabiliser)


@entry(one_more={"alpha": "beta"})
def alpha_beta(*, alpha: NonNegative = 2.0, beta: NonNegative = 1.0, stabiliser: Positive = 1e-6) -> Mixture:
    """Alpha-beta rule: R_j = Σ_k (α (a_j w_jk)⁺ / Σ_{0,j} (a_j w_jk)⁺ − β (a_j w_jk)⁻ / Σ_{0,j} (a_j w_jk)⁻) R_k.

    Bach et al. 2015, Eq. 60; Montavon et al. 2019, Sec. 10.2.3. The bias counts by its sign, b_k⁺ or b_k⁻.

    Parameters
    ----------
    alpha
        α, how much positive contributions count; β + 1, so that no relevance is made.
    beta
        β, how much negative ones count.
    stabiliser
        Added to the size of each of the two sums.
    """
    if not math.isclose(alpha - beta, 1):
        raise ValueError(f"alpha is {alpha} and beta {beta}; alpha must be one more than beta, or relevance is made or lost")
    positive = Rule(_positive, stabiliser, _positive_of_nonnegative)
    negative = Rule(_negative, stabiliser, _negative_of_nonnegative)
    return Mixture(((alpha, positive), (-beta, negative)) if beta else ((alpha, positive),))


@entry()
def generalised_gamma(*, gamma: NonNegative = 0.25, stabiliser: Positive = 1e-6) -> Mixture:
    """The gamma rule for inputs and outputs of either sign: what has the sign of the output z_k is weighed by 1 + γ.

    Andéol et al. 2021, as in zennit: where z_k > 0, contributions are a_j⁺ (w + γ w⁺) + a_j⁻ (w + γ w⁻), and where z_k < 0,
    a_j⁺ (w + γ w⁻) + a_j⁻ (w + γ w⁺). For inputs and outputs that are not negative it is ``gamma``.

    Parameters
    ----------
    gamma
        γ; 0 is the rule without it.
    stabiliser
        Added to the size of the sum of contributions, which might be zero.
    """

    def more(w: Tensor, **bounds: float) -> Tensor:
        return w + gamma * w.clamp(**bounds)

    def upwards(a: Tensor, w: Tensor, b: Tensor | None) -> list[Term]:
        return [(a, more(w, min=0), None if b is None else more(b, min=0))]

    def downwards(a: Tensor, w: Tensor, b: Tensor | None) -> list[Term]:
        return [(a, more(w, max=0), None if b is None else more(b, max=0))]

    def positive(a: Tensor, w: Tensor, b: Tensor | None) -> list[Term]:
        return [*upwards(a.clamp(min=0), w, b), *downwards(a.clamp(max=0), w, None)]

    def negative(a: Tensor, w: Tensor, b: Tensor | None) -> list[Term]:
        return [*downwards(a.clamp(min=0), w, b), *upwards(a.clamp(max=0), w, None)]

    above = Rule(positive, stabiliser, upwards)
    below = Rule(negative, stabiliser, downwards)
    return Mixture(((lambda z: z > 0, above), (lambda z: z < 0, below)))


@entry(at_least={"high": "low"})
def zbox(*, low: float = 0.0, high: float = 1.0, stabiliser: Positive = 1e-6) -> Boxed:
    """z^B rule, for layers that see the pixels: contributions are a_j w_jk − l_j w_jk⁺ − h_j w_jk⁻ (Montavon et al. 2017).

    Their Sec. 4.2; l and h are between what pixels lie. They pass through what stands before the layer, such as a
    normalisation, as the pixels do. Biases do not count.

    Parameters
    ----------
    low, high
        The least and the largest value of a pixel, before any normalisation.
    stabiliser
        Added to the size of the sum of contributions.
    """
    if high < low:
        raise ValueError(f"low is {low} and high {high}; high must be at least low")
    return Boxed(low, high, stabiliser)


@entry()
def w_square(*, stabiliser: Positive = 1e-6) -> Rule:
    """w² rule: R_j = Σ_k w_jk² / Σ_j w_jk² R_k, whatever the inputs are (Montavon et al. 2017, Sec. 4.1).

    Biases do not count. In zennit the square of the bias joins the sum, which takes some of the relevance.

    Parameters
    ----------
    stabiliser
        Added to the sum of squares.
    """
    return Rule(lambda a, w, b: [(ones_like(a[:1]), w * w, None)], stabiliser)


@entry()
def flat(*, stabiliser: Positive = 1e-6) -> Rule:
    """Flat rule: all inputs that an output sees get the same share (Lapuschkin et al. 2019; Bach et al. 2016).

    Parameters
    ----------
    stabiliser
        Added to their number.
    """
    return Rule(lambda a, w, b: [(ones_like(a[:1]), ones_like(w), None)], stabiliser)


@entry(composite=True)
def composite(
    *,
    first: LayerRuleEntry | None = None,
    convolution: LayerRuleEntry | None = None,
    linear: LayerRuleEntry | None = None,
    pooling: LayerRuleEntry | None = None,
    sum: LayerRuleEntry | None = None,  # noqa: A002
    layers: dict[str, LayerRuleEntry] | None = None,
) -> Composite:
    """A rule for each kind of layer, or for layers by name (Montavon et al. 2019, Sec. 10.3; Kohlbrenner et al. 2020).

    Of those that are left out, ``first`` is no different from others, and all else shares by the epsilon rule with ε = 1e-6.

    Parameters
    ----------
    first
        The rule of convolutions and linear layers that see the pixels, behind a normalisation perhaps.
    convolution
        That of the other convolutions.
    linear
        That of the other linear layers.
    pooling
        That of average-poolings.
    sum
        That of sums, such as of a residual branch and its shortcut.
    layers
        Rules by the name of a layer, or of what holds it, such as `layer4`; the longest name counts, and before all of the
        above but `sum`.
    """

    def made(settings: LayerRuleEntry | None) -> LayerRule:
        return PROPORTIONAL if settings is None else catalog.bound("rules", settings)()

    return Composite(
        convolution=made(convolution),
        linear=made(linear),
        pooling=made(pooling),
        sum=made(sum),
        first=None if first is None else made(first),
        layers={name: made(settings) for name, settings in (layers or {}).items()},
    )


# Composites by name: those of zennit, after Montavon et al. 2019 and Kohlbrenner et al. 2020.


@entry(composite=True)
def epsilon_plus(*, epsilon: Positive = 1e-6, stabiliser: Positive = 1e-6) -> Composite:
    """``zplus`` in convolutions, ``epsilon`` in linear layers; sums and average-poolings in proportion.

    Parameters
    ----------
    epsilon
        ε of linear layers.
    stabiliser
        That of all others.
    """
    return _as_in_zennit(zplus(stabiliser=stabiliser), epsilon, stabiliser)


@entry(composite=True)
def epsilon_plus_flat(*, epsilon: Positive = 1e-6, stabiliser: Positive = 1e-6) -> Composite:
    """As ``epsilon_plus``, and ``flat`` in layers that see the pixels."""
    return _as_in_zennit(zplus(stabiliser=stabiliser), epsilon, stabiliser, flat(stabiliser=stabiliser))


@entry(composite=True)
def epsilon_alpha2_beta1(*, epsilon: Positive = 1e-6, stabiliser: Positive = 1e-6) -> Composite:
    """``alpha_beta`` with α = 2, β = 1 in convolutions, ``epsilon`` in linear layers; sums and poolings in proportion."""
    return _as_in_zennit(alpha_beta(stabiliser=stabiliser), epsilon, stabiliser)


@entry(composite=True)
def epsilon_alpha2_beta1_flat(*, epsilon: Positive = 1e-6, stabiliser: Positive = 1e-6) -> Composite:
    """As ``epsilon_alpha2_beta1``, and ``flat`` in layers that see the pixels."""
    return _as_in_zennit(alpha_beta(stabiliser=stabiliser), epsilon, stabiliser, flat(stabiliser=stabiliser))


@entry(composite=True, at_least={"high": "low"})
def epsilon_gamma_box(
    *,
    low: float = 0.0,
    high: float = 1.0,
    epsilon: Positive = 1e-6,
    gamma: NonNegative = 0.25,
    stabiliser: Positive = 1e-6,
) -> Composite:
    """``zbox`` in layers that see the pixels, ``generalised_gamma`` in convolutions, ``epsilon`` in linear layers.

    Sums and average-poolings share in proportion.

    Parameters
    ----------
    low, high
        The least and the largest value of a pixel.
    epsilon
        ε of linear layers.
    gamma
        γ of convolutions.
    stabiliser
        That of all others.
    """
    box = zbox(low=low, high=high, stabiliser=stabiliser)
    return _as_in_zennit(generalised_gamma(gamma=gamma, stabiliser=stabiliser), epsilon, stabiliser, box)


def _as_in_zennit(convolution: LayerRule, of_linear: float, stabiliser: float, first: LayerRule | None = None) -> Composite:
    in_proportion = epsilon(epsilon=stabiliser)
    return Composite(convolution, epsilon(epsilon=of_linear), in_proportion, in_proportion, first)


# Terms that several rules have.


def _positive(a: Tensor, w: Tensor, b: Tensor | None) -> list[Term]:
    """Σ (a_j w_jk)⁺ = Σ a_j⁺ w_jk⁺ + a_j⁻ w_jk⁻."""
    return [*_positive_of_nonnegative(a.clamp(min=0), w, b), (a.clamp(max=0), w.clamp(max=0), None)]


def _positive_of_nonnegative(a: Tensor, w: Tensor, b: Tensor | None) -> list[Term]:
    return [(a, w.clamp(min=0), None if b is None else b.clamp(min=0))]


def _negative(a: Tensor, w: Tensor, b: Tensor | None) -> list[Term]:
    """Σ (a_j w_jk)⁻ = Σ a_j⁺ w_jk⁻ + a_j⁻ w_jk⁺."""
    return [*_negative_of_nonnegative(a.clamp(min=0), w, b), (a.clamp(max=0), w.clamp(min=0), None)]


def _negative_of_nonnegative(a: Tensor, w: Tensor, b: Tensor | None) -> list[Term]:
    return [(a, w.clamp(max=0), None if b is None else b.clamp(max=0))]
