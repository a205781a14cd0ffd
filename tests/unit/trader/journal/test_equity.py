from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.builders import SLOT, account, settings
from trader.journal.base import Peak
from trader.journal.equity import keep, name_account, update
from trader.model import Account

NAME = "embedded out/account.json"
TOMORROW = SLOT + timedelta(days=1)
MONEY = st.floats(1_000, 1e7)


def of(equity_usd: float, flows_usd: float = 0.0) -> Account:
    return replace(account(equity_usd), flows_usd=flows_usd)


def peak(equity_usd: float, flows_usd: float = 0.0) -> Peak:
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


def test_what_was_paid_in_after_the_last_look_of_a_day_is_counted() -> None:
    assert update(peak(125_000), NAME, of(150_000), TOMORROW, missed_usd=50_000).equity_usd == 187_500


@pytest.mark.parametrize(("equity_usd", "flows_usd"), [(5_000, 5_000), (5_000, 6_000), (0, -100_000)])
def test_an_account_without_money_before_or_after_begins_anew(equity_usd: float, flows_usd: float) -> None:
    assert update(peak(100_000), NAME, of(equity_usd, flows_usd), SLOT).equity_usd == equity_usd


def test_the_peak_of_another_account_is_not_kept() -> None:
    assert keep(peak(100_000), "alpaca https://api.alpaca.markets", SLOT) is None


def test_a_peak_from_a_later_day_is_not_kept() -> None:
    assert keep(replace(peak(100_000), as_of=TOMORROW), NAME, SLOT) is None


def test_the_peak_of_this_account_is_kept() -> None:
    assert keep(peak(100_000), NAME, TOMORROW) == peak(100_000)


def test_paper_and_live_are_different_accounts() -> None:
    keys = {"ALPACAUSER": "u", "ALPACAPW": "p", "BROKER": "alpaca"}
    urls = ("https://paper-api.alpaca.markets", "http://127.0.0.1:1")
    assert len({name_account(settings(APCA_API_BASE_URL=url, **keys)) for url in urls} | {NAME}) == 3
