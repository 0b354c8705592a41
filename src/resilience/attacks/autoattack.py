"""AutoAttack: four attacks without settings, each on the images that those before it left (Croce & Hein 2020)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from resilience.attacks.apgd import apgd, apgd_l2, climb
from resilience.attacks.ball import Norm, ball_of
from resilience.attacks.fab import fab, fab_l2
from resilience.attacks.loop import STEEPEST_IN, Furthest
from resilience.attacks.predictive import Predictive, targeted_difference_of_logits_ratio
from resilience.attacks.square import square, square_l2
from resilience.catalog import entry
from resilience.networks import image_shape
from resilience.parameters import Count, Positive, Share
from resilience.posterior import Posterior, predict
from resilience.progress import logger

#: From which share of zero gradients on a warning is given, and by how many points Square must add to APGD's.
MANY_ZERO_GRADIENTS, MUCH_BY_SQUARE = 0.1, 0.01


@entry()
def autoattack(
    posterior: Posterior,
    x: Tensor,
    y: Tensor,
    generator: torch.Generator,
    *,
    epsilon: Share,
    steps: Count = 100,
    targets: Count = 9,
    queries: Count = 5000,
) -> Tensor:
    """AutoAttack in ℓ∞, its standard version: APGD-CE, APGD-T, FAB-T and Square (Croce & Hein 2020).

    A posterior is attacked in its expectation, the mean prediction of all its draws, which is not random. An image that no
    attack breaks stays where APGD on the cross-entropy took it. The log warns where the usual checks fail: zero gradients,
    and a Square that breaks what gradients did not, both signs of gradients that are masked.

    Parameters
    ----------
    epsilon
        Largest change of a pixel.
    steps
        Of APGD and FAB, towards each class.
    targets
        Towards how many classes.
    queries
        Of Square.
    """
    return _ensemble("linf", posterior, x, y, generator, epsilon, steps, targets, queries)


@entry(norm="l2")
def autoattack_l2(
    posterior: Posterior,
    x: Tensor,
    y: Tensor,
    generator: torch.Generator,
    *,
    epsilon: Positive,
    steps: Count = 100,
    targets: Count = 9,
    queries: Count = 5000,
) -> Tensor:
    """AutoAttack in ℓ2, its standard version: APGD-CE, APGD-T, FAB-T and Square (Croce & Hein 2020).

    Parameters
    ----------
    epsilon
        Largest ℓ2 norm of the change.
    steps, targets, queries
        See :func:`autoattack`.
    """
    return _ensemble("l2", posterior, x, y, generator, epsilon, steps, targets, queries)


def _ensemble(
    norm: Norm,
    posterior: Posterior,
    x: Tensor,
    y: Tensor,
    generator: torch.Generator,
    epsilon: float,
    steps: int,
    targets: int,
    queries: int,
) -> Tensor:
    apgd_, fab_, square_ = (apgd, fab, square) if norm == "linf" else (apgd_l2, fab_l2, square_l2)
    stands = _stands(posterior, x, y)
    first = apgd_(posterior, x, y, generator, epsilon=epsilon, steps=steps)
    found = torch.where(stands[:, None, None, None], first, x)
    left: dict[str, float] = {"clean": _share(stands), "APGD-CE": _share(_stands(posterior, found, y))}
    attacks: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
        "APGD-T": lambda part, label: apgd_towards(norm, posterior, part, label, generator, epsilon, steps, targets),
        "FAB-T": lambda part, label: fab_(posterior, part, label, epsilon=epsilon, steps=steps, targets=targets),
        "Square": lambda part, label: square_(
            posterior, part, label, generator, epsilon=epsilon, queries=queries, share=0.8, margin="log_probability"
        ),
    }
    for name, attack in attacks.items():
        standing = _stands(posterior, found, y).nonzero()[:, 0]
        if len(standing):
            attacked = attack(x[standing], y[standing])
            broken = ~_stands(posterior, attacked, y[standing])
            found[standing[broken]] = attacked[broken]
        left[name] = _share(_stands(posterior, found, y))
    logger.info("robust accuracy: %s", ", ".join(f"{name} {share:.3f}" for name, share in left.items()))
    _warn(posterior, x, y, left)
    return found


def apgd_towards(
    norm: Norm,
    posterior: Posterior,
    x: Tensor,
    y: Tensor,
    generator: torch.Generator,
    epsilon: float,
    steps: int,
    targets: int,
) -> Tensor:
    """APGD on the targeted difference of logits ratio, towards the most probable other classes in turn (APGD-T)."""
    predictive, ball = Predictive(posterior, image_shape(x)), ball_of(norm, x, epsilon)
    log_p = predictive.log_probabilities(x)
    others = log_p.scatter(1, y[:, None], -torch.inf).argsort(1, descending=True)
    found = x.clone()
    for rank in range(min(targets, log_p.shape[1] - 1)):
        standing = _stands(posterior, found, y).nonzero()[:, 0]
        if not len(standing):
            break
        label, target = y[standing], others[standing, rank]
        start = ball.start(generator)[standing]

        def raised(at: Tensor, label: Tensor = label, target: Tensor = target) -> tuple[Tensor, Tensor, Tensor]:
            return predictive.gradient(
                at, lambda log_p, part: targeted_difference_of_logits_ratio(log_p, label[part], target[part])
            )

        furthest, around = Furthest(x[standing]), ball_of(norm, x[standing], epsilon)
        climb(raised, around, STEEPEST_IN[norm], 2 * epsilon, steps, start, label, furthest)
        broken = ~_stands(posterior, furthest.x, label)
        found[standing[broken]] = furthest.x[broken]
    return found


def _stands(posterior: Posterior, x: Tensor, y: Tensor) -> Tensor:
    """Whether each image is still taken for its label [N]."""
    return predict(posterior, x).argmax(1) == y


def _share(stands: Tensor) -> float:
    return float(stands.double().mean())


def _warn(posterior: Posterior, x: Tensor, y: Tensor, left: dict[str, float]) -> None:
    """What the published code checks, too: a random prediction, gradients that are zero, and a Square that finds more."""
    if not torch.equal(predict(posterior, x), predict(posterior, x)):
        logger.warning("the prediction differs between two calls: the defence is random, and seems more robust than it is")
    _, gradient, _ = Predictive(posterior, image_shape(x)).gradient(
        x, lambda log_p, part: -log_p.gather(1, y[part][:, None])[:, 0]
    )
    zero = _share((gradient == 0).flatten(1).all(1))
    if zero > MANY_ZERO_GRADIENTS:
        logger.warning("%.0f %% of the gradients of the cross-entropy are exactly zero: they may be masked", 100 * zero)
    if (more := left["FAB-T"] - left["Square"]) > MUCH_BY_SQUARE:
        logger.warning("Square broke %.1f %% of the images that gradients left: they may be masked", 100 * more)
