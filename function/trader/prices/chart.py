"""Yahoo's answer to a chart request: the bars of a symbol in the unit of its last close, and the splits it reports."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, date, datetime
from http import HTTPStatus
from math import isfinite
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from trader.logs import MAX_REASON_CHARACTERS, one_line
from trader.model import BAR_LENGTH, NEW_YORK, Closes
from trader.prices.bars import PRICES, VOLUME
from trader.prices.dividends import Days, find_late, follow_adjusted, follow_dividends
from trader.prices.jumps import Flags, Floats
from trader.prices.series import find_impossible, say

MAX_TIME_S = 1e10
"""A Unix time of the year 2286, far beyond any bar."""

type Result = Mapping[str, Any]
"""The result in a chart answer, not checked yet."""

type Rows = dict[str, Floats]
"""The columns of a chart: the time in Unix seconds, four prices, and perhaps the adjusted close and the volume."""


class NoBarsError(Exception):
    """Yahoo says that it has no bars of the symbol; another request would not change that."""


class FaultError(Exception):
    """Yahoo or the connection to it fails, which says nothing about the symbol.

    `is_passing` is false if the next answer is likely to be the same.
    """

    def __init__(self, reason: str, *, is_passing: bool = True) -> None:
        super().__init__(reason)
        self.is_passing = is_passing


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """The bars of a symbol: prices as Yahoo reports them, and the factors that adjust them for dividends.

    The factor of the last close is 1, so that the adjusted prices end at what is paid. `splits` are those that Yahoo
    reports, by their day, in new shares for each old one; its prices should be adjusted for them, but are not always.
    """

    index: pd.DatetimeIndex  # the starts of the bars, in UTC
    prices_usd: Mapping[str, Floats]  # open, high, low and close; NaN where one is missing
    factors: Floats
    splits: Mapping[date, float]
    notes: tuple[str, ...]
    volume: Floats | None = None  # in shares; None unless it is asked for

    def closes(self) -> Closes:
        """Return the adjusted closes."""
        return pd.Series(self.prices_usd["close"] * self.factors, index=self.index)

    def bars(self) -> pd.DataFrame:
        """Return all four prices, adjusted alike, and the volume if it was asked for.

        Yahoo adjusts the volume for splits, and a dividend changes the number of no shares.
        """
        columns: Rows = {name: self.prices_usd[name] * self.factors for name in PRICES}
        if self.volume is not None:
            columns[VOLUME] = self.volume
        return pd.DataFrame(columns, index=self.index)


# --- what an answer says -------------------------------------------------------------------------------------------

ABOUT_SYMBOL = frozenset({200, 400, 404, 422})
ABOUT_SYMBOL_CODES = frozenset({"not found", "bad request", "unprocessable entity", "argument-error"})
"""The statuses and error codes of a chart with which Yahoo says that it has no such symbol, or no such bars of it."""


def find_result(status: int, body: str | bytes) -> Result:
    """Return the result in the answer to a chart request.

    Raises NoBarsError if the answer is about the symbol, and FaultError if it is about anything else: a 401 or 503 is
    no statement about a symbol, whatever its body.
    """
    said = f"Yahoo answered {status}{_phrase(status)}"
    try:
        answer = json.loads(body)
    except (RecursionError, ValueError) as error:
        raise FaultError(said if status >= 400 else f"{said}, but not in JSON") from error
    chart = answer.get("chart") if isinstance(answer, dict) else None
    if (told := _error_in(answer)) is not None:
        code, description = (str(told.get(name) or "") for name in ("code", "description"))
        is_about_symbol = status in ABOUT_SYMBOL and code.lower() in ABOUT_SYMBOL_CODES and isinstance(chart, dict)
        named = "" if said.endswith(code) else code
        reason = description or code if is_about_symbol else ": ".join(filter(None, (said, named, description)))
        raise (NoBarsError if is_about_symbol else FaultError)(one_line(reason, MAX_REASON_CHARACTERS))
    if status >= 400:
        raise FaultError(said)
    if not isinstance(chart, dict):
        raise FaultError(f"{said}, but without a chart")
    results = chart.get("result")
    if not results:
        raise NoBarsError("Yahoo has no data of this symbol")
    if not isinstance(results, list) or not isinstance(results[0], dict):
        raise FaultError(f"{said}, but with a chart of another form", is_passing=False)
    result: Result = results[0]
    return result


def _phrase(status: int) -> str:
    return f" {HTTPStatus(status).phrase}" if status in set(HTTPStatus) else ""


def _error_in(answer: object) -> Mapping[str, object] | None:
    """Return the error in an answer of the chart service, or of Yahoo's services in general."""
    parts = [answer.get(name) for name in ("chart", "finance")] if isinstance(answer, dict) else []
    error = next((part["error"] for part in parts if isinstance(part, dict) and part.get("error")), None)
    return error if error is None or isinstance(error, dict) else {"description": error}


# --- bars ----------------------------------------------------------------------------------------------------------


def read_chart(result: Result, interval: str, until: datetime, *, reads_volume: bool = False) -> Chart:
    """Return the bars in a result that begin up to `until`, in the unit of the last of them.

    Daily bars are adjusted by Yahoo's adjusted closes. Shorter ones have none, so they are adjusted by the dividends
    among the result's events. Raises NoBarsError if there is no close, and FaultError if the result has another form.
    """
    try:
        return _read(result, interval, until, reads_volume=reads_volume)
    except NoBarsError:
        raise
    except Exception as error:  # the result can have any form
        what = f"{type(error).__name__}: {one_line(error, MAX_REASON_CHARACTERS)}"
        raise FaultError(f"Yahoo's answer has another form than its charts ({what})", is_passing=False) from error


def _read(result: Result, interval: str, until: datetime, *, reads_volume: bool) -> Chart:
    zone = _zone(result)
    rows = _rows(result, reads_volume=reads_volume)
    if interval != "1d":
        rows = _take(rows, _are_regular(result, rows["time"], interval, zone))
    rows = _merge_running_bar(rows, interval, zone)
    index = _index(rows["time"], interval, zone)
    is_repeated = index.duplicated(keep="last")
    if is_repeated.any():
        rows, index = _take(rows, ~is_repeated), index[~is_repeated]
    if len(index) and index[-1] > until:
        is_known = np.asarray(index <= pd.Timestamp(until))
        rows, index = _take(rows, is_known), index[is_known]
    if np.isnan(rows["close"]).all():
        raise NoBarsError("Yahoo has no prices of it in the requested time")
    factors, notes = _adjust(result, rows, index, interval, zone)
    splits, unread = _splits(result, zone)
    if count := int(is_repeated.sum()):
        unread.append(f"bars of Yahoo's answer that are followed by another of the same time are left out: {count:,}")
    prices_usd = {name: rows[name] for name in PRICES}
    return Chart(
        index=index,
        prices_usd=prices_usd,
        factors=factors,
        splits=splits,
        notes=(*notes, *unread),
        volume=rows.get(VOLUME),
    )


def _zone(result: Result) -> ZoneInfo:
    try:
        return ZoneInfo(result["meta"]["exchangeTimezoneName"])
    except (LookupError, OSError, TypeError, ValueError):  # it is missing, or no zone
        return NEW_YORK


def _rows(result: Result, *, reads_volume: bool) -> Rows:
    """Return the columns, in order of time. A column that is missing as a whole is filled with NaN."""
    quote = result["indicators"]["quote"][0]
    if not quote:
        raise NoBarsError("Yahoo has no bars of it in the requested time")
    count = len(result["timestamp"])
    columns = {"time": result["timestamp"], **{name: quote.get(name) for name in PRICES}, "close": quote["close"]}
    adjusted = (result["indicators"].get("adjclose") or [{}])[0]
    if adjusted and adjusted.get("adjclose"):
        columns["adjusted"] = adjusted["adjclose"]
    if reads_volume:
        columns[VOLUME] = quote.get(VOLUME)
    rows = {name: np.full(count, np.nan) if column is None else _numbers(column) for name, column in columns.items()}
    if lengths := {name: len(column) for name, column in rows.items() if len(column) != count}:
        raise ValueError(f"{count} times, but {lengths}")
    if not (np.abs(rows["time"]) < MAX_TIME_S).all():
        raise ValueError("a bar lacks its time, or has one that cannot be")
    if (np.diff(rows["time"]) < 0).any():
        rows = _take(rows, np.argsort(rows["time"], kind="stable"))
    return rows


def _numbers(values: Sequence[float | None]) -> Floats:
    return np.array(values, dtype=np.float64)  # None becomes NaN


def _take(rows: Rows, which: Flags | NDArray[np.intp]) -> Rows:
    return {name: column[which] for name, column in rows.items()}


def _local(times_s: Floats, zone: ZoneInfo) -> pd.DatetimeIndex:
    """Return the moments in a zone's time, without the zone."""
    moments = pd.DatetimeIndex(times_s.astype("int64").astype("datetime64[s]"), tz=UTC)
    return moments.tz_convert(zone).tz_localize(None)


def _days(times_s: Floats, zone: ZoneInfo) -> Days:
    return _local(times_s, zone).to_numpy().astype("datetime64[D]")


def _index(times_s: Floats, interval: str, zone: ZoneInfo) -> pd.DatetimeIndex:
    """Return the starts of the bars; a daily one starts at the day's midnight, although Yahoo names its opening."""
    if interval != "1d":
        return pd.DatetimeIndex(times_s.astype("int64").astype("datetime64[s]"), tz=UTC)
    local = _local(times_s, zone)
    is_before_midnight = (local.minute == 0) & (local.hour >= 22)  # a midnight in the wrong half of the year
    days = local.where(~is_before_midnight, local + pd.Timedelta(2, "h")).normalize()
    return days.tz_localize(zone, ambiguous=np.ones(len(days), dtype=bool), nonexistent="shift_forward").tz_convert(UTC)


def _are_regular(result: Result, times_s: Floats, interval: str, zone: ZoneInfo) -> Flags:
    """Return which bars share some time with the regular sessions in the result, or are of days without one in it.

    Yahoo adds bars of other times without being asked, and one that begins at the close.
    """
    periods = result["meta"].get("tradingPeriods") if result.get("meta") else None
    regular = periods.get("regular") if isinstance(periods, dict) else periods
    flat = (each for group in regular or () for each in (group if isinstance(group, list) else [group]))
    spans = np.array(sorted((each["start"], each["end"]) for each in flat), dtype=np.float64).reshape(-1, 2)
    if not len(spans):
        return np.ones(len(times_s), dtype=np.bool_)
    starts_s, ends_s = spans.T
    place = np.searchsorted(ends_s, times_s, side="right")  # of the first session that ends later
    begins_s = np.append(starts_s, np.inf)[place]
    is_known_day = np.isin(_days(times_s, zone), _days(starts_s, zone))
    return (times_s + BAR_LENGTH[interval].total_seconds() > begins_s) | ~is_known_day


def _merge_running_bar(rows: Rows, interval: str, zone: ZoneInfo) -> Rows:
    """Make one bar of the last two if they are the same one: Yahoo adds the running bar as of now to the one so far."""
    time = rows["time"]
    if len(time) < 2:
        return rows
    if interval == "1d":
        first, second = _days(time[-2:], zone)
        is_same = first == second
    else:
        is_same = time[-1] - time[-2] < BAR_LENGTH[interval].total_seconds()
    if not is_same:
        return rows
    if np.isnan(rows["close"][-1]):
        return {name: column[:-1] for name, column in rows.items()}
    bar = {name: column[-1] for name, column in rows.items()}
    if interval != "1d":  # a daily bar as of now is complete
        bar["time"] = time[-2]
        bar["open"] = rows["open"][-1] if np.isnan(rows["open"][-2]) else rows["open"][-2]
        bar["high"], bar["low"] = np.fmax(*rows["high"][-2:]), np.fmin(*rows["low"][-2:])
        if VOLUME in rows and not np.isnan(rows[VOLUME][-2:]).all():
            bar[VOLUME] = np.nansum(rows[VOLUME][-2:])
    return {name: np.append(column[:-2], bar[name]) for name, column in rows.items()}


# --- dividends and splits ------------------------------------------------------------------------------------------


def _adjust(
    result: Result, rows: Rows, index: pd.DatetimeIndex, interval: str, zone: ZoneInfo
) -> tuple[Floats, list[str]]:
    """Return the factors that adjust the prices, that of the last close being 1, and notes on what is unusual."""
    closes_usd, days, notes = rows["close"], _days(rows["time"], zone), []
    dividends_usd, unread = _dividends(result, zone)

    def note(is_it: Flags, what: str) -> None:
        if is_it.any():
            first = say(index[is_it][0], interval)
            count = int(is_it.sum())
            notes.append(f"on {first}{f' and {count - 1:,} later bars' if count > 1 else ''} {what}")

    adjusted_usd = rows.get("adjusted", np.full(0, np.nan))
    if interval != "1d" or np.isnan(adjusted_usd).all():
        factors, impossible = follow_dividends(closes_usd, days, dividends_usd)
        if interval == "1d":
            notes.append("Yahoo's answer lacks adjusted closes; the closes are adjusted by the dividends in it")
    else:
        factors, is_fallen, is_filled = follow_adjusted(closes_usd, adjusted_usd)
        note(is_fallen, "Yahoo's adjusted close is lowered too early, by a dividend to come; this is undone")
        note(is_filled, "Yahoo's adjusted close is missing or impossible; the close is adjusted like the one before")
        note(
            np.isnan(closes_usd) & ~np.isnan(adjusted_usd), "Yahoo has an adjusted close, but no close; it is left out"
        )
        late = {day: dividends_usd[day] for day in find_late(closes_usd, factors, days, dividends_usd)}
        more, impossible = follow_dividends(closes_usd, days, late)
        factors = factors * more
        notes += [f"Yahoo's adjusted closes lack the dividend of {day}; the closes are adjusted for it" for day in late]
    notes += [f"the dividend of {day} is as much as the close before; it is ignored" for day in impossible]
    paid = np.flatnonzero(~np.isnan(closes_usd) & ~find_impossible(closes_usd))
    return factors / factors[paid[-1] if len(paid) else -1], [*notes, *unread]


def _dividends(result: Result, zone: ZoneInfo) -> tuple[dict[date, float], list[str]]:
    """Return the dividends by their ex-dates, and notes on those that cannot be read.

    A fund's capital gains are paid out like dividends. Yahoo's dividend of the same day contains them already.
    """
    found: dict[str, dict[date, float]] = {"dividends": {}, "capitalGains": {}}
    unread = []
    currency = (result.get("meta") or {}).get("currency")
    for kind, of_kind in found.items():
        for day, event in _events(result, kind, zone):
            amount, paid_in = _number(event.get("amount")), event.get("currency")
            if not amount or amount < 0 or (paid_in and currency and paid_in != currency):
                unread.append(f"a dividend of {day} cannot be used: {one_line(event, MAX_REASON_CHARACTERS)}")
            else:
                of_kind[day] = of_kind.get(day, 0.0) + amount
    gains = found["capitalGains"]
    return found["dividends"] | {day: max(gains[day], found["dividends"].get(day, 0.0)) for day in gains}, unread


def _splits(result: Result, zone: ZoneInfo) -> tuple[dict[date, float], list[str]]:
    """Return the splits by their days, in new shares for each old one, and notes on those that cannot be read."""
    splits: dict[date, float] = {}
    unread = []
    for day, event in _events(result, "splits", zone):
        new, old = (_number(event.get(name)) for name in ("numerator", "denominator"))
        if new and old and min(new, old) > 0:
            splits[day] = splits.get(day, 1.0) * new / old
        else:
            unread.append(f"a split of {day} cannot be read: {one_line(event, MAX_REASON_CHARACTERS)}")
    return splits, unread


def _events(result: Result, kind: str, zone: ZoneInfo) -> Iterator[tuple[date, Mapping[str, object]]]:
    """Yield the events of a kind with their days at the exchange; those without a day are left out."""
    events = (result.get("events") or {}).get(kind) or {}
    for event in events.values() if isinstance(events, dict) else events:
        if isinstance(event, dict) and (time_s := _number(event.get("date"))) is not None:
            with suppress(OSError, OverflowError, ValueError):  # no calendar reaches that far
                yield datetime.fromtimestamp(time_s, zone).date(), event


def _number(value: object) -> float | None:
    try:
        number = float(value)  # type: ignore[arg-type]  # anything that is no number raises an error
    except (OverflowError, TypeError, ValueError):
        return None
    return number if isfinite(number) else None
