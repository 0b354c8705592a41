"""What a run gives that nothing disturbs."""

from __future__ import annotations

import pytest

from tests.reliability.runs import little_project


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory) -> dict[str, str]:
    """The digests of a run that nothing disturbs."""
    project = little_project(tmp_path_factory.mktemp("undisturbed"))
    project.snakemake("--cores", "2")
    return project.digests()
