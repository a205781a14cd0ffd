"""The members of past days from their source: its format, renames, and what is kept of the days after it."""

from datetime import date

import pytest

from scripts.data.member_history import (
    CORRECTIONS,
    RefusedError,
    Rename,
    UnavailableError,
    check,
    parse,
    rename,
    update,
)
from scripts.data.members import Members, Stay, shipped

STAYS = "ticker,start_date,end_date\nAAA,1996-01-02,\nBBB,1996-01-02,2018-02-01\nCCC,2018-02-01,\n"
CHANGES = "date,add,remove\n"
FIRST, DAY, NEXT = date(1996, 1, 2), date(2020, 1, 2), date(2020, 2, 3)
TODAY = date(2026, 1, 5)


def test_the_source_s_stays_are_read() -> None:
    found, until = parse(STAYS, CHANGES)
    assert found.stays == (Stay("AAA", FIRST), Stay("BBB", FIRST, date(2018, 2, 1)), Stay("CCC", date(2018, 2, 1)))
    assert until == date(2018, 2, 1)


def test_changes_after_the_last_stay_are_made() -> None:
    found, until = parse(STAYS, f'{CHANGES}2019-03-01,"DDD,EEE","AAA"\n2019-04-01,"","EEE"\n')
    assert found.on(date(2019, 3, 1)) == ("CCC", "DDD", "EEE")
    assert found.on(date(2019, 4, 1)) == ("CCC", "DDD")
    assert until == date(2019, 4, 1)


def test_changes_that_the_stays_have_are_not_made_again() -> None:
    assert parse(STAYS, f'{CHANGES}2018-02-01,"CCC","BBB"\n2017-01-03,"CCC","AAA"\n') == parse(STAYS, CHANGES)


def test_share_classes_are_spelled_as_alpaca_does() -> None:
    assert parse("ticker,start_date,end_date\nBRK-B,2010-02-16,\n", CHANGES)[0].stays[0].symbol == "BRK.B"


@pytest.mark.parametrize(
    ("stays", "changes", "reason"),
    [
        pytest.param("ticker,start_date,end_date\n", CHANGES, "has no rows", id="no rows"),
        pytest.param(f"{STAYS}D D,1996-01-02,\n", CHANGES, "'D D' is no symbol", id="no symbol"),
        pytest.param(f"{STAYS}DDD,02.01.1996,\n", CHANGES, "'02.01.1996' is no day", id="no day"),
        pytest.param(
            f"{STAYS}DDD,2018-01-02,2018-01-02\n", CHANGES, "DDD leaves on 2018-01-02", id="ends as it begins"
        ),
    ],
)
def test_a_row_that_cannot_be_right_is_refused(stays: str, changes: str, reason: str) -> None:
    with pytest.raises(RefusedError, match=reason):
        parse(stays, changes)


@pytest.mark.parametrize(
    ("stays", "changes", "columns"),
    [
        pytest.param("<html></html>", CHANGES, "ticker, start_date, end_date", id="a page"),
        pytest.param(STAYS, "day,in,out\n", "date, add, remove", id="other changes"),
    ],
)
def test_another_text_counts_as_no_answer(stays: str, changes: str, columns: str) -> None:
    with pytest.raises(UnavailableError, match=f"has no column {columns}"):
        parse(stays, changes)


# --- renames -------------------------------------------------------------------------------------------------------

NEW = [Rename(DAY, "OLD", "NEW")]


def test_a_day_that_is_wrong_in_the_source_is_corrected_for_its_symbols_only() -> None:
    known = "ticker,start_date,end_date\nLULU,2023-10-18,\nUBER,2023-10-18,\nSEE,1998-04-01,2023-10-18\n"
    stays = {stay.symbol: (stay.joined, stay.left) for stay in parse(known, CHANGES)[0].stays}
    assert stays == {
        "LULU": (date(2023, 10, 18), None),
        "UBER": (date(2023, 12, 18), None),
        "SEE": (date(1998, 4, 1), date(2023, 12, 18)),
    }


@pytest.mark.parametrize("symbol", sorted(set[str]().union(*(each.symbols for each in CORRECTIONS))))
def test_the_shipped_file_has_no_day_that_is_wrong_in_the_source(symbol: str) -> None:
    days = {day for stay in shipped().stays if stay.symbol == symbol for day in (stay.joined, stay.left)}
    assert days.isdisjoint(each.wrong for each in CORRECTIONS if symbol in each.symbols)


def test_a_renamed_company_has_one_stay_under_its_new_symbol() -> None:
    assert rename([Stay("OLD", FIRST, DAY), Stay("NEW", DAY)], NEW, until=NEXT) == (Stay("NEW", FIRST),)


def test_a_company_renamed_twice_has_one_stay() -> None:
    stays = [Stay("OLD", FIRST, DAY), Stay("NEW", DAY, NEXT), Stay("NEWER", NEXT)]
    assert rename(stays, [*NEW, Rename(NEXT, "NEW", "NEWER")], until=TODAY) == (Stay("NEWER", FIRST),)


def test_a_symbol_that_another_company_takes_over_at_once_is_that_company_s_from_then_on() -> None:
    stays = [Stay("OLD", FIRST), Stay("NEW", DAY)]
    assert rename(stays, NEW, until=NEXT) == (Stay("NEW", FIRST), Stay("OLD", DAY))


def test_a_symbol_that_another_company_has_years_later_remains() -> None:
    stays = [Stay("OLD", FIRST, DAY), Stay("NEW", DAY), Stay("OLD", TODAY)]
    assert rename(stays, NEW, until=TODAY) == (Stay("NEW", FIRST), Stay("OLD", TODAY))


def test_an_earlier_company_of_the_new_symbol_keeps_its_stay() -> None:
    stays = [Stay("NEW", FIRST, date(2001, 1, 2)), Stay("OLD", date(2010, 1, 4), DAY), Stay("NEW", DAY)]
    assert rename(stays, NEW, until=NEXT) == (Stay("NEW", FIRST, date(2001, 1, 2)), Stay("NEW", date(2010, 1, 4)))


def test_a_rename_after_the_source_s_last_day_is_made_too() -> None:
    assert rename([Stay("OLD", FIRST)], NEW, until=date(2019, 1, 2)) == (Stay("NEW", FIRST),)


# --- bringing the file up to date ----------------------------------------------------------------------------------

KNOWN = Members((Stay("AAA", FIRST), Stay("BBB", FIRST, NEXT), Stay("CCC", NEXT)))


def test_a_symbol_that_is_new_in_today_s_list_joins_today_and_a_missing_one_leaves() -> None:
    found = update(KNOWN, None, ["AAA", "DDD"], TODAY)
    assert found.stays == (Stay("AAA", FIRST), Stay("BBB", FIRST, NEXT), Stay("CCC", NEXT, TODAY), Stay("DDD", TODAY))


def test_the_same_list_changes_nothing() -> None:
    assert update(KNOWN, None, ["AAA", "CCC"], TODAY) == KNOWN


def test_a_symbol_that_comes_back_has_another_stay() -> None:
    found = update(KNOWN, None, ["AAA", "BBB", "CCC"], TODAY)
    assert [stay for stay in found.stays if stay.symbol == "BBB"] == [Stay("BBB", FIRST, NEXT), Stay("BBB", TODAY)]


def test_what_was_seen_after_the_source_s_last_day_remains() -> None:
    source = Members((Stay("AAA", FIRST), Stay("BBB", FIRST), Stay("EEE", FIRST, DAY)))
    found = update(KNOWN, (source, DAY), ["AAA", "CCC"], TODAY)
    assert found.stays == (*KNOWN.stays, Stay("EEE", FIRST, DAY))


def test_the_source_corrects_a_day_that_was_only_that_of_a_refresh() -> None:
    source = Members((Stay("AAA", FIRST), Stay("BBB", FIRST, DAY), Stay("CCC", DAY)))
    assert update(KNOWN, (source, NEXT), ["AAA", "CCC"], TODAY).stays == source.stays


def made(count: int, first: int = 0) -> tuple[Stay, ...]:
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
    return tuple(Stay(f"{letters[n // 26]}{letters[n % 26]}", FIRST) for n in range(first, first + count))


def test_a_plausible_history_is_accepted() -> None:
    check(Members(made(500)), Members(made(520)))


@pytest.mark.parametrize(
    ("stays", "reason"),
    [
        pytest.param(made(399), "399 members on 1996-01-02, not 400 to 600", id="too few"),
        pytest.param(made(601), "601 members on 1996-01-02", id="too many"),
        pytest.param(
            (*made(399), Stay("ZZ", FIRST, date(1997, 6, 2)), Stay("ZZZ", date(1998, 1, 2))),
            "399 members on 1998-01-01",
            id="too few on a day in between",
        ),
        pytest.param((*made(500), Stay("ZZ", FIRST), Stay("ZZ", DAY)), "ZZ joins on 2020-01-02 although", id="twice"),
        pytest.param(made(500, first=40), "40 symbols that were members are gone, more than 5%", id="symbols lost"),
    ],
)
def test_an_implausible_history_is_refused(stays: tuple[Stay, ...], reason: str) -> None:
    with pytest.raises(RefusedError, match=reason):
        check(Members(stays), Members(made(500)))
