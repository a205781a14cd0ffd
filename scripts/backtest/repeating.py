"""The command that makes a backtest again, and what made it."""

import shlex
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from scripts.backtest.cash_rate import CashRate
from scripts.backtest.model import Options, Result
from scripts.backtest.options import OWN, VARIABLES, from_env
from trader.codec import encode
from trader.forecasting.map import kernel
from trader.journal.chain import hash_code
from trader.model import NEW_YORK, Engine
from trader.settings import SettingsError

UNUSED = {*OWN, "STARTING_CASH_USD", "JOURNAL", "ACCOUNT_FILE", "OUT"}
"""Settings that a backtest does not use, or under another name, and the place of the report."""

CODE_CHARACTERS = 12
"""The length of the code's hash in a report, as Git shortens those of commits."""


def describe_making(result: Result, now: datetime) -> dict[str, Any]:
    """Return when and by which version a backtest was made, and the command that makes it again; JSON-safe.

    The map engine is named with its version, because its reference in NumPy agrees with it in the first digits only.
    """
    is_map = result.options.settings.engine is Engine.MAP
    return {
        "at": encode(now.astimezone(UTC).replace(microsecond=0)),
        "version": _version(),
        "code": hash_code()[:CODE_CHARACTERS],
        **({"engine": kernel.name_engine()} if is_map else {}),
        "command": write_command(result),
    }


def _version() -> str:
    """Return the installed version; empty in a clone, which only its code identifies."""
    try:
        return version("prophet-trader")
    except PackageNotFoundError:
        return ""


def write_command(result: Result) -> str:
    """Return the command with all settings that are not the rule's defaults, and with the days that were traded."""
    options = result.options
    if result.bars:
        first, last = (result.bars[at].time.astimezone(NEW_YORK).date() for at in (0, -1))
        options = replace(options, start=first, end=last)
    return " ".join(["make backtest", *(f"{name}={shlex.quote(text)}" for name, text in _variables(options).items())])


def _variables(options: Options) -> Mapping[str, str]:
    """Return the variables that from_env reads these options from, without those that change nothing."""
    signal, given = options.settings.signal, _values(options)
    found = {} if signal == from_env({}).settings.signal else {"SIGNAL": signal}
    for _ in range(2):  # a second time because some defaults follow from other settings
        usual = _values(from_env(found))
        found |= {name: _spell(value) for name, value in given.items() if value != usual.get(name)}
    return {name: text for name, text in found.items() if not _is_default(name, found, given)}


def _values(options: Options) -> dict[str, object]:
    settings = {name.upper(): value for name, value in options.settings.public().items()}
    own = {name: getattr(options, field) for name, (field, _) in VARIABLES.items()}
    return {name: value for name, value in {**settings, **own}.items() if name not in UNUSED}


def _is_default(name: str, found: Mapping[str, str], given: Mapping[str, object]) -> bool:
    others = {each: text for each, text in found.items() if each != name}
    try:
        return _values(from_env(others)) == given
    except SettingsError:
        return False


def _spell(value: object) -> str:
    """Return the text that stands for a value of the settings."""
    if isinstance(value, CashRate):
        return value.text
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)
