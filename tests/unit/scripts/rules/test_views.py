"""The bars that are made up for a rule: consistent, the same for the same closes, and awkward where closes are."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from scripts.rules import views
from scripts.rules.check import Verdict, judge
from scripts.rules.kinds import CONSTANT, GAPS, KINDS, NEW, NO_VOLUME, ONE, SAMPLE, TINY
from scripts.rules.run import read_sample
from scripts.testkit.made_up import make_up
from scripts.testkit.rules import decide
from tests.unit.scripts.rules.test_check import SOURCES, reports
from trader.alpha import own
from trader.alpha.own import OwnRule

RULE = """
from trader.alpha.rule import Rule


class Mine(Rule):
    ohlcv = {ohlcv}
    bars = 20

    def decide(self, view):
        for symbol, bars in view.bars.items():
            today = bars.iloc[-1]
            yield view.judge(symbol, today["high"] - today["low"], reason=f"{{today['volume']:.0f}} shares")
"""


def make_rule(folder: Path, *, ohlcv: bool = True) -> OwnRule:
    (folder / "mine.py").write_text(RULE.format(ohlcv=ohlcv))
    return own.load("mine.py", {}, "1d", 1)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make an empty folder the current one."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def trials(folder: Path) -> list[views.Trial]:
    return list(views.make_trials(read_sample(), make_rule(folder), 60))


def test_each_view_has_bars_for_each_of_its_closes(trials: list[views.Trial]) -> None:
    for trial in trials:
        assert set(trial.view.ohlv) == set(trial.view.closes)
        assert {each.kind for each in trials} >= {SAMPLE, ONE, GAPS, CONSTANT, TINY, NO_VOLUME, NEW}


def test_opens_and_closes_lie_between_lows_and_highs(trials: list[views.Trial]) -> None:
    for trial in trials:
        for symbol, ohlv in trial.view.ohlv.items():
            opened, high, low, volume = ohlv.T
            close = trial.view.closes[symbol].to_numpy()
            assert (low > 0).all()
            assert (low <= np.minimum(opened, close)).all()
            assert (high >= np.maximum(opened, close)).all()
            assert trial.kind == NO_VOLUME or (volume > 0).all()


def test_prices_that_never_change_have_no_range(trials: list[views.Trial]) -> None:
    (trial,) = [each for each in trials if each.kind == CONSTANT]
    assert np.unique(trial.view.ohlv["FLAT"][:, :3]).tolist() == [100.0]


def test_the_last_bar_may_lack_its_volume(trials: list[views.Trial]) -> None:
    (trial,) = [each for each in trials if each.kind == NO_VOLUME]
    for ohlv in trial.view.ohlv.values():
        assert np.isnan(ohlv[-1, 3])
        assert 0.0 in ohlv[:, 3]


def test_two_windows_on_the_same_closes_show_the_same_bars() -> None:
    closes = read_sample()["KO"]
    assert np.array_equal(make_up(closes)[100:], make_up(closes.iloc[99:])[1:])


def test_a_rule_on_closes_has_no_bars(folder: Path) -> None:
    trials = list(views.make_trials(read_sample(), make_rule(folder, ohlcv=False), 60))
    assert NO_VOLUME not in {each.kind for each in trials}
    assert not any(each.view.ohlv for each in trials)


def test_the_table_says_what_is_made_up() -> None:
    given = reports()
    given.watched.ohlcv = True
    lines = judge(SOURCES, given, None)
    found = {each.check: each.found for each in lines if each.verdict is Verdict.PASSED}
    assert found["one rule in the file"] == "needs 20 bars of open, high, low, close and volume"
    assert found[KINDS[SAMPLE]] == "1 insight; opens, highs, lows and volumes are made up"
    assert KINDS[NO_VOLUME] in found


def test_a_rule_on_closes_hears_nothing_of_bars() -> None:
    lines = judge(SOURCES, reports(), None)
    assert KINDS[NO_VOLUME] not in {each.check for each in lines}
    assert not any("made up" in each.found for each in lines)


def test_a_test_of_a_rule_gives_bars_or_lets_them_be_made_up(folder: Path) -> None:
    make_rule(folder)
    made_up = decide("mine.py", {"KO": [100.0 + each for each in range(20)]})
    assert made_up["KO"].gap_fraction > 1
    closes = read_sample()["KO"].iloc[-20:]
    given = pd.DataFrame({"open": closes, "high": closes + 2, "low": closes - 1, "close": closes, "volume": 7.0})
    found = decide("mine.py", {"KO": given})["KO"]
    assert found.gap_fraction == pytest.approx(3)
    assert found.reason == "7 shares"


def test_half_of_the_slots_are_on_the_first_day_of_a_month_because_some_rules_decide_only_there() -> None:
    closes = views.make_closes(3, 400)
    index = pd.DatetimeIndex(closes["S000"].index).tz_convert("America/New_York")
    firsts = [end for end in range(1, 401) if end == 1 or index[end - 1].month != index[end - 2].month]
    assert views.find_month(closes["S000"], 390, 50) == max(end for end in firsts if end <= 390)
