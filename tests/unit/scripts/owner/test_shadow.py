"""The ideal account of the test, where the records do not show all that it would need."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from scripts.owner.bars import Bars
from scripts.owner.shadow import BEFORE, Course, Decider, Flow, Period, Trade, World, follow
from scripts.owner.tape import Step
from tests import builders
from trader.codec import encode
from trader.model import OpenOrder, OrderType, Side

FIRST = datetime(2026, 11, 9, 15, 0, tzinfo=UTC)
SECOND = FIRST + timedelta(minutes=15)
STOP_USD = 97.0


def bars(slot: datetime, usd: float) -> Bars:
    starts = [slot.timestamp() - 900, slot.timestamp()]
    return Bars(np.array(starts, np.int64), np.array([100.0, usd]))


def period(exits: list[Trade], *, usd: float | None = None, cash_usd: float = 0.0) -> Period:
    """Hold ten shares of A with a stop; live sold them before the second slot, whose record may have no closes of A."""
    stop = OpenOrder(
        order_id="1",
        client_order_id="stop-of-A",
        symbol="A",
        side=Side.SELL,
        quantity=10,
        is_leg=True,
        type=OrderType.STOP,
        stop_price_usd=STOP_USD,
    )
    account = builders.account(1_000 + cash_usd, cash_usd=cash_usd)
    first = Step(
        slot=FIRST,
        now=FIRST,
        account=account,
        positions=builders.positions(A=10),
        legs=[encode(stop)],
        bars={"A": bars(FIRST, 100.0)},
        decided=(),
    )
    known = {"A": bars(SECOND, usd)} if usd else {"B": bars(SECOND, 50.0)}
    last = Step(slot=SECOND, now=SECOND, account=account, bars=known, decided=())
    return Period(steps=[first, last], exits={1: exits} if exits else {})


def go(over: Period, **world: object) -> Course:
    return follow(over, World(settings=[None, None], **world), Decider(over.steps))  # type: ignore[arg-type]  # its fields


def live_stop(usd: float) -> Trade:
    return Trade(at=SECOND - BEFORE, symbol="A", quantity=-10, price_usd=usd, why="stop")


@pytest.mark.parametrize(("usd", "gain_usd"), [(96.5, -35.0), (STOP_USD, -30.0)])
def test_a_stop_is_worked_at_the_price_of_lives_if_no_record_has_closes(usd: float, gain_usd: float) -> None:
    course = go(period([live_stop(usd)]))
    assert [(each.quantity, each.price_usd, each.why) for each in course.trades] == [(-10, usd, "stop")]
    assert (course.gain_usd, course.unpriced) == (gain_usd, {})


def test_a_stop_that_was_not_reached_leaves_the_holding_at_the_last_price_that_is_known() -> None:
    course = go(period([live_stop(98.0)]))
    assert (course.trades, course.held, course.gain_usd) == ([], {"A": 10}, -20.0)


def test_a_holding_without_a_price_is_named() -> None:
    assert go(period([])).unpriced == {"A": [SECOND]}


def test_a_stop_sells_at_the_first_close_that_reaches_it() -> None:
    course = go(period([], usd=96.0))
    assert [(each.price_usd, each.at) for each in course.trades] == [(96.0, SECOND)]


def test_a_deposit_is_no_gain() -> None:
    assert go(period([], usd=101.0), flows=[Flow(FIRST, 5_000.0)]).gain_usd == 10.0


def test_what_somebody_else_sells_is_not_more_than_is_held() -> None:
    by_hand = Trade(at=FIRST, symbol="A", quantity=-25, price_usd=99.0, why="by hand")
    course = go(period([], usd=101.0), trades=[by_hand])
    assert ([each.quantity for each in course.trades], course.gain_usd) == ([-10], -10.0)
