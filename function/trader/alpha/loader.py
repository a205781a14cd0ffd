"""The registry of alpha models: one line for each rule. No other module knows a rule's name."""

from typing import TYPE_CHECKING

from trader.alpha.base import AlphaModel, Facts
from trader.alpha.horizon import Horizon
from trader.alpha.interval import Interval
from trader.alpha.trend import Trend

if TYPE_CHECKING:
    from trader.settings import Settings

RULES: dict[str, type[AlphaModel]] = {
    rule.facts.name: rule
    for rule in (
        Trend,
        Interval,
        Horizon,
    )
}
"""The rules by name, the default first."""

DEFAULT = next(iter(RULES))


def names() -> tuple[str, ...]:
    """Return the names of all rules, as SIGNAL spells them."""
    return tuple(RULES)


def facts(name: str) -> Facts:
    """Return the facts of a rule, which do not depend on its settings. Raises KeyError if no rule has this name."""
    return RULES[name].facts


def load(settings: "Settings") -> AlphaModel:
    """Return the rule that SIGNAL names, with its settings."""
    return RULES[settings.signal].from_settings(settings)
