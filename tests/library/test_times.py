from __future__ import annotations

import pytest

from resilience import times
from tests.conftest import templates

SECONDS = {"attack": {"fc2/attack": 3.0}, "train": {"fc2/train": 20.0, "conv/train": 6.0, "<b>/train": 7.0}}


def test_rules_are_summed_and_the_most_expensive_comes_first():
    first, second = times.summarise(SECONDS)
    assert first == {
        "rule": "train",
        "jobs": 3,
        "sum": 33.0,
        "median": 7.0,
        "longest": 20.0,
        "share": pytest.approx(33 / 36),
    }
    assert (second["rule"], second["share"]) == ("attack", pytest.approx(3 / 36))


def test_jobs_are_listed_by_their_length():
    page = times.render(templates("times"), SECONDS)
    places = [page.index(job) for job in ("fc2/train", "&lt;b&gt;/train", "conv/train", "fc2/attack")]
    assert places == sorted(places)
    assert "<b>" not in page
    assert "each of 4 jobs" in page


def test_only_the_longest_are_listed():
    page = times.render(templates("times"), {"train": {f"job{number}": float(number) for number in range(1000)}})
    assert "job999" in page
    assert "job949" not in page
    assert "each of 1000 jobs" in page


def test_nothing_measured_is_a_page_too():
    assert "each of 0 jobs" in times.render(templates("times"), {})
