"""Made bars go from one daily close of the sample to the next, and are the same each time."""

from datetime import date
from pathlib import Path

import pytest

from scripts.data import made_bars
from trader.model import NEW_YORK, SAMPLE_PRICES
from trader.prices.file import FilePrices

SHORT_DAY = date(2022, 11, 25)  # the exchange closed at 13:00


def read(folder: Path, first: date, last: date) -> FilePrices:
    path = folder / "made.csv"
    path.write_text(made_bars.write(first, last))
    return FilePrices(path, "15m")


def test_each_session_ends_at_its_daily_close(tmp_path: Path) -> None:
    within = read(tmp_path, date(2022, 12, 1), date(2022, 12, 2)).bars().clean.tables["close"]
    days = FilePrices(SAMPLE_PRICES).bars().clean.tables["close"].loc["2022-12-01":"2022-12-03"]
    ends = within.groupby(within.index.tz_convert(NEW_YORK).date).last()  # type: ignore[attr-defined]
    assert ends.to_numpy().tolist() == days[ends.columns].to_numpy().tolist()


@pytest.fixture(scope="module")
def short_day() -> str:
    """Return the bars of the short day."""
    return made_bars.write(SHORT_DAY, SHORT_DAY)


def test_a_short_day_has_fewer_bars(short_day: str, tmp_path: Path) -> None:
    (tmp_path / "made.csv").write_text(short_day)
    assert len(FilePrices(tmp_path / "made.csv", "15m").bars().calendar) == 14


def test_the_same_days_give_the_same_bytes(short_day: str) -> None:
    assert made_bars.write(SHORT_DAY, SHORT_DAY) == short_day


def test_days_without_a_session_are_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("START", "2023-01-02")
    monkeypatch.setenv("END", "2023-01-05")
    with pytest.raises(SystemExit):
        made_bars.main()
    assert "the sample has no session from START=2023-01-02 to END=2023-01-05" in capsys.readouterr().err


def test_a_day_that_is_none_is_named(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("START", "yesterday")
    with pytest.raises(SystemExit):
        made_bars.main()
    assert "START='yesterday': must be a day such as 2022-12-19" in capsys.readouterr().err
