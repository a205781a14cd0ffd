"""A figure of Matplotlib as an SVG element of a page, in the page's own colors and fonts and without ids."""

import io
import re

import matplotlib as mpl
from markupsafe import Markup
from matplotlib.figure import Figure

from scripts.report.drawing import element

UNITS_AN_INCH = 72

# Matplotlib needs real colors. These are placeholders for the page's own, so that one figure serves light and dark.
COLORS = {name: f"#{number:06x}" for number, name in enumerate(("ink", "muted", "accent"), start=1)}


def inline(figure: Figure, *, title: str, description: str, salt: str, css_class: str) -> Markup:
    """Return the figure as an svg element, with `title` and `description` for screen readers.

    The colors in COLORS become the CSS variables of the same name. The same figure and `salt` give the same text.
    """
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": salt}), io.StringIO() as out:
        figure.savefig(out, format="svg", metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
        body = _body(out.getvalue())
    width, height = (UNITS_AN_INCH * float(inches) for inches in figure.get_size_inches())
    return element(body, (width, height), (title, description), css_class)


def _body(svg: str) -> str:
    body = svg[svg.index(">", svg.index("<svg")) + 1 :]
    body = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>|<!--.*?-->", "", body, flags=re.DOTALL)
    body = re.sub(r'<g id="[^"]*"', "<g", body)
    body = re.sub(r' (d|x|y|transform)="[^"]*"', lambda numbers: re.sub(r"(\.\d\d)\d+", r"\1", numbers[0]), body)
    body = re.sub(r"font-family: [^;\"]*;? ?", "", body)
    body = re.sub(r"font: ([\d.]+px) [^;\"]*", r"font-size: \1", body)
    body = re.sub(r"\n\s*", "\n", body)
    for name, color in COLORS.items():
        body = body.replace(color, f"var(--{name})")
    return body
