"""Price files of every common format: read rightly."""

import gzip
from collections.abc import Callable
from datetime import UTC, date, datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tests.unit.trader.prices.files import BARS, DAYS, Bar, bars, closes, read, table
from trader.model import NEW_YORK


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "prices.csv"


def thousand(price_usd: float) -> str:
    return f"{price_usd + 1000:,.2f}"


def comma(price_usd: float) -> str:
    return f"{price_usd:.2f}".replace(".", ",")


def unix(day: date, hour: int = 14, minute: int = 30) -> int:
    return int(datetime(day.year, day.month, day.day, hour, minute, tzinfo=UTC).timestamp())


YF = "Price,Close,High,Low,Open,Volume\nTicker,AAPL,AAPL,AAPL,AAPL,AAPL\nDate,,,,,"


def yf(bar: Bar) -> str:
    return f"{bar.day},{bar.close},{bar.high},{bar.low},{bar.open},9"


def ohlcv(bar: Bar) -> str:
    return f"{bar.day},{bar.open},{bar.high},{bar.low},{bar.close},9000"


OHLC: dict[str, tuple[str, Callable[[Bar], str]]] = {
    "Stooq's page": ("Date,Open,High,Low,Close,Volume", ohlcv),
    "lower case": ("date,open,high,low,close,volume", ohlcv),
    "capitals": ("DATE,OPEN,HIGH,LOW,CLOSE,VOLUME", ohlcv),
    "letters": ("Date,O,H,L,C,V", ohlcv),
    "the time last": (
        "Close,Low,High,Open,Date",
        lambda bar: f"{bar.close},{bar.low},{bar.high},{bar.open},{bar.day}",
    ),
    "no name for the time": (",Open,High,Low,Close,Volume", ohlcv),
    "backtrader": (
        "datetime,open,high,low,close,volume,openinterest",
        lambda bar: f"{bar.day} 00:00:00,{bar.open},{bar.high},{bar.low},{bar.close},9,0",
    ),
    "Yahoo": (
        "Date,Open,High,Low,Close,Adj Close,Volume",
        lambda bar: f"{bar.day},{bar.open},{bar.high},{bar.low},{bar.close},{bar.close},9",
    ),
    "Yahoo's page": (
        "Date,Open,High,Low,Close*,Adj Close**,Volume",
        lambda bar: f'"{bar.day:%b %d, %Y}",{bar.open},{bar.high},{bar.low},{bar.close},{bar.close},"62,418,829"',
    ),
    "yfinance's history": (
        "Date,Open,High,Low,Close,Volume,Dividends,Stock Splits",
        lambda bar: f"{bar.day} 00:00:00-05:00,{bar.open},{bar.high},{bar.low},{bar.close},9,0.0,0.0",
    ),
    "yfinance's download": (YF, yf),
    "yfinance's download by ticker": (
        "Ticker,AAPL,AAPL,AAPL,AAPL,AAPL\nPrice,Close,High,Low,Open,Volume\nDate,,,,,",
        yf,
    ),
    "yfinance's download without names": (",Close,High,Low,Open,Volume\n,AAPL,AAPL,AAPL,AAPL,AAPL\nDate,,,,,", yf),
    "yfinance's download with two lines": ("Date,Close,High,Low,Open,Volume\n,AAPL,AAPL,AAPL,AAPL,AAPL", yf),
    "yfinance's download, numbered": (
        "Price,Date,Close,High,Low,Open,Volume\nTicker,,AAPL,AAPL,AAPL,AAPL,AAPL",
        lambda bar: f"{DAYS.index(bar.day)},{yf(bar)}",
    ),
    "yfinance's download with tuples": (
        "Date,\"('Close', 'AAPL')\",\"('High', 'AAPL')\",\"('Low', 'AAPL')\",\"('Open', 'AAPL')\",Volume AAPL",
        yf,
    ),
    "yfinance's download, joined": ("Date,Close_AAPL,High_AAPL,Low_AAPL,Open_AAPL,Volume_AAPL", yf),
    "quantmod": (
        '"","AAPL.Close","AAPL.High","AAPL.Low","AAPL.Open","AAPL.Volume"',
        lambda bar: f'"{bar.day}",{bar.close},{bar.high},{bar.low},{bar.open},9',
    ),
    "Stooq's archive": (
        "<TICKER>,<PER>,<DATE>,<TIME>,<OPEN>,<HIGH>,<LOW>,<CLOSE>,<VOL>,<OPENINT>",
        lambda bar: f"AAPL.US,D,{bar.day:%Y%m%d},000000,{bar.open},{bar.high},{bar.low},{bar.close},9,0",
    ),
    "MetaTrader": (
        "<DATE>\t<OPEN>\t<HIGH>\t<LOW>\t<CLOSE>\t<TICKVOL>\t<VOL>\t<SPREAD>",
        lambda bar: f"{bar.day:%Y.%m.%d}\t{bar.open}\t{bar.high}\t{bar.low}\t{bar.close}\t9\t0\t1",
    ),
    "Alpha Vantage": ("timestamp,open,high,low,close,volume", ohlcv),
    "Alpha Vantage's JSON": (",1. open,2. high,3. low,4. close,5. volume", ohlcv),
    "Quandl": (
        "Date,Open,High,Low,Close,Volume,Ex-Dividend,Split Ratio,Adj. Open,Adj. High,Adj. Low,Adj. Close,Adj. Volume",
        lambda bar: f"{ohlcv(bar)},0,1,1,1,1,{bar.close},9",
    ),
    "Tiingo": (
        "date,close,high,low,open,volume,adjClose,adjHigh,adjLow,adjOpen,adjVolume,divCash,splitFactor",
        lambda bar: f"{yf(bar)},{bar.close},1,1,1,9,0,0",
    ),
    "Sharadar": (
        "ticker,date,open,high,low,close,volume,closeadj,closeunadj,lastupdated",
        lambda bar: f"AAPL,{ohlcv(bar)},{bar.close},400,2023-01-01",
    ),
    "Nasdaq.com": (
        "Date,Close/Last,Volume,Open,High,Low",
        lambda bar: f"{bar.day:%m/%d/%Y},${bar.close},9,${bar.open},${bar.high},${bar.low}",
    ),
    "MarketWatch": (
        "Date,Open,High,Low,Close,Volume",
        lambda bar: f'{bar.day:%m/%d/%Y},{bar.open},{bar.high},{bar.low},{bar.close},"85,539,994"',
    ),
    "Barchart": (
        "Time,Open,High,Low,Last,Change,%Chg,Volume",
        lambda bar: f"{bar.day:%m/%d/%Y},{bar.open},{bar.high},{bar.low},{bar.close},1,1%,9",
    ),
    "Google": (
        "Date,Open,High,Low,Close,Volume",
        lambda bar: (
            f"{bar.day.month}/{bar.day.day}/{bar.day.year} 16:00:00,{bar.open},{bar.high},{bar.low},{bar.close},9"
        ),
    ),
    "TradingView": (
        "time,open,high,low,close,Volume,Volume MA",
        lambda bar: f"{unix(bar.day)},{bar.open},{bar.high},{bar.low},{bar.close},9,9",
    ),
    "Unix midnights in UTC": (
        "time,open,high,low,close",
        lambda bar: f"{unix(bar.day, 0, 0)},{bar.open},{bar.high},{bar.low},{bar.close}",
    ),
    "Unix milliseconds": (
        "unix,open,high,low,close",
        lambda bar: f"{unix(bar.day)}000,{bar.open},{bar.high},{bar.low},{bar.close}",
    ),
    "Polygon's nanoseconds": (
        "ticker,volume,open,close,high,low,window_start,transactions",
        lambda bar: f"AAPL,9,{bar.open},{bar.close},{bar.high},{bar.low},{unix(bar.day, 5, 0)}000000000,9",
    ),
    "Dukascopy": (
        "Gmt time,Open,High,Low,Close,Volume",
        lambda bar: f"{bar.day:%d.%m.%Y} 00:00:00.000,{bar.open},{bar.high},{bar.low},{bar.close},9",
    ),
    "day-month-year": (
        "Date,Open,High,Low,Close",
        lambda bar: f"{bar.day:%d-%b-%Y},{bar.open},{bar.high},{bar.low},{bar.close}",
    ),
    "semicolons": (
        "Date;Open;High;Low;Close;Volume",
        lambda bar: f"{bar.day};{bar.open};{bar.high};{bar.low};{bar.close};9",
    ),
    "decimal commas": (
        "Date;Open;High;Low;Close;Volume",
        lambda bar: ";".join(
            [f"{bar.day:%d.%m.%Y}", *map(comma, (bar.open, bar.high, bar.low, bar.close)), "1.234.567"]
        ),
    ),
    "vertical bars": (
        "Date|Open|High|Low|Close",
        lambda bar: f"{bar.day}|{bar.open}|{bar.high}|{bar.low}|{bar.close}",
    ),
    "indicators": ("Date,Open,High,Low,Close,MA,CCI,RSI", lambda bar: f"{ohlcv(bar)},1,2"),
    "Kaggle's Name": ("date,open,high,low,close,volume,Name", lambda bar: f"{ohlcv(bar)},AAPL"),
    "FinRL's tic": (
        ",date,open,high,low,close,volume,tic,day",
        lambda bar: f"{DAYS.index(bar.day)},{ohlcv(bar)},AAPL,{bar.day.weekday()}",
    ),
    "Stock": ("Stock,Date,Open,High,Low,Close,Volume", lambda bar: f"AAPL,{ohlcv(bar)}"),
    "Kaggle's world stock prices": (
        "Date,Open,High,Low,Close,Volume,Brand_Name,Ticker,Industry_Tag,Country,Dividends,Stock Splits,Capital Gains",
        lambda bar: f"{bar.day} 00:00:00-05:00{ohlcv(bar)[10:]},apple,AAPL,technology,usa,0,0,",
    ),
    "Alpaca": (
        "symbol,timestamp,open,high,low,close,volume,trade_count,vwap",
        lambda bar: f"AAPL,{bar.day} 05:00:00+00:00,{bar.open},{bar.high},{bar.low},{bar.close},9,9,1",
    ),
}


@pytest.mark.parametrize("name", OHLC)
def test_the_bars_of_one_share_are_read_to_the_digit(file: Path, name: str) -> None:
    prices = read(file, table(*OHLC[name]))
    assert prices.has_ohlc
    assert bars(prices) == BARS


@pytest.mark.parametrize("name", OHLC)
def test_the_newest_row_may_be_the_first(file: Path, name: str) -> None:
    assert bars(read(file, table(*OHLC[name], bars=BARS[::-1]))) == BARS


CLOSES: dict[str, tuple[str, Callable[[Bar], str]]] = {
    "a date and a close": ("Date,Close", lambda bar: f"{bar.day},{bar.close}"),
    "a column named by the symbol": ("timestamp,AAPL", lambda bar: f"{bar.day},{bar.close}"),
    "several symbols": ("Date,AAPL,MSFT", lambda bar: f"{bar.day},{bar.close},5"),
    "lower case": ("date,aapl,msft", lambda bar: f"{bar.day},{bar.close},5"),
    "exchanges": ("date,NASDAQ:AAPL,NYSE:BRK/B", lambda bar: f"{bar.day},{bar.close},5"),
    "Bloomberg": ("Dates,AAPL US Equity,BRK/B US Equity", lambda bar: f"{bar.day},{bar.close},#N/A N/A"),
    "Bloomberg's field": ("Date,PX_LAST", lambda bar: f"{bar.day:%m/%d/%Y},{bar.close}"),
    "pandas' numbers": (",Date,AAPL,MSFT", lambda bar: f"{DAYS.index(bar.day)},{bar.day},{bar.close},5"),
    "R": ('"","AAPL","MSFT"', lambda bar: f'"{bar.day}",{bar.close},NA'),
    "R's numbers": (
        '"","Date","AAPL"',
        lambda bar: f'"{DAYS.index(bar.day) + 1}","{bar.day}",{bar.close}',
    ),
    "a row for each symbol": ("date,symbol,close", lambda bar: f"{bar.day},AAPL,{bar.close}\n{bar.day},MSFT,5"),
    "prices with one order of price": ("Date,Price", lambda bar: f'"{bar.day:%B %d, %Y}",{bar.close}'),
}


@pytest.mark.parametrize("name", CLOSES)
def test_closes_are_read_to_the_digit(file: Path, name: str) -> None:
    prices = read(file, table(*CLOSES[name]))
    assert not prices.has_ohlc
    assert closes(prices) == [bar.close for bar in BARS]


def test_with_closes_only_all_four_tables_are_one(file: Path) -> None:
    tables = read(file, table(*CLOSES["several symbols"])).tables
    assert {id(each) for each in tables.values()} == {id(tables["close"])}
    assert list(tables) == ["open", "high", "low", "close"]


def test_a_daily_bar_starts_at_midnight_in_new_york(file: Path) -> None:
    index = read(file, table(*OHLC["TradingView"])).tables["close"].index
    assert list(index) == [pd.Timestamp(day, tz=NEW_YORK) for day in DAYS]
    assert str(index.dtype) == "datetime64[us, UTC]"


def test_investings_thousands_are_read(file: Path) -> None:
    header = '"Date","Price","Open","High","Low","Vol.","Change %"'
    prices = read(
        file,
        table(
            header,
            lambda bar: (
                f'"{bar.day:%m/%d/%Y}","{thousand(bar.close)}","{thousand(bar.open)}","{thousand(bar.high)}",'
                f'"{thousand(bar.low)}","62.42M","-1.30%"'
            ),
        ),
    )
    assert closes(prices) == [round(bar.close + 1000, 2) for bar in BARS]


def test_a_file_with_only_adjusted_closes_gives_these_with_a_note(file: Path) -> None:
    prices = read(
        file, table("datadate,tic,adjcp,open,high,low,volume", lambda bar: f"{bar.day:%Y%m%d},AAPL,{bar.close},1,2,3,9")
    )
    assert not prices.has_ohlc
    assert closes(prices) == [bar.close for bar in BARS]
    assert (
        "adjcp is read as the close; there is no raw close, so the last price may not be what is paid" in prices.notes
    )


def test_a_long_file_may_be_in_any_order(file: Path) -> None:
    rows = [f"{bar.day},{symbol},{bar.close}" for bar in BARS for symbol in ("AAPL", "MSFT")]
    prices = read(file, "\n".join(["date,symbol,close", *sorted(rows, key=lambda row: row[::-1])]))
    assert closes(prices, "MSFT") == [bar.close for bar in BARS]


def test_a_bar_that_one_symbol_lacks_is_nan(file: Path) -> None:
    prices = read(file, "date,symbol,close\n2022-12-27,AAPL,1\n2022-12-28,AAPL,2\n2022-12-28,MSFT,3\n")
    assert np.isnan(closes(prices, "MSFT")[0])


def test_several_tickers_of_yfinance_have_a_column_each(file: Path) -> None:
    header = (
        ",Adj Close,Adj Close,Close,Close,High,High,Low,Low,Open,Open,Volume,Volume\n"
        ",AAPL,brk-b,AAPL,brk-b,AAPL,brk-b,AAPL,brk-b,AAPL,brk-b,AAPL,brk-b\nDate,,,,,,,,,,,,"
    )
    prices = read(
        file,
        table(
            header,
            lambda bar: f"{bar.day},{bar.close},8,{bar.close},8,{bar.high},9,{bar.low},7,{bar.open},7.5,1,1",
        ),
    )
    assert bars(prices) == BARS
    assert bars(prices, "BRK.B")[0] == Bar(DAYS[0], 7.5, 9, 7, 8)


def test_tickers_that_are_called_like_prices_are_told_by_the_other_header_line(file: Path) -> None:
    header = "Price,Close,High,Low,Open,Volume\nTicker,LOW,LOW,LOW,LOW,LOW\nDate,,,,,"
    assert bars(read(file, table(header, yf), "LOW"), "LOW") == BARS


def test_names_that_pandas_has_numbered_are_the_same_names(file: Path) -> None:
    header = "Date,Close,Close.1\n,AAPL,MSFT"
    prices = read(file, table(header, lambda bar: f"{bar.day},{bar.close},5"))
    assert list(prices.tables["close"].columns) == ["AAPL", "MSFT"]
    assert closes(prices, "MSFT") == [5] * 30


def test_a_date_and_a_time_of_day_in_two_columns_are_joined(file: Path) -> None:
    text = "Date,Time,Open,High,Low,Close\n2022-12-28,09:30:00,1,1,1,1\n2022-12-28,09:45:00,2,2,2,2\n"
    index = read(file, text, interval="15m").tables["close"].index
    assert list(index) == [datetime(2022, 12, 28, 14, 30, tzinfo=UTC), datetime(2022, 12, 28, 14, 45, tzinfo=UTC)]


@pytest.mark.parametrize("first", ["93000", "093000", "09:30", "9:30 AM", "9:30am"])
def test_a_time_of_day_is_read_without_its_colons_and_zeros(file: Path, first: str) -> None:
    second = "154500" if first.isdigit() else "3:45 PM" if first.lower().endswith("m") else "15:45"
    text = f"<DATE>,<TIME>,<CLOSE>\n20221228,{first},1\n20221228,{second},2\n"
    index = read(file, text, interval="15m").tables["close"].index
    assert list(index) == [datetime(2022, 12, 28, 14, 30, tzinfo=UTC), datetime(2022, 12, 28, 20, 45, tzinfo=UTC)]


def test_a_column_called_gmt_time_has_times_in_utc(file: Path) -> None:
    text = "Gmt time,Close\n28.12.2022 14:30:00.000,1\n28.12.2022 14:45:00.000,2\n"
    assert read(file, text, interval="15m").tables["close"].index[0] == datetime(2022, 12, 28, 14, 30, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        (table(*CLOSES["several symbols"]), "daily closes of 2 symbols"),
        (table(*CLOSES["a date and a close"]), "daily closes of AAPL"),
        (table(*OHLC["letters"]), "daily bars of AAPL (open, high, low, close)"),
        (table(*OHLC["Yahoo"]), "daily bars of AAPL (open, high, low, close), adjusted by its column Adj Close"),
    ],
)
def test_it_says_what_it_took_a_file_for(file: Path, text: str, kind: str) -> None:
    assert read(file, text).kind == kind


@pytest.mark.parametrize(
    ("name", "note"),
    [
        ("indicators", "columns that are not read: MA, CCI, RSI"),
        ("FinRL's tic", "the numbering of the rows is not read"),
        ("Nasdaq.com", "Close/Last is read as the close"),
        ("Nasdaq.com", f"dates such as {DAYS[0]:%m/%d/%Y} are read as month/day/year"),
        ("Stooq's archive", "symbols are read in Alpaca's spelling: AAPL.US as AAPL"),
    ],
)
def test_what_a_user_should_know_is_noted(file: Path, name: str, note: str) -> None:
    assert note in read(file, table(*OHLC[name])).notes


def test_a_file_that_is_newest_first_is_noted_as_sorted(file: Path) -> None:
    found = read(file, table(*CLOSES["several symbols"], bars=BARS[::-1]))
    assert found.notes == ("the newest row is the first; the rows were sorted",)


def test_an_ordinary_file_has_no_notes(file: Path) -> None:
    assert read(file, table(*CLOSES["several symbols"])).notes == ()


def test_of_many_renamed_symbols_a_few_are_named(file: Path) -> None:
    header = ",".join(["date", *(f"nyse:{letter}x" for letter in "abcdefgh")])
    (note,) = read(file, f"{header}\n2022-12-28,1,1,1,1,1,1,1,1\n").notes
    assert note.endswith("nyse:ax as AX, nyse:bx as BX, nyse:cx as CX, nyse:dx as DX, nyse:ex as EX and 3 more")


@pytest.mark.parametrize("field", ["", "NA", "N/A", "#N/A", "NaN", "nan", "null", "None", "-", ".", "n/a", " "])
def test_a_field_may_say_that_a_price_is_missing(file: Path, field: str) -> None:
    prices = read(file, f"date,AAPL\n2022-12-27,5\n2022-12-28,{field}\n")
    assert closes(prices)[0] == 5
    assert np.isnan(closes(prices)[1])


@pytest.mark.parametrize(("field", "value"), [("0", 0), ("-5", -5), ("inf", np.inf), ("1e9", 1e9), ("0.005", 0.005)])
def test_impossible_prices_pass_through_to_be_judged_later(file: Path, field: str, value: float) -> None:
    assert closes(read(file, f"date,AAPL\n2022-12-27,5\n2022-12-28,{field}\n")) == [5, value]


def test_packed_text_is_read(tmp_path: Path) -> None:
    data = gzip.compress(table(*OHLC["Yahoo"]).encode())
    assert bars(read(tmp_path / "prices.csv.gz", data)) == BARS


@pytest.mark.parametrize("end", ["\r\n", "\r", "\n\n", "\n,\n"])
def test_lines_may_end_in_any_way(file: Path, end: str) -> None:
    assert closes(read(file, table(*CLOSES["a date and a close"]).replace("\n", end))) == [bar.close for bar in BARS]


def test_a_byte_order_mark_is_skipped(file: Path) -> None:
    assert bars(read(file, "\ufeff" + table(*OHLC["Yahoo"]))) == BARS


def test_a_last_line_without_an_end_is_read(file: Path) -> None:
    assert len(closes(read(file, table(*CLOSES["a date and a close"]).rstrip()))) == 30


def test_fields_in_quotes_may_have_delimiters_and_line_ends(file: Path) -> None:
    prices = read(file, table("Date,Close,Remark", lambda bar: f'{bar.day},"{bar.close}","a, ""b""\nc"'))
    assert closes(prices) == [bar.close for bar in BARS]


def test_letters_of_other_scripts_may_be_in_columns_that_are_not_read(file: Path) -> None:
    prices = read(file, table("Date,Close,Note", lambda bar: f"{bar.day},{bar.close},Börse"))
    assert closes(prices) == [bar.close for bar in BARS]
