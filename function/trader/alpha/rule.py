"""What a rule of your own is written with: one class in one file, such as rules/mine.py.

    class AboveAverage(Rule):
        days = Parameter(50, low=2, high=250, meaning="closes in the average")

        @property
        def bars(self) -> int:
            return self.days

        def decide(self, view: View) -> Iterator[Insight]:
            for symbol, closes in view.closes.items():
                gap = closes.iloc[-1] / closes.iloc[-self.days:].mean() - 1
                yield view.judge(symbol, gap, up=gap > 0, down=gap < 0, reason=f"{gap:+.1%} from its average")

The class is made anew for each run, and decide() must follow from the view alone.
"""

import math
import re
from collections.abc import Iterable, Mapping
from datetime import datetime
from enum import StrEnum
from typing import Any, Self, overload

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from trader.alpha import base
from trader.alpha.base import RuleError
from trader.model import NEW_YORK, OHLV, Closes, Direction, Forecast, Insight, Ohlv, Position

__all__ = ["Closes", "Forecast", "ForecastKind", "Insight", "Parameter", "Position", "Rule", "View"]

NAME = re.compile(r"[a-z][a-z0-9_]*")
"""What a parameter can be called; RULE_SHA256 has another meaning."""

PREFIX = "RULE_"
"""The beginning of the variables that set parameters."""


class ForecastKind(StrEnum):
    """What a rule wants Prophet for. Without a forecast, a run neither imports nor fits it."""

    NONE = "none"
    TREND_LINE = "trend line"
    INTERVAL = "forecast interval"  # HORIZON_BARS ahead


class Parameter[N: (int, float)]:
    """A number that a rule is set with: RULE_DAYS=20 for one called `days`. It is whole if its default is."""

    def __init__(self, default: N, *, low: N, high: N, meaning: str) -> None:
        """Declare a parameter with its default and its bounds, which are allowed values.

        Raises RuleError if they are no finite numbers, or if the default lies beyond the bounds.
        """
        for word, value in {"default": default, "low": low, "high": high}.items():
            if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
                raise RuleError(f"the {word} of a Parameter is {value!r:.40}; it must be a number")
        if not low <= default <= high:
            raise RuleError(
                f"the default of a Parameter is {default:g}, which is not from low={low:g} to high={high:g}"
            )
        words: object = meaning
        if not isinstance(words, str) or not words.strip():
            raise RuleError(f"the meaning of a Parameter is {words!r:.40}; it must be a text")
        self.default: N = default
        self.low: N = low
        self.high: N = high
        self.meaning = meaning
        self.name = ""

    def __set_name__(self, owner: type, name: str) -> None:
        """Take the name, which the variable has too. Raises RuleError for one that no variable can have."""
        if not NAME.fullmatch(name) or name == "sha256":
            raise RuleError(f"a Parameter cannot be named {name!r:.40}; take a name in small letters, such as `days`")
        self.name = name

    @overload
    def __get__(self, instance: None, owner: type) -> Self: ...
    @overload
    def __get__(self, instance: "Rule", owner: type) -> N: ...
    def __get__(self, instance: "Rule | None", owner: type) -> Self | N:
        """Return the value that an instance was set with."""
        return self if instance is None else instance.parameters[self.name]  # type: ignore[return-value] # read() made it

    @property
    def variable(self) -> str:
        """The environment variable that sets it."""
        return f"{PREFIX}{self.name.upper()}"

    def read(self, text: str) -> float:
        """Return the value of a text. Raises ValueError, which says what is allowed."""
        is_whole = isinstance(self.default, int)
        try:
            value = int(text) if is_whole else float(text)
        except ValueError:
            value = math.nan
        if not self.low <= value <= self.high:
            raise ValueError(f"a {'whole ' if is_whole else ''}number from {self.low:g} to {self.high:g}")
        return value


def find_parameters(owner: type) -> dict[str, "Parameter[int] | Parameter[float]"]:
    """Return the parameters that a rule's class declares, by name."""
    return {
        name: value
        for each in reversed(owner.__mro__)
        for name, value in vars(each).items()
        if isinstance(value, Parameter)
    }


class View:
    """What a rule is shown at a slot. All of it can be read, and none of it changed."""

    def __init__(
        self, seen: base.View, *, is_frozen: bool = False, ohlcv: bool = False, held_since: bool = False
    ) -> None:
        self._seen = seen
        self._is_frozen = is_frozen
        self._since = held_since
        self._ohlcv = ohlcv
        self._closes: dict[str, Closes] | None = None
        self._bars: dict[str, pd.DataFrame] | None = None

    @property
    def slot(self) -> datetime:
        """The minute at which the run was due, in UTC."""
        return self._seen.slot

    @property
    def closes(self) -> Mapping[str, Closes]:
        """The closes of the chosen and the held symbols, in USD; the last one is the price now."""
        if self._closes is None:
            seen = self._seen.closes.items()
            self._closes = {symbol: each if self._is_frozen else _freeze(each) for symbol, each in seen}
        return self._closes

    @property
    def bars(self) -> Mapping[str, pd.DataFrame]:
        """The bars of the closes: open, high, low and close in USD, in one unit, and the volume in shares of it.

        The last row is the bar so far. A volume that is not known is NaN. Only a rule that says so gets them.
        """
        if not self._ohlcv:
            raise RuleError("view.bars is not read unless the rule asks for it: write `ohlcv = True` in its class")
        if self._bars is None:
            seen, ohlv = self._seen, self._seen.ohlv
            self._bars = {symbol: _join(ohlv[symbol], each) for symbol, each in seen.closes.items() if symbol in ohlv}
        return self._bars

    @property
    def forecasts(self) -> Mapping[str, Forecast]:
        """Prophet's forecasts, of the symbols that have one."""
        return dict(self._seen.forecasts)

    @property
    def positions(self) -> Mapping[str, Position]:
        """What is held, by symbol."""
        return dict(self._seen.positions)

    @property
    def held_since(self) -> Mapping[str, datetime]:
        """The start of the bar in which each holding was bought, as far as it is known.

        The bars since are those of its closes that begin later. Only a rule that says so gets it.
        """
        if not self._since:
            raise RuleError("view.held_since is not read unless the rule asks for it: write `held_since = True` in it")
        closes = self._seen.closes
        return {
            symbol: _find_bar(closes[symbol], moment) if symbol in closes else moment
            for symbol, moment in self._seen.bought_at.items()
        }

    def judge(
        self,
        symbol: str,
        strength: float,
        *,
        up: bool = False,
        down: bool = False,
        reason: str,
        weight_fraction: float | None = None,
        stop_loss_fraction: float | None = None,
        take_profit_fraction: float | None = None,
    ) -> Insight:
        """Return an insight: UP buys what is not held, DOWN sells what is, and neither does nothing.

        `strength` orders the buys, the largest size first. `reason` is a sentence for the page and the log. A buy may
        ask for a part of the equity (with SIZING=weight), for a closer stop than STOP_LOSS_FRACTION, and for another
        target than TAKE_PROFIT_FRACTION; both are distances from the price, as fractions of it.
        """
        if up and down:
            raise RuleError(f"{symbol} is both up and down")
        direction = Direction.UP if up else Direction.DOWN if down else Direction.FLAT
        return Insight(
            symbol=symbol,
            direction=direction,
            price_usd=float(self._seen.closes[symbol].to_numpy()[-1]) if symbol in self._seen.closes else math.nan,
            gap_fraction=float(strength),
            reason=reason,
            weight_fraction=_read_fraction(weight_fraction),
            stop_loss_fraction=_read_fraction(stop_loss_fraction),
            take_profit_fraction=_read_fraction(take_profit_fraction),
        )


def _find_bar(closes: Closes, moment: datetime) -> datetime:
    """Return the start of the bar that a moment lies in; that of its day if it is before all of them."""
    place = int(closes.index.searchsorted(pd.Timestamp(moment), side="right")) - 1
    if place < 0:
        return pd.Timestamp(moment).tz_convert(NEW_YORK).normalize().tz_convert("UTC").to_pydatetime()
    start: datetime = closes.index[place].to_pydatetime()
    return start


def _read_fraction(value: float | None) -> float | None:
    return None if value is None else float(value)  # NumPy's numbers are no JSON


def _freeze(closes: Closes) -> Closes:
    """Return closes that cannot be written to, on the same memory."""
    return freeze(closes.to_numpy(), closes.index, closes.name)


def freeze(prices_usd: NDArray[np.floating[Any]], index: pd.Index, name: object) -> Closes:
    """Return closes that cannot be written to, on this memory."""
    values = prices_usd.view()
    values.flags.writeable = False
    return pd.Series(values, index=index, name=name, copy=False)


def _join(ohlv: Ohlv, closes: Closes) -> pd.DataFrame:
    """Return bars that cannot be written to."""
    values = np.column_stack([ohlv[:, :3], closes.to_numpy(float), ohlv[:, 3:]])
    values.flags.writeable = False
    return pd.DataFrame(values, index=closes.index, columns=[*OHLV[:3], "close", *OHLV[3:]], copy=False)


class Rule:
    """The base of an own rule: what it needs, and how it decides."""

    measures: str = "what the rule measures"
    """What `strength` is, for pages."""

    bar_interval: str = ""
    """The BAR_INTERVAL that the rule is made for, such as 1d; empty: it decides on bars of any length."""

    held_since: bool = False
    """Whether view.held_since says when each holding was bought."""

    ohlcv: bool = False
    """Whether view.bars has open, high, low, close and volume too."""

    def __init__(self, parameters: Mapping[str, float]) -> None:
        """Set the rule up with a value for each of its parameters."""
        self.parameters = dict(parameters)

    # Properties, so that a type checker accepts both `bars = 50` and a property of a parameter's value.
    @property
    def bars(self) -> int:
        """Closes that the rule needs; a symbol with fewer is not shown to it."""
        return 30

    @property
    def forecast(self) -> ForecastKind:
        """What it wants Prophet for."""
        return ForecastKind.NONE

    def decide(self, view: View) -> Iterable[Insight]:
        """Return an insight for symbols of the view, at most one each; a symbol without one is left alone."""
        raise NotImplementedError(f"{type(self).__name__} has no decide()")
