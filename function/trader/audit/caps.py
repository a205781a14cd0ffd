"""A second checker of the caps: what docs/reference/settings.md promises, held against a record as plain JSON.

It imports nothing of the bot, so that a mistake there cannot be repeated here.
"""

import math
import re
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

type Json = Mapping[str, Any]

ROUNDING = 1e-9
"""The share of a limit that binary numbers may add to a sum."""

CENT_USD = 0.01
"""The tick of stock prices; brackets are rounded to it."""

LEAST_QUANTITY = 1e-6
"""Less than this part of a share is the rounding of a sum of quantities."""


def find_broken_caps(record: Json) -> Iterator[str]:
    """Yield each cap that the planned or the placed orders of a record break, as a sentence with its numbers."""
    decision, seen, settings, report = (record.get(part) for part in ("decision", "observation", "settings", "report"))
    if not (decision and seen and settings and report):
        return
    plans = {"planned": decision["orders"], "placed": [] if settings["mode"] == "dry-run" else report["orders"]}
    said: set[str] = set()
    asked = {each["symbol"]: each for each in decision.get("insights", ())}
    for kind, orders in plans.items():
        for broken in _check(orders, settings, seen, asked):
            if broken not in said:
                said.add(broken)
                yield f"{kind}: {broken}"
    if settings.get("shares") == "fractional" and settings["stop_loss_fraction"]:
        yield from (f"placed: {broken}" for broken in _check_stops(plans["placed"], report))
    if settings["mode"] == "dry-run" and report["investments"]:
        yield f"MODE=dry-run, but {len(report['investments'])} orders were placed"


def _check(orders: Sequence[Json], settings: Json, seen: Json, asked: Mapping[str, Json]) -> Iterator[str]:
    yield from _check_number(orders, settings, seen)
    buys = [order for order in orders if order["side"] == "buy"]
    yield from _check_sales([order for order in orders if order["side"] == "sell"], seen)
    yield from _check_money(buys, settings, seen)
    if buys:
        yield from _check_losses(buys, settings, seen)
    for order in buys:
        yield from _check_buy(order, settings, seen)
        yield from _check_bracket(order, settings, asked.get(order["symbol"], {}))
        yield from _check_pause(order, settings, seen)


def _check_number(orders: Sequence[Json], settings: Json, seen: Json) -> Iterator[str]:
    if len(orders) > settings["max_orders_per_run"]:
        yield f"{len(orders)} orders; MAX_ORDERS_PER_RUN={settings['max_orders_per_run']}"
    for symbol, count in Counter(order["symbol"] for order in orders).items():
        if count > 1:
            yield f"{count} orders for {symbol}"
    slot = re.sub(r"[-:]", "", seen["slot"])[:13] + "Z"
    for order in orders:
        meant = f"{settings['strategy']}-{slot}-{order['symbol']}-{order['side']}"
        if order["client_order_id"] != meant:
            yield f"{order['client_order_id']} should be {meant}"
        if not order["quantity"] > 0:
            yield f"{order['symbol']}: {order['quantity']} shares"
        if any(each["symbol"] == order["symbol"] and not each["is_leg"] for each in seen["open_orders"]):
            yield f"{order['symbol']} has an open order"


def _check_sales(sales: Sequence[Json], seen: Json) -> Iterator[str]:
    for order in sales:
        held = seen["positions"].get(order["symbol"], {}).get("quantity", 0.0)
        if order["quantity"] > held:
            yield f"{order['quantity']:g} {order['symbol']} are sold, but {held:g} are held"


def _check_money(buys: Sequence[Json], settings: Json, seen: Json) -> Iterator[str]:
    """Yield what the buys cost together beyond the cash without buffer, margin and open buys."""
    account = seen["account"]
    cash_usd = min(account["cash_usd"] - _reserved_usd(seen), account["buying_power_usd"])
    free_usd = max(0.0, cash_usd - settings["cash_buffer_fraction"] * account["equity_usd"])
    cost_usd = sum(map(_cost_usd, buys))
    if _exceeds(cost_usd, free_usd):
        yield f"the buys cost {cost_usd:,.2f} USD, but {free_usd:,.2f} may be spent (CASH_BUFFER_FRACTION)"


def _reserved_usd(seen: Json) -> float:
    """Return what open buys will cost; everything, if that is not known."""
    total_usd = 0.0
    for order in seen["open_orders"]:
        if order["side"] == "buy":
            series = seen["closes"].get(order["symbol"])
            total_usd += order["quantity"] * series["usd"][-1] if series and order["quantity"] else math.inf
    return total_usd


def _check_buy(order: Json, settings: Json, seen: Json) -> Iterator[str]:
    symbol, cost_usd, equity_usd = order["symbol"], _cost_usd(order), seen["account"]["equity_usd"]
    if _exceeds(cost_usd, settings["max_order_usd"]):
        yield f"{symbol} costs {cost_usd:,.2f} USD; MAX_ORDER_USD={settings['max_order_usd']:,.2f}"
    if _exceeds(cost_usd, most_usd := settings["max_position_fraction"] * equity_usd):
        yield f"{symbol} costs {cost_usd:,.2f} USD; MAX_POSITION_FRACTION allows {most_usd:,.2f}"
    if symbol in seen["positions"]:
        yield f"{symbol} is bought, though it is held"
    series = seen["closes"].get(symbol)
    if not series or order["price_usd"] != series["usd"][-1]:
        yield f"{symbol} is bought at {order['price_usd']:,.2f} USD, which is not its latest price"


def _check_bracket(order: Json, settings: Json, insight: Json) -> Iterator[str]:
    """Yield what is wrong with a bracket: the insight may ask for a closer stop, and for another target."""
    symbol, price_usd, stop, take = (
        order[name] for name in ("symbol", "price_usd", "stop_loss_usd", "take_profit_usd")
    )
    if not settings["stop_loss_fraction"]:
        if stop is not None or take is not None:
            yield f"{symbol} has a bracket; STOP_LOSS_FRACTION=0"
        return
    is_fractional = settings.get("shares") == "fractional"
    if order["quantity"] % 1 and not is_fractional:
        yield f"{symbol}: a bracket is for whole shares, not {order['quantity']:g}"
    allowed = {
        "stop loss": -min(settings["stop_loss_fraction"], insight.get("stop_loss_fraction") or math.inf),
        "take profit": insight.get("take_profit_fraction") or settings["take_profit_fraction"],
    }
    for (name, fraction), usd in zip(allowed.items(), (stop, take), strict=True):
        if is_fractional and name == "take profit":
            if usd is not None:
                yield f"{symbol} has a take profit; SHARES=fractional has none"
            continue
        meant_usd = price_usd * (1 + fraction)
        if usd is None or abs(usd - meant_usd) > 1.5 * CENT_USD or (usd - price_usd) * fraction <= 0:
            yield f"{symbol}: {name} at {usd} USD, which should be {meant_usd:,.2f}"


def _check_stops(orders: Sequence[Json], report: Json) -> Iterator[str]:
    """Yield the buys without a bracket that no stop of the same run follows, and that the run does not name either.

    A run that was cut off could do neither; its record says so, and the run that wrote it looked after the stop.
    """
    if report.get("status") == "INTERRUPTED":
        return
    for order in orders:
        bought = order.get("filled_quantity", order["quantity"])
        if order["side"] != "buy" or bought <= 0 or order["symbol"] in report.get("unprotected", ()):
            continue
        least_usd = (order["stop_loss_usd"] or 0.0) - 1.5 * CENT_USD
        after = [each for each in report.get("stops", ()) if each["symbol"] == order["symbol"]]
        covered = sum(
            _covered(each) for each in after if each["type"] == "market" or each["stop_loss_usd"] >= least_usd
        )
        if covered < bought - LEAST_QUANTITY:
            yield f"{order['symbol']}: {bought:g} bought, but a stop or a sale below it is for {covered:g} only"


def _covered(order: Json) -> float:
    """Return for how many shares an order protects: all of them while it is open, and what it has sold."""
    has_ended = order["status"] in {"rejected", "canceled", "expired"}
    return float(order["filled_quantity"] if has_ended else order["quantity"])


def _check_pause(order: Json, settings: Json, seen: Json) -> Iterator[str]:
    stopped = seen.get("stopped_at", {}).get(order["symbol"])
    if stopped is None:
        return
    times = seen["closes"][order["symbol"]]["times"]
    bars = len(times) - bisect_right(times, datetime.fromisoformat(stopped).timestamp())
    if bars < (pause := settings.get("pause_after_stop_bars", 0)):
        yield f"{order['symbol']}: {bars} bars since its stop; PAUSE_AFTER_STOP_BARS={pause}"


def _check_losses(buys: Sequence[Json], settings: Json, seen: Json) -> Iterator[str]:
    """Yield what the losses of the day and since the highest equity say against any buy."""
    account = seen["account"]
    equity_usd, flows_usd = account["equity_usd"], account.get("flows_usd", 0.0)
    if flows_usd is None:
        yield "bought, though the deposits and withdrawals are not known"
        return
    base_usd = account["last_equity_usd"] + flows_usd
    at_risk_usd = sum(map(_cost_usd, buys)) * settings["stop_loss_fraction"]
    lost_usd, most_usd = base_usd - equity_usd + at_risk_usd, settings["max_daily_loss_fraction"] * base_usd
    if _exceeds(lost_usd, most_usd):
        yield f"{lost_usd:,.2f} USD are lost or at a stop's risk; MAX_DAILY_LOSS_FRACTION allows {most_usd:,.2f}"
    if not (drawdown := settings.get("max_drawdown_fraction", 0.0)):
        return
    highest_usd = seen.get("peak_equity_usd")
    if highest_usd is None:
        yield "bought, though the highest equity is not known; MAX_DRAWDOWN_FRACTION needs it"
    elif highest_usd and equity_usd <= highest_usd * (1 - drawdown):
        fall = f"equity {equity_usd:,.2f} USD after {highest_usd:,.2f}"
        yield f"bought at {fall}; MAX_DRAWDOWN_FRACTION={drawdown:g}"


def _cost_usd(order: Json) -> float:
    return float(order["quantity"] * order["price_usd"])


def _exceeds(usd: float, limit_usd: float) -> bool:
    return usd > limit_usd + ROUNDING * max(1.0, abs(limit_usd))
