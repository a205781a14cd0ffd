"""Matplotlib's figures as SVG elements of a page, in the page's own colors and fonts and without ids."""

import io
import re
from typing import Any

import matplotlib as mpl
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from scripts.report.drawing import element

UNITS_AN_INCH = 72

# Matplotlib needs real colors. These are placeholders for the page's own, so that one figure serves light and dark.
COLORS = {
    name: f"#{number:06x}"
    for number, name in enumerate(("ink", "muted", "grid", "accent", "tone", "up", "down", "flat"), start=1)
}


def add_axes(figure: Figure, place: tuple[float, float, float, float], *, size: float) -> Axes:
    """Clear the figure and add axes in the style of all charts; `place` is left, bottom, width and height."""
    figure.clear()
    figure.patch.set_visible(False)
    axes = figure.add_axes(place)
    axes.patch.set_visible(False)
    axes.spines[:].set_visible(False)
    axes.grid(axis="y", color=COLORS["grid"], lw=0.8)
    axes.tick_params(length=0, labelsize=size, labelcolor=COLORS["muted"], pad=size / 2)
    axes.yaxis.set_major_locator(MaxNLocator(4))
    return axes


def add_text(
    axes: Axes,
    at: tuple[float, float],
    words: str,
    color: str,
    offset: tuple[float, float],
    **more: Any,  # noqa: ANN401 Matplotlib's own options
) -> None:
    """Write words near a point, `offset` points away from it, unchanged and not cut off at the axes' edge."""
    if more.pop("bold", False):
        more["fontweight"] = "bold"
    axes.annotate(
        words,
        at,
        xytext=offset,
        textcoords="offset points",
        color=COLORS[color],
        annotation_clip=False,
        parse_math=False,
        va="center",
        **{"fontsize": 10.5, **more},
    )


def locate(figure: Figure, axes: Axes, *values: float) -> tuple[float, ...]:
    """Return where values of the x axis are in the figure's svg element, in its units."""
    place, (low, high) = axes.get_position(), axes.get_xlim()
    width = UNITS_AN_INCH * float(figure.get_size_inches()[0])
    return tuple(width * (place.x0 + place.width * (value - low) / (high - low)) for value in values)


def inline(
    figure: Figure,
    *,
    title: str,
    description: str,
    salt: str,
    css_class: str = "chart",
    ends: tuple[float, ...] = (),
) -> Markup:
    """Return the figure as an svg element, with `title` and `description` for screen readers.

    `ends` are where the first and the last of the values are that values.js shows; see locate().
    The colors in COLORS become the CSS variables of the same name. The same figure and `salt` give the same text.
    """
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": salt}), io.StringIO() as out:
        figure.savefig(out, format="svg", metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
        body = _body(out.getvalue())
    width, height = (UNITS_AN_INCH * float(inches) for inches in figure.get_size_inches())
    return element(body, (width, height), (title, description), css_class, ends)


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
