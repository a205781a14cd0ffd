import math

import pytest

from trader.prices.price_numbers import Mark, find_mark, is_number, read_number, read_numbers


@pytest.mark.parametrize(
    ("text", "mark", "value"),
    [
        ("101.58", None, 101.58),
        (" 101.58 ", None, 101.58),
        ("$101.58", None, 101.58),
        ("-$5", None, -5),
        ("$-5", None, -5),
        ("+5", None, 5),
        (".5", None, 0.5),
        ("1e9", None, 1e9),
        ("1,234,567.5", Mark.POINT, 1234567.5),
        ("1,234", Mark.POINT, 1234),
        ("1 234.5", Mark.POINT, 1234.5),
        ("1'234'567.5", Mark.POINT, 1234567.5),
        ("101,58", Mark.COMMA, 101.58),
        ("1.234,5", Mark.COMMA, 1234.5),
        ("1.234", Mark.COMMA, 1234),
        ("1\u202f234,5", Mark.COMMA, 1234.5),
    ],
)
def test_a_number_is_read_by_its_mark(text: str, mark: Mark | None, value: float) -> None:
    assert read_number(text, mark) == value


@pytest.mark.parametrize(
    ("text", "mark"),
    [
        ("1,234", None),
        ("1 234", None),
        ("101,58", Mark.POINT),
        ("12,34", Mark.POINT),
        ("1,2345", Mark.POINT),
        ("1,23,456", Mark.POINT),
        ("101.58", Mark.COMMA),
        ("1.23", Mark.COMMA),
        ("1_5", Mark.POINT),
        ("\u0661", Mark.POINT),
        ("$", Mark.POINT),
        ("+-5", Mark.POINT),
        ("1 23", Mark.POINT),
        ("5%", Mark.POINT),
    ],
)
def test_what_is_no_number_by_its_mark_is_an_error(text: str, mark: Mark | None) -> None:
    with pytest.raises(ValueError, match=r".+"):
        read_number(text, mark)


@pytest.mark.parametrize("text", ["", " ", "NA", "n/a", "#N/A", "NaN", "NULL", "none", "-", "--", "."])
def test_a_missing_number_is_nan(text: str) -> None:
    assert math.isnan(read_number(text))
    assert math.isnan(read_numbers([text])[0])


@pytest.mark.parametrize(
    ("text", "mark"),
    [
        ("101.58", Mark.POINT),
        ("101,58", Mark.COMMA),
        ("1,234.567", Mark.POINT),
        ("1.234,567", Mark.COMMA),
        ("1,234,567", Mark.POINT),
        ("1.234.567", Mark.COMMA),
        ("0.975", Mark.POINT),
        (".975", Mark.POINT),
        ("0,975", Mark.COMMA),
        ("1234.567", Mark.POINT),
        ("1234,567", Mark.COMMA),
        ("1.2345", Mark.POINT),
        ("5.", Mark.POINT),
        ("1.5e-05", Mark.POINT),
        ("62,42M", Mark.COMMA),
        ("-1.30%", Mark.POINT),
        ("$152.51", Mark.POINT),
        ("1,234", None),
        ("1.234", None),
        ("1234", None),
        ("", None),
        (".", None),
        ("28.12.2022", None),
        ("a.b", None),
    ],
)
def test_a_number_proves_its_mark_only_if_it_has_one_reading(text: str, mark: Mark | None) -> None:
    assert find_mark(text) == mark


@pytest.mark.parametrize(("text", "expected"), [("1,234", True), ("1.234,5", True), ("NA", True), ("AAPL", False)])
def test_a_number_is_one_by_either_mark(text: str, expected: bool) -> None:
    assert is_number(text) == expected


def test_a_column_is_read_number_by_number_if_one_is_unusual() -> None:
    assert read_numbers(["5", "$6", "7.5"]) == [5, 6, 7.5]
