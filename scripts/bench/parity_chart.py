"""The picture of `make parity`: a row of dots for each kind of model, one dot per model."""

import io
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator

if TYPE_CHECKING:
    from scripts.bench.parity import Summary

INK, MUTED, GRID, DOT, MARK = "#17191e", "#63676f", "#e9e9e4", "#3157d5", "#c2410c"
MIN_GAIN, MIN_FRACTION = 1e-4, 1e-6
"""The smallest values on the logarithmic axes; smaller ones are drawn at the edge."""


def draw(summaries: Sequence["Summary"]) -> str:
    """Return an SVG file: how much more probable map's models are (left), and how far the lines differ (right)."""
    with mpl.rc_context(
        {"svg.fonttype": "none", "svg.hashsalt": "parity", "font.size": 9, "font.family": "sans-serif"}
    ):
        figure = Figure(figsize=(9.2, 0.9 + 0.34 * len(summaries)), layout="constrained")
        gains, trends = figure.subplots(1, 2, sharey=True)
        for place, each in enumerate(summaries):
            _dots(gains, place, [max(gain, MIN_GAIN) for gain in each.gains])
            _dots(trends, place, [max(abs(apart), MIN_FRACTION) for apart in each.trends])
        _dress(gains, "Log posterior, map minus Stan (nats)", lambda value, _: f"{value:g}")
        _dress(
            trends, "Trend difference at the last bar", lambda value, _: f"{value:.4%}".rstrip("0%").rstrip(".") + "%"
        )
        gains.set_yticks(range(len(summaries)), [each.what for each in summaries])
        gains.invert_yaxis()
        file = io.StringIO()
        figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None}, facecolor="white", dpi=200)
    return file.getvalue()


def _dots(axes: Axes, place: int, values: Sequence[float]) -> None:
    """Draw one row: the models, spread a little so that they do not hide each other, and their median."""
    spread = [place + 0.22 * ((7 * number) % 11 - 5) / 5 for number in range(len(values))]
    axes.plot(values, spread, "o", markersize=2.6, alpha=0.45, color=DOT, markeredgewidth=0, rasterized=True)
    middle = sorted(values)[len(values) // 2]
    axes.plot([middle, middle], [place - 0.36, place + 0.36], color=MARK, linewidth=2)


def _dress(axes: Axes, title: str, words: Callable[[float, int], str]) -> None:
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(numticks=5))
    axes.set_title(title, loc="left", fontsize=10, color=INK)
    axes.xaxis.set_major_formatter(FuncFormatter(words))
    axes.grid(axis="x", color=GRID)
    axes.set_axisbelow(True)
    axes.tick_params(length=0, colors=MUTED)
    for side in axes.spines.values():
        side.set_visible(False)
