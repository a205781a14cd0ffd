"""Parts of shares for small accounts, slot by slot: bare at most from the opening to the day's first run."""

import json
import logging
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from lambda_function import run
from scripts.testkit.alpaca import AlpacaFake
from tests.several_days import BOUGHT, DEAR, QUIET, SeveralDays, at, shorten_waits
from trader import wiring
from trader.model import Report
from trader.stages import pipeline
from trader.stages.protection import Holdings

STOP = 101.37
"""3% below what was paid: 104.50."""


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    shorten_waits(monkeypatch)


@pytest.fixture
def fake() -> Iterator[AlpacaFake]:
    with AlpacaFake(cash_usd=1_000) as fake:
        yield fake


class Small:
    """A strategy with 1,000 USD that buys parts of shares."""

    def __init__(self, folder: Path, fake: AlpacaFake) -> None:
        self._days = SeveralDays(folder, fake, UNIVERSE="A", SHARES="fractional")

    def run(self, moment: datetime, price_usd: float) -> Report:
        return self._days.run(moment, price_usd)


@pytest.fixture
def small(tmp_path: Path, fake: AlpacaFake) -> Small:
    return Small(tmp_path, fake)


def stops(fake: AlpacaFake) -> list[tuple[float, float, str]]:
    """Return the working stops: quantity, stop price and how long they last."""
    return [
        (float(order.remaining), float(order.stop_price or 0), order.time_in_force)
        for order in fake.open_orders("A")
        if order.type == "stop"
    ]


def sent(fake: AlpacaFake) -> list[Mapping[str, Any]]:
    return [request.body for request in fake.asked("POST")]


def errors(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [each.message for each in caplog.records if each.levelno >= logging.ERROR]


def test_a_buy_of_a_part_of_a_share_ends_its_run_with_a_stop(fake: AlpacaFake, small: Small) -> None:
    report = small.run(at(0, 10, 0), BOUGHT)
    assert (report["status"], report["unprotected"]) == ("TRADED", [])
    assert report["investments"] == {"A": 0.9569}  # a tenth of 1,000 USD
    assert stops(fake) == [(0.9569, STOP, "day")]


def test_alpaca_gets_orders_that_it_takes_for_parts_of_shares(fake: AlpacaFake, small: Small) -> None:
    small.run(at(0, 10, 0), BOUGHT)
    buy, stop = sent(fake)
    assert (buy["type"], buy["time_in_force"], "order_class" in buy) == ("market", "day", False)
    assert (stop["type"], stop["time_in_force"], stop["side"]) == ("stop", "day", "sell")


def test_neither_the_first_stop_nor_its_renewal_rings(
    fake: AlpacaFake, small: Small, caplog: pytest.LogCaptureFixture
) -> None:
    small.run(at(0, 10, 0), BOUGHT)
    fake.close_day()
    small.run(at(1, 9, 45), QUIET)
    assert errors(caplog) == []


def test_the_first_run_of_the_next_day_renews_the_stop(fake: AlpacaFake, small: Small) -> None:
    small.run(at(0, 10, 0), BOUGHT)
    fake.close_day()
    assert stops(fake) == []
    report = small.run(at(1, 9, 45), QUIET)
    assert stops(fake) == [(0.9569, STOP, "day")]
    assert [(each["symbol"], each["type"]) for each in report.get("stops", [])] == [("A", "stop")]


def test_a_second_run_of_the_day_leaves_the_stop_as_it_is(fake: AlpacaFake, small: Small) -> None:
    small.run(at(0, 10, 0), BOUGHT)
    small.run(at(0, 10, 15), QUIET)
    assert len(sent(fake)) == 2


def test_a_run_after_the_close_places_the_stop_for_the_next_day(fake: AlpacaFake, small: Small) -> None:
    small.run(at(0, 10, 0), BOUGHT)
    fake.close_day()
    fake.is_open = False
    assert small.run(at(0, 16, 15), QUIET)["status"] == "MARKET_CLOSED"
    assert stops(fake) == [(0.9569, STOP, "day")]


def test_what_opens_below_its_stop_is_sold_by_the_first_run(fake: AlpacaFake, small: Small) -> None:
    small.run(at(0, 10, 0), BOUGHT)
    fake.close_day()
    report = small.run(at(1, 9, 45), 95.0)
    assert "A" not in fake.positions
    assert [(each["type"], each["quantity"]) for each in report.get("stops", [])] == [("market", 0.9569)]


def test_a_sale_sells_all_and_its_stop_makes_way(fake: AlpacaFake, small: Small) -> None:
    small.run(at(0, 10, 0), BOUGHT)
    report = small.run(at(0, 10, 15), DEAR)
    assert report["investments"] == {"A": -0.9569}
    assert ("A" in fake.positions, fake.open_orders()) == (False, [])


def test_a_stop_that_somebody_cancels_comes_back_and_rings(
    fake: AlpacaFake, small: Small, caplog: pytest.LogCaptureFixture
) -> None:
    small.run(at(0, 10, 0), BOUGHT)
    fake.end(fake.open_orders("A")[0], "canceled")
    small.run(at(0, 10, 15), QUIET)
    assert stops(fake) == [(0.9569, STOP, "day")]
    assert errors(caplog) == ["stop loss missing"]


def test_a_run_that_ends_between_buy_and_stop_is_made_good_by_the_next(
    fake: AlpacaFake, small: Small, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline, "close_out", lambda *_: None)
    small.run(at(0, 10, 0), BOUGHT)
    monkeypatch.undo()
    assert stops(fake) == []
    small.run(at(0, 10, 15), QUIET)
    assert stops(fake) == [(0.9569, STOP, "day")]


def test_a_halted_strategy_names_what_has_no_stop(fake: AlpacaFake, tmp_path: Path) -> None:
    days = SeveralDays(tmp_path, fake, UNIVERSE="A", SHARES="fractional")
    days.run(at(0, 10, 0), BOUGHT)
    fake.close_day()
    report = days.run(at(1, 9, 45), QUIET, MODE="dry-run")
    assert report["unprotected"] == ["A"]


def test_a_halt_between_two_buys_leaves_the_first_its_stop(
    fake: AlpacaFake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read_halt_reason(_: object) -> str:
        return "a test" if fake.asked("POST") else ""

    monkeypatch.setattr(wiring.PARAMETERS, "read_halt_reason", read_halt_reason)
    report = SeveralDays(tmp_path, fake, UNIVERSE="A,B", SHARES="fractional").run(at(0, 10, 0), BOUGHT)
    assert (report["status"], report["unprotected"]) == ("HALTED", [])
    (bought,) = fake.positions
    assert [(order.symbol, order.side, order.type) for order in fake.open_orders()] == [(bought, "sell", "stop")]


# --- a rule's own stop ---------------------------------------------------------------------------------------------

NEAR = """
from trader.alpha.rule import ForecastKind, Rule

class Near(Rule):
    forecast = ForecastKind.NONE
    bars = 30

    def decide(self, view):
        for symbol, closes in view.closes.items():
            is_up = closes.iloc[-1] < 105
            yield view.judge(symbol, 0.01, up=is_up, reason="the price", stop_loss_fraction=0.01)
"""
OWN_STOP = 103.46
"""1% below what was paid, as the rule asks."""


@pytest.fixture
def near(tmp_path: Path, fake: AlpacaFake, monkeypatch: pytest.MonkeyPatch) -> SeveralDays:
    """Return a strategy with 1,000 USD whose rule asks for a stop closer than that of the settings."""
    monkeypatch.chdir(tmp_path)
    Path("rules").mkdir()
    Path("rules/near.py").write_text(NEAR, encoding="utf-8")
    return SeveralDays(tmp_path, fake, UNIVERSE="A", SHARES="fractional", SIGNAL="rules/near.py")


def buy_without_stop(near: SeveralDays, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a run end after its buy, before the stop."""
    with monkeypatch.context() as patch:
        patch.setattr(pipeline, "close_out", lambda *_: None)
        assert near.run(at(0, 10, 0), BOUGHT)["investments"] == {"A": 0.9569}


def remove_from_journal(folder: Path, kind: str) -> None:
    for file in (folder / "journal").rglob(f"*.{kind}"):
        file.unlink()


def test_the_stop_that_a_rule_asks_for_is_placed_and_renewed(fake: AlpacaFake, near: SeveralDays) -> None:
    near.run(at(0, 10, 0), BOUGHT)
    assert stops(fake) == [(0.9569, OWN_STOP, "day")]
    fake.close_day()
    near.run(at(1, 9, 45), QUIET)
    assert stops(fake) == [(0.9569, OWN_STOP, "day")]


@pytest.mark.parametrize("lost", [(), ("settled",), ("settled", "json")], ids=["ended", "not settled", "cut off"])
def test_after_a_run_without_its_stop_the_next_places_the_rules(
    fake: AlpacaFake, near: SeveralDays, lost: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    buy_without_stop(near, monkeypatch)
    for kind in lost:
        remove_from_journal(tmp_path, kind)
    near.run(at(0, 10, 30), QUIET)
    assert stops(fake) == [(0.9569, OWN_STOP, "day")]


def test_a_run_that_may_place_nothing_does_not_lose_the_rules_stop(
    fake: AlpacaFake, near: SeveralDays, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    buy_without_stop(near, monkeypatch)
    remove_from_journal(tmp_path, "settled")
    with monkeypatch.context() as patch:
        patch.setattr(pipeline, "protect", lambda *_: Holdings())
        near.run(at(0, 10, 15), QUIET)
    near.run(at(0, 10, 30), QUIET)
    assert stops(fake) == [(0.9569, OWN_STOP, "day")]


def test_without_the_plan_the_stop_is_that_of_the_settings_and_the_log_says_so(
    fake: AlpacaFake,
    near: SeveralDays,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    buy_without_stop(near, monkeypatch)
    remove_from_journal(tmp_path, "started")
    near.run(at(0, 10, 30), QUIET)
    assert stops(fake) == [(0.9569, STOP, "day")]
    assert "the plan of a buy is not known" in [each.message for each in caplog.records]


# --- on the laptop -------------------------------------------------------------------------------------------------


@pytest.fixture
def laptop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Mapping[str, str]:
    """Return the settings of an account with 1,000 USD on the sample."""
    monkeypatch.chdir(tmp_path)
    return {"SHARES": "fractional", "STARTING_CASH_USD": "1000", "ENGINE": "map"}


def read_book() -> Mapping[str, Any]:
    book: Mapping[str, Any] = json.loads(Path("out/account.json").read_text())
    return book


def test_a_small_account_invests_what_it_may(laptop: Mapping[str, str]) -> None:
    for shares, least, most in (("fractional", 0.9, 1.0), ("whole", 0.0, 0.4)):
        place = {"SHARES": shares, "ACCOUNT_FILE": f"{shares}.json", "JOURNAL": f"folder:{shares}"}
        after = run({"time": "2022-12-28T20:45:00Z"}, env={**laptop, **place})["account"]["after"]
        assert after is not None
        assert least < 1 - after["cash_usd"] / after["equity_usd"] < most


def test_the_stops_of_the_embedded_account_end_with_the_day_and_are_renewed(laptop: Mapping[str, str]) -> None:
    run({"time": "2022-12-27T20:45:00Z"}, env=laptop)
    first = read_book()
    assert first["brackets"].keys() == first["positions"].keys()
    run({"time": "2022-12-28T20:45:00Z"}, env=laptop)
    second = read_book()
    assert second["brackets"].keys() == second["positions"].keys()
    old = [second["orders"][order["client_order_id"]]["status"] for order in first["brackets"].values()]
    assert set(old) == {"expired"}
