"""run() as a whole, with real stages and adapters over real sockets; the broker's books show what happened."""

import json
import logging
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import boto3
import numpy as np
import pytest
from botocore.exceptions import BotoCoreError
from tenacity import wait_none

from lambda_function import lambda_handler, run
from scripts.testkit import services
from scripts.testkit.alpaca import AlpacaFake
from tests.builders import price_csv
from trader import wiring
from trader.journal.base import JournalError
from trader.model import NEW_YORK, BrokerError, Report
from trader.prices.table import PriceFileError
from trader.progress import Progress
from trader.schedule.base import EventError
from trader.settings import SettingsError
from trader.stages.universe import sp500

EVENT = {"time": "2022-12-28T20:45:00Z", "source": "aws.events"}
RNG = np.random.default_rng(1)
NOISE = {symbol: RNG.normal(0, 0.002, 120) for symbol in "ABCD"}


def path(symbol: str, last_step: float) -> list[float]:
    """Return closes that rise gently to 110, with a last bar that is off the trend line by a fraction."""
    return list(np.round(np.linspace(100, 110, 120) * np.exp(NOISE[symbol]) * ([1.0] * 119 + [1 + last_step]), 4))


@pytest.fixture
def env(tmp_path: Path) -> dict[str, str]:
    """Return the settings of a laptop without an account; A and B trade below their trend lines, C above, D on it."""
    file = tmp_path / "prices.csv"
    file.write_text(price_csv({"A": path("A", -0.05), "B": path("B", -0.03), "C": path("C", 0.05), "D": path("D", 0)}))
    return {
        "PRICE_FILE": str(file),
        "UNIVERSE": "A,B,C,D",
        "HISTORY_BARS": "120",
        "JOURNAL": f"folder:{tmp_path / 'journal'}",
        "ACCOUNT_FILE": str(tmp_path / "account.json"),
    }


@pytest.fixture
def fake() -> Iterator[AlpacaFake]:
    with AlpacaFake(prices={"A": 104.5, "B": 106.7, "C": 115.5, "D": 110.0}) as fake:
        yield fake


@pytest.fixture
def alpaca(env: dict[str, str], fake: AlpacaFake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Return the settings for an account at Alpaca, with the same prices ending with the last session.

    What has failed is repeated at once.
    """
    monkeypatch.setattr("trader.alpaca.client.wait_exponential_jitter", lambda **_: wait_none())
    series = {symbol: path(symbol, step) for symbol, step in {"A": -0.05, "B": -0.03, "C": 0.05, "D": 0.0}.items()}
    bars = services.daily_bars(range(120), datetime.now(UTC))
    rows = [
        f"{day:%Y-%m-%d},{','.join(str(prices[row]) for prices in series.values())}"
        for row, (day, _) in enumerate(bars)
    ]
    (tmp_path / "prices.csv").write_text("timestamp,A,B,C,D\n" + "\n".join(rows) + "\n")
    return env | fake.environment | {"MAX_PRICE_AGE_S": "600000"}  # enough even on a Sunday


def record(env: dict[str, str], pattern: str = "*.json") -> dict[str, Any]:
    (file,) = Path(env["JOURNAL"].removeprefix("folder:")).glob(f"runs/*/*/{pattern}")
    loaded: dict[str, Any] = json.loads(file.read_text())
    return loaded


def symbols_bought_in(report: Report) -> set[str]:
    return {symbol for symbol, quantity in report["investments"].items() if quantity > 0}


def codes(report: Report) -> dict[str, str]:
    return {denial["symbol"]: denial["code"] for denial in report["denials"]}


# --- on a laptop ---


def test_it_buys_below_the_line_and_sells_only_what_it_holds(env: dict[str, str]) -> None:
    report = run(EVENT, env=env)
    assert (report["status"], symbols_bought_in(report), report["denials"]) == ("TRADED", {"A", "B"}, [])


def test_the_report_survives_json_unchanged(env: dict[str, str]) -> None:
    report = run(EVENT, env=env)
    assert json.loads(json.dumps(report, allow_nan=False)) == report


def test_a_slot_trades_once(env: dict[str, str]) -> None:
    first, second = run(EVENT, env=env), run(EVENT, env=env)
    assert (first["status"], second["status"], second["investments"]) == ("TRADED", "ALREADY_RAN", {})
    assert record(env)["report"] == first, "the record of the run that had the slot must stay"


def test_a_run_outside_its_daily_time_leaves_the_slot_free(env: dict[str, str]) -> None:
    report = run(EVENT, env=env | {"DAILY_AT": "14:45"})
    assert (report["status"], report["investments"]) == ("NOT_DUE", {})
    assert run(EVENT, env=env | {"DAILY_AT": "15:45"})["status"] == "TRADED"


def test_the_next_slot_buys_nothing_again(env: dict[str, str]) -> None:
    run({"time": "2022-12-28T20:30:00Z"}, env=env)
    assert run(EVENT, env=env)["status"] == "NOTHING_TO_DO"


def test_two_strategies_do_not_share_a_slot(env: dict[str, str]) -> None:
    run(EVENT, env=env)
    other = {"STRATEGY": "other", "ACCOUNT_FILE": f"{env['ACCOUNT_FILE']}-other"}
    assert run(EVENT, env=env | other)["status"] == "TRADED"


def test_a_holding_above_its_line_is_sold(env: dict[str, str], tmp_path: Path) -> None:
    account = {"cash_usd": 50_000, "last_equity_usd": 100_000, "as_of": EVENT["time"], "orders": {}, "brackets": {}}
    held = {"symbol": "C", "quantity": 7.5, "average_price_usd": 100, "price_usd": 110}
    (tmp_path / "account.json").write_text(json.dumps({**account, "positions": {"C": held}}))
    assert run(EVENT, env=env | {"UNIVERSE": "A"})["investments"]["C"] == -7.5


def test_a_dry_run_decides_and_places_nothing(env: dict[str, str]) -> None:
    report = run(EVENT, env=env | {"MODE": "dry-run"})
    assert (report["status"], report["investments"]) == ("DRY_RUN", {})
    assert {order["symbol"] for order in report["orders"]} == {"A", "B"}


def test_a_dry_run_does_not_use_up_the_slot(env: dict[str, str]) -> None:
    run(EVENT, env=env | {"MODE": "dry-run"})
    assert run(EVENT, env=env)["status"] == "TRADED"


def test_without_arguments_the_environment_has_the_settings(
    env: dict[str, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    assert run()["slot"] == "2022-12-28T20:45:00Z"


def test_the_defaults_trade_the_shipped_sample(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    report = run()
    assert report["status"] == "TRADED"
    assert len(report["forecasts"]) >= 18


@pytest.mark.parametrize("engine", ["prophet", "map"])
@pytest.mark.parametrize("signal", ["interval", "horizon"])
def test_the_other_signals_trade_too(env: dict[str, str], signal: str, engine: str) -> None:
    decision_day = {**EVENT, "time": "2022-12-22T20:45:00Z"}  # horizon decides on every fifth session only
    report = run(decision_day, env=env | {"SIGNAL": signal, "ENGINE": engine})
    assert report["status"] == "TRADED"
    assert all(forecast["lower_usd"] < forecast["upper_usd"] for forecast in report["forecasts"])


def test_the_map_engine_decides_like_prophet_on_similar_lines(
    env: dict[str, str],
) -> None:
    by_prophet, by_map = (run(EVENT, env=env | {"MODE": "dry-run", "ENGINE": name}) for name in ("prophet", "map"))
    quantities = [{order["symbol"]: order["quantity"] for order in one["orders"]} for one in (by_map, by_prophet)]
    assert quantities[0] == quantities[1]
    assert set(quantities[0]) == {"A", "B"}
    ours, theirs = (np.array([each["trend_usd"] for each in one["forecasts"]]) for one in (by_map, by_prophet))
    assert ours == pytest.approx(theirs, rel=0.01)
    assert not (ours == theirs).any()


def test_outside_the_session_the_market_is_closed(env: dict[str, str]) -> None:
    report = run({"time": "2022-12-26T20:45:00Z"}, env=env)
    assert (report["status"], report["detail"]) == (
        "MARKET_CLOSED",
        "the market opens next on Tue 27 Dec 2022, 09:30 New York time",
    )


def test_a_universe_may_be_a_single_symbol(env: dict[str, str]) -> None:
    assert symbols_bought_in(run(EVENT, env=env | {"UNIVERSE": "A"})) == {"A"}


def test_an_unknown_symbol_is_named_and_the_others_trade(env: dict[str, str]) -> None:
    report = run(EVENT, env=env | {"UNIVERSE": "A,ZZZZ"})
    assert (symbols_bought_in(report), codes(report)) == ({"A"}, {"ZZZZ": "NO_PRICE_DATA"})


def test_a_universe_of_unknown_symbols_ends_with_the_reason(env: dict[str, str]) -> None:
    assert run(EVENT, env=env | {"UNIVERSE": "YYYY,ZZZZ"})["status"] == "NO_PRICE_DATA"


@pytest.mark.parametrize(
    ("universe", "status"),
    [
        ("D,YYYY,ZZZZ", "NO_PRICE_DATA"),
        ("C,D,YYYY,ZZZZ", "NOTHING_TO_DO"),
        ("A,XXXX,YYYY,ZZZZ", "TRADED"),
    ],
)
def test_a_run_that_did_nothing_says_that_most_candidates_have_no_prices(
    env: dict[str, str], universe: str, status: str
) -> None:
    assert run(EVENT, env=env | {"UNIVERSE": universe})["status"] == status


def test_a_dry_run_with_orders_is_one_although_most_candidates_have_no_prices(env: dict[str, str]) -> None:
    report = run(EVENT, env=env | {"UNIVERSE": "A,YYYY,ZZZZ", "MODE": "dry-run"})
    assert report["status"] == "DRY_RUN"


def test_most_candidates_without_prices_are_named_day_after_day_beside_a_holding(env: dict[str, str]) -> None:
    env |= {"UNIVERSE": "A,XXXX,YYYY,ZZZZ"}
    slots = ("2022-12-28T20:15:00Z", "2022-12-28T20:30:00Z", "2022-12-28T20:45:00Z")
    assert [run({"time": slot}, env=env)["status"] for slot in slots] == ["TRADED", "NO_PRICE_DATA", "NO_PRICE_DATA"]


def test_a_holding_without_prices_is_no_candidate(env: dict[str, str], tmp_path: Path) -> None:
    account = {"cash_usd": 50_000, "last_equity_usd": 50_000, "as_of": EVENT["time"], "orders": {}, "brackets": {}}
    held = {"symbol": "XXXX", "quantity": 1, "average_price_usd": 100, "price_usd": 100}
    (tmp_path / "account.json").write_text(json.dumps({**account, "positions": {"XXXX": held}}))
    assert run(EVENT, env=env | {"UNIVERSE": "C,D,YYYY,ZZZZ"})["status"] == "NOTHING_TO_DO"


def test_an_index_without_prices_is_named_beside_a_holding_with_prices(
    alpaca: dict[str, str], fake: AlpacaFake
) -> None:
    midnight = datetime.now(NEW_YORK).replace(hour=0, minute=0, second=0, microsecond=0)
    fake.bars["AAPL"] = [(midnight - timedelta(days=119 - row), close) for row, close in enumerate(path("D", 0))]
    fake.prices["AAPL"] = 110.0
    fake.hold("AAPL", 5)
    report = run(env=alpaca | {"UNIVERSE": "sp500", "PRICE_SOURCES": "alpaca"})
    assert report["status"] == "NO_PRICE_DATA"


@pytest.mark.parametrize(
    ("spoilt", "code"),
    [
        ("", "STALE_PRICE"),
        ("0", "STALE_PRICE"),
        ("-1", "STALE_PRICE"),
        ("inf", "STALE_PRICE"),
        ("8e8", "STALE_PRICE"),
        ("55", "NO_PRICE_DATA"),
        ("0.5", "NO_PRICE_DATA"),
    ],
)
def test_a_symbol_with_a_spoilt_last_price_is_left_out(env: dict[str, str], spoilt: str, code: str) -> None:
    closes: dict[str, Any] = {"A": path("A", -0.05), "B": [*path("B", 0)[:-1], spoilt]}
    Path(env["PRICE_FILE"]).write_text(price_csv(closes))
    report = run(EVENT, env=env | {"UNIVERSE": "A,B"})
    assert (symbols_bought_in(report), codes(report)) == ({"A"}, {"B": code})


def test_a_symbol_with_three_bars_is_left_out(env: dict[str, str]) -> None:
    closes: dict[str, Any] = {"A": path("A", -0.05), "B": [*[""] * 117, "1", "2", "3"]}
    Path(env["PRICE_FILE"]).write_text(price_csv(closes))
    report = run(EVENT, env=env | {"UNIVERSE": "A,B"})
    assert (symbols_bought_in(report), codes(report)) == ({"A"}, {"B": "NO_PRICE_DATA"})


def test_a_universe_without_usable_prices_ends_as_stale_price(env: dict[str, str]) -> None:
    closes: dict[str, Any] = {
        "A": [*path("A", 0)[:-1], ""],
        "B": [*path("B", 0)[:-1], "0"],
        "C": [*path("C", 0)[:-1], ""],
    }
    Path(env["PRICE_FILE"]).write_text(price_csv(closes))
    report = run(EVENT, env=env | {"UNIVERSE": "A,B,C"})
    assert (report["status"], len(report["denials"])) == ("STALE_PRICE", 3)


def test_an_index_that_mostly_lacks_prices_is_not_traded(env: dict[str, str]) -> None:
    closes: dict[str, Any] = {symbol: [*path("A", 0)[:-1], ""] for symbol in sp500()[:9]} | {"AAPL": path("A", -0.05)}
    Path(env["PRICE_FILE"]).write_text(price_csv(closes))
    report = run(EVENT, env=env | {"UNIVERSE": "sp500"})
    assert (report["forecasts"], report["investments"]) == ([], {})


def test_a_run_in_the_past_takes_the_members_of_that_day(env: dict[str, str]) -> None:
    asked: list[date] = []

    def find_members(day: date) -> Sequence[str]:
        asked.append(day)
        return ("GONE",)

    closes: dict[str, Any] = {"AAPL": path("A", -0.05), "GONE": path("B", -0.05)}
    Path(env["PRICE_FILE"]).write_text(price_csv(closes))
    report = run(EVENT, env=env | {"UNIVERSE": "sp500"}, members=find_members)
    assert (symbols_bought_in(report), asked) == ({"GONE"}, [date(2022, 12, 28)])


def test_a_list_of_symbols_needs_no_members(env: dict[str, str]) -> None:
    def fail(_day: date) -> Sequence[str]:
        raise AssertionError

    assert run(EVENT, env=env | {"UNIVERSE": "A"}, members=fail)["status"] != "FAILED"


def test_a_dry_run_leaves_the_paper_account_as_it_is(env: dict[str, str]) -> None:
    run(EVENT, env=env | {"MODE": "dry-run"})
    assert not Path(env["ACCOUNT_FILE"]).exists()


def test_yesterdays_prices_are_stale(env: dict[str, str]) -> None:
    assert run({"time": "2022-12-29T20:45:00Z"}, env=env)["status"] == "STALE_PRICE"


@pytest.mark.parametrize(
    "text", ["", "timestamp,A\n", "timestamp,A\n2022-12-28,1\n2022-12-28,2\n", "timestamp,A\n2022-12"]
)
def test_a_malformed_price_file_is_named_in_the_error(env: dict[str, str], text: str) -> None:
    Path(env["PRICE_FILE"]).write_text(text)
    with pytest.raises(PriceFileError, match=r"price file .*prices\.csv"):
        run(env=env | {"UNIVERSE": "sp500"})


def test_a_run_with_invalid_settings_does_not_start(env: dict[str, str]) -> None:
    with pytest.raises(SettingsError):
        run(EVENT, env=env | {"MODE": "live"})
    assert not Path(env["JOURNAL"].removeprefix("folder:")).exists()


def test_a_run_with_a_malformed_time_does_not_start(env: dict[str, str]) -> None:
    with pytest.raises(EventError):
        run({"time": "yesterday"}, env=env)


def test_progress_is_reported(env: dict[str, str]) -> None:
    works: list[str] = []
    run(EVENT, env=env, progress=lambda work, _done, _total: works.append(work))
    assert list(dict.fromkeys(works)) == ["prices from the file", "trend lines", "orders"]


# --- the log ---


def test_each_decision_and_the_run_have_one_log_record_each(
    env: dict[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, logger="trader"):
        run(EVENT, env=env)
    decisions = {record.__dict__["symbol"] for record in caplog.records if record.message == "decision"}
    (line,) = [record.__dict__ for record in caplog.records if record.message == "run"]
    assert decisions == {"A", "B", "C", "D"}
    assert (line["status"], line["orders"], line["strategy"]) == ("TRADED", 2, "trend")


# --- the day's ranking ---


def test_a_days_second_run_fetches_only_the_chosen_symbols(env: dict[str, str]) -> None:
    top = env | {"UNIVERSE_SIZE": "1"}
    run({"time": "2022-12-28T20:30:00Z"}, env=top)
    asked: list[int] = []
    run(EVENT, env=top, progress=lambda work, done, _: asked.append(done) if work == "prices from the file" else None)
    assert max(asked) < 4


# --- at Alpaca ---


def test_at_alpaca_the_orders_are_in_the_books(alpaca: dict[str, str], fake: AlpacaFake) -> None:
    report = run(env=alpaca)
    assert (report["status"], {order.symbol for order in fake.orders if order.type == "market"}) == (
        "TRADED",
        {"A", "B"},
    )
    assert all(order.order_class == "bracket" for order in fake.orders)


def unaware(alpaca: dict[str, str], strategy: str) -> dict[str, str]:
    """Return the variables of another strategy, whose journal does not know that the account is taken."""
    return alpaca | {"STRATEGY": strategy, "JOURNAL": f"{alpaca['JOURNAL']}-{strategy}"}


def rising(alpaca: dict[str, str], symbol: str) -> Report:
    """Let the price of a symbol jump above its trend line, and run."""
    file = Path(alpaca["PRICE_FILE"])
    head, last = file.read_text().rstrip().rsplit("\n", 1)
    day, *prices = last.split(",")
    prices["ABCD".index(symbol)] = "130"
    file.write_text("\n".join([head, ",".join([day, *prices])]) + "\n")
    return run(env=unaware(alpaca, "later"))


def test_at_alpaca_a_bracketed_holding_is_freed_and_sold(alpaca: dict[str, str], fake: AlpacaFake) -> None:
    run(env=alpaca)
    fake.cancel_polls = 1
    report = rising(alpaca, "A")
    assert report["investments"]["A"] < 0
    assert "A" not in fake.positions
    assert not [order for order in fake.orders if order.symbol == "A" and order.is_open]


@pytest.mark.parametrize("kind", ["504-accepted", "drop-accepted", "200-html", "null"])
def test_an_order_with_a_lost_answer_is_in_the_books_once(alpaca: dict[str, str], fake: AlpacaFake, kind: Any) -> None:
    fake.fault("POST", "/v2/orders", kind, times=1)
    report = run(env=alpaca)
    assert symbols_bought_in(report) == {"A", "B"}
    assert sorted(order.symbol for order in fake.orders if order.type == "market") == ["A", "B"]


def test_one_refused_order_does_not_stop_the_other(alpaca: dict[str, str], fake: AlpacaFake) -> None:
    fake.rejected_at_once = {"A"}
    report = run(env=alpaca)
    assert (symbols_bought_in(report), codes(report)) == ({"B"}, {"A": "ORDER_REJECTED"})


def test_alpaca_decides_whether_the_market_is_closed(alpaca: dict[str, str], fake: AlpacaFake) -> None:
    fake.is_open = False
    assert run(env=alpaca)["status"] == "MARKET_CLOSED"


def test_a_blocked_account_places_nothing(alpaca: dict[str, str], fake: AlpacaFake) -> None:
    fake.account_overrides = {"trading_blocked": True}
    report = run(env=alpaca)
    assert (report["status"], fake.orders) == ("ACCOUNT_BLOCKED", [])
    assert "trading_blocked" in report["detail"]


def test_after_a_bad_day_nothing_is_bought(alpaca: dict[str, str], fake: AlpacaFake) -> None:
    fake.account_overrides = {"last_equity": "110000"}
    report = run(env=alpaca)
    assert (report["status"], fake.orders) == ("DAILY_LOSS_STOP", [])


def test_a_symbol_with_an_open_order_is_left_alone(alpaca: dict[str, str], fake: AlpacaFake) -> None:
    fake.fills = "never"
    for symbol in "AB":
        fake.buy_by_hand(symbol, 1)
    report = run(env=alpaca)
    assert codes(report) == {"A": "OPEN_ORDER_PENDING", "B": "OPEN_ORDER_PENDING"}
    assert len([order for order in fake.orders if order.type == "market"]) == 2


def test_past_prices_are_stale_for_a_real_account(alpaca: dict[str, str], fake: AlpacaFake) -> None:
    del alpaca["PRICE_FILE"]
    report = run(env=alpaca | {"UNIVERSE": "AAPL,MSFT"})
    assert (report["status"], fake.orders) == ("STALE_PRICE", [])


def test_symbols_missing_from_the_file_come_from_alpaca(alpaca: dict[str, str], fake: AlpacaFake) -> None:
    fake.bars = {"E": services.daily_bars(path("A", -0.05), datetime.now(UTC))}
    fake.prices["E"] = 104.5
    assert symbols_bought_in(run(env=alpaca | {"UNIVERSE": "E", "PRICE_SOURCES": "file,alpaca"})) == {"E"}


# --- when somebody else acts first ---


def at(work: str, action: Callable[[], object]) -> Progress:
    """Return a progress callback that calls `action` once, when `work` is first reported."""
    done: list[object] = []

    def progress(now: str, _done: int, _total: int) -> None:
        if now == work and not done:
            done.append(action())

    return progress


def test_an_order_that_fills_between_two_reads_is_not_placed_again(alpaca: dict[str, str]) -> None:
    class Opening(AlpacaFake):
        """A stand-in that fills waiting orders right after each read of orders or positions."""

        def answer(self, method: str, path: str, headers: Mapping[str, str], body: Any) -> Any:
            answered = super().answer(method, path, headers, body)
            if method == "GET" and path.startswith(("/v2/orders", "/v2/positions")):
                self.fill_waiting()
            return answered

    with Opening(prices={"A": 104.5, "B": 106.7, "C": 115.5, "D": 110.0}) as fake:
        fake.fills = "never"
        there = alpaca | fake.environment
        run(env=there)
        run(env=unaware(there, "second"))
        assert sorted(order.symbol for order in fake.orders if order.type == "market") == ["A", "B"]


def test_two_runs_at_once_buy_once(alpaca: dict[str, str], fake: AlpacaFake) -> None:
    other = unaware(alpaca, "other")
    report = run(env=alpaca, progress=at("trend lines", lambda: run(env=other)))
    assert set(codes(report).values()) <= {"POSITION_CAP", "OPEN_ORDER_PENDING"}
    assert sorted(order.symbol for order in fake.orders if order.type == "market") == ["A", "B"]


def test_a_market_that_closes_during_the_run_gets_no_orders(alpaca: dict[str, str], fake: AlpacaFake) -> None:
    report = run(env=alpaca, progress=at("trend lines", lambda: setattr(fake, "is_open", False)))
    assert (report["status"], fake.orders) == ("MARKET_CLOSED", [])


def test_a_market_that_closes_between_two_orders_gets_no_second_one(alpaca: dict[str, str], fake: AlpacaFake) -> None:
    report = run(env=alpaca, progress=at("orders", lambda: setattr(fake, "is_open", False)))
    assert (report["status"], symbols_bought_in(report)) == ("MARKET_CLOSED", {"A"})


def test_no_order_is_begun_just_before_the_close(alpaca: dict[str, str], fake: AlpacaFake) -> None:
    fake.now = datetime(2026, 11, 20, 20, 59, tzinfo=UTC)
    report = run(env=alpaca, clock=lambda: fake.now)
    assert (report["status"], fake.orders) == ("MARKET_CLOSED", [])
    assert re.match(r"the market closes in \d\d s, and an order may take 100", report["detail"])


def test_a_stale_clock_after_the_close_leads_to_no_order(alpaca: dict[str, str], fake: AlpacaFake) -> None:
    fake.now = datetime(2026, 11, 20, 20, 59, 30, tzinfo=UTC)
    report = run(env=alpaca, clock=lambda: fake.now + timedelta(seconds=50))
    assert (report["status"], fake.orders) == ("MARKET_CLOSED", [])
    assert re.match(r"the session ended \d\d s ago by this machine's clock", report["detail"])


@pytest.mark.parametrize("hours", [-3, 3])
def test_two_clocks_that_differ_by_hours_place_nothing(alpaca: dict[str, str], fake: AlpacaFake, hours: int) -> None:
    with pytest.raises(BrokerError, match=r"this machine's clock is 10,\d\d\d s (behind|ahead of) the broker's"):
        run(env=alpaca, clock=lambda: datetime.now(UTC) + timedelta(hours=hours))
    assert fake.orders == []


def test_a_decision_of_yesterday_is_not_sent_today(alpaca: dict[str, str], fake: AlpacaFake) -> None:
    fake.now = datetime.now(UTC)

    def sleep(*_: object) -> None:
        fake.now += timedelta(days=1)

    report = run(env=alpaca, clock=lambda: fake.now, progress=at("trend lines", sleep))
    assert (report["status"], fake.orders) == ("OUT_OF_TIME", [])
    assert "the run began 1,440 minutes ago" in report["detail"]


def test_a_price_that_has_moved_since_the_decision_is_not_paid(alpaca: dict[str, str], fake: AlpacaFake) -> None:
    fake.prices["A"] *= 1.02
    report = run(env=alpaca)
    assert codes(report) == {"A": "STALE_PRICE"}
    assert symbols_bought_in(report) == {"B"}


def test_a_holding_without_a_stop_loss_is_named(
    alpaca: dict[str, str], fake: AlpacaFake, caplog: pytest.LogCaptureFixture
) -> None:
    fake.hold("D", 5)
    run(env=alpaca)
    report = run(env=unaware(alpaca, "second"))
    assert report["unprotected"] == ["D"], "A and B have their brackets"
    warnings = [record for record in caplog.records if record.message == "held without a stop loss"]
    assert [(record.levelname, vars(record)["symbols"]) for record in warnings] == [("WARNING", "D")] * 2


def test_a_position_without_its_stop_is_named_until_it_is_fixed(alpaca: dict[str, str], fake: AlpacaFake) -> None:
    run(env=alpaca)
    fake.rejected_at_once = {"A"}
    report = rising(alpaca, "A")
    assert "its stop loss was canceled for the sale" in report["denials"][0]["detail"]
    assert report["unprotected"] == ["A"]
    assert run(env=unaware(alpaca, "third"))["unprotected"] == ["A"]


# --- when something breaks ---


def test_a_broker_without_an_answer_is_recorded_and_raised(alpaca: dict[str, str], fake: AlpacaFake) -> None:
    fake.fault("GET", "/v2/account", "200-html", times=99)
    with pytest.raises(BrokerError):
        run(env=alpaca)
    assert record(alpaca)["report"]["status"] == "FAILED"


def test_an_order_of_unknown_fate_is_recorded_and_raised(alpaca: dict[str, str], fake: AlpacaFake) -> None:
    fake.fault("POST", "/v2/orders", "504-accepted")
    fake.fault("GET", "/v2/orders:by_client_order_id", "500-html", times=99)
    with pytest.raises(BrokerError, match="the lookup failed"):
        run(env=alpaca)
    kept = record(alpaca)["report"]
    assert [order["status"] for order in kept["orders"]] == ["unknown"]
    assert len([order for order in fake.orders if order.type == "market"]) == 1, (
        "no further order may be sent to such a broker"
    )


def test_a_run_stands_though_the_account_cannot_be_read_after_it(alpaca: dict[str, str], fake: AlpacaFake) -> None:
    report = run(env=alpaca, progress=at("orders", lambda: fake.fault("GET", "/v2/account", "500-html", times=99)))
    assert (report["status"], report["account"]["after"]) == ("TRADED", None)


def test_a_journal_that_cannot_be_written_stops_the_run_before_any_order(
    alpaca: dict[str, str], fake: AlpacaFake, tmp_path: Path
) -> None:
    (tmp_path / "blocked").write_text("no folder")
    with pytest.raises(JournalError):
        run(env=alpaca | {"JOURNAL": f"folder:{tmp_path / 'blocked'}"})
    assert not fake.asked("POST")


def test_an_error_before_the_claim_is_in_the_log(env: dict[str, str], caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(SettingsError):
        run(EVENT, env=env | {"UNIVERSE_SIZE": "many"})
    assert [record.levelname for record in caplog.records if record.message == "failed"] == ["ERROR"]


def test_the_plan_is_on_record_before_the_first_order(alpaca: dict[str, str], fake: AlpacaFake) -> None:
    seen: list[str] = []

    def look(work: str, _done: int, _total: int) -> None:
        if work == "orders" and not seen:
            seen.append(record(alpaca, "*.started")["report"]["status"])

    run(env=alpaca, progress=look)
    assert seen == ["STARTED"]


class Context:
    """Lambda's context, with a set number of seconds left."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def get_remaining_time_in_millis(self) -> int:
        return int(self.seconds * 1000)


def test_no_order_is_begun_if_the_functions_time_is_too_short(alpaca: dict[str, str], fake: AlpacaFake) -> None:
    report = run(None, Context(40), env=alpaca)
    assert (report["status"], fake.orders) == ("OUT_OF_TIME", [])


def test_the_handler_returns_the_report(env: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    assert lambda_handler(EVENT, Context(300))["status"] == "TRADED"


# --- with AWS ---


@pytest.fixture
def cloud(alpaca: dict[str, str], aws: dict[str, str]) -> dict[str, str]:
    """Return settings with secrets and halt switch in SSM and the journal in S3."""
    boto3.client("s3").create_bucket(Bucket="journal")
    ssm = boto3.client("ssm")
    for name, value in {"user": alpaca["ALPACAUSER"], "pw": alpaca["ALPACAPW"], "halt": "false"}.items():
        ssm.put_parameter(Name=f"/trader/{name}", Value=value, Type="SecureString")
    wiring.PARAMETERS.forget()
    wiring.OWN_ACCOUNTS.clear()
    return alpaca | {
        "ALPACAUSER": "ssm:/trader/user",
        "ALPACAPW": "ssm:/trader/pw",
        "HALT_PARAMETER": "/trader/halt",
        "JOURNAL": "s3://journal/prefix",
    }


def put(name: str, value: str) -> None:
    boto3.client("ssm").put_parameter(Name=name, Value=value, Type="SecureString", Overwrite=True)


def test_it_trades_with_secrets_in_ssm_and_the_journal_in_s3(cloud: dict[str, str], fake: AlpacaFake) -> None:
    report = run(env=cloud)
    keys = [item["Key"] for item in boto3.client("s3").list_objects_v2(Bucket="journal")["Contents"]]
    assert report["status"] == "TRADED"
    folders = [(key.split("/")[1], key.rpartition(".")[2]) for key in keys]
    runs = [("runs", kind) for kind in ("claim", "json", "settled", "started")]
    assert folders == [("accounts", "json"), ("equity", "json"), *runs, ("universe", "json")]


def test_the_halt_switch_stops_runs_only_while_it_is_on(cloud: dict[str, str], fake: AlpacaFake) -> None:
    statuses = []
    for number, halt in enumerate(["true", "nonsense", "false"]):
        put("/trader/halt", halt)
        statuses.append(run(env=cloud | {"STRATEGY": f"s{number}"})["status"])
    assert statuses == ["HALTED", "HALTED", "TRADED"]


def test_a_halt_between_two_orders_stops_the_second(cloud: dict[str, str], fake: AlpacaFake) -> None:
    report = run(env=cloud, progress=at("orders", lambda: put("/trader/halt", "true")))
    assert (report["status"], symbols_bought_in(report)) == ("HALTED", {"A"})


def test_rotated_keys_are_fetched_when_the_old_ones_are_refused(cloud: dict[str, str], fake: AlpacaFake) -> None:
    run(env=cloud)
    fake.secret = "rotated"
    put("/trader/pw", "rotated")
    assert run(env=unaware(cloud, "after"))["status"] in {"TRADED", "NOTHING_TO_DO"}


@pytest.fixture
def without_ssm(cloud: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Make SSM unreachable, but not S3."""
    monkeypatch.setenv("AWS_ENDPOINT_URL_SSM", "http://127.0.0.1:9")
    return cloud


def of_s3(env: dict[str, str]) -> list[tuple[str, str]]:
    """Return the status of each record in the bucket, and the beginning of its detail."""
    s3 = boto3.client("s3")
    names = [item["Key"] for item in s3.list_objects_v2(Bucket="journal", Prefix="prefix/runs/").get("Contents", [])]
    texts = [s3.get_object(Bucket="journal", Key=name)["Body"].read() for name in names if name.endswith(".json")]
    reports = [json.loads(text)["report"] for text in texts]
    return [(report["status"], report["detail"].partition(":")[0]) for report in reports]


def test_a_run_that_cannot_read_its_secrets_records_that(without_ssm: dict[str, str]) -> None:
    with pytest.raises(BotoCoreError):
        run(env=without_ssm)
    assert of_s3(without_ssm) == [("FAILED", "EndpointConnectionError")]


def test_a_run_that_cannot_read_its_secrets_uses_up_the_slot(
    without_ssm: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    event = {"time": datetime.now(UTC).replace(second=0, microsecond=0).isoformat()}
    with pytest.raises(BotoCoreError):
        run(event, env=without_ssm)
    monkeypatch.delenv("AWS_ENDPOINT_URL_SSM")
    wiring.PARAMETERS.forget()  # as in a new process
    assert run(event, env=without_ssm)["status"] == "ALREADY_RAN"


def test_a_run_without_secrets_leaves_an_existing_record_alone(
    cloud: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    event = {"time": datetime.now(UTC).replace(second=0, microsecond=0).isoformat()}
    run(event, env=cloud)
    wiring.PARAMETERS.forget()
    monkeypatch.setenv("AWS_ENDPOINT_URL_SSM", "http://127.0.0.1:9")
    with pytest.raises(BotoCoreError):
        run(event, env=cloud)
    assert of_s3(cloud) == [("TRADED", "")]


def test_a_current_scheduled_event_sets_the_slot(cloud: dict[str, str], fake: AlpacaFake) -> None:
    time = datetime.now(UTC).replace(second=0, microsecond=0)
    report = run({"time": time.isoformat().replace("+00:00", "Z")}, env=cloud)
    assert report["slot"] == time.isoformat().replace("+00:00", "Z")
    assert {order.client_order_id for order in fake.orders if order.type == "market"} == {
        f"trend-{time:%Y%m%dT%H%MZ}-{symbol}-buy" for symbol in "AB"
    }
