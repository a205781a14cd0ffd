from datetime import UTC, datetime

import pytest

from trader.prices.timestamps import Form, OrderUnknownError, find_form, is_clock, join_times, read_times


def moment(text: str, *others: str) -> datetime:
    """Return the time that a text is read as, beside others."""
    times = read_times([text, *others], is_daily=False)
    assert not times.faults
    return datetime.fromtimestamp(times.starts_us[0] / 1e6, UTC)


def day(text: str, *others: str) -> str:
    """Return the date that a text is read as in a file of daily bars."""
    times = read_times([text, *others], is_daily=True)
    assert not times.faults
    start = datetime.fromtimestamp(times.starts_us[0] / 1e6, UTC)
    assert start.hour in (4, 5)  # midnight in New York
    return f"{start:%Y-%m-%d}"


@pytest.mark.parametrize(
    "text",
    [
        "2022-12-28T15:45:00-05:00",
        "2022-12-28 15:45:00",
        "2022-12-28 15:45",
        "2022-12-28T20:45:00Z",
        "2022-12-28 20:45:00+0000",
        "2022-12-28 20:45:00 UTC",
        "2022-12-28 15:45:00 EST",
        "2022-12-28 15:45:00 America/New_York",
        "2022-12-28T21:45:00.000000000+01:00",
        "2022/12/28 15:45",
        "2022.12.28 15:45:00",
        "2022-12-28 3:45 PM",
        "20221228 15:45:00",
        "20221228 154500",
        "20221228T1545",
        "202212281545",
        "20221228154500",
        "12/28/2022 15:45",
        "12/28/2022 3:45:00 PM",
        "28/12/2022 15:45",
        "28.12.2022 15:45:00.000",
        "28.12.2022 15:45:00.000 GMT-0500",
        "12-28-2022 15:45",
        "Dec 28, 2022 3:45 PM",
        "28-Dec-2022 15:45",
        "28 December 2022 15:45",
        "Wed Dec 28 2022 15:45:00 GMT-0500 (Eastern Standard Time)",
        "Wed, 28 Dec 2022 15:45:00 -0500",
        "2022-Dec-28 15:45",
        "1672260300",
        "1672260300.0",
        "1672260300000",
        "1672260300000000",
        "1672260300000000000",
    ],
)
def test_a_time_is_read_in_any_form(text: str) -> None:
    assert moment(text) == datetime(2022, 12, 28, 20, 45, tzinfo=UTC)


@pytest.mark.parametrize(
    "text",
    [
        *("2022-12-28", "20221228", "2022/12/28", "2022.12.28", "2022-12-28 00:00:00", "2022-12-28T23:59:00-05:00"),
        *("2022-12-28T05:00:00Z", "12/28/2022", "28/12/2022", "28.12.2022", "12-28-2022", "Dec 28, 2022"),
        *("28-Dec-2022", "December 28, 2022", "28 Dec 2022", "Wednesday, December 28, 2022", "Dec. 28, 2022"),
        *("28th Dec 2022", "1672237800", "1672185600", "1672237800000"),
    ],
)
def test_a_date_is_read_in_any_form(text: str) -> None:
    assert day(text) == "2022-12-28"


def test_of_daily_bars_only_the_date_as_written_counts() -> None:
    assert day("2022-12-28T00:00:00+14:00") == day("2022-12-28T23:00:00-11:00") == "2022-12-28"


def test_unix_midnights_of_utc_are_the_dates_of_utc_only_if_all_are() -> None:
    assert day("1672185600", "1672099200") == "2022-12-28"
    assert day("1672185600", "1672237800") == "2022-12-27"


def test_times_before_1970_and_with_fewer_digits_are_read_beside_longer_ones() -> None:
    assert day("-252322200", "1672237800") == "1962-01-02"
    assert day("345479400", "1672237800") == "1980-12-12"


def test_summer_time_is_that_of_new_york() -> None:
    assert moment("2022-07-28 15:45").hour == 19


def test_a_zone_can_be_given_for_times_without_an_offset() -> None:
    times = read_times(["2022-12-28 15:45", "2022-12-28 15:45-05:00"], is_daily=False, zone=UTC)
    assert times.starts_us.tolist() == [1672242300000000, 1672260300000000]


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("yesterday", "timestamp 'yesterday' is not ISO 8601"),
        ("2022-13-28", "timestamp '2022-13-28' is not a time that there is"),
        ("2022-02-30", "timestamp '2022-02-30' is not a time that there is"),
        ("2022-12-28 25:00", "timestamp '2022-12-28 25:00' is not a time that there is"),
        ("2022-12", "timestamp '2022-12' is not ISO 8601"),
        ("44922", "timestamp '44922' is not ISO 8601"),
        ("12/28/2022", "timestamp '12/28/2022' is not ISO 8601"),
        ("1672260300", "timestamp '1672260300' is not ISO 8601"),
        ("", "timestamp '' is not ISO 8601"),
        ("1899-12-28", "timestamp '1899-12-28' is not in the years 1900 to 2199"),
        ("2022-07-28 15:45 EST", "timestamp '2022-07-28 15:45 EST' has the zone EST, which is not known, or not used"),
        ("2022-12-28 15:45 CET", "timestamp '2022-12-28 15:45 CET' has the zone CET, which is not known"),
        ("\u0662\u0660\u0662\u0662-12-28", "timestamp '\u0662\u0660\u0662\u0662-12-28' is not"),
    ],
)
def test_an_unreadable_time_is_named_with_what_is_wrong(text: str, fault: str) -> None:
    ((place, (what, remedy)),) = read_times(["2022-12-27", text, "2022-12-29"], is_daily=True).faults.items()
    assert place == 1
    assert what.startswith(fault)
    assert remedy


@pytest.mark.parametrize(
    ("others", "form"),
    [("12/28/2022", "day and month in figures"), ("Dec 28, 2022", "month by name"), ("1672260300", "Unix time")],
)
def test_a_time_unlike_the_others_is_a_fault(others: str, form: str) -> None:
    times = read_times([others, "2022-12-28", others], is_daily=True)
    assert times.faults[1][0] == f"timestamp '2022-12-28' is not written like the others, {form}"


@pytest.mark.parametrize("text", ["12/28/22", "28-Dec-22", "Dec 28, 22"])
def test_a_year_of_two_digits_is_a_fault(text: str) -> None:
    assert "has a year of two digits" in read_times([text], is_daily=True).faults[0][0]


@pytest.mark.parametrize(
    ("texts", "places"),
    [
        (["01/02/2022", "03/04/2022"], (0,)),
        (["01/02/2022", "13/04/2022", "04/13/2022"], (1, 2)),
        (["12/31/2022", "31/12/2022"], (0, 1)),
    ],
)
def test_dates_in_no_certain_order_are_an_error_that_names_them(texts: list[str], places: tuple[int, ...]) -> None:
    with pytest.raises(OrderUnknownError) as caught:
        read_times(texts, is_daily=True)
    assert sorted(caught.value.places) == list(places)


def test_one_date_shows_the_order_of_all() -> None:
    assert day("01/02/2022", "13/04/2022") == "2022-02-01"
    assert day("01/02/2022", "04/13/2022") == "2022-01-02"


@pytest.mark.parametrize(
    ("clocks", "joined"),
    [
        (["930", "1545"], ["2022-12-28 0930", "2022-12-28 1545"]),
        (["93000", "154500"], ["2022-12-28 093000", "2022-12-28 154500"]),
        (["0", "0"], ["2022-12-28 0000", "2022-12-28 0000"]),
        (["100", "154500"], ["2022-12-28 000100", "2022-12-28 154500"]),
        (["9:30", "3:45 PM"], ["2022-12-28 9:30", "2022-12-28 3:45 PM"]),
    ],
)
def test_a_time_of_day_in_figures_gets_its_lost_zeros_back(clocks: list[str], joined: list[str]) -> None:
    assert join_times(["2022-12-28", "2022-12-28"], clocks) == joined


@pytest.mark.parametrize(
    ("text", "expected"), [("09:30", True), ("9:30 AM", True), ("93000", True), ("2022-12-28", False)]
)
def test_a_time_of_day_is_recognized(text: str, expected: bool) -> None:
    assert is_clock(text) == expected


@pytest.mark.parametrize(
    ("text", "form"),
    [
        ("2022-12-28", Form.ISO),
        ("12/28/2022", Form.NUMERIC),
        ("Dec 28, 2022", Form.NAMED),
        ("1672260300", Form.UNIX),
        ("101.58", None),
        ("AAPL", None),
        ("close", None),
        ("12345", None),
        ("62418829", None),
        ("12:30", None),
    ],
)
def test_the_form_of_a_time_is_recognized(text: str, form: Form | None) -> None:
    assert find_form(text) == form
