"""The reference of the config is what the schema and the signatures say."""

from resilience import catalog, config_reference
from tests.conftest import ROOT
from tests.library.test_config import SCHEMA


def test_the_page_is_up_to_date():
    page = (ROOT / "docs/configuration.md").read_text(encoding="utf-8")
    assert page == config_reference.write(SCHEMA), (
        "write it anew: python -m resilience.config_reference workflow/schemas/config.schema.yaml > docs/configuration.md"
    )


def test_every_key_is_described():
    rows = [line for line in config_reference.write(SCHEMA).splitlines() if line.startswith("| `")]
    assert rows
    assert not [row for row in rows if row.endswith("|  |")]


def test_every_function_stands_in_the_page():
    page = config_reference.write(SCHEMA)
    for name, section in catalog.SECTIONS.items():
        for function, found in catalog.functions(name).items():
            if name == "statements":
                assert f"| `{catalog.paper_of(found)}` | `{function}` | {found.summary} |" in page
            else:
                assert f"### `{section.key}: {function}`" in page
            assert all(f"| `{parameter}` |" in page for parameter in found.parameters)


def test_a_parameter_that_refers_to_another_function_gets_its_text():
    assert "Number of independent chains." in config_reference.write(SCHEMA).split("### `method: nuts`")[1].split("###")[0]


def test_a_parameter_that_says_nothing_gets_the_text_of_one_in_the_same_file():
    page = config_reference.write(SCHEMA)
    steps = {
        name: next(line for line in page.split(f"### `method: {name}`")[1].splitlines() if line.startswith("| `steps`"))
        for name in ("pgd", "saliency_top_k", "saliency_target")
    }
    assert steps["saliency_target"] == steps["saliency_top_k"] != steps["pgd"]
    assert "Steps of each restart" in steps["saliency_target"]
