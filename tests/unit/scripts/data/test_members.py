"""The members by day: the shipped file, and the lookup."""

from datetime import date

import pytest

from scripts.data import members
from scripts.data.members import SYMBOL, Members, Stay, shipped
from trader.schedule.base import EventError
from trader.stages.universe import sp500

JOINED, LEFT, BACK = date(2020, 3, 2), date(2020, 6, 1), date(2021, 1, 4)
MADE = Members(
    (
        Stay("GONE", JOINED, LEFT),
        Stay("GONE", BACK),
        Stay("OLD", date(1996, 1, 2)),
    )
)


@pytest.mark.parametrize(
    ("day", "expected"),
    [
        pytest.param("2020-03-01", ("OLD",), id="the day before it joins"),
        pytest.param("2020-03-02", ("GONE", "OLD"), id="the day on which it joins"),
        pytest.param("2020-05-31", ("GONE", "OLD"), id="the day before it leaves"),
        pytest.param("2020-06-01", ("OLD",), id="the day on which it leaves"),
        pytest.param("2021-01-04", ("GONE", "OLD"), id="the day on which it is back"),
        pytest.param("2030-01-01", ("GONE", "OLD"), id="years after the last change"),
        pytest.param("1996-01-02", ("OLD",), id="the first day"),
    ],
)
def test_the_members_are_those_of_the_day(day: str, expected: tuple[str, ...]) -> None:
    assert MADE.on(date.fromisoformat(day)) == expected


def test_a_day_before_the_first_is_refused() -> None:
    with pytest.raises(EventError, match="known from 1996-01-02 on, not for 1996-01-01; choose a later day, or set"):
        MADE.on(date(1996, 1, 1))


def test_what_happens_later_is_not_known() -> None:
    assert MADE.until(date(2020, 5, 31)).stays == (Stay("GONE", JOINED), Stay("OLD", date(1996, 1, 2)))


def test_what_happens_on_the_day_is_known() -> None:
    assert MADE.until(LEFT).stays[0] == Stay("GONE", JOINED, LEFT)


@pytest.mark.parametrize(
    ("first", "last", "expected"),
    [
        pytest.param(LEFT, date(2021, 1, 3), ("OLD",), id="between two stays"),
        pytest.param(date(2020, 5, 31), LEFT, ("GONE", "OLD"), id="from its last day on"),
        pytest.param(date(2019, 1, 2), JOINED, ("GONE", "OLD"), id="up to the day on which it joins"),
        pytest.param(date(2019, 1, 2), date(2022, 1, 3), ("GONE", "OLD"), id="both stays"),
    ],
)
def test_the_members_of_a_span_are_those_of_any_of_its_days(first: date, last: date, expected: tuple[str, ...]) -> None:
    assert MADE.between(first, last) == expected


# --- the shipped file ----------------------------------------------------------------------------------------------


def test_the_shipped_members_end_with_today_s_list() -> None:
    assert shipped().on(date(2100, 1, 1)) == sp500()


def test_the_shipped_file_is_sorted_and_every_symbol_is_one() -> None:
    stays = shipped().stays
    assert members.sort(stays) == stays
    assert all(SYMBOL.fullmatch(stay.symbol) for stay in stays)


def test_there_are_some_five_hundred_members_on_every_new_year_s_day() -> None:
    assert all(485 <= len(shipped().on(date(year, 1, 2))) <= 510 for year in range(1996, 2026))


@pytest.mark.parametrize(
    ("symbol", "day", "is_member"),
    [
        pytest.param("TSLA", "2020-12-18", False, id="Tesla, the day before it joined"),
        pytest.param("TSLA", "2020-12-21", True, id="Tesla, the day on which it joined"),
        pytest.param("RRC", "2018-06-15", True, id="Range Resources, its last day"),
        pytest.param("RRC", "2018-06-18", False, id="Range Resources, the day on which it left"),
        pytest.param("AMD", "2015-01-02", False, id="AMD, while it was out"),
        pytest.param("AMD", "2017-03-20", True, id="AMD, back again"),
        pytest.param("META", "2015-01-02", True, id="Meta, when it was FB"),
        pytest.param("FB", "2015-01-02", False, id="the symbol that Meta had"),
        pytest.param("FISV", "2024-01-02", True, id="Fiserv, when it was FI"),
        pytest.param("TT", "2015-01-02", True, id="Trane, when it was Ingersoll-Rand"),
        pytest.param("IR", "2015-01-02", False, id="the Ingersoll Rand of today, before it joined"),
        pytest.param("IR", "2020-03-03", True, id="the Ingersoll Rand of today"),
        pytest.param("DOC", "2018-01-02", True, id="Healthpeak, two symbols ago"),
        pytest.param("BRK.B", "2012-01-03", True, id="a share class, in Alpaca's spelling"),
        pytest.param("SNDK", "2025-11-28", True, id="Sandisk, after the source's last day"),
        pytest.param("IPG", "2025-11-28", False, id="Interpublic, whose place it took"),
    ],
)
def test_the_shipped_file_knows(symbol: str, day: str, is_member: bool) -> None:
    assert (symbol in shipped().on(date.fromisoformat(day))) is is_member
