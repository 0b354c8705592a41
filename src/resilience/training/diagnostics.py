"""Whether Markov chains have converged, judged by their predictions.

Weights of a network can be permuted without changing it, so chains that never agree on weights may still agree on
predictions; only the latter matter for what is attacked and explained.
"""

from __future__ import annotations

from typing import Any

import torch
from pyro.infer import HMC
from pyro.ops.stats import effective_sample_size, split_gelman_rubin
from torch import Tensor

LARGEST_R_HAT = 1.1
SMALLEST_ACCEPTANCE = 0.5
SMALLEST_SHARE_OF_EFFECTIVE_DRAWS = 0.1
#: Iterations after which a chain must have moved, and the step size below which one that adapts it has lost its way.
PATIENCE = 20
SMALLEST_STEP_SIZE = 1e-8


def of_chains(facts: list[dict[str, float]], probabilities: Tensor) -> dict[str, Any]:
    """Acceptance and divergences of each chain, split R-hat and effective sample size of the predictions.

    Parameters
    ----------
    facts
        ``acceptance`` and ``divergences`` of each chain.
    probabilities
        Predictions [chains, draws, N, classes] of each draw. Those that hardly vary carry no information and are left
        out; their share is reported.

    Returns
    -------
    dict
        ``r_hat_95`` is the 95 % quantile of split R-hat over predictions, ``ess_median`` the median effective sample size
        and ``ess_05`` its 5 % quantile. They are None where a chain has fewer than four draws or nothing varies.
    """
    chains, draws = probabilities.shape[:2]
    flat = probabilities.double().flatten(2)
    varying = flat.flatten(0, 1).std(0) > 1e-6 if chains * draws > 1 else torch.zeros(flat.shape[2], dtype=torch.bool)
    report: dict[str, Any] = {
        "chains": chains,
        "draws": chains * draws,
        "acceptance": [fact["acceptance"] for fact in facts],
        "divergences": [int(fact["divergences"]) for fact in facts],
        "share_of_constant_predictions": float((~varying).double().mean()),
        "r_hat_95": None,
        "ess_median": None,
        "ess_05": None,
    }
    if draws >= 4 and varying.any():
        kept = flat[:, :, varying]
        # A chain that stands still makes R-hat infinite or undefined: it counts as not converged.
        r_hat = split_gelman_rubin(kept).nan_to_num(nan=float("inf"))
        sizes = effective_sample_size(kept).nan_to_num(nan=0.0).clamp(0, chains * draws)
        report["r_hat_95"] = float(r_hat.quantile(0.95).clamp(max=1e6))
        report["ess_median"] = float(sizes.median())
        report["ess_05"] = float(sizes.quantile(0.05))
    return report


def collapse(kernel: HMC, start: Tensor, position: Tensor, finished: int) -> str | None:
    """Why it is hopeless to go on with a chain, and what to change; None if it is not.

    Parameters
    ----------
    kernel
        Of the chain.
    start, position
        Where it started, and where it stands.
    finished
        Its iterations so far.
    """
    if finished == PATIENCE and torch.equal(position, start):
        return f"none of its first {PATIENCE} proposals was accepted; a smaller step_size or another start may help"
    if finished >= PATIENCE and kernel._adapter.adapt_step_size and kernel.step_size < SMALLEST_STEP_SIZE:
        return f"its step size fell to {kernel.step_size:.0e}; another start or a narrower prior may help"
    return None


def warnings(report: dict[str, Any]) -> list[str]:
    """What is poor about chains, one sentence each."""
    found = []
    if (lowest := min(report["acceptance"])) < SMALLEST_ACCEPTANCE:
        found.append(f"a chain accepts {lowest:.0%} of its proposals; a smaller step_size would raise that")
    if divergent := sum(report["divergences"]):
        found.append(f"{divergent} iterations diverged; a smaller step_size would avoid that")
    if report["r_hat_95"] is None:
        found.append("each chain has fewer than four draws, so nothing can be said of convergence")
    elif report["r_hat_95"] > LARGEST_R_HAT:
        found.append(f"split R-hat of the predictions is {report['r_hat_95']:.2f} (95 % quantile): the chains disagree")
    least = SMALLEST_SHARE_OF_EFFECTIVE_DRAWS * report["draws"]
    if report["ess_median"] is not None and report["ess_median"] < least:
        found.append(f"the predictions have {report['ess_median']:.0f} effective draws of {report['draws']} (median)")
    return found
