"""The values that pass between the stages: frozen, with units in their names, and independent of other modules."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal
from enum import StrEnum
from pathlib import Path
from typing import Any, NotRequired, TypedDict, overload
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
from numpy.typing import NDArray

NEW_YORK = ZoneInfo("America/New_York")

BAR_LENGTH = {
    "1d": timedelta(days=1),
    "1h": timedelta(hours=1),
    "15m": timedelta(minutes=15),
    "5m": timedelta(minutes=5),
    "1m": timedelta(minutes=1),
}
"""The length of a bar, by bar interval as in the settings."""

BARS_PER_SESSION = {"1d": 1, "1h": 7, "15m": 26, "5m": 78, "1m": 390}
"""The number of bars in a session from 9:30 to 16:00, by bar interval."""

YEARS = range(1900, 2200)
"""The years that a time may have; any other year is a mistake, and calendars do not reach far beyond these."""

SAMPLE_PRICES = Path(__file__).parent / "data" / "sample_prices.csv.gz"
"""The prices that ship with the project."""

type Closes = pd.Series[float]
"""Closing prices in USD on a timezone-aware, strictly increasing DatetimeIndex (each bar's start)."""

OHLV = ("open", "high", "low", "volume")

type Ohlv = NDArray[np.float64]
"""What bars have beside their closes: a row for each close, and the columns of OHLV.

The prices are in USD and in the unit of the closes, and the volume is in shares of it; NaN where it is not known.
"""


WHEN_SET: Mapping[str, bool] = {"is_when_set": True}
"""The metadata of a field that is encoded only if it differs from its default: older records stay as they were."""

DECIMALS = 9
"""Decimal places of a restated price or quantity: what lies beyond them is the rounding of a product."""


CENT, HUNDREDTH_OF_CENT = Decimal("0.01"), Decimal("0.0001")
"""The two ticks; see tick_usd, which is called for each symbol and bar."""


def tick_usd(price_usd: float) -> Decimal:
    """Return the tick of US stocks: a cent at prices from one dollar, a hundredth of a cent below (SEC Rule 612)."""
    return CENT if price_usd >= 1 else HUNDREDTH_OF_CENT


def round_to_tick(price_usd: float) -> Decimal:
    """Return a price rounded to the tick."""
    return Decimal(repr(price_usd)).quantize(tick_usd(price_usd), ROUND_HALF_UP)


def move_to_tick(price_usd: float, rounding: str) -> float:
    """Return a price rounded to the tick by a rounding of the decimal module, and at least one tick."""
    tick = tick_usd(price_usd)
    exact = Decimal(repr(round(price_usd, DECIMALS)))  # without the rounding errors of a product
    return float(max(exact.quantize(tick, rounding), tick))


class BrokerName(StrEnum):
    """The brokers, spelled as in BROKER."""

    EMBEDDED = "embedded"
    ALPACA = "alpaca"


class Mode(StrEnum):
    """What a run may do with its orders, spelled as in MODE."""

    DRY_RUN = "dry-run"
    PAPER = "paper"
    LIVE = "live"


class Sizing(StrEnum):
    """How the cash is divided among the buys of a run, spelled as in SIZING."""

    EQUAL = "equal"
    INVERSE_VOLATILITY = "inverse-volatility"
    WEIGHT = "weight"  # as the rule says


class Shares(StrEnum):
    """The quantities that buys may have, spelled as in SHARES."""

    WHOLE = "whole"
    FRACTIONAL = "fractional"


class Engine(StrEnum):
    """The engines that fit trend lines, spelled as in ENGINE. `map` fits Prophet's model to all symbols at once."""

    PROPHET = "prophet"
    MAP = "map"


class PriceSourceName(StrEnum):
    """The price sources, spelled as in PRICE_SOURCES."""

    FILE = "file"
    YAHOO = "yahoo"
    ALPACA = "alpaca"


class Code(StrEnum):
    """A reason why the bot did not act: on one symbol (in a Denial), or at all (as the status of a Report)."""

    HALTED = "HALTED"
    MARKET_CLOSED = "MARKET_CLOSED"
    ALREADY_RAN = "ALREADY_RAN"
    UNDER_WAY = "UNDER_WAY"
    NOT_DUE = "NOT_DUE"
    NO_PRICE_DATA = "NO_PRICE_DATA"
    STALE_PRICE = "STALE_PRICE"
    OPEN_ORDER_PENDING = "OPEN_ORDER_PENDING"
    QUANTITY_BELOW_ONE = "QUANTITY_BELOW_ONE"
    BUYING_POWER_EXCEEDED = "BUYING_POWER_EXCEEDED"
    POSITION_CAP = "POSITION_CAP"
    ORDER_CAP = "ORDER_CAP"
    DAILY_LOSS_STOP = "DAILY_LOSS_STOP"
    ACCOUNT_BLOCKED = "ACCOUNT_BLOCKED"
    ORDER_REJECTED = "ORDER_REJECTED"
    FORECAST_FAILED = "FORECAST_FAILED"
    OUT_OF_TIME = "OUT_OF_TIME"
    BETWEEN_DECISIONS = "BETWEEN_DECISIONS"
    PAUSED = "PAUSED"
    DRAWDOWN_STOP = "DRAWDOWN_STOP"
    NOT_FILLED = "NOT_FILLED"
    UNPROTECTED = "UNPROTECTED"
    EQUITY_UNKNOWN = "EQUITY_UNKNOWN"
    RULE_FAILED = "RULE_FAILED"
    ACCOUNT_TAKEN = "ACCOUNT_TAKEN"


class Outcome(StrEnum):
    """The result of a run that no Code stopped."""

    TRADED = "TRADED"
    NOTHING_TO_DO = "NOTHING_TO_DO"
    DRY_RUN = "DRY_RUN"  # orders were decided, but MODE=dry-run withheld them
    FAILED = "FAILED"  # an unexpected error, which is also raised
    INTERRUPTED = "INTERRUPTED"  # cut off; a later run recorded it from the broker's orders


class Health(StrEnum):
    """What the status of a run says about the bot: the alarms of a deployed bot go by it."""

    HEALTHY = "healthy"  # it did its work
    IDLE = "idle"  # there was no work, or its owner halted it
    ATTENTION = "attention"  # it could not do its work, and a person is needed

    @classmethod
    def of(cls, status: str) -> "Health":
        """Return the health of a run with this status; a status that is in no list needs attention."""
        if status in _HEALTHY:
            return cls.HEALTHY
        return cls.IDLE if status in _IDLE else cls.ATTENTION


_HEALTHY = frozenset(
    {
        Outcome.TRADED,
        Outcome.NOTHING_TO_DO,
        Outcome.DRY_RUN,
        Code.OPEN_ORDER_PENDING,
        Code.QUANTITY_BELOW_ONE,
        Code.BUYING_POWER_EXCEEDED,
        Code.POSITION_CAP,
        Code.ORDER_CAP,
        Code.DAILY_LOSS_STOP,
        Code.DRAWDOWN_STOP,
        Code.BETWEEN_DECISIONS,
        Code.PAUSED,
    }
)
_IDLE = frozenset({Code.MARKET_CLOSED, Code.NOT_DUE, Code.ALREADY_RAN, Code.UNDER_WAY, Code.HALTED})


class Direction(StrEnum):
    """The expected direction of the price."""

    UP = "UP"
    FLAT = "FLAT"
    DOWN = "DOWN"


class Side(StrEnum):
    """The two sides of an order, spelled as brokers do."""

    BUY = "buy"
    SELL = "sell"


class OrderType(StrEnum):
    """The types of orders, spelled as Alpaca does, and one for any other type."""

    MARKET = "market"
    LIMIT = "limit"
    STOP = "stop"
    STOP_LIMIT = "stop_limit"
    TRAILING_STOP = "trailing_stop"
    OTHER = "other"

    @classmethod
    def _missing_(cls, value: object) -> "OrderType | None":
        return cls.OTHER if isinstance(value, str) else None

    @property
    def is_stop(self) -> bool:
        """True if the order sells once the price has fallen far enough."""
        return self in _STOPS


_STOPS = frozenset({OrderType.STOP, OrderType.STOP_LIMIT, OrderType.TRAILING_STOP})


class OrderStatus(StrEnum):
    """The status of an order: three of the bot's own, then those that Alpaca documents."""

    PLANNED = "planned"  # not sent yet
    UNKNOWN = "unknown"  # sent, but its state could not be determined
    OTHER = "other"  # a broker's status that is not in this list
    NEW = "new"
    PARTIALLY_FILLED = "partially_filled"
    FILLED = "filled"
    DONE_FOR_DAY = "done_for_day"
    CANCELED = "canceled"
    EXPIRED = "expired"
    REPLACED = "replaced"
    PENDING_CANCEL = "pending_cancel"
    PENDING_REPLACE = "pending_replace"
    ACCEPTED = "accepted"
    PENDING_NEW = "pending_new"
    ACCEPTED_FOR_BIDDING = "accepted_for_bidding"
    STOPPED = "stopped"
    REJECTED = "rejected"
    SUSPENDED = "suspended"
    CALCULATED = "calculated"
    HELD = "held"

    @classmethod
    def _missing_(cls, value: object) -> "OrderStatus | None":
        return cls.OTHER if isinstance(value, str) else None

    @property
    def is_dead(self) -> bool:
        """True if the order will not be filled any further."""
        return self in _DEAD


_DEAD = frozenset({OrderStatus.REJECTED, OrderStatus.CANCELED, OrderStatus.EXPIRED})
"""A suspended order is not among them: it may be filled once its symbol trades again."""


class BrokerError(Exception):
    """The broker gave no answer or an invalid one; the state is unknown, so the run stops."""


class RunStopped(Exception):  # noqa: N818 it ends a run in an orderly way and is not an error
    """The run ends here; `code` is the reason code."""

    def __init__(self, code: Code, detail: str) -> None:
        super().__init__(detail)
        self.code = code


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """The broker's account at one moment. `blocked` says why it may not trade; it is empty if it may.

    `number` tells it from all others of the broker; it is empty if the broker has only one.
    """

    equity_usd: float
    last_equity_usd: float  # at the previous session's close
    cash_usd: float
    buying_power_usd: float
    blocked: str = ""
    flows_usd: float | None = 0.0  # deposits less withdrawals since the last close, no profit; None if not known
    number: str = field(default="", metadata=WHEN_SET)

    def spendable_usd(self, cash_buffer_fraction: float) -> float:
        """Return the cash for new buys, without margin and without the buffer, which is a fraction of the equity."""
        return max(0.0, min(self.cash_usd, self.buying_power_usd) - cash_buffer_fraction * self.equity_usd)


@dataclass(frozen=True, slots=True, kw_only=True)
class Position:
    """A holding. `quantity` may be fractional; it is negative only if someone other than the bot went short.

    `average_price_usd` is what was paid for a share, None if the broker does not know it. `available` is the quantity
    that no open order reserves, None if the broker does not say. Only a holding with `is_stock` is in US stocks.
    """

    symbol: str
    quantity: float
    average_price_usd: float | None
    price_usd: float
    available: float | None = None
    is_stock: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenOrder:
    """An open order at the broker. `quantity` is the unfilled part, 0 if unknown.

    `is_leg` marks an order that is there to end a holding: a leg of a bracket, or a stop that the bot placed by itself.
    `parent_id` is the broker's id of the order that a leg belongs to, empty if there is none or it is not known;
    `parent_status` is that order's status, None if it is not known.
    """

    order_id: str
    client_order_id: str
    symbol: str
    side: Side
    quantity: float = 0.0
    is_leg: bool = False
    type: OrderType = OrderType.MARKET
    status: OrderStatus = OrderStatus.NEW
    order_class: str = ""
    stop_price_usd: float | None = None
    limit_price_usd: float | None = None
    parent_id: str = ""
    parent_status: OrderStatus | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """A note on the prices: a gap, a wrong price, a jump like a split. `symbol` is empty for a note on all symbols."""

    symbol: str
    what: str  # a sentence


class Line(Sequence[tuple[datetime, float]]):
    """The corners of a trend line, pairs of a time and a price in USD; it equals a tuple of the same pairs.

    The lines of many symbols share their times. The pairs are made when they are asked for: for hundreds of symbols
    they are thousands of objects, which take longer than a fifth of the fits.
    """

    __slots__ = ("_times", "_usd")

    def __init__(self, times: Sequence[datetime], usd: NDArray[np.float64]) -> None:
        """Make a line of as many times as prices; neither is to be changed afterwards."""
        self._times, self._usd = times, usd

    def __iter__(self) -> Iterator[tuple[datetime, float]]:
        return zip(self._times, self._usd.tolist(), strict=True)

    def __len__(self) -> int:
        return len(self._times)

    @overload
    def __getitem__(self, place: int) -> tuple[datetime, float]: ...

    @overload
    def __getitem__(self, place: slice) -> tuple[tuple[datetime, float], ...]: ...

    def __getitem__(self, place: int | slice) -> tuple[datetime, float] | tuple[tuple[datetime, float], ...]:
        return tuple(self)[place]

    def __eq__(self, other: object) -> bool:
        return tuple(self) == tuple(other) if isinstance(other, Line | tuple) else NotImplemented

    def __hash__(self) -> int:
        return hash(tuple(self))

    def __repr__(self) -> str:
        return repr(tuple(self))


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """The trend model's forecast for one symbol.

    `trend_usd` is the trend line at the last bar, `line` its corners (time, USD) over the history. The other fields are
    for signals that look ahead: the median forecast for `horizon_time` and its 80 % interval.
    """

    symbol: str
    time: datetime
    price_usd: float
    trend_usd: float
    horizon_time: datetime | None = None
    yhat_usd: float | None = None
    lower_usd: float | None = None
    upper_usd: float | None = None
    line: Sequence[tuple[datetime, float]] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Insight:
    """A direction for one symbol. `gap_fraction` is the gap that led to it, signed as the rule defines it.

    A rule may say what part of the equity to buy, and how far from the price its stop and its target are to be.
    """

    symbol: str
    direction: Direction
    price_usd: float
    gap_fraction: float
    reason: str
    weight_fraction: float | None = field(default=None, metadata=WHEN_SET)
    stop_loss_fraction: float | None = field(default=None, metadata=WHEN_SET)
    take_profit_fraction: float | None = field(default=None, metadata=WHEN_SET)

    @property
    def strength(self) -> float:
        """The size of the gap without its sign."""
        return abs(self.gap_fraction)


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """The quantity `wanted` of one symbol, and the quantity `held` now; and what its insight asks for, if it does."""

    symbol: str
    held: float
    wanted: float
    price_usd: float
    gap_fraction: float
    reason: str
    weight_fraction: float | None = field(default=None, metadata=WHEN_SET)
    stop_loss_fraction: float | None = field(default=None, metadata=WHEN_SET)
    take_profit_fraction: float | None = field(default=None, metadata=WHEN_SET)

    @property
    def change(self) -> float:
        """Shares to buy (positive) or to sell (negative)."""
        return self.wanted - self.held


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """An order, planned or placed, with its bracket's prices if it has a bracket.

    The bot's own orders are market orders, and stops that protect a holding: the stop price of a STOP is its
    `stop_loss_usd`, the limit of a LIMIT its `take_profit_usd`. `legs` are the orders of its bracket, as the broker has
    them.
    """

    client_order_id: str
    symbol: str
    side: Side
    quantity: float
    price_usd: float  # the price at the decision, not a limit
    stop_loss_usd: float | None = None
    take_profit_usd: float | None = None
    reason: str = ""
    status: OrderStatus = OrderStatus.PLANNED
    order_id: str = ""
    filled_quantity: float = 0.0
    filled_price_usd: float | None = None
    type: OrderType = OrderType.MARKET
    submitted_at: datetime | None = None
    filled_at: datetime | None = None
    legs: tuple["Order", ...] = ()

    @property
    def is_bracket(self) -> bool:
        """True if a stop loss and a take profit follow the order once it is filled."""
        return self.stop_loss_usd is not None and self.take_profit_usd is not None

    @property
    def is_whole(self) -> bool:
        """True if it is for whole shares: brokers take only such orders for longer than a day."""
        return float(self.quantity).is_integer()

    @property
    def signed_quantity(self) -> float:
        """The quantity, negative for a sale."""
        return self.quantity if self.side is Side.BUY else -self.quantity

    @property
    def is_final(self) -> bool:
        """True if the broker will not fill the order any further."""
        return self.status in {OrderStatus.FILLED, OrderStatus.REPLACED} or self.status.is_dead

    @property
    def came_to_nothing(self) -> bool:
        """True if no part of the order was filled or will be filled."""
        return self.status.is_dead and not self.filled_quantity


@dataclass(frozen=True, slots=True, kw_only=True)
class Denial:
    """One refusal: the symbol, the code, and a sentence with the values behind it.

    `is_unprotected`: the symbol's stop loss was canceled before the order was refused, or the bot bought a holding that
    has no working stop now. `is_partial`: the order goes ahead, with less than was asked for.
    """

    symbol: str
    code: Code
    detail: str
    is_unprotected: bool = False
    is_partial: bool = field(default=False, metadata=WHEN_SET)


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """All inputs of one run's decisions, read from outside once; the journal keeps them for `make replay`."""

    slot: datetime
    now: datetime
    account: Account
    positions: Mapping[str, Position]
    open_orders: tuple[OpenOrder, ...]
    ranking: Mapping[str, float]  # return over the lookback, as a fraction, of every candidate with prices
    closes: Mapping[str, Closes]  # of the chosen and the held symbols
    denials: tuple[Denial, ...] = ()  # symbols without usable prices
    prices: str = ""  # what the prices are, in words
    notes: tuple[Note, ...] = ()  # what was done to them
    stopped_at: Mapping[str, datetime] = field(default_factory=dict)  # the last fill of a stop, by symbol
    peak_equity_usd: float | None = None  # the highest equity on record, without later deposits and withdrawals
    peak_problem: str = ""  # why the highest equity is not known
    # when each holding was bought, for a rule that asks; not in older records
    bought_at: Mapping[str, datetime] = field(default_factory=dict, metadata=WHEN_SET)
    # the rest of the bars of the closes, for a rule that needs it; not in older records
    ohlv: Mapping[str, Ohlv] = field(default_factory=dict, metadata=WHEN_SET)

    def __post_init__(self) -> None:
        """Raise ValueError if the rest of a symbol's bars cannot be that of its closes."""
        for symbol, rest in self.ohlv.items():
            if len(self.closes.get(symbol, ())) != len(rest):
                raise ValueError(f"the bars of {symbol!r:.100} are not as many as its closes")


@dataclass(frozen=True, slots=True, kw_only=True)
class Unprotected:
    """Why a holding has no working stop for all its shares; `is_ours`: the bot bought it, so its owner must act."""

    symbol: str
    reason: str
    is_ours: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Settled:
    """An order of an earlier run that ended otherwise than that run recorded it."""

    client_order_id: str
    symbol: str
    side: Side
    quantity: float
    recorded_status: OrderStatus
    status: OrderStatus
    filled_quantity: float
    filled_price_usd: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """Everything that a run derives from its Observation and the settings."""

    forecasts: tuple[Forecast, ...] = ()
    insights: tuple[Insight, ...] = ()
    targets: tuple[Target, ...] = ()  # as sized, before the limits
    orders: tuple[Order, ...] = ()
    denials: tuple[Denial, ...] = ()


type Json = Mapping[str, Any]
"""A JSON object, such as one of the values above with its fields by name."""


class Report(TypedDict):
    """A run's actions and the reasons for them, as JSON types: run() and Lambda return it, and the journal keeps it.

    `status` is an Outcome or a Code. `investments` maps symbols to the quantities placed, negative for sales, as in the
    first version. `account` holds the Account `before` and `after`, null if the run did not get that far.
    `unprotected` lists the symbols held without a working stop loss although brackets are on; the owner must act.
    `problems` lists what needs a person; a message tells it when it is news.
    `stops` are the orders that protect holdings whose stop was missing. `settled` are orders of earlier runs that ended
    otherwise than recorded. `recovered` lists the slots of earlier, interrupted runs that this run has recorded.
    """

    strategy: str
    slot: str
    mode: str
    status: str
    detail: str
    investments: dict[str, float]
    orders: list[Json]
    denials: list[Json]
    targets: list[Json]
    insights: list[Json]
    forecasts: list[Json]
    account: dict[str, Json | None]
    unprotected: list[str]
    recovered: NotRequired[list[str]]  # this and the next three are missing in reports of older versions
    settled: NotRequired[list[Json]]
    stops: NotRequired[list[Json]]
    problems: NotRequired[list[Json]]
    timings_s: dict[str, float]
