"""Pages of HTML that need no other file: templates filled with what must be shown as text, never as code."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jinja2 import DictLoader, Environment, StrictUndefined


def fill(templates: Mapping[str, str], name: str, **content: Any) -> str:
    """A page as HTML.

    Parameters
    ----------
    templates
        The texts of Jinja templates by name: that of the page, and those that it extends.
    name
        Which of them is the page.
    content
        What the page shows.
    """
    environment = Environment(
        loader=DictLoader(templates), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.get_template(name).render(**content)
