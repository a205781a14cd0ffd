"""What happened since the run before: from the records of both, and from the broker's fills if they are known. Pure."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import time

from scripts.report import formatting
from trader.audit.fills import Fill, Why
from trader.broker.base import OrderId
from trader.codec import decode_time
from trader.model import NEW_YORK, Json, Side

ROUNDING = 1e-6
"""Less than this part of a share is the rounding of a sum of quantities."""

HOW: Mapping[Why, str] = {
    Why.RULE: "by the rule",
    Why.STOP: "at its stop",
    Why.TARGET: "at its target",
    Why.HAND: "by hand",
}

NAMED = frozenset(
    {
        *("strategy", "broker", "mode", "signal", "rule_sha256", "journal", "account_file", "price_file"),
        "halt_parameter",
    }
)
"""Settings that a page names anyway, or that are only places."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Before:
    """The run before: its record, and the fills since then; None if they are not known, and `problem` says why."""

    record: Json
    fills: Sequence[Fill] | None
    problem: str = ""


def describe(record: Json, before: Before) -> list[tuple[str, str]]:
    """Return what happened between two runs in lines, each with its name; nothing if one of them did not look."""
    try:
        return _describe(record, before)
    except (AttributeError, KeyError, TypeError, ValueError) as error:  # somebody else has written one of them
        return [("Run before", f"its record cannot be read: {type(error).__name__}: {formatting.plain(error)}")]


def _describe(record: Json, before: Before) -> list[tuple[str, str]]:
    seen, seen_before = record.get("observation"), before.record.get("observation")
    if not seen or not seen_before:
        return []
    fills = None if before.fills is None else list(_cut(before.fills, record, before.record))
    paid_usd = _find_paid(before.record)
    found = [("Run before", f"{formatting.slot_words(before.record)}: {before.record['report']['status']}")]
    found += _describe_account(seen, before.record)
    changes = [_describe_fill(fill, paid_usd.get(fill.symbol)) for fill in fills or ()]
    changes += [("Fills", f"not known: {formatting.plain(before.problem)}")] if before.problem else []
    changes += _describe_rest(seen, _count_after(before.record), fills or ())
    return found + (changes or [("Held", "the same, and no order was filled")])


def _describe_account(seen: Json, before: Json) -> list[tuple[str, str]]:
    account = seen["account"]
    after = before["report"]["account"]["after"] or before["report"]["account"]["before"]
    found = []
    if after:
        was_usd, now_usd = float(after["equity_usd"]), float(account["equity_usd"])
        found.append(("Equity", f"{formatting.change(now_usd - was_usd)} USD, to {formatting.usd(now_usd)}"))
    flows_usd = float(account.get("flows_usd") or 0.0)
    if account.get("last_equity_usd"):
        day_usd = float(account["equity_usd"]) - float(account["last_equity_usd"]) - flows_usd
        share = formatting.percent(day_usd / float(account["last_equity_usd"]))
        found.append(("Since the close", f"{formatting.change(day_usd)} USD, {share}"))
    if flows_usd:
        found.append(("Paid in" if flows_usd > 0 else "Paid out", f"{formatting.usd(abs(flows_usd))} USD"))
    return found


def _describe_fill(fill: Fill, paid_usd: float | None) -> tuple[str, str]:
    moment = fill.at.astimezone(NEW_YORK)
    at = f"{moment:%a %-d %b, %H:%M}" if moment.time() != time() else f"{moment:%a %-d %b}"  # that of a daily bar
    words = f"{formatting.quantity(fill.quantity)} {fill.symbol} at {formatting.usd(fill.price_usd)}, {HOW[fill.why]}"
    if fill.side is Side.BUY:
        return "Bought", f"{words} ({at})"
    if paid_usd is None:
        return "Sold", f"{words} ({at})"
    gain_usd = fill.quantity * (fill.price_usd - paid_usd)
    gain = f"{formatting.change(gain_usd)} USD, {formatting.percent(fill.price_usd / paid_usd - 1)}"
    return "Sold", f"{words}: {gain} ({at})"


def _describe_rest(seen: Json, after: Mapping[str, float], fills: Sequence[Fill]) -> Iterator[tuple[str, str]]:
    """Yield the changes of holdings that no fill explains, such as a split, or all of them if no fills are known."""
    expected = defaultdict(float, after)
    for fill in fills:
        expected[fill.symbol] += fill.quantity if fill.side is Side.BUY else -fill.quantity
    held = {symbol: float(each["quantity"]) for symbol, each in seen["positions"].items()}
    stopped = seen.get("stopped_at", {})
    for symbol in sorted(expected.keys() | held.keys()):
        if abs(held.get(symbol, 0.0) - expected[symbol]) > ROUNDING:
            had, has = (formatting.quantity(each) if each else "none" for each in (after.get(symbol), held.get(symbol)))
            why = f", its stop was filled at {_moment(stopped[symbol])}" if symbol in stopped else ""
            yield "Held", f"{formatting.plain(symbol)}: {had} → {has}{why}"


def _moment(text: str) -> str:
    return f"{formatting.new_york(text):%a %-d %b, %H:%M}"


def _cut(fills: Sequence[Fill], record: Json, before: Json) -> Iterator[Fill]:
    """Yield the fills between two runs: later than the first one's record knows, and not of the second's orders."""
    since, until = (decode_time(each["observation"]["now"]) for each in (before, record))
    known = {each["client_order_id"]: float(each["filled_quantity"]) for each in _list_placed(before)}
    slot = decode_time(record["report"]["slot"])
    for fill in fills:
        is_own = (parts := OrderId.parse(fill.client_order_id)) is not None and parts.slot == slot
        more = fill.quantity - known.get(fill.client_order_id, 0.0)
        is_later = fill.at > since or fill.client_order_id in known
        if is_later and fill.at <= until and not is_own and more > ROUNDING:
            yield replace(fill, quantity=more)


def _list_placed(record: Json) -> Iterator[Json]:
    """Yield the orders that a run sent, and its stops, which sell if the price has passed them already."""
    for name in ("orders", "stops"):
        yield from (each for each in record["report"].get(name, ()) if "filled_quantity" in each)


def _count_after(record: Json) -> dict[str, float]:
    """Return the shares held after a run, as far as its record knows."""
    held = {symbol: float(each["quantity"]) for symbol, each in record["observation"]["positions"].items()}
    for each in _list_placed(record):
        sign = 1 if each["side"] == Side.BUY else -1
        held[each["symbol"]] = held.get(each["symbol"], 0.0) + sign * float(each["filled_quantity"] or 0.0)
    return {symbol: shares for symbol, shares in held.items() if abs(shares) > ROUNDING}


def _find_paid(record: Json) -> dict[str, float]:
    """Return what was paid for a share of each holding."""
    held = record["observation"]["positions"].items()
    bought = [each for each in _list_placed(record) if each["side"] == Side.BUY and each.get("filled_price_usd")]
    return {each["symbol"]: float(each["filled_price_usd"]) for each in bought} | {
        symbol: float(each["average_price_usd"]) for symbol, each in held if each.get("average_price_usd")
    }


def list_settings(settings: Json, defaults: Json) -> list[tuple[str, str]]:
    """Return the settings that are not the defaults, but for those that a page names anyway."""
    return [
        (name.upper(), formatting.setting_words(value))
        for name, value in settings.items()
        if name not in NAMED and value != defaults.get(name)
    ]
