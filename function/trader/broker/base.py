"""Broker: the account, its positions and its orders. Two adapters ship: alpaca.py and embedded.py."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from trader.model import Account, Code, OpenOrder, Order, Position

DEAD = frozenset({"rejected", "canceled", "expired", "suspended"})
"""Statuses of orders that will not be filled any further."""

UNKNOWN = "unknown"
"""Ours, of an order that was sent and whose fate nobody can tell."""


class BrokerError(Exception):
    """The broker did not answer, or answered nonsense: nothing is known, so the run stops."""


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
    """What is read of a broker to find out what an earlier run has placed. Raises BrokerError as a Broker does."""

    def placed(self, since: datetime, until: datetime) -> Sequence[Order]:
        """At least every order submitted between the two, whoever placed it and whatever became of it, oldest first.

        The legs of brackets are left out. The books do not know at what price an order was decided: `price_usd` is
        that of its fill, 0 without one.
        """

    def find(self, order: Order) -> Order | None:
        """The order, found by its client order id; None only if it is definitely not there."""


class LiveBroker(Broker, OrderHistory, Protocol):
    """A broker whose orders outlive the run that placed them."""
