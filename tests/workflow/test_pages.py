"""All pages in a browser, and the report: they need nothing else, and work by mouse and by keyboard."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import Select

from tests.workflow.chromium import DESKTOP, NARROW, Browser

PAGES = ("results/report.html", "results/explore/numbers_of_draws.html", "results/explore/by_rules.html", "logs/times.html")
CLAIMS = "[aria-label='Claims in every setting']"


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


def test_everything_that_is_shown_has_a_name(chromium, folder):
    for file in PAGES:
        chromium.open(folder / file)
        controls = chromium.all("select, input, button, canvas, img, svg[role=img], [tabindex='0']")
        assert controls
        assert all(control.accessible_name.strip() for control in controls), file
