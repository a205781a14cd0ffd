"""Results of made-up backtests: prices, fills, and the account that follows from both."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pandas as pd

from scripts.backtest.model import Bar, Fill, Options, Panel, Refusal, Result, Scored
from tests.builders import settings
from trader.broker.base import OrderId
from trader.model import NEW_YORK, Closes, Code, Decision, Denial, Forecast, Note, Order, Side

FIRST_DAY = "2021-01-04"
SYMBOLS = ("AAA", "BBB", "BRK.B", "DDD")


def panel(closes: Mapping[str, Sequence[float]], times: pd.DatetimeIndex | None = None, **fields: Any) -> Panel:
    """Return a panel of closes only; NaN stands for a missing close.

    The bars start at `times`, in New York; by default there is one per business day from 4 January 2021.
    """
    if times is None:
        times = pd.bdate_range(FIRST_DAY, periods=len(next(iter(closes.values()))))
    index = times.tz_localize(NEW_YORK).tz_convert("UTC")
    close = pd.DataFrame({symbol: [float(usd) for usd in prices] for symbol, prices in closes.items()}, index=index)
    return Panel(open=close, high=close, low=close, close=close, **{"has_ohlc": False, "source": "made up", **fields})


def fill(panel: Panel, bar: int, symbol: str, quantity: float, price_usd: float, **fields: Any) -> Fill:
    """Return a fill in bar number `bar`: a purchase, or a sale if the quantity is negative."""
    side = Side.BUY if quantity > 0 else Side.SELL
    time = panel.close.index[bar].to_pydatetime()
    given = {
        "client_order_id": str(OrderId("trend", time, symbol, side)),
        "kind": "market",
        "decided_price_usd": price_usd,
        "commission_usd": 0.0,
        "reason": "it is a test",
    }
    return Fill(time=time, symbol=symbol, side=side, quantity=abs(quantity), price_usd=price_usd, **{**given, **fields})


def result(
    panel: Panel,
    fills: Sequence[Fill] = (),
    *,
    first: int = 0,
    options: Mapping[str, Any] | None = None,
    decisions: Mapping[datetime, Decision] | None = None,
    **fields: Any,
) -> Result:
    """Return the result from bar `first` on.

    Before a bar's fills, shares are restated for a split of that bar; after them, the account is valued at the last
    prices.
    """
    chosen = Options(**{"settings": settings(), "cash_usd": 1_000.0, "slippage_fraction": 0.0, **(options or {})})
    prices, cash_usd, held, bars = panel.close.ffill(), chosen.cash_usd, dict.fromkeys(panel.close, 0.0), []
    for time in panel.close.index[first:]:
        for split in (split for split in fields.get("restatements", ()) if split.time == time):
            held[split.symbol] = split.quantity_after
            cash_usd += split.cash_usd
        for each in (each for each in fills if each.time == time):
            change = each.quantity if each.side is Side.BUY else -each.quantity
            held[each.symbol] += change
            cash_usd -= change * each.price_usd + each.commission_usd
        positions = {str(symbol): quantity for symbol, quantity in held.items() if quantity}
        bars.append(
            Bar(
                time=time.to_pydatetime(),
                slot=time.to_pydatetime() + timedelta(hours=15),
                status="TRADED" if positions else "NOTHING_TO_DO",
                detail="",
                equity_usd=cash_usd
                + sum(quantity * float(prices[each].loc[time]) for each, quantity in positions.items()),
                cash_usd=cash_usd,
                positions=positions,
                decision=(decisions or {}).get(time.to_pydatetime()),
            )
        )
    return Result(options=chosen, panel=panel, bars=tuple(bars), fills=tuple(fills), **fields)


def with_bracket(made: Result, buy: Fill, *, stop_loss_usd: float, take_profit_usd: float) -> Result:
    """Return the result with the order of a purchase, which has a bracket, among what was placed at the first bar."""
    order = Order(
        client_order_id=buy.client_order_id,
        symbol=buy.symbol,
        side=buy.side,
        quantity=buy.quantity,
        price_usd=buy.price_usd,
        stop_loss_usd=stop_loss_usd,
        take_profit_usd=take_profit_usd,
    )
    return replace(made, bars=(replace(made.bars[0], outcomes=(order,)), *made.bars[1:]))


def score(symbol: str, price_usd: float, yhat_usd: float, half_width_usd: float, actual_usd: float) -> Scored:
    """Return the score of a forecast one day ahead whose interval extends `half_width_usd` to either side."""
    time = datetime(2021, 1, 4, 5, tzinfo=NEW_YORK)
    return Scored(
        symbol=symbol,
        time=time,
        horizon_time=time + timedelta(days=1),
        actual_time=time + timedelta(days=1),
        price_usd=price_usd,
        yhat_usd=yhat_usd,
        lower_usd=yhat_usd - half_width_usd,
        upper_usd=yhat_usd + half_width_usd,
        actual_usd=actual_usd,
    )


def year_of_trading(symbols: Sequence[str] = SYMBOLS, bars: int = 300, *, reason: str = "", **fields: Any) -> Result:
    """Return a backtest of symbols that swing around rising lines.

    All symbols but the last are bought below their 40-bar mean and sold above it, or at a stop loss. Every bar has
    forecasts and a denial, and there are scores, refusals and notes. `reason`, if given, replaces every text.
    """
    history = 50
    closes = {
        symbol: [
            (40 + 25 * number)
            * (1 + 0.0007 * bar * (1 - number % 6 / 6) + 0.08 * math.sin(bar / (9 + number)))
            * (1 + 0.012 * math.sin(bar * 2.3 + number * 1.7))
            for bar in range(history + bars)
        ]
        for number, symbol in enumerate(symbols)
    }
    over = panel(closes, source=reason or "made-up closes of a few symbols", notes=_notes(symbols, reason))
    lines = {symbol: over.close[symbol].rolling(40, min_periods=1).mean() for symbol in symbols}
    fills = [each for symbol in symbols[:-1] for each in _fills(over, symbol, lines[symbol], history, reason)]
    fills.sort(key=lambda each: (each.time, each.symbol))
    given = {
        "first": history,
        "options": {"cash_usd": 100_000.0, "commission_fraction": 0.0005, "slippage_fraction": 0.0005},
        "decisions": _decisions(over, lines, reason),
        "refusals": _refusals(over, symbols[0], reason),
        "scored": tuple(_scores(over, lines, symbols, history)),
        "timings_s": {"pipeline": 1.25, "backtrader": 0.25},
    }
    return result(over, fills, **{**given, **fields})


def _fills(over: Panel, symbol: str, line: Closes, history: int, reason: str) -> list[Fill]:
    prices, fills, bought_usd = over.close[symbol], [], 0.0
    for bar in range(history, len(prices) - 1):
        usd, gap = float(prices.iloc[bar + 1]), float(prices.iloc[bar] / line.iloc[bar] - 1)
        quantity = 20_000 // bought_usd if bought_usd else 0
        why = {"commission_usd": round(usd * (quantity or 20_000 // usd) * 0.0005, 2)}
        words = reason or f"price {prices.iloc[bar]:,.2f} is {abs(gap):.1%} away from its trend line"
        if not bought_usd and gap < -0.03:
            bought_usd = usd * 1.0005
            fills.append(fill(over, bar + 1, symbol, 20_000 // bought_usd, bought_usd, reason=words, **why))
        elif bought_usd and usd < 0.96 * bought_usd:
            fills.append(fill(over, bar + 1, symbol, -quantity, usd * 0.9995, kind="stop-loss", reason=words, **why))
            bought_usd = 0.0
        elif bought_usd and gap > 0.03:
            fills.append(fill(over, bar + 1, symbol, -quantity, usd * 0.9995, reason=words, **why))
            bought_usd = 0.0
    return fills


def _decisions(over: Panel, lines: Mapping[str, Closes], reason: str) -> dict[datetime, Decision]:
    detail = reason or "13.20 USD to spend is less than one share"
    return {
        time.to_pydatetime(): Decision(
            forecasts=tuple(
                Forecast(
                    symbol=symbol,
                    time=time.to_pydatetime(),
                    price_usd=float(over.close[symbol].loc[time]),
                    trend_usd=float(line.loc[time]),
                )
                for symbol, line in lines.items()
            ),
            denials=(Denial(symbol=next(iter(lines)), code=Code.QUANTITY_BELOW_ONE, detail=detail),),
        )
        for time in over.close.index
    }


def _refusals(over: Panel, symbol: str, reason: str) -> tuple[Refusal, ...]:
    words = reason or "not enough cash at its bar"
    times = [time.to_pydatetime() for time in over.close.index[60:66:5]]
    return tuple(
        Refusal(time=time, client_order_id=f"trend-{time:%Y%m%d}-buy", symbol=symbol, reason=words) for time in times
    )


def _scores(over: Panel, lines: Mapping[str, Closes], symbols: Sequence[str], history: int) -> list[Scored]:
    return [
        score(symbol, float(prices.iloc[bar]), float(line.iloc[bar]), 0.06 * float(prices.iloc[bar]), float(actual))
        for symbol in symbols
        for prices, line in [(over.close[symbol], lines[symbol])]
        for bar, actual in zip(range(history, len(prices) - 1), prices.iloc[history + 1 :], strict=True)
    ]


def _notes(symbols: Sequence[str], reason: str) -> tuple[Note, ...]:
    words = reason or "changes by 51% from one bar to the next, like a split that the prices are not adjusted for"
    return (Note(symbol=symbols[0], what=words), Note(symbol="", what=reason or "2 bars are missing in all symbols"))
