"""The control group: accounts that see what the bot saw, at the same slots, but know no better. Pure.

Each has the bot's settings, sizes, limits, stops and ideal fills, as its test has. It differs in the forecast alone:

- `last price` takes the price of the bar before for the line, so that Prophet's whole knowledge is missing;
- `coin` gives each symbol the line of another one, by lot once a day: as many buys and sales, in the wrong symbols.

They need nothing but the records, so no run asks for more, and nobody can choose them afterwards: the lot is drawn from
the strategy's name and the day.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime
from enum import StrEnum
from itertools import pairwise

from scripts.owner.confidence import Interval, find_needed, measure
from scripts.owner.shadow import Decider, Period, UndecidableError, World, follow
from scripts.owner.tape import Step
from trader.alpha import loader
from trader.model import NEW_YORK, Forecast
from trader.settings import Settings

MAX_STEPS = 400
"""The most slots at which all accounts decide; of more, they decide at the last one of each day, the bot's too."""


class Control(StrEnum):
    """An account that is compared: the bot's own, and the members of the control group."""

    BOT = "bot"
    LAST_PRICE = "last price"
    COIN = "coin"
    BENCHMARK = "benchmark"


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """The bot's test beside a control: the return of both, and the interval of the mean daily difference."""

    control: Control
    name: str
    bot_return: float
    control_return: float
    interval: Interval | None  # None if the sessions are too few

    @property
    def needed_sessions(self) -> int | None:
        """After how many sessions it would be known if all went on as before; None if never, or not yet told."""
        return None if self.interval is None else find_needed(self.interval)


def run(steps: Sequence[Step], strategy: str) -> dict[Control, list[tuple[datetime, float]]]:
    """Return the equity of the bot's test and of each control at the slots that ran; none if there is no forecast.

    A rule that reads no forecasts has no control group: there is nothing to take from it.
    """
    steps = cut(steps)
    if len(steps) < 2:
        return {}
    decider = Decider(steps)
    settings = [_read_settings(decider, number) for number in range(len(steps))]
    first = next((each for each in settings if each is not None), None)
    if first is None or loader.load(first).forecast_spec is None:
        return {}
    period = Period(steps=steps)
    found = {}
    for control, change in CHANGES.items():
        changed = [replace(step, forecasts=change(step, strategy), decided=()) for step in steps]
        course = follow(replace(period, steps=changed), World(settings=settings), Decider(changed))
        found[control] = course.equity
    return found


def cut(steps: Sequence[Step]) -> list[Step]:
    """Return the steps that saw the account and prices; of more than MAX_STEPS, the last one of each day."""
    seen = [step for step in steps if step.is_seen and step.bars]
    if len(seen) <= MAX_STEPS:
        return seen
    last = {step.slot.astimezone(NEW_YORK).date(): step for step in seen}
    return [step for step in seen if last[step.slot.astimezone(NEW_YORK).date()] is step]


def keep(step: Step, _strategy: str) -> Mapping[str, Forecast]:
    """Return the forecasts as they are."""
    return step.forecasts


def _read_settings(decider: Decider, number: int) -> Settings | None:
    try:
        return decider.read_settings(number)
    except UndecidableError:
        return None


# --- what they believe -----------------------------------------------------------------------------------------------


def take_last(step: Step, _strategy: str) -> Mapping[str, Forecast]:
    """Return forecasts whose line is the close of the bar before."""
    found = {}
    for symbol, forecast in step.forecasts.items():
        bars = step.bars.get(symbol)
        if bars is not None and len(bars.usd) > 1:
            found[symbol] = _move(forecast, float(bars.usd[-2]))
    return found


def draw_lots(step: Step, strategy: str) -> Mapping[str, Forecast]:
    """Return forecasts in which each symbol has the line of another one, relative to the price, by lot."""
    day = step.slot.astimezone(NEW_YORK).date()
    drawn = sorted(step.forecasts, key=lambda symbol: _lot(strategy, day, symbol))
    if len(drawn) < 2:  # there is nothing to exchange, so that the coin decides between the line and its mirror
        return {symbol: _toss(each, _lot(strategy, day, symbol)) for symbol, each in step.forecasts.items()}
    giver = dict(zip(drawn, [*drawn[1:], drawn[0]], strict=True))
    found = {}
    for symbol, forecast in step.forecasts.items():
        other = step.forecasts[giver[symbol]]
        found[symbol] = _scale(other, forecast)
    return found


def _lot(strategy: str, day: date, symbol: str) -> bytes:
    return hashlib.sha256(f"{strategy} {day} {symbol}".encode()).digest()


def _toss(forecast: Forecast, lot: bytes) -> Forecast:
    line_usd = forecast.trend_usd
    return forecast if lot[0] % 2 else _move(forecast, forecast.price_usd**2 / line_usd)


def _move(forecast: Forecast, line_usd: float) -> Forecast:
    """Return a forecast whose line, or the middle of whose interval, lies here."""
    if forecast.lower_usd is None or forecast.upper_usd is None:
        return replace(forecast, trend_usd=line_usd)
    shift_usd = line_usd - (forecast.lower_usd + forecast.upper_usd) / 2
    middle_usd = None if forecast.yhat_usd is None else line_usd
    return replace(
        forecast,
        trend_usd=line_usd,
        yhat_usd=middle_usd,
        lower_usd=max(forecast.lower_usd + shift_usd, line_usd * 1e-6),
        upper_usd=forecast.upper_usd + shift_usd,
    )


def _scale(other: Forecast, mine: Forecast) -> Forecast:
    """Return the forecast of another symbol in terms of this one's price."""
    factor = mine.price_usd / other.price_usd

    def scale(usd: float | None) -> float | None:
        return None if usd is None else usd * factor

    return replace(
        mine,
        trend_usd=other.trend_usd * factor,
        yhat_usd=scale(other.yhat_usd),
        lower_usd=scale(other.lower_usd),
        upper_usd=scale(other.upper_usd),
    )


CHANGES: Mapping[Control, Callable[[Step, str], Mapping[str, Forecast]]] = {
    Control.BOT: keep,
    Control.LAST_PRICE: take_last,
    Control.COIN: draw_lots,
}


# --- beside the bot --------------------------------------------------------------------------------------------------


def compare(
    control: Control, name: str, bot: Sequence[tuple[datetime, float]], other: Sequence[tuple[datetime, float]]
) -> Comparison | None:
    """Compare two courses of equity session by session; None if they share fewer than two."""
    return compare_days(control, name, last_of_days(bot), last_of_days(other))


def compare_days(
    control: Control, name: str, bot: Mapping[date, float], other: Mapping[date, float]
) -> Comparison | None:
    """Compare two values by the day, on the days that both have."""
    days = sorted(bot.keys() & other.keys())
    if len(days) < 2:
        return None
    differences = [bot[day] / bot[before] - other[day] / other[before] for before, day in pairwise(days)]
    return Comparison(
        control=control,
        name=name,
        bot_return=bot[days[-1]] / bot[days[0]] - 1,
        control_return=other[days[-1]] / other[days[0]] - 1,
        interval=measure(differences),
    )


def last_of_days(course: Sequence[tuple[datetime, float]]) -> dict[date, float]:
    """Return the last equity of each day in New York."""
    return {moment.astimezone(NEW_YORK).date(): usd for moment, usd in course}


def judge(compared: Comparison) -> str:
    """Say in words whether the bot has earned its place beside a control, and what it would take to know."""
    interval = compared.interval
    if interval is None:
        return "too few sessions to say anything"
    bounds = f"{interval.mean:+.3%} a day, {interval.low:+.3%} to {interval.high:+.3%}"
    if interval.low > 0:
        return f"better: {bounds}"
    if interval.high < 0:
        return f"worse: {bounds}"
    needed = compared.needed_sessions
    when = "no hundred years would tell" if needed is None else f"it would take about {needed:,} sessions at this rate"
    return f"not known yet: {bounds}; {when}"


def conclude(group: Sequence[Comparison]) -> str:
    """Say in one sentence whether the forecast has earned its place; empty if nothing was compared."""
    intervals = {each.name: each.interval for each in group if each.control is not Control.BENCHMARK}
    if not intervals:
        return ""
    worse = [name for name, each in intervals.items() if each and each.high < 0]
    if worse:
        return f"The forecast has not earned its place: {' and '.join(worse)} did better without it"
    if all(each and each.low > 0 for each in intervals.values()):
        return "The forecast has earned its place: without it, or by chance, there would be less"
    return "Whether the forecast has earned its place is not known yet"
