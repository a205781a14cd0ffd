"""What an alpha model is: a rule that turns the forecast of a symbol into an insight. One file for each rule."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Protocol, Self

from trader.forecasting.base import ForecastSpec
from trader.model import Forecast, Insight

if TYPE_CHECKING:
    from trader.settings import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Words:
    """What pages, tables and logs call the things that a rule looks at."""

    line: str = "Prophet’s trend line"  # noqa: RUF001 as a page prints it
    chart: str = "Price against trend line"
    without_band: str = "forecast interval"  # what is drawn where the rule has no dead band


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What is known of a rule before its settings are."""

    name: str  # as SIGNAL spells it
    meaning: str  # one line, for the reference of settings
    min_bars: int  # of history: HISTORY_BARS must not be below, and a symbol with fewer has no forecast
    has_growing_history: bool = False  # all the past is looked at: HISTORY_BARS is only the most there may be
    shares_per_order: int | None = None  # trades so many shares at a time; None sizes by the cash there is
    backtest_defaults: Mapping[str, str] = field(default_factory=dict)  # variables that the rule is defined with
    words: Words = Words()


class AlphaModel(Protocol):
    """One rule with its settings. Pure."""

    facts: ClassVar[Facts]

    @classmethod
    def from_settings(cls, settings: "Settings") -> Self:
        """Return the rule as the settings want it."""

    @property
    def forecast_spec(self) -> ForecastSpec:
        """The forecast that the rule reads."""

    @property
    def dead_band_fraction(self) -> float | None:
        """Half the width of the dead band around the line, as a fraction of it; None for a rule that has none."""

    def insight(self, forecast: Forecast) -> Insight:
        """Return the direction for one symbol, and why. Raises ValueError if the forecast lacks what the rule reads."""
