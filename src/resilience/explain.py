"""What a posterior says of an image: explanations of its draws, put together (paper, Sec. IV-A)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Literal

import torch
from torch import Tensor

from resilience.computing import in_chunks
from resilience.graphs import chunk_of, graphs_of, knowing_what_they_share
from resilience.networks import image_shape
from resilience.posterior import Posterior, predict
from resilience.progress import steps
from resilience.seeding import seed_of

Explained = Literal["predicted", "clean", "own", "label"]
#: How the maps of single draws are put together.
Over = Literal["mean", "median", "sign_agreement", "each"]
#: Of how many images the maps of all draws are in memory at a time, where they cannot be summed one by one. The same for any
#: number of draws: what is random in an explanation follows from the chunk, and draws are nested.
KEPT_IMAGES = 64


@torch.no_grad()
def explained_classes(choice: Explained, posterior: Posterior, x: Tensor, clean: Tensor, y: Tensor) -> Tensor:
    """The classes whose logits are explained.

    Parameters
    ----------
    choice
        ``predicted``: the class that the posterior predictive gives to ``x``. ``clean``: the one that it gives to the clean
        images, so that an attack cannot change what is explained. ``own``: the one that each draw gives to ``x``. ``label``:
        the label.
    posterior
        S draws.
    x, clean
        Images [N, C, H, W], and the same before the attack.
    y
        Labels [N].

    Returns
    -------
    Tensor
        [N], or [S, N] for ``own``.
    """
    if choice == "label":
        return y
    if choice == "own":
        return torch.stack([predict(draw, x).argmax(1) for draw in posterior.alone()])
    return predict(posterior, clean if choice == "clean" else x).argmax(1)


@torch.no_grad()
def explain(
    posterior: Posterior,
    x: Tensor,
    explained: Tensor,
    explanation: Callable[..., Tensor],
    layers: Sequence[str],
    over: Over = "mean",
    seed: int = 0,
) -> Tensor:
    """The explanations of all draws of a posterior, put together.

    Parameters
    ----------
    posterior
        S draws of a network.
    x
        Images [N, C, H, W] in [0, 1].
    explained
        Class that is explained: [N], or [S, N] for another one in each draw.
    explanation
        A function of :mod:`resilience.explanations` with its options: it gets ``graph``, ``x``, ``explained``, ``layers``
        and ``generator`` by name, those of one draw and some of the images, and returns relevance [N, C, H, W], or one such
        map for each layer.
    layers
        Names of the layers to explain; the last one stands for the output.
    over
        ``mean``: E_w[R(x, w)], the paper's definition. ``median``: of each pixel. ``sign_agreement``: the share of the draws
        that give a pixel the sign that most of them give it. ``each``: the maps of the draws, one by one.
    seed
        Of what is random in the explanation: each draw has numbers of its own.

    Returns
    -------
    Tensor
        Relevance [L, N, C, H, W], with L = 1 where the explanation has no layers; for ``each`` [L, N, S, C, H, W].

    Raises
    ------
    LayerError
        If the network has a layer that no gradient and no relevance can pass.
    """
    graphs = graphs_of(posterior, image_shape(x))
    classes, chunk = explained.expand(len(posterior), len(x)), chunk_of(posterior.network, image_shape(x))
    if over != "mean":
        chunk = min(chunk, KEPT_IMAGES)
    found: dict[int, Tensor] = {}
    with steps(len(graphs) * -(-len(x) // chunk), "explanations") as advance:

        def work(part: slice) -> None:
            images = x[part]

            def of_draws() -> Iterator[Tensor]:
                for draw, graph in enumerate(knowing_what_they_share(graphs, images)):
                    generator = torch.Generator().manual_seed(seed_of(seed, draw, part.start))
                    maps = explanation(
                        graph=graph, x=images, explained=classes[draw, part], layers=layers, generator=generator
                    )
                    yield maps if maps.dim() == x.dim() + 1 else maps[None]
                    advance()

            found[part.start] = TOGETHER[over](of_draws())

        in_chunks(work, len(x), chunk)
    return torch.cat([found[start] for start in sorted(found)], 1)


def _mean(maps: Iterator[Tensor]) -> Tensor:
    total, draws = next(maps).clone(), 1
    for of_draw in maps:
        total += of_draw
        draws += 1
    return total / draws


def _median(maps: Iterator[Tensor]) -> Tensor:
    """For an even number of draws the mean of the middle two."""
    return torch.stack(list(maps), 2).quantile(0.5, 2)


def _sign_agreement(maps: Iterator[Tensor]) -> Tensor:
    """From 1 / 3 (as many draws say positive, negative and none at all) to 1 (all say the same)."""
    signs = torch.stack(list(maps), 2).sign()
    return torch.stack([(signs == sign).to(signs).mean(2) for sign in (-1, 0, 1)]).amax(0)


def _each(maps: Iterator[Tensor]) -> Tensor:
    return torch.stack(list(maps), 2)


TOGETHER: dict[str, Callable[[Iterator[Tensor]], Tensor]] = {
    "mean": _mean,
    "median": _median,
    "sign_agreement": _sign_agreement,
    "each": _each,
}
