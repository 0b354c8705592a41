"""How long the jobs took, rule by rule."""

from __future__ import annotations

from collections.abc import Mapping
from statistics import median
from typing import Any

from resilience import pages

#: How many of the longest jobs are listed one by one.
LONGEST = 50


def render(templates: Mapping[str, str], seconds: Mapping[str, Mapping[str, float]]) -> str:
    """The page as HTML that needs no other file.

    Parameters
    ----------
    templates
        The texts of the Jinja templates ``times.html.j2`` and ``page.html.j2``.
    seconds
        The seconds that each job took, by rule and job.
    """
    jobs = [(rule, job, took) for rule, of_rule in seconds.items() for job, took in of_rule.items()]
    longest = sorted(jobs, key=lambda job: (-job[2], job[1]))[:LONGEST]
    return pages.fill(templates, "times.html.j2", rules=summarise(seconds), jobs=longest, number=len(jobs))


def summarise(seconds: Mapping[str, Mapping[str, float]]) -> list[dict[str, Any]]:
    """For each rule the number of its jobs, their seconds in sum, median and at most, and the share of all; most first."""
    whole = sum(sum(of_rule.values()) for of_rule in seconds.values())
    rows = [
        {
            "rule": rule,
            "jobs": len(of_rule),
            "sum": sum(of_rule.values()),
            "median": median(of_rule.values()),
            "longest": max(of_rule.values()),
            "share": sum(of_rule.values()) / whole if whole else 0.0,
        }
        for rule, of_rule in seconds.items()
    ]
    return sorted(rows, key=lambda row: (-row["sum"], row["rule"]))
