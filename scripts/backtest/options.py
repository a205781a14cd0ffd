"""The options of a backtest and the bot's settings from environment variables; all problems are reported at once."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path
from typing import Any

from scripts.backtest import cash_rate
from scripts.backtest.benchmark import choice
from scripts.backtest.model import Options
from scripts.cloud.rhythms import slots_of_day
from trader.alpha import loader
from trader.model import BAR_LENGTH, PriceSourceName
from trader.settings import Integer, Number, OneOf, Settings, SettingsError, nearest, path, variables

MIN_WITH_DAILY_AT = timedelta(minutes=15)
"""The shortest slots with DAILY_AT: of shorter ones, several lie within the tolerance around it."""


def day(text: str) -> date:
    """Parse a calendar day."""
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise ValueError("a day such as 2021-01-04") from None


VARIABLES: Mapping[str, tuple[str, Callable[[str], object]]] = {
    "START": ("start", day),
    "END": ("end", day),
    "CASH": ("cash_usd", Number(0, 1e12, above=True)),
    "COMMISSION": ("commission_fraction", Number(0, 0.1)),
    "SLIPPAGE": ("slippage_fraction", Number(0, 0.1)),
    "REFIT_EVERY": ("refit_every_bars", Integer(1, 1_000)),
    "BENCHMARK": ("benchmark", choice),
    "CASH_RATE": ("cash_rate", cash_rate.read),
    "DECIDE_EVERY": ("decide_every", OneOf(tuple(each for each in BAR_LENGTH if each != "1d"))),
    "INTRADAY_FILE": ("intraday_file", path),
    "OUT": ("out", Path),
}
"""The field of Options and the parser for each variable."""

SOURCES = {(PriceSourceName.FILE,), (PriceSourceName.YAHOO,)}
"""The price sources that a backtest can read, each alone."""

OWN = {"BROKER": "embedded", "MODE": "paper", "HALT_PARAMETER": ""}
"""Settings that a backtest fixes: it has its own broker, places orders, and is never halted."""


def from_env(env: Mapping[str, str]) -> Options:
    """Read and check everything. Raises SettingsError with all problems, including those of the bot's settings."""
    rule = loader.RULES.get(env.get("SIGNAL", "").strip())
    defaults = rule.facts.backtest_defaults if rule else {}
    chosen = {**defaults, **{name: text for name, text in env.items() if text.strip()}}
    problems: list[str] = []
    settings = Settings()
    try:
        settings = Settings.from_env({**chosen, **OWN}, _no_parameters)
    except SettingsError as error:
        problems += error.problems
    problems += [
        f"{name}={chosen[name]}: a backtest has its own broker and runs at every bar; leave {name} unset"
        for name, allowed in OWN.items()
        if chosen.get(name, allowed) != allowed
    ]
    given, wrong = read(chosen, {name: parse for name, (_, parse) in VARIABLES.items()})
    problems += [*wrong, *find_misspelled(chosen)]
    if settings.price_sources not in SOURCES:
        problems.append(
            f"PRICE_SOURCES={','.join(settings.price_sources)}: a backtest takes all its prices from one source; "
            "set PRICE_SOURCES=file and PRICE_FILE, or PRICE_SOURCES=yahoo"
        )
    start, end = given.get("START"), given.get("END")
    if start and end and start > end:
        problems.append(f"START={start} is after END={end}: there is nothing to trade; swap them")
    problems += find_unfit_slots(given, settings)
    if problems:
        raise SettingsError(problems)
    values = {"cash_usd": settings.starting_cash_usd} | {VARIABLES[name][0]: value for name, value in given.items()}
    return Options(settings=replace(settings, starting_cash_usd=values["cash_usd"]), **values)


def find_unfit_slots(given: Mapping[str, Any], settings: Settings) -> Iterator[str]:
    """Yield the problems of what goes with DECIDE_EVERY, or does not go without it."""
    every = given.get("DECIDE_EVERY")
    if not every:
        if "INTRADAY_FILE" in given:
            yield f"INTRADAY_FILE={given['INTRADAY_FILE']} is for DECIDE_EVERY; set it too, such as DECIDE_EVERY=15m"
        if settings.daily_at:
            yield (
                f"DAILY_AT={settings.daily_at}: a backtest runs at every bar; leave DAILY_AT unset, or set "
                "DECIDE_EVERY=15m"
            )
        return
    if settings.bar_interval != "1d":
        yield (
            f"BAR_INTERVAL={settings.bar_interval} with DECIDE_EVERY={every}: slots within the day have daily bars as "
            "their history; set BAR_INTERVAL=1d, or leave DECIDE_EVERY unset"
        )
    if settings.price_sources == (PriceSourceName.FILE,) and "INTRADAY_FILE" not in given:
        yield (
            f"DECIDE_EVERY={every} needs the prices within the sessions: set INTRADAY_FILE to a file of {every} "
            "bars, or PRICE_SOURCES=yahoo"
        )
    if given.get("REFIT_EVERY", 1) != 1:
        yield (
            f"REFIT_EVERY={given['REFIT_EVERY']} with DECIDE_EVERY={every}: each slot fits anew, as the deployed bot "
            "does; leave REFIT_EVERY unset, or set ENGINE=map to save time"
        )
    if settings.daily_at and BAR_LENGTH[every] < MIN_WITH_DAILY_AT:
        yield f"DAILY_AT={settings.daily_at}: several slots of DECIDE_EVERY={every} are due; set DECIDE_EVERY=15m"
    elif settings.daily_at and settings.daily_at not in (slots := slots_of_day(every)):
        yield (
            f"DAILY_AT={settings.daily_at} is no slot of DECIDE_EVERY={every}, whose slots are {slots[0]}, {slots[1]} "
            f"and so on to {slots[-1]}; choose one of them"
        )


def read(env: Mapping[str, str], parsers: Mapping[str, Callable[[str], object]]) -> tuple[dict[str, Any], list[str]]:
    """Return the values of the variables that are set, and the problems of those that cannot be read."""
    values: dict[str, Any] = {}
    problems = []
    for name, parse in parsers.items():
        if text := env.get(name, "").strip():
            try:
                values[name] = parse(text)
            except ValueError as error:
                problems.append(f"{name}={text!r}: must be {error}")
    return values, problems


def find_misspelled(env: Mapping[str, str]) -> list[str]:
    """Return a problem for each variable that looks like a misspelled option, such as REFIT_EVRY."""
    known = {*VARIABLES, *variables()}
    meant = {name: nearest(name, list(VARIABLES)) for name in env if name not in known}
    return [f"{name} is not an option of a backtest; did you mean {match}?" for name, match in meant.items() if match]


def _no_parameters(_names: object) -> Mapping[str, str]:
    """Return nothing: a backtest needs no secrets."""
    return {}
