"""The interface of an alpha model: a rule that turns what it is shown into an insight for each symbol."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, ClassVar, Protocol, Self

from trader.forecasting.base import ForecastSpec
from trader.model import Closes, Forecast, Insight, Ohlv, Position, tick_usd

if TYPE_CHECKING:
    from trader.settings import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Words:
    """The names that pages, tables and logs use for what a rule looks at."""

    line: str = "Prophet’s trend line"  # noqa: RUF001 as a page prints it; empty without a forecast
    gap: str = "how far the price is above (+) or below (−) the trend line"  # noqa: RUF001 as a page prints it
    chart: str = "Price against trend line"
    without_band: str = "forecast interval"  # what is drawn if the rule has no dead band


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """The facts of a rule that do not depend on its settings."""

    name: str  # as SIGNAL spells it
    min_bars: int  # of history: the minimum of HISTORY_BARS; a symbol with fewer has no forecast
    has_growing_history: bool = False  # the rule uses the whole past: HISTORY_BARS is only an upper bound
    has_gap: bool = True  # its gap is that between a price and its line; otherwise its strength can be any number
    shares_per_order: int | None = None  # the fixed size of an order; None sizes orders by the cash available
    # settings that are part of the rule's definition:
    backtest_defaults: Mapping[str, str] = field(default_factory=dict)
    words: Words = Words()
    held_since: bool = False  # it needs to know when each holding was bought
    bar_interval: str = ""  # the only BAR_INTERVAL that it is made for; empty: any
    ohlcv: bool = False  # it needs open, high, low and volume beside the closes


class RuleError(ValueError):
    """A rule's file cannot be used, or the rule failed; the message names the file, the line and what is wrong."""


def is_visible(move_usd: float, price_usd: float) -> bool:
    """Check whether a price can show a move: a smaller one than half a tick does not change the price to the tick.

    What a forecast says beyond that, as for a share that does not move, is rounding and random draws, and so is its
    sign.
    """
    return abs(move_usd) >= float(tick_usd(price_usd)) / 2


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """What a rule is shown at a slot."""

    slot: datetime
    closes: Mapping[str, Closes]  # of the chosen and the held symbols, up to the price at which they can trade now
    forecasts: Mapping[str, Forecast]  # of the symbols that have one
    positions: Mapping[str, Position]  # what is held
    bought_at: Mapping[str, datetime] = field(default_factory=dict)  # of what is held, as far as it is known
    ohlv: Mapping[str, Ohlv] = field(default_factory=dict)  # the rest of the closes' bars, if the rule needs them


class AlphaModel(Protocol):
    """One rule with its settings; a pure function of the view."""

    @property
    def facts(self) -> Facts:
        """The facts of the rule."""

    @property
    def forecast_spec(self) -> ForecastSpec | None:
        """The forecast that the rule reads; None if it reads none."""

    @property
    def dead_band_fraction(self) -> float | None:
        """Half the width of the dead band around the line, as a fraction of the line; None if the rule has none."""

    def insights(self, view: View) -> Sequence[Insight]:
        """Return the direction for symbols of the view, at most one each, with the reason.

        Raises ValueError if a forecast is insufficient.
        """


class OnForecasts:
    """A base for the rules that ship with the project, which judge each forecast by itself."""

    __slots__ = ()

    facts: ClassVar[Facts]

    @classmethod
    def from_settings(cls, settings: "Settings") -> Self:
        """Return the rule, configured by the settings."""
        raise NotImplementedError

    @property
    def forecast_spec(self) -> ForecastSpec:
        """The forecast that the rule reads."""
        raise NotImplementedError

    @property
    def dead_band_fraction(self) -> float | None:
        """See AlphaModel."""
        return None

    def insight(self, forecast: Forecast) -> Insight:
        """Return the direction for one symbol, with the reason. Raises ValueError if the forecast is insufficient."""
        raise NotImplementedError

    def insights(self, view: View) -> Sequence[Insight]:
        """See AlphaModel."""
        return [self.insight(forecast) for forecast in view.forecasts.values()]
