"""A heat map of a sweep: the mean out of sample by the first two varied settings, averaged over the others."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean

import matplotlib as mpl
import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure as Canvas
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from scripts.sweep import svg
from scripts.sweep.console import label, words
from scripts.sweep.grid import Axis, Range, Values
from scripts.sweep.results import Outcome
from scripts.sweep.svg import COLORS
from scripts.sweep.walk_forward import out_of_sample

BINS = 8
"""Number of sections in a range: values drawn at random seldom repeat."""

CELL_INCHES = (0.95, 0.45)
CARD_INCHES = 16.2  # the width of a card on a desktop, at 72 SVG units an inch, as in the page of a backtest
MARGINS_INCHES = (0.5, 0.65)  # above the cells, for the color scale, and below them
SCALE_INCHES = (2.0, 0.14)
STEPS = 32  # of the color scale
LETTER_INCHES = 0.1
PIXELS_AN_INCH = 96
NAMESPACES = 'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'
SIZE = 10  # font size, in points
COLOR_MAP = "cividis"  # readable for the color-blind, and in grayscale
ON_DARK, ON_LIGHT = "#ffffff", "#17191e"
PAPER = {"ink": "#17191e", "muted": "#63676f", "accent": "#3157d5"}
"""The colors of the stand-alone file, which has no style sheet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """One drawing in two forms: for a page, in its colors and wide or narrow, and a stand-alone SVG file."""

    title: str
    element: Markup
    file: str


def draw(outcome: Outcome) -> Picture:
    """Draw a heat map, or bars if only one setting varies. The same sweep gives the same bytes."""
    varied = [name for name, axis in outcome.axes.items() if isinstance(axis, Range) or len(axis) > 1]
    drawn = (varied or list(outcome.axes))[:2]
    rest = [name for name in varied if name not in drawn]
    sections = [Sections(name, outcome.axes[name]) for name in drawn]
    title = f"{label(outcome.criterion)}, mean out of sample" + (f", averaged over {', '.join(rest)}" if rest else "")
    cells = _cells(outcome, sections)

    def inline(canvas: Canvas, css_class: str) -> str:
        words = f"by {' and '.join(drawn)}"
        return str(svg.inline(canvas, title=title, description=words, salt="sweep", css_class=css_class))

    canvas = _draw(sections, cells, outcome.criterion)
    shape = inline(canvas, "chart")
    width, height = (round(PIXELS_AN_INCH * float(inches)) for inches in canvas.get_size_inches())
    wide = inline(_draw(sections, cells, outcome.criterion, CARD_INCHES), "chart wide")
    narrow = shape.replace('class="chart"', f'class="chart narrow" style="min-width: {0.8 * width:.0f}px"', 1)
    alone = f'{NAMESPACES} width="{width}" height="{height}" style="background: #ffffff; font-family: sans-serif"'
    file = shape.replace('class="chart"', alone, 1) + "\n"
    for name, color in PAPER.items():
        file = file.replace(f"var(--{name})", color)
    return Picture(title=title, element=Markup(wide + narrow), file=file)  # noqa: S704 - escaped in svg.inline


class Sections:
    """Positions of one setting's values on an axis: one for each value, or one for each section of a range."""

    def __init__(self, name: str, axis: Axis) -> None:
        self.name = name
        self._axis = axis
        self._edges = np.linspace(float(axis.low), float(axis.high), BINS + 1) if isinstance(axis, Range) else None
        if self._edges is None:
            self.labels = list(axis) if isinstance(axis, tuple) else []
        else:
            self.labels = [f"{low:.4g} to {high:.4g}" for low, high in pairwise(self._edges)]

    def place(self, values: Values) -> int:
        """Return the position of a combination's value on the axis."""
        value = values[self.name]
        if self._edges is None:
            return self.labels.index(value)
        return int(np.clip(np.searchsorted(self._edges, float(value), side="right") - 1, 0, BINS - 1))


def _cells(outcome: Outcome, sections: Sequence[Sections]) -> NDArray[np.float64]:
    """Return the mean figures, the first setting across and the second, if any, down; NaN where there is none."""
    shape = (len(sections[1].labels) if len(sections) > 1 else 1, len(sections[0].labels))
    found: dict[tuple[int, int], list[float]] = {}
    for setting, row in zip(outcome.settings, outcome.figures, strict=True):
        mean = out_of_sample(row)
        if mean is not None:
            down = sections[1].place(setting.values) if len(sections) > 1 else 0
            found.setdefault((down, sections[0].place(setting.values)), []).append(mean)
    cells = np.full(shape, np.nan)
    for place, means in found.items():
        cells[place] = fmean(means)
    return cells


def _draw(sections: Sequence[Sections], cells: NDArray[np.float64], metric: str, card_inches: float = 0.0) -> Canvas:
    """Draw the cells at the size that their texts need, or wider, to fill a card."""
    down, across = cells.shape
    is_heat_map = len(sections) > 1
    left = _inches(sections[1].labels) + 0.2 if is_heat_map else 0.1
    wide = across * max(CELL_INCHES[0], _inches(sections[0].labels) + 0.2)
    names = max(left + _inches([sections[0].name]), _inches([sections[-1].name]) + SCALE_INCHES[0] / 2 + 0.3)
    full = max(left + wide, names, card_inches - 0.1)
    wide = full - left if card_inches else wide
    high = down * CELL_INCHES[1] * (1.2 if card_inches else 1) if is_heat_map else 2.0
    size = (full + 0.1, high + MARGINS_INCHES[0] + MARGINS_INCHES[1])
    canvas = Canvas(figsize=size)
    canvas.patch.set_visible(False)
    axes = canvas.add_axes((left / size[0], MARGINS_INCHES[1] / size[1], wide / size[0], high / size[1]))
    axes.patch.set_visible(False)
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0, labelsize=SIZE, labelcolor=COLORS["ink"])
    axes.set_xticks(range(across), sections[0].labels)
    axes.set_xlim(-0.5, across - 0.5)
    canvas.text(left / size[0], 0.18 / size[1], sections[0].name, color=COLORS["muted"], fontsize=SIZE)
    if is_heat_map:
        axes.set_yticks(range(down), sections[1].labels)
        axes.set_ylim(down - 0.5, -0.5)
        canvas.text(0.05 / size[0], 1 - 0.22 / size[1], sections[1].name, color=COLORS["muted"], fontsize=SIZE)
        _heat(axes, cells, metric)
        _scale(canvas, cells, metric, SCALE_INCHES[0] if card_inches else SCALE_INCHES[0] / 2)
    else:
        axes.set_yticks([])
        _bars(axes, cells[0], metric)
    return canvas


def _scale(canvas: Canvas, cells: NDArray[np.float64], metric: str, across: float) -> None:
    """Draw the colors from the lowest to the highest cell; nothing if there is only one color."""
    known = cells[~np.isnan(cells)]
    if not len(known) or known.min() == known.max():
        return
    (width, height), down = canvas.get_size_inches(), SCALE_INCHES[1]
    axes = canvas.add_axes(((width - across - 0.1) / width, 1 - (down + 0.08) / height, across / width, down / height))
    axes.set_axis_off()
    axes.set_xlim(0, STEPS)
    axes.set_ylim(0, 1)
    for step in range(STEPS):
        color = mpl.colormaps[COLOR_MAP](step / (STEPS - 1))
        axes.add_patch(Rectangle((step, 0), 1.02, 1, facecolor=color, edgecolor="none"))
    for place, value, side in ((0, known.min(), "left"), (STEPS, known.max(), "right")):
        axes.annotate(
            _words(metric, float(value)),
            (place, 0),
            xytext=(0, -3),
            textcoords="offset points",
            ha=side,
            va="top",
            fontsize=SIZE - 1,
            color=COLORS["muted"],
        )


def _inches(texts: Sequence[str]) -> float:
    """Return the approximate width of the longest text, in inches."""
    return LETTER_INCHES * max(len(text) for text in texts)


def _heat(axes: Axes, cells: NDArray[np.float64], metric: str) -> None:
    known = cells[~np.isnan(cells)]
    color = mpl.colormaps[COLOR_MAP]
    norm = Normalize(known.min(), known.max()) if len(known) else Normalize(0, 1)
    for (row, column), value in np.ndenumerate(cells):
        if np.isnan(value):
            fill, ink = (0.0, 0.0, 0.0, 0.0), COLORS["muted"]
        else:
            fill = color(float(norm(float(value))))
            is_light = 0.299 * fill[0] + 0.587 * fill[1] + 0.114 * fill[2] > 0.5
            ink = ON_LIGHT if is_light else ON_DARK
        axes.add_patch(Rectangle((column - 0.49, row - 0.48), 0.98, 0.96, facecolor=fill, edgecolor="none"))
        axes.text(column, row, _words(metric, value), ha="center", va="center", fontsize=SIZE, color=ink)


def _bars(axes: Axes, values: NDArray[np.float64], metric: str) -> None:
    bars = axes.bar(range(len(values)), np.nan_to_num(values), color=COLORS["accent"], width=0.6)
    texts = [_words(metric, value) for value in values]
    axes.bar_label(bars, texts, padding=3, fontsize=SIZE, color=COLORS["ink"])
    axes.axhline(0, color=COLORS["muted"], linewidth=0.8)
    axes.margins(y=0.2)


def _words(metric: str, value: float) -> str:
    return words(metric, None if np.isnan(value) else float(value))
