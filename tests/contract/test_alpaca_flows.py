"""AlpacaBroker.list_flows: earlier deposits and withdrawals, from the stand-in over real HTTP."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from scripts.testkit.alpaca import AlpacaFake
from trader.alpaca.client import AlpacaClient
from trader.broker import alpaca
from trader.broker.alpaca import AlpacaBroker
from trader.broker.base import CashFlow, UnexpectedResponseError

FRIDAY, MONDAY = (datetime(2026, 11, day, 15, tzinfo=UTC) for day in (20, 23))


@pytest.fixture
def fake() -> Iterator[AlpacaFake]:
    with AlpacaFake() as fake:
        yield fake


@pytest.fixture
def broker(fake: AlpacaFake) -> AlpacaBroker:
    return AlpacaBroker(AlpacaClient(fake.url, fake.url, lambda _: (fake.key_id, fake.secret)))


def move(fake: AlpacaFake, day: int, hour: int, usd: float) -> None:
    fake.now = datetime(2026, 11, day, hour, tzinfo=UTC)
    fake.deposit(usd)


def usd(broker: AlpacaBroker, since: datetime) -> list[float]:
    return [flow.usd for flow in broker.list_flows(since)]


def test_deposits_and_withdrawals_have_their_times(fake: AlpacaFake, broker: AlpacaBroker) -> None:
    move(fake, 20, 16, 5_000)
    move(fake, 21, 15, -2_000)
    saturday = datetime(2026, 11, 21, 15, tzinfo=UTC)
    assert broker.list_flows(FRIDAY) == (CashFlow(FRIDAY + timedelta(hours=1), 5_000), CashFlow(saturday, -2_000))


def test_only_what_was_moved_after_the_time_is_listed(fake: AlpacaFake, broker: AlpacaBroker) -> None:
    move(fake, 20, 14, 1)
    move(fake, 20, 15, 4)
    move(fake, 23, 14, 20)
    assert usd(broker, FRIDAY) == [20]


def test_more_than_one_page_is_read(fake: AlpacaFake, broker: AlpacaBroker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alpaca, "ACTIVITIES_PAGE_SIZE", 2)
    for _ in range(5):
        move(fake, 20, 16, 10)
    assert usd(broker, FRIDAY) == [10] * 5


def test_without_a_time_the_beginning_of_its_day_counts(broker: AlpacaBroker, monkeypatch: pytest.MonkeyPatch) -> None:
    activity = {"id": "1", "date": "2026-11-23", "net_amount": "7.5"}
    monkeypatch.setattr(broker._client, "get", lambda *_: [activity])
    assert (usd(broker, FRIDAY), usd(broker, MONDAY)) == ([7.5], [])


def test_a_canceled_deposit_does_not_count(broker: AlpacaBroker, monkeypatch: pytest.MonkeyPatch) -> None:
    activity = {"id": "1", "date": "2026-11-23", "net_amount": "7.5", "status": "canceled"}
    monkeypatch.setattr(broker._client, "get", lambda *_: [activity])
    assert usd(broker, FRIDAY) == []


@pytest.mark.parametrize(
    "answer",
    [
        {},
        [1],
        [{"id": "1"}],
        [{"id": "1", "date": "today", "net_amount": "1"}],
        [{"id": "1", "date": "2026-11-21", "net_amount": "NaN"}],
        [{"id": "1", "created_at": "2026-11-20", "net_amount": "1"}],
    ],
)
def test_nonsense_is_an_error(broker: AlpacaBroker, monkeypatch: pytest.MonkeyPatch, answer: object) -> None:
    monkeypatch.setattr(broker._client, "get", lambda *_: answer)
    with pytest.raises(UnexpectedResponseError, match="GET /account/activities"):
        broker.list_flows(FRIDAY)
