"""The registry of rules: a new rule needs its own file and an entry in the registry, and no other code names it."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Self

import pytest

from lambda_function import run
from scripts import ROOT
from scripts.backtest import options, prices
from scripts.backtest.engine import backtest
from scripts.report.html import write_page
from tests.builders import settings
from trader.alpha import loader
from trader.alpha.base import Facts, OnForecasts, Words
from trader.forecasting.base import ForecastSpec
from trader.model import Direction, Forecast, Insight
from trader.settings import SettingsError
from trader.wiring import open_journal

if TYPE_CHECKING:
    from trader.settings import Settings


@dataclass(frozen=True, slots=True)
class Contrarian(OnForecasts):
    """A fourth rule: UP above the line."""

    facts: ClassVar[Facts] = Facts(name="contrarian", min_bars=40, words=Words(line="the line that is bet against"))
    forecast_spec: ForecastSpec
    dead_band_fraction: None = None

    @classmethod
    def from_settings(cls, settings: "Settings") -> Self:
        return cls(ForecastSpec(bar_interval=settings.bar_interval, min_bars=cls.facts.min_bars))

    def insight(self, forecast: Forecast) -> Insight:
        gap = forecast.price_usd / forecast.trend_usd - 1
        direction = Direction.UP if gap > 0 else Direction.DOWN
        return Insight(
            symbol=forecast.symbol, direction=direction, price_usd=forecast.price_usd, gap_fraction=gap, reason="a bet"
        )


SMALL = {"SIGNAL": "contrarian", "ENGINE": "map", "UNIVERSE": "AAPL,XOM,KO", "HISTORY_BARS": "60"}


@pytest.fixture
def _registered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Enter the rule in the registry."""
    monkeypatch.setitem(loader.RULES, "contrarian", Contrarian)


def environment(folder: Path) -> dict[str, str]:
    return {**SMALL, "JOURNAL": f"folder:{folder}/journal", "ACCOUNT_FILE": f"{folder}/account.json"}


@pytest.mark.usefixtures("_registered")
def test_a_fourth_rule_decides_a_run(tmp_path: Path) -> None:
    assert {each["reason"] for each in run(env=environment(tmp_path))["insights"]} == {"a bet"}


@pytest.mark.usefixtures("_registered")
def test_the_page_of_a_run_uses_the_words_of_a_fourth_rule(tmp_path: Path) -> None:
    run(env=environment(tmp_path))
    journal = open_journal(f"folder:{tmp_path}/journal", loader.DEFAULT)
    write_page(journal.load(journal.list_records()[0]), tmp_path / "run.html")
    page = (tmp_path / "run.html").read_text(encoding="utf-8")
    assert ("the line that is bet against" in page, "trend line</li>" in page) == (True, False)


@pytest.mark.usefixtures("_registered")
def test_a_fourth_rule_can_be_backtested_unchanged() -> None:
    chosen = options.from_env({**SMALL, "START": "2022-12-20"})
    result = backtest(prices.load(chosen), chosen)
    decided = [bar.decision for bar in result.bars if bar.decision]
    assert {insight.reason for decision in decided for insight in decision.insights} == {"a bet"}


@pytest.mark.usefixtures("_registered")
def test_a_rules_minimum_of_bars_applies_to_history_bars() -> None:
    with pytest.raises(SettingsError, match="HISTORY_BARS=30: SIGNAL=contrarian needs at least 40"):
        settings(SIGNAL="contrarian", HISTORY_BARS=30)


def test_an_unknown_rule_is_refused_with_the_known_names() -> None:
    with pytest.raises(SettingsError, match=f"must be one of {', '.join(loader.names())}"):
        settings(SIGNAL="contrarian")


def test_a_rule_is_named_only_in_its_own_file() -> None:
    """Search for quoted names; in the files in `keys`, these words are keys or columns, not rules."""
    keys = {"scripts/backtest/yahoo_cache.py", "scripts/testkit/yahoo.py", "scripts/bench/backtests.py"}
    names = re.compile("|".join(f"[\"']{name}[\"']|SIGNAL={name}\\b" for name in loader.names()))
    files = [*(ROOT / "function").rglob("*.py"), *(ROOT / "scripts").rglob("*.py"), *(ROOT / "scripts").rglob("*.j2")]
    found = {str(file.relative_to(ROOT)) for file in files if names.search(file.read_text(encoding="utf-8"))}
    assert found - keys == {f"function/trader/alpha/{name}.py" for name in loader.names()}
