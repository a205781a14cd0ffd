"""Small SVG charts, one per symbol: its closes, Prophet's trend line, and the gap that the decision is based on."""

from datetime import datetime

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from scripts.report import formatting, values
from scripts.report.drawing import CARD, CARD_MARGINS, CARD_TEXT, Drawing
from scripts.report.formatting import DecisionRow
from scripts.report.scales import Points, date_pattern, find_limits
from scripts.report.values import Values
from trader.model import NEW_YORK, Json

MAX_POINTS = 250
ROOM_FOR_LABELS = 0.19  # to the right of the last price, as a fraction of the width
LABEL_GAP = 0.1  # minimum distance between two labels, as a fraction of the height
BEND = 0.004  # a corner that bends the line by more, as a fraction of the height, gets a dot


class Charts:
    """Draws the charts of a run, one after the other."""

    def __init__(self, settings: Json) -> None:
        """Prepare for a rule in `settings`; its dead band, if it has one, is drawn around the line."""
        self._band_fraction = formatting.dead_band_fraction(settings)

    def draw(self, row: DecisionRow, closes: Json) -> tuple[Markup, Values]:
        """Draw a row's prices and its forecast, if it has one; return the picture and the values behind it.

        `closes` is the observation's `times` and `usd` of its symbol.
        """
        drawing = self._draw(row.forecast, closes) if row.forecast else _draw_prices(closes)
        title, description = _words(row, row.forecast, closes)
        behind = _values(row.forecast, closes)
        return drawing.element(title, description, (behind.places[0], behind.places[-1])), behind

    def _draw(self, forecast: Json, closes: Json) -> Drawing:
        times, prices = _thin_out(np.array(closes["times"], dtype=np.float64), np.array(closes["usd"]))
        line_times, line = _trend(forecast)
        shown = [prices, line]
        has_band = self._band_fraction is not None and len(line) > 0
        below, above = (line * (1 + side * (self._band_fraction or 0.0)) for side in (-1, 1))
        interval = _interval(forecast)
        shown += [below, above] if has_band else []
        shown += [np.array(interval)] if interval else []
        end = _horizon(forecast) if interval else float(times[-1])
        drawing, height = _frame(times, max(end, float(times[-1])), np.concatenate(shown))
        if has_band:
            drawing.area(line_times, below, above, "accent", 0.22)
        _draw_axes(drawing, times)
        drawing.line(times, prices, "ink", 1.0)
        if len(line):
            drawing.line(line_times, line, "accent", 1.9)
            bends = _bends(line_times, line, BEND * height)
            drawing.dots(line_times[bends], line[bends], "accent", 1.8)
        _mark_gap(drawing, float(times[-1]), forecast, interval, height)
        return drawing


def _mark_gap(drawing: Drawing, last: float, forecast: Json, interval: tuple[float, ...], height: float) -> None:
    price_usd = forecast["price_usd"]
    other_usd, style = (forecast["yhat_usd"], "tone") if interval else (forecast["trend_usd"], "accent")
    if interval:
        horizon = _horizon(forecast)
        drawing.line(np.array([horizon] * 2), np.array(interval), "tone", 5, opacity=0.4)
        drawing.dash(horizon, other_usd, "tone", 9, 1.8)
        label_at = max(last, horizon)
    else:
        drawing.line(np.array([last] * 2), np.array([forecast["trend_usd"], price_usd]), "tone", 2.4)
        label_at = last
    drawing.dots([last], [price_usd], "tone", 3)
    apart = LABEL_GAP * height
    middle, up = (price_usd + other_usd) / 2, 1 if price_usd >= other_usd else -1
    half = max(abs(price_usd - other_usd), apart) / 2 * up
    for at, usd, color in ((middle + half, price_usd, "ink"), (middle - half, other_usd, style)):
        drawing.label(label_at, at, formatting.usd(usd), color, size=10, bold=color == "ink")


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


def _draw_prices(closes: Json) -> Drawing:
    """Draw the prices of a rule that reads no forecast."""
    times, prices = _thin_out(np.array(closes["times"], dtype=np.float64), np.array(closes["usd"], dtype=np.float64))
    last_time, last_usd = float(times[-1]), float(prices[-1])
    drawing, _ = _frame(times, last_time, prices)
    _draw_axes(drawing, times)
    drawing.line(times, prices, "ink", 1.0)
    drawing.dots([last_time], [last_usd], "tone", 3)
    drawing.label(last_time, last_usd, formatting.usd(last_usd), "ink", size=10, bold=True)
    return drawing


def _frame(times: Points, end: float, values: Points) -> tuple[Drawing, float]:
    """Begin a drawing with room for these values; return it and its height in USD. `end` is the last time shown."""
    low, high = find_limits(values)
    first = float(times[0])
    x = first, end + ROOM_FOR_LABELS * (end - first or 1.0)
    return Drawing(CARD, CARD_MARGINS, x=x, y=(low, high)), high - low


def _draw_axes(drawing: Drawing, times: Points) -> None:
    """Draw the grid and the labels of both axes."""
    width = float(times[-1] - times[0]) or 1.0
    pattern = date_pattern(width / 86_400)
    ticks = (float(times[0] + width * share) for share in (0, 1 / 3, 2 / 3, 1))
    drawing.label_x([(tick, f"{_local(tick):{pattern}}") for tick in ticks], CARD_TEXT)
    drawing.scale_y(CARD_TEXT)


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
