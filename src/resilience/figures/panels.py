"""What a figure is given to draw."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from resilience.grid import OUTPUT
from resilience.measures.channels import of_pixels
from resilience.measures.top_pixels import PIXELS
from resilience.tables import Measures

if TYPE_CHECKING:
    import pandas as pd

#: Images or heat maps before and after an attack, each [N, C, H, W].
Pair = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Panel:
    """One (dataset, network, attack) and its trainings; the others are compared with the first of them.

    ``noise`` is the attack that is random noise of the same epsilon, if the config has one, ``called`` what a reader is told
    of the dataset, if that is not its name.
    """

    dataset: str
    network: str
    attack: str
    trainings: list[str]
    layers: list[str]
    epsilon: float | None
    noise: str | None = None
    called: str | None = None

    @property
    def data(self) -> str:
        """The dataset as a reader knows it."""
        return self.called or self.dataset

    @property
    def reference(self) -> str:
        """The training that the others are compared with."""
        return self.trainings[0]

    def of(self, table: pd.DataFrame, training: str | None = None) -> pd.DataFrame:
        """The rows of this panel; those of one training are the ones with most draws."""
        here = (table["dataset"] == self.dataset) & (table["network"] == self.network) & (table["attack"] == self.attack)
        if training is None:
            return table[here]
        of_training = table[here & (table["training"] == training)]
        return of_training[of_training["draws"] == of_training["draws"].max()]

    def of_noise(self, table: pd.DataFrame, training: str) -> pd.DataFrame:
        """The same under noise of the attack's epsilon; empty where there is none."""
        return replace(self, attack=self.noise or "").of(table, training)

    def layer_name(self, layer: str) -> str:
        """A layer as an axis names it: a number with what it is the number of, a name by itself."""
        if layer == OUTPUT:
            return OUTPUT
        name = f"layer {layer}" if str(layer).isdigit() else layer
        return f"{name} (output)" if layer == self.layers[-1] else name

    @property
    def setting(self) -> str:
        """Dataset, network and attack."""
        return f"{self.data}, {self.network}, {self.attack}"

    @property
    def title(self) -> str:
        """Dataset, network, attack and its strength."""
        return f"{self.data}, {self.network}, {self.attack_name}"

    @property
    def attack_name(self) -> str:
        """Attack and its strength."""
        return self.attack if self.epsilon is None else f"{self.attack} ε = {self.epsilon:g}"


@dataclass(frozen=True)
class Maps:
    """Images and heat maps of one panel for one seed: by training, and the maps by layer, too."""

    seed: int
    draws: dict[str, int]
    images: dict[str, Pair]
    layers: dict[tuple[str, str], Pair]
    measures: Measures = field(default_factory=dict)
    class_names: Sequence[str] | None = None

    def class_name(self, label: int) -> str:
        """What a class is called: its name, or else its number."""
        return str(self.class_names[label] if self.class_names else label)

    def top(self, relevance: np.ndarray, measure: str) -> np.ndarray:
        """Which pixels of one heat map [C, H, W] an overlap counts as the top ones, [1, H, W] or channel by channel."""
        pixels = self.measures[measure].get("pixels", "absolute")
        return np.asarray(PIXELS[pixels](self.pixels(relevance, measure), self.top_k(measure))[0])

    def pixels(self, relevance: np.ndarray, measure: str) -> np.ndarray:
        """What an overlap takes for the pixels of one heat map [C, H, W], as a batch of one."""
        return of_pixels(relevance[None], self.measures[measure].get("channels", "sum"))

    def top_k(self, measure: str) -> float:
        """How many of the pixels these are, in percent."""
        return float(self.measures[measure]["top_k"])


#: A network by dataset, network, training and seed.
Model = tuple[str, str, str, int]


@dataclass(frozen=True)
class ExpectedGradients:
    """Expected loss gradients of a network at the test points: ``gradient`` [numbers, N, C, H, W] after each of ``draws``.

    ``x`` [N, C, H, W] and ``y`` [N] are the test points.
    """

    gradient: np.ndarray
    draws: np.ndarray
    x: np.ndarray
    y: np.ndarray

    def after(self, draws: int) -> np.ndarray:
        """After so many draws [N, C, H, W], or after the most there are."""
        return np.asarray(self.gradient[np.flatnonzero(self.draws <= draws)[-1]])


@dataclass(frozen=True)
class Trained:
    """What training says of a network: ``fit`` (see ``fit.json``) and its ``history``."""

    fit: Mapping[str, Any]
    history: pd.DataFrame

    @property
    def r_hat(self) -> float | None:
        """Split R-hat of the predictions (95 % quantile), where chains have one."""
        found = self.fit["diagnostics"].get("r_hat_95")
        return None if found is None else float(found)


@dataclass(frozen=True)
class Projections:
    """Test images ``x`` [N, C, H, W], a manifold's ``projection`` of them, and images of its own, if it has any."""

    seed: int
    x: np.ndarray
    projection: np.ndarray
    sample: np.ndarray | None = None

    @property
    def distances(self) -> np.ndarray:
        """‖x − projection‖₂ of each image [N]."""
        apart = (self.x.astype(np.float64) - self.projection).reshape(len(self.x), -1)
        return np.asarray(np.sqrt((apart**2).sum(1)))


#: Okabe and Ito's colours, which colour-blind readers can tell apart.
COLOURS = {
    "deterministic": "#4d4d4d",
    "adversarial": "#d55e00",
    "maximum_a_posteriori": "#cc79a7",
    "ensemble": "#b08c00",
    "svi": "#009e73",
    "hmc": "#0072b2",
    "nuts": "#3f9fd8",
    "nuts_on_shards": "#3f9fd8",
    "parallel_hmc": "#0072b2",
    "hmc_on_last_batch": "#56b4e9",
    "last_layer_hmc": "#56b4e9",
    "laplace": "#8a60b0",
    "prior_draws": "#999999",
}
NAMES = {
    "deterministic": "Deterministic",
    "adversarial": "Adversarially trained",
    "maximum_a_posteriori": "MAP",
    "ensemble": "Ensemble",
    "svi": "SVI",
    "hmc": "HMC",
    "nuts": "NUTS",
    "nuts_on_shards": "Sharded NUTS",
    "parallel_hmc": "HMC",
    "hmc_on_last_batch": "HMC, last batch",
    "last_layer_hmc": "Last-layer HMC",
    "laplace": "Laplace",
    "prior_draws": "Prior",
}


@dataclass(frozen=True)
class Style:
    """Colours and names of trainings, as their methods have them unless the config says otherwise; titles of datasets."""

    methods: Mapping[str, str]
    chosen: Mapping[str, str] = field(default_factory=dict)
    titles: Mapping[str, str] = field(default_factory=dict)

    def colour(self, training: str) -> str:
        """Colour of a training."""
        return self.chosen.get(training) or COLOURS.get(self.methods[training], "#56b4e9")

    def name(self, training: str) -> str:
        """Name of a training: that of its method, or its own where two trainings share a method."""
        method = self.methods[training]
        shared = sum(other == method for other in self.methods.values()) > 1
        return training if shared else NAMES.get(method, training)

    def short(self, training: str) -> str:
        """The name, short enough for a narrow column."""
        return self.name(training).replace("Adversarially", "Adv.")
