"""The charts of a backtest as inline SVG in the page's colors: wide for a desktop, and narrow for a phone."""

from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, PercentFormatter
from numpy.typing import NDArray

from scripts.backtest.model import Result
from scripts.backtest.report import formatting
from scripts.report import svg
from scripts.report.drawing import MIN_DAYS_OF_DATES, date_pattern
from scripts.report.formatting import MINUS, new_york, plain, usd
from scripts.report.svg import COLORS
from scripts.report.values import Values, line
from trader.model import Json

type Numbers = NDArray[np.float64]

MAX_POINTS = {"wide": 900, "narrow": 300, "card": 250}
LABEL_GAP = 0.085  # minimum distance between two labels, as a fraction of the height
MAX_VALUES = 2_000
"""Maximum number of bars whose values a chart shows under the pointer."""

MAX_BARS = 30
"""Maximum number of symbols in the chart of results; if there are more, it shows the best and the worst."""


SYMBOL_CHARACTERS = 10
"""Maximum length of a label next to the bars, in characters; all US symbols fit."""


OF_AXES = "axes fraction", "data"
"""Matplotlib's coordinates for a label: x as a fraction of the axes' width, y in data units."""


class Size(NamedTuple):
    """Size in inches, at 72 SVG units each, so that text is as large as on the rest of the page."""

    name: str
    width: float
    height: float


FULL = (Size("wide", 16.2, 4.6), Size("narrow", 4.5, 3.4))
LOW = (Size("wide", 16.2, 2.0), Size("narrow", 4.5, 1.9))
HALF = (Size("wide", 7.9, 3.0), Size("narrow", 4.5, 2.6))
CARD = Size("card", 5.0, 2.5)

TONES = COLORS["up"], COLORS["down"]
"""Colors of a trade with a profit, and of a trade with a loss."""


class Chart(NamedTuple):
    """A chart in each of the sizes that the page chooses from, and the values behind it if its x axis is time."""

    name: str
    pictures: tuple[Markup, ...]
    values: Values | None = None


def charts(figures: Json) -> dict[str, Chart]:
    """Return the charts of the whole account that have something to show, by name."""
    found = []
    if figures["data"]["bars"]:
        found = [equity(figures), drawdown(figures), exposure(figures)]
        found += [rolling(figures)] if figures["curve"]["rolling_sharpe"] else []
    if any(row["trades"] or row["open_trades"] for row in figures["symbols"]):
        found.append(results(figures))
    if figures["calibration"]["overall"]:
        found.append(calibration(figures))
    return {chart.name: chart for chart in found}


def equity(figures: Json) -> Chart:
    """Draw the strategy against the benchmark, buy-and-hold and cash."""
    curve = figures["curve"]
    cash_usd = np.array(curve["cash_usd"])
    lines = [(np.array(curve["equity_usd"]), "Strategy", "accent", 2.2)]
    if curve["buy_and_hold_usd"]:
        lines.append((np.array(curve["buy_and_hold_usd"]), "Buy and hold", "ink", 1.2))
    if curve["benchmark_usd"]:
        lines.append((np.array(curve["benchmark_usd"]), "Benchmark", "flat", 1.2))

    def draw(axes: Axes, size: Size) -> None:
        axes.plot(*_thin_out(cash_usd, size), color=COLORS["muted"], lw=1.1, ls=(0, (5, 4)))
        for values, _, color, width in reversed(lines):
            bars, shown = _thin_out(values, size)
            axes.plot(bars, shown, color=COLORS[color], lw=width, solid_joinstyle="round")
        axes.yaxis.set_major_formatter(FuncFormatter(lambda usd, _: _whole(usd)))
        _long_time_axis(axes, figures, size)
        labels = [(float(values[-1]), name, color) for values, name, color, _ in lines]
        _labels(axes, len(curve["times"]) - 1, [*labels, (float(cash_usd[-1]), "Cash", "muted")], size)

    last = ", ".join(f"{name} {values[-1]:,.0f} USD" for values, name, _, _ in lines)
    words = f"From {formatting.dates(figures)}. At the end: {last}, cash {cash_usd[-1]:,.0f} USD."
    shown = _values(usd={name: values for values, name, _, _ in lines} | {"Cash": cash_usd})
    return _chart("equity", "Equity, its comparisons and cash", words, FULL, draw, values=shown)


def drawdown(figures: Json) -> Chart:
    """Draw how far each account was below its highest value so far, on the time axis of the equity."""
    curve = figures["curve"]
    own = np.array(curve["drawdown_fraction"])
    others = [
        (np.array(curve[f"{key}_drawdown_fraction"]), name, color)
        for key, name, color in (("buy_and_hold", "Buy and hold", "ink"), ("benchmark", "Benchmark", "flat"))
        if curve[f"{key}_drawdown_fraction"]
    ]

    def draw(axes: Axes, size: Size) -> None:
        bars, shown = _thin_out(own, size, pick=np.min)  # keeps the lowest point
        axes.fill_between(bars, shown, 0, color=COLORS["accent"], alpha=0.2, lw=0)
        for values, _, color in others:
            axes.plot(*_thin_out(values, size, pick=np.min), color=COLORS[color], lw=0.9)
        axes.plot(bars, shown, color=COLORS["accent"], lw=1.4)
        axes.set_ylim(top=0)
        axes.yaxis.set_major_formatter(_percents())
        _long_time_axis(axes, figures, size)

    words = f"The equity was at most {abs(float(own.min())):.1%} below its highest value so far."
    shown = _values(percent={"Strategy": own} | {name: values for values, name, _ in others})
    return _chart("drawdown", "Drawdown", words, LOW, draw, values=shown)


def exposure(figures: Json) -> Chart:
    """Draw the invested share of the equity."""
    values = np.array(figures["curve"]["exposure_fraction"])

    def draw(axes: Axes, size: Size) -> None:
        bars, shown = _thin_out(values, size)
        axes.fill_between(bars, 0, shown, color=COLORS["accent"], alpha=0.25, lw=0, step="mid")
        axes.step(bars, shown, color=COLORS["accent"], lw=1.2, where="mid")
        axes.set_ylim(0, max(1.0, float(values.max())))
        axes.yaxis.set_major_formatter(_percents())
        _time_axis(axes, figures)

    words = f"On average, {float(values.mean()):.0%} of the equity was in positions."
    return _chart("exposure", "Invested share", words, HALF, draw, values=_values(percent={"Invested": values}))


def rolling(figures: Json) -> Chart:
    """Draw the Sharpe ratio of the window that ends at each bar, with its interval, and that of the whole span."""
    measured, whole = figures["curve"]["rolling_sharpe"], figures["key_figures"]["strategy"]["sharpe_ratio"]
    ratio, lower, upper = (np.array(measured[name], dtype=np.float64) for name in ("ratio", "lower", "upper"))

    def draw(axes: Axes, size: Size) -> None:
        bars, low = _thin_out(lower, size)
        axes.fill_between(bars, low, _thin_out(upper, size)[1], color=COLORS["accent"], alpha=0.18, lw=0)
        axes.axhline(0, color=COLORS["muted"], lw=0.8)
        if whole is not None:
            axes.axhline(whole, color=COLORS["ink"], lw=0.9, ls=(0, (5, 4)))
        axes.plot(*_thin_out(ratio, size), color=COLORS["accent"], lw=1.4)
        _time_axis(axes, figures)

    words = (
        f"The ratio of {measured['window_bars']} bars lay between {np.nanmin(ratio):.2f} and {np.nanmax(ratio):.2f}."
    )
    shown = _values(ratio={"Sharpe ratio": ratio, "Lower end": lower, "Upper end": upper})
    return _chart("rolling", "Rolling Sharpe ratio", words, HALF, draw, values=shown)


def results(figures: Json) -> Chart:
    """Draw the profit or loss of each traded symbol; if there are many, of the best and the worst."""
    traded = [row for row in figures["symbols"] if row["trades"] or row["open_trades"]]
    half = MAX_BARS // 2
    rows = traded if len(traded) <= MAX_BARS else traded[:half] + traded[-half:]
    height = max(1.6, 0.36 * len(rows) + 0.35)
    usd = [row["pnl_usd"] for row in rows]
    sizes = [Size(size.name, size.width, height) for size in HALF]

    def draw(axes: Axes, size: Size) -> None:  # noqa: ARG001 the same in all sizes
        colors = [COLORS["up" if each >= 0 else "down"] for each in usd]
        axes.barh(range(len(rows)), usd, color=colors, height=0.62)
        axes.axvline(0, color=COLORS["muted"], lw=0.8)
        low, high = min(*usd, 0.0), max(*usd, 0.0)
        room = 0.24 * ((high - low) or 1.0)
        axes.set_xlim(low - room * (low < 0), high + room)
        axes.set_ylim(len(rows) - 0.4, -0.6)
        axes.xaxis.set_major_locator(MaxNLocator(4))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda usd, _: _whole(usd)))
        axes.grid(axis="x", color=COLORS["grid"], lw=0.8)
        axes.grid(visible=False, axis="y")
        axes.set_yticks([])
        for at, row in enumerate(rows):
            name = plain(row["symbol"])
            shown = name if len(name) <= SYMBOL_CHARACTERS else f"{name[: SYMBOL_CHARACTERS - 1]}…"
            svg.add_text(axes, (0, at), shown, "ink", (-6, 0), xycoords=OF_AXES, ha="right", bold=True)
            value = f"{row['pnl_usd']:+,.0f}".replace("-", MINUS)
            side = 1 if row["pnl_usd"] >= 0 else -1
            svg.add_text(axes, (row["pnl_usd"], at), value, "muted", (5 * side, 0), ha="left" if side > 0 else "right")

    said = ", ".join(f"{plain(row['symbol'])} {row['pnl_usd']:+,.0f} USD" for row in rows)
    return _chart("results", "Result by symbol", f"{said}.", sizes, draw, margins=(0.15, 0.09))


def calibration(figures: Json) -> Chart:
    """Draw the actual and nominal shares of prices below, inside and above the interval, and the mean errors."""
    scores, nominal = figures["calibration"]["overall"], figures["calibration"]["nominal_fraction"]
    tail = (1 - nominal) / 2
    shares = {
        "Prices": [scores[f"{name}_fraction"] for name in ("below", "inside", "above")],
        "Nominal": [tail, nominal, tail],
    }
    errors = {
        "Prophet": scores["mean_absolute_error_fraction"],
        "Last price": scores["naive_mean_absolute_error_fraction"],
    }
    longest = max(*errors.values(), 1e-9)

    def draw(axes: Axes, size: Size) -> None:  # noqa: ARG001 the same in all sizes
        axes.set_xlim(0, 1)
        axes.set_ylim(4.5, -0.9)
        axes.grid(visible=False)
        axes.set_xticks([])
        axes.set_yticks([])
        svg.add_text(axes, (0, -0.62), "below, inside and above the interval", "muted", (0, 0))
        for row, (name, parts) in enumerate(shares.items()):
            for left, part, color in zip(np.cumsum([0, *parts[:2]]), parts, ("down", "accent", "up"), strict=True):
                axes.barh(row, part, left=left, color=COLORS[color], alpha=0.75 if row == 0 else 0.3, height=0.66)
                if part >= 0.08:
                    svg.add_text(axes, (left + part / 2, row), f"{part:.0%}", "ink", (0, 0), ha="center", bold=True)
            svg.add_text(axes, (0, row), name, "ink", (-6, 0), ha="right")
        svg.add_text(axes, (0, 2.15), "mean error, as a share of the price", "muted", (0, 0))
        for row, (name, error) in enumerate(errors.items(), start=3):
            axes.barh(row - 0.2, 0.8 * error / longest, color=COLORS["accent" if row == 3 else "muted"], height=0.6)
            svg.add_text(axes, (0, row - 0.2), name, "ink", (-6, 0), ha="right")
            svg.add_text(axes, (0.8 * error / longest, row - 0.2), f"{error:.2%}", "muted", (6, 0))

    return _chart("calibration", "Calibration", formatting.calibration(figures), HALF, draw, margins=(0.16, 0.03))


class PriceCharts:
    """Small charts, one for each symbol: its closes, the trend line's value at each bar, and its trades."""

    def __init__(self, figures: Json, result: Result) -> None:
        """Prepare one figure for all charts, so that many symbols need no more memory than one."""
        self._figures = figures
        self._closes = result.panel.close.reindex(pd.DatetimeIndex([bar.time for bar in result.bars], tz="UTC"))
        self._times = figures["curve"]["times"]
        self._trends = _trends(result)
        self._figure = Figure(figsize=(CARD.width, CARD.height))

    def draw(self, symbol: str, trades: Sequence[Json]) -> tuple[Markup, Values]:
        """Draw a symbol of the panel, with its `trades` from figures(); return the picture and the values behind it."""
        closes = self._closes[symbol].to_numpy(dtype=np.float64)
        axes = _axes(self._figure, margins=(0.08, 0.13))
        toned = {color: [trade for trade in trades if _tone(trade) == color] for color in TONES}
        for color, some in toned.items():
            self._shade(axes, some, color)
        axes.plot(*_thin_out(closes, CARD), color=COLORS["ink"], lw=1.0, solid_joinstyle="round")
        if symbol in self._trends:
            axes.plot(*_thin_out(self._trends[symbol], CARD), color=COLORS["accent"], lw=1.4)
        for color, some in toned.items():
            self._mark(axes, some, color)
        self._draw_stops(axes, trades)
        axes.yaxis.set_major_formatter(FuncFormatter(lambda usd, _: f"{usd:,g}"))
        _time_axis(axes, self._figures, small=True)
        name = plain(symbol)
        words = f"Closes of {name}, {formatting.dates(self._figures)}, with {len(trades)} trades marked."
        ends = svg.locate(self._figure, axes, 0, len(closes) - 1)
        picture = svg.inline(self._figure, title=f"{name}: price and trades", description=words, salt=name, ends=ends)
        return picture, self._values(symbol, closes, trades)

    def _values(self, symbol: str, closes: Numbers, trades: Sequence[Json]) -> Values:
        bars = _thin_out(closes, CARD)[0].astype(np.int64)
        lines = {"Close": closes} | ({"Trend line": self._trends[symbol]} if symbol in self._trends else {})
        notes: dict[int, list[str]] = {}
        for trade in trades:
            for bar, words in self._describe(trade):
                notes.setdefault(int(np.searchsorted(bars, bar)), []).append(words)
        shown = [line(name, "usd", values[bars]) for name, values in lines.items()]
        return Values(places=bars.tolist(), lines=shown, notes=notes)

    def _describe(self, trade: Json) -> Iterator[tuple[int, str]]:
        stop = f", stop {usd(trade['stop_loss_usd'])}" if trade["stop_loss_usd"] else ""
        yield self._find_bar(trade["entry_time"]), f"bought at {usd(trade['entry_price_usd'])}{stop}"
        if trade["exit_time"]:
            why = formatting.EXITS[trade["exit_kind"]].lower()
            yield self._find_bar(trade["exit_time"]), f"sold at {usd(trade['exit_price_usd'])}, {why}"

    def _draw_stops(self, axes: Axes, trades: Sequence[Json]) -> None:
        """Draw the stop of each purchase for as long as it was in the unit of the prices: until a split or the sale."""
        kept = [trade for trade in trades if trade["stop_loss_usd"] and trade["exit_quantity"] == trade["quantity"]]
        for trade in kept:
            axes.hlines(trade["stop_loss_usd"], *self._held(trade), color=COLORS["down"], lw=1.1, ls=(0, (2, 2)))

    def _held(self, trade: Json) -> tuple[int, int]:
        """Return the bars of a purchase and of its sale, or the last bar."""
        return self._find_bar(trade["entry_time"]), self._find_bar(trade["exit_time"] or self._times[-1])

    def _find_bar(self, time: str) -> int:
        """Return the bar that has begun last at a time; all times are in UTC, and so in the order of their texts."""
        return bisect_right(self._times, time) - 1

    def _shade(self, axes: Axes, trades: Sequence[Json], color: str) -> None:
        spans = [(begin, end - begin) for begin, end in map(self._held, trades)]
        axes.broken_barh(spans, (0, 1), transform=axes.get_xaxis_transform(), color=color, alpha=0.16, lw=0)

    def _mark(self, axes: Axes, trades: Sequence[Json], color: str) -> None:
        for side, marker in (("entry", "^"), ("exit", "v")):
            done = [trade for trade in trades if trade[f"{side}_time"]]
            bars = [self._find_bar(trade[f"{side}_time"]) for trade in done]
            prices_usd = [trade[f"{side}_price_usd"] for trade in done]
            axes.plot(bars, prices_usd, marker=marker, ms=5.5, mew=0, ls="", color=color)


def _trends(result: Result) -> dict[str, Numbers]:
    """Return the trend line's value at each bar by symbol, NaN where there was no forecast."""
    found: dict[str, Numbers] = {}
    for number, bar in enumerate(result.bars):
        for forecast in bar.decision.forecasts if bar.decision else ():
            found.setdefault(forecast.symbol, np.full(len(result.bars), np.nan))[number] = forecast.trend_usd
    return found


def _tone(trade: Mapping[str, Any]) -> str:
    return TONES[trade["pnl_usd"] < 0]


def _chart(
    name: str,
    title: str,
    description: str,
    sizes: Sequence[Size],
    draw: Callable[[Axes, Size], None],
    margins: tuple[float, float] | None = None,
    values: Values | None = None,
) -> Chart:
    """Draw a chart in each size; `margins` are the fractions of the figure left of and below the axes."""
    pictures = []
    for size in sizes:
        figure = Figure(figsize=(size.width, size.height))
        axes = _axes(figure, margins or (0.72 / size.width, 0.36 / size.height))
        draw(axes, size)
        ends = svg.locate(figure, axes, values.places[0], values.places[-1]) if values else ()
        css_class = f"chart {size.name}"
        pictures.append(
            svg.inline(figure, title=title, description=description, salt=name, css_class=css_class, ends=ends)
        )
    return Chart(name, tuple(pictures), values)


def _values(**by_unit: Mapping[str, Numbers]) -> Values:
    """Return the values of lines over all bars, each by the name of its line, and those by their unit."""
    lines = [(name, unit, values) for unit, named in by_unit.items() for name, values in named.items()]
    count = len(lines[0][2])
    step = -(-count // MAX_VALUES)
    bars = list(range(count))[::-1][::step][::-1]
    return Values(places=[*bars], lines=[line(name, unit, values[bars]) for name, unit, values in lines])


def _axes(figure: Figure, margins: tuple[float, float]) -> Axes:
    """Return empty axes in the style of all charts."""
    left, bottom = margins
    axes = svg.add_axes(figure, (left, bottom, 0.995 - left, 0.97 - bottom), size=10)
    axes.set_axisbelow(True)
    return axes


def _time_axis(axes: Axes, figures: Json, *, room: float = 0.0, dates: int = 4, small: bool = False) -> None:
    """Scale the x axis to the bars and label `dates` of them; `room` is the share kept free for labels on the right."""
    times = figures["curve"]["times"]
    last = max(len(times) - 1, 1)
    axes.set_xlim(0, last * (1 + room))
    if small:
        axes.tick_params(labelsize=9)
    days = (new_york(times[-1]) - new_york(times[0])).total_seconds() / 86_400
    is_daily = figures["data"]["bar_interval"] == "1d"
    pattern = date_pattern(max(days, MIN_DAYS_OF_DATES) if is_daily else days)
    bars = sorted({round(share) for share in np.linspace(0, len(times) - 1, dates)})
    axes.set_xticks(bars, [f"{new_york(times[bar]):{pattern}}" for bar in bars])
    if not room:  # keep the last date inside the chart
        axes.get_xticklabels()[-1].set_horizontalalignment("right")
    axes.get_xticklabels()[0].set_horizontalalignment("left" if len(bars) > 1 else "center")


def _long_time_axis(axes: Axes, figures: Json, size: Size) -> None:
    """Draw the time axis that the charts of the equity and of its drawdown share, with room for labels."""
    is_wide = size.name == "wide"
    _time_axis(axes, figures, room=0.13 if is_wide else 0.36, dates=6 if is_wide else 3)


def _labels(axes: Axes, bar: int, labels: Sequence[tuple[float, str, str]], size: Size) -> None:
    """Label each line at its end with its name and last value; labels do not overlap."""
    low, high = axes.get_ylim()
    on_two_lines = size.name != "wide"
    apart = LABEL_GAP * (high - low) * (2 if on_two_lines else 1)
    at = -np.inf
    for value, name, color in sorted(labels):
        at = max(value, at + apart)
        said = f"{name}{'\n' if on_two_lines else ' '}{_whole(value)}"
        svg.add_text(axes, (bar, at), said, color, (8, 0), bold=color == "accent")


def _thin_out(values: Numbers, size: Size, pick: Callable[..., Any] | None = None) -> tuple[Numbers, Numbers]:
    """Reduce bars and values to what the chart can show; `pick` chooses one value of several, by default the last."""
    step = -(-len(values) // MAX_POINTS[size.name])
    ends = np.arange(len(values))[::-1][::step][::-1]
    if pick is None or step == 1:
        return ends.astype(np.float64), values[ends]
    return ends.astype(np.float64), np.array([pick(values[max(end - step + 1, 0) : end + 1]) for end in ends])


def _whole(usd: float) -> str:
    return f"{usd:,.0f}".replace("-", MINUS)


def _percents() -> PercentFormatter:
    return PercentFormatter(xmax=1, decimals=None)
