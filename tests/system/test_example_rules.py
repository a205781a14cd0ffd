"""The rules that ship as examples pass their check, and decide the same in a run and in a backtest."""

import shutil
from collections.abc import Mapping
from pathlib import Path

import pytest

from lambda_function import run
from scripts import ROOT
from scripts.backtest import options, prices
from scripts.backtest.engine import backtest
from scripts.rules.check import Verdict, passes
from scripts.rules.run import check
from scripts.rules.source import find_lacking, read_layer
from tests.builders import settings
from trader.settings import SettingsError

STOCKS = {"UNIVERSE": "BBY,KO,LLY,MSFT,XOM"}
ETFS = {"PRICE_FILE": "rules/data/etf_closes.csv.gz", "UNIVERSE": "DBC,GLD,TLT,VTI,XLE,XLK"}
EXAMPLES: Mapping[str, Mapping[str, str]] = {
    "moving_averages": STOCKS,
    "rsi_reversion": STOCKS | {"RULE_DAYS": "2"},
    "momentum_rotation": ETFS,
    "exponential_smoothing": STOCKS | {"RULE_LEAST": "0.002"},
}
"""The rules with the symbols that they are tried on here."""

ONLY_HERE = {"exponential_smoothing"}
"""The rules that need a package which the layer lacks."""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make a folder with nothing but the rules the current one."""
    shutil.copytree(ROOT / "rules", tmp_path / "rules", ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_every_rule_that_ships_is_tested_here() -> None:
    assert {path.stem for path in Path("rules").glob("*.py")} == EXAMPLES.keys()


@pytest.mark.parametrize("name", EXAMPLES)
def test_a_run_decides_as_the_backtest_does(name: str) -> None:
    env = {"SIGNAL": f"rules/{name}.py", **EXAMPLES[name]}
    chosen = options.from_env({**env, "START": "2022-11-01", "END": "2022-11-08"})  # it begins with a month
    first = backtest(prices.load(chosen), chosen).bars[0]
    report = run({"time": first.slot.isoformat()}, env=env)
    assert first.decision
    assert [(each.symbol, each.direction, each.gap_fraction, each.reason) for each in first.decision.insights] == [
        (each["symbol"], each["direction"], each["gap_fraction"], each["reason"]) for each in report["insights"]
    ]
    assert {"UP", "DOWN"} <= {each["direction"] for each in report["insights"]}


@pytest.mark.parametrize("name", EXAMPLES)
def test_it_passes_its_check_here_and_for_aws_unless_the_layer_lacks_its_package(name: str) -> None:
    result = check(f"rules/{name}.py", {})
    found = [f"{line.check}: {line.found}" for line in result.lines if line.verdict is not Verdict.PASSED]
    assert [text.partition(", line")[0] for text in found] == (
        [f"on AWS: its packages are in the layer: rules/{name}.py"] if name in ONLY_HERE else []
    )
    assert passes(result.lines, on_aws=False)
    assert passes(result.lines, on_aws=True) is (name not in ONLY_HERE)
    sample = next(line for line in result.lines if line.check.endswith("prices"))
    assert sample.found == "120 insights at 6 slots"  # one for every symbol


def test_the_check_says_which_package_the_layer_lacks() -> None:
    name = "exponential_smoothing"
    sources = {f"rules/{name}.py": Path(f"rules/{name}.py").read_text()}
    layer = read_layer()
    assert layer
    (lacking,) = find_lacking(sources, layer)
    assert lacking.what == "imports statsforecast, which the layer lacks"


@pytest.mark.parametrize(
    ("name", "given", "problem"),
    [
        ("moving_averages", {"RULE_FAST": "0"}, "RULE_FAST='0': must be a whole number from 1 to 250"),
        ("moving_averages", {"RULE_FAST": "200"}, "RULE_FAST=200 must be below RULE_SLOW=200; change one of them"),
        ("rsi_reversion", {"RULE_OVERSOLD": "41"}, "RULE_OVERSOLD='41': must be a number from 1 to 40"),
        ("rsi_reversion", {"RULE_DAYS": "14.5"}, "RULE_DAYS='14.5': must be a whole number from 2 to 50"),
        ("exponential_smoothing", {"RULE_AHEAD": "61"}, "RULE_AHEAD='61': must be a whole number from 1 to 60"),
        ("momentum_rotation", {"RULE_SKIP": "64"}, "RULE_SKIP='64': must be a whole number from 0 to 63"),
        ("momentum_rotation", {"RULE_DAYS": "9"}, "it has RULE_BEST, RULE_LOOKBACK, RULE_SKIP"),
    ],
)
def test_a_parameter_that_cannot_be_is_refused_with_what_can(name: str, given: Mapping[str, str], problem: str) -> None:
    with pytest.raises(SettingsError) as refused:
        settings(SIGNAL=f"rules/{name}.py", **given)
    (found,) = refused.value.problems
    assert found.endswith(problem)
