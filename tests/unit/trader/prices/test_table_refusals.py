"""Price files that are refused, with the line, the value and the remedy; nothing is guessed between two readings."""

import re
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest

from tests.unit.trader.prices.files import BARS, DAYS, NOW, Bar, bars, closes, list_days, read, refuse, table
from trader.prices import rows


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "prices.csv"


def ohlcv(bar: Bar) -> str:
    return f"{bar.day},{bar.open},{bar.high},{bar.low},{bar.close},99241870"


def stocks(bar: Bar) -> str:
    """Return a row of four stocks' closes, in the order O, H, L, C."""
    return f"{bar.day},{bar.open},{bar.close / 10},{bar.close / 2},{bar.low}"


# --- headers --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("universe", "named"), [("sp500", "is sp500"), ("AAPL,MSFT", "has 2 symbols")])
@pytest.mark.parametrize("header", ["DATE,OPEN,HIGH,LOW,CLOSE,VOLUME", "Date,Open,High,Low,Close,Volume"])
def test_one_symbols_bars_need_that_symbol_as_universe(file: Path, header: str, universe: str, named: str) -> None:
    assert refuse(file, table(header, ohlcv), universe) == (
        f"line 1: the header has no symbol column, but UNIVERSE {named}; "
        "add a symbol column, or name the file's one symbol, as in UNIVERSE=AAPL"
    )


@pytest.mark.parametrize(
    ("header", "lacking"),
    [
        ("date,symbol,open,high,close", "low"),
        ("date,open,high,low,volume", "close"),
        ("symbol,open,high,low,close", "timestamp"),
        ("date,symbol,volume", "close"),
    ],
)
def test_a_missing_column_is_named_with_those_required(file: Path, header: str, lacking: str) -> None:
    message = refuse(file, f"{header}\n{','.join('1' * (header.count(',') + 1))}\n")
    assert message.startswith(f"line 1: the header has no {lacking} column; an OHLC file has the columns timestamp")
    assert message.endswith("such as timestamp,AAPL,MSFT")


@pytest.mark.parametrize(
    ("header", "what"),
    [
        ("date,timestamp,symbol,close", "two columns for the timestamp, date and timestamp"),
        ("date,symbol,ticker,close", "two columns for the symbol, symbol and ticker"),
        ("date,Close,Price", "two columns for the close, Close and Price"),
        ("date,Close,Adj Close,Adjusted Close", "two columns for the adjusted close, Adj Close and Adjusted Close"),
    ],
)
def test_two_columns_for_one_thing_are_refused(file: Path, header: str, what: str) -> None:
    assert refuse(file, f"{header}\n{','.join('1' * 4)}\n") == f"line 1: {what}; remove one of them"


@pytest.mark.parametrize(
    "row",
    [
        "2021-04-30,101.58,49.86",
        "2022.12.28,00:00,101.58",
        "12/28/2022,101.58,49.86",
        "1619793000,101.58,5",
        "x,101.58,1",
    ],
)
def test_a_file_without_a_header_is_refused_with_what_to_add(file: Path, row: str) -> None:
    message = refuse(file, f"{row}\n{row}\n")
    assert message.startswith("line 1: the file has no header: ")
    assert message.endswith(
        "write a header above the data, such as timestamp,AAPL,MSFT or date,symbol,open,high,low,close"
    )


def test_dates_as_columns_are_refused(file: Path) -> None:
    assert "is a time, not a name" in refuse(file, "symbol,2022-12-27,2022-12-28\nAAPL,1,2\n")


def test_two_columns_of_one_symbol_are_refused(file: Path) -> None:
    message = refuse(file, "date,BRK-B,AAPL,brk.b\n2022-12-28,1,2,3\n")
    assert message == "line 1: columns BRK-B, brk.b are all BRK.B; keep one of them"


def test_text_before_the_header_is_refused(file: Path) -> None:
    assert "line 1: the header has no symbols" in refuse(file, "Prices of AAPL\ndate,close\n2022-12-28,5\n")


# --- headers with two readings --------------------------------------------------------------------------------------

LETTERS = "Date,O,H,L,C"


@pytest.mark.parametrize("universe", ["sp500", "AAPL,MSFT", "O,AAPL", "H", "L"])
def test_letters_that_may_be_symbols_or_prices_are_refused(file: Path, universe: str) -> None:
    message = refuse(file, table(LETTERS, lambda bar: ohlcv(bar).rpartition(",")[0]), universe)
    assert message == (
        "line 1: the header has two readings: O, H, L, C may be symbols, or the prices of one symbol; "
        "name them open, high, low and close, or set UNIVERSE to two or more symbols of the file"
    )


def test_letters_are_symbols_if_universe_names_two_of_them(file: Path) -> None:
    assert closes(read(file, table(f"{LETTERS},V", ohlcv), "L,C"), "L") == [bar.low for bar in BARS]


def test_letters_are_the_prices_of_the_one_symbol_in_universe(file: Path) -> None:
    assert bars(read(file, table(f"{LETTERS},V", ohlcv), "AAPL")) == BARS


def test_letters_are_read_if_both_readings_give_the_same_closes(file: Path) -> None:
    assert closes(read(file, table(f"{LETTERS},V", ohlcv), "C"), "C") == [bar.close for bar in BARS]


def test_letters_are_symbols_if_a_high_lies_below_a_low(file: Path) -> None:
    prices = read(file, table(LETTERS, stocks), "sp500")
    assert closes(prices, "H") == [bar.close / 10 for bar in BARS]


def test_letters_are_prices_if_a_column_has_numbers_that_are_none(file: Path) -> None:
    assert closes(read(file, table(f"{LETTERS},V", ohlcv), "V"), "V") == [bar.close for bar in BARS]


def test_symbols_among_which_none_is_a_price_are_symbols(file: Path) -> None:
    prices = read(file, table("Date,V,MA,T", lambda bar: f"{bar.day},{bar.open},{bar.close},9"), "sp500")
    assert list(prices.tables["close"].columns) == ["V", "MA", "T"]


@pytest.mark.parametrize("header", ["date,AAPL,LOW,C", "date,LOW", "date,KEY,NOW,ALL,MSFT"])
def test_a_symbol_among_others_may_be_called_like_a_price(file: Path, header: str) -> None:
    prices = read(file, f"{header}\n2022-12-28{',7' * header.count(',')}\n", "sp500")
    assert list(prices.tables["close"].columns) == header.split(",")[1:]


def test_a_country_after_a_symbol_that_is_called_like_a_price_is_no_symbol(file: Path) -> None:
    prices = read(file, "date,LOW.US\n2022-12-28,7\n", "sp500")
    assert list(prices.tables["close"].columns) == ["LOW"]


@pytest.mark.parametrize("universe", ["OPEN,LOW", "OPEN,HIGH,LOW"])
def test_symbols_called_like_prices_are_symbols_if_universe_names_them(file: Path, universe: str) -> None:
    prices = read(file, f"date,{universe}\n2022-12-28{',7' * len(universe.split(','))}\n", universe)
    assert list(prices.tables["close"].columns) == universe.split(",")


@pytest.mark.parametrize(
    ("header", "universe"),
    [
        ("DATE,OPEN,HIGH,LOW,CLOSE,VOLUME", "LOW"),
        ("Date,Open,High,Low,Close,MA", "MA"),
        ("Date,MA,Close,CCI,RSI,T", "CCI"),
    ],
)
def test_a_symbol_that_is_also_a_column_beside_the_close_is_refused(file: Path, header: str, universe: str) -> None:
    assert refuse(file, table(header, ohlcv), universe) == (
        f"line 1: {universe} is a column beside the close, and the symbol in UNIVERSE: it is not clear which column "
        f"has its prices; rename that column, or add a column symbol with {universe} in each row"
    )


def test_a_lone_letter_is_not_the_close_of_another_symbol(file: Path) -> None:
    assert "two readings" in refuse(file, "Date,C\n2022-12-28,5\n", "AAPL")


# --- rows -----------------------------------------------------------------------------------------------------------


def test_all_faults_are_in_one_message(file: Path) -> None:
    text = (
        "date,AAPL,MSFT\n2022-12-20,1,2\n2022-12-21,1\nyesterday,1,2\n2022-12-23,1,y\n2022-12-27,x,3\n"
        "2022-12-28,1,2,3\n2022-12-29,1_0,3\n2022-13-30,1,3\n"
    )
    assert refuse(file, text) == (
        "line 3: 2 fields, but the header has 3; complete the row, or remove it if the file was cut off there; "
        "line 4: timestamp 'yesterday' is not ISO 8601; write it as in 2022-12-28 or 2022-12-28T15:45:00-05:00; "
        "line 5: the price of MSFT is 'y'; line 6: the price of AAPL is 'x'; "
        "write a number, or leave the field empty; "
        "line 7: 4 fields, but the header has 3; complete the row, or remove it if the file was cut off there; "
        "2 more lines have faults"
    )


def test_faults_of_every_kind_are_in_one_message(file: Path) -> None:
    rows = ["2022-12-22,x", "2022-13-23,1", "2122-12-23,1", "2022-12-23,1", "2022-12-23,2", "2022-12-21,1"]
    message = refuse(file, "\n".join(["date,AAPL", *rows]))
    found = re.findall(r"line (\d): ([^;]+);", message)
    assert found == [
        ("2", "the price of AAPL is 'x'"),
        ("3", "timestamp '2022-13-23' is not a time that there is"),
        ("4", "the bar of 2122-12-23 begins after now, 2026-11-27 16:00 in New York"),
        ("6", "timestamp '2022-12-23' is repeated"),
        ("7", "timestamp '2022-12-21' is earlier than the one before"),
    ]


def test_a_second_row_for_a_symbol_is_named_beside_other_faults(file: Path) -> None:
    rows = ["2022-12-22,AAPL,x", "2022-12-22,KO,1", "2022-12-22,KO,2"]
    message = refuse(file, "\n".join(["date,symbol,close", *rows]))
    assert "line 4: KO has a second row for this time; keep one row for each symbol and time" in message


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ("2022-12-29,AAPL,100,102,99,n.a.", "the close is 'n.a.'; write a number, or leave the field empty"),
        ("2022-12-29,,100,102,99,101", "the symbol is missing; add it, or remove the row"),
        (",AAPL,100,102,99,101", "the timestamp is missing; add it, or remove the row"),
        ("29.12.2022,AAPL,100,102,99,101", "timestamp '29.12.2022' is not ISO 8601; write it as in 2022-12-28"),
        ("2022-12-28T16:00,AAPL,1,1,1,1", "AAPL has a second row for this time; keep one row for each symbol and time"),
        ("2022-12-28,NASDAQ:AAPL,1,1,1,1", "AAPL has a second row for this time"),
        ("2022-12-29,AAPL,100,102,99", "5 fields, but the header has 6; complete the row"),
        ("2222-12-29,AAPL,1,1,1,1", "timestamp '2222-12-29' is not in the years 1900 to 2199; correct it"),
        ("2122-12-29,AAPL,1,1,1,1", "the bar of 2122-12-29 begins after now, 2026-11-27 16:00 in New York; correct"),
    ],
)
def test_a_wrong_row_is_named_with_its_value_and_remedy(file: Path, row: str, expected: str) -> None:
    rows = [f"{bar.day},AAPL,{bar.open},{bar.high},{bar.low},{bar.close}" for bar in BARS]
    text = "\n".join(["date,symbol,open,high,low,close", *rows, row, "2022-12-23,KO,1,1,1,9"])
    assert refuse(file, text).startswith(f"line 32: {expected}")


def test_lines_are_counted_with_blank_ones_and_with_line_ends_in_quotes(file: Path) -> None:
    text = 'date,close,remark\n\n2022-12-27,1,"a\nb"\n\n2022-12-28,x,c\n'
    assert refuse(file, text).startswith("line 6: the close of AAPL is 'x'")


def test_control_characters_around_times_do_not_matter(file: Path) -> None:
    text = "Date,Time,Close\n2022-12-27,09:30,1\n2022-12-28,\x1f09:30,2\n2022-12-29\x1f,09:30,3\n"
    assert closes(read(file, text, interval="15m")) == [1, 2, 3]


def test_rows_in_no_order_are_refused(file: Path) -> None:
    message = refuse(file, "date,AAPL\n2022-12-28,1\n2022-12-23,2\n2022-12-27,3\n")
    assert message == (
        "line 3: timestamp '2022-12-23' is earlier than the one before; "
        "sort the rows by time and keep one row for each time"
    )


@pytest.mark.parametrize("order", [1, -1])
def test_two_rows_for_one_time_are_refused_in_either_order(file: Path, order: int) -> None:
    rows = ["2022-12-23,1", "2022-12-27,2", "2022-12-27,3", "2022-12-28,4"][::order]
    assert refuse(file, "\n".join(["date,AAPL", *rows])).startswith("line 4: timestamp '2022-12-27' is repeated; sort")


def test_a_bar_that_begins_now_is_not_in_the_future(file: Path) -> None:
    now = datetime(2022, 12, 28, 5, tzinfo=UTC)
    assert closes(read(file, "date,AAPL\n2022-12-28,5\n", now=now)) == [5]
    assert "begins after now" in refuse(file, "date,AAPL\n2022-12-28,5\n", now=now - timedelta(seconds=1))


# --- numbers and dates with two readings ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        'date,AAPL\n2022-12-27,998\n2022-12-28,"1,234"\n',
        "date;AAPL\n2022-12-27;998\n2022-12-28;1,234\n",
        "date;AAPL\n2022-12-27;998\n2022-12-28;1.234\n",
        "date\tAAPL\n2022-12-27\t998\n2022-12-28\t1.234\n",
        "time;AAPL\n1672151400.0;998\n1672237800.0;1,234\n",
        "date;AAPL;symbol.1\n2022-12-27;998;\n2022-12-28;1,234;\n",
    ],
)
def test_a_number_that_may_have_thousands_or_decimals_is_refused(file: Path, text: str) -> None:
    message = refuse(file, text)
    assert message.startswith("line 3: '1")
    assert "may be 1234 or 1.234, and no other number shows which; write prices with a point" in message


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("date,AAPL\n2022-12-27,998\n2022-12-28,24.975\n", 24.975),
        ("date;AAPL\n2022-12-27;998.5\n2022-12-28;1,234\n", 1234),
        ("date;AAPL\n2022-12-27;998,5\n2022-12-28;1.234\n", 1234),
        ("date;AAPL\n2022-12-27;998,5\n2022-12-28;1,234\n", 1.234),
        ("date;AAPL\n2022-12-27;998.5\n2022-12-28;1.234\n", 1.234),
        ("date;AAPL\n2022-12-27;0.999\n2022-12-28;1.234\n", 1.234),
        ("date;AAPL\n2022-12-27;1 998,50\n2022-12-28;1 234,75\n", 1234.75),
        ("date;AAPL\n2022-12-27;1.998,50\n2022-12-28;1.234,75\n", 1234.75),
        ('date,AAPL\n2022-12-27,998.5\n2022-12-28,"1,234"\n', 1234),
        ('date,AAPL\n2022-12-27,"$1,998.50"\n2022-12-28,"$1,234.75"\n', 1234.75),
        ('date,AAPL\n2022-12-27,"101,58"\n2022-12-28,"1.234"\n', 1234),
        ('date,close,volume\n2022-12-27,998,"1,234,567"\n2022-12-28,"1,234",5\n', 1234),
        ("date;close;volume\n2022-12-27;998;1.234.567\n2022-12-28;1,234;5\n", 1.234),
    ],
)
def test_another_number_may_show_which(file: Path, text: str, value: float) -> None:
    assert closes(read(file, text))[-1] == value


@pytest.mark.parametrize(
    ("text", "what"),
    [
        (
            "date;AAPL\n2022-12-27;998,5\n2022-12-28;101.58\n",
            "'101.58', but 998,5 shows that the mark before decimals is ,",
        ),
        (
            "date;AAPL\n2022-12-27;998.5\n2022-12-28;101,58\n",
            "'101,58', but 998.5 shows that the mark before decimals is .",
        ),
    ],
)
def test_numbers_with_both_marks_are_refused(file: Path, text: str, what: str) -> None:
    assert refuse(file, text).startswith(f"line 3: the price of AAPL is {what}")


def test_a_delimiter_may_occur_in_fields_of_a_file_with_another(file: Path) -> None:
    text = "date;AAPL;Remark, if any\n2022-12-27;998,5;\n2022-12-28;1,5;a, b\n"
    assert "the price of REMARK, IF ANY is 'a, b'" in refuse(file, text)
    assert closes(read(file, text.replace("AAPL", "close"))) == [998.5, 1.5]


def test_two_delimiters_that_both_make_a_table_are_refused(file: Path) -> None:
    message = refuse(file, "date,a;b;until\n2022-12-27,5;6;2022-12-27\n")
    assert message.startswith("line 1: commas and semicolons may be what is between the fields")


@pytest.mark.parametrize(
    "field", ["1_5", "\u0665", "True", "False", "1,2,3", "0x10", "five", "1.2.3", "--5", "(5)", "5%", "EUR5"]
)
def test_what_is_no_number_is_refused(file: Path, field: str) -> None:
    assert refuse(file, f'date,AAPL\n2022-12-28,"{field}"\n').startswith(f"line 2: the price of AAPL is {field!r}")


def test_dates_of_which_none_shows_the_order_are_refused(file: Path) -> None:
    assert refuse(file, "date,AAPL\n01/02/2022,1\n02/02/2022,2\n") == (
        "line 2: timestamp '01/02/2022' may have the day or the month first, and no other row shows which; "
        "write the dates as in 2022-12-28"
    )


def test_dates_that_contradict_each_other_are_refused(file: Path) -> None:
    message = refuse(file, "date,AAPL\n01/02/2022,1\n13/02/2022,1\n02/23/2022,2\n")
    assert (
        "line 3: timestamp '13/02/2022' and '02/23/2022' in line 4 do not have the day and the month in one" in message
    )


@pytest.mark.parametrize("stamp", ["12/28/22", "28-Dec-22", "28.12.22"])
def test_years_of_two_digits_are_refused(file: Path, stamp: str) -> None:
    assert f"line 2: timestamp '{stamp}' has a year of two digits" in refuse(file, f"date,AAPL\n{stamp},1\n")


# --- what the file says as a whole ----------------------------------------------------------------------------------


def days_apart(step: int, count: int = 20) -> str:
    return table(
        "date,AAPL",
        lambda bar: f"{bar.day},{bar.close}",
        [Bar(day, 1, 1, 1, 1) for day in list_days(step * count)[::step]],
    )


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("\n".join(["date,AAPL", *(f"{DAYS[0] + timedelta(7 * week)},5" for week in range(9))]), "weekly"),
        ("\n".join(["date,AAPL", *(f"2022-{month:02}-01,5" for month in range(1, 13))]), "monthly"),
        ("\n".join(["date,AAPL", *(f"{year}-12-30,5" for year in range(2002, 2015))]), "yearly"),
        (days_apart(10), "14-day"),
    ],
)
def test_bars_longer_than_a_day_are_refused_with_their_name(file: Path, text: str, name: str) -> None:
    assert refuse(file, text) == f"has {name} bars, but BAR_INTERVAL=1d; use a file of daily bars"


def intraday(minutes: int, count: int, days: int = 6, first: str = "09:30") -> str:
    hour, minute = map(int, first.split(":"))
    starts = [timedelta(minutes=hour * 60 + minute + minutes * number) for number in range(count)]
    rows = [f"{datetime(day.year, day.month, day.day) + start},{5}" for day in DAYS[:days] for start in starts]  # noqa: DTZ001
    return "\n".join(["time,AAPL", *rows])


@pytest.mark.parametrize(
    ("text", "interval", "expected"),
    [
        (intraday(30, 13), "15m", "has 30-minute bars, but BAR_INTERVAL=15m; use a file of 15-minute bars"),
        (intraday(15, 26), "5m", "has 15-minute bars, but BAR_INTERVAL=5m; set BAR_INTERVAL=15m"),
        (intraday(60, 7), "1m", "has hourly bars, but BAR_INTERVAL=1m; set BAR_INTERVAL=1h"),
        (intraday(120, 3), "1h", "has 2-hour bars, but BAR_INTERVAL=1h; use a file of hourly bars"),
        (days_apart(1), "15m", "has daily bars, but BAR_INTERVAL=15m; set BAR_INTERVAL=1d"),
        (
            intraday(15, 26),
            "1h",
            (
                f"the bars of AAPL of {DAYS[0]} 09:30 and {DAYS[0]} 09:45 are less than BAR_INTERVAL=1h apart, as in "
                "15-minute bars; set BAR_INTERVAL=15m"
            ),
        ),
        (
            intraday(30, 13),
            "1h",
            (
                f"the bars of AAPL of {DAYS[0]} 09:30 and {DAYS[0]} 10:00 are less than BAR_INTERVAL=1h apart, as in "
                "30-minute bars; set BAR_INTERVAL to the length of the bars"
            ),
        ),
        (
            intraday(15, 26),
            "1d",
            (
                f"line 3: timestamp '{DAYS[0]} 09:45:00' is repeated: these are 15-minute bars, and BAR_INTERVAL=1d; "
                "set BAR_INTERVAL=15m; 149 more lines are like this"
            ),
        ),
    ],
)
def test_bars_of_another_length_are_refused_with_their_name(
    file: Path, text: str, interval: str, expected: str
) -> None:
    assert refuse(file, text, interval=interval) == expected


def test_a_symbol_with_longer_bars_than_the_others_is_left_out_with_a_note(file: Path) -> None:
    rows = [f"{bar.day},AAPL,5\n" + (f"{bar.day},SLOW,6\n" if place % 5 == 0 else "") for place, bar in enumerate(BARS)]
    prices = read(file, "date,symbol,close\n" + "".join(rows))
    assert list(prices.tables["close"].columns) == ["AAPL"]
    assert prices.notes == ("left out because of weekly bars, longer than BAR_INTERVAL=1d: SLOW",)


def test_weekly_bars_before_daily_ones_are_refused(file: Path) -> None:
    weeks = [date(2022, 1, 5) + timedelta(7 * week) for week in range(20)]
    days = [day for day in DAYS if day > weeks[-1]]
    rows = [f"{day},{5 + number % 3}" for number, day in enumerate([*weeks, *days])]
    assert "has weekly bars, but BAR_INTERVAL=1d" in refuse(file, "\n".join(["date,AAPL", *rows]))


def test_a_share_that_was_suspended_for_months_has_daily_bars(file: Path) -> None:
    days = [day for day in list_days(200) if not date(2022, 5, 1) < day < date(2022, 9, 1)]
    text = "\n".join(["date,AAPL", *(f"{day},{5 + number % 3}" for number, day in enumerate(days))])
    assert read(file, text).kind == "daily closes of AAPL"


def test_a_row_at_the_close_is_no_shorter_bar(file: Path) -> None:
    text = intraday(60, 7) + f"\n{DAYS[5]} 16:00:00,5\n"
    assert len(closes(read(file, text, interval="1h"))) == 43


def test_of_short_bars_too_a_symbol_with_longer_ones_is_left_out(file: Path) -> None:
    rows = [row.replace(",", ",AAPL,") for row in intraday(15, 26).split("\n")[1:]]
    rows += [row.replace(",", ",SLOW,") for row in intraday(60, 7).split("\n")[1:]]
    rows += [f"{day} 09:30:00,DAILY,5" for day in DAYS[:6]]
    prices = read(file, "\n".join(["time,symbol,close", *rows]), interval="15m")
    assert list(prices.tables["close"].columns) == ["AAPL"]
    assert prices.notes == ("left out because of daily and hourly bars, longer than BAR_INTERVAL=15m: SLOW, DAILY",)


def test_four_distances_do_not_say_how_long_the_bars_are(file: Path) -> None:
    text = "\n".join(["date,AAPL", *(f"{DAYS[0] + timedelta(7 * week)},5" for week in range(5))])
    assert len(closes(read(file, text))) == 5


def test_bars_with_gaps_are_not_longer_bars(file: Path) -> None:
    kept = [bar for place, bar in enumerate(BARS) if place % 3]
    assert len(closes(read(file, table("date,AAPL", lambda bar: f"{bar.day},{bar.close}", kept)))) == 20


def test_a_file_that_fills_weekends_is_read(file: Path) -> None:
    days = [DAYS[0] + timedelta(number) for number in range(40)]
    assert len(closes(read(file, "\n".join(["date,AAPL", *(f"{day},5" for day in days)])))) == 40


@pytest.mark.parametrize(
    ("shift", "expected"),
    [
        (-1, "are of Fridays: every bar is a day early"),
        (1, "are of Mondays: every bar is a day late"),
    ],
)
def test_mondays_that_are_sundays_are_refused(file: Path, shift: int, expected: str) -> None:
    message = refuse(file, table("date,AAPL", lambda bar: f"{bar.day + timedelta(shift)},5"))
    assert expected in message
    assert message.startswith("line ")


def test_midnights_of_utc_in_new_york_are_refused(file: Path) -> None:
    text = table("date,AAPL", lambda bar: f"{bar.day - timedelta(1)} 19:00:00-05:00,5")
    assert "every bar is a day early" in refuse(file, text)


@pytest.mark.parametrize("first", ["14:30", "15:30", "06:30", "08:30"])
def test_hours_of_another_zone_without_an_offset_are_refused(file: Path, first: str) -> None:
    message = refuse(file, intraday(15, 26, first=first), interval="15m")
    assert message.startswith(f"its days begin at {first.lstrip('0')} and end at ")
    assert message.endswith("write the offset, as in 2022-12-28T15:45:00+01:00")


def test_hours_before_and_after_the_session_are_read(file: Path) -> None:
    assert len(closes(read(file, intraday(15, 60, first="04:00"), interval="15m"))) == 360


# --- files that are none --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", "is empty; it needs a header row"),
        (b"\n \n", "is empty; it needs a header row"),
        (b"date,AAPL\n", "has only a header row; add a row for each bar"),
        (b"date,AAPL\n\n,\n", "has only a header row; add a row for each bar"),
        (b"Price,Close\nTicker,AAPL\nDate,\n", "has only a header row; add a row for each bar"),
        ("date,AAPL\n".encode("utf-16"), "is not UTF-8 text"),
        (b"date,AAPL\n2022-12-28,\xff\n", "is not UTF-8 text"),
        (b'date,AAPL\n2022-12-28,"1\n', "line 2: not CSV (unexpected end of data); correct the quotes in this line"),
        (b'date,AAPL\n2022-12-27,1\n2022-12-28,"1"2\n', "line 3: not CSV"),
        (b"date\n2022-12-28\n", "line 1: the header has no symbols; write it with commas"),
    ],
)
def test_what_is_no_table_is_refused(file: Path, data: bytes, expected: str) -> None:
    assert refuse(file, data).startswith(expected)


def test_a_file_that_is_too_large_is_refused(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "MAX_CHARACTERS", 1_000)
    assert refuse(file, table("date,AAPL", lambda bar: f"{bar.day},5")).startswith("has more than 1,000 characters")


def test_a_line_that_is_too_long_is_refused(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "MAX_LINE_CHARACTERS", 100)
    monkeypatch.setattr(rows, "CHUNK_BYTES", 50)
    monkeypatch.setattr(rows, "MAX_CHUNK_BYTES", 50)
    assert "has a line of more than 100 characters" in refuse(file, f"date,AAPL\n2022-12-28,{'1' * 200}\n")


def test_many_symbols_with_few_rows_each_are_refused(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trader.prices.grid.MAX_NUMBERS", 100)
    text = "date,symbol,close\n" + "".join(f"{bar.day},S{place},5\n" for place, bar in enumerate(BARS))
    assert refuse(file, text).startswith("has 30 symbols and 30 times, room for more than 100 prices")


def test_more_prices_than_fit_into_the_memory_are_refused(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trader.prices.columns.MAX_NUMBERS", 20)
    monkeypatch.setattr("trader.prices.table.MAX_NUMBERS", 20)
    assert refuse(file, table("date,AAPL", lambda bar: f"{bar.day},5")).startswith("has more than 20 prices")


def test_of_a_file_of_garbage_only_so_many_faults_are_counted(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trader.prices.faults.MAX_COUNTED", 7)
    monkeypatch.setattr(rows, "CHUNK_BYTES", 40)
    monkeypatch.setattr(rows, "MAX_CHUNK_BYTES", 40)
    message = refuse(file, table("date,AAPL", lambda bar: f"{bar.day},five"))
    assert message.endswith("write a number, or leave the field empty; at least 3 more lines have faults")


def test_the_future_is_judged_by_the_clock_that_is_given(file: Path) -> None:
    assert NOW.year == 2026
    assert closes(read(file, "date,AAPL\n2026-11-27,5\n")) == [5]
