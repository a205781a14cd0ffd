"""What the broker pays and charges beside orders, read from Alpaca's list of activities."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from scripts.owner import books
from scripts.owner.live import Books
from scripts.testkit.alpaca import AlpacaFake
from tests.several_days import BOUGHT, QUIET, SeveralDays, at
from trader.settings import Settings
from trader.wiring import make_order_history

SINCE = datetime(2026, 11, 8, tzinfo=UTC)


def read(days: SeveralDays) -> tuple[Books, str]:
    settings = Settings.from_env(days.env, lambda _: {})
    return books.read(make_order_history(settings, at(9)), [], SINCE)


def test_dividends_interest_and_fees_are_read_with_their_sign_and_day(tmp_path: Path) -> None:
    with AlpacaFake() as fake:
        days = SeveralDays(tmp_path, fake)
        days.run(at(0), BOUGHT)
        days.set_price(at(1), QUIET)
        fake.pay_dividend("A", 0.5)
        for kind, usd in (("DIVNRA", "-7.12"), ("INT", "1.25"), ("FEE", "-0.03")):
            fake.activities.note(at(1), kind, Decimal(usd), symbol="A" if kind == "DIVNRA" else "")
        found, problem = read(days)
    assert problem == ""
    assert sorted((each.kind, each.usd, each.symbol) for each in found.paid or ()) == [
        ("dividend", -7.12, "A"),
        ("dividend", 47.5, "A"),
        ("fee", -0.03, ""),
        ("interest", 1.25, ""),
    ]
    assert {each.at.date() for each in found.paid or ()} == {at(1).date()}


def test_a_payment_that_was_canceled_counts_nothing(tmp_path: Path) -> None:
    with AlpacaFake() as fake:
        days = SeveralDays(tmp_path, fake)
        days.set_price(at(1), QUIET)
        fake.activities.note(at(1), "DIV", Decimal("12.5"), symbol="A", status="canceled")
        found, _ = read(days)
    assert [each.usd for each in found.paid or ()] == [0.0]


def test_deposits_are_flows_and_no_payments(tmp_path: Path) -> None:
    with AlpacaFake() as fake:
        days = SeveralDays(tmp_path, fake)
        days.set_price(at(1), QUIET)
        fake.deposit(2_500)
        found, _ = read(days)
    assert [each.usd for each in found.flows or ()] == [2_500]
    assert not found.paid


def test_more_payments_than_a_page_holds_are_all_read(tmp_path: Path) -> None:
    with AlpacaFake() as fake:
        days = SeveralDays(tmp_path, fake)
        days.set_price(at(5), QUIET)
        for number in range(230):
            fake.activities.note(at(1) + timedelta(minutes=number), "FEE", Decimal("-0.01"))
        found, _ = read(days)
    assert len(found.paid or ()) == 230


@pytest.mark.parametrize("kind", ["500-html", "200-html"])
def test_a_broker_that_says_nothing_is_named_and_nothing_is_guessed(kind: str, tmp_path: Path) -> None:
    with AlpacaFake() as fake:
        days = SeveralDays(tmp_path, fake)
        days.set_price(at(1), QUIET)
        fake.fault("GET", "/v2/account/activities", kind, times=99)  # type: ignore[arg-type]
        found, problem = read(days)
    assert problem.startswith("deposits, dividends and fees are not known: ")
    assert (found.flows, found.paid) == (None, None)
