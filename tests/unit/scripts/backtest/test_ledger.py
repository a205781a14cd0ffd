"""The ledger counts each setting once, on the same data only."""

from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest

from scripts.backtest import ledger
from scripts.backtest.ledger import Trials
from scripts.backtest.model import Options
from scripts.console import UnwritableError
from scripts.files import LEDGER
from tests.builders import settings


def trials(*names: str, symbols: tuple[str, ...] = ("AAPL", "KO"), start: int = 2021, end: int = 2022) -> Trials:
    return Trials(
        symbols=symbols, start=date(start, 1, 1), end=date(end, 12, 31), sharpe_by_setting=dict.fromkeys(names, 0.05)
    )


def test_settings_add_up_over_commands_and_each_counts_once(tmp_path: Path) -> None:
    ledger.record(tmp_path, trials("a"))
    ledger.record(tmp_path, trials("b", "c"))
    assert set(ledger.record(tmp_path, trials("a"))) == {"a", "b", "c"}


def test_other_days_are_other_data(tmp_path: Path) -> None:
    ledger.record(tmp_path, trials("a", start=2015, end=2016))
    assert set(ledger.record(tmp_path, trials("b"))) == {"b"}


def test_days_that_overlap_are_the_same_data(tmp_path: Path) -> None:
    ledger.record(tmp_path, trials("a", start=2015, end=2021))
    assert set(ledger.record(tmp_path, trials("b"))) == {"a", "b"}


def test_other_symbols_are_other_data(tmp_path: Path) -> None:
    ledger.record(tmp_path, trials("a", symbols=("MSFT",)))
    assert set(ledger.record(tmp_path, trials("b"))) == {"b"}


def test_a_line_that_is_not_the_ledgers_is_left_alone_and_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ledger.record(tmp_path, trials("a"))
    path = tmp_path / LEDGER
    path.write_text(path.read_text() + "my notes\n")
    assert set(ledger.record(tmp_path, trials("b"))) == {"a", "b"}
    assert "line 2: this is no line of the ledger" in capsys.readouterr().err
    assert "my notes" in path.read_text()


@pytest.mark.parametrize("value", ['"0.5"', "true", "1e999", "[]"])
def test_a_sharpe_ratio_that_is_no_number_does_not_count(tmp_path: Path, value: str) -> None:
    line = f'{{"symbols": ["AAPL"], "start": "2021-01-01", "end": "2021-12-31", "sharpe_by_setting": {{"x": {value}}}}}'
    (tmp_path / LEDGER).write_text(f"{line}\n")
    assert set(ledger.record(tmp_path, trials("a"))) == {"a"}


def test_a_ledger_that_cannot_be_written_is_reported(tmp_path: Path) -> None:
    (tmp_path / LEDGER).symlink_to("/dev/full")
    with pytest.raises(UnwritableError, match=rf"{LEDGER} cannot be written"):
        ledger.record(tmp_path, trials("a"))


def test_the_same_rule_under_another_name_or_on_other_days_is_one_setting() -> None:
    given = Options(settings=settings())
    renamed = replace(given, settings=settings(STRATEGY="mine"), start=date(2021, 1, 4), out=Path("elsewhere"))
    assert ledger.identify(renamed) == ledger.identify(given)


def test_another_threshold_or_cost_is_another_setting() -> None:
    given = Options(settings=settings())
    others = [replace(given, settings=settings(HISTORY_BARS=120)), replace(given, slippage_fraction=0.01)]
    assert len({ledger.identify(each) for each in (given, *others)}) == 3
