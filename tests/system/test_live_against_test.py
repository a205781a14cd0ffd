"""A simulated quarter at the stand-in for Alpaca: each planted difference is found, and attributed to its cause."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from scripts.owner.gap import Cause, Gap
from scripts.owner.live import Paid
from scripts.testkit.alpaca import AlpacaFake
from tests.quarter import DAYS, Quarter, days_of
from tests.several_days import at, shorten_waits
from trader.model import Decision, Observation, Order, Side
from trader.stages import pipeline

SHORT = 20
"""Days after which a single difference has shown all that it leads to."""

CENT = 0.0101
"""A cent, and the rounding of binary numbers."""


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shorten_waits(monkeypatch)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def quarter(tmp_path: Path) -> Iterator[Quarter]:
    with AlpacaFake() as fake:
        yield Quarter(tmp_path, fake)


def adds_up(gap: Gap) -> bool:
    return abs(gap.test_usd + sum(gap.terms.values()) - gap.live_usd) < 1e-6


def find_causes(gap: Gap) -> set[Cause]:
    """Return the causes with more than a cent."""
    return {cause for cause, usd in gap.terms.items() if abs(usd) > CENT}


# --- what is planted -------------------------------------------------------------------------------------------------


def fill_worse(quarter: Quarter) -> None:
    """Let a buy be filled 0.4 % above its decision."""
    quarter.priced[11] = [lambda q: q.fake.prices.update(A=round(q.price(11, "A") * 1.004, 2))]


def fill_in_part(quarter: Quarter) -> None:
    quarter.priced[11] = [lambda q: setattr(q.fake, "fills", "partial")]


def fill_never(quarter: Quarter) -> None:
    quarter.priced[11] = [lambda q: setattr(q.fake, "fills", "never")]


def fill_late(quarter: Quarter, day: int = 11) -> None:
    """Suspend a symbol while the broker answers no cancellation: its order is filled ten minutes later, 0.50 higher."""

    def suspend(q: Quarter) -> None:
        q.fake.suspended.add("A")
        q.fake.fault("DELETE", "/v2/orders", "504", times=50)

    def resume(q: Quarter) -> None:
        q.fake.suspended.clear()
        q.fake.forget_faults()
        q.fake.prices["A"] = round(q.price(day, "A") + 0.5, 2)
        q.fake.trade()
        q.fake.prices["A"] = q.price(day, "A")

    quarter.priced[day], quarter.after[day] = [suspend], [resume]


def decide_otherwise(quarter: Quarter, day: int = 11) -> None:
    """Let another code decide on one day: it buys 40 shares less, and its record says so."""

    def decide(observation: Observation, *others: Any) -> Decision:
        made = pipeline_decide(observation, *others)
        less = [replace(each, quantity=each.quantity - 40) if each.side is Side.BUY else each for each in made.orders]
        return replace(made, orders=tuple(less))

    pipeline_decide = pipeline.decide
    quarter.priced[day] = [lambda _: setattr(pipeline, "decide", decide)]
    quarter.after[day] = [lambda _: setattr(pipeline, "decide", pipeline_decide)]


def miss(quarter: Quarter) -> None:
    quarter.missed.add(18)


def see_worse_price(quarter: Quarter) -> None:
    """Let the run decide at a price 0.80 above the one that the day is known by later."""
    quarter.seen[15] = {"B": round(quarter.price(15, "B") + 0.8, 2)}


def change_setting(quarter: Quarter) -> None:
    quarter.before[8] = [lambda q: q.changed.update(MAX_POSITION_FRACTION="0.05")]


def sell_by_hand(quarter: Quarter) -> None:
    quarter.after[17] = [lambda q: q.fake.sell_by_hand("B")]


def deposit(quarter: Quarter) -> None:
    quarter.after[9] = [lambda q: q.fake.deposit(5_000)]


def split_with_a_part(quarter: Quarter) -> None:
    """Split 97 shares 3 for 2; the account keeps the half share, which prices alone would pay out."""
    quarter.before[7] = [lambda q: q.restate("A", 2 / 3), lambda q: q.fake.split("A", 1.5)]


def withhold_dividend(quarter: Quarter) -> None:
    """Let a share pay 1.30 USD, which the account does not receive."""
    quarter.before[10] = [lambda q: q.restate("B", 1 - 1.3 / q.price(10, "B"))]


PLANTED: dict[Cause, tuple[Callable[[Quarter], None], str]] = {
    Cause.MISSED: (miss, "2026-12-03"),
    Cause.PRICE: (see_worse_price, "2026-11-30"),
    Cause.SETTING: (change_setting, "2026-11-19"),
    Cause.HAND: (sell_by_hand, "2026-12-02"),
    Cause.FLOW: (deposit, "2026-11-24"),
    Cause.SPLIT: (split_with_a_part, "2026-11-18"),
    Cause.DIVIDEND: (withhold_dividend, "2026-11-23"),
    Cause.FILL: (fill_worse, "2026-11-24"),
}
"""What is planted for each cause, and the day on which it shows first."""


# --- one by one ------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_bot_that_does_what_was_tested_has_no_gap(quarter: Quarter) -> None:
    quarter.live()
    gap = quarter.split()
    assert gap.live_usd > 1_000
    assert (gap.test_usd, gap.items, gap.differences, gap.missed) == (gap.live_usd, [], [], [])


@pytest.mark.slow
@pytest.mark.parametrize("cause", PLANTED, ids=str)
def test_a_difference_lands_in_its_cause_and_nothing_else_is_larger_than_a_cent(quarter: Quarter, cause: Cause) -> None:
    plant, day = PLANTED[cause]
    plant(quarter)
    quarter.live(SHORT)
    gap = quarter.split()
    assert adds_up(gap)
    assert find_causes(gap) == {cause}
    assert day in days_of(gap)
    assert all(each.cause is cause for each in gap.items)


@pytest.mark.slow
@pytest.mark.parametrize("plant", [fill_in_part, fill_never])
def test_an_order_that_is_filled_in_part_or_never_is_a_fill(quarter: Quarter, plant: Callable[[Quarter], None]) -> None:
    plant(quarter)
    quarter.live(SHORT)
    gap = quarter.split()
    assert adds_up(gap)
    assert find_causes(gap) == {Cause.FILL}


def test_a_worse_fill_is_said_with_its_order(quarter: Quarter) -> None:
    quarter.priced[0] = [lambda q: q.fake.prices.update(A=round(q.price(0, "A") * 1.004, 2))]
    quarter.live(3)
    (item,) = [each for each in quarter.split().items if each.cause is Cause.FILL]
    bought = next(each for each in quarter.fake.orders if each.symbol == "A")
    price_usd, filled_usd = quarter.price(0, "A"), float(bought.filled_price or 0)
    assert (item.symbol, item.words) == ("A", "filled 0.40% above the decision")
    assert item.usd == pytest.approx(-float(bought.quantity) * (filled_usd - price_usd), abs=CENT)


@pytest.mark.slow
def test_an_order_that_is_filled_late_is_a_fill_and_said_to_be_late(quarter: Quarter) -> None:
    fill_late(quarter)
    quarter.live(SHORT)
    gap = quarter.split()
    (bought,) = [each for each in quarter.fake.orders if each.filled_at == at(11, 15, 55)]
    assert adds_up(gap)
    assert find_causes(gap) == {Cause.FILL}
    (item,) = gap.items
    assert item.words == "filled 0.48% above the decision, late, on 2026-11-24 15:55"
    assert item.usd == pytest.approx(-0.5 * float(bought.quantity), abs=CENT)


@pytest.mark.slow
def test_a_decision_of_other_code_is_a_decision_and_nothing_else(quarter: Quarter) -> None:
    decide_otherwise(quarter)
    quarter.live(SHORT)
    gap = quarter.split()
    assert adds_up(gap)
    assert find_causes(gap) == {Cause.DECISION}
    assert [(f"{each.slot:%Y-%m-%d}", each.symbol) for each in gap.differences] == [("2026-11-24", "A")]


# --- all at once -----------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_all_differences_at_once_add_up_to_the_cent(quarter: Quarter) -> None:
    for plant, _ in PLANTED.values():
        plant(quarter)
    quarter.before[30] = quarter.before.pop(8)  # the setting, so that the others come first
    quarter.priced[36] = [lambda q: setattr(q.fake, "fills", "partial")]
    decide_otherwise(quarter, 46)
    fill_late(quarter, 60)
    quarter.live(DAYS)
    gap = quarter.split()
    assert adds_up(gap)
    assert find_causes(gap) == {*PLANTED, Cause.DECISION}
    assert {at(46)} == {each.slot for each in gap.differences if not each.setting}
    assert [each.words for each in gap.items if "late, on 2027-02-01 15:55" in each.words] != []
    assert abs(gap.terms[Cause.REST]) <= CENT
    for cause, usd in gap.terms.items():
        listed = sum(each.usd for each in gap.items if each.cause is cause)
        assert listed == pytest.approx(usd, abs=0.5), cause  # cents of cash paid for parts of a share


# --- what is not known -----------------------------------------------------------------------------------------------


def test_a_decision_that_does_not_follow_from_its_record_is_a_difference(quarter: Quarter) -> None:
    quarter.live(4)
    steps = quarter.steps()
    first = steps[0]
    assert first.decided
    forged: list[Order] = [replace(each, quantity=each.quantity - 50) for each in first.decided]
    gap = quarter.split([replace(first, decided=forged), *steps[1:]])
    assert [(each.slot, each.symbol) for each in gap.differences] == [(at(0), "A")]
    assert gap.differences[0].recorded.startswith("UP: buy 42 at ")
    assert gap.differences[0].again.startswith("UP: buy 92 at ")
    assert gap.terms[Cause.DECISION] != 0
    assert adds_up(gap)


def test_of_a_broker_that_has_forgotten_its_orders_the_records_have_those_they_saw(quarter: Quarter) -> None:
    quarter.live(2)
    gap = quarter.split(orders=[])
    assert find_causes(gap) == set()


def test_shares_that_no_order_explains_are_named(quarter: Quarter) -> None:
    quarter.after[0] = [lambda q: q.fake.hold("C", 10)]
    quarter.fake.prices["C"] = 50.0
    quarter.live(2)
    gap = quarter.split()
    assert gap.terms[Cause.REST] == pytest.approx(500)
    assert [(each.symbol, each.words) for each in gap.items] == [("C", "+10 shares that no order explains")]


def test_interest_is_not_explained_by_trades_but_by_the_account(quarter: Quarter) -> None:
    quarter.after[0] = [lambda q: setattr(q.fake, "cash", q.fake.cash + 3)]
    quarter.paid.append(Paid(at=at(0, 17), kind="interest", usd=3.0))
    quarter.live(2)
    gap = quarter.split()
    assert [(each.usd, each.words) for each in gap.items] == [(3.0, "interest")]


def test_a_slot_without_prices_of_its_time_is_named_and_not_guessed(quarter: Quarter) -> None:
    quarter.missed.add(1)
    quarter.live(3)
    steps = [replace(each, settings={**each.settings, "daily_at": "10:00"}) for each in quarter.steps()]
    (missed,) = quarter.split(steps).missed
    assert (missed.slot, missed.why) == (at(1, 10, 0), "no run")
    assert missed.unknown == "no record has the price at that time"


def test_one_look_at_the_account_is_nothing_to_compare(quarter: Quarter) -> None:
    quarter.live(1)
    with pytest.raises(AssertionError):
        quarter.split()
