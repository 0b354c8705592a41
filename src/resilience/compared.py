"""The comparisons as a claim asks for them: of networks of one role with most draws, one kind of them at a time."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from resilience.grid import CLEAN
from resilience.tables import CORRELATION, OTHER_EXPLANATION

if TYPE_CHECKING:
    import pandas as pd

BAYESIAN = "bayesian"


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
    methods
        By explanation how it is made.
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
    methods: Mapping[str, str] = field(default_factory=dict)

    def attacked(self, role: str = BAYESIAN) -> pd.DataFrame:
        """Networks of a role under attacks that do what they can to each network."""
        rows = self.of(role)
        return rows[~rows["attack"].isin({CLEAN, *self.matched_size, *self.noise})]

    def matched(self, role: str = BAYESIAN) -> pd.DataFrame:
        """Networks of a role under attacks that push all networks equally far."""
        rows = self.of(role)
        return rows[rows["attack"].isin(set(self.matched_size))]

    def under_noise(self, role: str = BAYESIAN) -> pd.DataFrame:
        """Networks of a role under random noise."""
        rows = self.of(role)
        return rows[rows["attack"].isin(set(self.noise))]

    def clean(self, role: str = BAYESIAN) -> pd.DataFrame:
        """Networks of a role on inputs that nothing attacked."""
        rows = self.of(role)
        return rows[rows["attack"] == CLEAN]

    def of(self, role: str) -> pd.DataFrame:
        """Networks of a role, whatever is done to them."""
        return self.table[self.table["role"] == role]

    def made_by(self, rows: pd.DataFrame, *methods: str) -> pd.DataFrame:
        """Those of explanations that are made by some methods."""
        return rows[rows["explanation"].isin({name for name, method in self.methods.items() if method in methods})]

    def beside(self, rows: pd.DataFrame, method: str) -> pd.DataFrame:
        """Those whose reference is another explanation of the same model, that is made by a method."""
        others = {name for name, made in self.methods.items() if made == method}
        return rows[(rows["reference_role"] == OTHER_EXPLANATION) & rows["reference"].isin(others)]

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


#: What a comparison says of each of its two models: which they are, and what was found of them.
NAMED = (("training", "reference"), ("role", "reference_role"), ("draws", "reference_draws"))
FOUND = (("mean", "mean_reference"), ("relevant", "relevant_reference"))
ENDS = (("low", "high"), ("low_points", "high_points"))


def the_other_way_round(rows: pd.DataFrame) -> pd.DataFrame:
    """The same comparisons as reference minus model, for a claim that something falls.

    Models change places where the reference is one; a correlation, which has none, turns its sign.
    """
    of_models = rows["reference"].fillna("") != ""
    turned = {name: -rows[name] for name in ("estimate", "effect_size")}
    for one, other in NAMED:
        turned |= {one: rows[other].where(of_models, rows[one]), other: rows[one].where(of_models, rows[other])}
    for one, other in FOUND:
        turned |= {one: rows[other], other: rows[one]}
    for low, high in ENDS:
        turned |= {low: -rows[high], high: -rows[low]}
    return rows.assign(**turned, p_mann_whitney=1 - rows["p_mann_whitney"])
