"""What a broker is: the account, its positions and its orders. Two adapters ship: alpaca.py and embedded.py."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol, Self

from trader.model import Account, BrokerError, Code, OpenOrder, Order, Position, Side
from trader.schedule.base import parse_slot_id, slot_id


class UnexpectedResponseError(BrokerError):
    """The broker answered something else than what it was asked for, and will when it is asked again."""


class OrderRejectedError(Exception):
    """The broker refused an order for good; `code` is the reason code that the report gives."""

    def __init__(self, message: str, code: Code = Code.ORDER_REJECTED) -> None:
        super().__init__(message)
        self.code = code


class OrderStateUnknownError(Exception):
    """The order was sent and its answer lost: it may or may not have been accepted, and must be looked up.

    With `is_taken` the broker has said that it has an order of this id, with `is_refused` it has said no, with a code
    that could mean a taken id as well.
    """

    def __init__(self, message: str, *, is_taken: bool = False, is_refused: bool = False) -> None:
        super().__init__(message)
        self.is_taken = is_taken
        self.is_refused = is_refused


@dataclass(frozen=True, slots=True)
class OrderId:
    """The client order id of an order of ours, which is the same for every attempt at it: a broker takes it only once.

    Its text, at most 128 characters long, is STRATEGY-SLOT-SYMBOL-SIDE, as in trend-20221228T2045Z-AAPL-buy.
    """

    strategy: str
    slot: datetime
    symbol: str
    side: Side

    def __str__(self) -> str:
        return f"{self.strategy}-{slot_id(self.slot)}-{self.symbol}-{self.side}"

    @classmethod
    def parse(cls, client_order_id: str) -> Self | None:
        """Return the parts of a client order id; None if it is none of ours, as those of a bracket's legs."""
        match = _ORDER_ID.fullmatch(client_order_id)
        slot = parse_slot_id(match["slot"]) if match else None
        if match is None or slot is None:
            return None
        return cls(match["strategy"], slot, match["symbol"], Side(match["side"]))


_ORDER_ID = re.compile(r"(?P<strategy>[a-z0-9-]+)-(?P<slot>\d{8}T\d{4}Z)-(?P<symbol>[A-Z0-9.]+)-(?P<side>buy|sell)")


@dataclass(frozen=True, slots=True, kw_only=True)
class MarketClock:
    """Whether the market is open, how long it still will be, and when it opens next."""

    is_open: bool
    next_open: datetime
    closes_in_s: float = math.inf  # endless where an order fills as it is placed; below 0 if the answer is an old one


class Broker(Protocol):
    """What the pipeline reads of a broker, and the two things that execution.py alone may ask of it.

    Every method raises BrokerError when the answer cannot be had or cannot be trusted.
    """

    def clock(self) -> MarketClock:
        """The market's hours, as the broker sees them."""

    def account(self) -> Account:
        """Money and whether the account may trade."""

    def positions(self) -> Mapping[str, Position]:
        """Every holding in US stocks, by symbol."""

    def open_orders(self) -> tuple[OpenOrder, ...]:
        """Every order still being worked on, legs of brackets included."""

    def submit(self, order: Order) -> Order:
        """Place the order once and return it with the broker's id and status.

        Raises OrderRejectedError after a definite no, OrderStateUnknownError when the answer was lost, BrokerError when
        it was certainly not accepted for a reason that is not the order's, such as refused keys. Never sends twice.
        """

    def find(self, order: Order) -> Order | None:
        """The order as the broker knows it, found by its client order id; None only if it is definitely not there."""

    def cancel(self, open_order: OpenOrder) -> None:
        """Ask for an open order to be cancelled; an order that is already gone is no error."""


class OrderHistory(Protocol):
    """What a broker knows of orders that earlier runs have placed. Raises BrokerError as a Broker does."""

    def list_orders(self, since: datetime, until: datetime) -> Sequence[Order]:
        """At least every order submitted between the two, whoever placed it and whatever became of it, oldest first.

        The legs of brackets are left out. The books do not know at what price an order was decided: `price_usd` is
        that of its fill, 0 without one.
        """

    def find(self, order: Order) -> Order | None:
        """The order, found by its client order id; None only if it is definitely not there."""


class LiveBroker(Broker, OrderHistory, Protocol):
    """A broker whose orders outlive the run that placed them."""
