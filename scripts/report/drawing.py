"""Charts as SVG elements of a page, in the page's own colors and fonts, written without a library.

A page has some twenty small charts. Matplotlib, whose ticks these are, takes longer to draw them than a command takes
for all else.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise

import numpy as np
from markupsafe import Markup, escape

from scripts.report.scales import Points, find_ticks, format_ticks, spread_out

type Size = tuple[float, float]
"""A width and a height in SVG units. A unit is a pixel where the page is as wide as it gets."""

CARD: Size = (360.0, 180.0)
CARD_MARGINS = (28.8, 5.4, 1.8, 23.4)
CARD_TEXT = 9.0
"""The size, the margins and the size of the ticks of a chart that is one of many."""

FULL: Mapping[str, Size] = {"wide": (1166.0, 331.0), "narrow": (324.0, 245.0)}
"""The sizes of a chart that is as wide as the page, which shows the one that fits."""

MARGINS = (52.0, 6.0, 4.0, 26.0)
TEXT = 10.5
"""The margins of such a chart, and the size of its words."""

ROOM_FOR_NAMES: Mapping[str, float] = {"wide": 0.13, "narrow": 0.36}
"""The room to the right of the last value for the names of lines, by the name of a size, as a fraction of the span."""

DATES: Mapping[str, int] = {"wide": 6, "narrow": 3}
"""The number of dates below such a chart."""

MIDDLE = 0.26, 0.38
"""How far below its middle a word stands on its line, for bold and other labels and for ticks, times its size."""

LINE_HEIGHT = 1.25
"""The distance between two lines of words, times their size."""

GAP = 2.5
"""The distance between the names of two lines."""

DASHES = "6 4.5"
"""The dashes of a line that compares: their lengths, and those of the gaps."""


def make_steps(x: Points, y: Points) -> tuple[Points, Points]:
    """Return the corners of a line that has each value until halfway to the next one."""
    between = np.repeat((x[1:] + x[:-1]) / 2, 2)
    return np.concatenate([x[:1], between, x[-1:]]), np.repeat(y, 2)


def join_with_gaps(parts: Iterable[tuple[Sequence[float], Sequence[float]]]) -> tuple[Points, Points]:
    """Return the points of several lines as those of one, with a gap between each two."""
    listed = [([*x, math.nan], [*y, math.nan]) for x, y in parts]
    return np.array([each for x, _ in listed for each in x]), np.array([each for _, y in listed for each in y])


def element(
    body: str, size: Size, words: tuple[str, str], css_class: str = "chart", ends: Sequence[float] = ()
) -> Markup:
    """Return an svg element of a size around markup, with a title and a description for screen readers.

    `ends` are where the first and the last of the values are that values.js shows; empty if it shows none.
    """
    data = f' data-left="{ends[0]:.1f}" data-right="{ends[1]:.1f}"' if ends else ""
    return Markup(  # noqa: S704 - words are escaped here, and in `body` by its author
        f'<svg class="{css_class}" viewBox="0 0 {size[0]:g} {size[1]:g}" role="img"{data}>'
        f"<title>{escape(words[0])}</title><desc>{escape(words[1])}</desc>{body}"
    )


class Drawing:
    """A chart that is drawn layer by layer, in the units of its data. Colors are the names of the page's variables.

    A line has a gap where a value is NaN.
    """

    def __init__(
        self,
        size: Size,
        margins: tuple[float, float, float, float],
        *,
        x: Sequence[float],
        y: Sequence[float],
    ) -> None:
        """Begin a chart of a size.

        `margins` are the room around the data in SVG units: left, top, right and bottom. `x` and `y` are the ends of
        the data's axes: at the left and the right, and at the bottom and the top.
        """
        self._size, (self._left, self._top, right, bottom) = size, margins
        self._x, self._y = x, y
        self._right, self._bottom = size[0] - right, size[1] - bottom
        self._parts: list[str] = []

    def across(self, value: float) -> float:
        """Return where a value of the x axis is, in SVG units from the left."""
        return self._left + (self._right - self._left) * (value - self._x[0]) / (self._x[1] - self._x[0])

    def down(self, value: float) -> float:
        """Return where a value of the y axis is, in SVG units from the top."""
        return self._bottom - (self._bottom - self._top) * (value - self._y[0]) / (self._y[1] - self._y[0])

    # --- data ---------------------------------------------------------------------------------------------------------

    def line(self, x: Points, y: Points, color: str, width: float, *, opacity: float = 1.0, dashes: str = "") -> None:
        """Draw a line through points; `dashes` are their lengths and those of the gaps, in SVG units."""
        style = f"fill: none; stroke: var(--{color}); stroke-width: {width:g}"
        style += f"; stroke-dasharray: {dashes}" if dashes else "; stroke-linecap: square"
        style += f"; stroke-opacity: {opacity:g}" if opacity < 1 else ""
        self._draw("".join(self._path(x[part], y[part]) for part in _without_gaps(y)), style)

    def level(self, value: float, color: str, width: float, *, dashes: str = "") -> None:
        """Draw a line across the chart at a value of the y axis."""
        self.line(np.array(self._x), np.array([value, value]), color, width, dashes=dashes)

    def upright(self, value: float, color: str, width: float) -> None:
        """Draw a line from the bottom to the top at a value of the x axis."""
        self.line(np.array([value, value]), np.array(self._y), color, width)

    def area(self, x: Points, lower: Points, upper: Points, color: str, opacity: float) -> None:
        """Fill the area between two lines."""
        parts = [(x[part], lower[part], upper[part]) for part in _without_gaps(lower + upper)]
        around = "".join(
            f"{self._path(np.concatenate([x, x[::-1]]), np.concatenate([lower, upper[::-1]]))}Z"
            for x, lower, upper in parts
        )
        self._fill(around, color, opacity)

    def boxes(self, boxes: Iterable[tuple[float, float, float, float]], color: str, opacity: float = 1.0) -> None:
        """Fill rectangles, each given by its left, right, lower and upper end."""
        self._fill("".join(self._box(*each) for each in boxes), color, opacity)

    def bands(self, spans: Iterable[tuple[float, float]], color: str, opacity: float) -> None:
        """Fill spans of the x axis from the bottom to the top."""
        self.boxes([(left, right, self._y[0], self._y[1]) for left, right in spans], color, opacity)

    def dots(self, x: Iterable[float], y: Iterable[float], color: str, radius: float) -> None:
        """Draw a dot at each point."""
        for across, down in zip(x, y, strict=True):
            at = f'cx="{_number(self.across(across))}" cy="{_number(self.down(down))}"'
            self._parts.append(f'<circle {at} r="{radius:g}" style="fill: var(--{color})"/>')

    def triangles(self, points: Iterable[tuple[float, float]], color: str, size: float, *, is_up: bool) -> None:
        """Draw a triangle in the middle of each point that points up or down."""
        far = size if is_up else -size
        shape = f"l{_number(size / 2)} {_number(far)}h{_number(-size)}z"
        tops = ((self.across(x), self.down(y) - far / 2) for x, y in points)
        self._fill("".join(f"M{_number(x)} {_number(y)}{shape}" for x, y in tops), color, 1.0)

    def dash(self, x: float, y: float, color: str, length: float, width: float) -> None:
        """Draw a short horizontal line around a point; `length` and `width` are in SVG units."""
        left, right = self.across(x) - length / 2, self.across(x) + length / 2
        path = f"M{_number(left)} {_number(self.down(y))}H{_number(right)}"
        self._draw(path, f"fill: none; stroke: var(--{color}); stroke-width: {width:g}")

    # --- words --------------------------------------------------------------------------------------------------------

    def label(
        self,
        x: float,
        y: float,
        words: str,
        color: str,
        *,
        size: float = TEXT,
        bold: bool = False,
        anchor: str = "start",
        offset: float = 7.0,
    ) -> None:
        """Write words beside a point, `offset` SVG units to the right of it; `anchor` says which end of them is there.

        It is `start`, `middle` or `end`.
        """
        self._write(self.across(x) + offset, self.down(y) + MIDDLE[0] * size, words, color, size, anchor, is_bold=bold)

    def name_ends(self, x: float, ends: Iterable[tuple[float, str, str]], *, size: float = TEXT) -> None:
        """Write words beside the ends of lines: each end's value, words and color. They do not cover each other.

        The words may have several lines. Those in the color of the strategy are bold.
        """
        listed = sorted(ends, key=lambda end: -end[0])
        lines = [words.split("\n") for _, words, _ in listed]
        height = LINE_HEIGHT * size
        half = max(map(len, lines)) * height / 2
        wanted = [self.down(value) for value, _, _ in listed]
        places = spread_out(wanted, 2 * half + GAP, self._top + half, self._bottom - half)
        for place, words, (_, _, color) in zip(places, lines, listed, strict=True):
            for number, line in enumerate(words):
                at = place + (number - (len(words) - 1) / 2) * height + MIDDLE[0] * size
                self._write(self.across(x) + 8, at, line, color, size, "start", is_bold=color == "accent")

    def label_x(self, ticks: Iterable[tuple[float, str]], size: float = TEXT) -> None:
        """Write words below the x axis, each at a value; at an end of the axis they stay within it."""
        for value, words in ticks:
            at = self.across(value)
            anchor = "start" if at <= self._left else "end" if at >= self._right else "middle"
            self._write(at, self._bottom + 1.5 * size, words, "muted", size, anchor)

    def scale_x(self, size: float = TEXT) -> None:
        """Write round values below the x axis, each with a line from the bottom to the top."""
        ticks = find_ticks(*sorted(self._x))
        for tick in ticks:
            self.upright(tick, "grid", 0.8)
        self.label_x(zip(ticks, format_ticks(ticks), strict=True), size)

    def scale_y(self, size: float = TEXT, *, are_fractions: bool = False) -> None:
        """Write round values beside the y axis, fractions in percent, each with a line across the chart."""
        ticks = find_ticks(*self._y)
        for tick, words in zip(ticks, format_ticks(ticks, are_fractions=are_fractions), strict=True):
            self.level(tick, "grid", 0.8)
            self._write(self._left - size / 2, self.down(tick) + MIDDLE[1] * size, words, "muted", size, "end")

    # --- SVG ----------------------------------------------------------------------------------------------------------

    def element(self, title: str, description: str, ends: Sequence[float] = (), css_class: str = "chart") -> Markup:
        """Return the chart as an svg element; `ends` are the first and the last value of the x axis that it tells."""
        places = [self.across(each) for each in ends]
        return element("\n".join([*self._parts, "</svg>"]), self._size, (title, description), css_class, places)

    def _path(self, x: Points, y: Points) -> str:
        points = zip(x.tolist(), y.tolist(), strict=True)
        return "M" + "L".join(f"{_number(self.across(each))} {_number(self.down(value))}" for each, value in points)

    def _box(self, left: float, right: float, lower: float, upper: float) -> str:
        at = f"M{_number(self.across(left))} {_number(self.down(lower))}"
        return f"{at}H{_number(self.across(right))}V{_number(self.down(upper))}H{_number(self.across(left))}Z"

    def _fill(self, path: str, color: str, opacity: float) -> None:
        self._draw(path, f"fill: var(--{color})" + (f"; fill-opacity: {opacity:g}" if opacity < 1 else ""))

    def _draw(self, path: str, style: str) -> None:
        if path:
            self._parts.append(f'<path d="{path}" style="{style}"/>')

    def _write(
        self, x: float, y: float, words: str, color: str, size: float, anchor: str, *, is_bold: bool = False
    ) -> None:
        style = f"font-size: {size:g}px; text-anchor: {anchor}; fill: var(--{color})"
        style += "; font-weight: 700" if is_bold else ""
        self._parts.append(f'<text x="{_number(x)}" y="{_number(y)}" style="{style}">{escape(words)}</text>')


def _without_gaps(values: Points) -> list[slice]:
    """Return the parts of a line that have values."""
    known = np.isfinite(values)
    edges = np.flatnonzero(np.diff(known)) + 1
    bounds = [0, *edges.tolist(), len(values)]
    return [slice(first, last) for first, last in pairwise(bounds) if last > first and known[first]]


def _number(units: float) -> str:
    """Format a length with as many digits as can be seen."""
    return f"{units:.2f}".rstrip("0").rstrip(".")
