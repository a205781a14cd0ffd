"""Series: what comes through the door, and what a run may do with it."""

from datetime import UTC, date, datetime, timedelta
from math import inf, nan

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from trader.model import NEW_YORK, Closes, Code
from trader.prices import series
from trader.prices.series import Series, UnusableError, find_outside

NOW = datetime(2022, 12, 28, 20, tzinfo=UTC)
DAY_S = 86_400.0


def daily(*prices: float, last: datetime = NOW) -> Closes:
    """Return closes of the sessions up to a day in December 2022, of which the 26th is a holiday."""
    sessions = pd.bdate_range(end=last, periods=len(prices) + 2, normalize=False)
    index = sessions[sessions.strftime("%m-%d") != "12-26"][-len(prices) :] if prices else sessions[:0]
    return pd.Series(list(prices), index=index, dtype=float)


def at(*bars: tuple[str, float]) -> Closes:
    """Return closes at moments in New York time."""
    index = pd.DatetimeIndex([pd.Timestamp(text, tz=NEW_YORK) for text, _ in bars]).tz_convert(UTC)
    return pd.Series([usd for _, usd in bars], index=index, dtype=float)


def usable(closes: Closes, now: datetime = NOW, max_age_s: float = 4 * DAY_S) -> Closes:
    return Series(closes, interval="1d").until(now).require_usable(now, max_age_s)


def refusal(closes: Closes, **how: object) -> UnusableError:
    with pytest.raises(UnusableError) as caught:
        usable(closes, **how)  # type: ignore[arg-type]
    return caught.value


def test_clean_closes_pass_unchanged() -> None:
    closes = daily(10, 11)
    pd.testing.assert_series_equal(usable(closes), closes)


def test_nothing_after_now_is_seen() -> None:
    assert usable(daily(10, 11, 12, last=NOW + timedelta(days=1))).tolist() == [10, 11]


def test_a_fractional_now_works_with_bars_in_whole_seconds() -> None:
    closes = daily(11, 12, last=NOW + timedelta(seconds=1))
    closes.index = pd.DatetimeIndex(closes.index).as_unit("s")
    assert usable(closes, NOW + timedelta(seconds=0.7)).tolist() == [11]


def test_a_missing_bar_is_left_out_without_a_word() -> None:
    series = Series(daily(10, nan, 12), interval="1d")
    assert (series.closes.tolist(), series.notes) == ([10, 12], ())


def test_the_age_is_that_of_the_last_bar_with_a_price() -> None:
    assert refusal(daily(1, 2, nan), max_age_s=DAY_S - 1).code is Code.STALE_PRICE


def test_a_price_older_than_allowed_is_stale_and_says_how_old() -> None:
    error = refusal(daily(1, last=NOW - timedelta(days=5)))
    assert error.code is Code.STALE_PRICE
    assert str(error) == "last price is of 2022-12-23 15:00 New York, 5 days old; MAX_PRICE_AGE_S=345600 allows 4 days"


@pytest.mark.parametrize("price", [0.0, -0.01, -5, 0.005, inf, -inf, 8e8, 1e-310, 1e308])
def test_an_impossible_close_is_absent(price: float) -> None:
    series = Series(daily(10, price, 12), interval="1d")
    assert series.closes.tolist() == [10, 12]
    assert series.notes == (f"a close that is impossible is left out: {price:g} on 2022-12-27",)


def test_an_impossible_last_close_makes_the_price_stale() -> None:
    assert refusal(daily(1, 2, 0), max_age_s=DAY_S / 2).code is Code.STALE_PRICE


def test_many_closes_that_are_left_out_make_one_note() -> None:
    series = Series(daily(10, 0, -1, 12), interval="1d")
    assert series.notes == (
        "2 closes that are impossible are left out: the first is 0 on 2022-12-23, the last is of 2022-12-27",
    )


@pytest.mark.parametrize("closes", [daily(), daily(nan, nan), daily(1, 2, last=NOW + timedelta(days=9))])
def test_a_series_without_a_price_up_to_now_is_refused(closes: Closes) -> None:
    error = refusal(closes)
    assert (error.code, str(error)) == (Code.NO_PRICE_DATA, "no price up to now")


def test_bars_of_days_without_a_session_are_left_out() -> None:
    closes = at(("2022-12-23", 1), ("2022-12-24", 2), ("2022-12-25", 3), ("2022-12-26", 4), ("2022-12-27", 5))
    series = Series(closes, interval="1d")
    assert series.closes.tolist() == [1, 5]
    (note,) = series.notes
    assert note == (
        "3 closes that are outside the exchange's sessions are left out: the first is 2 on 2022-12-24, "
        "the last is of 2022-12-26"
    )


def test_short_bars_outside_the_session_are_left_out() -> None:
    closes = at(
        ("2022-11-25 09:15", 1), ("2022-11-25 09:30", 2), ("2022-11-25 12:45", 3), ("2022-11-25 13:00", 4)
    )  # a half day
    assert Series(closes, interval="15m").closes.tolist() == [2, 3]


def test_an_hourly_bar_that_begins_before_the_opening_is_part_of_the_session() -> None:
    closes = at(("2022-12-27 08:00", 1), ("2022-12-27 09:00", 2), ("2022-12-27 15:00", 3), ("2022-12-27 16:00", 4))
    assert Series(closes, interval="1h").closes.tolist() == [2, 3]


def test_of_two_bars_of_one_interval_the_later_counts() -> None:
    closes = at(("2022-12-27 15:30", 1), ("2022-12-27 15:45", 2), ("2022-12-27 15:52", 3))
    assert Series(closes, interval="15m").closes.tolist() == [1, 3]


def test_unsorted_bars_are_sorted() -> None:
    assert Series(at(("2022-12-28", 2), ("2022-12-27", 1)), interval="1d").closes.tolist() == [1, 2]


def test_a_split_that_nobody_adjusted_for_is_refused_with_date_and_ratio() -> None:
    error = refusal(daily(*[100.0] * 20, *[25.0] * 10))
    assert error.code is Code.NO_PRICE_DATA
    assert str(error) == (
        "unadjusted 4:1 split on 2022-12-14, from 100.00 to 25.00 (-75.0%); left out while bars before it are in use"
    )


def test_once_the_window_is_past_a_split_the_symbol_can_be_used() -> None:
    series = Series(daily(*[100.0] * 20, *[25.0] * 10), interval="1d")
    assert series.until(NOW, count=10).require_usable(NOW, DAY_S).tolist() == [25.0] * 10


def test_on_the_very_day_a_split_is_refused() -> None:
    error = refusal(daily(*[100.0] * 20, 66.7))
    assert (error.code, "2022-12-28" in str(error)) == (Code.NO_PRICE_DATA, True)


def test_a_wrong_price_is_not_part_of_the_statistics() -> None:
    assert usable(daily(*[100.0] * 20, 0.01, 100, 100)).tolist() == [100.0] * 22


def test_a_wrong_last_price_values_and_fills_nothing() -> None:
    assert Series(daily(*[100.0] * 20, 0.01), interval="1d").visible().iloc[-1] == 100


def test_a_view_as_of_an_earlier_day_shows_what_was_known_then() -> None:
    closes = daily(*[100.0] * 20, 0.01, 100, 100)
    series = Series(closes, interval="1d")
    wrong: datetime = closes.index[20]
    early = Series(closes.loc[:wrong], interval="1d")
    assert series.until(wrong).visible().tolist() == early.visible().tolist()
    with pytest.raises(UnusableError, match="split or wrong price on"):
        series.until(wrong).require_usable(wrong, DAY_S)


def test_a_note_on_a_wrong_price_is_not_made_before_it_can_be_known() -> None:
    series = Series(daily(*[60.0] * 20, 600, 60, 61), interval="1d")
    assert series.until(series.closes.index[20]).describe_wrong() == ()
    assert len(series.until(series.closes.index[21]).describe_wrong()) == 1


def test_a_split_is_known_with_the_bar_from_which_holdings_are_in_the_new_unit() -> None:
    closes = daily(*[100.0] * 20, *[25.0] * 10)
    (split,) = Series(closes, interval="1d").find_splits()
    assert (split.time, split.visible_from, split.ratio) == (closes.index[20], closes.index[24], 4)


def test_a_split_that_the_source_reports_is_refused_at_once() -> None:
    closes = daily(*[100.0] * 20, 25.0)
    series = Series(closes, interval="1d", splits={date(2022, 12, 28): 4.0})
    with pytest.raises(UnusableError, match="4:1 split"):
        series.require_usable(NOW, DAY_S)


def test_the_sources_own_notes_come_first() -> None:
    assert Series(daily(1, 0), interval="1d", notes=["adjusted by its events"]).notes[0] == "adjusted by its events"


def test_the_columns_of_a_table_are_laid_on_the_calendar_once(monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[int] = []

    def count(index: pd.DatetimeIndex, interval: str) -> NDArray[np.bool_]:
        looked.append(len(index))
        return find_outside(index, interval)

    monkeypatch.setattr(series, "find_outside", count)
    table = pd.DataFrame({"A": daily(1, 2, 3), "B": daily(4, 5, 6)})
    found = [Series(column, interval="1d").closes.tolist() for _, column in table.items()]
    assert (found, looked) == ([[1, 2, 3], [4, 5, 6]], [3])


def test_a_table_of_as_many_bars_on_other_days_is_laid_on_the_calendar_anew() -> None:
    holiday = at(("2022-12-22 00:00", 1), ("2022-12-23 00:00", 2), ("2022-12-26 00:00", 3))
    kept = [Series(closes, interval="1d").closes.tolist() for closes in (daily(1, 2, 3), holiday)]
    assert kept == [[1, 2, 3], [1, 2]]
