from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.builders import SLOT, account, settings
from trader.broker.base import CashFlow
from trader.journal.base import Peak
from trader.journal.equity import complete, find_gap, is_of_a_later_day, name_account, update
from trader.model import Account
from trader.schedule.sessions import previous_close

NAME = "embedded out/account.json"
TOMORROW = SLOT + timedelta(days=1)
CLOSE = previous_close(SLOT)
MONEY = st.floats(1_000, 1e7)


def of(equity_usd: float, flows_usd: float | None = 0.0, last_equity_usd: float | None = None) -> Account:
    return replace(account(equity_usd, last_equity_usd=last_equity_usd), flows_usd=flows_usd)


def peak(equity_usd: float, flows_usd: float | None = 0.0) -> Peak:
    return Peak(account=NAME, equity_usd=equity_usd, flows_usd=flows_usd, as_of=SLOT)


def test_the_first_look_is_the_highest_so_far() -> None:
    assert update(None, NAME, of(100_000, 5_000), SLOT) == peak(100_000, 5_000)


def test_a_higher_equity_is_the_new_highest() -> None:
    assert update(peak(100_000), NAME, of(101_000), SLOT).equity_usd == 101_000


def test_a_look_that_changes_nothing_gives_the_same_peak() -> None:
    kept = peak(100_000, 5_000)
    assert update(kept, NAME, of(90_000, 5_000), SLOT + timedelta(minutes=15)) is kept


def test_the_first_look_of_a_day_forgets_the_flows_of_the_day_before() -> None:
    assert update(peak(100_000, 5_000), NAME, of(90_000), TOMORROW) == replace(peak(100_000), as_of=TOMORROW)


@pytest.mark.parametrize(("flows_usd", "highest_usd"), [(100_000, 250_000), (-40_000, 75_000), (-90_000, 12_500)])
def test_a_deposit_or_a_withdrawal_changes_no_drawdown(flows_usd: float, highest_usd: float) -> None:
    assert update(peak(125_000), NAME, of(100_000 + flows_usd, flows_usd), SLOT).equity_usd == highest_usd


@given(highest=MONEY, equity=MONEY, flows=st.lists(st.floats(-900, 1e7), max_size=5))
def test_flows_that_are_seen_one_by_one_are_each_counted_once(
    highest: float, equity: float, flows: list[float]
) -> None:
    kept, moved = peak(max(highest, equity)), 0.0
    drawdown = equity / kept.equity_usd
    for flow in flows:
        if equity + flow < 100:
            continue
        equity, moved = equity + flow, moved + flow
        kept = update(kept, NAME, of(equity, moved), SLOT)
        kept = update(kept, NAME, of(equity, moved), SLOT)
    assert equity / kept.equity_usd == pytest.approx(drawdown, rel=1e-3)


def paid(hours: float, usd: float) -> CashFlow:
    """Return what was paid in some hours after the peak was saved."""
    return CashFlow(SLOT + timedelta(hours=hours), usd)


@pytest.mark.parametrize("counted_usd", [0, 50_000], ids=["from midnight", "from the close"])
def test_what_was_paid_in_overnight_is_counted_once_wherever_the_account_begins_to_count(counted_usd: float) -> None:
    assert update(peak(125_000), NAME, of(150_000, counted_usd), TOMORROW, [paid(2, 50_000)]).equity_usd == 187_500


@pytest.mark.parametrize("hours", [0, 24.1])
def test_what_an_earlier_or_a_later_look_counts_is_left_to_it(hours: float) -> None:
    assert update(peak(125_000), NAME, of(100_000), TOMORROW, [paid(hours, 50_000)]).equity_usd == 125_000


def test_a_loss_is_taken_to_have_come_after_a_withdrawal_overnight() -> None:
    after = of(51_000, last_equity_usd=100_000)  # 15 percent of 60,000 are lost
    assert update(peak(100_000), NAME, after, TOMORROW, [paid(2, -40_000)]).equity_usd == 60_000


def test_a_loss_is_taken_to_have_come_before_a_deposit_overnight() -> None:
    after = of(185_000, last_equity_usd=100_000)  # 15 percent of 100,000 are lost
    assert 185_000 / update(peak(100_000), NAME, after, TOMORROW, [paid(2, 100_000)]).equity_usd == pytest.approx(0.85)


def test_an_account_that_gives_no_count_has_its_flows_looked_up_at_every_look() -> None:
    later = SLOT + timedelta(minutes=15)
    kept = update(peak(100_000), NAME, of(110_000, None), later, [paid(0.1, 10_000)])
    assert (kept.equity_usd, kept.flows_usd, kept.as_of) == (110_000, None, later)


# --- what must be looked up ---


@pytest.mark.parametrize(
    ("kept", "flows_usd", "now", "since"),
    [
        (None, 0, SLOT, None),
        (peak(1), 0, SLOT, None),
        (peak(1), 0, TOMORROW, SLOT),
        (peak(1, None), 0, SLOT + timedelta(minutes=1), SLOT),
        (None, None, SLOT, CLOSE),
        (peak(1), None, SLOT + timedelta(minutes=1), CLOSE),
        (peak(1), None, TOMORROW, SLOT),
    ],
)
def test_only_what_the_account_does_not_count_is_looked_up(
    kept: Peak | None, flows_usd: float | None, now: datetime, since: datetime | None
) -> None:
    assert find_gap(kept, of(1, flows_usd), now) == since


def test_without_a_count_the_flows_since_the_last_close_are_those_of_the_day() -> None:
    flows = [CashFlow(CLOSE, 1), CashFlow(CLOSE + timedelta(hours=1), 20), CashFlow(SLOT, 300), paid(1, 4_000)]
    assert complete(of(100_000, None), flows, SLOT).flows_usd == 320


def test_the_count_of_the_account_is_believed() -> None:
    assert complete(of(100_000, 5.0), [paid(-1, 300)], SLOT).flows_usd == 5


@pytest.mark.parametrize(("equity_usd", "flows_usd"), [(5_000, 5_000), (5_000, 6_000), (0, -100_000)])
def test_an_account_without_money_before_or_after_begins_anew(equity_usd: float, flows_usd: float) -> None:
    assert update(peak(100_000), NAME, of(equity_usd, flows_usd), SLOT).equity_usd == equity_usd


@pytest.mark.parametrize(("as_of", "is_later"), [(TOMORROW, True), (SLOT + timedelta(hours=1), False)])
def test_a_peak_of_a_later_day_is_recognized(as_of: datetime, is_later: bool) -> None:
    assert is_of_a_later_day(replace(peak(100_000), as_of=as_of), SLOT) is is_later


def test_paper_and_live_are_different_accounts() -> None:
    keys = {"ALPACAUSER": "u", "ALPACAPW": "p", "BROKER": "alpaca"}
    urls = ("https://paper-api.alpaca.markets", "http://127.0.0.1:1")
    assert len({name_account(settings(APCA_API_BASE_URL=url, **keys)) for url in urls} | {NAME}) == 3
