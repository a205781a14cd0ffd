"""Yahoo's chart answers: whom an error blames, what a bar is, and returns that are what a holder earned."""

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trader.model import NEW_YORK
from trader.prices import chart as charts
from trader.prices.chart import Chart, FaultError, NoBarsError, find_result
from trader.prices.series import Series
from trader.schedule import sessions

REASON = {"code": "Not Found", "description": "No data found, symbol may be delisted"}


def chart_error(code: str, description: str = "Why") -> dict[str, Any]:
    return {"chart": {"result": None, "error": {"code": code, "description": description}}}


def find(status: int, answer: object) -> Mapping[str, Any]:
    return find_result(status, answer if isinstance(answer, str) else json.dumps(answer))


@pytest.mark.parametrize(
    ("status", "code"),
    [(404, "Not Found"), (200, "Not Found"), (400, "Bad Request"), (422, "Unprocessable Entity")],
)
def test_an_error_of_the_chart_is_about_the_symbol(status: int, code: str) -> None:
    with pytest.raises(NoBarsError, match=r"^Why$"):
        find(status, chart_error(code))


@pytest.mark.parametrize("status", [401, 403, 408, 429, 500, 502, 503, 504, 999])
@pytest.mark.parametrize(
    "answer",
    [
        "",
        "<html>Will be right back</html>",
        {"finance": {"result": None, "error": {"code": "Unauthorized", "description": "Invalid Crumb"}}},
        chart_error("Not Found"),
        {},
        [],
        None,
        "[" * 100_000,
    ],
)
def test_a_refusal_is_no_statement_about_the_symbol_whatever_its_body(status: int, answer: object) -> None:
    with pytest.raises(FaultError, match=f"^Yahoo answered {status}") as caught:
        find(status, answer)
    assert caught.value.is_passing


@pytest.mark.parametrize(
    "answer",
    [
        "<html></html>",
        {},
        [],
        None,
        {"chart": None},
        {"finance": {"error": {"code": "Unauthorized", "description": "Invalid Crumb"}}},
        chart_error("Internal Server Error"),
        chart_error(""),
        {"chart": {"result": None, "error": "out of order"}},
    ],
)
def test_an_answer_without_a_chart_is_a_fault_even_at_200(answer: object) -> None:
    with pytest.raises(FaultError, match=r"^Yahoo answered 200 OK"):
        find(200, answer)


def test_a_404_without_a_chart_is_a_fault() -> None:
    with pytest.raises(FaultError, match=r"^Yahoo answered 404 Not Found: No such page$"):
        find(404, {"finance": {"error": {"code": "Not Found", "description": "No such page"}}})


@pytest.mark.parametrize("result", [None, []])
def test_a_chart_without_a_result_says_that_yahoo_lacks_the_symbol(result: object) -> None:
    with pytest.raises(NoBarsError, match="no data of this symbol"):
        find(200, {"chart": {"result": result, "error": None}})


def test_a_reason_of_yahoo_stays_on_one_line() -> None:
    with pytest.raises(NoBarsError) as caught:
        find(404, chart_error("Not Found", "a\nb" * 1_000))
    assert len(str(caught.value).splitlines()) == 1
    assert len(str(caught.value)) < 300


# --- bars ----------------------------------------------------------------------------------------------------------

LAST = date(2025, 6, 18)


def days(count: int) -> list[date]:
    """Return the last sessions up to LAST."""
    found: list[date] = []
    day = LAST
    while len(found) < count:
        found += [day] if sessions.session(day) else []
        day -= timedelta(days=1)
    return found[::-1]


def opening(day: date) -> int:
    return int(datetime.combine(day, sessions.OPEN, NEW_YORK).timestamp())


def result(
    closes: Sequence[float | None],
    times: Sequence[int] | None = None,
    *,
    adjusted: Sequence[float | None] | None = None,
    **others: Any,
) -> dict[str, Any]:
    quote = {name: list(closes) for name in ("open", "high", "low", "close")}
    indicators = {"quote": [quote]} | ({"adjclose": [{"adjclose": list(adjusted)}]} if adjusted is not None else {})
    at = list(times) if times is not None else [opening(day) for day in days(len(closes))]
    return {"meta": {"currency": "USD"}, "timestamp": at, "indicators": indicators, **others}


def read_chart(result: Mapping[str, Any], interval: str, until: datetime = datetime(2100, 1, 1, tzinfo=UTC)) -> Chart:
    return charts.read_chart(result, interval, until)


def closes(chart: Chart) -> list[float]:
    return [float(close) for close in chart.closes()]


def test_a_chart_needs_nothing_but_times_and_closes() -> None:
    bare = {"timestamp": [opening(LAST)], "indicators": {"quote": [{"close": [5.0]}]}}
    chart = read_chart(bare, "1d")
    assert closes(chart) == [5.0]
    assert chart.bars()["open"].isna().all()


@pytest.mark.parametrize(
    "extra",
    [
        {"meta": None},
        {"meta": {"exchangeTimezoneName": "Mars/Olympus", "currency": None, "tradingPeriods": None}},
        {"events": None},
        {"events": {"dividends": None, "splits": []}},
        {"events": {"dividends": {"1": None, "2": {"amount": 1}, "3": {"date": 1e30, "amount": 1}}}},
    ],
)
@pytest.mark.parametrize("interval", ["1d", "15m"])
def test_what_is_missing_around_the_bars_does_no_harm(extra: dict[str, Any], interval: str) -> None:
    assert closes(read_chart(result([5.0, 6.0], adjusted=[5.0, 6.0]) | extra, interval)) == [5.0, 6.0]


@pytest.mark.parametrize("adjclose", [None, [], [None], [{}], [{"adjclose": None}], [{"adjclose": []}]])
def test_a_missing_list_of_adjusted_closes_does_no_harm(adjclose: object) -> None:
    answer = result([5.0, 6.0])
    answer["indicators"]["adjclose"] = adjclose
    assert closes(read_chart(answer, "1d")) == [5.0, 6.0]


@pytest.mark.parametrize(
    "spoil",
    [
        {"timestamp": None},
        {"timestamp": [1, 2, 3]},
        {"timestamp": [None, 1]},
        {"timestamp": ["soon", "later"]},
        {"timestamp": [1e300, 1e300]},
        {"indicators": None},
        {"indicators": {}},
        {"indicators": {"quote": []}},
        {"indicators": {"quote": [{"open": [1.0, 2.0]}]}},
        {"indicators": {"quote": [{"close": ["much", 2.0]}]}},
        {"indicators": {"quote": [{"close": [10**400, 2.0]}]}},
        {"indicators": {"quote": [{"close": 5.0}]}},
        {"indicators": {"quote": [{"close": [5.0, 6.0]}], "adjclose": [{"adjclose": [5.0]}]}},
    ],
)
def test_a_chart_of_another_form_is_a_fault_that_does_not_pass(spoil: dict[str, Any]) -> None:
    with pytest.raises(FaultError, match="another form") as caught:
        read_chart(result([5.0, 6.0]) | spoil, "1d")
    assert not caught.value.is_passing


@pytest.mark.parametrize("values", [[], [None, None]])
def test_a_chart_without_a_close_says_so(values: list[None]) -> None:
    with pytest.raises(NoBarsError):
        read_chart(result(values), "1d")


def test_bars_out_of_order_are_sorted() -> None:
    first, second = days(2)
    assert closes(read_chart(result([6.0, 5.0], [opening(second), opening(first)]), "1d")) == [5.0, 6.0]


def test_a_running_day_counts_once_as_of_now_and_without_a_note() -> None:
    (day,) = days(1)
    chart = read_chart(result([5.0, 6.0], [opening(day), opening(day) + 20_000], adjusted=[5.0, 6.0]), "1d")
    assert closes(chart) == [6.0]
    assert chart.notes == ()


def test_a_running_day_without_a_price_as_of_now_is_the_one_so_far() -> None:
    (day,) = days(1)
    assert closes(read_chart(result([5.0, None], [opening(day), opening(day) + 20_000]), "1d")) == [5.0]


@pytest.mark.parametrize("interval", ["1d", "15m"])
def test_of_two_bars_of_one_time_the_later_counts(interval: str) -> None:
    first, last = (opening(day) for day in days(2))
    chart = read_chart(result([4.0, 5.0, 6.0], [first, first, last], adjusted=[4.0, 5.0, 6.0]), interval)
    assert closes(chart) == [5.0, 6.0]
    assert chart.notes == ("bars of Yahoo's answer that are followed by another of the same time are left out: 1",)


def test_a_running_short_bar_is_joined_with_its_price_as_of_now() -> None:
    at = opening(LAST)
    answer = result([5.0, 6.0], [at, at + 400])
    answer["indicators"]["quote"][0] |= {"open": [4.5, 6.0], "high": [5.5, 6.0], "low": [4.0, 6.0]}
    chart = read_chart(answer, "15m")
    assert chart.bars().iloc[0].tolist() == [4.5, 6.0, 4.0, 6.0]
    assert chart.index[0].timestamp() == at


def with_volumes(volumes: Sequence[Any], times: Sequence[int], interval: str = "1d") -> Chart:
    answer = result([5.0] * len(times), times, adjusted=[5.0] * len(times))
    answer["indicators"]["quote"][0]["volume"] = list(volumes)
    return charts.read_chart(answer, interval, datetime(2100, 1, 1, tzinfo=UTC), reads_volume=True)


def test_a_volume_is_read_if_it_is_asked_for() -> None:
    times = [opening(day) for day in days(3)]
    assert with_volumes([7, None, 9], times).bars()["volume"].fillna(-1).tolist() == [7, -1, 9]
    assert "volume" not in read_chart(result([5.0, 6.0]), "1d").bars()


def test_an_answer_without_volumes_has_none() -> None:
    chart = charts.read_chart(result([5.0, 6.0]), "1d", datetime(2100, 1, 1, tzinfo=UTC), reads_volume=True)
    assert chart.bars()["volume"].isna().all()


def test_the_running_days_volume_is_the_one_as_of_now() -> None:
    chart = with_volumes([600, 1_000], [opening(LAST), opening(LAST) + 20_000])
    assert chart.bars()["volume"].tolist() == [1_000]


@pytest.mark.parametrize(("parts", "whole"), [([600, 0], 600), ([600, 40], 640), ([600, None], 600), ([None, 4], 4)])
def test_a_running_short_bars_volume_is_the_sum_of_its_parts(parts: list[int | None], whole: float) -> None:
    chart = with_volumes(parts, [opening(LAST), opening(LAST) + 400], "15m")
    assert chart.bars()["volume"].tolist() == [whole]


REGULAR = {"start": opening(LAST), "end": opening(LAST) + 23_400}


@pytest.mark.parametrize(
    "periods", [[[REGULAR]], [REGULAR], {"pre": [], "regular": [[REGULAR]], "post": []}], ids=["days", "flat", "parts"]
)
def test_bars_before_the_opening_and_from_the_close_on_are_none(periods: object) -> None:
    start, end = REGULAR["start"], REGULAR["end"]
    times = [start - 900, start, end - 900, end, end + 3_600]
    answer = result([1.0, 2.0, 3.0, 4.0, 5.0], times, meta={"tradingPeriods": periods})
    chart = read_chart(answer, "15m")
    assert (closes(chart), chart.notes) == ([2.0, 3.0], ())


def test_bars_of_a_day_without_known_hours_are_kept() -> None:
    before = days(2)[0]
    answer = result([1.0, 2.0], [opening(before), opening(LAST)], meta={"tradingPeriods": [[REGULAR]]})
    assert closes(read_chart(answer, "15m")) == [1.0, 2.0]


def test_an_hour_that_begins_before_the_opening_is_regular() -> None:
    answer = result([1.0], [opening(LAST) - 1_800], meta={"tradingPeriods": [[REGULAR]]})
    assert closes(read_chart(answer, "1h")) == [1.0]


# --- dividends and splits ------------------------------------------------------------------------------------------


def events(**kinds: Mapping[date, Any]) -> dict[str, Any]:
    return {
        "events": {
            kind: {str(opening(day)): {"date": opening(day), **each} for day, each in of.items()}
            for kind, of in kinds.items()
        }
    }


def test_splits_are_new_shares_for_each_old_one_by_day() -> None:
    first, second = days(2)
    splits = {first: {"numerator": 4, "denominator": 1}, second: {"numerator": 1, "denominator": 8}}
    assert read_chart(result([5.0, 6.0], **events(splits=splits)), "1d").splits == {first: 4.0, second: 0.125}


@pytest.mark.parametrize(
    "event",
    [{}, {"numerator": 0, "denominator": 1}, {"numerator": 4, "denominator": 0}, {"numerator": "x", "denominator": 1}],
)
def test_a_split_that_cannot_be_read_is_a_note(event: dict[str, Any]) -> None:
    chart = read_chart(result([5.0], adjusted=[5.0], **events(splits={LAST: event})), "1d")
    assert (chart.splits, len(chart.notes)) == ({}, 1)
    assert chart.notes[0].startswith(f"a split of {LAST} cannot be read")


def test_a_dividend_in_another_currency_is_a_note() -> None:
    dividend = {LAST: {"amount": 5.0, "currency": "EUR"}}
    chart = read_chart(result([5.0, 6.0], [opening(day) for day in days(2)], **events(dividends=dividend)), "15m")
    assert closes(chart) == [5.0, 6.0]
    assert chart.notes[0].startswith(f"a dividend of {LAST} cannot be used")


@pytest.mark.parametrize("wrong", [0.0, -3.0, float("inf"), float("nan"), 250.0])
@pytest.mark.parametrize("row", [0, 2, 5])
def test_an_impossible_adjusted_close_touches_no_other_price(wrong: float, row: int) -> None:
    adjusted = [95.0, 95.0, 95.0, 100.0, 100.0, 100.0]
    expected = read_chart(result([100.0] * 6, adjusted=adjusted), "1d")
    adjusted[row] = wrong
    chart = read_chart(result([100.0] * 6, adjusted=adjusted), "1d")
    assert closes(chart) == closes(expected)


@pytest.mark.parametrize("wrong", [0.0, -3.0, 0.5, 8e8])
def test_an_impossible_close_touches_no_other_price(wrong: float) -> None:
    values, adjusted = [100.0] * 6, [95.0, 95.0, 95.0, 100.0, 100.0, 100.0]
    expected = closes(read_chart(result(values, adjusted=adjusted), "1d"))
    values[1] = wrong
    found = closes(read_chart(result(values, adjusted=adjusted), "1d"))
    assert [*found[:1], *found[2:]] == pytest.approx([*expected[:1], *expected[2:]])


def test_a_close_that_yahoo_did_not_adjust_stands_out_and_is_mended() -> None:
    adjusted = [95.0, 95.0, 100.0, 95.0, 95.0, 100.0]
    chart = read_chart(result([100.0] * 6, adjusted=adjusted), "1d")
    assert closes(chart) == pytest.approx([95.0, 95.0, 95.0, 95.0, 95.0, 100.0])
    assert len(chart.notes) == 1


def test_a_last_close_that_is_impossible_is_not_what_the_prices_end_at() -> None:
    chart = read_chart(result([100.0, 100.0, 8e8], adjusted=[50.0, 50.0, 8e8]), "1d")
    assert closes(chart)[:2] == [100.0, 100.0]


def test_an_old_dividend_that_the_adjusted_closes_lack_is_left_to_yahoo() -> None:
    told = events(dividends={days(8)[2]: {"amount": 6.0}})
    chart = read_chart(result([100.0] * 8, adjusted=[100.0] * 8, **told), "1d")
    assert (closes(chart), chart.notes) == ([100.0] * 8, ())


@pytest.mark.parametrize("interval", ["1d", "15m"])
def test_a_dividend_of_a_day_to_come_changes_nothing(interval: str) -> None:
    told = events(dividends={LAST + timedelta(days=2): {"amount": 6.0}})
    chart = read_chart(result([100.0] * 8, adjusted=[100.0] * 8, **told), interval)
    assert (closes(chart), chart.notes) == ([100.0] * 8, ())


@given(
    moves=st.lists(st.floats(-0.1, 0.1), min_size=3, max_size=60),
    yields=st.dictionaries(st.integers(1, 59), st.floats(0.0001, 0.2), max_size=8),
    early=st.integers(0, 2),
    scale=st.floats(0.3, 3_000),
)
def test_returns_are_what_a_holder_earned_and_the_last_price_is_the_one_that_is_paid(
    moves: list[float], yields: dict[int, float], early: int, scale: float
) -> None:
    """Yahoo's rule: the return of an ex-date is measured from the close before, less the dividend."""
    count = len(moves) + 1
    paid = np.cumprod([scale, *(1 + move for move in moves)])
    dividends = {row: paid[row - 1] * part for row, part in yields.items() if row < count}
    earned = [paid[row] / (paid[row - 1] - dividends.get(row, 0.0)) for row in range(1, count)]
    factors = np.ones(count)
    for row, dividend in dividends.items():
        factors[:row] *= 1 - dividend / paid[row - 1]
    adjusted = paid * factors
    if not any(row >= count - early - 1 for row in dividends):
        adjusted[count - early :] *= 0.95  # for a dividend of the next day
    told = events(dividends={days(count)[row]: {"amount": amount} for row, amount in dividends.items()})
    daily = read_chart(result(paid.tolist(), adjusted=adjusted.tolist(), **told), "1d")
    short = read_chart(result(paid.tolist(), **told), "15m")
    for chart, interval in ((daily, "1d"), (short, "15m")):
        found = Series(chart.closes(), interval=interval).closes.to_numpy(float)
        assert found[-1] == paid[-1]
        assert found[1:] / found[:-1] == pytest.approx(np.array(earned), rel=1e-9)


@given(
    moves=st.lists(st.floats(-0.02, 0.02), min_size=20, max_size=60),
    row=st.integers(1, 59),
    split=st.sampled_from([(4, 1), (3, 2), (5, 4), (1, 8), (20, 1)]),
)
def test_a_split_that_yahoo_reports_is_refused_if_unadjusted_and_nothing_otherwise(
    moves: list[float], row: int, split: tuple[int, int]
) -> None:
    paid = np.cumprod([100.0, *(1 + move for move in moves)])
    row = min(row, len(paid) - 1)
    told = events(splits={days(len(paid))[row]: {"numerator": split[0], "denominator": split[1]}})
    for unit in (1.0, split[0] / split[1]):
        prices = np.append(paid[:row] * unit, paid[row:])
        chart = read_chart(result(prices.tolist(), adjusted=prices.tolist(), **told), "1d")
        series = Series(chart.closes(), interval="1d", splits=chart.splits)
        assert [each.ratio for each in series.find_splits()] == ([] if unit == 1.0 else [unit])
        assert series.closes.iloc[-1] == paid[-1]


def test_a_chart_up_to_a_moment_is_in_the_unit_of_that_moment() -> None:
    paid, adjusted = [100.0, 102.0, 96.0], [94.0, 95.88, 96.0]
    until = datetime.combine(days(2)[0], datetime.min.time(), NEW_YORK)
    assert closes(read_chart(result(paid, adjusted=adjusted), "1d", until)) == pytest.approx([100.0, 102.0])


def test_times_are_in_utc_and_a_day_starts_at_its_midnight_in_new_york() -> None:
    chart = read_chart(result([5.0]), "1d")
    assert chart.index[0] == datetime(2025, 6, 18, 4, tzinfo=UTC)


def test_a_midnight_that_is_an_hour_early_is_that_of_the_next_day() -> None:
    early = int(datetime(2025, 6, 17, 23, tzinfo=NEW_YORK).timestamp())
    assert read_chart(result([5.0], [early]), "1d").index[0] == datetime(2025, 6, 18, 4, tzinfo=UTC)
