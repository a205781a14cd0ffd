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


class UnreadablePositionsError(UnexpectedResponseError):
    """Some holdings cannot be read; `positions` has the others, and `faults` what is wrong, by symbol."""

    def __init__(self, positions: Mapping[str, Position], faults: Mapping[str, str]) -> None:
        super().__init__("; ".join(faults.values()))
        self.positions = positions
        self.faults = faults


class OrderRejectedError(Exception):
    """The broker definitely refused an order; `code` is the reason code for the report.

    `is_general`: the reason is the account or the moment, not the order, so another order would be refused as well.
    `order`: what the broker shows of the order, if it took it at first.
    """

    def __init__(
        self, message: str, code: Code = Code.ORDER_REJECTED, *, is_general: bool = False, order: Order | None = None
    ) -> None:
        super().__init__(message)
        self.code = code
        self.is_general = is_general
        self.order = order


class SharesReservedError(OrderRejectedError):
    """The broker definitely refused a sale, because other orders reserve the shares."""


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

    Its text is STRATEGY-SLOT-SYMBOL-SIDE with at most 128 characters, for example trend-20221228T2045Z-AAPL-buy. An
    order that protects a holding ends in stop1 instead, or in stop2 if it is the second of its run for that symbol.
    """

    strategy: str
    slot: datetime
    symbol: str
    side: Side
    stop_number: int = 0  # 0: the order follows a decision

    def __str__(self) -> str:
        what = f"stop{self.stop_number}" if self.stop_number else self.side
        return f"{self.strategy}-{slot_id(self.slot)}-{self.symbol}-{what}"

    @classmethod
    def parse(cls, client_order_id: str) -> Self | None:
        """Return the parts of a client order id; None if the bot did not make it, as for the legs of a bracket."""
        match = _ORDER_ID.fullmatch(client_order_id)
        slot = parse_slot_id(match["slot"]) if match else None
        if match is None or slot is None:
            return None
        side = Side(match["side"]) if match["side"] else Side.SELL
        return cls(match["strategy"], slot, match["symbol"], side, int(match["stop"] or 0))


_ORDER_ID = re.compile(
    r"(?P<strategy>[a-z0-9-]+)-(?P<slot>\d{8}T\d{4}Z)-(?P<symbol>[A-Z0-9.]+)-"
    r"((?P<side>buy|sell)|stop(?P<stop>[1-9]\d{0,3}))"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class MarketClock:
    """The market's state: whether it is open, how long it stays open, and when it opens next."""

    is_open: bool
    next_open: datetime
    closes_in_s: float = math.inf  # infinite if orders fill immediately; below 0 if the answer is old
    now: datetime | None = None  # the broker's time; None if it has no clock of its own


class Books(Protocol):
    """The part of a broker that shows what is held and what is on order."""

    def positions(self) -> Mapping[str, Position]:
        """Return every holding, by symbol; those that are not in US stocks are marked.

        Raises UnreadablePositionsError, which has the other holdings, if the record of a holding cannot be read.
        """

    def open_orders(self) -> tuple[OpenOrder, ...]:
        """Return every open order in US stocks, including the legs of brackets."""


class Broker(Books, Protocol):
    """A broker: the state that the pipeline reads, and `submit` and `cancel`, which only three stages may call.

    These are settlement, protection and execution. Every method raises BrokerError if it gets no answer or an answer
    that cannot be trusted.
    """

    def clock(self) -> MarketClock:
        """Return the market's hours according to the broker."""

    def account(self) -> Account:
        """Return the account's money and whether it may trade."""

    def orders_of(self, symbols: Sequence[str]) -> Sequence[Order]:
        """Return the latest orders for these symbols, whoever placed them, of every status, with legs.

        Those of each symbol come newest first.
        """

    def refresh(self, orders: Sequence[Order]) -> tuple[Order, ...]:
        """Return these orders of the last minutes as the broker has them now; an order that it lacks is unchanged."""

    def latest_prices_usd(self, symbols: Sequence[str]) -> Mapping[str, float]:
        """Return the price of the latest trade of each symbol; a symbol without one is left out."""

    def reserve_requests(self, count: int) -> None:
        """Wait until `count` requests can be sent without a pause. Raises OrderRejectedError if there is no time."""

    def submit(self, order: Order) -> Order:
        """Place the order once and return it with the broker's id and status.

        Raises OrderRejectedError after a definite refusal (SharesReservedError if other orders reserve the shares of a
        sale), OrderStateUnknownError if the answer was lost, and
        BrokerError if the order was certainly not accepted for another reason, such as refused keys. Never sends the
        order twice.
        """

    def find(self, order: Order) -> Order | None:
        """Return the order as the broker has it, by its client order id; None only if it definitely does not exist."""

    def cancel(self, order: OpenOrder | Order) -> None:
        """Request the cancellation of an open order; an order that is already closed is not an error."""


class OrderHistory(Protocol):
    """The calls that find the orders of earlier runs. They raise BrokerError as those of a Broker do."""

    def list_orders(self, since: datetime, until: datetime) -> Sequence[Order]:
        """Return at least every order submitted between the two times, oldest first, whoever placed it.

        Orders of every status are included, with the legs of brackets in their entries. The broker does not record the
        price at which an order was decided: `price_usd` is the price of its fill, or 0 without a fill.
        """

    def find(self, order: Order) -> Order | None:
        """Return the order with the same client order id; None only if it definitely does not exist."""


@dataclass(frozen=True, slots=True)
class CashFlow:
    """A deposit or, with a negative amount, a withdrawal."""

    at: datetime
    usd: float


class CashFlows(Protocol):
    """The call that finds earlier deposits and withdrawals. It raises BrokerError as those of a Broker do."""

    def list_flows(self, since: datetime) -> Sequence[CashFlow]:
        """Return every deposit and withdrawal after a time."""


class LiveBroker(Broker, OrderHistory, CashFlows, Protocol):
    """A broker whose orders outlive the run that placed them."""
