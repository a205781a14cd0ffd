"""Series: the closes of one symbol in one unit, and the one door through which every source's prices come in."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from functools import lru_cache
from typing import Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from trader.model import BARS_PER_SESSION, NEW_YORK, OHLV, Closes, Code, Ohlv
from trader.prices.jumps import Floats, Jump, Verdict, judge, name_split
from trader.schedule import sessions

MIN_PRICE_USD, MAX_PRICE_USD = 0.01, 10_000_000
"""The range of possible share prices; a price outside it is an error of the source."""

MAX_VOLUME_SHARES = 1e13
"""The largest possible volume of a bar; no share has ever had a thousandth of it in a day."""

VOLUME = OHLV.index("volume")

type Integers = NDArray[np.int64]


class UnusableError(Exception):
    """The closes of one symbol cannot be used for trading; `code` is the reason code."""

    def __init__(self, code: Code, detail: str) -> None:
        super().__init__(detail)
        self.code = code


def last_bars(closes: Closes, count: int) -> Closes:
    """Return the last `count` closes, or all of them if there are fewer."""
    return closes if len(closes) <= count else closes.iloc[-count:]


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """A split that nobody adjusted the prices for. `ratio` is in new shares for each old one."""

    time: datetime  # the start of the first bar in the new unit
    visible_from: datetime  # the start of the first bar in the new unit that `visible` returns
    ratio: float


class Series:
    """The closes of one symbol: sorted, one for each bar of the exchange's sessions, none of them impossible.

    The constructor is the only way to make one from a source's answer. It leaves out what cannot be a price, with a
    note for each kind, and judges the jumps (see trader.prices.jumps). The closes are adjusted for splits and
    dividends, in a unit in which the last one is what is paid: statistics and orders can use the same number.

    A source that was asked for them gives the rest of the bars too; a bar that is left out is left out as a whole.
    """

    __slots__ = ("_closes", "_interval", "_ohlv", "_prices_usd", "_rows", "_times_ns", "_verdict", "_whole", "notes")

    notes: tuple[str, ...]
    """What was left out, in words: a note for each kind."""

    def __init__(
        self,
        closes: Closes,
        *,
        interval: str,
        splits: Mapping[date, float] | None = None,
        knows_all_splits: bool = False,
        notes: Sequence[str] = (),
        ohlv: Ohlv | None = None,
    ) -> None:
        """Clean the closes of bars of this interval, and judge their jumps.

        `splits` are those that the source reports, by the day in New York on which the shares first trade in the new
        unit, in new shares for each old one; None if the source reports none. If it `knows_all_splits`, a fall that it
        does not explain by one is a crash, which can be used at once. `notes` are the source's own. `ohlv` is the rest
        of the bars, whose prices fit the closes (see trader.prices.bars); an impossible volume in it becomes NaN.
        """
        if not closes.index.is_monotonic_increasing:
            if ohlv is not None:
                ohlv = ohlv[pd.Series(np.arange(len(closes)), closes.index).sort_index().to_numpy()]
            closes = closes.sort_index()
        bars = _look_at(closes.index, interval)
        index, prices_usd = bars.index_ns, closes.to_numpy(float)
        is_kept = np.ones(len(index), dtype=np.bool_)
        found = list(notes)
        for is_out, what in (
            (bars.is_outside, "outside the exchange's sessions"),
            (find_impossible(prices_usd), "impossible"),
            (bars.is_repeated, "followed by another one of the same bar"),
        ):
            if (is_new := is_out & is_kept).any():
                found.append(describe_removal(index, prices_usd, is_new, what, interval))
                is_kept &= ~is_new
        is_kept &= ~np.isnan(prices_usd)
        self.notes = tuple(found)
        self._interval = interval
        self._whole: Closes = closes if is_kept.all() else closes[is_kept]
        self._closes: Closes | None = self._whole
        self._rows = slice(0, len(self._whole))
        self._ohlv = ohlv if ohlv is None else _clean(ohlv if is_kept.all() else ohlv[is_kept])
        self._times_ns: Integers = index.asi8 if is_kept.all() else index.asi8[is_kept]
        self._prices_usd: Floats = self._whole.to_numpy(float)
        self._verdict = judge(
            self._prices_usd,
            bars_per_session=BARS_PER_SESSION[interval],
            events=None if splits is None else self._rows_of(splits),
            knows_all_splits=knows_all_splits,
        )

    def __len__(self) -> int:
        return len(self._times_ns)

    @property
    def has_verdict(self) -> bool:
        """True if some closes are wrong or not confirmed, or in another unit than those before."""
        return self._verdict is not None

    @property
    def is_withheld(self) -> bool:
        """True if the last close follows a jump that later bars have not confirmed yet."""
        return self._verdict is not None and bool(self._verdict.is_absent[-1])

    @property
    def closes(self) -> Closes:
        """All closes that are possible prices, whatever the verdict on their jumps."""
        if self._closes is None:  # a part is cut when it is looked at: of most, only the end is
            self._closes = self._whole.iloc[self._rows]
        return self._closes

    @property
    def prices_usd(self) -> Floats:
        """The closes without their times."""
        return self._prices_usd

    @property
    def times_ns(self) -> Integers:
        """The starts of the bars, in nanoseconds since 1970."""
        return self._times_ns

    def until(self, now: datetime, *, count: int | None = None, since: datetime | None = None) -> Self:
        """Return the part that a run at `now` sees: the last `count` bars, or those from `since` on."""
        end = int(np.searchsorted(self._times_ns, to_ns(now), side="right"))
        begin = 0 if since is None else int(np.searchsorted(self._times_ns, to_ns(since)))
        if count is not None:
            begin = max(begin, self._begin_of(count, end))
        if begin == 0 and end == len(self):
            return self
        part = object.__new__(type(self))
        part.notes, part._interval = self.notes, self._interval
        part._whole, part._rows = self._whole, slice(self._rows.start + begin, self._rows.start + end)
        part._closes, part._times_ns, part._prices_usd = None, self._times_ns[begin:end], self._prices_usd[begin:end]
        part._ohlv = None if self._ohlv is None else self._ohlv[begin:end]
        part._verdict = _cut(self._verdict, begin, end)
        return part

    def _begin_of(self, count: int, end: int) -> int:
        """Return the row at which the last `count` bars before the row `end` begin; wrong prices do not count."""
        if self._verdict is None:
            return max(0, end - count)
        right = np.flatnonzero(~self._verdict.is_wrong[:end])
        return int(right[-count]) if len(right) >= count else 0

    def are_plain(self, count: int) -> NDArray[np.bool_]:
        """Return, for each bar, whether `until` this bar shows `count` bars without any verdict on their jumps."""
        if self._verdict is None:
            return np.ones(len(self), dtype=np.bool_)
        is_right, ends = ~self._verdict.is_wrong, np.arange(1, len(self) + 1)
        known, rows = np.cumsum(is_right), np.append(np.flatnonzero(is_right), 0)
        begins = np.where(known >= count, rows[np.maximum(known - count, 0)], 0)
        absent = np.append(0, np.cumsum(self._verdict.is_absent))
        is_plain: NDArray[np.bool_] = absent[ends] == absent[begins]
        for jump in self._verdict.jumps:
            is_plain &= (begins >= jump.row) | (ends <= jump.known_row)
        return is_plain

    def require_usable(self, now: datetime, max_age_s: float) -> Closes:
        """Return the closes for a decision at `now`.

        Raises UnusableError if there is none, if the last bar is more than `max_age_s` old, if a jump is not confirmed
        yet, or if the closes are in two units.
        """
        if not len(self):
            because = f" ({'; '.join(self.notes)})" if self.notes else ""
            raise UnusableError(Code.NO_PRICE_DATA, f"no price up to now{because}")
        age_s = (to_ns(now) - int(self._times_ns[-1])) / 1e9
        if age_s > max_age_s:
            last: datetime = self.closes.index[-1]
            old = f"last price is of {last.astimezone(NEW_YORK):%Y-%m-%d %H:%M} New York, {say_age(age_s)} old"
            raise UnusableError(Code.STALE_PRICE, f"{old}; MAX_PRICE_AGE_S={max_age_s:.0f} allows {say_age(max_age_s)}")
        verdict = self._verdict
        if verdict is None:
            return self.closes
        if self.is_withheld:
            raise UnusableError(Code.NO_PRICE_DATA, self._describe_unconfirmed(verdict))
        if verdict.jumps:
            raise UnusableError(Code.NO_PRICE_DATA, self._describe_jump(verdict.jumps[-1]))
        return self.fitted()

    def visible(self) -> Closes:
        """Return the closes for valuing and filling: without wrong prices, and without jumps until they are confirmed.

        Each bar is there or not by what was known at its own time, so a later look shows the same.
        """
        return self.closes if self._verdict is None else self.closes[~self._verdict.is_absent]

    def find_splits(self) -> tuple[Split, ...]:
        """Return the splits that nobody adjusted for, as far as they are confirmed."""
        jumps = self._verdict.jumps if self._verdict else ()
        index = self.closes.index
        return tuple(
            Split(
                time=index[jump.row].to_pydatetime(),
                visible_from=index[jump.known_row].to_pydatetime(),
                ratio=jump.ratio,
            )
            for jump in jumps
            if jump.ratio
        )

    def find_changes_of_unit(self) -> tuple[datetime, ...]:
        """Return the start of the first bar in each new unit, as far as the changes are confirmed."""
        jumps = self._verdict.jumps if self._verdict else ()
        return tuple(self.closes.index[jump.row].to_pydatetime() for jump in jumps)

    def fitted(self) -> Closes:
        """Return the closes for statistics: all but wrong prices, whatever was known when."""
        return self.closes if self._verdict is None else self.closes[~self._verdict.is_wrong]

    def fitted_ohlv(self) -> Ohlv | None:
        """Return the rest of the bars of `fitted`; None if the source has closes only, or was asked for no more."""
        if self._ohlv is None or self._verdict is None:
            return self._ohlv
        return self._ohlv[~self._verdict.is_wrong]

    def describe_lack(self) -> str:
        """Say what the bars lack of open, high, low and volume; empty if they have all."""
        if self._ohlv is None:
            return "closes only"
        return "" if (self._ohlv[:, VOLUME] > 0).any() else "no volume"

    @property
    def withheld_since(self) -> datetime | None:
        """The start of the first bar since the jump that later bars have not confirmed yet; None if there is none."""
        if self._verdict is None or not self.is_withheld:
            return None
        since: datetime = self.closes.index[_find_withheld(self._verdict)].to_pydatetime()
        return since

    def describe_jumps(self) -> tuple[str, ...]:
        """Return a note for each jump that the closes are not one unit across, and for wrong prices."""
        if self._verdict is None:
            return ()
        notes = [self._describe_jump(jump) for jump in self._verdict.jumps]
        if self.is_withheld:
            notes.append(self._describe_unconfirmed(self._verdict))
        return (*notes, *self.describe_wrong())

    def describe_wrong(self) -> tuple[str, ...]:
        """Return a note on the closes that are left out because those around them show that they are wrong."""
        if self._verdict is None:
            return ()
        is_wrong = self._verdict.is_wrong.copy()
        if self.is_withheld:
            is_wrong[_find_withheld(self._verdict) :] = False  # only later bars show it
        if not is_wrong.any():
            return ()
        index, prices_usd = pd.DatetimeIndex(self.closes.index), self._prices_usd
        return (describe_removal(index, prices_usd, is_wrong, "far from those around it", self._interval),)

    def _describe_jump(self, jump: Jump) -> str:
        change = self._describe_change(jump.row)
        if jump.ratio is None:
            return f"change of unit {change}; left out while bars before it are in use"
        return f"unadjusted {name_split(jump.ratio)} split {change}; left out while bars before it are in use"

    def _describe_unconfirmed(self, verdict: Verdict) -> str:
        change = self._describe_change(_find_withheld(verdict))
        return f"split or wrong price {change}; it is used once later bars confirm it"

    def _describe_change(self, row: int) -> str:
        before_usd, after_usd = (float(self._prices_usd[max(each, 0)]) for each in (row - 1, row))
        at = say(self.closes.index[row], self._interval)
        return f"on {at}, from {before_usd:,.2f} to {after_usd:,.2f} ({after_usd / before_usd - 1:+.1%})"

    def _rows_of(self, splits: Mapping[date, float]) -> list[tuple[int, float]]:
        midnights = [pd.Timestamp(day, tz=NEW_YORK).value for day in splits]
        return list(
            zip(np.searchsorted(self._times_ns, midnights).tolist(), splits.values(), strict=True) if midnights else []
        )


@dataclass(frozen=True, slots=True)
class _BarTimes:
    """What the times of bars say by themselves, whatever the prices are."""

    index: pd.Index
    index_ns: pd.DatetimeIndex
    is_outside: NDArray[np.bool_]
    is_repeated: NDArray[np.bool_]


_LATEST: dict[str, _BarTimes] = {}
"""The latest times that were looked at, by interval: the columns of a table share them, and there are hundreds."""


def _look_at(index: pd.Index, interval: str) -> _BarTimes:
    latest = _LATEST.get(interval)
    if latest is None or not latest.index.is_(index):
        index_ns = pd.DatetimeIndex(index).as_unit("ns")
        outside, repeated = find_outside(index_ns, interval), find_repeated(index_ns, interval)
        latest = _LATEST[interval] = _BarTimes(index, index_ns, outside, repeated)
    return latest


def _clean(ohlv: Ohlv) -> Ohlv:
    volume = ohlv[:, VOLUME]
    cleaned = clean_volume(volume)
    return ohlv if cleaned is volume else np.column_stack([ohlv[:, :VOLUME], cleaned])


def clean_volume(volume: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return volumes with NaN where one cannot be: negative, infinite or out of all proportion."""
    is_possible = (volume >= 0) & (volume <= MAX_VOLUME_SHARES)
    return volume if (is_possible | np.isnan(volume)).all() else np.where(is_possible, volume, np.nan)


def _find_withheld(verdict: Verdict) -> int:
    """Return the row of the first of the bars at the end that are withheld."""
    row = len(verdict.is_absent) - 1
    while row and verdict.is_absent[row - 1]:
        row -= 1
    return row


def _cut(verdict: Verdict | None, begin: int, end: int) -> Verdict | None:
    """Return the verdict on a part, as it was known at its last bar; None if there is nothing in it."""
    if verdict is None:
        return None
    jumps = tuple(
        Jump(row=each.row - begin, known_row=each.known_row - begin, change=each.change, ratio=each.ratio)
        for each in verdict.jumps
        if begin < each.row and each.known_row < end
    )
    is_absent = verdict.is_absent[begin:end]
    if not jumps and not is_absent.any():
        return None
    return Verdict(is_absent=is_absent, is_wrong=verdict.is_wrong[begin:end], jumps=jumps)


@lru_cache(maxsize=1_000)
def to_ns(moment: datetime) -> int:
    """Return a time in nanoseconds since 1970."""
    return pd.Timestamp(moment).as_unit("ns").value


def say_age(age_s: float) -> str:
    """Format an age in the largest unit of which there are two, without decimals: `7 days`, `24 hours`, `300 s`."""
    for unit, seconds in (("days", 86_400), ("hours", 3_600), ("minutes", 60)):
        if age_s >= 2 * seconds:
            return f"{age_s / seconds:,.0f} {unit}"
    return f"{age_s:,.0f} s"


def say(bar: datetime, interval: str) -> str:
    """Name a bar: by its date in New York, and by the time if bars are shorter than a day."""
    return bar.astimezone(NEW_YORK).strftime("%Y-%m-%d" if interval == "1d" else "%Y-%m-%d %H:%M")


def describe_removal(
    index: pd.DatetimeIndex, prices_usd: Floats, is_out: NDArray[np.bool_], what: str, interval: str
) -> str:
    """Say which closes are left out: how many, why, and the first with its price."""
    rows = np.flatnonzero(is_out)
    first = f"{prices_usd[rows[0]]:g} on {say(index[rows[0]].tz_convert(NEW_YORK), interval)}"
    if len(rows) == 1:
        return f"a close that is {what} is left out: {first}"
    last = say(index[rows[-1]].tz_convert(NEW_YORK), interval)
    return f"{len(rows):,} closes that are {what} are left out: the first is {first}, the last is of {last}"


def find_impossible(prices_usd: Floats) -> NDArray[np.bool_]:
    """Return where a price is there but cannot be a share's: zero, negative, infinite or out of all proportion."""
    return ~np.isnan(prices_usd) & ~((prices_usd >= MIN_PRICE_USD) & (prices_usd <= MAX_PRICE_USD))


def find_outside(index: pd.DatetimeIndex, interval: str) -> NDArray[np.bool_]:
    """Return which bars share no time with a session of the exchange: no order is filled in them."""
    return ~sessions.are_in_session(index, interval)


def find_repeated(index: pd.DatetimeIndex, interval: str) -> NDArray[np.bool_]:
    """Return which bars are followed by another one of the same interval of the session: the later one counts."""
    number = sessions.number_bars(index, interval)
    is_repeated = np.zeros(len(index), dtype=np.bool_)
    is_repeated[:-1] = number[1:] == number[:-1]
    return is_repeated
