import gzip
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from scripts import ROOT
from scripts.data.sample_prices import sample
from trader.prices.base import Missing, PriceSourceError
from trader.prices.file import FilePrices
from trader.prices.series import Series
from trader.prices.table import PriceFileError
from trader.progress import no_progress

SAMPLE = ROOT / "function/trader/data/sample_prices.csv.gz"
LATER = datetime(2030, 1, 1, tzinfo=UTC)
TWO_BY_TWO = "timestamp,AAPL,BRK.B\n2022-12-27,130.5,301\n2022-12-28,126,302.5\n"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "prices.csv"


def write(path: Path, text: str, bar_interval: str = "1d") -> FilePrices:
    path.write_text(text)
    return FilePrices(path, bar_interval)


def closes(prices: FilePrices, symbol: str, count: int = 250, now: datetime = LATER) -> dict[datetime, float]:
    series = prices.read([symbol], count, now, no_progress)[symbol]
    assert isinstance(series, Series)
    return {time.to_pydatetime(): price for time, price in series.closes.items() if hasattr(time, "to_pydatetime")}


def fault(prices: FilePrices) -> str:
    with pytest.raises(PriceFileError) as caught:
        prices.read(["AAPL"], 250, LATER, no_progress)
    return str(caught.value)


def test_the_columns_are_the_symbols(file: Path) -> None:
    assert write(file, TWO_BY_TWO).symbols() == {"AAPL", "BRK.B"}


def test_a_plain_date_is_midnight_in_new_york(file: Path) -> None:
    assert closes(write(file, TWO_BY_TWO), "AAPL") == {
        datetime(2022, 12, 27, 5, tzinfo=UTC): 130.5,
        datetime(2022, 12, 28, 5, tzinfo=UTC): 126.0,
    }


def test_a_time_without_offset_follows_new_yorks_summer_time(file: Path) -> None:
    prices = write(file, "timestamp,AAPL\n2022-03-11 09:30:00,1\n2022-03-14 09:30:00,2\n", "15m")
    assert [time.hour for time in closes(prices, "AAPL")] == [14, 13]


def test_a_time_with_an_offset_is_taken_at_its_word(file: Path) -> None:
    prices = write(file, "timestamp,AAPL\n2022-12-28T15:45:00+01:00,1\n2022-12-28T15:45:00Z,2\n", "15m")
    assert [time.hour for time in closes(prices, "AAPL")] == [14, 15]


@pytest.mark.parametrize("stamp", ["", "T16:00:00", " 00:00:00+00:00", "T05:00:00Z", "T09:30:00-05:00"])
def test_a_daily_bar_has_its_date_whatever_its_time_of_day(file: Path, stamp: str) -> None:
    prices = write(file, f"timestamp,AAPL\n2022-12-28{stamp},1\n")
    assert prices.last_bar() == datetime(2022, 12, 28, 5, tzinfo=UTC)


def test_two_daily_bars_of_one_date_are_an_error(file: Path) -> None:
    assert "is repeated" in fault(write(file, "timestamp,AAPL\n2022-12-28T09:30,1\n2022-12-28T16:00,2\n"))


def test_the_last_bar_is_the_last_row(file: Path) -> None:
    assert write(file, TWO_BY_TWO).last_bar() == datetime(2022, 12, 28, 5, tzinfo=UTC)


def test_only_the_last_bars_asked_for_are_given(file: Path) -> None:
    assert list(closes(write(file, TWO_BY_TWO), "BRK.B", count=1).values()) == [302.5]


def test_a_bar_that_starts_now_is_given_and_a_later_one_is_not(file: Path) -> None:
    now = datetime(2022, 12, 27, 5, tzinfo=UTC)
    assert list(closes(write(file, TWO_BY_TWO), "AAPL", now=now)) == [now]
    assert closes(write(file, TWO_BY_TWO), "AAPL", now=now - timedelta(seconds=1)) == {}


def test_for_a_symbol_that_the_file_lacks_the_reason_says_what_it_was_read_as(file: Path) -> None:
    missing = write(file, TWO_BY_TWO).read(["NVDA"], 9, LATER, no_progress)["NVDA"]
    assert isinstance(missing, Missing)
    assert missing.reason.startswith("prices.csv has no prices for it; it was read as ")
    assert missing.reason.endswith(": AAPL, BRK.B")


def test_progress_ends_with_every_symbol_done(file: Path) -> None:
    steps: list[tuple[str, int, int]] = []
    write(file, TWO_BY_TWO).read(
        ["AAPL", "NVDA"], 9, LATER, lambda work, done, total: steps.append((work, done, total))
    )
    assert steps == [("prices from the file", 2, 2)]


@pytest.mark.parametrize("field", ["", "nan", "0", "-3", "inf"])
def test_a_price_that_is_none_is_absent_and_no_error_of_the_file(file: Path, field: str) -> None:
    prices = write(file, f"timestamp,AAPL\n2022-12-27,5\n2022-12-28,{field}\n")
    assert list(closes(prices, "AAPL").values()) == [5.0]


def test_a_file_without_any_price_is_an_error(file: Path) -> None:
    assert "has no price that can be used" in fault(write(file, "timestamp,AAPL\n2022-12-27,-5\n"))


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("timestamp,AAPL\n2022-12-27,\n", ": every close is missing"),
        (
            "date,symbol,close,adj close\n2022-12-27,AAPL,5,0\n",
            ": bars without an adjusted close are left out: AAPL on",
        ),
    ],
)
def test_a_file_without_any_price_is_refused_with_the_reason(file: Path, text: str, why: str) -> None:
    assert why in fault(write(file, text))


def test_a_file_is_described_by_what_it_was_taken_for(file: Path) -> None:
    assert write(file, TWO_BY_TWO).describe().endswith("closes of 2 symbols from prices.csv")


def test_bars_outside_the_sessions_are_noted(file: Path) -> None:
    (outside,) = write(file, "timestamp,AAPL\n2022-12-23,5\n2022-12-24,6\n").notes()
    assert outside == "1 bar outside the exchange's sessions is left out: 2022-12-24"


def test_a_file_saved_by_a_spreadsheet_is_read(file: Path) -> None:
    file.write_bytes(b"\xef\xbb\xbf" + TWO_BY_TWO.replace("\n", "\r\n").encode() + b"\r\n\r\n")
    assert list(closes(FilePrices(file), "AAPL").values()) == [130.5, 126.0]


def test_a_compressed_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "prices.csv.gz"
    path.write_bytes(gzip.compress(TWO_BY_TWO.encode()))
    assert list(closes(FilePrices(path), "AAPL").values()) == [130.5, 126.0]


def test_a_changed_file_is_read_again(file: Path) -> None:
    prices = write(file, TWO_BY_TWO)
    prices.symbols()
    write(file, TWO_BY_TWO.replace("AAPL", "MSFT"))
    os.utime(file, ns=(0, 1))
    assert prices.symbols() == {"MSFT", "BRK.B"}


def test_an_unchanged_file_is_read_once(file: Path) -> None:
    prices = write(file, TWO_BY_TWO)
    before = file.stat()
    prices.symbols()
    file.write_text("x" * before.st_size)
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert prices.symbols() == {"AAPL", "BRK.B"}


def test_an_error_of_the_file_is_an_error_of_the_source(file: Path) -> None:
    with pytest.raises(PriceSourceError):
        FilePrices(file).symbols()


def test_a_missing_file_is_named_with_the_setting_to_change(file: Path) -> None:
    assert (
        fault(FilePrices(file)) == f"price file {file}: No such file or directory; set PRICE_FILE to a file of prices"
    )


def test_a_folder_is_not_a_price_file(tmp_path: Path) -> None:
    assert "Is a directory; set PRICE_FILE" in fault(FilePrices(tmp_path))


@pytest.mark.parametrize("text", ["", "\n\n"])
def test_an_empty_file_is_reported_as_empty(file: Path, text: str) -> None:
    assert f"{file} is empty; it needs a header row" in fault(write(file, text))


def test_a_header_alone_is_not_enough(file: Path) -> None:
    assert "has only a header row; add a row for each bar" in fault(write(file, "timestamp,AAPL\n"))


def test_a_truncated_archive_is_recognized(tmp_path: Path) -> None:
    path = tmp_path / "prices.csv.gz"
    path.write_bytes(SAMPLE.read_bytes()[:50_000])
    assert "is damaged or not gzip" in fault(FilePrices(path))


def test_an_archive_with_wrong_bytes_in_the_middle_is_recognized(tmp_path: Path) -> None:
    path = tmp_path / "prices.csv.gz"
    data = bytearray(gzip.compress(TWO_BY_TWO.encode() * 100))
    data[20:30] = bytes(10)
    path.write_bytes(data)
    assert "is damaged or not gzip" in fault(FilePrices(path))


def test_plain_text_named_gz_is_recognized(tmp_path: Path) -> None:
    assert "is damaged or not gzip" in fault(write(tmp_path / "prices.csv.gz", TWO_BY_TWO))


def test_bytes_that_are_not_utf_8_are_recognized(file: Path) -> None:
    file.write_bytes(TWO_BY_TWO.encode("utf-16"))
    assert "is not UTF-8 text" in fault(FilePrices(file))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param(
            "timestamp,AAPL,KO\n2022-12-27,1,2\n2022-12-28,x,2\n",
            "line 3: the price of AAPL is 'x'; write a number, or leave the field empty",
            id="text for a price",
        ),
        pytest.param("timestamp,KO,AAPL,KO\n2022-12-28,1,2,3\n", "line 1: column KO occurs 2 times", id="duplicate"),
        pytest.param("timestamp,,AAPL\n2022-12-28,1,2\n", "line 1: column 2 has no symbol", id="nameless column"),
        pytest.param("timestamp\n2022-12-28\n", "line 1: the header has no symbols", id="one column"),
        pytest.param("timestamp,AAPL\nyesterday,1\n", "line 2: timestamp 'yesterday' is not ISO 8601", id="date"),
        pytest.param(
            "timestamp,AAPL\n2022-12-27,1\n2022-12-28,1\n2022-12-28,1\n2022-12-28,1\n",
            "line 4: timestamp '2022-12-28' is repeated; sort the rows by time",
            id="duplicate time",
        ),
        pytest.param(
            "timestamp,AAPL\n2022-12-27,1\n2022-12-23,1\n2022-12-28,1\n",
            "line 3: timestamp '2022-12-23' is earlier than the one before",
            id="unsorted",
        ),
        pytest.param(
            "timestamp,AAPL,KO\n2022-12-27,1,2\n2022-12-28,1\n", "line 3: 2 fields, but the header has 3", id="cut off"
        ),
        pytest.param("timestamp,AAPL\n2022-12-28,1,2\n", "line 2: 3 fields, but the header has 2", id="too wide"),
        pytest.param('timestamp,AAPL\n2022-12-28,"1\n', "line 2: not CSV", id="open quote"),
    ],
)
def test_a_malformed_line_is_named_with_its_remedy(file: Path, text: str, expected: str) -> None:
    message = fault(write(file, text))
    assert message.startswith(f"price file {file}, {expected}")
    assert "; " in message


def test_the_sample_is_made_of_the_years_since_2013() -> None:
    dataset = "Date,AAPL,KO\n2012-12-31,1,2\n2013-01-02,3,4\n2013-01-03,5,6\n"
    assert sample(dataset) == "timestamp,AAPL,KO\n2013-01-02,3,4\n2013-01-03,5,6\n"


def test_the_shipped_sample_holds_ten_years_of_twenty_stocks_without_a_gap() -> None:
    prices = FilePrices(SAMPLE)
    table = prices.read(sorted(prices.symbols()), 10_000, prices.last_bar(), no_progress)
    assert len(table) == 20
    assert {len(each) for each in table.values() if isinstance(each, Series)} == {2516}
    assert prices.last_bar() == datetime(2022, 12, 28, 5, tzinfo=UTC)


def test_a_symbol_is_unknown_before_its_first_price(file: Path) -> None:
    prices = write(file, "timestamp,OLD,NEW\n2022-12-27,1,\n2022-12-28,1,2\n")
    assert prices.symbols(datetime(2022, 12, 27, 20, tzinfo=UTC)) == {"OLD"}
