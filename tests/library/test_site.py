"""The pages as a site."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from tests.conftest import ROOT


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The built site. A warning ends the build."""
    folder = tmp_path_factory.mktemp("site")
    options = ["-W", "--keep-going", "-q", "-d", str(folder / ".doctrees")]
    command = [sys.executable, "-m", "sphinx", *options, "docs", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, encoding="utf-8", check=False)
    assert done.returncode == 0, done.stderr
    return folder


def test_every_page_is_part_of_it(site):
    first = (site / "index.html").read_text(encoding="utf-8")
    for page in (ROOT / "docs").glob("*.md"):
        assert f'href="{page.stem}.html"' in first


def test_it_needs_no_network(site):
    for page in site.glob("*.html"):
        assert not re.findall(
            r'<(?:script|img|link)[^>]*(?:src|href)="(?:https?:)?//[^"]*"', page.read_text(encoding="utf-8")
        ), page.name


def test_its_own_links_lead_somewhere(site):
    for page in site.glob("*.html"):
        for target in re.findall(r'href="([^"#:]+)(?:#[^"]*)?"', page.read_text(encoding="utf-8")):
            assert (site / target.partition("?")[0]).exists(), f"{page.name}: {target}"


def test_formulas_of_docstrings_survive(site):
    assert "|Top_k(R(x)) ∩ Top_k(R(x̃))| / k" in (site / "library.html").read_text(encoding="utf-8")
