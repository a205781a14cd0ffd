from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta

import pandas as pd
import pytest

from trader.model import Closes, Code
from trader.prices.base import Missing, PriceSourceError
from trader.prices.reader import Prices
from trader.prices.series import Series
from trader.progress import Progress, no_progress

NOW = datetime(2022, 12, 28, 20, tzinfo=UTC)
DAY_S = 86_400.0


def days(*prices: float, last: datetime = NOW) -> Closes:
    sessions = pd.bdate_range(end=last, periods=len(prices) + 2, normalize=False)
    index = sessions[sessions.strftime("%m-%d") != "12-26"][-len(prices) :] if prices else sessions[:0]
    return pd.Series(list(prices), index=index, dtype=float)


class Source:
    """A price source that holds closes in memory and remembers what it was asked for."""

    def __init__(self, name: str, closes: Mapping[str, Closes] | None, known: frozenset[str] | None = None) -> None:
        self.name = name
        self.asked: list[tuple[str, ...]] = []
        self.asked_for: set[tuple[int, datetime]] = set()
        self._closes = closes
        self._known = known

    def symbols(self, now: datetime) -> frozenset[str] | None:  # noqa: ARG002 see PriceSource
        return self._known

    def read(
        self, symbols: Sequence[str], count: int, now: datetime, progress: Progress
    ) -> Mapping[str, Series | Missing]:
        self.asked.append(tuple(symbols))
        self.asked_for.add((count, now))
        progress(self.name, len(symbols), len(symbols))
        if self._closes is None:
            raise PriceSourceError("no connection")
        found: dict[str, Series | Missing] = {symbol: Missing(f"no {symbol} here") for symbol in symbols}
        for symbol in found.keys() & self._closes.keys():
            found[symbol] = Series(self._closes[symbol], interval="1d").until(now, count=count)
        return found

    def describe(self) -> str:
        return f"prices of {self.name}"

    def notes(self) -> tuple[str, ...]:
        return (f"a note on {self.name}",)


def prices(*sources: Source, count: int = 250, progress: Progress = no_progress) -> Prices:
    return Prices(sources, now=NOW, count=count, max_age_s=4 * DAY_S, progress=progress)


def test_the_next_source_is_asked_only_for_what_is_missing() -> None:
    first, second = Source("file", {"KO": days(60)}), Source("yahoo", {"PG": days(150)})
    bars = prices(first, second).bars(["KO", "PG"])
    assert (first.asked, second.asked) == ([("KO", "PG")], [("PG",)])
    assert set(bars.closes) == {"KO", "PG"}
    assert bars.denials == ()


def test_the_next_source_is_not_asked_when_nothing_is_missing() -> None:
    second = Source("yahoo", {})
    prices(Source("file", {"KO": days(60)}), second).bars(["KO"])
    assert second.asked == []


def test_the_next_source_is_asked_to_replace_unusable_prices() -> None:
    stale = days(60, last=NOW - timedelta(days=9))
    bars = prices(Source("file", {"KO": stale}), Source("yahoo", {"KO": days(61)})).bars(["KO"])
    assert bars.closes["KO"].tolist() == [61]
    assert bars.denials == ()


def test_a_denial_gives_the_reason_of_every_source() -> None:
    (denial,) = prices(Source("file", {}), Source("yahoo", {"KO": days(0)})).bars(["KO"]).denials
    assert (denial.symbol, denial.code) == ("KO", Code.NO_PRICE_DATA)
    assert denial.detail == (
        "file: no KO here; yahoo: no price up to now (a close that is impossible is left out: 0 on 2022-12-28)"
    )


def test_an_unreachable_source_leaves_the_others_to_answer() -> None:
    bars = prices(Source("yahoo", None), Source("file", {"KO": days(60)})).bars(["KO", "PG"])
    assert set(bars.closes) == {"KO"}
    assert [denial.detail for denial in bars.denials] == ["yahoo: no connection; file: no PG here"]


def test_a_series_that_is_no_basis_for_a_decision_still_values_what_is_held() -> None:
    subject = prices(Source("file", {"KO": days(*[60.0] * 20, *[15.0] * 6)}))
    assert [denial.symbol for denial in subject.bars(["KO"]).denials] == ["KO"]
    assert subject.series(["KO"])["KO"].visible().iloc[-1] == 15


def test_the_notes_are_those_of_the_sources_and_of_the_symbols() -> None:
    subject = prices(Source("file", {"KO": days(60, -5, 61)}))
    subject.bars(["KO"])
    assert [(note.symbol, note.what) for note in subject.notes()] == [
        ("", "a note on file"),
        ("KO", "a close that is impossible is left out: -5 on 2022-12-27"),
    ]


def test_a_wrong_price_that_is_left_out_is_noted() -> None:
    subject = prices(Source("file", {"KO": days(*[60.0] * 10, 600, 60, 61)}))
    subject.bars(["KO"])
    assert subject.notes()[-1].what == "a close that is far from those around it is left out: 600 on 2022-12-23"


def test_one_unusable_symbol_does_not_spoil_the_others() -> None:
    bars = prices(Source("file", {"KO": days(60), "PG": days(-1)})).bars(["KO", "PG"])
    assert set(bars.closes) == {"KO"}
    assert [denial.symbol for denial in bars.denials] == ["PG"]


def test_nothing_is_asked_for_twice() -> None:
    source = Source("file", {"KO": days(60), "PG": days(150)})
    subject = prices(source)
    subject.bars(["KO", "NVDA", "KO"])
    again = subject.bars(["NVDA", "KO", "PG"])
    assert source.asked == [("KO", "NVDA"), ("PG",)]
    assert list(again.closes) == ["KO", "PG"]
    assert [denial.symbol for denial in again.denials] == ["NVDA"]


def test_no_more_bars_are_returned_than_wanted() -> None:
    assert prices(Source("file", {"KO": days(10, 11, 12)}), count=2).bars(["KO"]).closes["KO"].tolist() == [11, 12]


def test_a_source_is_asked_for_as_many_bars_as_wanted_as_of_now() -> None:
    source = Source("file", {})
    prices(source, count=7).bars(["KO"])
    assert source.asked_for == {(7, NOW)}


def test_progress_reaches_the_sources() -> None:
    steps: list[tuple[str, int, int]] = []
    prices(Source("file", {}), progress=lambda work, done, total: steps.append((work, done, total))).bars(["KO", "PG"])
    assert steps == [("file", 2, 2)]


def test_the_known_symbols_are_those_of_all_sources() -> None:
    sources = Source("file", {}, frozenset({"KO"})), Source("other", {}, frozenset({"PG"}))
    assert prices(*sources).symbols() == frozenset({"KO", "PG"})


def test_the_symbols_are_unknown_if_a_source_cannot_list_them() -> None:
    assert prices(Source("file", {}, frozenset({"KO"})), Source("yahoo", {})).symbols() is None


def test_with_a_broken_file_the_symbols_are_unknown() -> None:
    class Broken(Source):
        def symbols(self, now: datetime) -> frozenset[str] | None:  # noqa: ARG002 see PriceSource
            raise PriceSourceError("torn")

    assert prices(Broken("file", None), Source("yahoo", {})).symbols() is None


def test_a_broken_file_alone_is_an_error() -> None:
    class Broken(Source):
        def symbols(self, now: datetime) -> frozenset[str] | None:  # noqa: ARG002 see PriceSource
            raise PriceSourceError("torn")

    with pytest.raises(PriceSourceError, match="torn"):
        prices(Broken("file", None)).symbols()
