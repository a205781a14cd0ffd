"""Charts as SVG elements of a page, in the page's own colors and fonts, written without a library.

The page of a run has some twenty small charts. Matplotlib draws them in half of the time that the command takes; it
stays for charts with more to them, in scripts/report/svg.py, and chooses the same ticks.
"""

import math
from collections.abc import Iterable, Sequence

import numpy as np
from markupsafe import Markup, escape
from numpy.typing import NDArray

type Points = NDArray[np.float64]

DATE_PATTERNS = ((200, "%b %Y"), (5, "%-d %b"), (-1, "%H:%M"))

MIN_DAYS_OF_DATES = 6
"""The fewest days that have dates and no times of the day."""

STEPS = (1, 1.5, 2, 2.5, 3, 4, 5, 6, 8, 10)
"""The distances between ticks that are easy to read, times a power of ten: those of Matplotlib."""

MIDDLE = 0.26, 0.38
"""How far below its middle a word stands on its line, for bold and other labels and for ticks, times its size."""


def date_pattern(days: float) -> str:
    """Return the date format for a history of this many days."""
    return next(pattern for least, pattern in DATE_PATTERNS if days > least)


def element(
    body: str, size: tuple[float, float], words: tuple[str, str], css_class: str, ends: Sequence[float]
) -> Markup:
    """Return an svg element of a width and height around markup, with a title and a description for screen readers.

    `ends` are where the first and the last of the values are that values.js shows; empty if it shows none.
    """
    data = f' data-left="{ends[0]:.1f}" data-right="{ends[1]:.1f}"' if ends else ""
    return Markup(  # noqa: S704 - words are escaped here, and in `body` by its author
        f'<svg class="{css_class}" viewBox="0 0 {size[0]:g} {size[1]:g}" role="img"{data}>'
        f"<title>{escape(words[0])}</title><desc>{escape(words[1])}</desc>{body}"
    )


class Drawing:
    """A chart that is drawn layer by layer, in the units of its data. Colors are the names of the page's variables."""

    def __init__(
        self,
        size: tuple[float, float],
        margins: tuple[float, float, float, float],
        *,
        x: Sequence[float],
        y: Sequence[float],
    ) -> None:
        """Begin a chart of a width and height in SVG units.

        `margins` are the room around the data: left, top, right and bottom. `x` and `y` are the lowest and the highest
        value of the data's axes.
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

    def line(self, x: Points, y: Points, color: str, width: float, *, opacity: float = 1.0) -> None:
        """Draw a line through points."""
        style = f"fill: none; stroke: var(--{color}); stroke-width: {width:g}; stroke-linecap: square"
        style += f"; stroke-opacity: {opacity:g}" if opacity < 1 else ""
        self._parts.append(f'<path d="{self._path(x, y)}" style="{style}"/>')

    def area(self, x: Points, lower: Points, upper: Points, color: str, opacity: float) -> None:
        """Fill the area between two lines."""
        around = self._path(np.concatenate([x, x[::-1]]), np.concatenate([lower, upper[::-1]]))
        self._parts.append(f'<path d="{around}Z" style="fill: var(--{color}); fill-opacity: {opacity:g}"/>')

    def dots(self, x: Iterable[float], y: Iterable[float], color: str, radius: float) -> None:
        """Draw a dot at each point."""
        for across, down in zip(x, y, strict=True):
            at = f'cx="{_number(self.across(across))}" cy="{_number(self.down(down))}"'
            self._parts.append(f'<circle {at} r="{radius:g}" style="fill: var(--{color})"/>')

    def dash(self, x: float, y: float, color: str, length: float, width: float) -> None:
        """Draw a short horizontal line around a point; `length` and `width` are in SVG units."""
        left, right = self.across(x) - length / 2, self.across(x) + length / 2
        path = f"M{_number(left)} {_number(self.down(y))}H{_number(right)}"
        style = f"fill: none; stroke: var(--{color}); stroke-width: {width:g}"
        self._parts.append(f'<path d="{path}" style="{style}"/>')

    def label(self, x: float, y: float, words: str, color: str, *, size: float, bold: bool = False) -> None:
        """Write words a little to the right of a point."""
        self._write(self.across(x) + 7, self.down(y) + MIDDLE[0] * size, words, color, size, "start", is_bold=bold)

    def ticks(self, x: Iterable[tuple[float, str]], size: float) -> None:
        """Write the words below the x axis, and prices beside the y axis, each with a line across the chart."""
        for value, words in x:
            self._write(self.across(value), self._bottom + 1.26 * size, words, "muted", size, "middle")
        for value in find_ticks(*self._y, count=4):
            self.line(np.array(self._x), np.array([value, value]), "grid", 0.8)
            at = self.down(value) + MIDDLE[1] * size
            self._write(self._left - size / 2, at, f"{value:,g}", "muted", size, "end")

    def element(self, title: str, description: str, ends: tuple[float, float]) -> Markup:
        """Return the chart as an svg element; `ends` are the first and the last value of the x axis with data."""
        places = [self.across(each) for each in ends]
        return element("\n".join([*self._parts, "</svg>"]), self._size, (title, description), "chart", places)

    def _path(self, x: Points, y: Points) -> str:
        points = zip(x.tolist(), y.tolist(), strict=True)
        return "M" + "L".join(f"{_number(self.across(each))} {_number(self.down(value))}" for each, value in points)

    def _write(
        self, x: float, y: float, words: str, color: str, size: float, anchor: str, *, is_bold: bool = False
    ) -> None:
        style = f"font-size: {size:g}px; text-anchor: {anchor}; fill: var(--{color})"
        style += "; font-weight: 700" if is_bold else ""
        self._parts.append(f'<text x="{_number(x)}" y="{_number(y)}" style="{style}">{escape(words)}</text>')


def find_ticks(low: float, high: float, *, count: int) -> list[float]:
    """Return round numbers from low to high, at least two and in at most so many steps, as Matplotlib chooses them."""
    middle = (low + high) / 2
    is_far = abs(middle) >= 100 * (high - low)  # from 0: the distance is so small that digits before it only repeat
    base = math.copysign(10 ** (math.log10(abs(middle)) // 1), middle) if is_far else 0.0
    scale = 10 ** (math.log10((high - low) / count) // 1)
    steps = [each * scale for each in (*(0.1 * step for step in STEPS[:-1]), *STEPS, 10 * STEPS[1])]
    smallest = next(place for place, step in enumerate(steps) if step >= (high - low) / count)
    found: list[float] = []
    for step in reversed(steps[: smallest + 1]):
        first = (low - base) // step * step
        numbers = range(math.ceil((high - base - first) / step) + 1)
        slack = 1e-10 * step
        found = [tick for each in numbers if low - base - slack <= (tick := each * step + first) <= high - base + slack]
        if len(found) >= 2:
            break
    return [tick + base for tick in found]


def _number(units: float) -> str:
    """Format a length with as many digits as can be seen."""
    return f"{units:.2f}".rstrip("0").rstrip(".")
