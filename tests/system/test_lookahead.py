"""`make lookahead`: honest code on files of many kinds, and a planted leak in every place where one can be."""

import gzip
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd
import pytest

from scripts.backtest import compare, options, prices
from scripts.backtest.cutting import cuttable
from scripts.backtest.model import BacktestError, Options, Panel
from scripts.lookahead import leaks, run
from scripts.lookahead.check import InProcess, check, choose_cuts, run_cut, run_whole
from scripts.lookahead.leaks import LEAKS, Leak, planted
from scripts.lookahead.proofs import Honest, prove
from scripts.lookahead.trace import trace
from trader.model import SAMPLE_PRICES
from trader.prices.bars import clean_bars
from trader.progress import no_progress
from trader.settings import SettingsError

SMALL = {"ENGINE": "map", "HISTORY_BARS": "60", "UNIVERSE_LOOKBACK_BARS": "10", "END": ""}


def closes() -> pd.DataFrame:
    """Return closes of the sample with what honest code must cope with: two gaps, a symbol that ends, one that begins.

    All of it is within the last forty days.
    """
    table = pd.read_csv(SAMPLE_PRICES, index_col=0)[["AAPL", "KO", "AMD", "XOM", "GE"]].iloc[-420:]
    table.iloc[-12:-10, 1] = float("nan")
    table.iloc[-20, 2] = float("nan")
    table.iloc[-8:, 3] = float("nan")
    table.iloc[:-15, 4] = float("nan")
    return table


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("prices") / "prices.csv"
    closes().to_csv(path, index_label="timestamp")
    return path


def chosen(path: Path, bars: int = 24, **variables: str) -> Options:
    """Return options that trade the last bars of a file, with a universe that also names a symbol that begins late."""
    named = {"UNIVERSE": "AAPL,KO,AMD,XOM,GE", "PRICE_FILE": str(path)}
    given = options.from_env({**SMALL, **named, **variables})
    return prices.starting(prices.load(given), given, bars)


def differing(given: Options, cuts: int | None = 6) -> list[str]:
    """Check a backtest, and return what differs at each cut."""
    whole = run_whole(given)
    times = [bar.time for bar in whole.bars]
    found = check(given, whole, choose_cuts(times, cuts or len(times) - 1, 1), InProcess())
    return [f"{cut.at:%Y-%m-%d}: {cut.difference or cut.unread}" for cut in found if cut.difference or cut.unread]


# --- honest code -----------------------------------------------------------------------------------------------------


def test_honest_code_passes_at_every_bar_with_symbols_that_begin_and_end_in_the_span(file: Path) -> None:
    assert differing(chosen(file), cuts=None) == []


def test_honest_code_passes_when_models_are_reused(file: Path) -> None:
    assert differing(chosen(file, REFIT_EVERY="3")) == []


def test_a_benchmark_from_a_file_of_its_own_is_cut_too(file: Path, tmp_path: Path) -> None:
    index = tmp_path / "index.csv"
    closes()[["AAPL"]].to_csv(index, index_label="timestamp")
    given = chosen(file, 12, BENCHMARK=str(index), UNIVERSE="AAPL,KO")
    assert differing(given, cuts=3) == []
    (leak,) = [each for each in LEAKS if "index" in each.what]
    with planted(leak):
        found = differing(given, cuts=3)
    assert found
    assert all("benchmark" in each for each in found)


def test_prices_that_depend_on_later_ones_are_a_difference_and_no_error(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = prices._trim_bars

    def lower(panel: Panel, given: Options) -> Panel:
        trimmed = real(panel, given)
        close = trimmed.close.copy()
        close.iloc[:-3] *= 0.99
        return replace(trimmed, open=close, high=close, low=close, close=close)

    monkeypatch.setattr(prices, "_trim_bars", lower)
    assert len(differing(chosen(file, 12, UNIVERSE="AAPL,KO"), cuts=3)) == 3


def test_honest_code_passes_with_prophet(file: Path) -> None:
    # With 100 bars and more Stan has the quicker of its two searches.
    assert differing(chosen(file, 4, ENGINE="prophet", HISTORY_BARS="100"), cuts=None) == []


def as_long_bars(path: Path, table: pd.DataFrame) -> Path:
    long = table.rename_axis("date").reset_index().melt("date", var_name="symbol", value_name="close").dropna()
    long = long.assign(open=long.close * 0.999, high=long.close * 1.01, low=long.close * 0.99)
    long.sort_values(["symbol", "date"]).to_csv(path / "long.csv", index=False)
    return path / "long.csv"


def as_newest_first(path: Path, table: pd.DataFrame) -> Path:
    table.iloc[::-1].to_csv(path / "reversed.csv", index_label="Date", sep=";")
    return path / "reversed.csv"


def as_written_by_people(path: Path, table: pd.DataFrame) -> Path:
    written = table.set_axis(pd.to_datetime(table.index).strftime("%d/%m/%Y"))
    with gzip.open(path / "european.csv.gz", "wt") as file:
        written.to_csv(file, index_label="date")
    return path / "european.csv.gz"


def as_unix_times(path: Path, table: pd.DataFrame) -> Path:
    seconds = pd.to_datetime(table.index).tz_localize("America/New_York").tz_convert("UTC").as_unit("s").asi8
    table.set_axis(seconds).to_csv(path / "unix.csv", index_label="time")
    return path / "unix.csv"


def as_workbook(path: Path, table: pd.DataFrame) -> Path:
    table.set_axis(pd.to_datetime(table.index)).to_excel(path / "prices.xlsx", index_label="Date")
    return path / "prices.xlsx"


def as_parquet(path: Path, table: pd.DataFrame) -> Path:
    table.set_axis(pd.DatetimeIndex(table.index, name="Date")).to_parquet(path / "prices.parquet")
    return path / "prices.parquet"


def as_yahoo_writes(path: Path, table: pd.DataFrame) -> Path:
    stamps = [f"{day} 00:00:00-0{4 if '03-13' < day[5:] < '11-06' else 5}:00" for day in table.index]
    table.set_axis(stamps).to_csv(path / "offsets.csv", index_label="Date")
    return path / "offsets.csv"


KINDS = (
    *(as_long_bars, as_newest_first, as_written_by_people, as_unix_times, as_workbook, as_parquet),
    as_yahoo_writes,
)


@pytest.mark.parametrize("write", KINDS)
def test_honest_code_passes_with_a_file_of_another_kind(
    write: Callable[[Path, pd.DataFrame], Path], tmp_path: Path
) -> None:
    assert differing(chosen(write(tmp_path, closes()), 12), cuts=4) == []


@pytest.mark.parametrize("write", KINDS)
def test_a_file_of_another_kind_is_cut_at_the_bar(write: Callable[[Path, pd.DataFrame], Path], tmp_path: Path) -> None:
    given = chosen(write(tmp_path, closes()), 12)
    at = prices.span(prices.load(given), given)[5]
    assert cuttable(given).load(at).close.index[-1] == at


def test_quarters_of_an_hour_are_cut_within_the_day(tmp_path: Path) -> None:
    days = pd.bdate_range("2022-12-01", "2022-12-16")
    times = [day + pd.Timedelta(minutes=570 + 15 * quarter) for day in days for quarter in range(26)]
    numbers = range(len(times))
    table = pd.DataFrame({"AAPL": [100 + each % 7 for each in numbers], "KO": [60 + each % 5 for each in numbers]})
    table.set_axis(pd.DatetimeIndex(times)).to_csv(tmp_path / "quarters.csv", index_label="timestamp")
    named = {"UNIVERSE": "AAPL,KO", "PRICE_FILE": str(tmp_path / "quarters.csv"), "BAR_INTERVAL": "15m"}
    given = options.from_env({**SMALL, **named, "START": "2022-12-15"})
    at = prices.span(prices.load(given), given)[17]
    assert cuttable(given).load(at).close.index[-1] == at
    assert differing(given, cuts=3) == []


def test_dates_that_pandas_cannot_read_are_reported_with_the_remedy(tmp_path: Path) -> None:
    table = closes()
    table.set_axis([f"Dec-{day}" for day in table.index]).to_csv(tmp_path / "odd.csv", index_label="date")
    given = options.from_env({**SMALL, "PRICE_FILE": str(tmp_path / "odd.csv")})
    with pytest.raises(BacktestError, match=r"odd\.csv.*write the dates as in 2022-12-28"):
        cuttable(given)


# --- planted leaks ---------------------------------------------------------------------------------------------------


ONCE_A_DAY = [leak for leak in LEAKS if not leak.at_slots and not leak.of_ohlcv]
"""The leaks that are planted where a rule decides once a day on closes.

See test_rhythm for those within the day, and test_ohlcv_rule for those of whole bars.
"""


BARS, LATE = 24, 30
"""Here leaks are given so many bars, in which symbols have gaps and end, and a late leak begins after so many: as the
command's 250, more than the others are given.
"""


@pytest.fixture(scope="module")
def lines(file: Path) -> Sequence[run.Line]:
    """Return what the command finds: the backtest first, then each leak, then sweeps."""
    assert BARS < LATE < leaks.LATE
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(run, "BARS_WITH_LEAK", BARS)
        patched.setattr(run, "BARS_WITH_LATE_LEAK", run.BARS_WITH_LATE_LEAK - leaks.LATE + LATE)
        patched.setattr(leaks, "LATE", LATE)
        given = chosen(file, 12, UNIVERSE="AAPL,KO,AMD,XOM", BENCHMARK="AAPL")
        return run.check_all(given, 3, 1, InProcess(), no_progress)


@pytest.mark.parametrize("leak", ONCE_A_DAY, ids=lambda leak: f"{leak.where}: {leak.what}")
def test_a_planted_leak_is_caught(leak: Leak, lines: Sequence[run.Line]) -> None:
    (line,) = [each for each in lines if (each.where, each.what) == (leak.where, leak.what)]
    assert (line.verdict, " differ if " in line.found) == ("caught", True)


def test_the_backtest_has_no_look_ahead_meanwhile(lines: Sequence[run.Line]) -> None:
    assert (lines[0].verdict, lines[0].found) == ("no look-ahead", "the same to the bit")


def test_a_sweep_is_checked_with_its_own_leak(lines: Sequence[run.Line]) -> None:
    assert [each.verdict for each in lines[1 + len(ONCE_A_DAY) :]] == ["no look-ahead", "caught"]


@pytest.fixture(scope="module")
def plain(file: Path) -> tuple[Options, Honest]:
    """Return options, and a backtest without a leak."""
    given = chosen(file)
    return given, Honest.of(run_whole(given))


def test_at_least_twelve_leaks_are_planted_and_two_begin_late() -> None:
    assert len(ONCE_A_DAY) + 1 >= 12
    assert sum(leak.is_late for leak in LEAKS) >= 2


@pytest.mark.parametrize("leak", [leak for leak in LEAKS if leak.is_late], ids=lambda leak: leak.where)
def test_a_late_leak_is_not_in_a_short_span(leak: Leak, plain: tuple[Options, Honest]) -> None:
    given, honest = plain
    assert prove(LEAKS.index(leak), given, honest).unseen == "it changes nothing with these prices"


def test_a_leak_is_gone_after_its_proof(plain: tuple[Options, Honest]) -> None:
    given, honest = plain
    prove(0, given, honest)
    assert trace(run_whole(given)) == honest.trace


LOADING = [leak for leak in LEAKS if leak.where in {"reader", "cleaning", "loader", "scaling"}]


@pytest.mark.parametrize("leak", LOADING, ids=lambda leak: f"{leak.where}: {leak.what}")
def test_a_leak_in_the_loading_differs_from_the_runs_too(leak: Leak, file: Path) -> None:
    given = chosen(file, 6, END=closes().index[-7])  # from the two days of a gap to the second without a symbol
    with planted(leak):
        days = compare.compare(prices.load(given), given)
    assert any(each.differences for each in days)


def test_rows_that_are_dated_a_bar_early_are_noticed(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = chosen(file, 12)
    real = clean_bars

    def early(tables: dict[str, pd.DataFrame], **more: object) -> object:
        return real({name: each.shift(-1).iloc[:-1] for name, each in tables.items()}, **more)  # type: ignore[arg-type]

    monkeypatch.setattr("trader.prices.file.clean_bars", early)
    cut = run_cut(given, prices.span(prices.load(given), given)[-3])
    assert not isinstance(cut, str)
    assert len(cut) == 9  # instead of 10: the file's last row is read as the bar before


def test_a_gap_is_cut_although_few_cuts_are_asked_for(file: Path) -> None:
    given = chosen(file)
    with planted(next(leak for leak in LEAKS if "gap" in leak.what)):
        line = run.check_backtest(given, 2, 1, InProcess(), no_progress)
    assert (line.verdict, "prices of" in line.found) == ("WRONG", True)


# --- the command -----------------------------------------------------------------------------------------------------


def test_a_cut_that_cannot_be_read_is_named(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = chosen(file, 12)
    whole = run_whole(given)
    cuts = choose_cuts([bar.time for bar in whole.bars], 3, 1)
    real = cuttable(given).load

    def load(at: datetime) -> object:
        if at == cuts[0]:
            raise BacktestError("prices.csv has no header")
        return real(at)

    monkeypatch.setattr(cuttable(given), "load", load)
    (line,) = [run.describe_check(check(given, whole, cuts, InProcess()))]
    assert line.found == "the same, but 1 cut cannot be read: prices.csv has no header"


def test_invalid_cuts_are_reported_with_the_allowed_range() -> None:
    with pytest.raises(SettingsError, match=r"CUTS='many': must be a whole number from 1 to 10000"):
        run.numbers({"CUTS": "many"})


def test_more_cuts_than_bars_are_refused() -> None:
    times = [datetime(2022, 12, day, tzinfo=UTC) for day in (1, 2, 5)]
    with pytest.raises(BacktestError, match=r"the span has 3 bars, too few for 3 cuts; choose an earlier START"):
        choose_cuts(times, 3, 1)
