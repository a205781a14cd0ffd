"""Rendering of the pages' templates. The shared style, brand and scripts are in templates/."""

import base64
import hashlib
import json
from dataclasses import asdict
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

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
    made.globals |= {"policy": write_policy, "script": write_script}
    made.policies["json.dumps_function"] = _write_json
    made.filters |= {"percent": formatting.percent, "quantity": formatting.quantity, "usd": formatting.usd}
    return made


def write_policy(*scripts: str) -> Markup:
    """Return the meta element that lets a page load nothing and run no script but these, which are in templates/."""
    hashes = [base64.b64encode(hashlib.sha256(_read(name).encode()).digest()).decode() for name in scripts]
    allowed = f"; script-src {' '.join(f"'sha256-{each}'" for each in hashes)}" if hashes else ""
    content = f"default-src 'none'; style-src 'unsafe-inline'; img-src data:{allowed}"
    return Markup('<meta http-equiv="Content-Security-Policy" content="{}">').format(Markup(content))  # noqa: S704 - made here


def write_script(name: str) -> Markup:
    """Return a script of templates/ as an element of the page."""
    return Markup("<script>{}</script>").format(Markup(_read(name)))  # noqa: S704 - the project's own file


def _write_json(value: object, **_options: object) -> str:
    """Return JSON without blanks, also of the values behind a chart."""
    return json.dumps(value, default=asdict, allow_nan=False, separators=(",", ":"))


def _read(name: str) -> str:
    return (TEMPLATES / name).read_text(encoding="utf-8")
