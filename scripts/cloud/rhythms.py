"""How often a strategy decides: as it is deployed, as it was tested, and whether that is the same."""

import json
from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from pathlib import Path
from typing import Any

from scripts.cloud.cron import VARIABLES, Schedule, read_default
from scripts.cloud.usage import UsageError
from scripts.files import BACKTEST_FIGURES
from trader.model import BAR_LENGTH, NEW_YORK, Json
from trader.schedule import sessions
from trader.settings import Settings, SettingsError, list_fields

type Times = tuple[str, ...]
"""The times in New York at which a strategy decides in a session of full length, such as 09:45."""

WEEKS = (date(2026, 1, 5), date(2026, 7, 6))
"""The Mondays of a week in winter and of one in summer, without a holiday: a schedule in UTC may differ by season."""

OPENING = f"{sessions.OPEN:%H:%M}"
"""The slot at which no price of the session is known yet: a run then buys and sells nothing."""

AT_CLOSE = ("15:45",)
"""The slot whose price a daily close is taken for; see trader.schedule.slot.slot_of."""

NOT_COMPARED = {
    *("strategy", "broker", "mode", "daily_at", "halt_parameter", "journal", "account_file", "starting_cash_usd"),
    *("price_sources", "price_file", "apca_api_base_url", "apca_api_data_url"),
}
"""Settings that a strategy may have otherwise than its backtest: places, names, and the rhythm itself."""


def find_times(schedule: Schedule, daily_at: str = "") -> Times:
    """Return the times at which a schedule starts runs that may trade; none if they are not the same in each session.

    Raises UsageError if the schedule is not valid.
    """
    days = [monday + timedelta(days=number) for monday in WEEKS for number in range(5)]
    found = {_times_of(schedule, day, daily_at) for day in days}
    return found.pop() if len(found) == 1 else ()


def _times_of(schedule: Schedule, day: date, daily_at: str) -> Times:
    moments = (each.astimezone(NEW_YORK) for each in schedule.times(day, 1) if sessions.is_open(each))
    return tuple(time for each in moments if (time := f"{each:%H:%M}") and daily_at in {"", time})


def are_same(tested: Sequence[str], deployed: Sequence[str]) -> bool:
    """Check whether a test decides when the deployed strategy does; at the opening neither has a price to act on."""
    return bool(deployed) and set(tested) - {OPENING} == set(deployed) - {OPENING}


def describe(times: Sequence[str]) -> str:
    """Say how often these times are, as what follows `runs`."""
    if not times:
        return "at times that differ from session to session"
    if len(times) == 1:
        return f"once a day at {times[0]}"
    if interval := find_interval(times):
        return f"every {'hour' if interval == '1h' else interval.replace('m', ' minutes')} of the trading day"
    return f"{len(times)} times a day, from {times[0]} to {times[-1]}"


def find_interval(times: Sequence[str]) -> str:
    """Return the interval, as in DECIDE_EVERY, whose slots these times are; empty if there is none."""
    inside = [each for each in times if each != OPENING]
    return next((every for every in BAR_LENGTH if every != "1d" and list(slots_of_day(every)) == inside), "")


def slots_of_day(every: str) -> Times:
    """Return the times in New York at which bars of this length end before the close of a full session.

    At the end of its first bar a price of the session is known for the first time.
    """
    begin, end = (timedelta(hours=each.hour, minutes=each.minute) for each in (sessions.OPEN, sessions.CLOSE))
    minutes = [int((begin + number * BAR_LENGTH[every]).total_seconds() // 60) for number in range(1, 400)]
    last = int(end.total_seconds() // 60)
    return tuple(f"{each // 60:02}:{each % 60:02}" for each in minutes if each < last)


# --- a backtest ----------------------------------------------------------------------------------------------------


def compare_with_default(decide_every: str, settings: Settings) -> Json | None:
    """Return how often a backtest decides, how often Terraform's default runs, and what to set; JSON-safe.

    None in an installed package, from which nothing is deployed.
    """
    if not VARIABLES.is_file():
        return None
    tested = find_tested_times(decide_every, settings)
    deployed = (settings.daily_at,) if settings.daily_at else find_times(Schedule(read_default()))
    is_daily = tested == AT_CLOSE and not decide_every
    return {
        "tested": "once a day at the close" if is_daily else describe(tested),
        "tested_times": list(tested),
        "deployed": describe(deployed),
        "deployed_times": list(deployed),
        "is_same": are_same(tested, deployed),
        "to_test": " ".join(f"{name}={text}" for name, text in find_variables(deployed).items()),
    }


def find_tested_times(decide_every: str, settings: Settings) -> Times:
    """Return the times at which a backtest decides."""
    if decide_every and settings.daily_at:
        return (settings.daily_at,)
    interval = decide_every or settings.bar_interval
    return AT_CLOSE if interval == "1d" else slots_of_day(interval)


def find_variables(deployed: Sequence[str]) -> Mapping[str, str]:
    """Return the variables of make backtest that test a strategy at these times; none if no variables do."""
    if interval := find_interval(deployed):
        return {"DECIDE_EVERY": interval}
    if len(deployed) == 1 and deployed[0] in slots_of_day("15m"):
        return {"DECIDE_EVERY": "15m", "DAILY_AT": deployed[0]}
    return {}


# --- a plan --------------------------------------------------------------------------------------------------------


def describe_strategies(strategies: Mapping[str, Mapping[str, Any]], out: Path) -> dict[str, str]:
    """Say of each planned strategy how often it runs, and whether the last backtest in `out` tested it so."""
    figures = read_figures(out / BACKTEST_FIGURES)
    return {name: describe_strategy(its, figures) for name, its in sorted(strategies.items())}


def describe_strategy(its: Mapping[str, Any], figures: Json) -> str:
    """Say how often a strategy runs, whether a backtest tested that, and otherwise how to; `figures` may be empty."""
    environment: Mapping[str, str] = its["environment"]
    daily_at = environment.get("DAILY_AT", "")
    try:
        deployed = find_times(Schedule(its["schedule"]), daily_at)
    except UsageError as error:
        return f"may run otherwise than it was tested: its times are not known ({error})"
    runs = f"runs {describe(deployed)}"
    tested = find_test(environment, figures)
    if tested and are_same(tested["tested_times"], deployed):
        return f"{runs}, as tested in {BACKTEST_FIGURES}"
    if tested:
        runs += f", but {BACKTEST_FIGURES} tested these settings {tested['tested']}"
    else:
        runs += f"; {BACKTEST_FIGURES} has no test of these settings" if figures else "; not tested"
    variables = find_variables(deployed)
    if not variables:
        return f"{runs}; no DECIDE_EVERY has these times"
    return f"{runs}. To test it: {write_command(environment, variables)}"


def read_figures(path: Path) -> Json:
    """Return the figures of the last backtest; empty if there are none that can be read."""
    try:
        figures = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return figures if isinstance(figures, dict) else {}


def find_test(environment: Mapping[str, str], figures: Json) -> Json:
    """Return the schedule of a backtest if it tested the settings of a strategy; empty otherwise."""
    schedule, tested = figures.get("schedule"), figures.get("settings")
    kept = {name: text for name, text in environment.items() if name.lower() not in NOT_COMPARED}
    try:
        public = Settings.from_env(kept, lambda _: {}).public()
    except SettingsError:
        return {}
    if not isinstance(schedule, dict) or not isinstance(tested, dict):
        return {}
    is_same = all(tested.get(name) == value for name, value in public.items() if name not in NOT_COMPARED)
    return schedule if is_same else {}


def write_command(environment: Mapping[str, str], variables: Mapping[str, str]) -> str:
    """Return the command that tests a strategy with these variables, on Yahoo's prices."""
    # Neither a secret, which no command line takes, nor what changes no decision, such as where messages go.
    known = {each.name.upper() for each in list_fields() if each.metadata["recorded"]}
    own = {name: text for name, text in environment.items() if name in known and name.lower() not in NOT_COMPARED}
    words = {**variables, "PRICE_SOURCES": "yahoo", **own}
    return " ".join(["make backtest", *(f"{name}={text}" for name, text in words.items())])
