"""Sphinx's settings for the documentation site; `make docs` builds it."""

import gc
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "function")]

from scripts.docs.sources import repository_url  # noqa: E402 only now on the path

gc.disable()  # a build ends within seconds, an eighth of which would be the search for garbage in all pages

project = "prophet-trader"
author = "the prophet-trader contributors"
project_copyright = author
language = "en"

extensions = ["myst_parser", "scripts.docs.sources"]
source_suffix = {".md": "markdown", ".ipynb": "markdown"}  # scripts.docs.sources writes a notebook as Markdown
myst_heading_anchors = 4  # the anchors that GitHub gives the headings
nitpicky = True

html_theme = "furo"
html_title = "prophet-trader"
html_static_path = ["static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_copyright = False
html_show_sphinx = False
pygments_style = "friendly"
pygments_dark_style = "monokai"
html_theme_options = {
    "source_repository": repository_url() or "",
    "source_branch": "main",
    "source_directory": "docs/",
    "top_of_page_buttons": ["view"] if repository_url() else [],
}
