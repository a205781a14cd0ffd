"""The second checker finds each cap that is broken. It shares no code with what keeps the caps."""

import ast
import copy
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from trader.audit import caps

type Record = dict[str, Any]


def order(symbol: str = "AAPL", side: str = "buy", quantity: float = 50.0) -> dict[str, Any]:
    return {
        "client_order_id": f"trend-20221228T2045Z-{symbol}-{side}",
        "symbol": symbol,
        "side": side,
        "quantity": quantity,
        "price_usd": 100.0,
        "stop_loss_usd": 97.0 if side == "buy" else None,
        "take_profit_usd": 140.0 if side == "buy" else None,
    }


def sound() -> Record:
    """Return the parts that the checker reads of a record: 50 shares are bought and 10 are sold."""
    orders = [order("KO", "sell", 10.0), order()]
    return {
        "settings": {
            "strategy": "trend",
            "mode": "paper",
            "cash_buffer_fraction": 0.05,
            "max_position_fraction": 0.1,
            "max_order_usd": 25_000.0,
            "max_orders_per_run": 20,
            "stop_loss_fraction": 0.03,
            "take_profit_fraction": 0.4,
            "pause_after_stop_bars": 1,
            "max_daily_loss_fraction": 0.03,
            "max_drawdown_fraction": 0.2,
        },
        "observation": {
            "slot": "2022-12-28T20:45:00Z",
            "account": {
                "equity_usd": 100_000.0,
                "last_equity_usd": 100_000.0,
                "cash_usd": 90_000.0,
                "buying_power_usd": 90_000.0,
                "flows_usd": 0.0,
            },
            "positions": {"KO": {"quantity": 10.0}},
            "open_orders": [{"symbol": "KO", "side": "sell", "quantity": 10.0, "is_leg": True}],
            "closes": {symbol: {"times": [1, 2, 1672203600], "usd": [90.0, 95.0, 100.0]} for symbol in ("AAPL", "KO")},
            "stopped_at": {},
            "peak_equity_usd": 110_000.0,
        },
        "decision": {"orders": orders},
        "report": {"orders": copy.deepcopy(orders), "investments": {"KO": -10.0, "AAPL": 50.0}},
    }


def of(part: str, **values: Any) -> Callable[[Record], None]:
    """Return a change of some values in a part of the record."""

    def change(record: Record) -> None:
        inside: Any = record
        for word in part.split("."):
            inside = inside[int(word)] if isinstance(inside, list) else inside[word]
        inside.update(values)

    return change


def pending(record: Record) -> None:
    record["observation"]["open_orders"].append({"symbol": "AAPL", "side": "buy", "quantity": 1.0, "is_leg": False})


def reserved(record: Record) -> None:
    record["observation"]["open_orders"].append({"symbol": "MSFT", "side": "buy", "quantity": 1.0, "is_leg": False})


def twice(record: Record) -> None:
    record["decision"]["orders"].append(order())


def test_a_sound_record_breaks_no_cap() -> None:
    assert list(caps.find_broken_caps(sound())) == []


@pytest.mark.parametrize(
    ("asked", "legs"),
    [
        ({"stop_loss_fraction": 0.01}, {"stop_loss_usd": 99.0}),
        ({"stop_loss_fraction": 0.5}, {"stop_loss_usd": 97.0}),
        ({"take_profit_fraction": 0.05}, {"take_profit_usd": 105.0}),
    ],
)
def test_a_rule_may_ask_for_a_closer_stop_and_another_target(asked: Record, legs: Record) -> None:
    record = sound()
    record["decision"]["insights"] = [{"symbol": "AAPL", **asked}]
    for part in ("decision", "report"):
        record[part]["orders"][1].update(legs)
    assert list(caps.find_broken_caps(record)) == []
    record["report"]["orders"][1].update(stop_loss_usd=98.0, take_profit_usd=120.0)
    assert len(list(caps.find_broken_caps(record))) == 2


BROKEN: Mapping[str, tuple[Callable[[Record], None], str]] = {
    "the number of orders": (of("settings", max_orders_per_run=1), "2 orders; MAX_ORDERS_PER_RUN=1"),
    "two orders for a symbol": (twice, "2 orders for AAPL"),
    "the order's size": (of("settings", max_order_usd=4_999.0), "AAPL costs 5,000.00 USD; MAX_ORDER_USD=4,999.00"),
    "the position's size": (of("settings", max_position_fraction=0.04), "MAX_POSITION_FRACTION allows 4,000.00"),
    "the cash buffer": (of("settings", cash_buffer_fraction=0.86), "the buys cost 5,000.00 USD, but 4,000.00 may be"),
    "no margin": (of("observation.account", cash_usd=9_000.0), "but 4,000.00 may be spent"),
    "the buying power": (of("observation.account", buying_power_usd=9_000.0), "but 4,000.00 may be spent"),
    "the cash of open buys": (reserved, "but 0.00 may be spent"),
    "an open order": (pending, "AAPL has an open order"),
    "what is held is not bought": (of("observation.positions", AAPL={"quantity": 1.0}), "though it is held"),
    "more is sold than held": (of("decision.orders.0", quantity=11.0), "11 KO are sold, but 10 are held"),
    "more is sold in the report": (of("report.orders.0", quantity=100.0), "placed: 100 KO are sold, but 10 are held"),
    "no shares": (of("decision.orders.1", quantity=0.0), "AAPL: 0.0 shares"),
    "the id": (of("decision.orders.1", client_order_id="other"), "other should be trend-20221228T2045Z-AAPL-buy"),
    "the price": (of("decision.orders.1", price_usd=99.0), "which is not its latest price"),
    "the stop": (of("decision.orders.1", stop_loss_usd=94.0), "stop loss at 94.0 USD, which should be 97.00"),
    "no stop": (of("decision.orders.1", stop_loss_usd=None), "stop loss at None USD"),
    "the take profit": (of("decision.orders.1", take_profit_usd=180.0), "take profit at 180.0 USD"),
    "no bracket": (of("settings", stop_loss_fraction=0.0), "AAPL has a bracket; STOP_LOSS_FRACTION=0"),
    "part of a share": (of("decision.orders.1", quantity=1.5), "a bracket is for whole shares, not 1.5"),
    "the daily loss": (of("observation.account", equity_usd=96_000.0), "MAX_DAILY_LOSS_FRACTION allows 3,000.00"),
    "the daily loss with the new stops": (
        of("observation.account", equity_usd=97_100.0),
        "3,050.00 USD are lost or at a stop's risk",
    ),
    "a loss behind a deposit": (
        of("observation.account", flows_usd=5_000.0, equity_usd=100_500.0),
        "MAX_DAILY_LOSS_FRACTION allows 3,150.00",
    ),
    "unknown deposits": (of("observation.account", flows_usd=None), "deposits and withdrawals are not known"),
    "the drawdown": (of("observation", peak_equity_usd=125_000.0), "MAX_DRAWDOWN_FRACTION=0.2"),
    "an unknown peak": (of("observation", peak_equity_usd=None), "the highest equity is not known"),
    "the pause": (of("observation.stopped_at", AAPL="2022-12-28T15:00:00Z"), "0 bars since its stop"),
    "a dry run": (of("settings", mode="dry-run"), "MODE=dry-run, but 2 orders were placed"),
}


@pytest.mark.parametrize("cap", BROKEN)
def test_a_broken_cap_is_found(cap: str) -> None:
    change, words = BROKEN[cap]
    record = sound()
    change(record)
    assert words in "\n".join(caps.find_broken_caps(record))


def fractional(*stops: Record, **report: Any) -> Record:
    """Return a record in which a part of a share is bought, as Alpaca fills it: a plain order, and then these stops."""
    record = sound()
    record["settings"]["shares"] = "fractional"
    for part in ("decision", "report"):
        record[part]["orders"][1].update(quantity=49.5, take_profit_usd=None)
    record["report"]["orders"][1].update(status="filled", filled_quantity=49.5)
    record["report"] |= {"status": "TRADED", "stops": list(stops), "unprotected": [], **report}
    return record


def stop(quantity: float = 49.5, price_usd: float = 97.0, **values: Any) -> Record:
    """Return the stop that follows the buy."""
    order = {"symbol": "AAPL", "side": "sell", "quantity": quantity, "stop_loss_usd": price_usd}
    return {"type": "stop", "status": "accepted", "filled_quantity": 0.0, **order, **values}


SALE = stop(price_usd=0.0, type="market", status="filled", filled_quantity=49.5, stop_loss_usd=None)

WITH_STOP: Mapping[str, Record] = {
    "a stop for the day": fractional(stop()),
    "a stop above the planned one, for it was filled higher": fractional(stop(price_usd=97.4)),
    "a stop that has sold": fractional(stop(status="filled", filled_quantity=49.5)),
    "a sale at a price below the stop": fractional(SALE),
    "a part was sold and the rest has a stop": fractional(
        stop(status="canceled", filled_quantity=20.0), stop(quantity=29.5)
    ),
    "no stop, and its owner knows": fractional(unprotected=["AAPL"]),
    "a run that was cut off": fractional(status="INTERRUPTED"),
}

WITHOUT_STOP: Mapping[str, tuple[Record, str]] = {
    "no stop": (fractional(), "49.5 bought, but a stop or a sale below it is for 0 only"),
    "the stop of another symbol": (fractional(stop() | {"symbol": "KO"}), "is for 0 only"),
    "a rejected stop": (fractional(stop(status="rejected")), "is for 0 only"),
    "a stop for the whole shares": (fractional(stop(quantity=49.0)), "is for 49 only"),
    "a stop that is too far away": (fractional(stop(price_usd=95.0)), "is for 0 only"),
    "another symbol is named": (fractional(unprotected=["KO"]), "is for 0 only"),
}


@pytest.mark.parametrize("kind", WITH_STOP)
def test_a_part_of_a_share_has_a_stop_beside_its_buy(kind: str) -> None:
    assert list(caps.find_broken_caps(WITH_STOP[kind])) == []


@pytest.mark.parametrize("kind", WITHOUT_STOP)
def test_a_part_of_a_share_without_a_stop_is_found(kind: str) -> None:
    record, words = WITHOUT_STOP[kind]
    assert words in "\n".join(caps.find_broken_caps(record))


def test_a_part_of_a_share_that_was_not_bought_needs_no_stop() -> None:
    record = fractional()
    record["report"]["orders"][1].update(status="canceled", filled_quantity=0.0)
    assert list(caps.find_broken_caps(record)) == []


def test_without_stops_in_the_settings_a_part_of_a_share_needs_none() -> None:
    record = fractional()
    record["settings"].update(stop_loss_fraction=0.0, take_profit_fraction=0.0)
    for part in ("decision", "report"):
        record[part]["orders"][1]["stop_loss_usd"] = None
    assert list(caps.find_broken_caps(record)) == []


def test_a_pause_that_is_over_allows_a_buy() -> None:
    record = sound()
    record["observation"]["stopped_at"] = {"AAPL": "2022-12-27T15:00:00Z"}
    assert list(caps.find_broken_caps(record)) == []


def test_a_run_without_a_decision_breaks_no_cap() -> None:
    assert list(caps.find_broken_caps(sound() | {"decision": None})) == []


def test_the_checker_imports_nothing_of_the_bot() -> None:
    tree = ast.parse(Path(caps.__file__).read_text(encoding="utf-8"))
    names = [
        *(alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names),
        *(str(node.module) for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)),
    ]
    assert {name.partition(".")[0] for name in names}.isdisjoint({"trader", "scripts", "lambda_function"})
