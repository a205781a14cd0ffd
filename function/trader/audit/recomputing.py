"""Recomputation of a record: everything in it that follows from its observation and its settings, value by value."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import date, datetime
from pathlib import PurePosixPath
from typing import Any

from trader.alpha import loader, own
from trader.alpha.base import RuleError
from trader.broker.base import OrderId
from trader.codec import decode, decode_object, decode_time, encode
from trader.deadline import Deadline
from trader.forecasting.base import Forecaster, Forecasts
from trader.journal.base import STARTED, JournalError, Run
from trader.journal.chain import find_other_engine, hash_settings
from trader.journal.record import BARE, VERSION, build_report, find_unprotected, read_settings
from trader.journal.recovery import PlannedRun, build_interrupted_record
from trader.logs import one_line
from trader.model import (
    NEW_YORK,
    Account,
    Code,
    Decision,
    Denial,
    Engine,
    Mode,
    Observation,
    Order,
    Outcome,
    Settled,
    Side,
    Unprotected,
)
from trader.progress import Progress, no_progress
from trader.schedule.base import parse_slot_id, slot_id
from trader.settings import Settings
from trader.stages import pipeline
from trader.stages.universe import top_performers
from trader.wiring import make_forecaster

FORECAST_TOLERANCE = 1e-6
"""Relative tolerance for trend lines, whose last digits may differ on another machine. Decisions have no tolerance."""

LINES = frozenset({"trend_usd", "yhat_usd", "lower_usd", "upper_usd", "line"})
"""The fields of a forecast that have this tolerance."""

TEXT_AND_NUMBERS = frozenset((str, int, float))
"""The types of which equal values are also equal in JSON; 1 and true are not."""

OUTCOMES = ("status", "order_id", "filled_quantity", "filled_price_usd", "type", "submitted_at", "filled_at", "legs")
"""The fields of a placed order that only the broker knows."""

STOPPED = frozenset({Code.HALTED, Code.MARKET_CLOSED, Code.OUT_OF_TIME})
"""The statuses of a run that was stopped between its decision and its last order."""

PARTS = frozenset({"version", "settings", "observation", "decision", "report", "chain", "gave_back", "rule"})


class OtherEngineError(JournalError):
    """The trend lines of a record are by another version of the engine, so they are not compared to the last digit."""


type IndexOn = Callable[[date], Sequence[str] | None]
"""A function that returns the members of the S&P 500 on a day; None for those that the code has for today."""

type Place = tuple[str, ...]
"""Where a value is in a record: ("report", "orders", "0", "quantity")."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """A difference between the record and the replay."""

    what: str
    recorded: str
    replayed: str


@dataclass(frozen=True, slots=True)
class NotChecked:
    """What replay takes on trust: where it is in a record (* is any one word), and who can confirm it."""

    what: str
    confirmed_by: str
    places: tuple[str, ...]

    def covers(self, place: Place) -> bool:
        """Check whether a value at this place, or a whole that contains nothing else, is meant."""
        return any(_fits(place, tuple(pattern.split("."))) for pattern in self.places)


NOT_CHECKED = (
    NotChecked(
        "what became of the orders, the stops and the earlier orders",
        "the broker's books: make reconcile compares them",
        (
            *(f"report.orders.*.{name}" for name in OUTCOMES),
            "report.stops",
            "report.settled",
        ),
    ),
    NotChecked(
        "why an order was refused or a holding has no stop, and the account afterwards",
        "the broker's own log and history",
        ("report.denials.*.detail", "report.denials.*.is_unprotected", "report.denials.*.code", "report.account.after"),
    ),
    NotChecked(
        "how long it took, which earlier runs it recorded, and what it told its owner",
        "the log and the messages; make verify looks for the records of those runs",
        ("report.timings_s", "report.recovered", "report.problems"),
    ),
    NotChecked(
        "what the run saw, as far as it changes no decision and moves no trend line by a millionth",
        "the next record's hash (make verify), the broker and the price source",
        (
            "observation.now",
            "observation.positions",
            "observation.open_orders",
            "observation.ranking",
            "observation.closes",
            "observation.ohlv",
            "observation.prices",
            "observation.notes",
            "observation.stopped_at",
            "observation.bought_at",
            "observation.peak_equity_usd",
            "observation.peak_problem",
        ),
    ),
    NotChecked(
        "which code made it, and the records before it",
        "make verify, in a clone whose code has this hash",
        ("chain",),
    ),
)


def _fits(place: Place, pattern: Place) -> bool:
    head = place[: len(pattern)]
    return len(head) == len(pattern) and all(want in {"*", word} for word, want in zip(head, pattern, strict=True))


def list_unchecked(record: Mapping[str, Any]) -> list[NotChecked]:
    """Return what this record has that replay takes on trust."""
    places = [place for place, value in leaves(record) if value not in ("", None, [], {})]
    return [each for each in NOT_CHECKED if any(map(each.covers, places))]


def leaves(value: Any, place: Place = ()) -> Iterator[tuple[Place, Any]]:  # noqa: ANN401 any JSON type
    """Yield every value in JSON that contains no other, with its place."""
    if isinstance(value, dict) and value:
        for name, each in value.items():
            yield from leaves(each, (*place, name))
    elif isinstance(value, list) and value:
        for number, each in enumerate(value):
            yield from leaves(each, (*place, str(number)))
    else:
        yield place, value


# --- the whole record ------------------------------------------------------------------------------------------------


def recompute(
    name: str,
    record: Mapping[str, Any],
    progress: Progress = no_progress,
    forecaster: Callable[[Settings], Forecaster] = make_forecaster,
    *,
    index_on: IndexOn = lambda _: None,
    trusts_rule: bool = False,
) -> list[Difference]:
    """Derive again what follows from the record's observation and settings, and return every difference.

    `name` is that of its file, which may name its slot. The text of an own rule is run from the record only if the
    current folder has the same, or if it `trusts_rule`: it is a program. Raises JournalError if it is not a record, and
    OtherEngineError if another version of the map engine made its trend lines.
    """
    try:
        if other := find_other_engine(record):
            raise OtherEngineError(f"{name} is not compared: {other}. Replay it with the version that made it")
        with _rule_of(name, record, trusts_rule=trusts_rule):
            return list(_Record(name, record, progress, forecaster, index_on).differences())
    except (AttributeError, IndexError, KeyError, OverflowError, TypeError, ValueError) as error:
        raise JournalError(f"{name} is not a record of a run: {type(error).__name__}: {one_line(error)}") from error


@contextmanager
def _rule_of(name: str, record: Mapping[str, Any], *, trusts_rule: bool) -> Iterator[None]:
    """Let SIGNAL stand for the rule in the record. Raises JournalError if that would run what nobody trusts."""
    signal = record["settings"].get("signal", "")
    if not own.is_file(signal):
        yield
        return
    files = {str(path): str(text) for path, text in decode_object(record["rule"]).items()}
    if not trusts_rule and files != _read_rule(signal):
        raise JournalError(
            f"{name} was decided by a version of {signal} that is not in this folder. RECORDED_RULE=1 runs the one in "
            "the record; it is a program, so do that only with a journal that you trust"
        )
    with own.recorded(signal, files):
        yield


def _read_rule(signal: str) -> dict[str, str]:
    """Return the files of a rule in the current folder; none if there are none."""
    try:
        return {path: source.decode("utf-8", errors="replace") for path, source in own.list_sources(signal)}
    except RuleError:
        return {}


class _Record:
    """A record, and what its parts mean."""

    def __init__(
        self,
        name: str,
        record: Mapping[str, Any],
        progress: Progress,
        forecaster: Callable[[Settings], Forecaster],
        index_on: IndexOn,
    ) -> None:
        self._name = name
        self._index_on = index_on
        self._record = record
        self._report = decode_object(record["report"])
        self._progress = progress
        self._forecaster = forecaster
        self._is_old = "chain" not in record  # it may lack fields that came later
        self._has_no_plan = not record["settings"] and self._report["status"] == Outcome.INTERRUPTED
        self._settings = self._read_settings()
        seen, decided = record["observation"], record["decision"]
        self._observation = decode(Observation, seen) if seen is not None else None
        self._decision = decode(Decision, decided) if decided is not None else None
        self._decided: Mapping[str, Any] = encode(self._decision) or {}
        self._slot = self._observation.slot if self._observation else decode_time(self._report["slot"])

    def _read_settings(self) -> Settings:
        settings = read_settings(self._record["settings"])
        if not self._has_no_plan:
            return settings
        return replace(settings, strategy=str(self._report["strategy"]), mode=Mode(self._report["mode"]))

    def differences(self) -> Iterator[Difference]:
        """Yield every difference."""
        yield from self._check_form()
        if self._observation:
            yield from self._check_observation(self._observation)
        if self._observation and self._decision:
            yield from self._check_decision(self._observation, self._decision)
        elif self._decision:
            yield _difference(("decision",), "a decision", "none without an observation")
        yield from self._check_report()

    # --- form ---

    def _check_form(self) -> Iterator[Difference]:
        record = self._record
        for part in sorted(record.keys() - PARTS):
            yield _difference((part,), record[part], "no such part")
        if "rule" in record and not own.is_file(self._settings.signal):
            yield _difference(("rule",), record["rule"], f"none, because SIGNAL={self._settings.signal} is no file")
        if record["version"] != VERSION or record.get("gave_back", True) is not True:
            yield _difference(("version",), [record["version"], record.get("gave_back")], VERSION)
        named = parse_slot_id(PurePosixPath(self._name).stem[: len("20221228T2045Z")])
        if named and named != self._slot:
            yield _difference(("report", "slot"), encode(self._slot), f"the slot in the file's name, {encode(named)}")
        if not self._has_no_plan:
            yield from self._compare(("settings",), record["settings"], self._settings.public())
        yield from self._compare(("observation",), record["observation"], encode(self._observation))
        yield from self._compare(("decision",), record["decision"], self._decided if self._decision else None)
        if not self._is_old:
            yield from self._check_chain(decode_object(record["chain"]))

    def _check_chain(self, chain: Mapping[str, Any]) -> Iterator[Difference]:
        names = decode_object(chain["previous"])
        expected = {
            **({"engine": chain.get("engine")} if self._settings.engine is Engine.MAP else {}),
            "code": chain["code"],
            "settings": hash_settings(self._record["settings"]),
            "previous": names,
        }
        yield from differ(("chain",), chain, expected)
        for name, sha256 in (("code", chain["code"]), *names.items()):
            slot = parse_slot_id(name)
            if not (isinstance(sha256, str) and len(sha256) == 64 and set(sha256) <= set("0123456789abcdef")):
                yield _difference(("chain", name), sha256, "a SHA-256")
            if name != "code" and not (slot and slot < self._slot):
                yield _difference(("chain", "previous"), name, "an earlier slot")
        for text in self._report["recovered"] if names else ():
            if slot_id(decode_time(text)) not in names:
                yield _difference(("report", "recovered"), text, "a slot that chain.previous names")

    def _compare(self, place: Place, recorded: object, expected: object) -> Iterator[Difference]:
        """Compare a part; one of an old record may lack fields."""
        yield from differ(place, recorded, expected, may_lack=self._is_old)

    # --- what follows from the observation ---

    def _check_observation(self, seen: Observation) -> Iterator[Difference]:
        chosen = {*top_performers(seen.ranking, self._settings.universe_size), *seen.positions}
        wanted = chosen | {order.symbol for order in seen.open_orders}
        denied = {denial.symbol for denial in seen.denials}
        for symbol in sorted(seen.closes.keys() - wanted):
            yield _difference(("observation", "closes"), symbol, "neither chosen, nor held, nor on order")
        for symbol in sorted(wanted - seen.closes.keys() - denied):
            yield _difference(("observation", "closes"), "", f"{symbol}, or a denial of it")
        for symbol, closes in seen.closes.items():
            if len(closes) > self._settings.history_bars:
                words = f"at most HISTORY_BARS={self._settings.history_bars}"
                yield _difference(("observation", "closes", symbol), f"{len(closes)} bars", words)

    def _check_decision(self, seen: Observation, decision: Decision) -> Iterator[Difference]:
        """Forecast again within the tolerance; then decide again from the recorded forecasts, to the last digit."""
        forecasted = {forecast.symbol for forecast in decision.forecasts}
        late = {
            denial.symbol: denial
            for denial in decision.denials[len(seen.denials) :]
            if denial.code is Code.OUT_OF_TIME and denial.symbol in seen.closes and denial.symbol not in forecasted
        }
        closes = {symbol: series for symbol, series in seen.closes.items() if symbol not in late}
        again = self._forecaster(self._settings).forecast(closes, Deadline.never(), self._progress)
        yield from differ(
            ("decision", "forecasts"), self._decided["forecasts"], encode(again.forecasts), is_line=_is_line
        )
        refused = late | {denial.symbol: denial for denial in again.denials}
        given = Forecasts(
            forecasts=decision.forecasts,
            denials=tuple(refused[symbol] for symbol in seen.closes if symbol in refused),
        )
        expected = pipeline.decide(seen, given, loader.load(self._settings), self._settings)
        if expected != decision:
            yield from differ(("decision",), self._decided, encode(expected))

    # --- the report ---

    def _check_report(self) -> Iterator[Difference]:
        run = self._rebuild_run()
        report = self._report
        if report["status"] == Outcome.INTERRUPTED:
            expected = self._expect_interrupted(run)
        else:
            yield from self._check_status(run)
            expected = dict(build_report(run, report["status"], report["detail"]))
            expected |= {name: report[name] for name in ("problems",) if name in report}  # the run before goes into it
            run.is_guarded = True  # whether it is cannot be seen, but one of the two must be right
            if report["unprotected"] == (guarded := list(find_unprotected(run))):
                expected["unprotected"] = guarded
        yield from self._compare(("report",), report, expected)
        if not run.is_dry:
            yield from self._check_placed(run)
        yield from self._check_ids(run)

    def _rebuild_run(self) -> Run:
        """Return the state of the run at its end. What only others know is taken from the report."""
        report = self._report
        run = Run(
            settings=self._settings,
            slot=self._slot,
            now=self._slot,
            index=self._index_on(self._slot.astimezone(NEW_YORK).date()),
        )
        run.observation, run.decision = self._observation, self._decision
        said = [decode(Denial, denial) for denial in report["denials"]]
        more = said[len(run.denials) :]
        bare = [each for each in more if each.code is Code.UNPROTECTED and each.detail.startswith(BARE)]
        run.unprotected = {
            each.symbol: Unprotected(
                symbol=each.symbol, reason=each.detail.removeprefix(BARE), is_ours=each.is_unprotected
            )
            for each in bare
        }
        if not run.is_dry and (self._decision or self._has_no_plan):
            run.outcomes = [decode(Order, order) for order in report["orders"]]
            run.outcomes += [each for each in more if each not in bare]
        after = report["account"]["after"]
        run.account_after = None if after is None else decode(Account, after)
        is_unchanged = self._decision and (run.is_dry or not self._decision.orders)
        if is_unchanged and self._observation and report["status"] != Outcome.FAILED:
            run.account_after = self._observation.account
        run.recovered = [decode_time(slot) for slot in report.get("recovered", ())]
        run.settled = [decode(Settled, each) for each in report.get("settled", ())]
        run.stops = [decode(Order, order) for order in report.get("stops", ())]
        run.timings_s = {stage: float(seconds) for stage, seconds in report["timings_s"].items()}
        return run

    def _expect_interrupted(self, run: Run) -> Mapping[str, Any]:
        """Return the report that recovery writes of a run that was cut off."""
        orders, stops = run.placed, run.stops
        run.outcomes, run.stops = [], []
        plan = None
        if self._decision:
            plan = PlannedRun({**self._record, "report": build_report(run, STARTED)}, self._decision.orders)
        made = build_interrupted_record(self._slot, self._settings, plan, orders, stops)
        run.outcomes, run.stops = list(orders), stops
        report: Mapping[str, Any] = made["report"]
        return report

    def _check_status(self, run: Run) -> Iterator[Difference]:
        """Derive the status again, unless an error or a closed gate ended the run, of which the detail must tell."""
        status, detail = self._report["status"], self._report["detail"]
        if not (self._observation and self._decision):
            ends = {str(code) for code in Code} | {Outcome.FAILED}
            if status not in ends or not detail:
                yield _difference(("report", "status"), f"{status} {detail}", "a code and its detail, or FAILED")
            return
        planned = len(self._decision.orders)
        if status == Outcome.FAILED or (status in STOPPED and not run.is_dry and len(run.placed) < planned):
            if not detail:
                yield _difference(("report", "detail"), detail, f"the reason for {status}")
            return
        expected = pipeline.outcome(run, self._observation, self._decision)
        if status != expected:
            yield _difference(("report", "status"), status, expected)
        lack = pipeline.find_lack_of_prices(self._observation, run)
        if bool(detail) != (expected is lack):
            yield _difference(("report", "detail"), detail, "what is there instead of prices" if lack else "")

    def _check_placed(self, run: Run) -> Iterator[Difference]:
        """Compare the orders that were sent with those that were planned, and look for one that is neither."""
        planned = list(self._decision.orders) if self._decision else []
        by_id = {order.client_order_id: (number, order) for number, order in enumerate(planned)}
        is_cut_off = self._report["status"] == Outcome.INTERRUPTED
        seen: list[int] = []
        for number, order in enumerate(run.placed):
            place = ("report", "orders", str(number))
            if order.client_order_id not in by_id:
                if not self._has_no_plan:
                    yield _difference(place, order.client_order_id, "not planned")
                continue
            position, plan = by_id[order.client_order_id]
            if position in seen or (not is_cut_off and seen and position < seen[-1]):
                yield _difference(place, order.client_order_id, "once, in the order of the plan")
            seen.append(position)
            is_less = order.side is Side.SELL and 0 < order.quantity <= plan.quantity  # as far as it was still held
            known = {name: getattr(order, name) for name in OUTCOMES}
            expected = replace(plan, **known, quantity=order.quantity if is_less else plan.quantity)
            yield from self._compare(place, self._report["orders"][number], encode(expected))
        if not is_cut_off:
            yield from self._check_refused(run, planned)

    def _check_refused(self, run: Run, planned: Sequence[Order]) -> Iterator[Difference]:
        """Look for planned orders that were neither sent nor refused, and for refusals of others."""
        refusals = [each for each in run.outcomes if isinstance(each, Denial)]
        refused = [each.symbol for each in refusals]
        sent = {order.symbol: order for order in run.placed}
        may_lack = self._report["status"] in {*STOPPED, Outcome.FAILED}
        for symbol in dict.fromkeys(refused):
            order = sent.get(symbol)
            if symbol not in {each.symbol for each in planned} or refused.count(symbol) > 1:
                yield _difference(("report", "denials"), symbol, "one denial of a planned order")
            elif order and order.is_final and not order.came_to_nothing:
                yield _difference(("report", "denials"), symbol, f"none: its order is {order.status}")
        for refusal in refusals:
            begins = [f"{each.side} {each.quantity:g}: " for each in planned if each.symbol == refusal.symbol]
            if not any(map(refusal.detail.startswith, begins)) and refusal.symbol not in sent:
                yield _difference(("report", "denials"), refusal.detail, f"{' or '.join(begins)}and the reason")
        for order in planned:
            done = sent.get(order.symbol)
            if not may_lack and order.symbol not in refused and (done is None or done.came_to_nothing):
                yield _difference(("report", "orders"), "", f"{order.client_order_id}, or a denial of it")

    def _check_ids(self, run: Run) -> Iterator[Difference]:
        """Check that stops and settled orders have ids of this strategy, each once; stops those of this slot."""
        strategy = self._settings.strategy
        stops = [order.client_order_id for order in run.stops]
        for number, order in enumerate(run.stops):
            parts = OrderId.parse(order.client_order_id)
            own = parts and OrderId(strategy, self._slot, order.symbol, Side.SELL, parts.stop_number)
            if parts != own or stops.count(order.client_order_id) > 1:
                yield _difference(("report", "stops", str(number)), order.client_order_id, "a stop of this slot, once")
        settled = [order.client_order_id for order in run.settled]
        for number, each in enumerate(run.settled):
            parts = OrderId.parse(each.client_order_id)
            is_own = parts and (parts.strategy, parts.symbol, parts.side) == (strategy, each.symbol, each.side)
            if not parts or not is_own or parts.slot >= self._slot or settled.count(each.client_order_id) > 1:
                what = ("report", "settled", str(number))
                yield _difference(what, each.client_order_id, "an order of an earlier slot, once")


# --- comparison ------------------------------------------------------------------------------------------------------


def differ(
    place: Place,
    recorded: object,
    expected: object,
    *,
    may_lack: bool = False,
    is_line: Callable[[Place], bool] = lambda _: False,
) -> Iterator[Difference]:
    """Yield each value that differs between two values of JSON types. The order of a list counts, that of names not.

    With `may_lack`, names may be missing in what is recorded. Numbers at the places of `is_line` have the tolerance.
    """
    if isinstance(recorded, dict) and isinstance(expected, Mapping):
        for name in [*expected, *(recorded.keys() - expected.keys())]:
            if name not in recorded:
                if not may_lack:
                    yield _difference((*place, name), "", expected[name])
            elif name not in expected:
                yield _difference((*place, name), recorded[name], "")
            else:
                inner = (*place, name)
                yield from differ(inner, recorded[name], expected[name], may_lack=may_lack, is_line=is_line)
    elif isinstance(recorded, list) and isinstance(expected, list):
        if recorded == expected and TEXT_AND_NUMBERS.issuperset(map(type, (*recorded, *expected))):
            return  # such as a year of prices
        for number in range(max(len(recorded), len(expected))):
            inner = (*place, str(number))
            if number >= len(recorded):
                yield _difference(inner, "", expected[number])
            elif number >= len(expected):
                yield _difference(inner, recorded[number], "")
            else:
                yield from differ(inner, recorded[number], expected[number], may_lack=may_lack, is_line=is_line)
    elif not _are_equal(recorded, expected, FORECAST_TOLERANCE if is_line(place) else 0.0):
        yield _difference(place, recorded, expected)


def _are_equal(recorded: object, expected: object, tolerance: float) -> bool:
    if isinstance(recorded, bool) or isinstance(expected, bool):
        return recorded is expected
    if isinstance(recorded, int | float) and isinstance(expected, int | float):
        return math.isclose(recorded, expected, rel_tol=tolerance)
    return recorded == expected


def _is_line(place: Place) -> bool:
    """Check whether a value is a number of a trend line: ("decision", "forecasts", "0", "line", "3", "1")."""
    return len(place) > 3 and place[3] in LINES


def _difference(place: Place, recorded: object, replayed: object) -> Difference:
    return Difference(what=one_line(".".join(place)), recorded=to_text(recorded), replayed=to_text(replayed))


def to_text(value: object) -> str:
    """Return a value on one line; nothing for None."""
    if isinstance(value, list | tuple):
        return " ".join(one_line(each) for each in value if each is not None)
    return "" if value is None else one_line(value)


def slot_of(record: Mapping[str, Any]) -> datetime:
    """Return the slot of a record."""
    return decode_time(record["report"]["slot"])
