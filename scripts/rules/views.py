"""The views that a rule is tried on: of the sample, of awkward prices, and of 500 symbols.

All are made from a table of real closes and a fixed seed, so that two processes make the same. For a rule that needs
them, the opens, highs, lows and volumes are made up.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, time, timedelta

import numpy as np
import pandas as pd

from scripts.rules.kinds import (
    CONSTANT,
    EXTRA_BARS,
    GAPS,
    NEW,
    NO_VOLUME,
    NOTHING,
    ONE,
    SAMPLE,
    SLOTS,
    SYMBOLS,
    TINY,
)
from scripts.testkit.made_up import make_up
from trader.alpha.base import AlphaModel, View
from trader.forecasting.base import ForecastSpec
from trader.model import NEW_YORK, Closes, Forecast, Position
from trader.stages.pipeline import find_short

DUE = time(15, 45)
"""When a slot is due, in New York."""


@dataclass(frozen=True, slots=True)
class Trial:
    """A view with its kind."""

    kind: str
    view: View

    @property
    def key(self) -> str:
        """What tells the trials of one list apart."""
        return f"{self.kind} {self.view.slot:%Y-%m-%d}"


def make_trials(closes: Mapping[str, Closes], rule: AlphaModel, bars: int) -> Sequence[Trial]:
    """Return one view of each kind, and SLOTS of the sample. `bars` are the closes that the bot gives a rule."""
    return [*make_sample(closes, rule, bars), *make_awkward(closes, rule, bars)]


def make_sample(
    closes: Mapping[str, Closes], rule: AlphaModel, bars: int, *, has_future: bool = False
) -> Sequence[Trial]:
    """Return views of the sample at days spread over it; `has_future` leaves later closes in the memory behind."""
    table = closes if len(_find_longest(closes)) > bars + SLOTS else make_closes(len(closes), bars + 60)
    length = len(_find_longest(table))
    trials = []
    ends = np.linspace(bars + 1, length - 1, SLOTS).astype(int)
    ends[1::2] = [find_month(_find_longest(table), int(end), bars + 1) for end in ends[1::2]]
    for number, end in enumerate(ends):
        seen = {symbol: each.iloc[max(0, int(end) - bars) : int(end)] for symbol, each in table.items()}
        shown = seen if has_future else {symbol: each.copy() for symbol, each in seen.items()}
        trials.append(Trial(SAMPLE, make_view(shown, rule, is_holding=number % 2 == 1)))
    return trials


def find_month(closes: Closes, end: int, least: int) -> int:
    """Return how many closes there are up to the first day of the month that the last of `end` closes lies in.

    Rules that change what they hold once a month decide there. It is the next month's if there are fewer than `least`.
    """
    months = pd.DatetimeIndex(closes.index).tz_convert(NEW_YORK).strftime("%Y-%m").to_numpy()
    firsts = np.flatnonzero(months[1:] != months[:-1]) + 2  # the closes up to the first one of a month, counted
    usable = firsts[firsts >= least]
    earlier = usable[usable <= end]
    return int(earlier[-1] if len(earlier) else usable[0] if len(usable) else end)


def make_awkward(closes: Mapping[str, Closes], rule: AlphaModel, bars: int) -> Iterator[Trial]:
    """Yield the views of all other kinds."""
    table = closes if len(_find_longest(closes)) >= bars * 2 else make_closes(len(closes), bars * 2)
    last = {symbol: each.iloc[-bars:].copy() for symbol, each in table.items()}
    first = next(iter(last))
    flat = pd.Series(100.0, index=last[first].index)
    tiny = pd.Series(np.where(np.arange(len(flat)) % 3 == 0, 0.0002, 0.0001), index=flat.index)
    yield Trial(ONE, make_view({first: last[first]}, rule))
    yield Trial(GAPS, make_view({symbol: _take_gaps(each, bars) for symbol, each in table.items()}, rule))
    yield Trial(CONSTANT, make_view({first: flat.rename(first), "FLAT": flat.rename("FLAT")}, rule))
    yield Trial(TINY, make_view({first: tiny.rename(first), "FLAT": flat.rename("FLAT") / 1e6}, rule))
    if rule.facts.ohlcv:
        yield Trial(NO_VOLUME, _take_volumes(make_view(last, rule)))
    yield Trial(NEW, make_view({**last, "NEW": last[first].iloc[-1:].rename("NEW")}, rule, is_holding=True))
    yield Trial(NOTHING, make_view({}, rule, slot=make_slot(flat)))


def make_big(rule: AlphaModel, bars: int) -> View:
    """Return the view for time and memory."""
    return make_view(make_closes(SYMBOLS, bars + EXTRA_BARS), rule)


def make_view(
    closes: Mapping[str, Closes], rule: AlphaModel, *, slot: datetime | None = None, is_holding: bool = False
) -> View:
    """Return a view as the pipeline makes it: without symbols too short for the rule, but with all that is held."""
    short = {each.symbol for each in find_short(closes, rule)} if rule.forecast_spec is None else set()
    shown = {symbol: each for symbol, each in closes.items() if symbol not in short}
    held = [*list(closes)[::3], *short] if is_holding else []
    due = slot or make_slot(_find_longest(closes))
    return View(
        slot=due,
        closes=shown,
        ohlv={symbol: make_up(each) for symbol, each in shown.items() if rule.facts.ohlcv},
        forecasts=dict(make_forecasts(shown, rule.forecast_spec, due)) if rule.forecast_spec else {},
        positions={symbol: hold(symbol, closes[symbol]) for symbol in held},
        bought_at={symbol: closes[symbol].index[-min(5, len(closes[symbol]))].to_pydatetime() for symbol in held},
    )


def make_slot(closes: Closes) -> datetime:
    """Return the slot of the day of the last close, in UTC."""
    day = pd.DatetimeIndex(closes.index)[-1].tz_convert(NEW_YORK).date()
    due: datetime = pd.Timestamp(datetime.combine(day, DUE), tz=NEW_YORK).tz_convert("UTC").to_pydatetime()
    return due


def hold(symbol: str, closes: Closes) -> Position:
    """Return a holding of ten shares, bought 5 % below the last close."""
    price = float(closes.iloc[-1])
    return Position(symbol=symbol, quantity=10, average_price_usd=round(price * 0.95, 4), price_usd=price)


def make_forecasts(closes: Mapping[str, Closes], spec: ForecastSpec, slot: datetime) -> Iterator[tuple[str, Forecast]]:
    """Yield a forecast for each symbol with enough bars: a straight line stands in for Prophet's."""
    for symbol, each in closes.items():
        if len(each) < spec.min_bars:
            continue
        values = each.to_numpy()
        steps = np.arange(len(values))
        slope, level = np.polyfit(steps, values, 1)
        spread = float(np.std(values - (level + slope * steps)))
        end = float(level + slope * steps[-1])
        times = [moment.to_pydatetime() for moment in pd.DatetimeIndex(each.index)[[0, -1]]]
        ahead = end + float(slope) * (spec.ahead_bars or 0)
        is_ahead = spec.ahead_bars is not None
        yield (
            symbol,
            Forecast(
                symbol=symbol,
                time=times[-1],
                price_usd=float(values[-1]),
                trend_usd=end,
                horizon_time=slot + timedelta(days=spec.ahead_bars or 0) if is_ahead else None,
                yhat_usd=ahead if is_ahead else None,
                lower_usd=ahead - spread if is_ahead else None,
                upper_usd=ahead + spread if is_ahead else None,
                line=((times[0], float(level)), (times[-1], end)),
            ),
        )


def make_closes(symbols: int, bars: int) -> Mapping[str, Closes]:
    """Return random walks on business days, from a fixed seed."""
    days = pd.bdate_range(end="2022-12-30", periods=bars, tz=NEW_YORK).tz_convert("UTC")
    steps = np.random.default_rng(1).normal(0.0003, 0.02, (symbols, bars))
    prices = np.round(50 * np.exp(np.cumsum(steps, axis=1)) + 0.01, 3)
    return {f"S{number:03}": pd.Series(row, index=days, name=f"S{number:03}") for number, row in enumerate(prices)}


def _take_gaps(closes: Closes, bars: int) -> Closes:
    """Return as many closes, of which each fifth day and a month are missing between the others."""
    whole = closes.iloc[-bars * 2 :]
    number = np.arange(len(whole))
    middle = len(whole) // 2
    is_missing = (number % 5 == 0) | ((number >= middle) & (number < middle + min(21, bars // 2)))
    is_missing[-1] = False
    left: Closes = whole[~is_missing].iloc[-bars:].copy()
    return left


def _take_volumes(view: View) -> View:
    """Return the view with bars whose volume is 0 or not known, the last one among them."""
    taken = {symbol: each.copy() for symbol, each in view.ohlv.items()}
    for each in taken.values():
        each[len(each) // 2 :: 7, -1] = 0.0
        each[-1, -1] = np.nan
    return replace(view, ohlv=taken)


def _find_longest(closes: Mapping[str, Closes]) -> Closes:
    return max(closes.values(), key=len)
