from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from math import inf, nan

import pandas as pd
import pytest

from trader.model import Closes, Code
from trader.prices.base import PriceSourceError
from trader.prices.reader import Prices
from trader.prices.series import UnusableError, clean_closes
from trader.progress import Progress, no_progress

NOW = datetime(2022, 12, 28, 20, tzinfo=UTC)
DAY_S = 86_400.0


def days(*prices: float, last: datetime = NOW) -> Closes:
    index = pd.date_range(end=last, periods=len(prices), freq="D")
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

    def closes(self, symbols: Sequence[str], count: int, now: datetime, progress: Progress) -> Mapping[str, Closes]:
        self.asked.append(tuple(symbols))
        self.asked_for.add((count, now))
        progress(self.name, len(symbols), len(symbols))
        if self._closes is None:
            raise PriceSourceError("no connection")
        return {symbol: self._closes[symbol] for symbol in symbols if symbol in self._closes}


def prices(*sources: Source, count: int = 250, progress: Progress = no_progress) -> Prices:
    return Prices(sources, now=NOW, count=count, max_age_s=4 * DAY_S, progress=progress)


def refusal(closes: Closes) -> UnusableError:
    with pytest.raises(UnusableError) as caught:
        clean_closes(closes, NOW, 4 * DAY_S)
    return caught.value


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
    assert denial.detail.startswith("file: returned no prices; yahoo: impossible price 0")


def test_an_unreachable_source_leaves_the_others_to_answer() -> None:
    bars = prices(Source("yahoo", None), Source("file", {"KO": days(60)})).bars(["KO", "PG"])
    assert set(bars.closes) == {"KO"}
    assert [denial.detail for denial in bars.denials] == ["yahoo: no connection; file: returned no prices"]


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


def test_clean_closes_pass_unchanged() -> None:
    closes = days(10, 11, 12)
    pd.testing.assert_series_equal(clean_closes(closes, NOW, DAY_S), closes)


def test_nothing_after_now_is_seen() -> None:
    assert clean_closes(days(10, 11, 12, last=NOW + timedelta(days=1)), NOW, DAY_S).tolist() == [10, 11]


def test_a_fractional_now_works_with_bars_in_whole_seconds() -> None:
    closes = days(10, 11, 12, last=NOW + timedelta(seconds=1))
    closes.index = pd.DatetimeIndex(closes.index).as_unit("s")
    assert clean_closes(closes, NOW + timedelta(seconds=0.7), DAY_S).tolist() == [10, 11]


def test_an_impossible_price_after_now_is_ignored() -> None:
    assert clean_closes(days(10, 11, -3, last=NOW + timedelta(days=1)), NOW, DAY_S).tolist() == [10, 11]


def test_a_missing_bar_is_left_out() -> None:
    assert clean_closes(days(10, nan, 12), NOW, DAY_S).tolist() == [10, 12]


def test_the_age_is_that_of_the_last_bar_with_a_price() -> None:
    with pytest.raises(UnusableError) as caught:
        clean_closes(days(1, 2, nan), NOW, DAY_S - 1)
    assert caught.value.code is Code.STALE_PRICE


def test_a_price_older_than_allowed_is_stale_and_says_how_old() -> None:
    error = refusal(days(1, last=NOW - timedelta(days=5)))
    assert error.code is Code.STALE_PRICE
    assert str(error) == (
        "last price is from 2022-12-23 15:00 New York time, 5.0 days old; MAX_PRICE_AGE_S allows 4.0 (345,600 s)"
    )


@pytest.mark.parametrize("price", [0.0, -0.01, inf, -inf])
def test_one_impossible_price_spoils_the_symbol(price: float) -> None:
    error = refusal(days(1, price, 3))
    assert error.code is Code.NO_PRICE_DATA
    assert str(error) == f"impossible price {price} at 2022-12-27T20:00:00+00:00"


@pytest.mark.parametrize("closes", [days(), days(nan, nan), days(1, 2, last=NOW + timedelta(days=9))])
def test_a_series_without_a_price_up_to_now_is_refused(closes: Closes) -> None:
    error = refusal(closes)
    assert (error.code, str(error)) == (Code.NO_PRICE_DATA, "no price up to now")


@pytest.mark.parametrize("ages_d", [(1, 1, 0), (0, 1)])
def test_repeated_or_unsorted_timestamps_spoil_the_symbol(ages_d: tuple[int, ...]) -> None:
    index = pd.DatetimeIndex([NOW - timedelta(days=age) for age in ages_d])
    error = refusal(pd.Series([1.0] * len(ages_d), index=index))
    assert (error.code, str(error)) == (Code.NO_PRICE_DATA, "timestamps are not strictly increasing")


@pytest.mark.parametrize("price_usd", [0.009, 10_000_001, 1e-310, 1e308])
def test_a_price_that_no_share_can_have_is_refused(price_usd: float) -> None:
    assert refusal(days(price_usd)).code is Code.NO_PRICE_DATA


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
