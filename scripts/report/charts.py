"""Small SVG charts, one per symbol: its closes, Prophet's trend line, and the gap that the decision is based on."""

from datetime import datetime

import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter
from numpy.typing import NDArray

from scripts.report import formatting, svg, values
from scripts.report.formatting import DecisionRow
from scripts.report.svg import COLORS
from scripts.report.values import Values
from trader.model import NEW_YORK, Json

type Points = NDArray[np.float64]

SIZE_INCHES = (5.0, 2.5)  # 72 SVG units an inch
MAX_POINTS = 250
ROOM_FOR_LABELS = 0.19  # to the right of the last price, as a fraction of the width
LABEL_GAP = 0.1  # minimum distance between two labels, as a fraction of the height
BEND = 0.004  # a corner that bends the line by more, as a fraction of the height, gets a dot


class Charts:
    """Charts drawn one after the other on the same figure, so that many symbols need no more memory than one."""

    def __init__(self, settings: Json) -> None:
        """Prepare a figure; the dead band of the rule in `settings`, if it has one, is drawn around the line."""
        self._band_fraction = formatting.dead_band_fraction(settings)
        self._figure = Figure(figsize=SIZE_INCHES)

    def draw(self, row: DecisionRow, closes: Json) -> tuple[Markup, Values]:
        """Draw a row's prices and its forecast, if it has one; return the picture and the values behind it.

        `closes` is the observation's `times` and `usd` of its symbol.
        """
        axes = svg.add_axes(self._figure, (0.08, 0.13, 0.915, 0.84), size=9)
        if row.forecast:
            self._draw(axes, row.forecast, closes)
        else:
            _draw_prices(axes, closes)
        title, description = _words(row, row.forecast, closes)
        behind = _values(row.forecast, closes)
        ends = svg.locate(self._figure, axes, behind.places[0], behind.places[-1])
        picture = svg.inline(self._figure, title=title, description=description, salt=row.symbol, ends=ends)
        return picture, behind

    def _draw(self, axes: Axes, forecast: Json, closes: Json) -> None:
        times, prices = _thin_out(np.array(closes["times"], dtype=np.float64), np.array(closes["usd"]))
        line_times, line = _trend(forecast)
        shown = [prices, line]
        if self._band_fraction is not None and len(line):
            below, above = line * (1 - self._band_fraction), line * (1 + self._band_fraction)
            axes.fill_between(line_times, below, above, color=COLORS["accent"], alpha=0.22, lw=0, clip_on=False)
            shown += [below, above]
        interval = _interval(forecast)
        if interval:
            shown.append(np.array(interval))
        end = _horizon(forecast) if interval else float(times[-1])
        low, high = _frame(axes, times, max(end, float(times[-1])), np.concatenate(shown))
        axes.plot(times, prices, color=COLORS["ink"], lw=1.0, clip_on=False, solid_joinstyle="round")
        axes.plot(line_times, line, color=COLORS["accent"], lw=1.9, clip_on=False)
        bends = _bends(line_times, line, BEND * (high - low))
        axes.plot(line_times[bends], line[bends], "o", ms=3.6, color=COLORS["accent"], mew=0, clip_on=False)
        self._mark_gap(axes, float(times[-1]), forecast, interval, high - low)

    def _mark_gap(self, axes: Axes, last: float, forecast: Json, interval: tuple[float, ...], height: float) -> None:
        price_usd = forecast["price_usd"]
        other_usd, style = (forecast["yhat_usd"], "tone") if interval else (forecast["trend_usd"], "accent")
        if interval:
            horizon = _horizon(forecast)
            axes.plot([horizon] * 2, interval, color=COLORS["tone"], lw=5, alpha=0.4, clip_on=False)
            axes.plot([horizon], [other_usd], "_", ms=9, mew=1.8, color=COLORS["tone"], clip_on=False)
            label_at = max(last, horizon)
        else:
            axes.plot([last] * 2, [forecast["trend_usd"], price_usd], color=COLORS["tone"], lw=2.4, clip_on=False)
            label_at = last
        axes.plot([last], [price_usd], "o", ms=6, color=COLORS["tone"], mew=0, clip_on=False)
        apart = LABEL_GAP * height
        middle, up = (price_usd + other_usd) / 2, 1 if price_usd >= other_usd else -1
        half = max(abs(price_usd - other_usd), apart) / 2 * up
        for at, usd, color in ((middle + half, price_usd, "ink"), (middle - half, other_usd, style)):
            svg.add_text(axes, (label_at, at), formatting.usd(usd), color, (7, 0), fontsize=10, bold=color == "ink")


def _trend(forecast: Json) -> tuple[Points, Points]:
    """Return the times of the trend line's ends and corners, and its values there."""
    times = np.array([formatting.new_york(time).timestamp() for time, _ in forecast["line"]])
    return times, np.array([usd for _, usd in forecast["line"]], dtype=np.float64)


def _values(forecast: Json | None, closes: Json) -> Values:
    times, prices = _thin_out(np.array(closes["times"], dtype=np.float64), np.array(closes["usd"], dtype=np.float64))
    lines = [values.line("Price", "usd", prices)]
    corners, usd = _trend(forecast) if forecast else (np.empty(0), np.empty(0))
    if len(corners):
        lines.append(values.line("Trend line", "usd", np.interp(times, corners, usd, left=np.nan, right=np.nan)))
    pattern = "%-d %b %Y" if float(np.diff(times).min(initial=86_400)) > 43_200 else "%-d %b %Y, %H:%M"
    return Values(places=times.tolist(), lines=lines, labels=[f"{_local(time):{pattern}}" for time in times.tolist()])


def _draw_prices(axes: Axes, closes: Json) -> None:
    """Draw the prices of a rule that reads no forecast."""
    times, prices = _thin_out(np.array(closes["times"], dtype=np.float64), np.array(closes["usd"], dtype=np.float64))
    _frame(axes, times, float(times[-1]), prices)
    axes.plot(times, prices, color=COLORS["ink"], lw=1.0, clip_on=False, solid_joinstyle="round")
    axes.plot(times[-1:], prices[-1:], "o", ms=6, color=COLORS["tone"], mew=0, clip_on=False)
    last = float(prices[-1])
    svg.add_text(axes, (float(times[-1]), last), formatting.usd(last), "ink", (7, 0), fontsize=10, bold=True)


def _frame(axes: Axes, times: Points, end: float, values: Points) -> tuple[float, float]:
    """Set the axes' limits and labels, and return the lower and upper price limits. `end` is the last time shown."""
    low, high = float(values.min()), float(values.max())
    margin = 0.05 * (high - low) or 0.01 * high
    width = float(times[-1] - times[0]) or 1.0
    axes.set_xlim(float(times[0]), end + ROOM_FOR_LABELS * (end - float(times[0]) or 1.0))
    axes.set_ylim(low - margin, high + margin)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda usd, _: f"{usd:,g}"))
    ticks = [float(times[0] + width * share) for share in (0, 1 / 3, 2 / 3, 1)]
    pattern = svg.date_pattern(width / 86_400)
    axes.set_xticks(ticks, [f"{_local(tick):{pattern}}" for tick in ticks])
    return low - margin, high + margin


def _horizon(forecast: Json) -> float:
    return formatting.new_york(forecast["horizon_time"]).timestamp()


def _interval(forecast: Json) -> tuple[float, ...]:
    """Return the lower and upper ends of the forecast's interval; empty if the rule needed no interval."""
    ends = (forecast.get("lower_usd"), forecast.get("upper_usd"))
    return tuple(float(end) for end in ends if end is not None) if None not in ends else ()


def _bends(times: Points, line: Points, min_usd: float) -> NDArray[np.bool_]:
    """Return a mask of the corners that bend the line by more than `min_usd`."""
    bends = np.zeros(len(line), dtype=np.bool_)
    if len(line) > 2:
        share = (times[1:-1] - times[:-2]) / (times[2:] - times[:-2])
        straight = line[:-2] + share * (line[2:] - line[:-2])
        bends[1:-1] = np.abs(line[1:-1] - straight) > min_usd
    return bends


def _thin_out(times: Points, prices: Points) -> tuple[Points, Points]:
    """Keep every n-th bar and the last one, so that a page of many charts stays small."""
    step = -(-len(prices) // MAX_POINTS)
    return times[::-1][::step][::-1], prices[::-1][::step][::-1]


def _local(epoch_s: float) -> datetime:
    return datetime.fromtimestamp(epoch_s, NEW_YORK)


def _words(row: DecisionRow, forecast: Json | None, closes: Json) -> tuple[str, str]:
    """Return the chart's title and description, for screen readers."""
    first, last = _local(closes["times"][0]), _local(closes["times"][-1])
    span = f"Closes of {row.symbol} from {first:%-d %B %Y} to {last:%-d %B %Y}."
    insight = f"Insight: {row.direction or 'none'}."
    if forecast is None:
        return f"{row.symbol}: price", f"{span} The last one is {formatting.usd(closes['usd'][-1])} USD. {insight}"
    away = forecast["price_usd"] / forecast["trend_usd"] - 1
    where = (
        f"The last one, {formatting.usd(forecast['price_usd'])} USD, is {abs(away):.1%} "
        f"{'above' if away > 0 else 'below'} the trend line at {formatting.usd(forecast['trend_usd'])} USD."
    )
    return f"{row.symbol}: price and trend line", f"{span} {where} {insight}"
