"""The charts of a backtest as inline SVG in the page's colors: wide for a desktop, and narrow for a phone."""

from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from markupsafe import Markup
from numpy.typing import NDArray

from scripts.backtest.model import Result
from scripts.backtest.report import formatting
from scripts.report.drawing import (
    CARD,
    CARD_MARGINS,
    CARD_TEXT,
    DASHES,
    DATES,
    FULL,
    MARGINS,
    ROOM_FOR_NAMES,
    TEXT,
    Drawing,
    Size,
    join_with_gaps,
    make_steps,
)
from scripts.report.formatting import MINUS, new_york, plain, usd
from scripts.report.scales import MIN_DAYS_OF_DATES, date_pattern, find_limits, pick_evenly
from scripts.report.values import Values, line
from trader.model import Json

type Numbers = NDArray[np.float64]

MAX_POINTS = {"wide": 900, "narrow": 300, "card": 250}
MAX_VALUES = 2_000
"""Maximum number of bars whose values a chart shows under the pointer."""

MAX_BARS = 30
"""Maximum number of symbols in the chart of results; if there are more, it shows the best and the worst."""

SYMBOL_CHARACTERS = 10
"""Maximum length of a label next to the bars, in characters; all US symbols fit."""

LOW: Mapping[str, Size] = {"wide": (FULL["wide"][0], 144.0), "narrow": (FULL["narrow"][0], 137.0)}
HALF: Mapping[str, Size] = {"wide": (569.0, 216.0), "narrow": (324.0, 187.0)}
"""The sizes of a chart below another, and of one beside another."""

MARGINS_OF_BARS = (56.0, 6.0, 4.0, 22.0)
MARGINS_OF_PARTS = (66.0, 6.0, 4.0, 6.0)
"""The margins of the results, which have numbers below them, and of the calibration, which has none."""

MARK = 5.5
"""The size of the mark of a purchase or a sale, in SVG units."""

TONES = "up", "down"
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

    def draw(name: str, size: Size) -> Drawing:
        cash, *drawn = (_thin_out(values, name) for values in (cash_usd, *(values for values, *_ in lines)))
        limits = find_limits(cash[1], *(shown for _, shown in drawn))
        drawing = _over_time(size, figures, limits, room=ROOM_FOR_NAMES[name], dates=DATES[name])
        drawing.scale_y()
        drawing.line(*cash, "muted", 1.1, dashes=DASHES)
        for (bars, shown), (_, _, color, width) in reversed([*zip(drawn, lines, strict=True)]):
            drawing.line(bars, shown, color, width)
        between = " " if name == "wide" else "\n"
        ends = [
            (float(values[-1]), f"{what}{between}{_whole(values[-1])}", color)
            for values, what, color, _ in [*lines, (cash_usd, "Cash", "muted", 1.1)]
        ]
        drawing.name_ends(len(cash_usd) - 1, ends)
        return drawing

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

    def draw(name: str, size: Size) -> Drawing:
        # The lowest of several values, so that the lowest point of all is kept.
        (bars, shown), *rest = (
            _thin_out(values, name, pick=np.min) for values in (own, *(each for each, *_ in others))
        )
        low, _ = find_limits(shown, *(values for _, values in rest), np.zeros(1))
        drawing = _over_time(size, figures, (low, 0.0), room=ROOM_FOR_NAMES[name], dates=DATES[name])
        drawing.scale_y(are_fractions=True)
        drawing.area(bars, shown, np.zeros(len(bars)), "accent", 0.2)
        for points, (_, _, color) in zip(rest, others, strict=True):
            drawing.line(*points, color, 0.9)
        drawing.line(bars, shown, "accent", 1.4)
        return drawing

    words = f"The equity was at most {abs(float(own.min())):.1%} below its highest value so far."
    shown = _values(percent={"Strategy": own} | {name: values for values, name, _ in others})
    return _chart("drawdown", "Drawdown", words, LOW, draw, values=shown)


def exposure(figures: Json) -> Chart:
    """Draw the invested share of the equity."""
    values = np.array(figures["curve"]["exposure_fraction"])

    def draw(name: str, size: Size) -> Drawing:
        bars, shown = make_steps(*_thin_out(values, name))
        drawing = _over_time(size, figures, (0.0, max(1.0, float(values.max()))))
        drawing.scale_y(are_fractions=True)
        drawing.area(bars, np.zeros(len(bars)), shown, "accent", 0.25)
        drawing.line(bars, shown, "accent", 1.2)
        return drawing

    words = f"On average, {float(values.mean()):.0%} of the equity was in positions."
    return _chart("exposure", "Invested share", words, HALF, draw, values=_values(percent={"Invested": values}))


def rolling(figures: Json) -> Chart:
    """Draw the Sharpe ratio of the window that ends at each bar, with its interval, and that of the whole span."""
    measured, whole = figures["curve"]["rolling_sharpe"], figures["key_figures"]["strategy"]["sharpe_ratio"]
    ratio, lower, upper = (np.array(measured[name], dtype=np.float64) for name in ("ratio", "lower", "upper"))

    def draw(name: str, size: Size) -> Drawing:
        (bars, shown), (_, low), (_, high) = (_thin_out(values, name) for values in (ratio, lower, upper))
        levels = np.array([0.0, 0.0 if whole is None else whole])
        drawing = _over_time(size, figures, find_limits(shown, low, high, levels))
        drawing.scale_y()
        drawing.area(bars, low, high, "accent", 0.18)
        drawing.level(0, "muted", 0.8)
        if whole is not None:
            drawing.level(whole, "ink", 0.9, dashes=DASHES)
        drawing.line(bars, shown, "accent", 1.4)
        return drawing

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
    usd = [row["pnl_usd"] for row in rows]
    low, high = min(*usd, 0.0), max(*usd, 0.0)
    room = 0.28 * ((high - low) or 1.0)  # for the numbers beside the bars
    limits = low - room * (low < 0), high + room
    sizes = {name: (width, max(115.0, 26 * len(rows) + 25.0)) for name, (width, _) in HALF.items()}

    def draw(_name: str, size: Size) -> Drawing:
        drawing = Drawing(size, MARGINS_OF_BARS, x=limits, y=(len(rows) - 0.4, -0.6))
        drawing.scale_x()
        for at, row in enumerate(rows):
            name, gained = plain(row["symbol"]), row["pnl_usd"]
            shown = name if len(name) <= SYMBOL_CHARACTERS else f"{name[: SYMBOL_CHARACTERS - 1]}…"
            side, anchor = (1, "start") if gained >= 0 else (-1, "end")
            drawing.boxes([(0, gained, at - 0.31, at + 0.31)], TONES[gained < 0])
            drawing.label(limits[0], at, shown, "ink", bold=True, anchor="end", offset=-6)
            value = f"{gained:+,.0f}".replace("-", MINUS)
            drawing.label(gained, at, value, "muted", anchor=anchor, offset=5 * side)
        drawing.upright(0, "muted", 0.8)
        return drawing

    said = ", ".join(f"{plain(row['symbol'])} {row['pnl_usd']:+,.0f} USD" for row in rows)
    return _chart("results", "Result by symbol", f"{said}.", sizes, draw)


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

    def draw(_name: str, size: Size) -> Drawing:
        drawing = Drawing(size, MARGINS_OF_PARTS, x=(0, 1), y=(4.5, -0.9))
        drawing.label(0, -0.62, "below, inside and above the interval", "muted", offset=0)
        for row, (name, parts) in enumerate(shares.items()):
            for left, part, color in zip(np.cumsum([0, *parts[:2]]), parts, ("down", "accent", "up"), strict=True):
                drawing.boxes([(left, left + part, row - 0.33, row + 0.33)], color, 0.75 if row == 0 else 0.3)
                if part >= 0.08:
                    middle = left + part / 2
                    drawing.label(middle, row, f"{part:.0%}", "ink", bold=True, anchor="middle", offset=0)
            drawing.label(0, row, name, "ink", anchor="end", offset=-6)
        drawing.label(0, 2.15, "mean error, as a share of the price", "muted", offset=0)
        for row, (name, error) in enumerate(errors.items(), start=3):
            end, middle = 0.8 * error / longest, row - 0.2
            drawing.boxes([(0, end, middle - 0.3, middle + 0.3)], "accent" if row == 3 else "muted")
            drawing.label(0, middle, name, "ink", anchor="end", offset=-6)
            drawing.label(end, middle, f"{error:.2%}", "muted", offset=6)
        return drawing

    return _chart("calibration", "Calibration", formatting.calibration(figures), HALF, draw)


class PriceCharts:
    """Small charts, one for each symbol: its closes, the trend line's value at each bar, and its trades."""

    def __init__(self, figures: Json, result: Result) -> None:
        """Take what all charts share: the prices, the trend lines and the times of the bars."""
        self._figures = figures
        self._closes = result.panel.close.reindex(pd.DatetimeIndex([bar.time for bar in result.bars], tz="UTC"))
        self._times = figures["curve"]["times"]
        self._trends = _trends(result)

    def draw(self, symbol: str, trades: Sequence[Json]) -> tuple[Markup, Values]:
        """Draw a symbol of the panel, with its `trades` from figures(); return the picture and the values behind it."""
        closes = self._closes[symbol].to_numpy(dtype=np.float64)
        trend = self._trends.get(symbol, np.full(len(closes), np.nan))
        drawing = self._draw(_thin_out(closes, "card"), _thin_out(trend, "card"), trades)
        name = plain(symbol)
        words = f"Closes of {name}, {formatting.dates(self._figures)}, with {len(trades)} trades marked."
        picture = drawing.element(f"{name}: price and trades", words, (0, len(closes) - 1))
        return picture, self._values(symbol, closes, trades)

    def _draw(self, closes: tuple[Numbers, Numbers], trend: tuple[Numbers, Numbers], trades: Sequence[Json]) -> Drawing:
        stops = join_with_gaps(self._stops(trades))
        marks = [
            (self._find_bar(trade[f"{side}_time"]), trade[f"{side}_price_usd"], _tone(trade), side)
            for trade in trades
            for side in ("entry", "exit")
            if trade[f"{side}_time"]
        ]
        limits = find_limits(closes[1], trend[1], stops[1], np.array([usd for _, usd, _, _ in marks]))
        drawing = _over_time(CARD, self._figures, limits, margins=CARD_MARGINS, text=CARD_TEXT)
        drawing.scale_y(CARD_TEXT)
        for tone in TONES:
            drawing.bands([self._held(trade) for trade in trades if _tone(trade) == tone], tone, 0.16)
        drawing.line(*closes, "ink", 1.0)
        drawing.line(*trend, "accent", 1.4)
        for tone in TONES:
            for side in ("entry", "exit"):
                points = [(bar, usd) for bar, usd, *kind in marks if kind == [tone, side]]
                drawing.triangles(points, tone, MARK, is_up=side == "entry")
        drawing.line(*stops, "down", 1.1, dashes="2.2 2.2")
        return drawing

    def _values(self, symbol: str, closes: Numbers, trades: Sequence[Json]) -> Values:
        bars = _thin_out(closes, "card")[0].astype(np.int64)
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

    def _stops(self, trades: Sequence[Json]) -> Iterator[tuple[tuple[int, int], tuple[float, float]]]:
        """Yield the line of each purchase's stop, as long as that was in the unit of the prices: not over a split."""
        for trade in trades:
            if trade["stop_loss_usd"] and trade["exit_quantity"] == trade["quantity"]:
                yield self._held(trade), (trade["stop_loss_usd"], trade["stop_loss_usd"])

    def _held(self, trade: Json) -> tuple[int, int]:
        """Return the bars of a purchase and of its sale, or the last bar."""
        return self._find_bar(trade["entry_time"]), self._find_bar(trade["exit_time"] or self._times[-1])

    def _find_bar(self, time: str) -> int:
        """Return the bar that has begun last at a time; all times are in UTC, and so in the order of their texts."""
        return bisect_right(self._times, time) - 1


def _trends(result: Result) -> dict[str, Numbers]:
    """Return the trend line's value at each bar by symbol, NaN where there was no forecast."""
    found: dict[str, Numbers] = {}
    for number, bar in enumerate(result.bars):
        for forecast in bar.decision.forecasts if bar.decision else ():
            if forecast.symbol not in found:
                found[forecast.symbol] = np.full(len(result.bars), np.nan)
            found[forecast.symbol][number] = forecast.trend_usd
    return found


def _tone(trade: Mapping[str, Any]) -> str:
    return TONES[trade["pnl_usd"] < 0]


def _chart(
    name: str,
    title: str,
    description: str,
    sizes: Mapping[str, Size],
    draw: Callable[[str, Size], Drawing],
    values: Values | None = None,
) -> Chart:
    """Draw a chart in each of the sizes, by their names."""
    ends = (values.places[0], values.places[-1]) if values else ()
    drawn = [(each, draw(each, size)) for each, size in sizes.items()]
    pictures = [drawing.element(title, description, ends, f"chart {each}") for each, drawing in drawn]
    return Chart(name, tuple(pictures), values)


def _values(**by_unit: Mapping[str, Numbers]) -> Values:
    """Return the values of lines over all bars, each by the name of its line, and those by their unit."""
    lines = [(name, unit, values) for unit, named in by_unit.items() for name, values in named.items()]
    count = len(lines[0][2])
    step = -(-count // MAX_VALUES)
    bars = list(range(count))[::-1][::step][::-1]
    return Values(places=[*bars], lines=[line(name, unit, values[bars]) for name, unit, values in lines])


def _over_time(
    size: Size,
    figures: Json,
    limits: tuple[float, float],
    *,
    room: float = 0.0,
    dates: int = 4,
    margins: tuple[float, float, float, float] = MARGINS,
    text: float = TEXT,
) -> Drawing:
    """Begin a chart whose x axis is the bars, with `dates` of them; `room` is the share for names on the right."""
    times = figures["curve"]["times"]
    drawing = Drawing(size, margins, x=(0, max(len(times) - 1, 1) * (1 + room)), y=limits)
    days = (new_york(times[-1]) - new_york(times[0])).total_seconds() / 86_400
    is_daily = figures["data"]["bar_interval"] == "1d"
    pattern = date_pattern(max(days, MIN_DAYS_OF_DATES) if is_daily else days)
    drawing.label_x([(bar, f"{new_york(times[bar]):{pattern}}") for bar in pick_evenly(len(times), dates)], text)
    return drawing


def _thin_out(values: Numbers, size: str, pick: Callable[..., Any] | None = None) -> tuple[Numbers, Numbers]:
    """Reduce bars and values to what the chart can show; `pick` chooses one value of several, by default the last."""
    step = -(-len(values) // MAX_POINTS[size])
    ends = np.arange(len(values))[::-1][::step][::-1]
    if pick is None or step == 1:
        return ends.astype(np.float64), values[ends]
    return ends.astype(np.float64), np.array([pick(values[max(end - step + 1, 0) : end + 1]) for end in ends])


def _whole(usd: float) -> str:
    return f"{usd:,.0f}".replace("-", MINUS)
