"""`make backtest` and `make compare` as a user starts them, on a short span of the sample."""

import json
import os
import pty
import re
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from time import monotonic
from typing import Any

import pandas as pd
import pytest

from scripts import ROOT
from scripts.backtest import compare, engine, options, prices
from scripts.backtest.model import Panel
from tests.warm.python import python
from trader.model import SAMPLE_PRICES, Side

SMALL = {"UNIVERSE": "AAPL,KO,AMD", "HISTORY_BARS": "100", "UNIVERSE_LOOKBACK_BARS": "10"}
"""A hundred bars, because Stan's optimizer for fewer takes several times as long."""

SHORT = SMALL | {"START": "2022-11-21", "END": "2022-12-06"}  # includes a holiday and a half day

LIMITED = """
import resource, runpy, sys
sys.dont_write_bytecode = True  # Python keeps what it could write of a module, which nobody could import then
resource.setrlimit(resource.RLIMIT_FSIZE, ({max_bytes}, {max_bytes}))
runpy.run_module("scripts", run_name="__main__")
"""
"""A program that runs a command which can write only so much into a file."""


def environment(**variables: str) -> dict[str, str]:
    paths = os.pathsep.join([str(ROOT / "function"), str(ROOT)])
    return {"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/"), "PYTHONPATH": paths, **variables}


def command(
    name: str, folder: Path, variables: dict[str, str], *, max_bytes: int | None = None, fresh: bool = False
) -> tuple[int, str, str]:
    """Run a command in a folder, and return exit code, output and errors."""

    program = ["-m", "scripts"] if max_bytes is None else ["-c", LIMITED.format(max_bytes=max_bytes)]
    done = subprocess.run(
        [*python(fresh=fresh), *program, name],
        cwd=folder,
        env=environment(**variables),
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run a backtest, and return its folder."""
    path = tmp_path_factory.mktemp("backtest")
    code, output, errors = command("backtest", path, SHORT)
    assert code == 0, errors
    (path / "said.txt").write_text(output, encoding="utf-8")
    (path / "errors.txt").write_text(errors, encoding="utf-8")
    return path


def test_a_backtest_shows_a_table_and_says_where_its_page_is(folder: Path) -> None:
    said = (folder / "said.txt").read_text(encoding="utf-8")
    assert "Sharpe" in said
    assert "out/backtest.html" in said


def test_a_backtest_prints_only_its_result(folder: Path) -> None:
    assert (folder / "errors.txt").read_text(encoding="utf-8") == ""


def test_a_backtest_leaves_a_page_and_its_figures(folder: Path) -> None:
    assert "<svg" in (folder / "out" / "backtest.html").read_text(encoding="utf-8")
    assert figures(folder)["key_figures"]["strategy"]["final_equity_usd"] > 0


def test_the_figures_include_the_calibration_of_trend(folder: Path) -> None:
    assert figures(folder)["calibration"]["overall"]["forecasts"] > 20


def test_a_repeated_backtest_leaves_identical_figures(folder: Path, tmp_path: Path) -> None:
    command("backtest", tmp_path, SHORT, fresh=True)  # with another seed of hashes
    first, second = (json.dumps(figures(each) | {"timings_s": None, "made": None}) for each in (folder, tmp_path))
    assert first == second


def figures(folder: Path) -> dict[str, Any]:
    read: dict[str, Any] = json.loads((folder / "out" / "backtest.json").read_text(encoding="utf-8"))
    return read


def test_a_full_disk_is_reported_without_a_traceback(tmp_path: Path) -> None:
    code, _, errors = command("backtest", tmp_path, SHORT | {"START": "2022-12-02", "ENGINE": "map"}, max_bytes=20_000)
    assert (code, "Traceback" in errors) == (3, False)
    assert "out/backtest.html cannot be written" in errors
    assert "OUT" in errors
    kept = {each.name for each in (tmp_path / "out").iterdir()}
    assert kept == {"backtest.json", "ledger.jsonl"}  # below the limit: complete
    assert figures(tmp_path)["is_complete"]


def test_a_span_without_bars_is_reported_without_a_traceback(tmp_path: Path) -> None:
    code, _, errors = command("backtest", tmp_path, SMALL | {"START": "2023-05-01"})
    assert (code, "Traceback" in errors, "START=2023-05-01" in errors) == (3, False, True)


def test_all_invalid_settings_are_reported_together(tmp_path: Path) -> None:
    code, _, errors = command("backtest", tmp_path, {"START": "soon", "SLIPPAGE": "-1"})
    assert (code, "START='soon'" in errors, "SLIPPAGE='-1'" in errors) == (2, True, True)


def test_an_interrupted_backtest_reports_the_bars_so_far(tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "scripts", "backtest"],
        cwd=tmp_path,
        env=environment(**SMALL, START="2014-01-02", ENGINE="map", REFIT_EVERY="20", TERM="xterm", COLUMNS="100"),
        stdout=subprocess.PIPE,
        stderr=theirs,
        text=True,
        start_new_session=True,
    )
    os.close(theirs)
    shown, begun = "", monotonic()
    while not re.search(r"bars.*\b[1-9]\d*/", shown) and monotonic() - begun < 60:
        shown += os.read(ours, 65_536).decode(errors="replace")
    os.killpg(process.pid, signal.SIGINT)  # to the workers as well, as a terminal does
    output, _ = process.communicate(timeout=60)
    os.close(ours)
    assert process.returncode == 0
    assert "interrupted" in output.lower()
    assert 0 < len(figures(tmp_path)["curve"]["times"]) < 2_000


BUSY = SHORT | {"STOP_LOSS_FRACTION": "0.01", "TAKE_PROFIT_FRACTION": "0.02", "SIGNAL_THRESHOLD_FRACTION": "0.002"}
"""The same days with brackets so tight that they are hit."""


@pytest.fixture(scope="module")
def panel() -> Panel:
    return prices.load(options.from_env(SHORT))


@pytest.fixture(scope="module")
def days(panel: Panel) -> list[compare.Day]:
    """Compare each day's decisions on `make run`'s path with those of the backtest."""
    return compare.compare(panel, options.from_env(BUSY | {"START": "2022-11-23", "END": "2022-12-02"}))


def test_the_backtest_decides_like_make_run_on_every_day(days: list[compare.Day]) -> None:
    assert [(each.slot.date().isoformat(), each.differences) for each in days if each.differences] == []


def test_the_backtest_decides_like_make_run_with_the_map_engine(panel: Panel) -> None:
    found = compare.compare(panel, options.from_env(BUSY | {"ENGINE": "map"}))
    assert [each.differences for each in found if each.differences] == []
    assert sum(each.orders for each in found) >= 5


def test_the_compared_days_have_orders(days: list[compare.Day]) -> None:
    assert sum(each.orders for each in days) >= 5


NAN = float("nan")
FAULTS = {
    "gaps": [("KO", "2022-10-03", "2022-10-05", NAN), ("AMD", "2022-12-05", "2022-12-05", NAN)],
    "impossible prices": [
        ("AMD", "2022-12-06", "2022-12-06", -1.0),
        ("KO", "2022-12-08", "2022-12-08", 0.0),
        ("AAPL", "2022-12-13", "2022-12-13", 1e9),
    ],
    "wrong prices": [("AMD", "2022-12-06", "2022-12-06", 0.01), ("KO", "2022-12-08", "2022-12-09", 10.0)],
    "splits": [("AMD", "2013-01-01", "2022-12-07", 4.0), ("KO", "2013-01-01", "2022-12-12", 1 / 8)],
}
"""Faults that real price files have: closes of a symbol from one day to another, multiplied by a factor."""


def spoil(close: pd.DataFrame, fault: str) -> pd.DataFrame:
    """Return closes by day with a fault of FAULTS, or with weekends filled forward."""
    spoiled = close.copy()
    for symbol, first, last, factor in FAULTS.get(fault, []):
        is_hit = (close.index >= first) & (close.index <= last)
        spoiled[symbol] = close[symbol].where(~is_hit, close[symbol] * factor)
    if fault == "weekends":
        spoiled = spoiled.reindex(pd.date_range(close.index[0], close.index[-1]).strftime("%Y-%m-%d")).ffill()
    return spoiled


@pytest.mark.parametrize("fault", [*FAULTS, "weekends"])
def test_the_backtest_decides_like_make_run_on_a_raw_file_with(fault: str, tmp_path: Path) -> None:
    sample = pd.read_csv(SAMPLE_PRICES, index_col=0)[SMALL["UNIVERSE"].split(",")].iloc[-400:]
    close = spoil(sample, fault)
    assert not close.equals(sample)
    close.to_csv(tmp_path / "prices.csv", index_label="timestamp")
    env = BUSY | {"START": "2022-12-01", "END": "2022-12-20", "ENGINE": "map"}  # the prices are the same to any engine
    chosen = options.from_env(env | {"PRICE_FILE": str(tmp_path / "prices.csv")})
    found = compare.compare(prices.load(chosen), chosen)
    assert [(each.slot.date().isoformat(), each.differences) for each in found if each.differences] == []
    assert sum(each.orders for each in found) >= 5


def test_a_different_decision_is_found(panel: Panel, monkeypatch: pytest.MonkeyPatch) -> None:
    real = engine.backtest

    def other(*arguments: Any, **more: Any) -> Any:
        result = real(*arguments, **more)
        return replace(result, bars=tuple(_turn(each) for each in result.bars))

    def _turn(bar: Any) -> Any:
        orders = tuple(replace(each, side=Side.SELL) for each in bar.decision.orders)
        return replace(bar, decision=replace(bar.decision, orders=orders))

    monkeypatch.setattr(compare, "backtest", other)
    found = compare.compare(panel, options.from_env(BUSY | {"START": "2022-12-01", "ENGINE": "map"}))
    assert any(each.differences for each in found)


def test_days_without_decisions_prove_nothing(panel: Panel) -> None:
    stale = compare.compare(
        panel, options.from_env(BUSY | {"START": "2022-12-05", "MAX_PRICE_AGE_S": "60", "ENGINE": "map"})
    )
    assert not compare.is_same(stale)


def test_a_benchmark_and_a_cash_rate_change_no_trade(tmp_path: Path) -> None:
    plain, other = tmp_path / "plain", tmp_path / "other"
    plain.mkdir()
    other.mkdir()
    assert command("backtest", plain, SHORT | {"ENGINE": "map"})[0] == 0
    sample = pd.read_csv(SAMPLE_PRICES, index_col=0)["PG"].rename("SPY")
    sample.to_csv(other / "spy.csv", index_label="timestamp")
    compared = {"ENGINE": "map", "BENCHMARK": "spy.csv", "CASH_RATE": "0.04"}
    code, said, errors = command("backtest", other, SHORT | compared)
    assert code == 0, errors
    assert "the prices in spy.csv" in " ".join(said.split())
    before, after = figures(plain), figures(other)
    assert after["trades"] == before["trades"] != []
    assert after["interest_usd"] > 0
    held = sample.loc["2022-11-21":"2022-12-06"]
    expected = held.iloc[-1] / held.iloc[0] / (1 + after["options"]["slippage_fraction"]) - 1
    assert after["key_figures"]["benchmark"]["total_return_fraction"] == pytest.approx(expected)
