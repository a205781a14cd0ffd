"""A backtest's prices: the formats of files, the notes on prices, and the bars that are traded."""

import gzip
import math
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from time import process_time
from typing import Any

import numpy as np
import pandas as pd
import pytest

from scripts.backtest import prices
from scripts.backtest.model import BacktestError, Options, Panel
from scripts.backtest.price_notes import notes
from tests.builders import LAST_DAY, settings
from trader.model import NEW_YORK
from trader.prices.base import PriceSourceError
from trader.prices.table import PriceFileError
from trader.schedule import sessions

SMALL = {"HISTORY_BARS": 30, "UNIVERSE_LOOKBACK_BARS": 5}
"""Settings with which small files have enough bars."""

SESSIONS = [
    day.date()
    for day in pd.bdate_range(end=pd.Timestamp(LAST_DAY), periods=120)
    if sessions.session(day.date()) is not None
][-100:]
"""The last hundred sessions of the exchange up to 2022-12-28."""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "prices.csv"


def options(start: date | None = None, end: date | None = None, **variables: Any) -> Options:
    return Options(settings=settings(**{**SMALL, **variables}), start=start, end=end)


def load(file: Path, text: str, universe: str = "AAPL,KO", **variables: Any) -> Panel:
    file.write_text(text)
    return prices.load(options(PRICE_FILE=file, UNIVERSE=universe, **variables))


def fault(file: Path, text: str, universe: str = "AAPL,KO") -> str:
    with pytest.raises(PriceFileError) as caught:
        load(file, text, universe)
    return str(caught.value)


def wide(columns: Mapping[str, Sequence[object]], days: Sequence[date] = SESSIONS) -> str:
    """Return the text of a file of closes; None becomes an empty field."""
    rows = zip(days, *columns.values(), strict=True)
    return "\n".join(
        [
            f"timestamp,{','.join(columns)}",
            *(",".join("" if field is None else str(field) for field in row) for row in rows),
        ]
    )


def bars(symbol: str = "AAPL", days: Sequence[date] = SESSIONS) -> list[str]:
    """Return rows of an OHLC file: date, symbol, open, high, low, close."""
    return [
        f"{day},{symbol},{100 + number},{102 + number},{99 + number},{101 + number}" for number, day in enumerate(days)
    ]


def tidy(rows: Sequence[str], header: str = "date,symbol,open,high,low,close") -> str:
    return "\n".join([header, *rows])


def list_notes(panel: Panel) -> list[tuple[str, str]]:
    return [(note.symbol, note.what) for note in panel.notes]


def of_closes(columns: Mapping[str, Sequence[float | None]], days: Sequence[date] = SESSIONS) -> Panel:
    """Return a panel of these closes without reading a file."""
    index = pd.DatetimeIndex([pd.Timestamp(day, tz=NEW_YORK) for day in days]).tz_convert("UTC")
    close = pd.DataFrame(
        {symbol: pd.Series(np.array(values, dtype=float), index) for symbol, values in columns.items()}
    )
    return Panel(open=close, high=close, low=close, close=close, has_ohlc=False, source="a test")


def judge(columns: Mapping[str, Sequence[float | None]], first: int = 40, **variables: Any) -> list[tuple[str, str]]:
    """Return the notes on these closes if trading begins on day number `first`, each with its symbol."""
    close = of_closes(columns).close
    found = notes(close, settings(**{**SMALL, **variables}), close.index[first].to_pydatetime())
    return [(note.symbol, note.what) for note in found]


# --- files of closes ------------------------------------------------------------------------------------------------


def test_a_file_of_closes_uses_the_close_for_all_four_prices(file: Path) -> None:
    panel = load(file, wide({"AAPL": range(1, 101), "KO": range(101, 201)}))
    assert not panel.has_ohlc
    assert panel.close["KO"].tolist() == list(range(101, 201))
    assert all(table.equals(panel.close) for table in (panel.open, panel.high, panel.low))


def test_the_shipped_sample_loads_fast_and_has_two_notes() -> None:
    start_s = process_time()
    panel = prices.load(Options(settings=settings(), start=date(2014, 1, 2)))
    assert process_time() - start_s < 1
    split, jump = list_notes(panel)
    assert split[1].startswith("unadjusted 4:3 split on 2017-05-02, from 13.62 to 10.32 (-24.2%)")
    assert jump == ("AMD", "its close jumps: +52.3% on 2016-04-22")
    assert panel.source == "daily closes of 20 symbols from the sample that ships with the project"
    assert len(panel.close) == 2516


def test_the_shipped_sample_has_a_symbol_that_left_the_index_in_2018() -> None:
    (outside,) = list_notes(prices.load(Options(settings=settings(), start=date(2018, 6, 18))))
    assert outside == (
        "",
        "sample_prices.csv.gz has prices for RRC, which UNIVERSE=sp500 leaves out: no member of the index in this span",
    )


def test_a_jump_before_the_bars_in_use_is_not_mentioned() -> None:
    assert all("jumps" not in note.what for note in prices.load(Options(settings=settings())).notes)


def test_the_columns_are_in_the_order_of_the_universe(file: Path) -> None:
    panel = load(file, wide({"AAPL": range(1, 101), "KO": range(1, 101), "GE": range(1, 101)}), "KO,AAPL")
    assert list(panel.close.columns) == ["KO", "AAPL"]


def test_a_listed_symbol_that_the_file_lacks_is_a_note(file: Path) -> None:
    panel = load(file, wide({"AAPL": [5] * 100}))
    assert list(panel.close.columns) == ["AAPL"]
    assert list_notes(panel) == [("KO", "prices.csv has no prices for it; it was read as daily closes of AAPL: AAPL")]


def test_a_file_without_any_symbol_of_the_universe_is_an_error(file: Path) -> None:
    with pytest.raises(BacktestError, match=r"no prices for UNIVERSE=NVDA, only for AAPL, KO; set UNIVERSE"):
        load(file, wide({"AAPL": [5] * 100, "KO": [5] * 100}), "NVDA")


def test_a_column_without_prices_up_to_the_end_is_a_note(file: Path) -> None:
    file.write_text(wide({"AAPL": [5] * 100, "KO": [None] * 60 + [7] * 40}))
    panel = prices.load(options(end=SESSIONS[50], PRICE_FILE=file, UNIVERSE="AAPL,KO"))
    assert list(panel.close.columns) == ["AAPL"]
    assert list_notes(panel) == [("KO", f"has no price up to {SESSIONS[50]}")]


def test_no_price_at_all_is_an_error(file: Path) -> None:
    with pytest.raises(BacktestError, match="no prices for AAPL; choose another UNIVERSE"):
        load(file, wide({"AAPL": [None] * 100, "KO": [5] * 100}), "AAPL")


def test_days_before_the_first_and_after_the_last_price_are_cut(file: Path) -> None:
    panel = load(file, wide({"AAPL": [None] * 10 + [5] * 80 + [None] * 10}), "AAPL")
    assert len(panel.close) == 80


def test_a_faulty_file_of_closes_is_the_same_error_as_in_a_run(file: Path) -> None:
    assert "line 3: the price of AAPL is 'x'" in fault(file, "timestamp,AAPL\n2022-12-27,5\n2022-12-28,x\n")


def test_a_missing_file_is_reported_as_missing(tmp_path: Path) -> None:
    with pytest.raises(PriceSourceError, match="No such file or directory; set PRICE_FILE"):
        prices.load(options(PRICE_FILE=tmp_path / "none.csv"))


# --- files of open, high, low and close -----------------------------------------------------------------------------


def test_an_ohlc_file_has_a_row_for_each_bar_of_each_symbol(file: Path) -> None:
    panel = load(file, tidy([*bars("KO"), *bars("AAPL", SESSIONS[1:])]))
    assert panel.has_ohlc
    assert list(panel.close.columns) == ["AAPL", "KO"]
    row = [table.iloc[0]["KO"] for table in (panel.open, panel.high, panel.low, panel.close)]
    assert row == [100, 102, 99, 101]
    assert panel.close.index[0] == datetime.combine(SESSIONS[0], datetime.min.time(), NEW_YORK)
    assert panel.close.index[0].utcoffset() == timedelta(0)
    assert np.isnan(panel.low.iloc[0]["AAPL"])


def test_order_case_and_extra_columns_do_not_matter(file: Path) -> None:
    rows = [
        f"9000,{low},{high},{open_},{close},{symbol},{day}"
        for day, symbol, open_, high, low, close in (row.split(",") for row in reversed(bars()))
    ]
    panel = load(file, tidy(rows, "VOLUME,LOW,HIGH,OPEN,CLOSE,SYMBOL,DATE"), "AAPL")
    plain = load(file, tidy(bars()), "AAPL")
    for name in ("open", "high", "low", "close"):
        pd.testing.assert_frame_equal(getattr(panel, name), getattr(plain, name))


def test_a_compressed_ohlc_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "prices.csv.gz"
    path.write_bytes(gzip.compress(tidy(bars()).encode()))
    assert len(prices.load(options(PRICE_FILE=path, UNIVERSE="AAPL")).close) == 100


def test_an_ohlc_file_saved_by_a_spreadsheet_is_read(file: Path) -> None:
    file.write_bytes(b"\xef\xbb\xbf" + tidy(bars()).replace("\n", "\r\n").encode())
    assert len(prices.load(options(PRICE_FILE=file, UNIVERSE="AAPL")).close) == 100


def test_intraday_bars_keep_their_time(file: Path) -> None:
    rows = [f"2022-12-{day} {hour:02}:30,AAPL,5,6,4,5" for day in range(19, 29) for hour in range(10, 15)]
    panel = load(file, tidy(rows), "AAPL", BAR_INTERVAL="1h")
    assert panel.close.index[0] == datetime(2022, 12, 19, 15, 30, tzinfo=UTC)


def test_an_empty_row_is_a_missing_bar(file: Path) -> None:
    rows = [*bars("KO"), *bars()[:-2], f"{SESSIONS[-2]},AAPL,,,,", bars()[-1]]
    panel = load(file, tidy(rows))
    assert np.isnan(panel.close["AAPL"].iloc[-2])
    assert list_notes(panel) == [("AAPL", f"the bar of {SESSIONS[-2]} is missing")]


def test_a_file_of_one_symbol_needs_no_symbol_column_and_is_adjusted(file: Path) -> None:
    rows = [f"{day},100,102,99,101,{50.5 if day < SESSIONS[50] else 101},9000" for day in SESSIONS]
    panel = load(file, tidy(rows, "Date,Open,High,Low,Close,Adj Close,Volume"), "KO")
    assert panel.close["KO"].tolist() == [50.5] * 50 + [101] * 50
    assert panel.low["KO"].tolist() == [49.5] * 50 + [99] * 50
    assert "adjusted by its column Adj Close" in panel.source


@pytest.mark.parametrize(("universe", "what"), [("AAPL,KO", "has 2 symbols"), ("sp500", "is sp500")])
def test_a_file_of_one_symbol_needs_that_symbol_as_universe(file: Path, universe: str, what: str) -> None:
    assert fault(file, "Date,Open,High,Low,Close,Adj Close,Volume\n2022-12-28,1,1,1,1,1,9\n", universe).endswith(
        f"line 1: the header has no symbol column, but UNIVERSE {what}; "
        "add a symbol column, or name the file's one symbol, as in UNIVERSE=AAPL"
    )


@pytest.mark.parametrize(
    ("header", "lacking"),
    [
        ("date,symbol,open,high,close", "low"),
        ("date,open,high,low,volume", "close"),
        ("symbol,open,high,low,close", "timestamp"),
    ],
)
def test_a_missing_ohlc_column_is_named_with_those_required(file: Path, header: str, lacking: str) -> None:
    message = fault(file, f"{header}\n{','.join('1' * (header.count(',') + 1))}\n")
    assert f"line 1: the header has no {lacking} column; an OHLC file has the columns timestamp (or date)" in message
    assert "such as timestamp,AAPL,MSFT" in message


def test_two_columns_for_one_thing_are_refused(file: Path) -> None:
    message = fault(file, "date,timestamp,symbol,open,high,low,close\n1,1,1,1,1,1,1\n")
    assert "line 1: two columns for the timestamp, date and timestamp; remove one of them" in message


@pytest.mark.parametrize("symbols", ["OPEN,LOW", "OPEN,HIGH,LOW"])
def test_symbols_named_like_price_columns_are_symbols(file: Path, symbols: str) -> None:
    panel = load(file, wide({symbol: range(1, 101) for symbol in symbols.split(",")}), symbols)
    assert not panel.has_ohlc
    assert list(panel.close.columns) == symbols.split(",")


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ("29.12.2022,AAPL,100,102,99,101", "timestamp '29.12.2022' is not ISO 8601; write it as"),
        ("2022-12-29,,100,102,99,101", "the symbol is missing; add it, or remove the row"),
        ("2022-12-28T16:00,AAPL,100,102,99,101", "AAPL has a second row for this time; keep one row"),
        ("2022-12-29,AAPL,100,102,99,hundred", "the close is 'hundred'; write a number, or leave the field empty"),
        ("2022-12-29,AAPL,100,102,99", "5 fields, but the header has 6; complete the row"),
    ],
)
def test_a_wrong_row_is_named_with_its_value_and_remedy(file: Path, row: str, expected: str) -> None:
    message = fault(file, tidy([*bars(), row, *bars("KO"), "2022-12-29,KO,1,1,1,9"]))
    assert f"price file {file}, line 102: {expected}" in message


@pytest.mark.parametrize(
    ("open_", "high", "low", "mended"),
    [
        ("100", "98", "99", (100, 101, 99)),  # the high is below the low and the close
        ("98", "102", "99", (98, 102, 98)),  # the open is below the low
        ("100", "100.5", "99", (100, 101, 99)),  # the close is above the high
        ("100", "102", "0", (100, 102, 100)),
        ("-3", "102", "99", (101, 102, 99)),
        ("100", "inf", "99", (100, 101, 99)),
        ("", "102", "99", (101, 102, 99)),
    ],
)
def test_a_bar_whose_prices_do_not_fit_its_close_is_mended_with_a_note(
    file: Path, open_: str, high: str, low: str, mended: tuple[float, ...]
) -> None:
    panel = load(file, tidy([*bars()[:-1], f"{SESSIONS[-1]},AAPL,{open_},{high},{low},101", *bars("KO")]))
    assert tuple(table["AAPL"].iloc[-1] for table in (panel.open, panel.high, panel.low)) == mended
    mending = f"a bar has an open, high or low that is missing or does not fit, on {SESSIONS[-1]}; "
    assert [symbol for symbol, what in list_notes(panel) if what.startswith(mending)] == ["AAPL"]


@pytest.mark.parametrize("close", ["", "0", "-5", "inf", "8e8", "n/a"])
def test_a_bar_without_a_possible_close_is_missing(file: Path, close: str) -> None:
    panel = load(file, tidy([*bars()[:50], f"{SESSIONS[50]},AAPL,100,102,99,{close}", *bars()[51:], *bars("KO")]))
    assert [table["AAPL"].isna().sum() for table in (panel.open, panel.high, panel.low, panel.close)] == [1] * 4


@pytest.mark.parametrize(("price", "close"), [(10.00, 10.004), (10.00, 9.996), (123456.0, 123456.1)])
def test_low_and_high_widen_without_a_note_for_a_close_off_by_rounding(file: Path, price: float, close: float) -> None:
    lines = [f"{day},AAPL,{price},{price},{price},{price}" for day in SESSIONS[:-1]]
    panel = load(file, tidy([*lines, f"{SESSIONS[-1]},AAPL,{price},{price},{price},{close}"]), "AAPL")
    assert (panel.high["AAPL"].iloc[-1], panel.low["AAPL"].iloc[-1]) == (max(price, close), min(price, close))
    assert not panel.notes


# --- notes ----------------------------------------------------------------------------------------------------------


def test_regular_prices_have_no_notes() -> None:
    assert judge({"AAPL": [5.0] * 100, "KO": [6.0] * 100}) == []


def test_a_late_listing_is_noted_with_its_dates() -> None:
    late = [None] * 50 + [5.0] * 50
    assert judge({"AAPL": [5.0] * 100, "KO": late}, HISTORY_BARS=40, UNIVERSE_LOOKBACK_BARS=30) == [
        (
            "KO",
            (
                f"its prices begin on {SESSIONS[50]}; it joins on {SESSIONS[80]}, with 31 bars; "
                f"its trend line uses fewer than HISTORY_BARS=40 until {SESSIONS[89]}"
            ),
        )
    ]


def test_a_listing_too_late_to_be_chosen_is_noted() -> None:
    assert judge({"AAPL": [5.0] * 100, "KO": [None] * 80 + [5.0] * 20}) == [
        ("KO", f"its prices begin on {SESSIONS[80]}; it never has the 30 needed to be chosen")
    ]


def test_a_short_history_at_the_start_of_trading_is_noted() -> None:
    short = [None] * 5 + [5.0] * 95
    assert judge({"AAPL": [5.0] * 100, "KO": short}, HISTORY_BARS=41) == [
        (
            "KO",
            (
                "has 36 bars up to the first traded one; "
                f"its trend line uses fewer than HISTORY_BARS=41 until {SESSIONS[45]}"
            ),
        )
    ]


def test_a_symbol_with_just_enough_history_is_not_mentioned() -> None:
    assert judge({"AAPL": [5.0] * 100, "KO": [None] * 11 + [5.0] * 89}) == []


def test_the_signal_horizon_needs_only_90_bars_of_history() -> None:
    found = judge({"AAPL": [5.0] * 100, "KO": [None] * 5 + [5.0] * 95}, first=91, SIGNAL="horizon", HISTORY_BARS=5000)
    assert found == [("KO", f"has 87 bars up to the first traded one; it joins on {SESSIONS[94]}, with 90 bars")]


def test_prices_that_end_early_are_noted() -> None:
    assert judge({"AAPL": [5.0] * 100, "KO": [5.0] * 70 + [None] * 30}) == [
        (
            "KO",
            (
                f"its prices end on {SESSIONS[69]} (delisted, or cut off), but the last bar is that of 2022-12-28; "
                "an open position is valued at its last price, and paid out at it after 10 sessions without one"
            ),
        )
    ]


def test_a_symbol_that_ends_at_the_first_traded_bar_can_be_held() -> None:
    ((_, what),) = judge({"AAPL": [5.0] * 100, "KO": [5.0] * 41 + [None] * 59})
    assert what.startswith(f"its prices end on {SESSIONS[40]} (delisted, or cut off)")


def test_prices_that_end_before_trading_begins_are_noted() -> None:
    assert judge({"AAPL": [5.0] * 100, "KO": [5.0] * 40 + [None] * 60}) == [
        ("KO", f"its prices end on {SESSIONS[39]}, before the first traded bar: it is not traded")
    ]


def test_missing_bars_are_counted_with_the_first_and_the_last() -> None:
    holes: list[float | None] = [5.0] * 100
    holes[50] = holes[51] = holes[90] = None
    assert judge({"AAPL": [5.0] * 100, "KO": holes}) == [
        ("KO", f"3 bars are missing, the first on {SESSIONS[50]}, the last on {SESSIONS[90]}")
    ]


def test_a_bar_that_all_symbols_lack_is_noted_once() -> None:
    hole = [5.0] * 60 + [None] + [5.0] * 39
    assert judge({"AAPL": hole, "KO": hole}) == [
        ("", f"no symbol has a bar on {SESSIONS[60]}, when the exchange was open")
    ]


def test_only_missing_bars_in_use_are_noted() -> None:
    holes: list[float | None] = [5.0] * 100
    holes[10] = holes[11] = None  # on day 40, 30 bars are read, from day 11 on
    assert judge({"AAPL": [5.0] * 100, "KO": holes}) == [("KO", f"the bar of {SESSIONS[11]} is missing")]


@pytest.mark.parametrize(
    ("before", "after", "split", "change"),
    [
        (100.0, 50.0, "2:1", "-50.0%"),
        (100.0, 24.5, "4:1", "-75.5%"),
        (100.0, 66.0, "3:2", "-34.0%"),
        (100.0, 5.1, "20:1", "-94.9%"),
        (10.0, 79.0, "1:8", "+690.0%"),
    ],
)
def test_a_split_that_nobody_adjusted_for_is_noted_as_one(before: float, after: float, split: str, change: str) -> None:
    (note,) = judge({"AAPL": [before] * 60 + [after] * 40})
    assert note[1].startswith(
        f"unadjusted {split} split on {SESSIONS[60]}, from {before:.2f} to {after:.2f} ({change}); left out while"
    )


@pytest.mark.parametrize(
    ("before", "after", "jump"), [(100.0, 140.0, "+40.0%"), (100.0, 57.0, "-43.0%"), (100.0, 152.0, "+52.0%")]
)
def test_a_jump_unlike_any_split_is_noted_as_a_jump(before: float, after: float, jump: str) -> None:
    assert judge({"AAPL": [before] * 60 + [after] * 40}) == [("AAPL", f"its close jumps: {jump} on {SESSIONS[60]}")]


@pytest.mark.parametrize("after", [139.0, 70.0, 61.0])
def test_a_smaller_change_is_not_mentioned(after: float) -> None:
    assert judge({"AAPL": [100.0] * 60 + [after] * 40}) == []


def test_a_jump_across_missing_bars_is_seen() -> None:
    found = judge({"AAPL": [100.0] * 60 + [None] * 2 + [25.0] * 38, "KO": [5.0] * 100})
    assert [what.partition(" on ")[0] for _, what in found][1:] == ["unadjusted 4:1 split"]


def test_a_jump_in_the_last_bar_is_noted_in_the_words_of_its_refusal() -> None:
    (note,) = judge({"AAPL": [100.0] * 99 + [10.0]})
    assert note[1] == (
        f"split or wrong price on {SESSIONS[99]}, from 100.00 to 10.00 (-90.0%); it is used once later bars confirm it"
    )


def test_a_wrong_price_is_noted_and_is_no_jump() -> None:
    (note,) = judge({"AAPL": [5.0] * 60 + [50.0] + [5.0] * 39})
    assert note[1] == f"a close that is far from those around it is left out: 50 on {SESSIONS[60]}"


def test_many_jumps_of_a_symbol_are_one_note() -> None:
    (note,) = judge({"AAPL": [100.0, 145.0] * 50})
    assert note[1].startswith(f"its close jumps: +45.0% on {SESSIONS[13]}, +45.0% on {SESSIONS[15]}, ")
    assert note[1].endswith(" and 41 more")


@pytest.mark.parametrize("price", [0.0, -3.0, float("inf"), 2e7])
def test_an_impossible_price_is_a_missing_bar_with_a_note(file: Path, price: float) -> None:
    panel = load(file, wide({"AAPL": [5.0] * 60 + [price] + [5.0] * 39}), "AAPL")
    assert math.isnan(panel.close["AAPL"].iloc[60])
    assert list_notes(panel)[0] == ("AAPL", f"a close that is impossible is left out: {price:g} on {SESSIONS[60]}")


def test_sessions_without_bars_and_bars_outside_sessions_are_noted(file: Path) -> None:
    days = [day for day in pd.bdate_range(end=LAST_DAY, periods=40).date if day not in {SESSIONS[-8], SESSIONS[-6]}]
    assert [note.what for note in load(file, wide({"AAPL": [5] * 38}, days), "AAPL").notes] == [
        "2 bars outside the exchange's sessions are left out: 2022-11-24 to 2022-12-26",
        f"no symbol has a bar on 2 days, {SESSIONS[-8]} to {SESSIONS[-6]}, when the exchange was open",
    ]


def test_a_file_of_weekends_is_an_error(file: Path) -> None:
    days = [date(2022, 12, 3), date(2022, 12, 4)]
    with pytest.raises(PriceFileError, match="no bar lies in a session of the exchange"):
        load(file, wide({"AAPL": [5] * 2}, days), "AAPL")


def test_bars_shorter_than_bar_interval_are_an_error(file: Path) -> None:
    file.write_text("timestamp,AAPL\n2022-12-28T10:00:00-05:00,1\n2022-12-28T10:05:00-05:00,2\n")
    chosen = Options(settings=settings(BAR_INTERVAL="15m", UNIVERSE="AAPL", PRICE_FILE=file))
    with pytest.raises(PriceFileError, match="10:00 and 2022-12-28 10:05 are less than BAR_INTERVAL=15m apart"):
        prices.load(chosen)


def test_notes_on_500_symbols_take_no_longer_than_reading_them_would() -> None:
    index = pd.bdate_range("2014-01-01", periods=2500, tz=NEW_YORK).tz_convert("UTC")
    walk = np.random.default_rng(1).normal(0, 0.02, (2500, 500)).cumsum(axis=0)
    close = pd.DataFrame(100 * np.exp(walk), index=index, columns=[f"S{number}" for number in range(500)])
    close.iloc[:800, ::5] = np.nan
    close.iloc[1500:, ::3] /= 4
    start_s = process_time()
    found = notes(close, settings(), index[300].to_pydatetime())
    noted_s = process_time() - start_s
    close.to_csv()
    assert noted_s < process_time() - start_s - noted_s
    assert len(found) >= 267


# --- traded bars ----------------------------------------------------------------------------------------------------


def span(panel: Panel, chosen: Options) -> tuple[date, date, int]:
    times = prices.span(panel, chosen)
    assert all(time.utcoffset() is not None for time in times)
    first, last = (time.astimezone(NEW_YORK).date() for time in (times[0], times[-1]))
    return first, last, len(times)


def refusal(panel: Panel, chosen: Options) -> str:
    with pytest.raises(BacktestError) as caught:
        prices.span(panel, chosen)
    return str(caught.value)


HUNDRED = of_closes({"AAPL": [5.0] * 100, "KO": [None] * 10 + [6.0] * 90})


def test_start_and_end_are_themselves_traded() -> None:
    assert span(HUNDRED, options(SESSIONS[50], SESSIONS[60])) == (SESSIONS[50], SESSIONS[60], 11)


def test_without_start_the_last_two_years_are_traded() -> None:
    panel = prices.load(Options(settings=settings()))
    assert span(panel, Options(settings=settings())) == (date(2020, 12, 28), LAST_DAY, 505)


def test_without_start_trading_begins_with_enough_bars() -> None:
    assert span(HUNDRED, options()) == (SESSIONS[29], LAST_DAY, 71)


@pytest.mark.parametrize(
    ("variables", "needed"),
    [
        ({"HISTORY_BARS": 40}, 40),
        ({"HISTORY_BARS": 30, "UNIVERSE_LOOKBACK_BARS": 60}, 61),
        ({"SIGNAL": "interval", "HISTORY_BARS": 50}, 50),
        ({"SIGNAL": "horizon", "HISTORY_BARS": 5000}, 90),
    ],
)
def test_the_settings_determine_how_many_bars_are_needed(variables: dict[str, Any], needed: int) -> None:
    assert span(HUNDRED, options(SESSIONS[needed - 1], **variables))[0] == SESSIONS[needed - 1]
    with pytest.raises(BacktestError):
        prices.span(HUNDRED, options(SESSIONS[needed - 2], **variables))


def test_one_symbol_with_enough_bars_is_enough() -> None:
    panel = of_closes({"AAPL": [None] * 60 + [5.0] * 40, "KO": [6.0] * 100})
    assert span(panel, options(SESSIONS[29]))[0] == SESSIONS[29]


def test_a_day_without_any_price_is_not_traded() -> None:
    assert span(of_closes({"AAPL": [5.0] * 60 + [None] + [5.0] * 39}), options(SESSIONS[50])) == (
        SESSIONS[50],
        LAST_DAY,
        49,
    )


def test_an_end_before_all_prices_is_refused() -> None:
    assert refusal(HUNDRED, options(end=date(2001, 1, 1))) == (
        f"END=2001-01-01 is before all prices, which begin on {SESSIONS[0]}; choose a later END"
    )


def test_a_start_after_all_prices_is_refused() -> None:
    assert refusal(HUNDRED, options(date(2023, 2, 1))) == (
        "there is no bar from START=2023-02-01 on: the last bar before START is that of 2022-12-28; "
        "choose an earlier START"
    )


def test_a_span_without_bars_is_refused() -> None:
    assert refusal(HUNDRED, options(date(2022, 12, 24), date(2022, 12, 26))) == (
        "there is no bar from START=2022-12-24 to END=2022-12-26: the last bar before START is that of 2022-12-23; "
        "choose an earlier START or a later END"
    )


def test_a_start_that_is_too_early_names_the_first_that_works() -> None:
    assert refusal(HUNDRED, options(SESSIONS[20])) == (
        f"START={SESSIONS[20]} is too early: there are 21 bars up to {SESSIONS[20]}, but HISTORY_BARS=30 needs 30; "
        f"the first START that works is {SESSIONS[29]}"
    )
    assert span(HUNDRED, options(SESSIONS[29]))[0] == SESSIONS[29]


@pytest.mark.parametrize(
    ("variables", "why"),
    [
        ({"SIGNAL": "horizon", "HISTORY_BARS": 5000}, "SIGNAL=horizon needs 90"),
        ({"UNIVERSE_LOOKBACK_BARS": 60}, "UNIVERSE_LOOKBACK_BARS=60 needs 61"),
    ],
)
def test_the_setting_that_needs_the_bars_is_named(variables: dict[str, Any], why: str) -> None:
    assert why in refusal(HUNDRED, options(SESSIONS[20], **variables))


def test_the_first_start_that_works_is_right_for_intraday_bars() -> None:
    days = SESSIONS[-8:]  # six bars each, so the 30th is the last one of the fifth day
    stamps = [pd.Timestamp(f"{day} {hour}:30", tz=NEW_YORK) for day in days for hour in range(10, 16)]
    close = pd.DataFrame({"AAPL": [5.0] * 48}, index=pd.DatetimeIndex(stamps).tz_convert("UTC"))
    panel = Panel(open=close, high=close, low=close, close=close, has_ohlc=False, source="a test")
    message = refusal(panel, options(days[4], BAR_INTERVAL="1h"))
    assert (
        f"25 bars up to {days[4]} 10:30, but HISTORY_BARS=30 needs 30; the first START that works is {days[5]}"
        in message
    )
    assert span(panel, options(days[5], BAR_INTERVAL="1h"))[0] == days[5]
    assert len(prices.span(panel, options(BAR_INTERVAL="1h"))) == 19


def test_a_file_with_too_few_bars_in_all_is_refused(file: Path) -> None:
    with pytest.raises(
        BacktestError,
        match=r"too few bars: the symbol with the most has 20 up to .* HISTORY_BARS=30 needs 30; lower it, or",
    ):
        load(file, wide({"AAPL": [5] * 20}, SESSIONS[-20:]), "AAPL")
