"""What a piece of code names of its module, whatever is local to it."""

from __future__ import annotations

import pytest

from resilience import source_code

SCOPES = """
from resilience.tables import gather as column

LIMIT = 3


def helper(): ...


def table(): ...


def subject({arguments}):
    {body}
"""


def named_by(source: str) -> set[str]:
    """The names of the module that its function ``subject`` uses."""
    module = source_code.read(source)
    (node,) = module.definitions["subject"]
    return {chain[0] for chain in source_code.uses(node).chains} & {*module.definitions, *module.imports}


@pytest.mark.parametrize(
    ("arguments", "body", "named"),
    [
        ("", "return helper()", {"helper"}),
        ("table", "return table.rows", set()),
        ("", "table = 3; return table", set()),
        ("a=table", "return a", {"table"}),
        ("a: table", "return a", {"table"}),
        ("", "return [table for table in range(3)]", set()),
        ("", "x = [table for table in range(3)]; return table()", {"table"}),
        ("", "return [helper() for x in range(LIMIT)]", {"helper", "LIMIT"}),
        ("", "return [table for table in table()]", {"table"}),
        ("", "return {x: y for x in helper() for y in table(x)}", {"helper", "table"}),
        ("", "global LIMIT; LIMIT = 4", {"LIMIT"}),
        ("", "return lambda table: table + LIMIT", {"LIMIT"}),
        ("", "return (lambda helper: helper)(helper)", {"helper"}),
        ("", "import pandas as table; return table.DataFrame()", set()),
        ("", "for table in helper(): pass", {"helper"}),
        ("", "with helper() as table: pass", {"helper"}),
        ("", "def inner():\n        global table; return table\n    table = inner", {"table"}),
        ("", "async def inner(table): return table, helper\n    return inner", {"helper"}),
        ("", "match LIMIT:\n        case [table, *helper]: return table, helper", {"LIMIT"}),
        ("column", "return column(1)", set()),
        ("", "return column(1)", {"column"}),
    ],
)
def test_local_names_stand_for_nothing_of_the_module(arguments, body, named):
    assert named_by(SCOPES.format(arguments=arguments, body=body)) == named


def test_an_inner_function_sees_the_names_of_the_outer_one():
    source = SCOPES.format(arguments="table", body="def inner(): return table, helper\n    return inner")
    assert named_by(source) == {"helper"}
