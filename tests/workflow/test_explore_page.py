"""A page to explore in a browser: every view says what the tables say, by mouse, by keyboard and by address."""

from __future__ import annotations

import re
from itertools import cycle, islice, product
from pathlib import Path
from urllib.parse import parse_qs, urlparse

import numpy as np
import pandas as pd
import pytest
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import Select

from resilience.explore import spread
from tests.library.test_explore import ABOUT, example, page
from tests.workflow.chromium import Browser
from tests.workflow.conftest import Project

NUMBERS = re.compile(r"Overlap of top pixels ([\d.]+), on average ([\d.]+); softmax robustness ([\d.]+)\.")


def said(chromium: Browser, name: str) -> dict[str, str]:
    """What a page to explore says of one of its two models."""
    parts = {kind: chromium.find(f"#{name} .{kind} span").text for kind in ("image", "attacked", "before", "overlap")}
    return parts | {"heading": chromium.find(f"#{name} h2").text, "numbers": chromium.find(f"#{name} .prediction").text}


def values_of(chromium: Browser, name: str) -> list[str]:
    """What can be chosen."""
    return [option.get_attribute("value") for option in chromium.all(f"#{name} option")]


def go_to(chromium: Browser, **view: object) -> None:
    """Follow an address on the page that is open."""
    fragment = "#" + "&".join(f"{key}={value}" for key, value in view.items())
    chromium.run("location.hash = arguments[0]; dispatchEvent(new Event('hashchange'))", fragment)


def tables_of(finished: Project, name: str, draws: int | str, seed: int | str) -> dict[str, pd.DataFrame]:
    """The tables of what a page to explore shows, of the points that it shows, side by side."""
    settings = finished.config()["explore"][name]
    place = finished.folder / f"results/{settings['dataset']}/{settings['network']}"
    models = {"reference": (settings["reference"], 1), "model": (settings["training"], draws)}
    return {
        part: side_by_side(place / f"{training}/seed{seed}/{settings['attack']}/n{number}").iloc[
            spread(20, settings.get("points"))
        ]
        for part, (training, number) in models.items()
    }


def column(explanation: str, layer: int | str, k: float | str) -> str:
    """What :func:`side_by_side` calls an overlap of an explanation of a layer."""
    return f"{explanation}, layer {layer}, top {k}"


def side_by_side(attacked: Path) -> pd.DataFrame:
    """The predictions of an attacked model, with a column for each overlap of each layer of each explanation."""
    table = pd.read_csv(attacked / "predictions.csv")
    for path in sorted((attacked / "explanations").glob("*/measures.csv")):
        for layer, of_layer in pd.read_csv(path).groupby("layer"):
            assert list(of_layer["index"]) == list(table["index"])
            for k in (20, 30):
                table[column(path.parent.name, layer, k)] = of_layer[f"top{k}"].to_numpy()
    return table


@pytest.mark.parametrize("name", ["numbers_of_draws", "by_rules"])
def test_every_view_shows_the_numbers_of_the_table(name, chromium, finished):
    chromium.open(finished.folder / f"results/explore/{name}.html")
    views = list(product(*(values_of(chromium, key) for key in ("explanation", "layer", "k"))))
    for draws, seed in product(values_of(chromium, "draws"), values_of(chromium, "seed")):
        tables = tables_of(finished, name, draws, seed)
        shown = len(tables["model"])
        for row, (explanation, layer, k) in islice(zip(cycle(range(shown)), cycle(views)), max(shown, len(views))):
            overlap = column(explanation, layer, k)
            index = tables["model"]["index"].iloc[row]
            go_to(chromium, point=index, seed=seed, explanation=explanation, layer=layer, draws=draws, k=k)
            for part, table in tables.items():
                here, of_point = said(chromium, part), table.iloc[row]
                assert here["heading"].endswith(f", seed {seed}")
                survived, top = map(int, here["overlap"].removesuffix(" survive").split(" of "))
                assert survived / top == of_point[overlap]
                numbers = list(map(float, NUMBERS.match(here["numbers"]).groups()))
                expected = [of_point[overlap], table[overlap].mean(), of_point["softmax_robustness"]]
                assert numbers == pytest.approx(expected, abs=6e-4)
                for kind, predicted in (("image", "prediction"), ("attacked", "prediction_attacked")):
                    right = "right" if of_point[predicted] == of_point["label"] else "wrong"
                    assert here[kind].startswith(f"predicted {of_point[predicted]} (")
                    assert here[kind].endswith(right)
    assert chromium.complaints() == []


def test_every_seed_stands_beside_the_chosen_one(chromium, finished):
    chromium.open(finished.folder / "results/explore/by_rules.html", "#explanation=gamma&layer=3&k=20&seed=1")
    tables = [tables_of(finished, "by_rules", 4, seed) for seed in (0, 1)]
    row = 7
    go_to(chromium, point=tables[0]["model"]["index"][row])
    found = chromium.find("#strips").accessible_name
    overlap = column("gamma", 3, 20)
    rows = [list(map(float, re.findall(r"seed \d (\d\.\d{3})", row))) for row in found.split(". ")[1:]]
    expected, deviations = [], []
    for part in ("reference", "model"):
        zero, one = (table[part][overlap] for table in tables)
        expected += [[zero[row], one[row]], [zero.mean(), one.mean()]]
        deviations.append(pd.concat([zero, one], axis=1).std(axis=1, ddof=1).mean())
    assert np.array(rows) == pytest.approx(np.array(expected), abs=6e-4)
    shown = re.findall(r"(\d\.\d{3}) \((Deterministic|HMC, 4 draws)\)", chromium.find("#spread").text)
    assert [heading for _, heading in shown] == ["Deterministic", "HMC, 4 draws"]
    assert [float(number) for number, _ in shown] == pytest.approx(deviations, abs=6e-4)
    assert len(chromium.all("#strips circle.now")) == 4
    assert len(chromium.all("#strips circle")) == 8
    assert len(chromium.all("#scatter .elsewhere")) == 1


def test_the_least_robust_points_come_first_when_asked_for(chromium, finished):
    chromium.open(finished.folder / "results/explore/by_rules.html", "#explanation=epsilon&layer=5&k=20&seed=1")
    overlap = column("epsilon", 5, 20)
    of_seed = {seed: tables_of(finished, "by_rules", 4, seed) for seed in (0, 1)}
    for part in ("reference", "model"):
        Select(chromium.find("#order")).select_by_value(part)
        now = of_seed[1][part].assign(mean=(of_seed[0][part][overlap] + of_seed[1][part][overlap]) / 2)
        expected = now.sort_values([overlap, "mean", "index"], kind="stable")["index"].tolist()
        chromium.find("#point").send_keys(Keys.HOME)
        seen = []
        for _ in expected:
            seen.append(int(re.match(r"no. (\d+),", chromium.find("#which").text)[1]))
            chromium.find("#point").send_keys(Keys.ARROW_RIGHT)
        # Means of two seeds that are equal may differ in their last bit here and there.
        key = dict(zip(now["index"], zip(now[overlap], now["mean"].round(9), strict=True), strict=True))
        assert sorted(seen) == sorted(expected)
        assert [key[index] for index in seen] == [key[index] for index in expected]
    assert seen != sorted(seen)


def test_a_click_on_a_dot_chooses_its_point(chromium, finished):
    chromium.open(finished.folder / "results/explore/by_rules.html", "#explanation=epsilon&layer=5&k=20&seed=0")
    table = tables_of(finished, "by_rules", 4, 0)
    overlap = column("epsilon", 5, 20)
    dots = chromium.all("#marks circle")
    assert len(dots) == len(table["model"]) == 20
    pairs = list(zip(table["reference"][overlap], table["model"][overlap], strict=True))
    for row, (dot, pair) in enumerate(zip(dots, pairs, strict=True)):
        assert dot.accessible_name.endswith(f": Deterministic {pair[0]:.3f}, HMC, 4 draws {pair[1]:.3f}")
        if pairs.index(pair) == row:
            place = [float(dot.get_dom_attribute(key)) for key in ("cx", "cy")]
            assert place == pytest.approx([44 + 278 * pair[0], 18 + 278 * (1 - pair[1])], abs=1e-6)
    for row in (11, 4):
        dot = chromium.find(f"#mark-{row}")
        chromium.run("arguments[0].scrollIntoView({block: 'center'})", dot)
        ActionChains(chromium.driver).move_to_element(dot).click().perform()
        assert chromium.find("#which").text.startswith(f"no. {table['model']['index'][row]}, ")
        assert chromium.find("#marks [aria-selected=true]").get_attribute("id") == f"mark-{row}"


def test_dots_are_chosen_by_arrow_keys(chromium, finished):
    chromium.open(finished.folder / "results/explore/by_rules.html", "#explanation=epsilon&layer=5&k=20&seed=0")
    table = tables_of(finished, "by_rules", 4, 0)
    overlap = column("epsilon", 5, 20)
    ActionChains(chromium.driver).move_to_element(chromium.find("#k")).perform()
    chromium.run("document.querySelector('#k').focus()")
    ActionChains(chromium.driver).send_keys(Keys.TAB).perform()
    assert chromium.driver.switch_to.active_element.get_attribute("id") == "marks"
    for keys, part, order in (
        ((Keys.ARROW_LEFT, Keys.ARROW_RIGHT), "reference", True),
        ((Keys.ARROW_UP, Keys.ARROW_DOWN), "model", False),
    ):
        ActionChains(chromium.driver).send_keys(*[keys[0]] * 25).perform()
        seen = []
        for _ in range(20):
            marks = chromium.find("#marks")
            chosen = chromium.find(f"#{marks.get_attribute('aria-activedescendant')}")
            assert chosen.get_attribute("aria-selected") == "true"
            seen.append(table[part][overlap].iloc[int(chosen.get_attribute("id").removeprefix("mark-"))])
            ActionChains(chromium.driver).send_keys(keys[1]).perform()
        assert seen == sorted(table[part][overlap], reverse=not order)
    assert chromium.driver.switch_to.active_element.get_attribute("id") == "marks"


def test_another_seed_shows_other_images_under_its_own_name(chromium, finished):
    chromium.open(finished.folder / "results/explore/by_rules.html", "#seed=0")
    selector = ".model figure:not(.image) canvas"
    before = [canvas.screenshot_as_base64 for canvas in chromium.all(selector)]
    Select(chromium.find("#seed")).select_by_value("1")
    after = [canvas.screenshot_as_base64 for canvas in chromium.all(selector)]
    assert all(old != new for old, new in zip(before, after, strict=True))
    assert all("seed 1:" in canvas.accessible_name for canvas in chromium.all("canvas"))
    assert chromium.find("#status").get_attribute("textContent").count("seed 1:") == 2
    assert parse_qs(urlparse(chromium.driver.current_url).fragment)["seed"] == ["1"]


def test_a_reader_explores_by_keyboard_alone(chromium, finished, tmp_path):
    chromium.open(finished.folder / "results/explore/numbers_of_draws.html")
    before = [canvas.screenshot_as_base64 for canvas in chromium.all("canvas")]
    chromium.run("document.querySelector('h1').focus()")
    keys = ActionChains(chromium.driver)
    keys.send_keys(Keys.TAB, Keys.TAB, Keys.ARROW_RIGHT, Keys.ARROW_RIGHT).perform()
    assert chromium.driver.switch_to.active_element.get_attribute("id") == "point"
    assert chromium.find("#point").get_attribute("value") == "3"
    assert chromium.find("#point").get_attribute("aria-valuetext").startswith("3 of 10: test image ")
    assert chromium.find("#status").get_attribute("textContent").startswith("Point 3 of 10: test image ")
    after = [canvas.screenshot_as_base64 for canvas in chromium.all("canvas")]
    assert all(old != new for old, new in zip(before, after, strict=True))
    ActionChains(chromium.driver).send_keys(*[Keys.TAB] * 4, Keys.ARROW_UP, Keys.TAB, Keys.ARROW_UP).perform()
    assert chromium.driver.switch_to.active_element.get_attribute("id") == "draws"
    assert said(chromium, "model")["heading"] == "HMC, 2 draws, seed 0"
    assert said(chromium, "reference")["heading"] == "Deterministic, seed 0"
    address = parse_qs(urlparse(chromium.driver.current_url).fragment)
    assert (address["draws"], address["layer"]) == (["2"], ["3"])


def test_a_view_has_an_address(chromium, finished):
    file = finished.folder / "results/explore/by_rules.html"
    chromium.open(file, "#explanation=gamma&layer=1&k=30")
    Select(chromium.find("#explanation")).select_by_value("alpha1beta0")
    address, seen = chromium.driver.current_url, said(chromium, "model")
    chromium.open(file)
    assert said(chromium, "model") != seen
    chromium.open(file, f"#{urlparse(address).fragment}")
    assert said(chromium, "model") == seen
    assert [chromium.find(f"#{name}").get_attribute("value") for name in ("explanation", "layer", "k")] == [
        "alpha1beta0",
        "1",
        "30",
    ]


def test_an_address_of_what_is_not_there_shows_what_is_and_says_so(chromium, finished):
    file = finished.folder / "results/explore/by_rules.html"
    chromium.open(file)
    seen = said(chromium, "model")
    assert not chromium.find("#missing").is_displayed()
    chromium.open(file, "#point=999999&seed=7&explanation=none&layer=77&draws=0&k=%22%3E")
    assert said(chromium, "model") == seen
    warned = chromium.find("#missing").text
    assert "The address asks for seed 7, which is not on this page: it shows seed 0." in warned
    assert all(f"for {name} " in warned for name in ("point", "explanation", "layer", "draws", 'k ">,'))
    Select(chromium.find("#seed")).select_by_value("1")
    assert not chromium.find("#missing").is_displayed()
    assert chromium.complaints() == []


def test_draws_that_an_explanation_was_not_measured_with_cannot_be_chosen(chromium, tmp_path):
    (tmp_path / "page.html").write_text(page(*example()), encoding="utf-8")
    chromium.open(tmp_path / "page.html", "#explanation=epsilon&draws=5")
    assert said(chromium, "model")["heading"] == "HMC, 5 draws, seed 3"
    Select(chromium.find("#explanation")).select_by_value("gamma")
    assert said(chromium, "model")["heading"] == "HMC, 50 draws, seed 3"
    assert [option.is_enabled() for option in chromium.all("#draws option")] == [False, True]


def test_a_page_of_one_seed_says_that_nothing_is_known_of_others(chromium, tmp_path):
    (tmp_path / "page.html").write_text(page(*example(seeds=[4])), encoding="utf-8")
    chromium.open(tmp_path / "page.html")
    assert chromium.complaints() == []
    assert values_of(chromium, "seed") == ["4"]
    assert "There is one seed here" in chromium.find("#spread").text
    assert "diamonds" not in chromium.find("#scatter-note").text


def test_a_page_that_cannot_be_read_says_why(chromium, tmp_path):
    whole = page(*example())
    (tmp_path / "damaged.html").write_text(re.sub(r'(id="arrays">.{200})[^<]*', r"\1", whole), encoding="utf-8")
    chromium.open(tmp_path / "damaged.html")
    assert chromium.find("#missing").text.startswith("This page is damaged")
    (tmp_path / "old.html").write_text(
        whole.replace("<script>", "<script>delete window.DecompressionStream;</script><script>"), encoding="utf-8"
    )
    chromium.open(tmp_path / "old.html")
    assert chromium.find("#missing").text == "This browser is too old for this page, which needs one of 2023 or later."


def test_classes_are_called_by_their_names_and_the_change_is_shown_in_colour(chromium, tmp_path):
    points, models = example((6, 3, 5, 7))
    names = ["ape", "bee", "cat", "dog", "elk", "fox", "gnu", "hen", "ibis", "jay"]
    clean = points["x"].astype(np.float32)
    [seen] = [of for of in models[0].seeds if of.seed == 3]
    seen.attacked[:] = clean
    seen.attacked[0, 1] -= 0.1 * clean[0, 1]
    (tmp_path / "page.html").write_text(page(points, models, about=ABOUT | {"class_names": names}), encoding="utf-8")
    chromium.open(tmp_path / "page.html", "#point=100&seed=3")
    predicted = int(seen.probabilities[0][0].argmax())
    assert said(chromium, "reference")["image"].startswith(f"predicted {names[predicted]} (")
    assert chromium.find("#which").text == "no. 100, class ape"
    script = "return [...document.querySelector('#reference .change canvas').getContext('2d').getImageData(1, 1, 1, 1).data]"
    red, green, blue, _ = chromium.run(script)
    assert red == blue == 128 > green


def test_colour_images_are_shown_and_names_are_no_code(chromium, tmp_path):
    (tmp_path / "page.html").write_text(
        page(*example((6, 3, 5, 7), name="</script><img src=x onerror=alert(1)>")), encoding="utf-8"
    )
    chromium.open(tmp_path / "page.html")
    assert chromium.complaints() == []
    assert said(chromium, "model")["heading"].startswith("</script><img")
    assert "</script><img" in chromium.find("#scatter-note").text
    assert "</script><img" in chromium.find("#strips").text
    assert chromium.all("img") == []
    drawn = chromium.run("return [...document.querySelector('canvas').getContext('2d').getImageData(1, 1, 1, 1).data]")
    assert len(set(drawn[:3])) > 1
