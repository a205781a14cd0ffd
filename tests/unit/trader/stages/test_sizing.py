"""How the cash is divided by SIZING, and what a rule may ask for of weights, stops and targets."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from tests.builders import SLOT, account, daily, insight, settings
from trader.alpha.base import Facts, View
from trader.forecasting.base import Forecasts
from trader.model import Closes, Code, Decision, Denial, Direction, Insight, Observation, Target
from trader.settings import SettingsError
from trader.stages.execution import plan
from trader.stages.pipeline import decide
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
    ("wish", "price_usd", "env", "code", "detail"),
    [
        (0.0005, 100.0, FREE, Code.QUANTITY_BELOW_ONE, "50.00 USD, which is too small for one share at 100.00 USD"),
        (
            0.5,
            20_000.0,
            {},
            Code.QUANTITY_BELOW_ONE,
            "50,000.00 USD; MAX_POSITION_FRACTION allows 10,000.00, which is too small for one share at 20,000.00 USD",
        ),
        (
            0.5,
            40_000.0,
            {**FREE, "CASH_BUFFER_FRACTION": 0.7},
            Code.BUYING_POWER_EXCEEDED,
            "50,000.00 USD; the cash left allows 30,000.00, which is too small for one share at 40,000.00 USD",
        ),
    ],
)
def test_a_weight_that_buys_no_share_says_what_keeps_it_from_it(
    wish: float, price_usd: float, env: Mapping[str, Any], code: Code, detail: str
) -> None:
    (denial,), allowed = cut(replace(ask(weight_fraction=wish), price_usd=price_usd), SIZING="weight", **env)
    assert (denial.code, denial.is_partial, allowed) == (code, False, [])
    assert denial.detail == f"asks for {wish:.2%} of the equity, {detail}"


def weigh(stopped: tuple[str, ...] = (), prices_usd: Mapping[str, float] | None = None, **fractions: float) -> Decision:
    """Decide on buys with these weights, the first one the strongest; what was stopped out a moment ago is refused."""
    shown = {symbol: daily([(prices_usd or {}).get(symbol, 100.0)] * 40, symbol=symbol) for symbol in fractions}

    class Weighing:
        facts = Facts(name=OWN, min_bars=2, has_gap=False)
        forecast_spec = None
        dead_band_fraction = None

        def insights(self, view: View) -> Sequence[Insight]:
            places = {symbol: place for place, symbol in enumerate(view.closes)}
            return [
                replace(
                    ask(symbol, 1 - place / 10, weight_fraction=fractions[symbol]),
                    price_usd=float(view.closes[symbol].iloc[-1]),
                )
                for symbol, place in places.items()
            ]

    seen = Observation(
        slot=SLOT,
        now=SLOT,
        account=account(),
        positions={},
        open_orders=(),
        ranking={},
        closes=shown,
        stopped_at=dict.fromkeys(stopped, SLOT),
    )
    its = settings(SIGNAL=OWN, SIZING="weight", PAUSE_AFTER_STOP_BARS=5, MAX_DAILY_LOSS_FRACTION=1, **FREE)
    return decide(seen, Forecasts(), Weighing(), its)


def test_the_cash_of_a_refused_buy_is_for_the_others() -> None:
    found = weigh(("A",), A=0.6, B=0.6, C=0.6)
    assert [(each.symbol, each.quantity) for each in found.orders] == [("B", 600), ("C", 350)]
    assert [(each.symbol, each.code) for each in found.denials] == [
        ("A", Code.PAUSED),
        ("C", Code.BUYING_POWER_EXCEEDED),
    ]


def test_the_cash_of_a_buy_too_small_for_one_share_is_for_the_others() -> None:
    found = weigh(prices_usd={"A": 60_000.0, "B": 100.0}, A=0.5, B=0.6)
    assert [(each.symbol, each.quantity) for each in found.orders] == [("B", 600)]
    assert [(each.symbol, each.code) for each in found.denials] == [("A", Code.QUANTITY_BELOW_ONE)]


def test_what_whole_shares_leave_of_a_part_is_for_the_others() -> None:
    found = weigh(prices_usd={"A": 26_000.0, "B": 100.0}, A=0.5, B=0.69)
    assert [(each.symbol, each.quantity) for each in found.orders] == [("A", 1), ("B", 690)]
    assert found.denials == ()


def test_each_buy_that_gets_less_than_its_weight_has_a_denial() -> None:
    found = weigh(A=0.6, B=0.6, C=0.6)
    assert [(each.symbol, each.quantity) for each in found.orders] == [("A", 600), ("B", 350)]
    assert [(each.symbol, each.code, each.is_partial) for each in found.denials] == [
        ("B", Code.BUYING_POWER_EXCEEDED, True),
        ("C", Code.BUYING_POWER_EXCEEDED, False),
    ]


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
