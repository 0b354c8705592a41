"""The comparisons as a claim asks for them: of Bayesian networks with most draws, one kind of them at a time."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from resilience.grid import CLEAN
from resilience.tables import CORRELATION

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Compared:
    """The table of :func:`resilience.comparisons.compare`, and what its names are about.

    Parameters
    ----------
    table
        All comparisons.
    explanation, measure
        Those of every claim that is not about others.
    by_rules, otherwise
        The explanations by LRP, and those that are made in another way; each the mean over draws, and no control.
    of_clean_class
        The explanations that explain the class of the clean image after the attack, too.
    matched_size, noise
        The attacks that push all networks equally far, and those that are random noise.
    outputs
        By network the layer that stands for its output.
    """

    table: pd.DataFrame
    explanation: str
    measure: str
    by_rules: Collection[str] = ()
    otherwise: Collection[str] = ()
    of_clean_class: Collection[str] = ()
    matched_size: Collection[str] = ()
    noise: Collection[str] = ()
    outputs: Mapping[str, str] = field(default_factory=dict)

    def attacked(self) -> pd.DataFrame:
        """Bayesian networks under attacks that do what they can to each network."""
        attacks = self._bayesian["attack"]
        return self._bayesian[~attacks.isin({CLEAN, *self.matched_size, *self.noise})]

    def matched(self) -> pd.DataFrame:
        """Bayesian networks under attacks that push all networks equally far."""
        return self._bayesian[self._bayesian["attack"].isin(set(self.matched_size))]

    def under_noise(self) -> pd.DataFrame:
        """Bayesian networks under random noise."""
        return self._bayesian[self._bayesian["attack"].isin(set(self.noise))]

    def clean(self) -> pd.DataFrame:
        """Bayesian networks on inputs that nothing attacked."""
        return self._bayesian[self._bayesian["attack"] == CLEAN]

    def explanations(
        self,
        rows: pd.DataFrame,
        reference: str,
        subset: Literal["all", "unbroken"] = "all",
        layers: Literal["output", "inner"] = "output",
        among: Collection[str] | None = None,
    ) -> pd.DataFrame:
        """Those of the main measure, and the main explanation or some others, with networks of a role."""
        rows = rows[rows["explanation"].isin({self.explanation} if among is None else set(among))]
        at_output = rows["layer"] == rows["network"].map(dict(self.outputs))
        return self.measured(rows[at_output if layers == "output" else ~at_output], self.measure, reference, subset)

    def correlations(self, rows: pd.DataFrame, reference: str) -> pd.DataFrame:
        """Those of the correlation of the main measure with softmax robustness at the output."""
        rows = rows[rows["explanation"] == self.explanation]
        rows = rows[rows["layer"] == rows["network"].map(dict(self.outputs))]
        return self.measured(rows, f"{CORRELATION}{self.measure}", reference)

    def measured(
        self, rows: pd.DataFrame, measure: str, reference: str, subset: Literal["all", "unbroken"] = "all"
    ) -> pd.DataFrame:
        """Those of one measure with networks of a role; where several numbers of draws are compared, those of most."""
        rows = rows[(rows["measure"] == measure) & (rows["subset"] == subset) & (rows["reference_role"] == reference)]
        return rows[rows["draws"] == rows.groupby(["dataset", "network", "attack", "training"])["draws"].transform("max")]

    def with_fewest_draws(self, rows: pd.DataFrame) -> pd.DataFrame:
        """Those of a network with itself, with as few draws as there are."""
        rows = rows[rows["reference"] == rows["training"]]
        setting = ["dataset", "network", "attack", "training", "explanation", "layer"]
        # Of predictions there is no explanation, which a table read from a file has as a missing value.
        fewest = rows.groupby(setting, dropna=False)["reference_draws"].transform("min")
        return rows[rows["reference_draws"] == fewest]

    @property
    def other_rules(self) -> set[str]:
        """The explanations by other LRP rules than the main one, of the class that is predicted for each input."""
        return set(self.by_rules) - {self.explanation} - set(self.of_clean_class)

    @property
    def other_ways(self) -> set[str]:
        """The explanations that are made in another way than by LRP, but for the main one."""
        return set(self.otherwise) - {self.explanation}

    @property
    def of_fixed_class(self) -> set[str]:
        """The explanations by LRP of the class of the clean image."""
        return set(self.of_clean_class) & set(self.by_rules) - {self.explanation}

    @property
    def _bayesian(self) -> pd.DataFrame:
        return self.table[self.table["role"] == "bayesian"]


#: What a comparison says of each of its two models.
OF_BOTH = {
    "training": "reference",
    "role": "reference_role",
    "draws": "reference_draws",
    "mean": "mean_reference",
    "relevant": "relevant_reference",
}
#: What turns its sign with them, and what then stands for it.
SIGNED = {
    "estimate": "estimate",
    "low": "high",
    "high": "low",
    "low_points": "high_points",
    "high_points": "low_points",
    "effect_size": "effect_size",
}


def the_other_way_round(rows: pd.DataFrame) -> pd.DataFrame:
    """The same comparisons as reference minus model, for a claim that something falls."""
    turned = {name: rows[other] for one, two in OF_BOTH.items() for name, other in ((one, two), (two, one))}
    signed = {name: -rows[other] for name, other in SIGNED.items()}
    return rows.assign(**turned, **signed, p_mann_whitney=1 - rows["p_mann_whitney"])
