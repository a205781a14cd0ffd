"""Rendering of the pages' templates. The shared style and brand are in templates/."""

from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from scripts.report import formatting

TEMPLATES = Path(__file__).with_name("templates")


def environment(*folders: Path) -> Environment:
    """Return a Jinja environment with the templates of these folders and the shared ones. It escapes all values."""
    # StrictUndefined: a misspelled name in a template is an error, not a blank.
    made = Environment(
        loader=FileSystemLoader([*folders, TEMPLATES]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {"percent": formatting.percent, "quantity": formatting.quantity, "usd": formatting.usd}
    return made
