from __future__ import annotations

import base64
from html.parser import HTMLParser

import pandas as pd
import pytest

from resilience import report, verdicts
from tests.conftest import templates
from tests.library.test_comparisons import assign, compare, judge, robustness_tables, together
from tests.library.test_outcomes import outcomes_of, predicted

RULES = {"train": "Train a network.", "claims": "Judge each claim."}
FIT = {"test_accuracy": 0.95, "draws": 1, "parameters": 100, "diagnostics": {}, "warnings": []}
MODEL = "digits/fc2/det/seed0"
EPOCHS = pd.DataFrame({"epoch": [1, 2, 3], "loss": [2.3026, 1.0, 0.04567], "validation_accuracy": [0.1, 0.5, 0.9]})
DRAWS = pd.DataFrame({"draws": [1, 2], "validation_accuracy": [0.8, 0.9]})
CHAIN = FIT | {
    "diagnostics": {"acceptance": [0.8, 0.4], "divergences": [0, 2], "r_hat_95": 1.3, "ess_median": None},
    "warnings": ["a chain accepts 40% of its proposals"],
}


class Reader(HTMLParser):
    """Collects text, addresses and whether every element is closed."""

    def __init__(self):
        super().__init__()
        self.text, self.addresses, self.open = "", [], []

    def handle_starttag(self, tag, attributes):
        self.addresses += [value for name, value in attributes if name in ("src", "href")]
        if tag not in ("meta", "img", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


@pytest.fixture(scope="module")
def table():
    return judge(compare(robustness_tables(0.1)))


def page(table, tmp_path, label: str = "fig01") -> Reader:
    (tmp_path / "f.png").write_bytes(b"picture")
    figures = [{"name": label, "summary": "A summary.", "reading": "How to read it.", "path": str(tmp_path / "f.png")}]
    reader = Reader()
    fits = {"digits/fc2/det/seed0": FIT, "digits/fc2/hmc/seed0": CHAIN}
    histories = {"digits/fc2/det/seed0": EPOCHS, "digits/fc2/hmc/seed0": DRAWS}
    measured = predicted(robustness_tables(0.1), mean_change=0.0625, zero_gradient=0.0)
    attacked, arrows = outcomes_of(measured), [("train", "claims")]
    reader.feed(report.render(templates("report"), table, attacked, figures, fits, histories, RULES, arrows, "seeds: [0]"))
    assert reader.open == []
    return reader


def test_page_holds_verdicts_figures_networks_and_settings(table, tmp_path):
    reader = page(table, tmp_path)
    for sentence in table["sentence"].unique():
        assert sentence in reader.text
    for part in (
        "A summary.",
        "How to read it.",
        "digits/fc2/hmc/seed0",
        "0.950",
        "0.8, 0.4",
        "2.3 → 0.0457",
        "1.30",
        "seeds: [0]",
        *RULES,
        *RULES.values(),
    ):
        assert part in reader.text


def test_page_warns_of_poor_chains(table, tmp_path):
    assert "digits/fc2/hmc, seed 0: a chain accepts 40% of its proposals" in page(table, tmp_path).text


def test_equal_warnings_of_seeds_stand_once_and_numbers_become_a_range():
    disagree = "split R-hat of the predictions is {} (95 % quantile): the chains disagree"
    accepts = "a chain accepts {} of its proposals; a smaller step_size would raise that"
    warnings = {f"digits/fc2/nuts/seed{seed}": [disagree.format(f"{1.2 + seed / 10:.2f}")] for seed in range(8)}
    warnings |= {f"digits/fc2/hmc/seed{seed}": [] for seed in range(8)}
    for seed, share in zip((0, 2, 3, 4, 7), ("9%", "38%", "40%", "38%", "12%"), strict=True):
        warnings[f"digits/fc2/hmc/seed{seed}"] = [accepts.format(share)]
    warnings["digits/fc2/hmc/seed7"].append(disagree.format("1.50"))
    assert [" | ".join(found.values()) for found in report.gather(warnings)] == [
        f"digits/fc2/nuts | all 8 seeds | {disagree.format('1.20 to 1.90')}",
        f"digits/fc2/hmc | seeds 0, 2 to 4, 7 (5 of 8) | {accepts.format('9% to 40%')}",
        f"digits/fc2/hmc | seed 7 (1 of 8) | {disagree.format('1.50')}",
    ]


def test_warnings_about_two_things_stay_two_and_numbers_in_names_are_names():
    own = {f"own/fc2/mine/seed{seed}": ["layer 1 of fc2 is dead", "layer 3 of fc2 is dead"] for seed in (0, 1)}
    other = {"own/conv/mine/seed0": ["fc1 is dead"], "own/conv/mine/seed1": ["fc2 is dead"]}
    assert [" | ".join(found.values()) for found in report.gather(own | other)] == [
        "own/fc2/mine | both seeds | layer 1 of fc2 is dead",
        "own/fc2/mine | both seeds | layer 3 of fc2 is dead",
        "own/conv/mine | seed 0 (1 of 2) | fc1 is dead",
        "own/conv/mine | seed 1 (1 of 2) | fc2 is dead",
    ]


def test_an_attack_that_leaves_more_than_noise_does_is_marked_in_words():
    nan = float("nan")
    values = [(0.5, 0.4), (0.3, 0.4), (0.4, 0.4), (0.4, nan), (nan, 0.4)]
    rows = [{"left": left, "left_noise": noise} for left, noise in values]
    assert list(map(report.beside_noise, rows)) == ["more", "less", "as much", "", ""]


@pytest.mark.parametrize(("by", "counted"), [(0.2, "output: 5; less: 0"), (-0.2, "output: 0; less: 5")])
def test_the_page_counts_rows_that_keep_more_than_under_noise(by, counted, table, tmp_path):
    measured = predicted(robustness_tables(0.1), mean_change=0.0625, zero_gradient=0.0)
    noisy = assign(measured, attack="noise")
    output = (noisy.maps["explanation"] == "epsilon") & (noisy.maps["layer"] == "3")
    noisy.maps.loc[output, "top20"] -= by
    attacked = outcomes_of(together(measured, noisy), pgd="noise", noise="noise")
    reader, settings = Reader(), measured.predictions.groupby(["training", "draws"]).ngroups
    reader.feed(report.render(templates("report"), table, attacked, [], {}, {}, RULES, [("train", "claims")], "seeds: [0]"))
    assert settings == 5
    assert counted in " ".join(reader.text.split())
    assert reader.text.count("more ▲") == 1 + (settings if by > 0 else 0)
    assert reader.text.count("as much") == settings


def test_page_needs_no_other_file(table, tmp_path):
    addresses = [address for address in page(table, tmp_path).addresses if not address.startswith("#")]
    assert addresses == ["data:image/png;base64," + base64.b64encode(b"picture").decode()]


def test_labels_are_text_and_never_code(table, tmp_path):
    reader = page(table, tmp_path, label="<script>alert(1)</script>")
    assert "<script>alert(1)</script>" in reader.text


def test_summary_counts_every_row(table):
    counted = verdicts.summarise(table)
    assert sum(row["holds"] + row["reversed"] + row["inconclusive"] for row in counted) == len(table)


def test_the_loss_of_an_ensemble_is_the_mean_over_its_members():
    members = pd.concat([EPOCHS.assign(member=0), EPOCHS.assign(member=1, loss=EPOCHS["loss"] + 2)])
    assert report.first_and_last_loss(members) == "3.3 → 1.05"
    assert report.first_and_last_loss(DRAWS) == ""
    assert report.first_and_last_loss(pd.DataFrame()) == ""


def test_without_claims_and_figures_the_page_has_the_rest(tmp_path):
    attacked = outcomes_of(predicted(robustness_tables(0.1), mean_change=0.0625, zero_gradient=0.0))
    reader = Reader()
    reader.feed(
        report.render(
            templates("report"),
            None,
            attacked,
            [],
            {MODEL: FIT},
            {MODEL: EPOCHS},
            RULES,
            [("train", "claims")],
            "seeds: [0]",
        )
    )
    assert reader.open == []
    assert "What the attacks did" in reader.text
    for heading in ("Verdicts", "Figures", "Claims in every setting", "could be judged"):
        assert heading not in reader.text
    missing = {"#verdicts", "#figures", "#claims"}
    assert missing.isdisjoint(reader.addresses)
    assert {"#outcomes", "#networks", "#workflow", "#settings"} <= set(reader.addresses)
