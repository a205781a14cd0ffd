"""A journal record of a small made-up run: two buys, one sale, two denials and one symbol without an order."""

from datetime import UTC, datetime, timedelta
from typing import Any

SLOT = datetime(2022, 12, 28, 21, tzinfo=UTC)
BARS = 60


def record(**report: Any) -> dict[str, Any]:
    """Return the record; arguments replace parts of its report."""
    forecasts = [
        forecast("AAA", 98.36, 104.5),
        forecast("BRK.B", 1_234.56, 1_300.0),
        forecast("CCC", 52.0, 48.0),
        forecast("DDD", 33.0, 33.1),
        forecast("EEE", 61.0, 66.0),
        forecast("FFF", 71.0, 76.0),
    ]
    gaps = {each["symbol"]: each["price_usd"] / each["trend_usd"] - 1 for each in forecasts}
    return {
        "version": 1,
        "settings": {
            "strategy": "trend",
            "broker": "embedded",
            "mode": "paper",
            "signal": "trend",
            "signal_threshold_fraction": 0.01,
        },
        "observation": {
            "slot": SLOT.isoformat(),
            "now": SLOT.isoformat(),
            "account": account(100_000.0, 99_350.0),
            "positions": {
                "CCC": {"symbol": "CCC", "quantity": 12.5, "average_price_usd": 40.0, "price_usd": 52.0},
            },
            "open_orders": [],
            "ranking": {},
            "closes": {each["symbol"]: closes(each["price_usd"]) for each in forecasts},
            "denials": [],
        },
        "decision": None,
        "report": {
            "strategy": "trend",
            "slot": "2022-12-28T21:00:00Z",
            "mode": "paper",
            "status": "TRADED",
            "detail": "",
            "investments": {},
            "orders": [
                order("AAA", "buy", 37.0, 98.36, stop_loss_usd=95.41, take_profit_usd=137.7, status="filled"),
                order("BRK.B", "buy", 4.0, 1_234.56, stop_loss_usd=1_197.52, take_profit_usd=1_728.38),
                order("CCC", "sell", 12.5, 52.0, status="filled"),
            ],
            "denials": [
                denial("EEE", "QUANTITY_BELOW_ONE", "48.20 USD to spend is less than one share at 61.00 USD"),
                denial("FFF", "ORDER_REJECTED", "the broker answered: not tradable"),
            ],
            "targets": [
                target("AAA", 0, 37),
                target("BRK.B", 0, 4),
                target("CCC", 12.5, 0),
                target("EEE", 0, 0),
                target("FFF", 0, 2),
            ],
            "unprotected": [],
            "forecasts": forecasts,
            "insights": [insight(symbol, gap) for symbol, gap in gaps.items()],
            "account": {"before": account(100_000.0, 99_350.0), "after": account(99_981.12, 91_422.64)},
            "timings_s": {"prices": 0.41, "forecast": 0.62},
            **report,
        },
    }


def record_of_a_lost_stop_loss() -> dict[str, Any]:
    """Return the record of a run whose sale of CCC was refused after the bracket protecting it was canceled."""
    lost = record(unprotected=["CCC"])
    lost["report"]["orders"].pop()
    lost["report"]["denials"].append(denial("CCC", "ORDER_REJECTED", LOST) | {"is_unprotected": True})
    return lost


def record_of_an_early_stop() -> dict[str, Any]:
    """Return the record of a run that found two holdings without a stop, and what became of two earlier orders."""
    bare = "held without a working stop: no stop is placed: trading is halted (the halt switch is on)"
    return record(
        unprotected=["DDD"],
        denials=[denial("DDD", "UNPROTECTED", bare) | {"is_unprotected": True}],
        stops=[
            order("CCC", "sell", 12.0, 38.8, type="stop", stop_loss_usd=38.8, status="new"),
            order("GGG", "sell", 3.0, 7.0, type="market", stop_loss_usd=7.2, status="filled", filled_price_usd=7.0),
        ],
        settled=[
            settled("trend-20221228T2045Z-AAA-buy", "AAA", "buy", 10.0, "accepted", "rejected"),
            settled("trend-20221228T2045Z-BRK.B-sell", "BRK.B", "sell", 4.0, "pending_new", "expired"),
            settled("trend-20221227T2045Z-HHH-buy", "HHH", "buy", 7.0, "accepted", "filled", 7.0, 51.5),
        ],
    )


LOST = (
    "the broker answered 403 to POST /v2/orders: insufficient qty available for order (requested: 12.5, available: 0); "
    "ITS STOP LOSS IS CANCELED and the shares held are not protected"
)


def stop_record(status: str, detail: str = "") -> dict[str, Any]:
    """Return the record of a run that a stop code or an error ended before it read anything."""
    empty: dict[str, Any] = {
        name: [] for name in ("orders", "denials", "targets", "unprotected", "forecasts", "insights")
    }
    nothing = {"before": None, "after": None}
    ended = record(status=status, detail=detail, account=nothing, timings_s={}, **empty)
    return {**ended, "observation": None}


def account(equity_usd: float, cash_usd: float) -> dict[str, Any]:
    return {
        "equity_usd": equity_usd,
        "last_equity_usd": 100_000.0,
        "cash_usd": cash_usd,
        "buying_power_usd": cash_usd,
        "blocked": "",
    }


def closes(last_usd: float) -> dict[str, Any]:
    """Return sawtooth closes that end at `last_usd`."""
    days = range(BARS - 1, -1, -1)
    return {
        "times": [(SLOT - timedelta(days=day)).timestamp() for day in days],
        "usd": [last_usd * (1 - 0.002 * day + (0.01 if day % 4 else 0.0)) for day in days],
    }


def forecast(symbol: str, price_usd: float, trend_usd: float) -> dict[str, Any]:
    corners = ((BARS - 1, 0.9), (30, 0.97), (0, 1.0))
    return {
        "symbol": symbol,
        "time": SLOT.isoformat(),
        "price_usd": price_usd,
        "trend_usd": trend_usd,
        "horizon_time": (SLOT + timedelta(days=1)).isoformat(),
        "yhat_usd": trend_usd * 1.001,
        "lower_usd": None,
        "upper_usd": None,
        "line": [[(SLOT - timedelta(days=day)).isoformat(), trend_usd * part] for day, part in corners],
    }


def insight(symbol: str, gap_fraction: float) -> dict[str, Any]:
    direction = "FLAT" if abs(gap_fraction) < 0.01 else "DOWN" if gap_fraction > 0 else "UP"
    return {
        "symbol": symbol,
        "direction": direction,
        "price_usd": 1.0,
        "gap_fraction": gap_fraction,
        "reason": f"price is {gap_fraction:.1%} away from its trend line",
    }


def target(symbol: str, held: float, wanted: float) -> dict[str, Any]:
    return {"symbol": symbol, "held": held, "wanted": wanted, "price_usd": 1.0, "reason": ""}


def order(symbol: str, side: str, quantity: float, price_usd: float, **parts: Any) -> dict[str, Any]:
    return {
        "client_order_id": f"trend-20221228T2100-{symbol}-{side}",
        "symbol": symbol,
        "side": side,
        "quantity": quantity,
        "price_usd": price_usd,
        "stop_loss_usd": None,
        "take_profit_usd": None,
        "reason": "",
        "status": "accepted",
        "order_id": "1",
        "filled_quantity": 0.0,
        "filled_price_usd": None,
        **parts,
    }


def settled(
    name: str,
    symbol: str,
    side: str,
    quantity: float,
    then: str,
    now: str,
    filled: float = 0.0,
    at: float | None = None,
) -> dict[str, Any]:
    return {
        "client_order_id": name,
        "symbol": symbol,
        "side": side,
        "quantity": quantity,
        "recorded_status": then,
        "status": now,
        "filled_quantity": filled,
        "filled_price_usd": at,
    }


def denial(symbol: str, code: str, detail: str) -> dict[str, Any]:
    return {"symbol": symbol, "code": code, "detail": detail}
