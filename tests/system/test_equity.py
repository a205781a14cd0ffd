"""The highest equity on record and the limits on losses, over several days with deposits and withdrawals at Alpaca."""

import json
import logging
from collections.abc import Iterator
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal

import pytest

from scripts.testkit.alpaca import AlpacaFake
from tests.several_days import SeveralDays, at
from trader.broker.base import UnexpectedResponseError
from trader.codec import encode
from trader.journal.base import JournalError
from trader.journal.stores import Folder
from trader.model import Report

BELOW = 104.0  # five percent below the trend line
ABOVE = 116.0  # five percent above it


@pytest.fixture
def fake() -> Iterator[AlpacaFake]:
    with AlpacaFake(prices={"A": 110.0, "Z": 100.0}) as fake:
        yield fake


def strategy(folder: Path, fake: AlpacaFake, daily_loss: float = 0.1) -> SeveralDays:
    """Return a strategy whose limit for a day is usually too wide to matter."""
    return SeveralDays(folder, fake, MAX_DRAWDOWN_FRACTION=0.15, MAX_DAILY_LOSS_FRACTION=daily_loss)


def kept(folder: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((folder / "journal" / "equity" / "trend" / "peak.json").read_text())
    return loaded


def codes(report: Report) -> set[str]:
    return {denial["code"] for denial in report["denials"]}


def lose(fake: AlpacaFake, usd: float) -> None:
    """Lose money on a holding of somebody else, at a price that the bot does not ask for."""
    fake.cash -= int(usd)


def seen_usd(folder: Path) -> float | None:
    """Return the highest equity that the last run saw."""
    record = max((folder / "journal" / "runs").rglob("*.json"))
    value: float | None = json.loads(record.read_text())["observation"]["peak_equity_usd"]
    return value


# --- the record ---


def test_the_highest_equity_outlives_the_fall(fake: AlpacaFake, tmp_path: Path) -> None:
    bot = strategy(tmp_path, fake)
    bot.run(at(0), 110)
    lose(fake, 20_000)
    fake.close_day()
    bot.run(at(1), 110)
    assert (kept(tmp_path)["equity_usd"], seen_usd(tmp_path)) == (100_000, 100_000)


def test_a_fall_below_the_limit_stops_buys_until_the_equity_is_back(fake: AlpacaFake, tmp_path: Path) -> None:
    bot = strategy(tmp_path, fake)
    bot.run(at(0), 110)
    lose(fake, 15_000)
    fake.close_day()
    assert codes(bot.run(at(1), BELOW)) == {"DRAWDOWN_STOP"}
    lose(fake, -1_000)
    fake.close_day()
    assert bot.run(at(2), BELOW)["status"] == "TRADED"


def test_the_peak_is_written_only_if_something_has_changed(
    fake: AlpacaFake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[str] = []
    write = Folder.write

    def count(folder: Folder, name: str, text: str) -> None:
        written.append(name)
        write(folder, name, text)

    monkeypatch.setattr(Folder, "write", count)
    bot = strategy(tmp_path, fake)
    for minute in (0, 15, 30):
        bot.run(at(0, 14, minute), 110)
    assert written.count("equity/trend/peak.json") == 1


def test_only_the_first_run_of_a_day_asks_for_the_flows_of_earlier_days(fake: AlpacaFake, tmp_path: Path) -> None:
    bot = strategy(tmp_path, fake)
    for day in (0, 1):
        for minute in (0, 15, 30):
            bot.run(at(day, 14, minute), 110)
        fake.close_day()
    assert len(fake.asked("GET", "/v2/account/activities")) == 1


def test_a_dry_run_sees_the_peak_and_writes_nothing(fake: AlpacaFake, tmp_path: Path) -> None:
    bot = strategy(tmp_path, fake)
    bot.run(at(0), 110)
    fake.cash += 5_000
    bot.run(at(1), 110, MODE="dry-run")
    assert (kept(tmp_path)["equity_usd"], seen_usd(tmp_path)) == (100_000, 105_000)


def test_another_account_has_a_peak_of_its_own(fake: AlpacaFake, tmp_path: Path) -> None:
    strategy(tmp_path, fake).run(at(0), 110)
    with AlpacaFake(prices={"A": 110.0}, cash_usd=5_000) as other:
        assert codes(strategy(tmp_path, other).run(at(1), BELOW)) == set()


def damage(folder: Path, kind: str) -> bytes:
    """Damage the highest equity on record; return what its file contains then."""
    file = folder / "journal" / "equity" / "trend" / "peak.json"
    later = {**kept(folder), "as_of": at(9).isoformat()}
    content = {"bytes": b"\xff{", "empty": b"", "null": b"null", "later": json.dumps(later).encode()}[kind]
    file.write_bytes(content)
    return content


@pytest.mark.parametrize("kind", ["bytes", "empty", "null", "later"])
def test_without_a_limit_a_damaged_peak_is_a_warning_and_begins_anew(
    fake: AlpacaFake, tmp_path: Path, caplog: pytest.LogCaptureFixture, kind: str
) -> None:
    bot = strategy(tmp_path, fake)
    bot.run(at(0), 110)
    damage(tmp_path, kind)
    lose(fake, 20_000)
    fake.close_day()
    report = bot.run(at(1), BELOW, MAX_DRAWDOWN_FRACTION=0)
    assert (report["status"], kept(tmp_path)["equity_usd"]) == ("TRADED", 80_000)
    assert [each.levelno for each in caplog.records if "highest equity" in each.message] == [logging.WARNING]


@pytest.mark.parametrize("kind", ["bytes", "empty", "null", "later"])
def test_with_a_limit_a_damaged_peak_stops_buys_and_is_left_as_it_is(
    fake: AlpacaFake, tmp_path: Path, caplog: pytest.LogCaptureFixture, kind: str
) -> None:
    bot = strategy(tmp_path, fake)
    bot.run(at(0), 110)
    content = damage(tmp_path, kind)
    fake.close_day()
    report = bot.run(at(1), BELOW)
    assert (report["status"], fake.orders, seen_usd(tmp_path)) == ("EQUITY_UNKNOWN", [], None)
    assert "delete it" in report["denials"][0]["detail"]
    assert "equity/trend/peak.json" in report["denials"][0]["detail"]
    assert (tmp_path / "journal" / "equity" / "trend" / "peak.json").read_bytes() == content
    assert [each.levelno for each in caplog.records if "highest equity" in each.message] == [logging.ERROR]


def test_after_a_damaged_peak_is_deleted_the_bot_goes_on(fake: AlpacaFake, tmp_path: Path) -> None:
    bot = strategy(tmp_path, fake)
    bot.run(at(0), 110)
    damage(tmp_path, "bytes")
    bot.run(at(1, 10), BELOW)
    (tmp_path / "journal" / "equity" / "trend" / "peak.json").unlink()
    assert bot.run(at(1), BELOW)["status"] == "TRADED"


def test_a_damaged_peak_prevents_no_sale(fake: AlpacaFake, tmp_path: Path) -> None:
    bot = strategy(tmp_path, fake)
    bot.run(at(0), BELOW)
    damage(tmp_path, "bytes")
    fake.close_day()
    assert bot.run(at(1), ABOVE)["investments"]["A"] < 0


def test_a_peak_that_cannot_be_written_stops_the_run_before_its_orders(fake: AlpacaFake, tmp_path: Path) -> None:
    (tmp_path / "journal").mkdir()
    (tmp_path / "journal" / "equity").write_text("a file where the folder should be")
    with pytest.raises(JournalError, match="cannot be used"):
        strategy(tmp_path, fake).run(at(0), BELOW)
    assert fake.orders == []


# --- deposits and withdrawals ---


@pytest.mark.parametrize("usd", [5_000, 100_000, -40_000])
def test_a_flow_during_the_day_neither_hides_nor_makes_a_drawdown(fake: AlpacaFake, tmp_path: Path, usd: float) -> None:
    bot = strategy(tmp_path, fake)
    bot.run(at(0, 10), 110)
    lose(fake, 15_000)
    fake.close_day()
    fake.now = at(1, 10)
    fake.deposit(usd)
    assert codes(bot.run(at(1), BELOW)) == {"DRAWDOWN_STOP"}
    lose(fake, -1_000)
    fake.close_day()
    assert bot.run(at(2), BELOW)["status"] == "TRADED"


@pytest.mark.parametrize("usd", [5_000, 100_000, -40_000])
def test_a_flow_after_the_last_run_of_a_day_is_found_on_the_next(fake: AlpacaFake, tmp_path: Path, usd: float) -> None:
    bot = strategy(tmp_path, fake)
    bot.run(at(0), 110)
    lose(fake, 15_000)
    fake.now = at(0, 17)
    fake.deposit(usd)
    fake.close_day()
    assert codes(bot.run(at(1), BELOW)) == {"DRAWDOWN_STOP"}
    assert seen_usd(tmp_path) == pytest.approx(100_000 * (85_000 + usd) / 85_000)


def test_flows_on_several_days_are_each_counted_once(fake: AlpacaFake, tmp_path: Path) -> None:
    bot = strategy(tmp_path, fake)
    for day in range(3):
        bot.run(at(day, 10), 110)
        fake.now = at(day, 12)
        fake.deposit(10_000)
        bot.run(at(day, 14), 110)
        fake.now = at(day, 17)
        fake.deposit(-5_000)
        fake.close_day()
    bot.run(at(3), 110)
    assert (seen_usd(tmp_path), float(fake.equity)) == (115_000, 115_000)


@pytest.mark.parametrize("counts_from", ["close", "midnight"])
@pytest.mark.parametrize("usd", [50_000, -40_000])
@pytest.mark.parametrize("hours", [1, 20, 62.5], ids=["Friday evening", "Saturday", "Monday before the opening"])
def test_a_flow_on_a_weekend_counts_once_wherever_the_account_begins_to_count(
    fake: AlpacaFake, tmp_path: Path, counts_from: Literal["close", "midnight"], usd: float, hours: float
) -> None:
    fake.counts_from = counts_from
    bot = strategy(tmp_path, fake)
    bot.run(at(4), 110)
    fake.now = at(4, 16)
    fake.close_day()
    fake.now = at(4, 16) + timedelta(hours=hours)
    fake.deposit(usd)
    bot.run(at(5, 10), 110)
    fake.now = at(5, 12)
    fake.deposit(10_000)
    for minute in (0, 15):
        bot.run(at(5, 14, minute), 110)
        assert seen_usd(tmp_path) == 110_000 + usd


def test_a_withdrawal_on_a_weekend_does_not_hide_the_loss_that_follows(fake: AlpacaFake, tmp_path: Path) -> None:
    bot = strategy(tmp_path, fake, daily_loss=0.5)
    bot.run(at(4), 110)
    fake.now = at(4, 16)
    fake.close_day()
    fake.now = at(4, 20)
    fake.deposit(-40_000)
    lose(fake, 9_500)  # more than 15 percent of 60,000, but not of 100,000
    assert codes(bot.run(at(5), BELOW)) == {"DRAWDOWN_STOP"}


def test_a_flow_while_the_run_is_under_way_counts_once(fake: AlpacaFake, tmp_path: Path) -> None:
    bot = strategy(tmp_path, fake)
    bot.run(at(0), 110)
    fake.close_day()
    fake.activities.note(at(1, 15, 46), "CSD", Decimal(10_000))  # after the look at the account
    bot.run(at(1), 110)
    assert seen_usd(tmp_path) == 100_000


def fail_activities(fake: AlpacaFake, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    """Let requests for the account's activities fail, or answer nonsense."""
    if kind == "refused":
        fake.fault("GET", "/v2/account/activities", "422", times=9)
        return
    payload = {"object": {"x": 1}, "broken record": [{"id": "a"}], "no time": [{"id": "a", "net_amount": "1"}]}[kind]
    monkeypatch.setattr(AlpacaFake, "_activities_json", lambda *_: payload)


NONSENSE = ["refused", "object", "broken record", "no time"]


@pytest.mark.parametrize("kind", NONSENSE)
def test_with_a_limit_nothing_is_bought_while_the_flows_are_not_known(
    fake: AlpacaFake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, kind: str
) -> None:
    bot = strategy(tmp_path, fake)
    bot.run(at(0), 110)
    fake.close_day()
    with monkeypatch.context() as patch:
        fail_activities(fake, patch, kind)
        report = bot.run(at(1, 10), BELOW)
    assert (report["status"], fake.orders, seen_usd(tmp_path)) == ("EQUITY_UNKNOWN", [], None)
    assert "the next run asks again" in report["denials"][0]["detail"]
    said = [each.levelno for each in caplog.records if "since the last run are not known" in each.message]
    assert (said, kept(tmp_path)["as_of"]) == ([logging.ERROR], encode(at(0)))


@pytest.mark.parametrize("kind", NONSENSE)
def test_without_a_limit_the_bot_goes_on_while_the_flows_are_not_known(
    fake: AlpacaFake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, kind: str
) -> None:
    bot = strategy(tmp_path, fake)
    bot.run(at(0), 110)
    fake.close_day()
    fail_activities(fake, monkeypatch, kind)
    assert bot.run(at(1, 10), BELOW, MAX_DRAWDOWN_FRACTION=0)["status"] == "TRADED"
    said = [each.levelno for each in caplog.records if "since the last run are not known" in each.message]
    assert (said, kept(tmp_path)["as_of"]) == ([logging.WARNING], encode(at(0)))


def test_flows_that_could_not_be_read_are_asked_for_again(fake: AlpacaFake, tmp_path: Path) -> None:
    bot = strategy(tmp_path, fake)
    bot.run(at(0), 110)
    fake.now = at(0, 17)
    fake.deposit(-40_000)
    fake.close_day()
    fake.fault("GET", "/v2/account/activities", "422")
    bot.run(at(1, 10), 110)
    bot.run(at(1), 110)
    assert kept(tmp_path)["equity_usd"] == 60_000


def test_flows_that_are_not_known_prevent_no_sale(
    fake: AlpacaFake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bot = strategy(tmp_path, fake)
    bot.run(at(0), BELOW)
    fake.close_day()
    fail_activities(fake, monkeypatch, "object")
    fake.account_overrides = {"intraday_adjustments": None}
    assert bot.run(at(1), ABOVE)["investments"]["A"] < 0


# --- an account that does not count them ---


def forget_count(fake: AlpacaFake, kind: str) -> None:
    """Let the account answer without its count of deposits and withdrawals."""
    if kind == "missing":
        fake.fault("GET", "/v2/account", "missing-field", times=9, field="intraday_adjustments")
    else:
        fake.account_overrides = {"intraday_adjustments": {"null": None, "empty": ""}[kind]}


UNCOUNTED = ["missing", "null", "empty"]


@pytest.mark.parametrize("kind", UNCOUNTED)
def test_without_a_count_the_activities_show_the_deposit_of_a_losing_day(
    fake: AlpacaFake, tmp_path: Path, kind: str
) -> None:
    bot = strategy(tmp_path, fake, daily_loss=0.03)
    lose(fake, 6_000)
    fake.now = at(0, 12)
    fake.deposit(5_000)
    forget_count(fake, kind)
    report = bot.run(at(0), BELOW)
    assert (report["status"], fake.orders) == ("DAILY_LOSS_STOP", [])
    assert "+5,000.00 USD moved since" in report["denials"][0]["detail"]


@pytest.mark.parametrize("kind", UNCOUNTED)
def test_without_a_count_a_run_sends_one_request_more_and_trades(fake: AlpacaFake, tmp_path: Path, kind: str) -> None:
    forget_count(fake, kind)
    assert strategy(tmp_path, fake).run(at(0), BELOW)["status"] == "TRADED"
    assert len(fake.asked("GET", "/v2/account/activities")) == 1


def test_without_a_count_each_flow_counts_once(fake: AlpacaFake, tmp_path: Path) -> None:
    bot = strategy(tmp_path, fake)
    for day in range(2):
        for hour in (10, 12, 14):
            fake.account_overrides = {"intraday_adjustments": None} if hour == 12 else {}
            bot.run(at(day, hour), 110)
            fake.now = at(day, hour, 30)
            fake.deposit(10_000)
        fake.now = at(day, 16)
        fake.close_day()
    bot.run(at(2), 110)
    assert (seen_usd(tmp_path), float(fake.equity)) == (160_000, 160_000)


@pytest.mark.parametrize("drawdown", [0, 0.15])
def test_without_a_count_and_activities_nothing_is_bought(
    fake: AlpacaFake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, drawdown: float
) -> None:
    fail_activities(fake, monkeypatch, "object")
    forget_count(fake, "null")
    report = strategy(tmp_path, fake).run(at(0), BELOW, MAX_DRAWDOWN_FRACTION=drawdown)
    assert (report["status"], fake.orders) == ("EQUITY_UNKNOWN", [])
    assert "deposits and withdrawals since the last close are not known" in report["denials"][0]["detail"]
    said = [each.levelno for each in caplog.records if "since the last run are not known" in each.message]
    assert said == [logging.ERROR]


def test_a_count_that_is_nonsense_fails_the_run(fake: AlpacaFake, tmp_path: Path) -> None:
    fake.account_overrides = {"intraday_adjustments": "abc"}
    with pytest.raises(UnexpectedResponseError, match="intraday_adjustments"):
        strategy(tmp_path, fake).run(at(0), BELOW)


# --- the limit of a day ---


@pytest.mark.parametrize("usd", [5_000, 150_000])
def test_a_deposit_on_a_losing_day_buys_nothing(fake: AlpacaFake, tmp_path: Path, usd: float) -> None:
    bot = strategy(tmp_path, fake, daily_loss=0.03)
    lose(fake, 6_000)
    fake.now = at(0, 12)
    fake.deposit(usd)
    report = bot.run(at(0), BELOW)
    assert (codes(report), report["investments"]) == ({"DAILY_LOSS_STOP"}, {})


def test_a_withdrawal_is_no_loss(fake: AlpacaFake, tmp_path: Path) -> None:
    bot = strategy(tmp_path, fake, daily_loss=0.03)
    fake.now = at(0, 12)
    fake.deposit(-40_000)
    assert bot.run(at(0), BELOW)["status"] == "TRADED"


def test_a_withdrawal_does_not_hide_a_loss(fake: AlpacaFake, tmp_path: Path) -> None:
    bot = strategy(tmp_path, fake, daily_loss=0.03)
    lose(fake, 3_500)
    fake.now = at(0, 12)
    fake.deposit(-10_000)
    assert codes(bot.run(at(0), BELOW)) == {"DAILY_LOSS_STOP"}


def test_after_a_withdrawal_the_size_follows_what_is_left(fake: AlpacaFake, tmp_path: Path) -> None:
    bot = strategy(tmp_path, fake, daily_loss=0.03)
    fake.now = at(0, 12)
    fake.deposit(-90_000)
    (order,) = bot.run(at(0), BELOW)["orders"]
    assert order["quantity"] * BELOW <= 0.1 * 10_000


def test_the_first_deposit_into_an_empty_account_is_invested(tmp_path: Path) -> None:
    with AlpacaFake(prices={"A": 110.0}, cash_usd=0) as empty:
        bot = strategy(tmp_path, empty, daily_loss=0.03)
        bot.run(at(0, 10), 110)
        empty.deposit(20_000)
        assert bot.run(at(0), BELOW)["status"] == "TRADED"
        assert kept(tmp_path)["equity_usd"] == 20_000
