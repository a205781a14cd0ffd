"""How the cash is divided by SIZING, and what a rule may ask for of weights, stops and targets."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from tests.builders import SLOT, account, insight, settings
from trader.model import Closes, Code, Denial, Direction, Insight, Target
from trader.settings import SettingsError
from trader.stages.execution import plan
from trader.stages.portfolio import measure_volatility, targets
from trader.stages.risk import limit

UP = Direction.UP
OWN = "rules/mine.py"
FREE: Mapping[str, Any] = {"MAX_POSITION_FRACTION": 1, "MAX_ORDER_USD": 1e6}


@pytest.fixture(autouse=True)
def _rule(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put a rule in the current folder, because only one of your own can give weights."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rules").mkdir()
    (tmp_path / OWN).write_text("from trader.alpha.rule import Rule\nclass Mine(Rule):\n    pass\n")


def swing(fraction: float, count: int = 61) -> Closes:
    """Return closes that rise and fall by a fraction in turn, up to 100 USD."""
    factors = np.where(np.arange(count) % 2 == 0, 1.0, 1 + fraction)
    return pd.Series(100 * factors, index=pd.bdate_range("2022-01-03", periods=count, tz="UTC"))


def size(wishes: Sequence[Insight], closes: Mapping[str, Closes] | None = None, **env: object) -> dict[str, Target]:
    found = targets(wishes, closes or {}, account(), {}, (), settings(**env))
    return {each.symbol: each for each in found}


def ask(symbol: str = "A", gap: float = -0.05, **fractions: Any) -> Insight:
    return replace(insight(symbol, UP, gap_fraction=gap), **fractions)


def cut(wish: Insight, **env: object) -> tuple[list[Denial], list[Target]]:
    its = settings(SIGNAL=OWN, **env)
    allowed, denials = limit(targets([wish], {}, account(), {}, (), its), account(), {}, (), its)
    return list(denials), list(allowed)


# --- inverse volatility ---


def test_what_varies_twice_as_much_gets_half_as_much() -> None:
    closes = {"A": swing(0.01), "B": swing(0.02)}
    sized = size([ask("A"), ask("B")], closes, SIZING="inverse-volatility", **FREE)
    ratio = np.log(1.02) / np.log(1.01)
    assert sized["A"].wanted == pytest.approx(950 * ratio / (1 + ratio), abs=1)
    assert sized["B"].wanted == pytest.approx(950 / (1 + ratio), abs=1)


def test_a_price_that_does_not_move_gets_nothing_and_the_reason_is_said() -> None:
    closes = {"A": swing(0.01), "B": swing(0.0)}
    its = settings(SIZING="inverse-volatility", **FREE)
    wishes = targets([ask("A"), ask("B")], closes, account(), {}, (), its)
    _, denials = limit(wishes, account(), {}, (), its)
    assert [(each.symbol, each.code) for each in denials] == [("B", Code.QUANTITY_BELOW_ONE)]
    assert denials[0].detail.endswith("or its volatility is not known")


def test_the_volatility_is_that_of_the_last_bars() -> None:
    calm, wild = swing(0.001, 100), swing(0.5, 100)
    assert measure_volatility(pd.concat([wild, calm]), 60) == pytest.approx(np.log(1.001), rel=0.02)


def test_too_few_returns_have_no_volatility() -> None:
    assert measure_volatility(swing(0.1, 5), 60) is None
    assert measure_volatility(swing(0.1, 6), 60) is not None


# --- weights ---


def test_a_weight_is_a_part_of_the_equity() -> None:
    assert size([ask(weight_fraction=0.2)], SIGNAL=OWN, SIZING="weight", **FREE)["A"].wanted == 200


def test_without_sizing_by_weight_a_weight_has_no_effect() -> None:
    assert size([ask(weight_fraction=0.2)], SIGNAL=OWN, **FREE)["A"].wanted == 950


def test_the_strongest_gets_its_weight_before_the_cash_runs_out() -> None:
    wishes = [ask("A", 0.1, weight_fraction=0.6), ask("B", 0.2, weight_fraction=0.6)]
    sized = size(wishes, SIGNAL=OWN, SIZING="weight", **FREE)
    assert (sized["B"].wanted, sized["A"].wanted) == (600, 350)


@pytest.mark.parametrize(
    ("env", "code", "shares", "detail"),
    [
        (
            {},
            Code.POSITION_CAP,
            100,
            "asks for 50.00% of the equity, 50,000.00 USD; MAX_POSITION_FRACTION allows 10,000.00, so less is bought",
        ),
        (
            {"MAX_ORDER_USD": 5_000},
            Code.ORDER_CAP,
            50,
            "asks for 50.00% of the equity, 50,000.00 USD; MAX_ORDER_USD allows 5,000.00, so less is bought",
        ),
        (
            {**FREE, "CASH_BUFFER_FRACTION": 0.7},
            Code.BUYING_POWER_EXCEEDED,
            300,
            "asks for 50.00% of the equity, 50,000.00 USD; the cash left allows 30,000.00, so less is bought",
        ),
    ],
)
def test_a_weight_above_a_cap_is_capped_with_a_denial(
    env: Mapping[str, Any], code: Code, shares: int, detail: str
) -> None:
    (denial,), (target,) = cut(ask(weight_fraction=0.5), SIZING="weight", **env)
    assert (denial.code, denial.is_partial, denial.detail) == (code, True, detail)
    assert target.wanted == shares


def test_a_weight_within_the_caps_has_no_denial() -> None:
    assert cut(ask(weight_fraction=0.1), SIZING="weight")[0] == []


def test_a_buy_without_a_weight_is_refused() -> None:
    (denial,), allowed = cut(ask(), SIZING="weight")
    assert (denial.code, denial.is_partial, allowed) == (Code.QUANTITY_BELOW_ONE, False, [])
    assert denial.detail == "the rule gives it no weight_fraction, which SIZING=weight needs"


@pytest.mark.parametrize(
    ("env", "problem"),
    [
        ({"SIZING": "weight"}, "SIZING=weight: SIGNAL=trend gives no weights; a rule of your own can"),
        (
            {"SIZING": "weight", "SIGNAL": "horizon"},
            "SIZING=weight: SIGNAL=horizon buys 1 share each time",
        ),
        (
            {"SIZING": "inverse-volatility", "SIGNAL": "horizon"},
            "SIZING=inverse-volatility: SIGNAL=horizon buys 1 share each time",
        ),
        ({"SIZING": "kelly"}, "SIZING='kelly': must be one of equal, inverse-volatility, weight"),
    ],
)
def test_a_sizing_that_has_no_effect_is_refused(env: Mapping[str, Any], problem: str) -> None:
    with pytest.raises(SettingsError) as error:
        settings(**env)
    assert [str(each) for each in error.value.problems] == [problem]


# --- own stops and targets ---


def bracket(wish: Insight, **env: object) -> tuple[float | None, float | None]:
    its = settings(SIGNAL=OWN, **env)
    (order,) = plan(targets([wish], {}, account(), {}, (), its), SLOT, its)
    return order.stop_loss_usd, order.take_profit_usd


def test_a_rule_may_have_a_closer_stop_and_another_target() -> None:
    assert bracket(ask(stop_loss_fraction=0.01, take_profit_fraction=0.02)) == (99.0, 102.0)


def test_each_of_them_stands_by_itself() -> None:
    assert bracket(ask(stop_loss_fraction=0.01)) == (99.0, 140.0)
    assert bracket(ask(take_profit_fraction=0.02)) == (97.0, 102.0)


def test_a_stop_further_than_the_setting_is_cut_with_a_denial() -> None:
    assert bracket(ask(stop_loss_fraction=0.06)) == (97.0, 140.0)
    (denial,), _ = cut(ask(stop_loss_fraction=0.06))
    assert (denial.code, denial.is_partial) == (Code.ORDER_CAP, True)
    assert denial.detail == "asks for a stop 6.00% below the price; STOP_LOSS_FRACTION allows 3.00%"


def test_without_brackets_a_rule_has_none_either() -> None:
    off: Mapping[str, Any] = {"STOP_LOSS_FRACTION": 0, "TAKE_PROFIT_FRACTION": 0}
    assert bracket(ask(stop_loss_fraction=0.01), **off) == (None, None)
    assert cut(ask(stop_loss_fraction=0.01), **off)[0][0].detail.endswith("STOP_LOSS_FRACTION=0 allows none")
