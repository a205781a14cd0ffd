"""The embedded account while its price source restates its past: shares, stops and cash follow, the equity stays."""

import json
import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from tests.builders import buy, sell, settings
from trader.broker.base import OrderId, OrderRejectedError
from trader.broker.embedded import EmbeddedBroker
from trader.deadline import Deadline
from trader.journal.base import Run
from trader.model import NEW_YORK, BrokerError, Closes, Order, OrderStatus, OrderType, Side
from trader.prices.series import Series
from trader.schedule import sessions
from trader.stages.protection import protect
from trader.stages.settlement import find_differences

ALL_DAYS = [date(2022, 8, 1) + timedelta(days=each) for each in range(160)]
DAYS = [each for each in ALL_DAYS if sessions.session(each)]
"""The days of sessions in the tests, counted from 0."""

INDEX = pd.DatetimeIndex([pd.Timestamp(day, tz=NEW_YORK) for day in DAYS]).tz_convert(UTC)
"""The bars of those days."""

BEFORE = [1000.0 + (day % 3 - 1) for day in range(40)]
"""Calm closes of the days before each test's own."""

CASH_USD = 100_000.0


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "account.json"


def slot(day: int, hour: int = 15) -> datetime:
    """Return a quarter to an hour on one of the days, in New York."""
    return datetime.combine(DAYS[day], time(hour, 45), NEW_YORK)


def closes_of(prices: Sequence[float]) -> Closes:
    """Return the closes of the first days."""
    return pd.Series(list(prices), index=INDEX[: len(prices)], dtype=float)


@dataclass(frozen=True)
class Share:
    """What was paid for a share on each day, and what happened before the opening of some.

    `splits` are in new shares for each old one, `paid` in fractions of the close before, both by day.
    """

    prices: Sequence[float]
    splits: Mapping[int, float] = field(default_factory=dict)
    paid: Mapping[int, float] = field(default_factory=dict)

    def seen(self, day: int, *, known: int | None = None, places: int | None = None) -> Closes:
        """Return the closes up to a day, restated for what had happened by then, or only up to `known`."""
        closes = closes_of(self.prices[: day + 1])
        last = day if known is None else known
        for each in sorted(each for each in {*self.splits, *self.paid} if 1 <= each <= last):
            closes.iloc[:each] *= (1 - self.paid.get(each, 0.0)) / self.splits.get(each, 1.0)
        return closes if places is None else closes.round(places)


def account(
    file: Path,
    closes: Closes | Mapping[str, Closes],
    *,
    now: datetime | None = None,
    splits: Mapping[date, float] | None = None,
    is_dry: bool = False,
) -> EmbeddedBroker:
    """Open the account at the end of the last day of the closes of AAPL, or of each symbol."""
    given = closes if isinstance(closes, Mapping) else {"AAPL": closes}
    series = {symbol: Series(each, interval="1d", splits=splits) for symbol, each in given.items()}
    day = max(each.index[-1] for each in given.values()).astimezone(NEW_YORK).date()
    return EmbeddedBroker(
        file,
        now=now or slot(DAYS.index(day)),
        starting_cash_usd=CASH_USD,
        series=lambda symbols: {symbol: series[symbol] for symbol in symbols if symbol in series},
        is_dry=is_dry,
    )


def bought(file: Path, quantity: float = 10, price_usd: float = 1000, *, bracket: bool = True) -> Sequence[float]:
    """Buy AAPL on the day after the calm ones, and return the closes so far."""
    scale = price_usd / 1000
    prices = [*(each * scale for each in BEFORE), price_usd]
    account(file, closes_of(prices)).submit(buy(quantity=quantity, price_usd=price_usd, bracket=bracket))
    return prices


def holding(broker: EmbeddedBroker, symbol: str = "AAPL") -> tuple[float, float | None, float]:
    """Return the quantity, what was paid for a share, and its price to a hundredth of a cent."""
    held = broker.positions()[symbol]
    return held.quantity, held.average_price_usd, round(held.price_usd, 4)


def exits(broker: EmbeddedBroker) -> list[tuple[OrderType, float, float | None]]:
    """Return what ends a holding: the type, the quantity and the price."""
    return [(each.type, each.quantity, each.stop_price_usd or each.limit_price_usd) for each in broker.open_orders()]


# --- splits --------------------------------------------------------------------------------------------------------


def test_after_a_split_there_are_more_shares_at_a_lower_price(file: Path) -> None:
    prices = bought(file)
    later = account(file, closes_of([*(each / 10 for each in prices), 97.2]))
    assert holding(later) == (100, 100, 97.2)


def test_a_split_changes_no_money(file: Path) -> None:
    prices = bought(file)
    later = account(file, closes_of([*(each / 10 for each in prices), 100])).account()
    assert (later.equity_usd, later.last_equity_usd, later.cash_usd) == (100_000, 100_000, 90_000)


def test_after_a_split_the_day_has_its_own_loss_and_no_other(file: Path) -> None:
    prices = bought(file)
    later = account(file, closes_of([*(each / 10 for each in prices), 98])).account()
    assert (later.last_equity_usd, later.equity_usd) == (100_000, 99_800)


def test_stop_and_limit_follow_a_split(file: Path) -> None:
    prices = bought(file)  # with a stop at 970 and a limit at 1,400
    later = account(file, closes_of([*(each / 10 for each in prices), 98]))
    assert exits(later) == [(OrderType.STOP, 100, 97), (OrderType.LIMIT, 100, 140)]


def test_a_stop_is_rounded_down_to_a_tick_and_a_limit_up(file: Path) -> None:
    prices = bought(file, 10, 1000.33)  # with a stop at 970.3201 and a limit at 1,400.462
    later = account(file, closes_of([*(each / 10 for each in prices), 98]))
    assert [price for _, _, price in exits(later)] == [97.03, 140.05]


def test_a_limit_that_is_a_tick_after_a_split_stays_one(file: Path) -> None:
    prices = [*BEFORE, 1000]
    order = replace(buy(price_usd=1000), take_profit_usd=1400.4)  # a tenth of which is above 140.04 in binary
    account(file, closes_of(prices)).submit(order)
    later = account(file, closes_of([*(each / 10 for each in prices), 98]))
    assert exits(later)[1] == (OrderType.LIMIT, 100, 140.04)


@pytest.mark.parametrize("price_usd", [97.01, 100, 139.9])
def test_a_price_between_the_old_and_the_new_stop_triggers_nothing(file: Path, price_usd: float) -> None:
    prices = bought(file)
    later = account(file, closes_of([*(each / 10 for each in prices), price_usd]))
    assert holding(later)[0] == 100


def test_after_a_split_the_new_stop_sells_the_new_shares(file: Path) -> None:
    prices = bought(file)
    later = account(file, closes_of([*(each / 10 for each in prices), 96]))
    assert later.positions() == {}
    assert later.account().cash_usd == 90_000 + 100 * 96
    sale = later.orders_of(["AAPL"])[0]
    assert (sale.type, sale.filled_quantity, sale.filled_price_usd) == (OrderType.STOP, 100, 96)
    assert (sale.quantity, sale.price_usd, sale.stop_loss_usd) == (100, 100, 97)


def test_after_a_split_all_new_shares_can_be_sold(file: Path) -> None:
    prices = bought(file, bracket=False)
    later = account(file, closes_of([*(each / 10 for each in prices), 96]))
    later.submit(sell(quantity=100))
    assert later.account().cash_usd == 90_000 + 100 * 96


@pytest.mark.parametrize(
    ("shares", "quantity", "after", "fraction_usd"),
    [(1.5, 7, 10, 333.33), (1.25, 9, 11, 200), (1 / 8, 20, 2, 4000), (1 / 8, 4, 0, 4000)],
)
def test_a_fraction_of_a_share_is_paid_out(
    file: Path, shares: float, quantity: float, after: float, fraction_usd: float
) -> None:
    prices = bought(file, quantity)
    later = account(file, closes_of([each / shares for each in [*prices, 1000]]))
    assert sum(each.quantity for each in later.positions().values()) == after
    assert later.account().cash_usd == pytest.approx(CASH_USD - quantity * 1000 + fraction_usd)
    assert later.account().equity_usd == pytest.approx(CASH_USD, abs=0.01)


def test_a_bracket_is_for_whole_new_shares(file: Path) -> None:
    prices = bought(file, 7)
    later = account(file, closes_of([each / 1.5 for each in [*prices, 1000]]))
    assert [quantity for _, quantity, _ in exits(later)] == [10, 10]


def test_if_no_whole_share_is_left_neither_is_a_bracket(file: Path) -> None:
    prices = bought(file, 4)
    assert account(file, closes_of([each * 8 for each in [*prices, 1000]])).open_orders() == ()


def test_fractional_shares_stay_fractional(file: Path) -> None:
    prices = bought(file, 2.5, bracket=False)
    later = account(file, closes_of([each * 8 for each in [*prices, 1000]]))
    assert holding(later)[0] == 0.3125
    assert later.account().cash_usd == CASH_USD - 2500


@pytest.mark.parametrize("price_usd", [0.5, 4.0])
@pytest.mark.parametrize("shares", [2.0, 20.0, 1 / 20])
def test_a_file_that_rounds_prices_changes_no_money(file: Path, price_usd: float, shares: float) -> None:
    prices = bought(file, 2000, price_usd, bracket=False)
    rounded = closes_of([*prices, price_usd]) / shares
    later = account(file, rounded.round(4), now=slot(41))
    assert holding(later)[0] == 2000 * shares
    assert later.account().last_equity_usd == pytest.approx(CASH_USD, abs=0.5e-4 * 2000 * shares)


def test_a_split_within_a_day_is_followed_between_two_runs(file: Path) -> None:
    prices = bought(file)
    later = account(file, closes_of([each / 10 for each in prices]), now=slot(40) + timedelta(minutes=5))
    assert holding(later) == (100, 100, 100)
    assert exits(later) == [(OrderType.STOP, 100, 97), (OrderType.LIMIT, 100, 140)]


def test_a_split_is_followed_at_the_very_moment_of_the_last_run(file: Path) -> None:
    prices = bought(file)
    assert holding(account(file, closes_of([each / 10 for each in prices]))) == (100, 100, 100)


def test_each_symbol_has_its_own_split(file: Path) -> None:
    closes = closes_of([*BEFORE, 1000])
    before = account(file, {"AAPL": closes, "MSFT": closes / 2, "KO": closes / 4})
    for symbol, price_usd in (("AAPL", 1000), ("MSFT", 500), ("KO", 250)):
        before.submit(buy(symbol, 10, price_usd))
    closes = closes_of([*BEFORE, 1000, 1000])
    later = account(file, {"AAPL": closes / 10, "MSFT": closes / 2 * 0.94, "KO": closes / 4})
    assert [holding(later, symbol)[0] for symbol in ("AAPL", "MSFT", "KO")] == [100, 10, 10]
    assert later.account().cash_usd == CASH_USD - 17_500 + 300
    assert later.account().equity_usd == CASH_USD


def test_two_splits_between_two_runs_are_one(file: Path) -> None:
    prices = bought(file)
    later = account(file, closes_of([each / 6 for each in [*prices, 1000, 1000]]))
    assert holding(later)[0] == 60


# --- dividends -----------------------------------------------------------------------------------------------------


def test_a_dividend_is_cash_and_the_shares_stay(file: Path) -> None:
    prices = bought(file)
    later = account(file, closes_of([each * 0.94 for each in [*prices, 1000]]))
    assert holding(later) == (10, 1000, 940)
    assert later.account().cash_usd == 90_000 + 600


def test_a_dividend_changes_no_equity(file: Path) -> None:
    prices = bought(file)
    later = account(file, closes_of([each * 0.94 for each in [*prices, 1000]])).account()
    assert (later.equity_usd, later.last_equity_usd) == pytest.approx((100_000, 100_000), abs=0.01)


def test_a_dividend_is_no_deposit(file: Path) -> None:
    prices = bought(file)
    later = account(file, closes_of([each * 0.94 for each in [*prices, 1000]]))
    assert list(later.list_flows(slot(0))) == []
    assert later.account().flows_usd == 0


def test_stop_and_limit_are_lowered_by_a_dividend(file: Path) -> None:
    prices = bought(file)
    later = account(file, closes_of([*(each * 0.94 for each in prices), 950]))
    assert exits(later) == [(OrderType.STOP, 10, 911.8), (OrderType.LIMIT, 10, 1316)]


def test_a_split_and_a_dividend_between_two_runs_are_both_followed(file: Path) -> None:
    prices = bought(file)
    later = account(file, closes_of([each * 0.94 / 10 for each in [*prices, 1000]]))
    assert holding(later) == (100, 100, 94)
    assert later.account().cash_usd == 90_000 + 600
    assert later.account().equity_usd == pytest.approx(CASH_USD)


def test_a_dividend_that_the_source_takes_back_is_paid_back(file: Path) -> None:
    prices = bought(file)
    assert account(file, closes_of([each * 0.94 for each in [*prices, 1000]])).account().cash_usd == 90_600
    later = account(file, closes_of([*prices, 1000, 1000]))
    assert holding(later)[0] == 10
    assert later.account().cash_usd == 90_000


def test_a_dividend_taken_back_that_is_spent_costs_shares(file: Path) -> None:
    prices = bought(file, 100, bracket=False)  # for all cash
    later = account(file, closes_of([each * 1.06 for each in [*prices, 1000]])).account()
    assert later.cash_usd >= 0
    assert later.equity_usd == pytest.approx(CASH_USD, abs=0.01)


def test_shares_bought_on_the_day_of_a_dividend_do_not_get_it(file: Path) -> None:
    share = Share([*BEFORE, 940, 945], paid={40: 0.06})
    account(file, share.seen(40, known=39)).submit(buy(quantity=10, price_usd=940))
    later = account(file, share.seen(41))
    assert later.account().cash_usd == CASH_USD - 9_400


def test_shares_bought_before_a_dividend_that_the_source_restates_late_get_it(file: Path) -> None:
    share = Share([*BEFORE, 1000, 1000, 960, 961, 962], paid={42: 0.04})
    account(file, share.seen(40)).submit(buy(quantity=10, price_usd=1000, bracket=False))
    for day in (41, 42, 43):
        assert account(file, share.seen(day, known=41)).account().cash_usd == 90_000
    later = account(file, share.seen(44)).account()
    assert later.cash_usd == 90_000 + 384.4  # 4 % of the price of the last run, 961
    assert (later.last_equity_usd, later.equity_usd) == (99_994.4, 100_004.4)


def test_the_move_of_a_running_bar_is_no_dividend(file: Path) -> None:
    prices = bought(file)
    later = account(file, closes_of([*prices[:-1], 985, 990])).account()  # the day closed at 985
    assert (later.cash_usd, later.last_equity_usd, later.equity_usd) == (90_000, 99_850, 99_900)


def test_one_close_that_the_source_corrects_is_no_dividend(file: Path) -> None:
    prices = list(bought(file))
    prices[-2] *= 0.99
    assert account(file, closes_of([*prices, 1000])).account().cash_usd == 90_000


def test_short_bars_are_followed_as_well(file: Path) -> None:
    """The shares are bought in the last bar of a day, and the dividend comes overnight."""
    times = [slot(day, 9) + timedelta(minutes=15 * bar) for day in (40, 41) for bar in range(25)]
    closes = pd.Series([1000.0 + bar % 3 for bar in range(50)], index=pd.DatetimeIndex(times))

    def at(bars: int, factor: float) -> EmbeddedBroker:
        seen = closes.iloc[:bars].copy()
        seen.iloc[:25] *= factor
        series = Series(seen, interval="15m")
        now = times[bars - 1] + timedelta(minutes=5)
        return EmbeddedBroker(file, now=now, starting_cash_usd=CASH_USD, series=lambda _: {"AAPL": series})

    at(25, 1).submit(buy(quantity=10, price_usd=1000))
    assert at(26, 0.99).account().cash_usd == CASH_USD - 10_000 + 100
    assert at(50, 0.99).account().cash_usd == CASH_USD - 10_000 + 100


# --- splits that nobody adjusted for ----------------------------------------------------------------------------------


def test_a_split_inside_the_closes_is_followed_once_it_is_confirmed(file: Path) -> None:
    prices = bought(file)
    for number in range(1, 5):
        waiting = account(file, closes_of([*prices, *[100.5] * number]))
        assert holding(waiting) == (10, 1000, 1000)
        assert waiting.account().equity_usd == CASH_USD
    later = account(file, closes_of([*prices, *[100.5] * 5]))
    assert holding(later) == (100, 100, 100.5)
    assert exits(later) == [(OrderType.STOP, 100, 97), (OrderType.LIMIT, 100, 140)]


def test_a_split_that_the_source_reports_is_followed_at_once(file: Path) -> None:
    prices = bought(file)
    later = account(file, closes_of([*prices, 100.5]), splits={DAYS[41]: 10.0})
    assert holding(later) == (100, 100, 100.5)
    assert later.account().last_equity_usd == CASH_USD


def test_a_split_inside_the_closes_is_followed_only_once(file: Path) -> None:
    prices = bought(file)
    for number in range(5, 20):
        later = account(file, closes_of([*prices, *[100.5] * number]))
        assert holding(later)[0] == 100


def test_a_split_is_not_followed_again_when_the_source_adjusts_for_it(file: Path) -> None:
    prices = bought(file)
    reported = {DAYS[41]: 10.0}
    for days in (1, 2, 3):
        account(file, closes_of([*prices, *[100.5] * days]), splits=reported).account()
        adjusted = closes_of([*(each / 10 for each in prices), *[100.5] * (days + 1)])
        assert holding(account(file, adjusted, splits=reported, is_dry=True))[0] == 100


def test_a_stop_is_triggered_before_a_split_in_old_shares_and_after_it_in_new_ones(file: Path) -> None:
    prices = bought(file)
    before = account(file, closes_of([*prices, 960, 96]), splits={DAYS[42]: 10.0}, is_dry=True).account()
    after = account(file, closes_of([*prices, 990, 96]), splits={DAYS[42]: 10.0}, is_dry=True).account()
    assert (before.cash_usd, after.cash_usd) == (90_000 + 10 * 960, 90_000 + 100 * 96)


def test_after_a_pause_bars_before_a_split_are_compared_with_the_old_limit_only(file: Path) -> None:
    prices = bought(file)
    later = account(file, closes_of([*prices, 990, 98, 99]), splits={DAYS[42]: 10.0})
    assert holding(later) == (100, 100, 99)


def test_a_split_before_the_purchase_does_not_concern_the_shares(file: Path) -> None:
    prices = [*BEFORE, *[100.5] * 8]
    account(file, closes_of(prices)).submit(buy(quantity=10, price_usd=100.5))
    assert holding(account(file, closes_of([*prices, 101])))[0] == 10


def test_a_wrong_last_price_values_nothing_and_triggers_no_stop(file: Path) -> None:
    prices = bought(file)
    later = account(file, closes_of([*prices, 0.01]))
    assert holding(later) == (10, 1000, 1000)


# --- units that are not known -----------------------------------------------------------------------------------------

PAUSE = [*BEFORE[:30], *[60.0] * 10]


def paused(file: Path, prices: Sequence[float]) -> EmbeddedBroker:
    """Open the account after so long a pause that the source gives other bars."""
    return account(file, closes_of([1.0] * 50 + list(prices)).iloc[50:])


def test_after_a_long_pause_shares_at_a_near_price_are_the_same(file: Path) -> None:
    bought(file, bracket=False)
    assert holding(paused(file, [1100, 1105])) == (10, 1000, 1105)


def test_after_a_long_pause_shares_at_another_price_keep_their_value(file: Path) -> None:
    bought(file)
    later = paused(file, [100, 101])
    assert holding(later) == (10, 1000, 1000)
    assert later.account().equity_usd == CASH_USD


def test_shares_in_an_unknown_unit_are_not_traded(file: Path) -> None:
    bought(file, bracket=False)
    with pytest.raises(OrderRejectedError, match=r"the price source: they were valued at the close of .*, 1,000"):
        paused(file, [100, 101]).submit(sell(quantity=10))


def test_shares_in_an_unknown_unit_are_named_as_unprotected_with_the_reason(file: Path) -> None:
    enter(file)
    run = guard(paused(file, [100, 101]))
    assert "may not be in the unit of the price source" in run.unprotected["AAPL"].reason
    assert (run.unprotected["AAPL"].is_ours, run.stops) == (True, [])


def test_the_bracket_of_shares_in_an_unknown_unit_is_kept(file: Path) -> None:
    prices, _ = enter(file)
    paused(file, [100, 101]).account()
    again = closes_of([*prices, *[1000] * 14])  # the source has the bars from before again
    assert exits(account(file, again)) == [(OrderType.STOP, 10, 970), (OrderType.LIMIT, 10, 1400)]


def test_shares_in_an_unknown_unit_stay_so_until_someone_looks(file: Path) -> None:
    bought(file)
    for _ in range(2):
        assert holding(paused(file, [100, 101]))[2] == 1000


def test_a_warning_names_shares_in_an_unknown_unit_and_what_to_do(file: Path, caplog: pytest.LogCaptureFixture) -> None:
    bought(file)
    later = paused(file, [100, 101])
    later.account()
    later.positions()
    (record,) = [each for each in caplog.records if each.levelno == logging.WARNING]
    assert record.__dict__["symbol"] == "AAPL"
    assert f"Correct them in ACCOUNT_FILE={file}" in record.__dict__["detail"]


def test_corrected_shares_are_followed_again(file: Path) -> None:
    bought(file, bracket=False)
    paused(file, [100, 101]).account()
    book = json.loads(file.read_text())
    book["positions"]["AAPL"] |= {"quantity": 100, "average_price_usd": 100, "price_usd": 100}
    del book["quotes"]["AAPL"]
    file.write_text(json.dumps(book))
    assert holding(paused(file, [100, 101])) == (100, 100, 101)


def test_a_change_of_unit_without_a_known_ratio_leaves_the_shares_as_they_are(file: Path) -> None:
    prices = bought(file)
    later = account(file, closes_of([*prices, *[37.0 * 1.001**day for day in range(6)]]))
    assert holding(later) == (10, 1000, 1000)
    with pytest.raises(OrderRejectedError, match="its closes change their unit on 2022-"):
        later.submit(sell(quantity=10))


def test_a_source_with_older_bars_than_before_changes_nothing(file: Path) -> None:
    prices = bought(file)
    account(file, closes_of([*prices, 990, 1010])).account()
    later = account(file, closes_of([*prices, 990]), now=slot(43))
    assert holding(later)[2] == 1010


def test_a_source_with_older_bars_that_it_has_restated_is_followed_once(file: Path) -> None:
    prices = bought(file)
    account(file, closes_of([*prices, 990, 1010])).account()
    for _ in range(2):
        later = account(file, closes_of([each / 10 for each in [*prices, 990]]), now=slot(43))
        assert holding(later) == (100, 100, 101)


# --- the file ---------------------------------------------------------------------------------------------------------


def make_old(file: Path) -> None:
    """Make the file one of the version before quotes were kept."""
    book = json.loads(file.read_text())
    del book["quotes"], book["restatements"]
    file.write_text(json.dumps(book))


def test_an_account_of_the_version_before_goes_on(file: Path) -> None:
    prices = bought(file)
    make_old(file)
    assert holding(account(file, closes_of([*prices, 1010]))) == (10, 1000, 1010)
    later = account(file, closes_of([each * 0.94 for each in [*prices, 1010, 1010]]))
    assert later.account().cash_usd == 90_000 + 606


def test_an_account_of_the_version_before_is_compared_where_it_was_last_used(file: Path) -> None:
    prices = bought(file, bracket=False)
    make_old(file)
    later = account(file, closes_of([*(each / 10 for each in prices), 120, 140]))
    assert holding(later) == (100, 100, 140)


def test_an_account_of_the_version_before_follows_a_large_split_at_once(file: Path) -> None:
    prices = bought(file)
    make_old(file)
    later = account(file, closes_of([*(each / 10 for each in prices), 98]))
    assert holding(later) == (100, 100, 98)


def test_a_dry_run_sees_the_restated_account_and_leaves_the_file_unchanged(
    file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    prices = bought(file)
    before = file.read_bytes()
    with caplog.at_level(logging.INFO):
        later = account(file, closes_of([*(each / 10 for each in prices), 98]), is_dry=True)
        assert [holding(later) for _ in range(2)] == [(100, 100, 98)] * 2
    assert file.read_bytes() == before
    assert caplog.records == []


def test_the_same_source_is_followed_once_however_often_the_account_is_opened(file: Path) -> None:
    prices = bought(file)
    closes = closes_of([*(each * 0.94 / 10 for each in prices), 98])
    for _ in range(3):
        later = account(file, closes)
        assert holding(later)[0] == 100
        assert later.account().cash_usd == 90_600


def test_a_run_that_is_cut_off_leaves_the_account_as_it_was(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prices = bought(file)
    before = file.read_bytes()
    closes = closes_of([*(each * 0.94 / 10 for each in prices), 98])
    with monkeypatch.context() as patched:
        patched.setattr(Path, "replace", _fail)
        with pytest.raises(BrokerError):
            account(file, closes).account()
    assert file.read_bytes() == before
    assert account(file, closes).account().cash_usd == 90_600


def _fail(*_: object) -> None:
    raise OSError("the disk is full")


def test_what_was_done_is_kept_in_the_file(file: Path) -> None:
    prices = bought(file, 7)
    account(file, closes_of([each * 0.94 / 1.5 for each in [*prices, 1000]])).account()
    (kept,) = json.loads(file.read_text())["restatements"]
    assert kept == {
        "at": slot(41).isoformat(),
        "symbol": "AAPL",
        "ratio": 1.5,
        "quantity_before": 7,
        "quantity_after": 10,
        "dividend_usd": 420,
        "fraction_usd": 313.33,
        "is_doubtful": False,
    }


def test_what_was_done_is_logged_once(file: Path, caplog: pytest.LogCaptureFixture) -> None:
    prices = bought(file, 7)
    later = account(file, closes_of([each * 0.94 / 1.5 for each in [*prices, 1000]]))
    with caplog.at_level(logging.INFO):
        later.account()
        later.positions()
    names = ("symbol", "quantity", "cash_usd")
    assert [(each.getMessage(), *(each.__dict__[name] for name in names)) for each in caplog.records] == [
        ("dividend paid", "AAPL", 7, 420),
        ("shares restated", "AAPL", 10, 313.33),
    ]
    assert caplog.records[1].__dict__["split"] == "3:2"


def test_a_ratio_that_is_no_usual_split_is_a_warning(file: Path, caplog: pytest.LogCaptureFixture) -> None:
    prices = bought(file)
    later = account(file, closes_of([each * 1.37 for each in [*prices, 1000]]))
    assert later.account().equity_usd == pytest.approx(CASH_USD, abs=0.01)
    assert [each.levelno for each in caplog.records] == [logging.WARNING]


@pytest.mark.parametrize("factors", [(1, 0.96), (8, 1)], ids=["sold by its stop", "a fraction paid out"])
def test_nothing_is_kept_of_shares_that_are_gone(file: Path, factors: tuple[float, float]) -> None:
    prices = bought(file, 4)
    account(file, closes_of([each * factors[0] for each in [*prices, 1000 * factors[1]]])).account()
    book = json.loads(file.read_text())
    assert (book["positions"], book["brackets"], book["quotes"]) == ({}, {}, {})


def test_shares_bought_again_have_nothing_to_do_with_those_before(file: Path) -> None:
    share = Share([*BEFORE, 1000, 1000, 940, 945], paid={42: 0.06})
    account(file, share.seen(40)).submit(buy(quantity=10, price_usd=1000, bracket=False))
    account(file, share.seen(41)).submit(sell(quantity=10))
    again = replace(buy(quantity=10, price_usd=940), client_order_id="again")
    account(file, share.seen(42, known=41)).submit(again)
    assert account(file, share.seen(43)).account().cash_usd == CASH_USD - 9_400


@pytest.mark.parametrize("closes", [[], [{"at": "2022-12-28T05:00:00+00:00", "price_usd": 0}]])
def test_quotes_that_cannot_be_are_refused(file: Path, closes: list[object]) -> None:
    bought(file)
    book = json.loads(file.read_text())
    book["quotes"]["AAPL"]["closes"] = closes
    file.write_text(json.dumps(book))
    with pytest.raises(BrokerError, match="the quotes of 'AAPL' are invalid"):
        account(file, closes_of([*BEFORE, 1000])).account()


# --- the stages of a run ----------------------------------------------------------------------------------------------


def enter(file: Path) -> tuple[Sequence[float], Order]:
    """Let the bot buy ten shares, and return the closes so far and the order."""
    prices = [*BEFORE, 1000.0]
    name = str(OrderId("trend", slot(40), "AAPL", Side.BUY))
    return prices, account(file, closes_of(prices)).submit(replace(buy(price_usd=1000), client_order_id=name))


def guard(broker: EmbeddedBroker) -> Run:
    """Let a run protect the holdings."""
    run = Run(settings=settings(), slot=slot(41), now=slot(41))
    protect(run, broker, Deadline.never(), held_back="", is_open=True)
    return run


@pytest.mark.parametrize("factor", [0.1, 1 / 1.5, 8, 0.94, 0.094])
def test_restated_shares_are_protected_by_their_restated_stop(file: Path, factor: float) -> None:
    prices, _ = enter(file)
    later = account(file, closes_of([each * factor for each in [*prices, 1000]]))
    before = later.open_orders()
    run = guard(later)
    assert (run.stops, run.unprotected) == ([], {})
    assert later.open_orders() == before


@pytest.mark.parametrize(("factor", "stop"), [(0.1, (100, 97)), (1 / 1.5, (15, 646.67)), (8, (1, 7760))])
def test_a_lost_stop_comes_back_for_the_restated_shares(file: Path, factor: float, stop: tuple[float, float]) -> None:
    prices, entry = enter(file)
    account(file, closes_of(prices)).cancel(replace(entry, order_id=f"{entry.order_id}-stop-loss"))
    later = account(file, closes_of([each * factor for each in [*prices, 1000]]))
    guard(later)
    assert exits(later) == [(OrderType.STOP, *stop)]


def test_a_stop_placed_by_itself_follows_a_split_in_the_list_of_orders_too(file: Path) -> None:
    prices, entry = enter(file)
    account(file, closes_of(prices)).cancel(replace(entry, order_id=f"{entry.order_id}-stop-loss"))
    guard(account(file, closes_of([*prices, 1000])))
    later = account(file, closes_of([each / 10 for each in [*prices, 1000, 1000]]))
    assert exits(later) == [(OrderType.STOP, 100, 97)]
    stop = later.orders_of(["AAPL"])[0]
    assert (stop.status, stop.quantity, stop.stop_loss_usd) == (OrderStatus.NEW, 100, 97)


def test_the_order_of_the_purchase_stays_as_it_was_filled(file: Path) -> None:
    prices, entry = enter(file)
    later = account(file, closes_of([each / 10 for each in [*prices, 1000]]))
    later.account()
    assert later.find(entry) == entry
    assert find_differences([entry], later.list_orders(slot(40), slot(41))) == []


# --- any source -------------------------------------------------------------------------------------------------------

EVENTS = st.dictionaries(
    st.integers(41, 47),
    st.sampled_from([(2.0, 0.0), (10.0, 0.0), (1.5, 0.0), (1 / 8, 0.0), (1.0, 0.06), (1.0, 0.004), (10.0, 0.06)]),
    max_size=3,
)
"""The days of events, in new shares for each old one and the fraction of the price that is paid out."""

MOVES = st.lists(st.floats(-0.05, 0.05), min_size=7, max_size=7)


def real_share(moves: Sequence[float], events: Mapping[int, tuple[float, float]]) -> Share:
    """Return a share that moves by these fractions after the calm days, beside its splits and dividends."""
    prices = [*BEFORE, 1000.0]
    for day, move in enumerate(moves, start=len(prices)):
        shares, paid = events.get(day, (1.0, 0.0))
        prices.append(prices[-1] * (1 + move) * (1 - paid) / shares)
    return Share(
        prices,
        {day: shares for day, (shares, _) in events.items()},
        {day: paid for day, (_, paid) in events.items()},
    )


@given(moves=MOVES, events=EVENTS, quantity=st.integers(1, 60))
def test_the_equity_is_that_of_real_shares_whatever_the_source_restates(
    tmp_path_factory: pytest.TempPathFactory,
    moves: list[float],
    events: dict[int, tuple[float, float]],
    quantity: int,
) -> None:
    file = tmp_path_factory.mktemp("account") / "account.json"
    share = real_share(moves, events)
    account(file, share.seen(40)).submit(buy(quantity=quantity, price_usd=1000, bracket=False))
    held, cash_usd, equities_usd = float(quantity), CASH_USD - quantity * 1000, [CASH_USD]
    for day in range(41, 48):
        shares, paid = events.get(day, (1.0, 0.0))
        before_usd = share.prices[day - 1]
        whole = float(math.floor(round(held * shares, 9)))
        cash_usd += held * paid * before_usd + (held * shares - whole) * before_usd * (1 - paid) / shares
        held = whole
        equities_usd.append(cash_usd + held * share.prices[day])
        later = account(file, share.seen(day)).account()
        cents = 0.01 * (1 + len(events))
        assert later.cash_usd == pytest.approx(cash_usd, abs=cents)
        assert [later.last_equity_usd, later.equity_usd] == pytest.approx(equities_usd[-2:], abs=cents)


@given(moves=MOVES, events=EVENTS, runs=st.sets(st.integers(41, 46)))
def test_a_bracket_ends_the_shares_on_the_day_on_which_real_ones_reach_it(
    tmp_path_factory: pytest.TempPathFactory,
    moves: list[float],
    events: dict[int, tuple[float, float]],
    runs: set[int],
) -> None:
    """The account is opened on some of the days only; the stop is at 97 % of what was paid, the limit at 104 %."""
    file = tmp_path_factory.mktemp("account") / "account.json"
    share = real_share(moves, events)
    final = share.seen(47)
    gains = final.iloc[41:] / final.iloc[40]
    assume(all(abs(gain / bound - 1) > 2e-3 for gain in gains for bound in (0.97, 1.04)))  # further than three ticks
    assume(min(share.prices) > 20 and max(share.prices) < 100_000)
    order = replace(buy(quantity=64, price_usd=1000), take_profit_usd=1040.0)
    account(file, share.seen(40)).submit(order)
    for day in sorted({*runs, 47}):
        later = account(file, share.seen(day))
        assert bool(later.positions()) == all(0.97 < gain < 1.04 for gain in gains[: day - 40])
