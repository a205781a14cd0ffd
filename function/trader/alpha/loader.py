"""The registry of alpha models: one line for each rule that ships. No other module knows a rule's name.

A rule of the owner's is a file, which SIGNAL names by its path.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from trader.alpha import own
from trader.alpha.base import AlphaModel, Facts, OnForecasts
from trader.alpha.horizon import Horizon
from trader.alpha.interval import Interval
from trader.alpha.trend import Trend

if TYPE_CHECKING:
    from trader.settings import Settings

RULES: dict[str, type[OnForecasts]] = {
    rule.facts.name: rule
    for rule in (
        Trend,
        Interval,
        Horizon,
    )
}
"""The rules by name, the default first."""

DEFAULT = next(iter(RULES))

NO_PARAMETERS: Mapping[str, float] = {}


def names() -> tuple[str, ...]:
    """Return the names of all rules, as SIGNAL spells them."""
    return tuple(RULES)


def facts(name: str, parameters: Mapping[str, float] = NO_PARAMETERS) -> Facts:
    """Return the facts of a rule, which depend on no other setting. Raises KeyError or RuleError if there is none."""
    if own.is_file(name):
        return own.load(name, parameters, bar_interval="1d", horizon_bars=1).facts
    return RULES[name].facts


def needs_ohlcv(settings: "Settings") -> bool:
    """Check whether the rule needs open, high, low and volume beside the closes. Raises as `facts` does."""
    return facts(settings.signal, dict(settings.rule_parameters)).ohlcv


def name_ohlcv(settings: "Settings") -> str:
    """Name the setting that needs open, high, low and volume; empty if closes are enough."""
    return f"SIGNAL={settings.signal}" if needs_ohlcv(settings) else ""


def load(settings: "Settings") -> AlphaModel:
    """Return the rule that SIGNAL names, with its settings. Raises RuleError if its file cannot be used."""
    if own.is_file(settings.signal):
        return own.load(settings.signal, dict(settings.rule_parameters), settings.bar_interval, settings.horizon_bars)
    return RULES[settings.signal].from_settings(settings)
