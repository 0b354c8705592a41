"""How the pages of this folder, with the README as the first, become a site: ``make docs`` builds it into docs/_build."""

from pathlib import Path

from pygments.lexers.python import PythonLexer

project = "resilience"
html_title = "Do explanations survive an attack?"
html_theme = "furo"
html_copy_source = False
html_show_copyright = False
exclude_patterns = ["_build"]
# The first page has a suffix that no code host takes for a page to read: it is the README, followed by a table of contents.
source_suffix = {".md": "markdown", ".myst": "markdown", ".rst": "restructuredtext"}

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
# Links to headings, as code hosts make them.
myst_heading_anchors = 4

autodoc_member_order = "bysource"
autodoc_typehints = "none"
autodoc_preserve_defaults = True
napoleon_google_docstring = False
napoleon_use_rtype = False


def begin_with_readme(app, page, content):
    """Put the README, with links that lead from this folder, on the first page, and let links to it lead there."""
    if page == "index":
        readme = Path(app.srcdir, "../README.md").read_text(encoding="utf-8")
        content[0] = readme.replace("](docs/", "](").replace("](config/", "](../config/") + content[0]
    for depth in ("../", "../../"):
        content[0] = content[0].replace(f"]({depth}README.md", f"]({depth.removesuffix('../')}index.myst")


def take_bars_as_they_are(app, kind, name, thing, options, lines):
    """Keep ``|x|`` of a docstring, which means an absolute value there and a substitution to Sphinx."""
    lines[:] = [line.replace("|", r"\|") for line in lines]


def setup(app):
    """Connect the above; what is highlighted as Snakemake is close enough to Python."""
    app.add_lexer("snakemake", PythonLexer)
    app.connect("source-read", begin_with_readme)
    app.connect("autodoc-process-docstring", take_bars_as_they_are)
