"""The wording of a run's report, shared by the terminal and the page so that they never disagree."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import NamedTuple

from trader.alpha import loader, own
from trader.alpha.base import OnForecasts, Words
from trader.broker.base import OrderId
from trader.journal.base import STARTED
from trader.journal.record import BARE
from trader.logs import printable
from trader.model import NEW_YORK, BrokerName, Code, Direction, Engine, Json, OrderType, Outcome, Side
from trader.schedule import sessions
from trader.settings import Settings, list_fields
from trader.stages.pipeline import CLOSES_IN


class Explanation(NamedTuple):
    """The meaning of a code in one sentence, and its remedy."""

    means: str
    remedy: str


EXPLANATIONS: Mapping[Code, Explanation] = {
    Code.HALTED: Explanation(
        "The halt switch is on, or could not be read, so nothing was traded from then on, and no stop was placed: the "
        "stops of parts of a share (SHARES=fractional) end with the day and are not renewed.",
        "If the reason for the halt is gone: make resume STRATEGY=NAME. A switch that cannot be read: allow the bot to "
        "read the parameter that HALT_PARAMETER names.",
    ),
    Code.MARKET_CLOSED: Explanation(
        "The market was closed, or about to close, so no order could be sent.",
        "Nothing: the next run while the market is open trades again.",
    ),
    Code.ALREADY_RAN: Explanation(
        "A run of this strategy has already claimed this slot, and a slot is never traded twice.",
        "Nothing: the next slot trades again. MODE=dry-run shows what it would decide, as often as you like.",
    ),
    Code.UNDER_WAY: Explanation(
        "Another run of this strategy had not ended yet, and two runs at once could buy the same shares twice.",
        "Nothing: the next slot trades again. To run sooner, wait until the time given in the detail.",
    ),
    Code.NOT_DUE: Explanation(
        "This run was not scheduled for DAILY_AT, the time in New York at which the strategy trades.",
        "Nothing: the strategy trades once a day, at that time. To run it now, leave out AT or the event's time.",
    ),
    Code.NO_PRICE_DATA: Explanation(
        "No price source had usable prices for the symbol, so it was skipped.",
        "Read the detail, which says what there is. If a source failed, try again, or add one to PRICE_SOURCES.",
    ),
    Code.STALE_PRICE: Explanation(
        "The last price is older than MAX_PRICE_AGE_S allows, or the latest trade is further from it than "
        "MAX_PRICE_DRIFT_FRACTION allows.",
        "Check the price source, and AT if you set it; raise the limit only if you want to trade on older or other "
        "prices.",
    ),
    Code.OPEN_ORDER_PENDING: Explanation(
        "An earlier order for the symbol is still open at the broker, so no second order is placed.",
        "Nothing: the symbol is considered again once that order is filled or canceled.",
    ),
    Code.QUANTITY_BELOW_ONE: Explanation(
        "The money for this symbol does not buy one whole share, which a bracket order needs, or is less than 1 USD.",
        "Buy parts of a share (SHARES=fractional), raise MAX_POSITION_FRACTION or MAX_ORDER_USD, or use fewer symbols "
        "(UNIVERSE_SIZE).",
    ),
    Code.BUYING_POWER_EXCEEDED: Explanation(
        "The order would have cost more than the account's buying power.",
        "Nothing, unless it happens often: then raise CASH_BUFFER_FRACTION or trade fewer symbols.",
    ),
    Code.POSITION_CAP: Explanation(
        "The order would have made the position negative or larger than MAX_POSITION_FRACTION allows, or would have "
        "added to a position. Beside an order: your rule's weight was larger, and less is bought.",
        "Raise MAX_POSITION_FRACTION if the detail names it and you want larger positions.",
    ),
    Code.ORDER_CAP: Explanation(
        "The run had already planned MAX_ORDERS_PER_RUN orders, or this one was larger than MAX_ORDER_USD. "
        "Beside an order: your rule asked for a larger weight or a wider stop, and gets less.",
        "Raise the cap named in the detail if you want more or larger orders.",
    ),
    Code.ACCOUNT_TAKEN: Explanation(
        "The account is another strategy's, and each of two would sell what the other has bought. No order was placed; "
        "what this strategy itself had bought there kept its stops.",
        "Give the strategy an account of its own: make secrets STRATEGY=NAME, or ACCOUNT_FILE. To hand the account "
        "over, remove the entry that the detail names.",
    ),
    Code.DAILY_LOSS_STOP: Explanation(
        "The loss since the last close, with what the stops of new buys could still lose, is more than "
        "MAX_DAILY_LOSS_FRACTION allows.",
        "Check the positions; the loss is counted anew from the next close.",
    ),
    Code.ACCOUNT_BLOCKED: Explanation(
        "The broker does not allow the account to trade.",
        "Sign in to the broker and resolve the problem named in the detail; the bot then resumes by itself.",
    ),
    Code.ORDER_REJECTED: Explanation(
        "The order was refused, by the broker or by the bot's last check before placing it.",
        "Read the reason in the detail; the symbol is tried again in a later slot.",
    ),
    Code.FORECAST_FAILED: Explanation(
        "No forecast could be made from the symbol's prices.",
        "The usual cause is too few prices: check the symbol's history, or leave the symbol out of UNIVERSE.",
    ),
    Code.BETWEEN_DECISIONS: Explanation(
        "The rule decides only on every so many trading days, and this is not one of them. Stops stay in force.",
        "Nothing: the detail says on which day the rule decides next.",
    ),
    Code.PAUSED: Explanation(
        "The symbol's stop loss was filled a short time ago.",
        "Nothing: it may be bought again after PAUSE_AFTER_STOP_BARS bars.",
    ),
    Code.DRAWDOWN_STOP: Explanation(
        "The equity is further below its highest than MAX_DRAWDOWN_FRACTION allows, so nothing is bought.",
        "Find out what lost the money; to go on, raise MAX_DRAWDOWN_FRACTION.",
    ),
    Code.EQUITY_UNKNOWN: Explanation(
        "The highest equity, or what was paid in and out, is not known, so no limit on losses can be checked.",
        "Read the detail; it says which file to restore or delete, or what the broker did not answer.",
    ),
    Code.NOT_FILLED: Explanation(
        "The order was not filled by the end of the run, so the rest of it was canceled.",
        "Nothing: a later slot decides again. Trading in the symbol may be halted.",
    ),
    Code.UNPROTECTED: Explanation(
        "The holding has no working stop loss for all its shares.",
        "Read the reason in the detail, then place a stop at the broker, or sell.",
    ),
    Code.RULE_FAILED: Explanation(
        "The rule in the file that SIGNAL names failed, took too long, or returned something that is no insight.",
        "Read the detail, which names the line, and mend the rule. What is held keeps its stops meanwhile.",
    ),
    Code.OUT_OF_TIME: Explanation(
        "Too little time was left to do this safely, so it was not started.",
        "Give the function more time or memory, or lower UNIVERSE_SIZE.",
    ),
}
AGAIN_ON_LAPTOP = "Nothing: MODE=dry-run can be repeated. To trade this slot again, or another day, "
"""The remedy for ALREADY_RAN if journal and account are files of this machine, before the way to another account."""

AGAIN_AT_ALPACA = (
    "Nothing: without AT the slot is the present minute, so run it again in the next one. MODE=dry-run can be repeated "
    "at any time. Keep the journal: without it the account could be traded twice."
)
"""The remedy for ALREADY_RAN if the account is at Alpaca and the journal on this machine."""

AGAIN_DEPLOYED = (
    "Nothing: the next slot trades again. To run it now, wait for the next minute, then make invoke STRATEGY=NAME "
    "without EVENT. Keep the journal: without it the account could be traded twice."
)
"""The remedy for ALREADY_RAN of a deployed function."""

CLOSES_SOON = Explanation(
    "Too little time was left before the close of the market, and an order that comes after it would wait for the next "
    "opening.",
    "Nothing: the next run while the market is open trades again. Run earlier if this happens every day.",
)
"""The explanation of MARKET_CLOSED for a run in the last minutes of a session."""

ON_LAPTOP: Mapping[str, str] = {
    Code.MARKET_CLOSED: "Choose a time in a session with AT; a day, such as AT=DAY, means its last slot.",
    Code.UNDER_WAY: "Wait until the other run has ended. If it was cut off, choose an AT after the time in the detail.",
}
"""Remedies where AT chooses the slot."""

GAVE_BACK = "The slot is free again: remove the cause, and repeat the run."

FAILED = Explanation(
    "The run ended with an unexpected error, which was recorded and raised.",
    "Check the broker's list of orders first, then the log for the full error.",
)

UNFINISHED = Explanation(
    "The run's end was never recorded: the run was stopped from outside while it placed its orders.",
    "Check the broker's list of orders: each planned order may or may not have been placed.",
)

INTERRUPTED = Explanation(
    "The run was cut off, and a later run wrote this record from its plan and the broker's books.",
    "Its orders need no action: what was not placed is decided again. Check the log for what ended the run, such as "
    "too little memory or time.",
)

ENDS: Mapping[str, Explanation] = {Outcome.FAILED: FAILED, STARTED: UNFINISHED, Outcome.INTERRUPTED: INTERRUPTED}
"""Explanations of the statuses that are not codes."""

UNPROTECTED_REMEDY = "Place a stop loss for each in the broker's dashboard, or sell it."

DEAD = frozenset({"rejected", "canceled", "expired"})
"""The statuses of orders that the broker will not fill any further."""

CODE_STATUSES = frozenset(code.value for code in Code)
MODES = {"dry-run": "dry run, nothing is placed", "paper": "paper money", "live": "REAL MONEY"}
METRICS = (
    ("Equity", "equity_usd"),
    ("Cash", "cash_usd"),
    ("Buying power", "buying_power_usd"),
    ("In positions", "positions_usd"),
)
MAX_REPEATED_ROWS = 8
MINUS = "−"  # noqa: RUF001 - the minus sign is as wide as a digit, a hyphen is not
NOTHING = "–"  # noqa: RUF001 - shown if there is no number


@dataclass(frozen=True, slots=True, kw_only=True)
class DecisionRow:
    """All that a run reports about a symbol. `symbol` is empty for a refusal that concerns the whole account."""

    symbol: str
    held: float
    price_usd: float | None
    forecast: Json | None
    target: float | None  # shares to hold
    insight: Json | None
    order: Json | None
    denial: Json | None

    @property
    def direction(self) -> str:
        """UP, FLAT or DOWN; empty without an insight."""
        return str(self.insight["direction"]) if self.insight else ""

    @property
    def gap_fraction(self) -> float | None:
        """The gap that led to the insight; None without an insight."""
        return float(self.insight["gap_fraction"]) if self.insight else None

    @property
    def kind(self) -> str:
        """The kind of outcome, one of KINDS."""
        status = str(self.order["status"]) if self.order else ""
        if self.order and not (status in DEAD and not self.order["filled_quantity"]):
            return {"planned": "unsent", "unknown": "unknown"}.get(status, "order")
        if self.denial and self.denial["code"] == Code.NO_PRICE_DATA:
            return "without prices"
        if self.denial and not self.order and self.denial["code"] == Code.UNPROTECTED:
            return "unprotected"
        return "refused" if self.denial or self.order else "left alone"

    @property
    def is_alarming(self) -> bool:
        """True if the owner must act: the order's fate is unknown, or a holding of the bot has no stop loss."""
        return self.kind == "unknown" or bool(self.denial and self.denial.get("is_unprotected"))

    @property
    def action(self) -> str:
        """The order in words, the refusal's code, or `left alone`."""
        if self.order:
            return order_words(self.order)
        return str(self.denial["code"]) if self.denial else "left alone"

    @property
    def result(self) -> str:
        """The order's outcome, or the reason why there is no order."""
        refusal = plain(self.denial["detail"]) if self.denial else ""
        if self.order:
            return ": ".join(filter(None, (plain(self.order["status"]), refusal)))
        return refusal or self._left_alone_because

    @property
    def _left_alone_because(self) -> str:
        reasons = {
            Direction.UP.value: "already held" if self.held else "no order planned",
            Direction.FLAT.value: "too close to call",
            Direction.DOWN.value: "still held" if self.held else "nothing to sell",
        }
        return reasons.get(self.direction, "no insight")

    @property
    def reason(self) -> str:
        """The reason for the insight; empty without an insight."""
        return plain(self.insight["reason"]) if self.insight else ""


MAX_PRICE_NOTES = 6
"""Maximum number of notes on the prices that are shown; the journal's record has the rest."""

KINDS = ("unknown", "order", "unsent", "refused", "unprotected", "left alone", "without prices")


def rows(record: Json) -> list[DecisionRow]:
    """Return a row for each symbol that the report says something of, in the order of KINDS, largest gaps first."""
    report, seen = record["report"], record.get("observation") or {}
    forecasts, insights, placed, cuts, refusals = (
        {str(item["symbol"]): item for item in reversed(items)}
        for items in (
            *(report[name] for name in ("forecasts", "insights", "orders")),
            [each for each in report["denials"] if each.get("is_partial")],
            [each for each in report["denials"] if not each.get("is_partial")],
        )
    )
    denials = cuts | refusals
    orders = {**_left_over(record, refusals), **placed}
    targets = {str(item["symbol"]): float(item["wanted"]) for item in report.get("targets", ())}
    positions, closes = seen.get("positions", {}), seen.get("closes", {})

    def price_usd(symbol: str) -> float | None:
        for item in (forecasts.get(symbol), insights.get(symbol), orders.get(symbol), positions.get(symbol)):
            if item:
                return float(item["price_usd"])
        return float(closes[symbol]["usd"][-1]) if closes.get(symbol, {}).get("usd") else None

    found = [
        DecisionRow(
            symbol=plain(symbol),
            held=float(positions[symbol]["quantity"]) if symbol in positions else 0.0,
            price_usd=price_usd(symbol),
            forecast=forecasts.get(symbol),
            target=targets.get(symbol),
            insight=insights.get(symbol),
            order=orders.get(symbol),
            denial=denials.get(symbol),
        )
        for symbol in {**forecasts, **insights, **orders, **denials}
    ]
    return sorted(found, key=lambda row: (KINDS.index(row.kind), -abs(row.gap_fraction or 0.0), row.symbol))


def _left_over(record: Json, refusals: Json) -> dict[str, Json]:
    """Return the decided orders that were not refused: `unknown` if the run never ended, otherwise `planned`."""
    decided = (record.get("decision") or {}).get("orders", [])
    status = "unknown" if record["report"]["status"] == STARTED else "planned"
    return {order["symbol"]: {**order, "status": status} for order in decided if order["symbol"] not in refusals}


def sum_up(shown: Sequence[DecisionRow]) -> tuple[list[DecisionRow], list[list[DecisionRow]]]:
    """Return the rows to list, and groups of rows to show as one line each.

    A group has the symbols that were refused with the same code, if they are many and there is nothing else to say of
    them: no order, no insight, no holding.
    """
    groups: dict[str, list[DecisionRow]] = {}
    for row in shown:
        if row.denial and row.symbol and not (row.order or row.insight or row.held or row.is_alarming):
            groups.setdefault(str(row.denial["code"]), []).append(row)
    repeated = [group for group in groups.values() if len(group) > MAX_REPEATED_ROWS]
    summed_up = {row.symbol for group in repeated for row in group}
    return [row for row in shown if row.symbol not in summed_up], repeated


def headline(record: Json, shown: Sequence[DecisionRow]) -> str:
    """Summarize the run in one line, without a final period."""
    status = record["report"]["status"]
    counts = ", ".join(_counts(shown, dry=status == Outcome.DRY_RUN))
    if status == Outcome.FAILED:
        return f"The run failed: {counts}" if counts else "The run failed"
    if status == STARTED:
        return f"The run never ended: {counts}"
    if status == Outcome.INTERRUPTED:
        return f"The run was cut off: {counts}" if counts else "The run was cut off"
    if status in CODE_STATUSES:
        stopped = f"Stopped: {status.replace('_', ' ').lower()}"
        return f"{stopped}. {counts}" if counts else stopped
    return counts or "Nothing to do"


def _counts(shown: Sequence[DecisionRow], *, dry: bool) -> Iterator[str]:
    words = {
        "order": "{0} order{1} placed",
        "unknown": "{0} order{1} of unknown fate",
        "unsent": "{0} order{1} planned but not placed" if dry else "{0} order{1} not sent",
        "refused": "{0} refused",
        "unprotected": "{0} without a stop loss",
        "left alone": "{0} left alone",
        "without prices": "{0} without prices",
    }
    number = {kind: sum(row.kind == kind for row in shown) for kind in words}
    if shown and not number["order"] + number["unknown"] + number["unsent"]:
        yield "No orders"
    for kind, template in words.items():
        if number[kind]:
            yield template.format(number[kind], "" if number[kind] == 1 else "s")


def explanation(status: str) -> Explanation | None:
    """Return why a run stopped and what to do; None for a run that completed."""
    return EXPLANATIONS[Code(status)] if status in CODE_STATUSES else ENDS.get(status)


def explain(record: Json) -> Explanation | None:
    """Return the explanation of a record's status, with the remedy for where the run took place."""
    report, settings = record["report"], record.get("settings") or {}
    known = explanation(report["status"])
    if known is None:
        return None
    means, remedy = known
    if report["status"] == Code.ALREADY_RAN:
        remedy = _find_way_to_repeat(settings)
    elif report["status"] == Code.MARKET_CLOSED and str(report["detail"]).startswith(CLOSES_IN):
        means, remedy = CLOSES_SOON
    elif report["status"] in ON_LAPTOP and _is_on_laptop(settings):
        remedy = ON_LAPTOP[report["status"]].replace("AT=DAY", f"AT={_last_session_day(report)}")
    elif record.get("gave_back"):
        remedy = f"{remedy} {GAVE_BACK}"
    return Explanation(means, remedy.replace("STRATEGY=NAME", f"STRATEGY={plain(report['strategy'])}"))


def _find_way_to_repeat(settings: Json) -> str:
    """Return the remedy for ALREADY_RAN; a report without settings is of a deployed function."""
    if _is_on_laptop(settings):
        from trader.broker.embedded import begin_anew  # its lock of files does not exist in a browser

        return f"{AGAIN_ON_LAPTOP}{begin_anew(str(settings.get('account_file', '')))}."
    return AGAIN_AT_ALPACA if str(settings.get("journal", "")).startswith("folder:") else AGAIN_DEPLOYED


def _last_session_day(report: Json) -> date:
    """Return the New York day of the last session before a report's slot, of which there are prices if any are."""
    return sessions.last_minute_before(datetime.fromisoformat(report["slot"])).date()


def _is_on_laptop(settings: Json) -> bool:
    """Tell whether journal and account are files of this machine, so that AT chooses the slot."""
    return str(settings.get("journal", "")).startswith("folder:") and settings.get("broker") == BrokerName.EMBEDDED


def unprotected_words(record: Json) -> str:
    """Name the symbols held without a stop loss although brackets are on; empty if there are none."""
    symbols = [plain(symbol) for symbol in record["report"].get("unprotected", ())]
    return f"Without a stop loss: {', '.join(symbols)}" if symbols else ""


def unprotected_reasons(record: Json) -> list[tuple[str, str]]:
    """Return the symbols held without a stop loss whose reason is known, each with its reason."""
    denials = record["report"]["denials"]
    bare = {str(each["symbol"]): str(each["detail"]) for each in denials if each["code"] == Code.UNPROTECTED}
    return [(plain(symbol), plain(detail.removeprefix(BARE))) for symbol, detail in bare.items()]


def stops_placed(record: Json) -> list[str]:
    """Describe each order that the run placed to protect a holding: `CCC: stop 95.41 for 12, new`."""
    return [plain(_stop_words(each)) for each in record["report"].get("stops", ())]


def _stop_words(order: Json) -> str:
    symbol, shares, status = order["symbol"], quantity(order["quantity"]), order["status"]
    if order.get("type") == OrderType.MARKET:
        at = f" at {usd(order['filled_price_usd'])}" if order.get("filled_price_usd") else ""
        return f"{symbol}: sell {shares}{at}, because its price is at or below its stop, {status}"
    return f"{symbol}: {' '.join(bracket_words(order))} for {shares}, {status}"


def settled_orders(record: Json) -> list[tuple[str, bool]]:
    """Describe each order of an earlier run that ended otherwise than recorded, and say whether it was a sale."""
    return [(plain(_settled_words(each)), each["side"] == Side.SELL) for each in record["report"].get("settled", ())]


def _settled_words(order: Json) -> str:
    parts = OrderId.parse(order["client_order_id"])
    of_slot = f" of {parts.slot.astimezone(NEW_YORK):%a %-d %b, %H:%M}" if parts else ""
    price_usd = order.get("filled_price_usd")
    fill = f" ({quantity(order['filled_quantity'])} at {usd(price_usd)})" if price_usd else ""
    what = f"{order['side']} {quantity(order['quantity'])} {order['symbol']}{of_slot}"
    return f"{what}: was {order['recorded_status']}, is {order['status']}{fill}"


def recovered_words(record: Json) -> str:
    """Name the earlier runs that this one found cut off; empty if there were none."""
    slots = [f"{new_york(slot):%a %-d %b %Y, %H:%M}" for slot in record["report"].get("recovered", ())]
    return f"Earlier runs that were cut off and are now on record: {'; '.join(slots)} New York" if slots else ""


def price_notes(record: Json) -> list[str]:
    """Say what was noted on the prices: the first MAX_PRICE_NOTES, and how many more there are."""
    notes = (record.get("observation") or {}).get("notes", [])
    words = [plain(f"{note['symbol']}: {note['what']}" if note["symbol"] else note["what"]) for note in notes]
    more = len(words) - MAX_PRICE_NOTES
    return [*words[:MAX_PRICE_NOTES], *([f"and {more:,} more notes in the run's record"] if more > 0 else [])]


def denial_codes(record: Json) -> list[Code]:
    """Return the codes of the denials, each once, in the order of Code."""
    occurred = {denial["code"] for denial in record["report"]["denials"]}
    return [code for code in Code if code in occurred]


@dataclass(frozen=True, slots=True, kw_only=True)
class Holding:
    """A holding as the run saw it first: what was paid, what it gained, and its stop, as far as they are known."""

    symbol: str
    quantity: float
    paid_usd: float | None
    price_usd: float
    stop_usd: float | None
    is_named: bool  # the run named it as unprotected

    @property
    def gain_fraction(self) -> float | None:
        """The gain since it was bought, as a fraction of what was paid."""
        return self.price_usd / self.paid_usd - 1 if self.paid_usd and self.price_usd else None

    @property
    def distance_fraction(self) -> float | None:
        """How far the stop is from the price, as a fraction of it; negative while it is below."""
        return self.stop_usd / self.price_usd - 1 if self.stop_usd and self.price_usd else None


def holdings(record: Json) -> list[Holding]:
    """Return what was held before the run's orders, by symbol; nothing for a run that did not look."""
    seen = record.get("observation") or {}
    return [
        Holding(
            symbol=symbol,
            quantity=held["quantity"],
            paid_usd=held["average_price_usd"],
            price_usd=held["price_usd"],
            stop_usd=max(
                (
                    each["stop_price_usd"]
                    for each in seen.get("open_orders", ())
                    if each["symbol"] == symbol and each["side"] == Side.SELL and each.get("stop_price_usd")
                ),
                default=None,
            ),
            is_named=symbol in record["report"].get("unprotected", ()),
        )
        for symbol, held in sorted(seen.get("positions", {}).items())
    ]


def direction_words(record: Json) -> str:
    """Say how many insights there are of each direction; empty without any."""
    insights = record["report"].get("insights") or ()
    counts = Counter(each["direction"] for each in insights)
    return ", ".join(f"{counts[each]} {each}" for each in Direction if counts[each])


def account_lines(record: Json) -> list[tuple[str, float, float | None]]:
    """Return each metric of the account in USD before and, if known, after the run; empty for a stopped run."""
    account = record["report"].get("account") or {}
    before, after = _with_positions(account.get("before")), _with_positions(account.get("after"))
    if before is None:
        return []
    return [(label, before[key], after[key] if after else None) for label, key in METRICS]


def _with_positions(account: Json | None) -> dict[str, float] | None:
    if account is None:
        return None
    usd = {key: round(float(account[key]), 2) for key in ("equity_usd", "cash_usd", "buying_power_usd")}  # as shown
    return {**usd, "positions_usd": usd["equity_usd"] - usd["cash_usd"]}


def slot_words(record: Json) -> str:
    """Format the slot in New York time, as the market uses it: `Wed 28 Dec 2022, 16:00 New York`."""
    return f"{new_york(record['report']['slot']):%a %-d %b %Y, %H:%M} New York"


def mode_words(record: Json) -> str:
    """Say whether real money is at stake, and name the broker if it is known."""
    mode, broker = str(record["report"]["mode"]), (record.get("settings") or {}).get("broker")
    return MODES.get(mode, mode) + (f" at the {broker} broker" if broker else "")


def signal_words(settings: Json) -> str:
    """Format the rule as `SIGNAL=NAME, `; empty if it is not known."""
    return f"SIGNAL={plain(settings['signal'])}, " if settings.get("signal") else ""


def legend(record: Json, shown: Sequence[DecisionRow]) -> str:
    """Say what Trend and Gap mean for the record's rule; empty without an insight, or if the rule is not known."""
    settings = record.get("settings") or {}
    if not settings.get("signal") or not any(row.insight for row in shown):
        return ""
    words = rule_words(record)
    return f"{f'Trend: {words.line}. ' if words.line else ''}Gap: {words.gap}."


def engine_words(settings: Json) -> str:
    """Format the engine as `, ENGINE=map`; empty for Prophet's package, the default."""
    engine = settings.get("engine", Engine.PROPHET)
    return "" if engine == Engine.PROPHET else f", ENGINE={engine}"


def order_words(order: Json, *, legs: bool = True) -> str:
    """Format an order, with or without its bracket: `buy 37 · stop 95.41 · take 137.70`."""
    return " · ".join([f"{order['side']} {quantity(order['quantity'])}", *(bracket_words(order) if legs else [])])


def bracket_words(order: Json) -> list[str]:
    """Format the prices of the bracket's legs; empty without a bracket."""
    parts = []
    if order.get("stop_loss_usd") is not None:
        parts.append(f"stop {usd(order['stop_loss_usd'])}")
    if order.get("take_profit_usd") is not None:
        parts.append(f"take {usd(order['take_profit_usd'])}")
    return parts


def new_york(text: str) -> datetime:
    """Convert an ISO time to New York time."""
    return datetime.fromisoformat(text).astimezone(NEW_YORK)


def quantity(value: float) -> str:
    """Format shares: whole ones without decimals, fractional ones with all their digits."""
    return f"{value:,.9f}".rstrip("0").rstrip(".").replace("-", MINUS)


def usd(value: float) -> str:
    """Format dollars and cents; a price below one dollar with four decimals, as it is quoted."""
    return (f"{value:,.4f}" if 0 < abs(value) < 1 else f"{value:,.2f}").replace("-", MINUS)


def change(value: float) -> str:
    """Format a change in dollars with its sign; 0.00 has none."""
    return f"{value:+,.2f}".replace("-", MINUS) if round(value, 2) else "0.00"


def percent(fraction: float) -> str:
    """Format a signed percentage with one decimal."""
    return f"{fraction:+.1%}".replace("-", MINUS)


def setting_words(value: object) -> str:
    """Format the value of a setting."""
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value))
    return NOTHING if value is None else str(value)


def timing_words(timings_s: Mapping[str, float]) -> str:
    """Say how long each stage took."""
    return " · ".join(f"{stage} {seconds:.2f} s" for stage, seconds in timings_s.items())


def plain(text: object) -> str:
    """Return untrusted text on one line, in printable characters."""
    return printable(" ".join(str(text).split()))


def rule_words(record: Json) -> Words:
    """Return the words that a record's rule uses for its chart; the default rule's words if the rule is gone.

    The file of an own rule may have changed since, so its words are those of any such rule.
    """
    settings = record.get("settings") or {}
    if own.is_file(settings.get("signal", loader.DEFAULT)):
        return OWN_WORDS if record["report"]["forecasts"] else OWN_WORDS_WITHOUT_FORECAST
    return _rule(settings).facts.words


def dead_band_fraction(settings: Json) -> float | None:
    """Return the dead band of a record's rule, as a fraction of its line; None if it has none."""
    if own.is_file(settings.get("signal", loader.DEFAULT)):
        return None
    known = {item.name: settings[item.name] for item in list_fields() if item.name in settings}
    return _rule(settings).from_settings(Settings(**known)).dead_band_fraction


OWN_WORDS = Words(gap="what the rule measures")
OWN_WORDS_WITHOUT_FORECAST = Words(line="", gap="what the rule measures", chart="Prices")


def _rule(settings: Json) -> type[OnForecasts]:
    return loader.RULES.get(settings.get("signal", loader.DEFAULT), loader.RULES[loader.DEFAULT])
