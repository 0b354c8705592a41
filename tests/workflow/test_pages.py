"""The pages in a browser: they need nothing else, they work by mouse and by keyboard, and they say what the tables say."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import cycle, islice, product
from pathlib import Path
from urllib.parse import parse_qs, urlparse

import numpy as np
import pandas as pd
import pytest
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import Select

from resilience import robustness
from resilience.explore import spread
from tests.library.test_explore import example, page
from tests.workflow.chromium import DESKTOP, NARROW, Browser, browser, missing_packages
from tests.workflow.conftest import Project

pytestmark = pytest.mark.skipif(
    bool(missing_packages()), reason=f"Debian's packages {' and '.join(missing_packages())} are missing; try make browser"
)
PAGES = ("results/report.html", "results/explore/numbers_of_draws.html", "results/explore/lrp_rules.html", "logs/times.html")
NUMBERS = re.compile(r"LRP robustness ([\d.]+), on average ([\d.]+); softmax robustness ([\d.]+)\.")
CLAIMS = "[aria-label='Claims in every setting']"


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with browser() as opened:
        yield opened


@pytest.fixture(scope="module")
def folder(finished) -> Path:
    """A finished run with every page."""
    finished.snakemake("--cores", "1", "--quiet", "rules", "--", "times")
    return finished.folder


def column(chromium: Browser, table: str, name: str) -> list[str]:
    """The cells of a column, as shown."""
    heads = [head.text for head in chromium.all(f"{table} th")]
    cells = chromium.all(f"{table} tbody tr:not([hidden]) td:nth-child({heads.index(name) + 1})")
    return [cell.text for cell in cells]


def filter_of(chromium: Browser, table: str, name: str) -> Select:
    """The choice above a table that leaves the rows with one value."""
    bar = chromium.run("return document.querySelector(arguments[0]).previousElementSibling", table)
    label = next(label for label in bar.find_elements("tag name", "label") if label.text == name)
    return Select(chromium.find(f"#{label.get_attribute('for')}"))


def head(chromium: Browser, table: str, name: str):
    return next(head for head in chromium.all(f"{table} th") if head.text == name)


@pytest.mark.parametrize("size", [DESKTOP, NARROW], ids=["desktop", "narrow"])
@pytest.mark.parametrize("file", PAGES)
def test_a_page_asks_for_nothing_and_complains_of_nothing(file, size, chromium, folder, tmp_path):
    chromium.open(folder / file, size=size)
    chromium.photograph(tmp_path / f"{Path(file).stem}.png")
    assert chromium.complaints() == []
    assert chromium.run("return document.documentElement.scrollWidth") <= size[0], "the page scrolls sideways"
    broken = [image.get_attribute("alt") for image in chromium.all("img") if not image.get_property("naturalWidth")]
    assert broken == []


def test_a_page_that_asks_for_something_would_be_noticed(chromium, tmp_path):
    (tmp_path / "page.html").write_text(
        "<img src='https://example.org/a.png'><script>console.warn('so')</script>", encoding="utf-8"
    )
    chromium.open(tmp_path / "page.html")
    said = chromium.complaints()
    assert any("example.org" in line for line in said)
    assert any("so" in line for line in said)


def test_a_page_could_not_ask_for_anything_if_it_wanted_to(chromium, folder):
    chromium.open(folder / PAGES[0])
    chromium.run("document.body.append(Object.assign(new Image(), {src: 'https://example.org/a.png'}))")
    assert any("Content Security Policy" in line for line in chromium.complaints())


def test_a_click_on_a_head_sorts_the_table(chromium, folder):
    chromium.open(folder / PAGES[0])
    for name, kind in (("estimate", float), ("layer", int), ("posterior", str)):
        before = [kind(cell) for cell in column(chromium, CLAIMS, name)]
        for order in ("ascending", "descending"):
            head(chromium, CLAIMS, name).find_element("tag name", "button").click()
            assert head(chromium, CLAIMS, name).get_attribute("aria-sort") == order
            assert [kind(cell) for cell in column(chromium, CLAIMS, name)] == sorted(before, reverse=order == "descending")
    assert len(chromium.all(f"{CLAIMS} th[aria-sort]")) == 1


def test_rows_move_as_a_whole(chromium, folder):
    chromium.open(folder / PAGES[0])
    table = pd.read_csv(folder / "results/claims.csv")
    head(chromium, CLAIMS, "estimate").find_element("tag name", "button").click()
    expected = sorted(f"{row.claim} {row.attack} {row.training} {row.estimate:+.3f}" for row in table.itertuples())
    columns = [column(chromium, CLAIMS, name) for name in ("claim", "attack", "posterior", "estimate")]
    assert sorted(" ".join(cells) for cells in zip(*columns, strict=True)) == expected


def test_rows_without_a_number_come_last(chromium, folder):
    chromium.open(folder / PAGES[0])
    networks = "[aria-label='Networks']"
    before = [int(cell) for cell in column(chromium, networks, "divergences") if cell]
    for backwards in (False, True):
        head(chromium, networks, "divergences").find_element("tag name", "button").click()
        shown = column(chromium, networks, "divergences")
        assert [int(cell) for cell in shown[: len(before)]] == sorted(before, reverse=backwards)
        assert set(shown[len(before) :]) == {""}


def test_a_table_is_sorted_by_keyboard(chromium, folder):
    chromium.open(folder / PAGES[0])
    chromium.run("document.querySelector('[aria-label=Networks]').focus()")
    ActionChains(chromium.driver).send_keys(Keys.TAB, Keys.TAB, Keys.ENTER).perform()
    shown = column(chromium, "[aria-label=Networks]", "test accuracy")
    assert shown == sorted(shown)
    assert head(chromium, "[aria-label=Networks]", "test accuracy").get_attribute("aria-sort") == "ascending"


def test_a_filter_leaves_what_is_asked_for(chromium, folder):
    chromium.open(folder / PAGES[0])
    table = pd.read_csv(folder / "results/claims.csv")
    filter_of(chromium, CLAIMS, "claim").select_by_value("inner_layers")
    filter_of(chromium, CLAIMS, "posterior").select_by_value("hmc")
    wanted = table[(table["claim"] == "inner_layers") & (table["training"] == "hmc")]
    assert 0 < len(wanted) < len(table)
    assert column(chromium, CLAIMS, "claim") == ["inner_layers"] * len(wanted)
    assert set(column(chromium, CLAIMS, "posterior")) == {"hmc"}
    assert f"{len(wanted)} of {len(table)} rows" in [status.text for status in chromium.all("[role=status]")]
    filter_of(chromium, CLAIMS, "claim").select_by_value("")
    filter_of(chromium, CLAIMS, "posterior").select_by_value("")
    assert len(column(chromium, CLAIMS, "claim")) == len(table)


def test_links_lead_to_their_sections(chromium, folder):
    chromium.open(folder / PAGES[0])
    targets = [link.get_attribute("href").split("#")[1] for link in chromium.all("nav a, .skip")]
    assert {"verdicts", "figures", "claims", "networks", "workflow", "settings"} <= set(targets)
    assert all(chromium.all(f"#{target}") for target in targets)


def test_the_workflow_is_drawn_with_its_rules_apart_and_inside_the_picture(chromium, folder):
    chromium.open(folder / PAGES[0])
    boxes = chromium.run(
        "return [...document.querySelectorAll('svg.flow rect')].map(box => { const place = box.getBBox();"
        " return [place.x, place.y, place.x + place.width, place.y + place.height]; })"
    )
    _, _, width, height = map(float, chromium.find("svg.flow").get_dom_attribute("viewBox").split())
    assert len(boxes) == len(column(chromium, "[aria-label=Rules]", "rule")) >= 12
    for number, (left, top, right, bottom) in enumerate(boxes):
        assert 0 <= left < right <= width
        assert 0 <= top < bottom <= height
        assert all(right < x or other < left or bottom < y or lower < top for x, y, other, lower in boxes[:number])


def test_print_leaves_out_what_cannot_be_clicked_on_paper(chromium, folder):
    chromium.open(folder / PAGES[0])
    assert chromium.find("nav").is_displayed()
    chromium.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    try:
        assert not chromium.find("nav").is_displayed()
        assert not chromium.find(".controls").is_displayed()
        assert chromium.find(CLAIMS).is_displayed()
    finally:
        chromium.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})


def test_times_are_those_that_were_measured(chromium, folder):
    chromium.open(folder / "logs/times.html")
    jobs = dict(zip(*(column(chromium, "[aria-label='By rule']", name) for name in ("rule", "jobs")), strict=True))
    assert jobs["train"] == str(len(list((folder / "logs").rglob("train.tsv"))))
    assert sum(int(jobs[name]) for name in ("attack", "transfer", "match_size")) == len(
        list((folder / "logs").rglob("attack.tsv"))
    )
    measured = (folder / "logs/claims.tsv").read_text(encoding="utf-8").splitlines()[1].split("\t")[0]
    shown = dict(zip(*(column(chromium, "[aria-label='By rule']", name) for name in ("rule", "s in sum")), strict=True))
    assert shown["claims"] == f"{float(measured):.1f}"


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
    """The robustness tables of what a page to explore shows, of the points that it shows."""
    settings = finished.config()["explore"][name]
    place = finished.folder / f"results/{settings['dataset']}/{settings['network']}"
    models = {"reference": (settings["reference"], 1), "model": (settings["training"], draws)}
    return {
        part: pd.read_csv(place / f"{training}/seed{seed}/{settings['attack']}/n{number}/robustness.csv").iloc[
            spread(20, settings.get("points"))
        ]
        for part, (training, number) in models.items()
    }


@pytest.mark.parametrize("name", ["numbers_of_draws", "lrp_rules"])
def test_every_view_shows_the_numbers_of_the_table(name, chromium, finished):
    chromium.open(finished.folder / f"results/explore/{name}.html")
    views = list(product(*(values_of(chromium, key) for key in ("rule", "layer", "k"))))
    for draws, seed in product(values_of(chromium, "draws"), values_of(chromium, "seed")):
        tables = tables_of(finished, name, draws, seed)
        shown = len(tables["model"])
        for row, (rule, layer, k) in islice(zip(cycle(range(shown)), cycle(views), strict=False), max(shown, len(views))):
            column = robustness.column(rule, int(layer), float(k))
            index = tables["model"]["index"].iloc[row]
            go_to(chromium, point=index, seed=seed, rule=rule, layer=layer, draws=draws, k=k)
            for part, table in tables.items():
                here, of_point = said(chromium, part), table.iloc[row]
                assert here["heading"].endswith(f", seed {seed}")
                survived, top = map(int, here["overlap"].removesuffix(" survive").split(" of "))
                assert survived / top == of_point[column]
                numbers = list(map(float, NUMBERS.match(here["numbers"]).groups()))
                expected = [of_point[column], table[column].mean(), of_point["softmax_robustness"]]
                assert numbers == pytest.approx(expected, abs=6e-4)
                for kind, predicted in (("image", "prediction"), ("attacked", "prediction_attacked")):
                    right = "right" if of_point[predicted] == of_point["label"] else "wrong"
                    assert here[kind].startswith(f"predicted {of_point[predicted]} (")
                    assert here[kind].endswith(right)
    assert chromium.complaints() == []


def test_every_seed_stands_beside_the_chosen_one(chromium, finished):
    chromium.open(finished.folder / "results/explore/lrp_rules.html", "#rule=gamma&layer=3&k=20&seed=1")
    tables = [tables_of(finished, "lrp_rules", 4, seed) for seed in (0, 1)]
    row = 7
    go_to(chromium, point=tables[0]["model"]["index"][row])
    found = chromium.find("#strips").accessible_name
    column = robustness.column("gamma", 3, 20)
    rows = [list(map(float, re.findall(r"seed \d (\d\.\d{3})", row))) for row in found.split(". ")[1:]]
    expected, deviations = [], []
    for part in ("reference", "model"):
        zero, one = (table[part][column] for table in tables)
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
    chromium.open(finished.folder / "results/explore/lrp_rules.html", "#rule=epsilon&layer=5&k=20&seed=1")
    column = robustness.column("epsilon", 5, 20)
    of_seed = {seed: tables_of(finished, "lrp_rules", 4, seed) for seed in (0, 1)}
    for part in ("reference", "model"):
        Select(chromium.find("#order")).select_by_value(part)
        now = of_seed[1][part].assign(mean=(of_seed[0][part][column] + of_seed[1][part][column]) / 2)
        expected = now.sort_values([column, "mean", "index"], kind="stable")["index"].tolist()
        chromium.find("#point").send_keys(Keys.HOME)
        seen = []
        for _ in expected:
            seen.append(int(re.match(r"no. (\d+),", chromium.find("#which").text)[1]))
            chromium.find("#point").send_keys(Keys.ARROW_RIGHT)
        # Means of two seeds that are equal may differ in their last bit here and there.
        key = dict(zip(now["index"], zip(now[column], now["mean"].round(9), strict=True), strict=True))
        assert sorted(seen) == sorted(expected)
        assert [key[index] for index in seen] == [key[index] for index in expected]
    assert seen != sorted(seen)


def test_a_click_on_a_dot_chooses_its_point(chromium, finished):
    chromium.open(finished.folder / "results/explore/lrp_rules.html", "#rule=epsilon&layer=5&k=20&seed=0")
    table = tables_of(finished, "lrp_rules", 4, 0)
    column = robustness.column("epsilon", 5, 20)
    dots = chromium.all("#marks circle")
    assert len(dots) == len(table["model"]) == 20
    pairs = list(zip(table["reference"][column], table["model"][column], strict=True))
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
    chromium.open(finished.folder / "results/explore/lrp_rules.html", "#rule=epsilon&layer=5&k=20&seed=0")
    table = tables_of(finished, "lrp_rules", 4, 0)
    column = robustness.column("epsilon", 5, 20)
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
            seen.append(table[part][column].iloc[int(chosen.get_attribute("id").removeprefix("mark-"))])
            ActionChains(chromium.driver).send_keys(keys[1]).perform()
        assert seen == sorted(table[part][column], reverse=not order)
    assert chromium.driver.switch_to.active_element.get_attribute("id") == "marks"


def test_another_seed_shows_other_images_under_its_own_name(chromium, finished):
    chromium.open(finished.folder / "results/explore/lrp_rules.html", "#seed=0")
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
    file = finished.folder / "results/explore/lrp_rules.html"
    chromium.open(file, "#rule=gamma&layer=1&k=30")
    Select(chromium.find("#rule")).select_by_value("alpha1beta0")
    address, seen = chromium.driver.current_url, said(chromium, "model")
    chromium.open(file)
    assert said(chromium, "model") != seen
    chromium.open(file, f"#{urlparse(address).fragment}")
    assert said(chromium, "model") == seen
    assert [chromium.find(f"#{name}").get_attribute("value") for name in ("rule", "layer", "k")] == [
        "alpha1beta0",
        "1",
        "30",
    ]


def test_an_address_of_what_is_not_there_shows_what_is_and_says_so(chromium, finished):
    file = finished.folder / "results/explore/lrp_rules.html"
    chromium.open(file)
    seen = said(chromium, "model")
    assert not chromium.find("#missing").is_displayed()
    chromium.open(file, "#point=999999&seed=7&rule=none&layer=77&draws=0&k=%22%3E")
    assert said(chromium, "model") == seen
    warned = chromium.find("#missing").text
    assert "The address asks for seed 7, which is not on this page: it shows seed 0." in warned
    assert all(f"for {name} " in warned for name in ("point", "rule", "layer", "draws", 'k ">,'))
    Select(chromium.find("#seed")).select_by_value("1")
    assert not chromium.find("#missing").is_displayed()
    assert chromium.complaints() == []


def test_draws_that_a_rule_was_not_measured_with_cannot_be_chosen(chromium, tmp_path):
    (tmp_path / "page.html").write_text(page(*example()), encoding="utf-8")
    chromium.open(tmp_path / "page.html", "#rule=epsilon&draws=5")
    assert said(chromium, "model")["heading"] == "HMC, 5 draws, seed 3"
    Select(chromium.find("#rule")).select_by_value("gamma")
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


def test_everything_that_is_shown_has_a_name(chromium, folder):
    for file in PAGES:
        chromium.open(folder / file)
        controls = chromium.all("select, input, button, canvas, img, svg[role=img], [tabindex='0']")
        assert controls
        assert all(control.accessible_name.strip() for control in controls), file
