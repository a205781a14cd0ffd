"""A rule on whole bars decides the same everywhere: the page's example, on files with open, high, low and volume."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from lambda_function import run
from scripts.backtest import compare, options, prices
from scripts.backtest.engine import backtest
from scripts.backtest.model import BacktestError, Options
from scripts.lookahead import proofs
from scripts.lookahead import run as lookahead
from scripts.lookahead.check import InProcess, check, choose_cuts, run_whole
from scripts.lookahead.leaks import LEAKS, Leak
from tests.whole_bars import SYMBOLS, read_example, write_bars
from trader.alpha import loader
from trader.audit import recomputing
from trader.journal.base import JournalError
from trader.model import SAMPLE_PRICES, Code
from trader.progress import no_progress
from trader.wiring import open_journal

SMALL = {
    "SIGNAL": "rules/breakout.py",
    "UNIVERSE": ",".join(SYMBOLS),
    "RULE_DAYS": "5",
    "HISTORY_BARS": "60",
    "UNIVERSE_LOOKBACK_BARS": "5",
    "PRICE_FILE": "bars.csv",
}
DAY = {"time": "2022-11-30T20:45:00Z"}
"""A slot at which some symbols have risen by more than their range."""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Write the page's rule and a file of bars into an empty folder, which becomes the current one."""
    monkeypatch.chdir(tmp_path)
    Path("rules").mkdir()
    Path("rules/breakout.py").write_text(read_example())
    write_bars(Path("bars.csv"))
    return tmp_path


def load_record() -> Any:
    journal = open_journal("folder:out/journal", loader.DEFAULT)
    return journal.load(journal.list_records()[0])


def chosen(**variables: str) -> Options:
    return options.from_env({**SMALL, "START": "2022-12-05", "END": "2022-12-23", **variables})


# --- the run and its record ------------------------------------------------------------------------------------------


def test_the_rule_of_the_page_decides_a_run_on_a_file_of_bars() -> None:
    report = run(DAY, env=SMALL)
    assert {each["symbol"] for each in report["insights"]} == set(SYMBOLS)
    assert len({each["direction"] for each in report["insights"]}) > 1
    assert all("average true ranges since the last bar" in each["reason"] for each in report["insights"])


def test_the_average_true_range_is_wilders() -> None:
    report = run(DAY, env=SMALL)
    observed = load_record()["observation"]
    (found,) = [each for each in report["insights"] if each["symbol"] == "KO"]
    closes, bars = observed["closes"]["KO"]["usd"], observed["ohlv"]["KO"]
    ranges = [bars["high"][0] - bars["low"][0]]
    for number in range(1, len(closes) - 1):
        high, low, before = bars["high"][number], bars["low"][number], closes[number - 1]
        ranges.append(max(high - low, abs(high - before), abs(low - before)))
    average = ranges[0]
    for each in ranges[1:]:
        average = (average * 4 + each) / 5
    assert found["gap_fraction"] == pytest.approx((closes[-1] - closes[-2]) / average)


def test_a_dry_run_sees_the_same() -> None:
    assert run(DAY, env={**SMALL, "MODE": "dry-run"})["insights"] == run(DAY, env=SMALL)["insights"]


def test_a_run_is_replayed_from_its_record_alone() -> None:
    run(DAY, env=SMALL)
    record = load_record()
    Path("bars.csv").unlink()
    assert recomputing.recompute("run", record, no_progress) == []


def test_a_changed_high_in_a_record_changes_what_is_decided_again() -> None:
    run(DAY, env=SMALL)
    record = json.loads(json.dumps(load_record()))
    record["observation"]["ohlv"]["KO"]["high"] = [each * 1.5 for each in record["observation"]["ohlv"]["KO"]["high"]]
    assert recomputing.recompute("run", record, no_progress)


def test_a_record_without_one_of_the_bars_is_refused() -> None:
    run(DAY, env=SMALL)
    record = json.loads(json.dumps(load_record()))
    for column in record["observation"]["ohlv"]["KO"].values():
        column.pop()
    with pytest.raises(JournalError, match="not as many as its closes"):
        recomputing.recompute("run", record, no_progress)


def test_a_file_of_closes_denies_every_symbol_and_says_what_is_needed() -> None:
    report = run(env={**SMALL, "PRICE_FILE": str(SAMPLE_PRICES)})
    assert (report["status"], report["orders"]) == (Code.NO_PRICE_DATA, [])
    assert "closes only, but SIGNAL=rules/breakout.py needs open, high, low and volume" in report["detail"]


def test_a_rule_on_closes_has_no_bars_on_record() -> None:
    Path("rules/plain.py").write_text(
        "from trader.alpha.rule import Rule\n\n\nclass Plain(Rule):\n    def decide(self, view):\n        return []\n"
    )
    run(DAY, env={**SMALL, "SIGNAL": "rules/plain.py", "RULE_DAYS": ""})
    assert "ohlv" not in load_record()["observation"]


# --- the backtest ----------------------------------------------------------------------------------------------------


def test_the_backtest_decides_as_the_runs_do_to_the_last_digit() -> None:
    given = chosen()
    days = compare.compare(prices.load(given), given)
    assert compare.is_same(days)
    assert sum(each.insights for each in days) == len(SYMBOLS) * len(days)
    assert sum(each.orders for each in days) > 0


def test_a_backtest_fills_at_opens_and_shows_bars() -> None:
    given = chosen()
    result = backtest(prices.load(given), given)
    assert result.fills
    assert all(bar.decision and len(bar.decision.insights) == len(SYMBOLS) for bar in result.bars)


def test_a_backtest_on_closes_is_refused_with_the_remedy() -> None:
    problem = "closes only, but SIGNAL=rules/breakout.py needs open, high, low and volume; set PRICE_FILE to a file"
    with pytest.raises(BacktestError, match=problem):
        prices.load(chosen(PRICE_FILE=str(SAMPLE_PRICES)))


def test_a_symbol_without_a_volume_is_noted_and_not_traded() -> None:
    table = pd.read_csv("bars.csv")
    table.loc[table["symbol"] == "AMD", "volume"] = np.nan
    table.to_csv("bars.csv", index=False)
    given = chosen()
    panel = prices.load(given)
    (note,) = [each for each in panel.notes if each.symbol == "AMD"]
    assert note.what == "has no volume, which SIGNAL=rules/breakout.py needs; it is not traded"
    bars = backtest(panel, given).bars
    assert {each.symbol for bar in bars if bar.decision for each in bar.decision.insights} == {"AAPL", "XOM", "KO"}


def test_a_sweep_tries_the_rule_with_other_parameters() -> None:
    tried = [replace(chosen(RULE_DAYS=days)) for days in ("5", "8")]
    panel = prices.load(tried[1])
    found = [backtest(panel, each) for each in tried]
    decided = [[bar.decision.insights for bar in result.bars if bar.decision] for result in found]
    assert decided[0] != decided[1]


# --- no look-ahead ---------------------------------------------------------------------------------------------------


def test_honest_bars_pass_the_check_for_look_ahead() -> None:
    given = chosen()
    whole = run_whole(given)
    cuts = choose_cuts([bar.time for bar in whole.bars], 6, 1)
    found = check(given, whole, cuts, InProcess())
    assert [each for each in found if each.difference or each.unread] == []


OF_BARS = [leak for leak in LEAKS if leak.of_ohlcv and not leak.at_slots]


@pytest.mark.parametrize("leak", OF_BARS, ids=lambda leak: leak.what)
def test_a_leak_in_the_bars_is_caught(leak: Leak, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (lookahead, proofs):  # test_lookahead plants all others
        monkeypatch.setattr(module, "LEAKS", [leak])
    monkeypatch.setattr(lookahead, "BARS_WITH_LATE_LEAK", lookahead.BARS_WITH_LEAK)  # this one is not late
    monkeypatch.setattr(lookahead, "_check_sweeps", lambda *_: [])  # test_lookahead checks them
    lines = lookahead.check_all(chosen(), 3, 1, InProcess(), no_progress)
    (line,) = [each for each in lines if (each.where, each.what) == (leak.where, leak.what)]
    assert (line.verdict, " differ if " in line.found) == ("caught", True)
    assert lines[0].verdict == "no look-ahead"


def test_the_leaks_in_the_bars_are_not_planted_for_a_rule_on_closes() -> None:
    given = options.from_env({"UNIVERSE": "AAPL", "PRICE_FILE": str(SAMPLE_PRICES)})
    assert OF_BARS
    assert not any(leak.is_of(given) for leak in OF_BARS)
