"""The Broker protocol: the account, its positions and its orders. The adapters are alpaca.py and embedded.py."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol, Self

from trader.model import Account, BrokerError, Code, OpenOrder, Order, Position, Side
from trader.schedule.base import parse_slot_id, slot_id


class UnexpectedResponseError(BrokerError):
    """The broker gave an unexpected answer, and would give it again."""


class OrderRejectedError(Exception):
    """The broker definitely refused an order; `code` is the reason code for the report."""

    def __init__(self, message: str, code: Code = Code.ORDER_REJECTED) -> None:
        super().__init__(message)
        self.code = code


class OrderStateUnknownError(Exception):
    """The order was sent but its answer was lost: it may have been accepted, and must be looked up.

    `is_taken`: the broker said that it already has an order with this id. `is_refused`: the broker refused the order,
    with a code that could also mean that the id is taken.
    """

    def __init__(self, message: str, *, is_taken: bool = False, is_refused: bool = False) -> None:
        super().__init__(message)
        self.is_taken = is_taken
        self.is_refused = is_refused


@dataclass(frozen=True, slots=True)
class OrderId:
    """The client order id of a bot's order; it is the same for every attempt, so a broker accepts it only once.

    Its text is STRATEGY-SLOT-SYMBOL-SIDE with at most 128 characters, for example trend-20221228T2045Z-AAPL-buy.
    """

    strategy: str
    slot: datetime
    symbol: str
    side: Side

    def __str__(self) -> str:
        return f"{self.strategy}-{slot_id(self.slot)}-{self.symbol}-{self.side}"

    @classmethod
    def parse(cls, client_order_id: str) -> Self | None:
        """Return the parts of a client order id; None if the bot did not make it, as for the legs of a bracket."""
        match = _ORDER_ID.fullmatch(client_order_id)
        slot = parse_slot_id(match["slot"]) if match else None
        if match is None or slot is None:
            return None
        return cls(match["strategy"], slot, match["symbol"], Side(match["side"]))


_ORDER_ID = re.compile(r"(?P<strategy>[a-z0-9-]+)-(?P<slot>\d{8}T\d{4}Z)-(?P<symbol>[A-Z0-9.]+)-(?P<side>buy|sell)")


@dataclass(frozen=True, slots=True, kw_only=True)
class MarketClock:
    """The market's state: whether it is open, how long it stays open, and when it opens next."""

    is_open: bool
    next_open: datetime
    closes_in_s: float = math.inf  # infinite if orders fill immediately; below 0 if the answer is old


class Broker(Protocol):
    """A broker: the state that the pipeline reads, and `submit` and `cancel`, which only execution.py may call.

    Every method raises BrokerError if it gets no answer or an answer that cannot be trusted.
    """

    def clock(self) -> MarketClock:
        """Return the market's hours according to the broker."""

    def account(self) -> Account:
        """Return the account's money and whether it may trade."""

    def positions(self) -> Mapping[str, Position]:
        """Return every holding in US stocks, by symbol."""

    def open_orders(self) -> tuple[OpenOrder, ...]:
        """Return every open order, including the legs of brackets."""

    def submit(self, order: Order) -> Order:
        """Place the order once and return it with the broker's id and status.

        Raises OrderRejectedError after a definite refusal, OrderStateUnknownError if the answer was lost, and
        BrokerError if the order was certainly not accepted for another reason, such as refused keys. Never sends the
        order twice.
        """

    def find(self, order: Order) -> Order | None:
        """Return the order as the broker has it, by its client order id; None only if it definitely does not exist."""

    def cancel(self, open_order: OpenOrder) -> None:
        """Request the cancellation of an open order; an order that is already closed is not an error."""


class OrderHistory(Protocol):
    """The calls that find the orders of earlier runs. They raise BrokerError as those of a Broker do."""

    def list_orders(self, since: datetime, until: datetime) -> Sequence[Order]:
        """Return at least every order submitted between the two times, oldest first, whoever placed it.

        Orders of every status are included; the legs of brackets are not. The broker does not record the price at which
        an order was decided: `price_usd` is the price of its fill, or 0 without a fill.
        """

    def find(self, order: Order) -> Order | None:
        """Return the order with the same client order id; None only if it definitely does not exist."""


class LiveBroker(Broker, OrderHistory, Protocol):
    """A broker whose orders outlive the run that placed them."""
