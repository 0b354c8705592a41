"""Expected loss gradients of Bayesian networks as Carbone et al. 2020 show them, and what they do not show beside them."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.lines import Line2D
from matplotlib.patches import Circle
from matplotlib.ticker import MaxNLocator

from resilience.catalog import entry
from resilience.figures import drawing
from resilience.figures.panels import ExpectedGradients, Model, Panel, Style, Trained
from resilience.parameters import Count, Fraction
from resilience.seeding import generator_of

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

#: From light to dark, for what grows from one dataset to the next.
GROWING = ("#9ecae1", "#3f8fc4", "#08306b", "#000000")
#: Of the gradients, the share that lies within the axes of a scatter; the text says how many do not.
SHOWN = 0.95
#: Where an axis of accuracies begins, so that a difference of one image is not as high as the figure.
LEAST_SHOWN = 0.9
#: The most lines of equal size, about.
MOST_LINES = 6
#: The most dots of a strip.
DOTS = 3000
Gradients = Mapping[Model, ExpectedGradients]


@entry()
def gradient_grid(
    panels: list[Panel],
    style: Style,
    gradients: Gradients,
    fits: Mapping[Model, Trained],
    *,
    least_accuracy: Fraction = 0.7,
) -> Figure:
    """The two components of the expected loss gradients at the test points, by width and number of training points.

    As in Fig. 1 of the paper, but with the same axes everywhere: there each panel has its own, and that gradients shrink
    shows in its tick labels alone. A column is a network, a row a training, a dot a test point under one seed, after all
    draws; a circle has the mean size of a dataset's gradients for its radius. R̂ is split R-hat of the predictions of each
    dataset, the median over seeds. Networks that classify less than the least accuracy of the test points rightly are
    left out, and the axes hold 95 % of all dots.

    Parameters
    ----------
    least_accuracy
        Of a network that is shown.
    """
    networks, trainings, datasets = (
        list(dict.fromkeys(values))
        for values in (
            (panel.network for panel in panels),
            (training for panel in panels for training in panel.trainings),
            (panel.dataset for panel in panels),
        )
    )
    classifying = {model: found for model, found in gradients.items() if fits[model].fit["test_accuracy"] >= least_accuracy}
    dots = {model: found.gradient[-1].reshape(len(found.y), 2) for model, found in classifying.items()}
    reach = float(np.quantile(np.abs(np.concatenate(list(dots.values()))).max(1), SHOWN)) if dots else 1.0
    height = 0.9 + 1.75 * len(trainings)
    figure, axes = drawing.canvas(len(trainings), len(networks), drawing.PAGE, height, sharex=True, sharey=True)
    for row, training in enumerate(trainings):
        for column, network in enumerate(networks):
            place = axes[row, column]
            lines = []
            for shade, dataset in zip(GROWING, datasets, strict=False):
                models = [model for model in dots if model[:3] == (dataset, network, training)]
                for model in models:
                    place.plot(*dots[model].T, ".", color=shade, ms=2.5, mew=0, alpha=0.7)
                if models:
                    radius = float(np.mean([np.linalg.norm(dots[model], axis=1).mean() for model in models]))
                    place.add_patch(Circle((0, 0), radius, fill=False, ec=shade, lw=1.1))
                factors = [factor for model in models if (factor := fits[model].r_hat) is not None]
                lines.append(f"{np.median(factors):.2f}" if factors else "–")
            place.set_xlim(-reach, reach)
            place.set_ylim(-reach, reach)
            place.set_box_aspect(1)
            place.text(0.03, 0.97, f"R̂ {', '.join(lines)}", transform=place.transAxes, va="top", fontsize=6.5)
            if row == 0:
                place.set_title(_sized(network, fits))
            if column == 0:
                place.set_ylabel(f"{training}\nsecond component")
    for place in axes[-1]:
        place.set_xlabel("first component")
    handles = [Line2D([], [], ls="", marker="o", ms=4, color=shade) for shade, _ in zip(GROWING, datasets, strict=False)]
    figure.legend(
        handles, [style.titles.get(name, name) for name in datasets], loc="outside lower center", ncols=4, frameon=False
    )
    seeds = len({model[3] for model in gradients})
    left_out = len(gradients) - len(classifying)
    outside = np.mean([np.abs(of_model).max(1) > reach for of_model in dots.values()]) if dots else 0.0
    note = f"; {left_out} of {len(gradients)} networks classify too little" if left_out else ""
    figure.suptitle(
        f"Expected loss gradients, {seeds} seeds; {100 * outside:.0f} % of the dots lie outside{note}", fontsize=8.5
    )
    return figure


@entry()
def gradients_along(panels: list[Panel], style: Style, cancellation: pd.DataFrame, fits: Mapping[Model, Trained]) -> Figure:
    """What shrinks an expected gradient from network to network and from dataset to dataset: smaller draws, or cancelling.

    From the left: the size of the expected gradient ‖E g‖ after all draws; the mean size of the draws' own gradients, E ‖g‖,
    small where draws are confident; and their quotient κ, which is 1 where nothing cancels. The first is the product of the
    other two, but for the mean over test points. Along the axis are the networks, a line is a dataset, its dots single seeds
    and its height their mean; below the name of a network stands the number of its weights.
    """
    networks, datasets, trainings = (
        list(dict.fromkeys(values))
        for values in (
            (panel.network for panel in panels),
            (panel.dataset for panel in panels),
            (training for panel in panels for training in panel.trainings),
        )
    )
    shown = {"expected_size": "‖E g‖", "gradient_size": "E ‖g‖", "cancellation": "κ = ‖E g‖ / E ‖g‖"}
    most = cancellation["draws"] == cancellation.groupby(["dataset", "network", "training"])["draws"].transform("max")
    figure, axes = drawing.canvas(len(trainings), len(shown), drawing.PAGE, 0.6 + 1.9 * len(trainings), sharex=True)
    for row, training in enumerate(trainings):
        table = cancellation[most & (cancellation["training"] == training)]
        for place, (name, title) in zip(axes[row], shown.items(), strict=True):
            for shade, dataset in zip(GROWING, datasets, strict=False):
                here = table[table["dataset"] == dataset]
                means = here.groupby(["network", "seed"])[name].mean().unstack().reindex(networks)
                place.plot(range(len(networks)), means.mean(axis=1), "-", color=shade, lw=1.2)
                for seed in means:
                    place.plot(range(len(networks)), means[seed], ".", color=shade, ms=4, mew=0)
            place.set_title(title if row == 0 else "")
            place.set_ylim(0, None)
            place.set_xticks(range(len(networks)), [_sized(network, fits).removesuffix(" weights") for network in networks])
            place.set_xlim(-0.3, len(networks) - 0.7)
        axes[row, 0].set_ylabel(training)
    handles = [Line2D([], [], color=shade) for shade, _ in zip(GROWING, datasets, strict=False)]
    figure.legend(
        handles, [style.titles.get(name, name) for name in datasets], loc="outside lower center", ncols=4, frameon=False
    )
    return figure


@entry()
def gradient_components(panels: list[Panel], style: Style, gradients: Gradients) -> Figure:
    """All components of the expected loss gradients at the test points, by the number of posterior draws.

    As in Fig. 2 of the paper: a dot is a pixel of a test point under one seed, at most 3,000 of them, the largest included.
    Above each strip stands the median over test points of ‖E g‖_∞, and the mean. The axis is linear between ± its first mark
    and logarithmic beyond it.
    """
    columns = [(panel, training) for panel in panels for training in panel.trainings]
    figure, axes = drawing.canvas(1, len(columns), drawing.PAGE, 3.0, sharey=True)
    largest = 0.0
    for place, (panel, training) in zip(axes[0], columns, strict=True):
        found = _of_seeds(gradients, panel, training)
        numbers = found[0].draws
        for position, number in enumerate(numbers):
            parts = [of_seed.after(int(number)) for of_seed in found]
            values = np.sort(np.concatenate([part.ravel() for part in parts]))
            chosen = np.unique(np.linspace(0, len(values) - 1, min(DOTS, len(values))).round().astype(int))
            across = position + generator_of("strip", position).uniform(-0.3, 0.3, len(chosen))
            place.plot(across, values[chosen], ".", color=style.colour(training), ms=2, mew=0, alpha=0.35, rasterized=True)
            norms = np.concatenate([np.abs(part).reshape(len(part), -1).max(1) for part in parts])
            text = f"{np.median(norms):.1g}\n{norms.mean():.1g}"
            place.text(position, 1.0, text, transform=place.get_xaxis_transform(), ha="center", va="bottom", fontsize=6.5)
            largest = max(largest, float(np.abs(values).max()))
        place.set_xticks(range(len(numbers)), [f"{number}" for number in numbers])
        place.set_xlabel("number of draws")
        place.set_title(f"{panel.data}, {panel.network}\n{style.name(training)}", color=style.colour(training), pad=26)
        place.axhline(0, color=drawing.QUIET, lw=0.5, zorder=0)
    axes[0, 0].set_ylabel("component of the expected loss gradient")
    axes[0, 0].annotate(
        "median\nmean",
        (0, 1),
        xycoords="axes fraction",
        ha="right",
        va="bottom",
        xytext=(-6, 0),
        textcoords="offset points",
        fontsize=6.5,
    )
    for place in axes[0]:
        place.set_yscale("symlog", linthresh=max(largest * 1e-4, 1e-12))
    return figure


@entry()
def vanishing_gradients(panels: list[Panel], style: Style, gradients: Gradients, *, points: Count = 3) -> Figure:
    """Expected loss gradients as heat maps, by the number of posterior draws, at test points that were chosen beforehand.

    As in Fig. 3 of the paper, but that the points are the first of the first classes, while there those were drawn whose
    gradients never grow. Red is positive and blue negative, a row has one scale, and above a map stands its ℓ∞ norm. Below,
    of all test points and seeds: how many vanish (their norm never grows with the number of draws, and ends below half of
    what it was), how many grow (it ends above), and how many are zero after the first draw, in single precision.

    Parameters
    ----------
    points
        How many test points are drawn for each network.
    """
    rows = [(panel, training, point) for panel in panels for training in panel.trainings for point in range(points)]
    numbers, lines = max((gradients[model].draws for model in gradients), key=len), []
    figure, axes = drawing.canvas(len(rows), 1 + len(numbers), drawing.PAGE, 0.6 + 1.25 * len(rows))
    for row, (panel, training, number) in enumerate(rows):
        found = _of_seeds(gradients, panel, training)
        first = found[0]
        point = int(np.flatnonzero(first.y == np.unique(first.y)[number % len(np.unique(first.y))])[0])
        drawing.show_image(axes[row, 0], first.x[point])
        maps = [first.after(int(draws))[point] for draws in numbers]
        largest = drawing.largest(*maps) or 1.0
        for place, draws, gradient in zip(axes[row, 1:], numbers, maps, strict=True):
            if draws > first.draws[-1]:
                place.axis("off")
                continue
            drawing.show_map(place, gradient, largest, title=f"{np.abs(gradient).max():.2g}".replace("-", "−"))
            if row == 0:
                place.set_title(f"n = {draws}\n{place.get_title()}")
        if number == 0:
            axes[row, 0].set_ylabel(f"{style.name(training)}", color=style.colour(training))
        if number == points - 1:
            shares = [f"{name} {100 * share:.0f} %" for name, share in courses(found).items()]
            lines.append(f"{panel.data}, {panel.network}, {style.name(training)}: {', '.join(shares)}")
    figure.supxlabel("\n".join(lines), fontsize=8)
    return figure


def courses(found: list[ExpectedGradients]) -> dict[str, float]:
    """Of test points and seeds, the shares whose expected gradients vanish, grow, or are zero after the first draw.

    The ℓ∞ norms of those that vanish never grow with the number of draws, and end below half of what they were; those that
    grow end above what they were.
    """
    norms = np.concatenate(
        [np.abs(of_seed.gradient).reshape(*of_seed.gradient.shape[:2], -1).max(2) for of_seed in found], axis=1
    )
    falling = np.all([after <= before for before, after in pairwise(norms)], axis=0)
    return {
        "vanishing": float((falling & (norms[-1] < norms[0] / 2)).mean()),
        "growing": float((norms[-1] > norms[0]).mean()),
        "zero at first": float((norms[0] == 0).mean()),
    }


@entry()
def saturation(panels: list[Panel], style: Style, cancellation: pd.DataFrame) -> Figure:
    """Whether expected gradients are small since those of draws cancel, or since each of them is small.

    A dot is a test point under one seed, after all draws. To the left the draws' own gradients are small, as those of
    confident networks are; below, they cancel. Along a dotted line the expected gradient, which is the product of both, has
    the same size. The cross is at the medians, which the text gives, and the dashed line is 1 / √n, what independent
    directions would give.
    """
    figure, axes = drawing.canvas(1, len(panels), drawing.PAGE, 3.1, sharey=True)
    for place, panel in zip(axes[0], panels, strict=True):
        here = cancellation[(cancellation["dataset"] == panel.dataset) & (cancellation["network"] == panel.network)]
        lines = []
        for training in panel.trainings:
            table = here[here["training"] == training]
            if not len(table):
                continue
            table = table[(table["draws"] == table["draws"].max()) & (table["gradient_size"] > 0)]
            colour, sizes, ratios = style.colour(training), table["gradient_size"], table["cancellation"]
            place.plot(sizes, ratios, ".", color=colour, ms=3, mew=0, alpha=0.4)
            place.plot(sizes.median(), ratios.median(), "P", ms=8, mec="white", mfc=colour, zorder=4)
            place.axhline(table["draws"].iloc[0] ** -0.5, color=colour, lw=0.8, ls="--", zorder=1)
            lines.append((f"{style.name(training)}: {sizes.median():.1g} × {ratios.median():.2f}", colour))
        place.set_xscale("log")
        place.set_yscale("log")
        low, high = place.get_xlim()
        bottom, top = 0.02, 1.15
        first, last = int(np.floor(np.log10(low * bottom))), int(np.ceil(np.log10(high)))
        for power in range(first, last + 1, max(2, (last - first) // MOST_LINES)):
            place.plot([low, high], [10.0**power / low, 10.0**power / high], ":", color="#cccccc", lw=0.7, zorder=0)
        place.set_xlim(low, high)
        place.set_ylim(bottom, top)
        place.set_yticks([0.02, 0.05, 0.1, 0.2, 0.5, 1], ["0.02", "0.05", "0.1", "0.2", "0.5", "1"])
        place.minorticks_off()
        for number, (text, colour) in enumerate(lines):
            place.text(0.03, 0.03 + 0.06 * number, text, color=colour, transform=place.transAxes, fontsize=7)
        place.set_title(drawing.wrapped(f"{panel.data}, {panel.network}", len(panels)))
        place.set_xlabel("E ‖g‖")
    axes[0, 0].set_ylabel("κ = ‖E g‖ / E ‖g‖")
    return figure


@entry()
def draws_alone(panels: list[Panel], style: Style, fits: Mapping[Model, Trained]) -> Figure:
    """How well each posterior draw classifies by itself, and all draws so far together, on validation images.

    A dot is a draw under one seed, the line the mean prediction of the draws so far, for each seed. Only chains that run
    side by side say so much of their draws.
    """
    columns = [(panel, training) for panel in panels for training in panel.trainings]
    figure, axes = drawing.canvas(1, len(columns), drawing.PAGE, 2.5, sharey=True)
    for place, (panel, training) in zip(axes[0], columns, strict=True):
        for model, trained in fits.items():
            if model[:3] == (panel.dataset, panel.network, training) and "accuracy_of_draw" in trained.history:
                history = trained.history
                colour = style.colour(training)
                place.plot(history["draws"], history["accuracy_of_draw"], ".", color=colour, ms=2.5, mew=0, alpha=0.5)
                place.plot(history["draws"], history["validation_accuracy"], "-", color=drawing.INK, lw=0.9)
        place.set_title(drawing.wrapped(f"{panel.data}, {panel.network}\n{style.name(training)}", len(columns)))
        place.set_xlabel("draw")
    low, _ = axes[0, 0].get_ylim()
    axes[0, 0].set_ylim(min(low, LEAST_SHOWN), 1.005)
    axes[0, 0].set_ylabel("validation accuracy")
    return figure


@entry()
def chains(
    panels: list[Panel], style: Style, weights: Mapping[Model, Mapping[str, np.ndarray]], fits: Mapping[Model, Trained]
) -> Figure:
    """Markov chains of all weights in the plane along which the draws vary most, each chain in a colour.

    The first two principal components of all draws of a panel under the first seed, and their shares of the variance. Chains
    that stay apart have found other modes, or other permutations of the units of one, which predict the same. Draws that
    know of no chains, such as those of the prior, are grey dots.
    """
    figure, axes = drawing.canvas(1, len(panels), drawing.PAGE, 2.4)
    seed = min(model[3] for model in weights)
    for place, panel in zip(axes[0], panels, strict=True):
        models = [(panel.dataset, panel.network, training, seed) for training in panel.trainings]
        draws = [_flat(weights[model]) for model in models]
        places, shares = principal_plane(np.concatenate(draws))
        factors: list[str] = []
        for model, of_model in zip(models, np.split(places, np.cumsum([len(part) for part in draws])[:-1]), strict=True):
            number = int(fits[model].fit["diagnostics"].get("chains", 0))
            if not number:
                place.plot(*of_model.T, ".", color=drawing.QUIET, ms=3, mew=0, alpha=0.5, zorder=1)
            for chain in range(number):
                place.plot(*of_model[chain::number].T, ".-", ms=3, lw=0.4, mew=0)
            factors.extend(f", R̂ {factor:.2f}" for factor in [fits[model].r_hat] if factor is not None)
        place.set_title(drawing.wrapped(f"{panel.data}\n{panel.network}", len(panels)))
        place.set_xlabel(f"component 1 ({100 * shares[0]:.0f} %){''.join(factors)}")
        place.set_ylabel(f"component 2 ({100 * shares[1]:.0f} %)")
        for axis in (place.xaxis, place.yaxis):
            axis.set_major_locator(MaxNLocator(4))
    return figure


def _flat(weights: Mapping[str, np.ndarray]) -> np.ndarray:
    """All weights of each draw, [S, P]."""
    return np.concatenate([value.reshape(len(value), -1) for _, value in sorted(weights.items())], axis=1)


def principal_plane(draws: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Places [S, 2] of draws [S, P] in the plane of their first two principal components, and the shares of the variance."""
    centred = draws.astype(np.float64) - draws.mean(0)
    left, values, _ = np.linalg.svd(centred, full_matrices=False)
    return left[:, :2] * values[:2], values[:2] ** 2 / (values**2).sum()


def _sized(network: str, fits: Mapping[Model, Trained]) -> str:
    """A network and how many weights it has."""
    number = next(trained.fit["parameters"] for model, trained in fits.items() if model[1] == network)
    return f"{network}\n{number:,} weights"


def _of_seeds(gradients: Gradients, panel: Panel, training: str) -> list[ExpectedGradients]:
    """Those of one network, of all seeds."""
    place = (panel.dataset, panel.network, training)
    return [found for model, found in sorted(gradients.items()) if model[:3] == place]
