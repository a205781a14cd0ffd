"""Record: what is known of a run as JSON, for the journal, for the caller, and back again for `make replay`."""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, is_dataclass, replace
from datetime import UTC, datetime
from math import floor
from typing import Any

import pandas as pd

from trader import codec
from trader.broker.base import DEAD, UNKNOWN
from trader.model import (
    Account,
    Closes,
    Code,
    Decision,
    Denial,
    Observation,
    OpenOrder,
    Order,
    Outcome,
    Position,
    Report,
    Side,
)
from trader.settings import Settings
from trader.stages.execution import STOP_LOSS_LOST

VERSION = 1
STARTED = "STARTED"
"""The status in what is kept of a run before its first order: its decision is made, and orders are being placed."""


@dataclass(slots=True, kw_only=True)
class Run:
    """One run as far as it got, so that the record of one that fails half-way tells that much."""

    settings: Settings
    slot: datetime
    now: datetime
    observation: Observation | None = None
    decision: Decision | None = None
    outcomes: list[Order | Denial] = field(default_factory=list)
    recovered: list[datetime] = field(default_factory=list)  # slots of runs that were cut off
    account_after: Account | None = None
    timings_s: dict[str, float] = field(default_factory=dict)

    @property
    def is_dry(self) -> bool:
        """Whether the run decides and places nothing."""
        return self.settings.mode == "dry-run"

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        """Measure one stage, seconds of wall time."""
        begun = time.perf_counter()
        try:
            yield
        finally:
            self.timings_s[stage] = round(time.perf_counter() - begun, 3)

    @property
    def orders(self) -> tuple[Order, ...]:
        """What became of the planned orders: the placed ones, or the plan itself where nothing may be placed."""
        if self.is_dry:
            return self.decision.orders if self.decision else ()
        return tuple(each for each in self.outcomes if isinstance(each, Order))

    @property
    def denials(self) -> tuple[Denial, ...]:
        """Every refusal, in the order of the stages."""
        decided = self.decision.denials if self.decision else self.observation.denials if self.observation else ()
        return decided + tuple(each for each in self.outcomes if isinstance(each, Denial))

    @property
    def unprotected(self) -> tuple[str, ...]:
        """What is held, in whole shares, without a stop loss although brackets are on, as far as the run knows."""
        if self.observation is None or not self.settings.stop_loss_fraction:
            return ()
        sales = [order for order in self.observation.open_orders if order.side is Side.SELL]
        held = {
            symbol
            for symbol, position in self.observation.positions.items()
            if max((each.quantity for each in sales if each.symbol == symbol), default=0) < floor(position.quantity)
        }
        lost = {each.symbol for each in self.outcomes if isinstance(each, Denial) and STOP_LOSS_LOST in each.detail}
        orders = [each for each in self.outcomes if isinstance(each, Order) and each.side is Side.SELL]
        sold = {each.symbol for each in orders if each.status not in {*DEAD, UNKNOWN}}
        cut_short = {each.symbol for each in orders} - sold  # ended after a part of it was filled
        return tuple(sorted((held - sold) | lost | cut_short))

    def report(self, status: Code | Outcome | str, detail: str = "") -> Report:
        """The run as far as it got."""
        placed = [each for each in self.outcomes if isinstance(each, Order)]
        return {
            "strategy": self.settings.strategy,
            "slot": as_json(self.slot),
            "mode": self.settings.mode,
            "status": str(status),
            "detail": detail,
            "investments": {order.symbol: order.signed_quantity for order in placed},
            "orders": as_json(self.orders),
            "denials": as_json(self.denials),
            "targets": as_json(self.decision.targets if self.decision else ()),
            "insights": as_json(self.decision.insights if self.decision else ()),
            "forecasts": as_json(self.decision.forecasts if self.decision else ()),
            "account": {
                "before": as_json(self.observation.account if self.observation else None),
                "after": as_json(self.account_after),
            },
            "unprotected": list(self.unprotected),
            "recovered": as_json(self.recovered),
            "timings_s": dict(self.timings_s),
        }

    def record(self, report: Report) -> dict[str, Any]:
        """All that is needed to compute the run's decisions again, and what they were; no secret is in it."""
        return {
            "version": VERSION,
            "settings": self.settings.public(),
            "observation": as_json(self.observation),
            "decision": as_json(self.decision),
            "report": report,
        }


def as_json(value: Any) -> Any:  # noqa: ANN401 any of the model's values, and what it is in JSON
    """The model's values in JSON's types: times in UTC, closes as epoch seconds beside prices."""
    if is_dataclass(value):
        return {item.name: as_json(getattr(value, item.name)) for item in fields(value)}
    if isinstance(value, pd.Series):
        return {"times": [int(time.timestamp()) for time in value.index], "usd": value.to_list()}
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
    if isinstance(value, Mapping):
        return {key: as_json(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [as_json(item) for item in value]
    return value


def observation_from(data: Mapping[str, Any]) -> Observation:
    """An observation out of a record. Raises KeyError, TypeError or ValueError if it is none."""
    return Observation(
        slot=codec.moment(data["slot"]),
        now=codec.moment(data["now"]),
        account=codec.built(Account, data["account"]),
        positions={symbol: codec.built(Position, value) for symbol, value in data["positions"].items()},
        open_orders=tuple(codec.built(OpenOrder, value) for value in data["open_orders"]),
        ranking={symbol: codec.number(value) for symbol, value in data["ranking"].items()},
        closes={symbol: _closes(symbol, value) for symbol, value in data["closes"].items()},
        denials=tuple(codec.built(Denial, value) for value in data["denials"]),
    )


def order_from(data: Mapping[str, Any]) -> Order:
    """An order out of a record. Raises KeyError, TypeError or ValueError if it is none."""
    return codec.built(Order, data)


def settings_from(data: Mapping[str, Any]) -> Settings:
    """The settings of a record, checked as any; its secrets are not there, and computing again needs none."""
    texts = {name.upper(): ",".join(value) if isinstance(value, list) else str(value) for name, value in data.items()}
    checked = Settings.from_env({**texts, "ALPACAUSER": "-", "ALPACAPW": "-"}, lambda _: {})
    return replace(checked, alpacauser="", alpacapw="")


def _closes(symbol: str, data: Mapping[str, Any]) -> Closes:
    times = pd.to_datetime([codec.number(time) for time in data["times"]], unit="s", utc=True)
    closes = pd.Series([codec.number(price) for price in data["usd"]], index=times, name=symbol, dtype=float)
    if closes.empty or not closes.index.is_monotonic_increasing or not closes.index.is_unique or (closes <= 0).any():
        raise ValueError(f"the closes of {symbol!r:.100} cannot be")
    return closes
