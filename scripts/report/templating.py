"""Shared rendering of the pages' templates. The common style and brand are in templates/."""

from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from scripts.report import formatting

TEMPLATES = Path(__file__).with_name("templates")


def environment(*folders: Path) -> Environment:
    """Return the templates of these folders and the shared one. All text from outside is escaped."""
    # StrictUndefined: a name misspelt in the template is an error, not a blank.
    made = Environment(
        loader=FileSystemLoader([*folders, TEMPLATES]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {"percent": formatting.percent, "quantity": formatting.quantity, "usd": formatting.usd}
    return made
