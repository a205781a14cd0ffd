"""A rule from a file: what it may be, what it is shown, and what happens when it is wrong."""

import decimal
import re
import sys
import traceback
import warnings
from contextlib import suppress
from dataclasses import fields, replace
from pathlib import Path
from textwrap import dedent, indent
from types import ModuleType, NoneType

import numpy as np
import pandas as pd
import pytest

from tests.builders import daily, settings
from trader.alpha import loader, own
from trader.alpha.base import RuleError, View
from trader.model import OHLV, Direction, Ohlv, Position
from trader.settings import Settings, SettingsError

HEAD = "from trader.alpha.rule import *\n\n\n"
SLOT = pd.Timestamp("2022-12-28 20:45", tz="UTC").to_pydatetime()
PRICES = {"AAPL": daily([100.0, 101.0, 103.0] * 20), "KO": daily([60.0, 59.0, 58.0] * 20, symbol="KO")}

RISING = """
class Rising(Rule):
    bars = 2

    def decide(self, view):
        for symbol, closes in view.closes.items():
            gain = closes.iloc[-1] / closes.iloc[-2] - 1
            yield view.judge(symbol, gain, up=gain > 0, down=gain < 0, reason=f"{gain:+.1%} since yesterday")
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make an empty folder for rules the current one."""
    (tmp_path / "rules").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(body: str, name: str = "mine.py") -> str:
    """Write a rule's file, and return SIGNAL."""
    Path("rules", name).write_text(HEAD + dedent(body), encoding="utf-8")
    return f"rules/{name}"


def deciding(line: str) -> str:
    """Return a rule whose decide() has this body."""
    return f"class Mine(Rule):\n    bars = 2\n\n    def decide(self, view):\n{indent(dedent(line).strip(), ' ' * 8)}\n"


def view(**positions: Position) -> View:
    return View(slot=SLOT, closes=PRICES, forecasts={}, positions=positions)


def decide(body: str, **variables: object) -> list[tuple[str, Direction, str]]:
    rule = loader.load(settings(SIGNAL=write(body), **variables))
    return [(each.symbol, each.direction, each.reason) for each in rule.insights(view())]


# --- what it decides -------------------------------------------------------------------------------------------------


def test_a_file_decides_on_closes() -> None:
    assert decide(RISING) == [
        ("AAPL", Direction.UP, "+2.0% since yesterday"),
        ("KO", Direction.DOWN, "-1.7% since yesterday"),
    ]


def test_neither_up_nor_down_is_flat() -> None:
    assert decide(deciding("yield view.judge('KO', 0, reason='it waits')")) == [("KO", Direction.FLAT, "it waits")]


def test_a_rule_may_leave_symbols_alone() -> None:
    assert decide(deciding("return []")) == []


def test_a_rule_sees_what_is_held() -> None:
    rule = loader.load(
        settings(SIGNAL=write(deciding("yield view.judge('KO', 1, down='KO' in view.positions, reason='held')")))
    )
    held = Position(symbol="KO", quantity=3, average_price_usd=50, price_usd=58)
    assert [each.direction for each in rule.insights(view(KO=held))] == [Direction.DOWN]


def test_a_rule_without_a_forecast_asks_for_none() -> None:
    assert loader.load(settings(SIGNAL=write(RISING))).forecast_spec is None


@pytest.mark.parametrize(("kind", "looks_ahead"), [("TREND_LINE", False), ("INTERVAL", True)])
def test_a_rule_may_ask_for_a_forecast(kind: str, looks_ahead: bool) -> None:
    rule = loader.load(settings(SIGNAL=write(f"class Mine(Rule):\n    forecast = ForecastKind.{kind}\n")))
    assert rule.forecast_spec
    assert rule.forecast_spec.looks_ahead is looks_ahead


def test_a_rule_imports_what_stands_beside_it() -> None:
    Path("rules/indicators_of_mine.py").write_text("def rise(closes):\n    return closes.iloc[-1] - closes.iloc[0]\n")
    body = "from indicators_of_mine import rise\n\n" + deciding(
        "yield view.judge('KO', rise(view.closes['KO']), reason='it rose')"
    )
    assert decide(body) == [("KO", Direction.FLAT, "it rose")]


@pytest.mark.parametrize(
    "line",
    [
        "from rules.rising import rise",
        "import rules.rising",
        "__import__('rules.rising')",
        "import other",
        "import pack",
    ],
)
def test_a_rule_imports_nothing_else_from_the_folder(line: str) -> None:
    for name in ("rules/rising.py", "other.py", "pack/__init__.py"):
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).write_text("def rise(): return 1\n")
    with pytest.raises(
        SettingsError, match=r"rules/mine.py, line 4: ImportError: \w+ is in the current folder"
    ) as refused:
        settings(SIGNAL=write(f"{line}\n\n{RISING}"))
    assert "write `import NAME` for a file that stands beside the rule" in str(refused.value)


def test_a_folder_with_the_name_of_a_package_does_not_hide_it() -> None:
    Path("scipy").mkdir()
    assert settings(SIGNAL=write(f"import scipy\n\n{RISING}"))


def test_a_rule_in_the_folder_itself_imports_what_stands_beside_it() -> None:
    Path("indicators_of_mine.py").write_text("def rise(closes):\n    return 1\n")
    Path("mine.py").write_text(f"import indicators_of_mine\n{HEAD}{RISING}")
    assert [path for path, _ in own.list_sources("mine.py")] == ["indicators_of_mine.py", "mine.py"]
    assert settings(SIGNAL="mine.py")


def test_insights_hold_plain_numbers_only() -> None:
    top = "import numpy as np\n\n"
    line = (
        "price = np.float32(view.closes['KO'].iloc[-1])\n"
        "yield Insight(symbol=np.str_('KO'), direction=view.judge('KO', 0, reason='x').direction, price_usd=price,"
        " gap_fraction=np.float32(0.5), reason=np.str_('r'), weight_fraction=np.float32(0.25))"
    )
    rule = loader.load(settings(SIGNAL=write(top + deciding(line))))
    (insight,) = rule.insights(view())
    values = [getattr(insight, each.name) for each in fields(insight)]
    assert {type(each) for each in values} == {str, float, Direction, NoneType}


def test_an_insight_of_a_class_of_its_own_is_refused() -> None:
    top = (
        "from dataclasses import dataclass\n\n\n@dataclass(frozen=True)\nclass More(Insight):\n    extra: int = 1\n\n\n"
    )
    line = (
        "made = view.judge('KO', 1, reason='x')\n"
        "yield More(symbol='KO', direction=made.direction, price_usd=made.price_usd, gap_fraction=1.0, reason='x')"
    )
    with pytest.raises(RuleError, match=r"it must return insights, as view\.judge"):
        decide(top + deciding(line))


def test_each_slot_begins_with_a_new_rule() -> None:
    body = """
    class Mine(Rule):
        count = 0

        def decide(self, view):
            self.count += 1
            yield view.judge("KO", self.count, reason=f"slot {self.count}")
    """
    rule = loader.load(settings(SIGNAL=write(body)))
    assert [each.reason for _ in range(2) for each in rule.insights(view())] == ["slot 1", "slot 1"]


def test_a_rule_cannot_change_the_prices() -> None:
    with pytest.raises(RuleError, match="read-only"):
        decide(deciding("view.closes['KO'].iloc[-1] = 1.0\nreturn []"))
    assert PRICES["KO"].iloc[-1] == 58.0


# --- open, high, low and volume --------------------------------------------------------------------------------------


def decide_on_bars(line: str, head: str = "ohlcv = True") -> list[str]:
    """Let a rule decide on bars of KO; return its reasons."""
    body = deciding(line).replace("bars = 2", f"bars = 2\n    {head}")
    rule = loader.load(settings(SIGNAL=write(body)))
    closes = PRICES["KO"]
    ohlv: Ohlv = np.column_stack([closes - 0.5, closes + 1.0, closes - 1.0, np.arange(len(closes))])
    shown = View(slot=SLOT, closes={"KO": closes}, forecasts={}, positions={}, ohlv={"KO": ohlv})
    return [each.reason for each in rule.insights(shown)]


def test_a_rule_that_asks_for_bars_sees_them_in_the_unit_and_at_the_times_of_the_closes() -> None:
    line = """
    bars, closes = view.bars["KO"], view.closes["KO"]
    assert bars["close"].equals(closes.rename("close")) and list(bars) == ["open", "high", "low", "close", "volume"]
    yield view.judge("KO", 1, reason=f"{bars.iloc[-1].to_dict()}")
    """
    assert decide_on_bars(line) == ["{'open': 57.5, 'high': 59.0, 'low': 57.0, 'close': 58.0, 'volume': 59.0}"]


def test_a_rule_that_does_not_ask_for_bars_is_told_how() -> None:
    problem = r"rules/mine.py, line 9: view\.bars is not read unless .*: write `ohlcv = True` in its class"
    with pytest.raises(RuleError, match=problem):
        decide_on_bars("yield view.judge('KO', 1, reason=str(view.bars))", "ohlcv = False")


@pytest.mark.parametrize(
    "line",
    ["view.bars['KO'].iloc[-1, 1] = 99.0", "view.bars['KO']['low'].to_numpy()[0] = 2", "view.bars['KO'].iloc[:] = 0"],
)
def test_a_rule_cannot_change_the_bars(line: str) -> None:
    with pytest.raises(RuleError, match="read-only"):
        decide_on_bars(f"{line}\nreturn []")


def test_symbols_that_are_not_shown_have_no_bars() -> None:
    body = deciding("yield view.judge('AAPL', 1, reason=','.join(view.bars))").replace("bars = 2", "ohlcv = True")
    rule = loader.load(settings(SIGNAL=write(body)))
    ohlv: Ohlv = np.ones((60, 4))
    shown = View(
        slot=SLOT, closes={"AAPL": PRICES["AAPL"]}, forecasts={}, positions={}, ohlv={"AAPL": ohlv, "KO": ohlv}
    )
    assert [each.reason for each in rule.insights(shown)] == ["AAPL"]


HOLDING = deciding(
    """
    for symbol, moment in view.held_since.items():
        bars = int((view.closes[symbol].index > moment).sum())
        yield view.judge(symbol, bars, down=bars > 2, reason=f"{bars} bars since {moment:%m-%d %H:%M}")
    """
)


def test_a_rule_that_asks_sees_the_bar_in_which_each_holding_was_bought() -> None:
    rule = loader.load(settings(SIGNAL=write(HOLDING.replace("bars = 2", "bars = 2\n    held_since = True", 1))))
    index = PRICES["AAPL"].index
    bought = (index[-4] + pd.Timedelta(hours=15)).to_pydatetime()
    early = (index[0] - pd.Timedelta(days=9)).to_pydatetime()
    shown = replace(view(), bought_at={"AAPL": bought, "KO": early})
    assert [(each.symbol, each.reason.split(" since ")[0]) for each in rule.insights(shown)] == [
        ("AAPL", "3 bars"),
        ("KO", "60 bars"),
    ]


def test_a_rule_that_does_not_ask_since_when_is_told_how() -> None:
    rule = loader.load(settings(SIGNAL=write(HOLDING)))
    with pytest.raises(RuleError, match="write `held_since = True` in it"):
        rule.insights(view())


def test_what_a_rule_needs_is_known_before_it_runs() -> None:
    body = deciding("return []")
    assert not loader.needs_ohlcv(settings(SIGNAL=write(body)))
    assert loader.name_ohlcv(settings(SIGNAL=write(body.replace("bars = 2", "ohlcv = True")))) == "SIGNAL=rules/mine.py"
    assert loader.name_ohlcv(settings()) == ""


# --- its parameters --------------------------------------------------------------------------------------------------

WITH_DAYS = """
class Mine(Rule):
    days = Parameter(50, low=2, high=250, meaning="closes in the average")
    band = Parameter(0.02, low=0.0, high=0.5, meaning="too close to call")

    @property
    def bars(self):
        return self.days

    def decide(self, view):
        yield view.judge("KO", self.band, reason=f"{self.days!r} days")
"""


def test_a_parameter_has_its_default() -> None:
    assert decide(WITH_DAYS) == [("KO", Direction.FLAT, "50 days")]


def test_a_variable_sets_a_parameter() -> None:
    assert decide(WITH_DAYS, RULE_DAYS=20) == [("KO", Direction.FLAT, "20 days")]


def test_the_bars_that_a_rule_needs_follow_its_parameters() -> None:
    assert loader.load(settings(SIGNAL=write(WITH_DAYS), RULE_DAYS=120)).facts.min_bars == 120


def test_a_rule_gets_as_much_history_as_it_needs() -> None:
    body = WITH_DAYS.replace("high=250", "high=900")
    assert settings(SIGNAL=write(body), RULE_DAYS=600).history_bars == 600
    assert settings(SIGNAL=write(body)).history_bars == Settings.history_bars


@pytest.mark.parametrize(
    ("variables", "problem"),
    [
        ({"RULE_DAYS": "1"}, "RULE_DAYS='1': must be a whole number from 2 to 250"),
        ({"RULE_DAYS": "20.5"}, "RULE_DAYS='20.5': must be a whole number from 2 to 250"),
        ({"RULE_BAND": "nan"}, "RULE_BAND='nan': must be a number from 0 to 0.5"),
        ({"RULE_DAY": "20"}, "RULE_DAY is not a parameter of SIGNAL=rules/mine.py; it has RULE_DAYS, RULE_BAND"),
        ({"HISTORY_BARS": "40"}, "HISTORY_BARS=40: SIGNAL=rules/mine.py needs at least 50"),
    ],
)
def test_a_wrong_parameter_is_refused(variables: dict[str, str], problem: str) -> None:
    with pytest.raises(SettingsError) as refused:
        settings(SIGNAL=write(WITH_DAYS), **variables)
    assert refused.value.problems == (problem,)


def test_a_rule_that_ships_has_no_parameters() -> None:
    with pytest.raises(SettingsError, match="RULE_DAYS is not a parameter of SIGNAL=trend; it has no parameters"):
        settings(RULE_DAYS=20)


def test_parameters_are_on_record() -> None:
    assert settings(SIGNAL=write(WITH_DAYS), RULE_DAYS=20).public()["rule_days"] == 20


# --- files that are no rule ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        ("class Mine(Rule:\n", "rules/mine.py, line 4: "),
        ("x = 1\n", "rules/mine.py must define one class on Rule, but defines none"),
        (
            "class A(Rule): ...\nclass B(Rule): ...\n",
            "rules/mine.py must define one class on Rule, but defines 2: A in line 4, B in line 5",
        ),
        ("1 / 0\n", "rules/mine.py, line 4: ZeroDivisionError: division by zero"),
        ("import no_such_package\n", "rules/mine.py, line 4: ModuleNotFoundError: No module named 'no_such_package'"),
        (
            "class Mine(Rule):\n    bars = 0\n",
            "rules/mine.py, line 5: `bars` is 0; it must be a whole number from 1 to 5000",
        ),
        ("class Mine(Rule):\n    bars = '20'\n", "`bars` is '20'; it must be a whole number"),
        ("class Mine(Rule):\n    bars = True\n", "`bars` is True; it must be a whole number"),
        ("class Mine(Rule):\n    ohlcv = 1\n", "rules/mine.py, line 5: `ohlcv` is 1; it must be True or False"),
        ("class Mine(Rule):\n    held_since: bool = 1\n", "line 5: `held_since` is 1; it must be True or False"),
        ("class Mine(Rule):\n    bar_interval = '2d'\n", "line 5: `bar_interval` is '2d'; it must be one of 1d, 1h"),
        (
            "class Mine(Rule):\n    @property\n    def bars(self):\n        return 1.5\n",
            "rules/mine.py, line 6: `bars` is 1.5; it must be a whole number",
        ),
        (
            "class Mine(Rule):\n    sha256 = Parameter(1, low=0, high=2, meaning='x')\n",
            "rules/mine.py, line 4: a Parameter cannot be named 'sha256'",
        ),
        ("class Mine(Rule):\n    Days = Parameter(1, low=0, high=2, meaning='x')\n", "line 4: a Parameter cannot be"),
        (
            "class Mine(Rule):\n    days = Parameter(9, low=0, high=2, meaning='x')\n",
            "line 5: the default of a Parameter is 9, which is not from low=0 to high=2",
        ),
        ("class Mine(Rule):\n    days = Parameter('9', low=0, high=2, meaning='x')\n", "line 5: the default of a"),
        ("class Mine(Rule):\n    days = Parameter(1, low=0, high=2, meaning='')\n", "line 5: the meaning of a"),
        ("class Mine(Rule):\n    forecast = 'trend'\n", "`forecast` is 'trend'; it must be one of ForecastKind.NONE"),
    ],
)
def test_a_file_without_a_usable_rule_is_refused(body: str, problem: str) -> None:
    with pytest.raises(SettingsError) as refused:
        settings(SIGNAL=write(body))
    assert problem in str(refused.value)


@pytest.mark.parametrize(
    ("signal", "problem"),
    [
        ("rules/none.py", "there is no file rules/none.py"),
        ("/etc/rule.py", "must be a path within the current folder"),
        ("../rule.py", "must be a path within the current folder"),
        ("./rules/none.py", "must be written without detours: 'rules/none.py'"),
        ("rules//none.py", "must be written without detours: 'rules/none.py'"),
        ("rules/./none.py", "must be written without detours: 'rules/none.py'"),
        ("rules", "must be one of trend, interval, horizon, or the path of a file such as rules/mine.py"),
    ],
)
def test_a_signal_that_is_no_file_is_refused(signal: str, problem: str) -> None:
    with pytest.raises(SettingsError) as refused:
        settings(SIGNAL=signal)
    assert problem in str(refused.value)


def test_a_file_that_leads_out_of_the_folder_is_refused(tmp_path_factory: pytest.TempPathFactory) -> None:
    outside = tmp_path_factory.mktemp("outside") / "rule.py"
    outside.write_text(HEAD + RISING)
    Path("rules/link.py").symlink_to(outside)
    with pytest.raises(SettingsError, match="leads out of the current folder"):
        settings(SIGNAL="rules/link.py")


def test_a_rule_that_is_made_for_other_bars_is_refused() -> None:
    signal = write("class Mine(Rule):\n    bar_interval = '15m'\n")
    with pytest.raises(SettingsError, match=r"BAR_INTERVAL=1d: SIGNAL=rules/mine\.py is made for bars of 15m"):
        settings(SIGNAL=signal)
    assert settings(SIGNAL=signal, BAR_INTERVAL="15m").signal == signal


def test_a_file_with_the_name_of_a_package_that_the_bot_uses_is_refused() -> None:
    with pytest.raises(SettingsError, match="has the name of a module that the bot uses, pandas"):
        settings(SIGNAL=write(RISING, "pandas.py"))


def test_a_file_with_the_name_of_a_module_is_refused() -> None:
    with pytest.raises(SettingsError, match="has the name of a module of Python, statistics"):
        settings(SIGNAL=write(RISING, "statistics.py"))


# --- rules that fail -------------------------------------------------------------------------------------------------


CHANGE = "from dataclasses import replace; yield replace(view.judge('KO', 1, reason='x')"
ODD = (
    "yes = lambda *_: True; Odd = type('Odd', (float,), dict(__le__=yes, __ge__=yes, __float__=lambda _: float('nan')))"
)


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("return [view.judge(each, 1 / 0, reason='x') for each in view.closes]", "line 8: ZeroDivisionError"),
        ("yield 5", "line 8: decide() returned 5; it must return insights"),
        ("return [5]", "line 7: decide() returned 5; it must return insights"),
        ("while True: yield view.judge('KO', 1, reason='x')", "line 8: two insights on KO"),
        ("yield view.judge('XOM', 1, reason='x')", "an insight on 'XOM', which is not in view.closes"),
        ("for _ in range(2): yield view.judge('KO', 1, reason='x')", "two insights on KO"),
        ("yield view.judge('KO', float('nan'), reason='x')", "the strength of KO is nan; it must be a number"),
        ("yield view.judge('KO', 1, up=True, down=True, reason='x')", "line 8: KO is both up and down"),
        ("yield view.judge('KO', 1.1e15, reason='x')", "the strength of KO is 1100000000000000.0; it must be a number"),
        ("yield view.judge('KO', 1, reason=' ')", "the insight on KO has no reason"),
        ("yield view.judge('KO', 1, reason='a\\nb')", r"the reason on KO contains '\n'; it must be one line"),
        ("yield view.judge('KO', 1, reason='a\\ud800')", r"the reason on KO contains '\ud800'; it must be one line"),
        ("yield view.judge('KO', 1, reason='x' * 301)", "the reason on KO has 301 characters; at most 300"),
        ("yield view.judge('KO', 1, reason=5)", "line 8: an insight has a wrong value: 5 is not a text; make insights"),
        (f"{CHANGE}, gap_fraction='a lot')", "wrong value: 'a lot' is not a number"),
        (f"{CHANGE}, symbol=['KO'])", "wrong value: ['KO'] is not a text"),
        (f"{ODD}\n{CHANGE}, gap_fraction=Odd(1))", "the strength of KO is nan"),
        ("return None", "line 7: decide() returned None; it must return insights"),
        ("next(iter([]))\nyield 5", "line 8: RuntimeError: generator raised StopIteration"),
        ("raise SystemExit(3)", "line 8: SystemExit: 3"),
    ],
)
def test_what_is_wrong_is_named_with_its_line(line: str, problem: str) -> None:
    with pytest.raises(RuleError) as failed:
        decide(deciding(line))
    assert str(failed.value).startswith("rules/mine.py")
    assert problem in str(failed.value)


def stop(lines: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """Return the error of a rule with 0.1 s for its decision; loading it may take longer on a busy machine."""
    rule = loader.load(settings(SIGNAL=write(deciding(lines))))
    monkeypatch.setattr(own, "LIMIT_S", 0.1)
    with pytest.raises(RuleError) as failed:
        rule.insights(view())
    return str(failed.value)


STOPPED = re.compile(r"rules/mine.py, line \d+: it took longer than 0.1 s")


@pytest.mark.parametrize(
    "lines",
    [
        "try:\n    yield 5\nfinally:\n    while True: pass",
        "while True: pass",
        "while True:\n    try: list(range(1000))\n    except Exception: pass",
        "while True:\n    try: list(range(1000))\n    except: pass",
        "while True:\n    try:\n        while True: list(range(1000))\n    except BaseException: continue",
        "try:\n    while True: list(range(1000))\nfinally:\n    while True: list(range(1000))",
        "try:\n    while True: list(range(1000))\nexcept BaseException:\n    return []",
        "def again():\n    try:\n        while True: list(range(1000))\n    except: again()\nagain()",
    ],
)
def test_a_rule_that_hangs_is_stopped_whatever_it_catches(lines: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert STOPPED.fullmatch(stop(lines, monkeypatch))


def test_a_rule_that_was_stopped_can_be_run_again(monkeypatch: pytest.MonkeyPatch) -> None:
    stop("while True:\n    try: list(range(1000))\n    except: pass", monkeypatch)
    monkeypatch.setattr(own, "LIMIT_S", 20.0)
    assert decide(RISING)


def test_a_file_that_hangs_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(own, "LIMIT_S", 0.1)
    with pytest.raises(SettingsError, match=r"rules/mine.py, line 4: it took longer than 0.1 s"):
        settings(SIGNAL=write("while True: pass\n"))


WAITING = "import time\ntime.sleep(0.3)\nyield view.judge('KO', 1, reason='it waited')"


def test_a_check_does_not_count_what_the_rule_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    rule = loader.load(settings(SIGNAL=write(deciding(WAITING))))
    monkeypatch.setattr(own, "LIMIT_S", 0.1)
    monkeypatch.setattr(own, "COUNTS_PROCESSOR_TIME", True)
    assert rule.insights(view())[0].reason == "it waited"


def test_a_check_counts_what_the_rule_computes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(own, "COUNTS_PROCESSOR_TIME", True)
    assert STOPPED.fullmatch(stop("while True: pass", monkeypatch))


def test_a_run_counts_what_the_rule_waits_too(monkeypatch: pytest.MonkeyPatch) -> None:
    assert STOPPED.fullmatch(stop(WAITING, monkeypatch))


# --- what it cannot change -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "line",
    [
        "for c in view.closes.values():\n    a = c.to_numpy()\n    a.flags.writeable = True\n    a[:] = 1.0",
        "for c in view._seen.closes.values(): c.iloc[-1] = 1.0",
        "for c in view._seen.closes.values(): c.index.asi8.view()[:] = 0",
        "view._seen.closes.clear()",
        "for b in view._seen.ohlv.values(): b[:] = 1.0",
        "view._seen.positions.clear()",
        "for p in view._seen.positions.values(): object.__setattr__(p, 'quantity', 1e6)",
    ],
)
def test_what_a_rule_forces_to_change_is_its_own_copy(line: str) -> None:
    rule = loader.load(settings(SIGNAL=write(deciding(f"{line}\nreturn []"))))
    closes = {symbol: each.copy() for symbol, each in PRICES.items()}
    times = {symbol: pd.DatetimeIndex(each.index).asi8.copy() for symbol, each in PRICES.items()}
    bars = {symbol: np.ones((len(each), len(OHLV))) * 2 for symbol, each in PRICES.items()}
    held = Position(symbol="KO", quantity=10, average_price_usd=50.0, price_usd=58.0)
    shown = replace(view(KO=held), ohlv=bars)
    with suppress(RuleError):
        rule.insights(shown)
    assert list(shown.closes) == ["AAPL", "KO"]
    assert all((PRICES[symbol].to_numpy() == each.to_numpy()).all() for symbol, each in closes.items())
    assert all((pd.DatetimeIndex(PRICES[symbol].index).asi8 == each).all() for symbol, each in times.items())
    assert all((each == 2).all() for each in bars.values())
    assert shown.positions == {"KO": Position(symbol="KO", quantity=10, average_price_usd=50.0, price_usd=58.0)}


@pytest.mark.parametrize("place", ["decide", "file"])
def test_what_a_rule_sets_for_all_of_python_ends_with_it(place: str) -> None:
    setting = (
        "import decimal, warnings\nimport numpy as np\n"
        "decimal.getcontext().prec = 3\nnp.seterr(all='raise')\nwarnings.simplefilter('error')\n"
    )
    body = deciding("return []")
    text = f"{setting}\n{body}" if place == "file" else deciding(f"{setting}return []")
    before = (decimal.getcontext().prec, np.geterr(), list(warnings.filters))
    decide(text)
    assert (decimal.getcontext().prec, np.geterr(), list(warnings.filters)) == before


# --- what it may raise -----------------------------------------------------------------------------------------------


def fail(lines: str, top: str = "") -> RuleError:
    with pytest.raises(RuleError) as failed:
        decide(top + deciding(lines))
    return failed.value


@pytest.mark.parametrize("error", ["SystemExit(3)", "GeneratorExit()", "BaseException('x')", "Own('x')"])
def test_an_error_of_any_class_is_the_rules(error: str) -> None:
    failed = fail(f"raise {error}", "class Own(BaseException): pass\n\n")
    assert str(failed).startswith("rules/mine.py, line ")
    assert error.partition("(")[0] in str(failed)


def test_the_users_own_interrupt_is_not() -> None:
    with pytest.raises(KeyboardInterrupt):
        decide(deciding("raise KeyboardInterrupt"))


def test_a_long_error_is_cut_on_one_line() -> None:
    failed = fail("raise ValueError('a\\n' * 10**6)")
    assert len(str(failed)) < 1_000
    assert "\n" not in str(failed)
    assert len("".join(traceback.format_exception(failed))) < 10_000


@pytest.mark.parametrize("does", ["raise SystemExit", "raise ValueError", "while True: pass"])
def test_an_error_whose_text_fails_or_hangs_is_named(does: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(own, "TEXT_LIMIT_S", 0.1)
    failed = fail("raise Own", f"class Own(Exception):\n    def __str__(self):\n        {does}\n\n")
    assert "Own: its text cannot be read" in str(failed)
    assert isinstance(failed.__cause__, RuleError)


def test_a_rule_that_cannot_be_made_is_refused_with_the_line() -> None:
    body = "class Mine(Rule):\n    def __init__(self, parameters):\n        1 / 0\n"
    with pytest.raises(SettingsError, match=r"rules/mine.py, line 6: ZeroDivisionError"):
        settings(SIGNAL=write(body))


def test_a_rule_that_is_not_utf_8_is_refused() -> None:
    Path("rules/mine.py").write_bytes(f"# -*- coding: latin-1 -*-\n{HEAD}{RISING} # \xfc\n".encode("latin-1"))
    with pytest.raises(SettingsError, match=r"rules/mine.py is not UTF-8"):
        settings(SIGNAL="rules/mine.py")


def test_what_decided_is_known_although_the_file_has_changed() -> None:
    signal = write(RISING)
    loader.load(settings(SIGNAL=signal))
    before = Path(signal).read_bytes()
    Path(signal).unlink()
    assert own.list_decided(signal) == ((signal, before),)


def test_an_error_whose_text_cannot_be_read_is_named() -> None:
    failed = fail("raise Own", "class Own(Exception):\n    def __str__(self): raise ValueError\n\n")
    assert "Own: its text cannot be read (ValueError)" in str(failed)


def test_a_changed_file_is_another_rule() -> None:
    first = decide(deciding("yield view.judge('KO', 1, reason='one')"))
    second = decide(deciding("yield view.judge('KO', 1, reason='two')"))
    assert (first[0][2], second[0][2]) == ("one", "two")


class Lazy(ModuleType):
    """A module that loads another one as soon as it is asked for anything, as packages' lazy modules do."""

    def __getattr__(self, name: str) -> object:
        sys.modules[f"{self.__name__}.loaded"] = ModuleType("loaded")
        raise AttributeError(name)


def test_a_lazy_module_of_a_package_is_not_loaded_by_a_decision(monkeypatch: pytest.MonkeyPatch) -> None:
    lazy = Lazy("lazy_of_a_package")
    del lazy.__loader__
    monkeypatch.setitem(sys.modules, "lazy_of_a_package", lazy)
    assert decide(RISING)
    assert "lazy_of_a_package.loaded" not in sys.modules
