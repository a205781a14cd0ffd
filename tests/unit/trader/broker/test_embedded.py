import contextlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.builders import SLOT, buy, daily, sell
from trader.broker.base import OrderRejectedError, OrderStateUnknownError
from trader.broker.embedded import EmbeddedBroker
from trader.model import BrokerError, Closes, Code, Order
from trader.prices.series import Series

DAY = timedelta(days=1)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "account.json"


def broker(file: Path, prices: Sequence[float] = (100,), *, days_later: int = 0) -> EmbeddedBroker:
    """Open the account `days_later` days after the slot of Wednesday 28 December 2022, with `prices` up to then."""
    now = SLOT + days_later * DAY
    closes = {symbol: daily(prices, last=now.date(), symbol=symbol) for symbol in ("AAPL", "MSFT")}
    return EmbeddedBroker(file, now=now, starting_cash_usd=10_000, series=giving(closes))


def giving(closes: Mapping[str, Closes]) -> Callable[[Sequence[str]], Mapping[str, Series]]:
    """Return a source of these daily closes."""
    series = {symbol: Series(each, interval="1d") for symbol, each in closes.items()}
    return lambda symbols: {symbol: series[symbol] for symbol in symbols if symbol in series}


def test_a_new_account_has_its_cash_and_nothing_else(file: Path) -> None:
    account = broker(file).account()
    assert (account.equity_usd, account.cash_usd, account.last_equity_usd, account.blocked) == (
        10_000,
        10_000,
        10_000,
        "",
    )


def test_a_buy_is_filled_at_the_last_close_and_remembered(file: Path) -> None:
    broker(file).submit(buy(quantity=10))
    assert broker(file).positions()["AAPL"].quantity == 10
    assert broker(file).account().cash_usd == 9_000


def test_a_sale_brings_its_cash_back(file: Path) -> None:
    broker(file).submit(buy(quantity=10, bracket=False))
    broker(file, (100, 110), days_later=1).submit(sell(quantity=10))
    assert broker(file, (100, 110), days_later=1).account().cash_usd == 10_100


def test_the_same_client_order_id_is_taken_once(file: Path) -> None:
    broker(file).submit(buy())
    with pytest.raises(OrderStateUnknownError):
        broker(file).submit(buy())
    assert broker(file).positions()["AAPL"].quantity == 10


def test_listing_orders_does_not_advance_the_account(file: Path) -> None:
    broker(file).submit(buy(quantity=10))
    before = file.read_text()
    later = broker(file, (100, 50), days_later=1)
    placed = later.list_orders(SLOT, SLOT)
    assert later.find(buy(quantity=10)) == placed[0]
    assert [(order.client_order_id, order.status, order.filled_quantity) for order in placed] == [
        ("trend-20221228T2045Z-AAPL-buy", "filled", 10)
    ]
    assert file.read_text() == before


def test_an_order_is_found_by_its_client_order_id(file: Path) -> None:
    assert broker(file).find(buy()) is None
    broker(file).submit(buy())
    found = broker(file).find(buy())
    assert found is not None
    assert (found.status, found.filled_price_usd) == ("filled", 100)


def test_a_buy_beyond_the_cash_is_refused(file: Path) -> None:
    with pytest.raises(OrderRejectedError) as caught:
        broker(file).submit(buy(quantity=101))
    assert caught.value.code is Code.BUYING_POWER_EXCEEDED


def test_a_sale_of_more_than_is_held_is_refused(file: Path) -> None:
    broker(file).submit(buy(quantity=10, bracket=False))
    with pytest.raises(OrderRejectedError, match="insufficient quantity"):
        broker(file).submit(sell(quantity=11))


def test_shares_in_a_bracket_cannot_be_sold_until_it_is_canceled(file: Path) -> None:
    broker(file).submit(buy(quantity=10))
    with pytest.raises(OrderRejectedError, match="its bracket holds the shares"):
        broker(file).submit(sell(quantity=10))
    broker(file).cancel(broker(file).open_orders()[0])
    assert broker(file).submit(sell(quantity=10)).status == "filled"


def test_a_bracket_of_fractional_shares_is_refused(file: Path) -> None:
    with pytest.raises(OrderRejectedError, match="whole shares"):
        broker(file).submit(buy(quantity=1.5))


def test_a_symbol_without_a_price_is_not_filled(file: Path) -> None:
    with pytest.raises(OrderRejectedError, match="no price"):
        broker(file).submit(buy("ZZZZ"))


def test_a_close_below_the_stop_sells_at_that_close(file: Path) -> None:
    broker(file).submit(buy(quantity=10))  # stop at 97, take profit at 140
    account = broker(file, (100, 95), days_later=1).account()
    assert account.cash_usd == 9_950
    assert broker(file, (100, 95), days_later=1).positions() == {}


def test_a_close_above_the_limit_sells_at_the_limit(file: Path) -> None:
    broker(file).submit(buy(quantity=10))
    assert broker(file, (100, 150), days_later=1).account().cash_usd == 10_400


def test_the_first_leg_hit_is_the_one_that_counts(file: Path) -> None:
    broker(file).submit(buy(quantity=10))
    assert broker(file, (100, 96, 150), days_later=2).account().cash_usd == 9_960


def test_prices_before_the_purchase_do_not_trigger_its_stop(file: Path) -> None:
    broker(file, (60, 100)).submit(buy(quantity=10))
    assert broker(file, (60, 100, 101), days_later=1).positions()["AAPL"].quantity == 10


def test_the_current_days_price_triggers_a_stop_too(file: Path) -> None:
    broker(file).submit(buy(quantity=10))
    later = EmbeddedBroker(
        file, now=SLOT + timedelta(minutes=10), starting_cash_usd=1, series=giving({"AAPL": daily([90])})
    )
    assert later.positions() == {}


def test_yesterdays_equity_is_taken_at_yesterdays_close(file: Path) -> None:
    broker(file).submit(buy(quantity=10, bracket=False))
    later = broker(file, (100, 110, 105), days_later=2).account()
    assert (later.last_equity_usd, later.equity_usd) == (10_100, 10_050)


def test_a_stop_that_fills_today_is_todays_loss(file: Path) -> None:
    broker(file).submit(buy(quantity=10))
    later = broker(file, (100, 101, 90), days_later=2).account()
    assert (later.last_equity_usd, later.equity_usd) == (10_010, 9_900)


def test_a_stop_that_filled_yesterday_is_yesterdays_loss(file: Path) -> None:
    broker(file).submit(buy(quantity=10))
    later = broker(file, (100, 90, 95), days_later=2).account()
    assert (later.last_equity_usd, later.equity_usd) == (9_900, 9_900)


def test_a_stop_that_fills_at_the_close_is_that_days_loss(file: Path) -> None:
    broker(file).submit(buy(quantity=10))
    close = SLOT + timedelta(minutes=15)
    at_close = EmbeddedBroker(file, now=close, starting_cash_usd=1, series=giving({"AAPL": daily([90])}))
    assert at_close.positions() == {}
    assert broker(file, (90, 95), days_later=1).account().last_equity_usd == 9_900


def test_yesterdays_equity_does_not_change_within_a_day(file: Path) -> None:
    broker(file).submit(buy(quantity=10, bracket=False))
    assert broker(file, (110,)).account().last_equity_usd == 10_000


def test_a_holding_without_a_price_keeps_its_last_value(file: Path) -> None:
    broker(file).submit(buy(quantity=10, bracket=False))
    later = EmbeddedBroker(file, now=SLOT + DAY, starting_cash_usd=1, series=giving({}))
    assert later.account().equity_usd == 10_000


def test_a_dry_run_leaves_the_file_unchanged(file: Path) -> None:
    broker(file).submit(buy(quantity=10))
    before = file.read_bytes()
    later = EmbeddedBroker(
        file, now=SLOT + DAY, starting_cash_usd=1, series=giving({"AAPL": daily([100, 90])}), is_dry=True
    )
    assert later.positions() == {}, "the stop did not trigger"
    assert file.read_bytes() == before


def test_time_does_not_run_backwards(file: Path) -> None:
    broker(file, days_later=1).submit(buy())
    with pytest.raises(BrokerError, match="go back in time"):
        broker(file).account()


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"cash_usd": 1', '{"cash_usd": "x"}'])
def test_a_file_that_is_not_an_account_is_named(file: Path, text: str) -> None:
    file.write_text(text)
    with pytest.raises(BrokerError, match="is not an embedded broker's account"):
        broker(file).account()
    assert list(file.parent.iterdir()) == [file], "and no lock is left beside it"


@pytest.mark.parametrize("name", [".", "folder"])
def test_a_folder_is_no_account(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    (tmp_path / "folder").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BrokerError, match=rf"ACCOUNT_FILE={re.escape(name)} is not a file; set it to one"):
        broker(Path(name)).account()
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


def test_an_unwritable_path_is_named(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file, not a folder")
    with pytest.raises(BrokerError, match="ACCOUNT_FILE="):
        broker(tmp_path / "taken" / "account.json").account()


def test_the_file_is_json_that_a_person_can_read(file: Path) -> None:
    broker(file).submit(buy())
    assert json.loads(file.read_text())["positions"]["AAPL"]["quantity"] == 10


@pytest.mark.parametrize(
    ("moment", "is_open"),
    [
        ("2022-12-28T09:29-05:00", False),
        ("2022-12-28T09:30-05:00", True),
        ("2022-12-28T15:59-05:00", True),
        ("2022-12-28T16:00-05:00", False),
        ("2022-12-26T12:00-05:00", False),  # Christmas, observed
        ("2022-11-25T12:59-05:00", True),  # the day after Thanksgiving ends at 13:00
        ("2022-11-25T13:00-05:00", False),
        ("2022-12-31T12:00-05:00", False),  # a Saturday
        ("2022-07-06T13:30+00:00", True),  # summer time
        ("2022-12-06T13:30+00:00", False),  # winter time
    ],
)
def test_the_market_keeps_new_yorks_hours(file: Path, moment: str, is_open: bool) -> None:
    now = datetime.fromisoformat(moment)
    clock = EmbeddedBroker(file, now=now, starting_cash_usd=1, series=giving({})).clock()
    assert clock.is_open is is_open
    assert clock.next_open > now


def test_after_the_last_session_of_the_year_the_next_opening_is_in_january(file: Path) -> None:
    now = datetime.fromisoformat("2022-12-30T18:00-05:00")
    clock = EmbeddedBroker(file, now=now, starting_cash_usd=1, series=giving({})).clock()
    assert clock.next_open.date() == date(2023, 1, 3)


@given(st.lists(st.tuples(st.sampled_from(["AAPL", "MSFT"]), st.booleans(), st.floats(0.01, 200)), max_size=20))
def test_cash_and_holdings_never_fall_below_zero(
    tmp_path_factory: pytest.TempPathFactory, wishes: list[tuple[str, bool, float]]
) -> None:
    file = tmp_path_factory.mktemp("account") / "account.json"
    for number, (symbol, is_buy, quantity) in enumerate(wishes):
        make = buy(symbol, quantity, bracket=False) if is_buy else sell(symbol, quantity)
        order = Order(client_order_id=str(number), symbol=symbol, side=make.side, quantity=quantity, price_usd=100)
        with contextlib.suppress(OrderRejectedError):
            broker(file).submit(order)
        later = broker(file)
        assert later.account().cash_usd >= 0
        assert all(position.quantity > 0 for position in later.positions().values())
