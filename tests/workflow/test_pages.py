"""The pages in a browser: they need nothing else, they work by mouse and by keyboard, and they say what the tables say."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import cycle, islice, product
from pathlib import Path
from urllib.parse import parse_qs, urlparse

import pandas as pd
import pytest
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import Select

from resilience import robustness
from resilience.explore import spread
from tests.library.test_explore import example, page
from tests.workflow.chromium import DESKTOP, NARROW, Browser, browser, missing_packages

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


@pytest.mark.parametrize("name", ["numbers_of_draws", "lrp_rules"])
def test_every_view_shows_the_numbers_of_the_table(name, chromium, finished):
    settings = finished.config()["explore"][name]
    place = finished.folder / f"results/{settings['dataset']}/{settings['network']}"
    chromium.open(finished.folder / f"results/explore/{name}.html")
    views = list(product(*(values_of(chromium, key) for key in ("rule", "layer", "k"))))
    shown = list(spread(20, settings.get("points")))
    for draws in values_of(chromium, "draws"):
        tables = {
            "reference": pd.read_csv(place / f"{settings['reference']}/seed0/{settings['attack']}/n1/robustness.csv"),
            "model": pd.read_csv(place / f"{settings['training']}/seed0/{settings['attack']}/n{draws}/robustness.csv"),
        }
        for row, (rule, layer, k) in islice(zip(cycle(shown), cycle(views), strict=False), max(len(shown), len(views))):
            column = robustness.column(rule, int(layer), float(k))
            fragment = f"#point={tables['model']['index'][row]}&rule={rule}&layer={layer}&draws={draws}&k={k}"
            chromium.run("location.hash = arguments[0]; dispatchEvent(new Event('hashchange'))", fragment)
            for part, table in tables.items():
                here, mean = said(chromium, part), table[column].iloc[shown].mean()
                survived, top = map(int, here["overlap"].removesuffix(" survive").split(" of "))
                assert survived / top == table[column][row]
                numbers = list(map(float, NUMBERS.match(here["numbers"]).groups()))
                assert numbers == pytest.approx([table[column][row], mean, table["softmax_robustness"][row]], abs=6e-4)
                for kind, predicted in (("image", "prediction"), ("attacked", "prediction_attacked")):
                    right = "right" if table[predicted][row] == table["label"][row] else "wrong"
                    assert here[kind].startswith(f"predicted {table[predicted][row]} (")
                    assert here[kind].endswith(right)
    assert chromium.complaints() == []


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
    ActionChains(chromium.driver).send_keys(Keys.TAB, Keys.TAB, Keys.ARROW_UP, Keys.TAB, Keys.ARROW_UP).perform()
    assert chromium.driver.switch_to.active_element.get_attribute("id") == "draws"
    assert said(chromium, "model")["heading"] == "HMC, 2 draws"
    assert said(chromium, "reference")["heading"] == "Deterministic"
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


def test_an_address_of_what_is_not_there_shows_what_is(chromium, finished):
    file = finished.folder / "results/explore/lrp_rules.html"
    chromium.open(file)
    seen = said(chromium, "model")
    chromium.open(file, "#point=999999&rule=none&layer=77&draws=0&k=%22%3E")
    assert said(chromium, "model") == seen
    assert chromium.complaints() == []


def test_draws_that_a_rule_was_not_measured_with_cannot_be_chosen(chromium, tmp_path):
    (tmp_path / "page.html").write_text(page(*example()), encoding="utf-8")
    chromium.open(tmp_path / "page.html", "#rule=epsilon&draws=5")
    assert said(chromium, "model")["heading"] == "HMC, 5 draws"
    Select(chromium.find("#rule")).select_by_value("gamma")
    assert said(chromium, "model")["heading"] == "HMC, 50 draws"
    assert [option.is_enabled() for option in chromium.all("#draws option")] == [False, True]


def test_colour_images_are_shown_and_names_are_no_code(chromium, tmp_path):
    (tmp_path / "page.html").write_text(
        page(*example((6, 3, 5, 7), name="</script><img src=x onerror=alert(1)>")), encoding="utf-8"
    )
    chromium.open(tmp_path / "page.html")
    assert chromium.complaints() == []
    assert said(chromium, "model")["heading"].startswith("</script><img")
    drawn = chromium.run("return [...document.querySelector('canvas').getContext('2d').getImageData(1, 1, 1, 1).data]")
    assert len(set(drawn[:3])) > 1


def test_everything_that_is_shown_has_a_name(chromium, folder):
    for file in PAGES:
        chromium.open(folder / file)
        controls = chromium.all("select, input, button, canvas, img, svg[role=img], [tabindex='0']")
        assert controls
        assert all(control.accessible_name.strip() for control in controls), file
