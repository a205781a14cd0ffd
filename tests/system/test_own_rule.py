"""A rule from a file goes the whole way: written by make rule, then in a run, its page, a backtest and a comparison."""

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from lambda_function import run
from scripts.backtest import compare, options, prices
from scripts.backtest import run as backtest_run
from scripts.backtest.engine import backtest
from scripts.backtest.statistics import figures
from scripts.report.html import write_page
from scripts.rules.write import write
from scripts.run import replay
from tests.pages import Elements
from trader.alpha import loader
from trader.model import Code
from trader.progress import no_progress
from trader.wiring import open_journal

SMALL = {"SIGNAL": "rules/golden_cross.py", "UNIVERSE": "AAPL,XOM,KO", "RULE_DAYS": "20"}
DAY = {"time": "2022-12-01T20:45:00Z"}
"""A slot at which AAPL and KO are above their average, and XOM is below."""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Write the example's rule into an empty folder, which becomes the current one."""
    monkeypatch.chdir(tmp_path)
    write("golden_cross")
    return tmp_path


def load_record(day: int = 0) -> Any:
    journal = open_journal("folder:out/journal", loader.DEFAULT)
    return journal.load(journal.list_records()[day])


def test_the_rule_decides_a_run() -> None:
    report = run(DAY, env=SMALL)
    directions = {each["symbol"]: each["direction"] for each in report["insights"]}
    assert directions == {"AAPL": "UP", "XOM": "DOWN", "KO": "UP"}
    assert all("from its average of 20 days" in each["reason"] for each in report["insights"])


def test_the_run_fits_nothing() -> None:
    assert run(env=SMALL)["forecasts"] == []


def test_what_the_rule_buys_has_a_stop() -> None:
    orders = run(DAY, env=SMALL)["orders"]
    assert orders
    assert all(order["stop_loss_usd"] for order in orders)


def test_the_page_of_the_run_draws_prices_and_does_not_speak_of_prophet() -> None:
    run(env=SMALL)
    write_page(load_record(), Path("run.html"))
    elements = Elements(Path("run.html"))
    assert len([each for each in elements.find_all("svg") if each.get("role") == "img"]) == 3
    assert "from its average of 20 days" in elements.text
    assert [word for word in ("Prophet’s", "by Prophet", "Trend") if word in elements.text] == []  # noqa: RUF001


def test_the_backtest_decides_as_the_run_does() -> None:
    chosen = options.from_env({**SMALL, "START": "2022-12-05", "END": "2022-12-16"})
    result = backtest(prices.load(chosen), chosen)
    first = result.bars[0]
    run({"time": first.slot.isoformat()}, env=SMALL)
    assert first.decision
    assert [(each.symbol, each.reason) for each in first.decision.insights] == [
        (each["symbol"], each["reason"]) for each in load_record()["report"]["insights"]
    ]


def test_the_backtest_says_that_there_is_no_forecast_to_score() -> None:
    chosen = options.from_env({**SMALL, "START": "2022-12-20"})
    found = figures(backtest(prices.load(chosen), chosen))["calibration"]
    assert (found["has_forecasts"], found["overall"]) == (False, None)
    assert found["reason"] == "SIGNAL=rules/golden_cross.py reads none"


def test_the_backtest_starts_no_worker_because_there_is_nothing_to_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    class Refusing(ThreadPoolExecutor):
        def submit(self, *given: Any, **named: Any) -> Any:
            raise AssertionError(f"{given} {named}: a rule without a forecast needs no worker")

    monkeypatch.setattr(backtest_run, "pool", lambda _: Refusing())
    assert backtest_run.run(options.from_env({**SMALL, "START": "2022-12-01"}), no_progress).is_complete


def test_make_compare_finds_the_same_decisions(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, text in {**SMALL, "START": "2022-12-19"}.items():
        monkeypatch.setenv(name, text)
    with pytest.raises(SystemExit) as ended:
        compare.main()
    assert ended.value.code == 0
    assert "The same" in capsys.readouterr().out


def test_a_recorded_run_can_be_replayed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    run(env=SMALL)
    monkeypatch.setenv("JSON", "1")
    with pytest.raises(SystemExit) as ended:
        replay.main()
    assert ended.value.code == 0
    assert json.loads(capsys.readouterr().out)["differences"] == []


def test_a_symbol_with_too_few_bars_is_not_shown_to_the_rule() -> None:
    days = (1, 2, 5, 6, 7, 8, 9, 12, 13, 14, 15, 16)
    rows = [f"2022-12-{day:02},{100 + day},{50 + day if day > 14 else ''}" for day in days]
    Path("few.csv").write_text("\n".join(["timestamp,AAPL,KO", *rows]))
    env = {**SMALL, "RULE_DAYS": "5", "UNIVERSE": "AAPL,KO", "UNIVERSE_LOOKBACK_BARS": "1", "PRICE_FILE": "few.csv"}
    report = run(env=env)
    assert [each["symbol"] for each in report["insights"]] == ["AAPL"]
    (denial,) = report["denials"]
    assert denial["symbol"] == "KO"
    assert denial["detail"] == "2 bars; SIGNAL=rules/golden_cross.py needs 5"


ASKING = """
from trader.alpha.rule import Rule


class Asking(Rule):
    bars = 2

    def decide(self, view):
        for symbol in view.closes:
            yield view.judge(
                symbol, 1, up=True, reason="always", weight_fraction=0.5,
                stop_loss_fraction=0.01, take_profit_fraction=0.2,
            )
"""


def test_a_rule_asks_for_a_weight_and_a_bracket_and_gets_what_the_caps_allow(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("rules/asking.py").write_text(ASKING)
    env = {"SIGNAL": "rules/asking.py", "SIZING": "weight", "UNIVERSE": "AAPL", "MAX_ORDER_USD": "2000"}
    report = run(DAY, env=env)
    (order,), (denial,) = report["orders"], report["denials"]
    price_usd = order["price_usd"]
    assert report["status"] == "TRADED"
    assert 2_000 - price_usd < order["quantity"] * price_usd <= 2_000
    assert order["stop_loss_usd"] == pytest.approx(price_usd * 0.99, abs=0.01)
    assert order["take_profit_usd"] == pytest.approx(price_usd * 1.2, abs=0.01)
    assert (denial["code"], denial["is_partial"]) == (Code.ORDER_CAP, True)
    monkeypatch.setenv("JSON", "1")
    with pytest.raises(SystemExit) as ended:
        replay.main()
    assert (ended.value.code, json.loads(capsys.readouterr().out)["differences"]) == (0, [])
    write_page(load_record(), Path("run.html"))
    assert "asks for 50.00% of the equity" in Elements(Path("run.html")).text


PATIENT = """
from trader.alpha.rule import Rule


class Patient(Rule):
    bars = 2
    held_since = True

    def decide(self, view):
        for symbol, closes in view.closes.items():
            held = symbol in view.positions
            bars = int((closes.index > view.held_since[symbol]).sum()) if held else 0
            yield view.judge(symbol, 1, up=not held, down=bars >= 3, reason=f"held for {bars} bars")
"""


def test_a_rule_that_sells_after_three_days_does_so_in_runs_and_backtests(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("rules/patient.py").write_text(PATIENT)
    env = {"SIGNAL": "rules/patient.py", "UNIVERSE": "KO", "STOP_LOSS_FRACTION": "0.2", "PAUSE_AFTER_STOP_BARS": "0"}
    sides = []
    for day in (1, 2, 5, 6, 7):
        report = run({"time": f"2022-12-{day:02}T20:45:00Z"}, env=env)
        sides.append([each["side"] for each in report["orders"]])
    assert sides == [["buy"], [], [], ["sell"], ["buy"]]
    for name, text in {**env, "START": "2022-12-01", "END": "2022-12-16"}.items():
        monkeypatch.setenv(name, text)
    with pytest.raises(SystemExit) as ended:
        compare.main()
    assert (ended.value.code, "The same" in capsys.readouterr().out) == (0, True)


BROKEN = """
from trader.alpha.rule import Rule


class Broken(Rule):
    bars = 2

    def decide(self, view):
        return [1 / 0]
"""


def test_a_rule_that_fails_ends_its_slot_with_the_line_and_nothing_is_placed(caplog: pytest.LogCaptureFixture) -> None:
    Path("rules/broken.py").write_text(BROKEN)
    report = run(env={**SMALL, "SIGNAL": "rules/broken.py", "RULE_DAYS": ""})
    assert (report["status"], report["orders"]) == (Code.RULE_FAILED, [])
    assert report["detail"] == "rules/broken.py, line 9: ZeroDivisionError: division by zero"
    assert "Traceback" in caplog.text


def test_what_is_held_keeps_its_stop_while_the_rule_fails() -> None:
    run(DAY, env=SMALL)
    Path("rules/broken.py").write_text(BROKEN)
    report = run({"time": "2022-12-02T20:45:00Z"}, env={**SMALL, "SIGNAL": "rules/broken.py", "RULE_DAYS": ""})
    assert report["status"] == Code.RULE_FAILED
    account = json.loads(Path("out/account.json").read_text())
    assert sorted(account["brackets"]) == sorted(account["positions"]) == ["AAPL", "KO"]


# --- on record -------------------------------------------------------------------------------------------------------


def replay_last(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], **variables: str
) -> tuple[int, str]:
    """Replay the last run, and return the exit code and what was printed."""
    for name, text in variables.items():
        monkeypatch.setenv(name, text)
    with pytest.raises(SystemExit) as ended:
        replay.main()
    assert isinstance(ended.value.code, int)
    printed = capsys.readouterr()
    return ended.value.code, printed.out + printed.err


def change_rule() -> None:
    path = Path("rules/golden_cross.py")
    path.write_text(path.read_text().replace("up=gap > 0, down=gap < 0", "up=gap < 0, down=gap > 0"))


def test_a_record_has_the_text_of_its_rule_and_its_hash() -> None:
    run(env=SMALL)
    record = load_record()
    assert record["rule"] == {"rules/golden_cross.py": Path("rules/golden_cross.py").read_text()}
    assert len(record["settings"]["rule_sha256"]) == 64


def test_the_rule_of_a_record_is_not_run_unasked(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run(env=SMALL)
    change_rule()
    code, said = replay_last(monkeypatch, capsys)
    assert code == 3
    assert "RECORDED_RULE=1 runs the one in the record" in " ".join(said.split())


def test_the_rule_of_a_record_decides_again_if_it_is_trusted(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run(env=SMALL)
    change_rule()
    assert replay_last(monkeypatch, capsys, RECORDED_RULE="1")[0] == 0


def test_a_changed_text_in_a_record_is_noticed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run(env=SMALL)
    (file,) = Path("out/journal/runs").rglob("2022*.json")
    record = json.loads(file.read_text())
    record["rule"]["rules/golden_cross.py"] += "\n"
    file.write_text(json.dumps(record))
    code, said = replay_last(monkeypatch, capsys, RECORDED_RULE="1")
    assert code == 3
    assert "is not the rule with this hash" in " ".join(said.split())


def test_a_failed_slot_has_no_decision_to_replay(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("rules/broken.py").write_text(BROKEN)
    run(env={**SMALL, "SIGNAL": "rules/broken.py", "RULE_DAYS": ""})
    code, said = replay_last(monkeypatch, capsys)
    assert code == 3
    assert "has no decision to recompute: RULE_FAILED rules/broken.py, line 9" in " ".join(said.split())
