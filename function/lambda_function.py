"""The function: lambda_handler(event, context) for AWS, and run() for anyone; it alone picks the adapters."""

import logging
import math
import os
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Protocol
from uuid import uuid4

from trader import logs
from trader.broker.base import LiveBroker, OrderHistory
from trader.journal.entry import Journal, open_journal
from trader.journal.record import Run
from trader.journal.recovery import recover
from trader.logs import one_line
from trader.model import Code, Outcome, Report
from trader.parameters import Parameters
from trader.prices.base import PriceSource
from trader.prices.file import FilePrices
from trader.prices.reader import Prices
from trader.progress import Progress, no_progress
from trader.schedule.slot import is_due, present, slot_and_now
from trader.settings import Settings, SettingsError
from trader.stages import pipeline
from trader.wiring import make_forecaster

if TYPE_CHECKING:
    from trader.alpaca.client import AlpacaClient

LOG = logging.getLogger("trader")
MAX_CHARACTERS = 2_000  # of an error, in a record and in a line of the log
PARAMETERS = Parameters()  # secrets are fetched at cold start and kept as long as the process


class Context(Protocol):
    """What run() asks of Lambda's context."""

    def get_remaining_time_in_millis(self) -> int:
        """Milliseconds until the function is stopped."""


def lambda_handler(event: object, context: Context) -> Report:
    """AWS Lambda's entry: the scheduled event in, the run's report out."""
    return run(event, context)


def run(
    event: object = None,
    context: Context | None = None,
    *,
    env: Mapping[str, str] = os.environ,
    progress: Progress = no_progress,
    clock: Callable[[], datetime] = present,
) -> Report:
    """Run the bot once for the event's slot and return its report; settings are in `env`, `clock` tells the present.

    An unexpected error is recorded in the journal, logged and raised. So are SettingsError and EventError, for what
    only a user can put right; there is no slot yet to record them under.
    """
    logs.configure()
    try:
        return claimed(event, context, env, progress, clock)
    except BaseException:
        LOG.exception("failed")
        raise


def claimed(
    event: object, context: Context | None, env: Mapping[str, str], progress: Progress, clock: Callable[[], datetime]
) -> Report:
    """Claim the slot, record what earlier runs left open, trade, and keep the record, that of a failed run too."""
    moment = clock()
    settings = secrets_read(event, env, moment)
    slot, now = slot_and_now(event, settings, moment)
    this = Run(settings=settings, slot=slot, now=now)
    journal = open_journal(settings.journal, settings.strategy)
    if not is_due(event, settings):
        return finish(this, Code.NOT_DUE, f"DAILY_AT={settings.daily_at} in New York is not now; nothing was done")
    remaining_s = remaining(context)
    # Not the request id: Lambda gives a repeated invocation the same one, and a repetition must not own the claim.
    if not this.is_dry and not journal.claim(slot, uuid4().hex, end(now, remaining_s())):
        return finish(this, Code.ALREADY_RAN, "another run has this slot; nothing was done")
    try:
        report = finish(this, *traded(this, journal, *open_desk(this, journal, env, remaining_s, progress, clock)))
        journal.save(this, report)
    except BaseException as error:
        try:
            journal.save(this, failed(this, error))
        except Exception:
            LOG.exception("no record of the failed run")
        raise
    return report


def secrets_read(event: object, env: Mapping[str, str], moment: datetime) -> Settings:
    """The settings, secrets and all. Where the secrets cannot be had, the slot gets a record that says so."""
    try:
        return Settings.from_env(env, PARAMETERS.fetch)
    except SettingsError:
        raise
    except Exception as error:
        try:
            without = Settings.from_env(env, lambda names: dict.fromkeys(names, "not read"))  # for the record alone
            slot, now = slot_and_now(event, without, moment)
            this = Run(settings=without, slot=slot, now=now)
            report = failed(this, error)
            journal = open_journal(without.journal, without.strategy)
            if not this.is_dry and journal.claim(slot, uuid4().hex, moment):  # else it is another run's, and its record
                journal.save(this, report)
        except Exception:
            LOG.exception("no record of the failed run")
        raise


def traded(this: Run, journal: Journal, desk: pipeline.RunServices, books: OrderHistory) -> tuple[Outcome | Code, str]:
    """The pipeline's outcome, with a detail where a gate was closed. What earlier runs left open comes first."""
    try:
        if not this.is_dry:
            recover(this, journal, books, desk.remaining_s)
        return pipeline.trade(desk, this), ""
    except pipeline.RunStopped as stop:
        return stop.code, str(stop)


def finish(this: Run, status: Outcome | Code, detail: str) -> Report:
    """The report of a run, with its one line in the log, and another if somebody must look."""
    report = this.report(status, detail)
    if report["unprotected"]:
        symbols = ",".join(report["unprotected"])
        extra = {"strategy": report["strategy"], "slot": report["slot"], "symbols": symbols}
        LOG.error("held without a stop loss", extra=extra)
    codes = [denial.code for denial in this.denials]
    account = this.account_after or (this.observation.account if this.observation else None)
    LOG.info(
        "run",
        extra={
            "strategy": report["strategy"],
            "slot": report["slot"],
            "mode": report["mode"],
            "status": report["status"],
            "detail": detail,
            "orders": len(this.orders),
            "denials": {code: codes.count(code) for code in dict.fromkeys(codes)},
            "unprotected": len(report["unprotected"]),
            "equity_usd": account.equity_usd if account else None,
            "cash_usd": account.cash_usd if account else None,
            "duration_s": round(sum(this.timings_s.values()), 3),
        },
    )
    return report


def failed(this: Run, error: BaseException) -> Report:
    """The report of a run that an unexpected error has ended."""
    return finish(this, Outcome.FAILED, one_line(f"{type(error).__name__}: {error}", MAX_CHARACTERS))


def open_desk(
    this: Run,
    journal: Journal,
    env: Mapping[str, str],
    remaining_s: Callable[[], float],
    progress: Progress,
    clock: Callable[[], datetime],
) -> tuple[pipeline.RunServices, OrderHistory]:
    """The adapters that the settings name, and the broker's books. What a setting does not name is not imported."""
    settings = this.settings

    @cache
    def alpaca() -> "AlpacaClient":
        from trader.alpaca.client import AlpacaClient

        return AlpacaClient(settings.apca_api_base_url, settings.apca_api_data_url, credentials)

    def credentials(refresh: bool) -> tuple[str, str]:
        if refresh:
            PARAMETERS.forget()
        fresh = Settings.from_env(env, PARAMETERS.fetch)
        return fresh.alpacauser, fresh.alpacapw

    def deciding_s() -> float:
        return desk.deciding_s()

    prices = Prices(
        [price_source(name, settings, alpaca, deciding_s) for name in settings.price_sources],
        now=this.now,
        count=max(settings.history_bars, settings.universe_lookback_bars + 1),
        max_age_s=settings.max_price_age_s,
        progress=progress,
    )
    live = broker(this, prices, alpaca, clock)
    desk = pipeline.RunServices(
        broker=live,
        prices=prices,
        forecaster=make_forecaster(settings),
        journal=journal,
        halted=lambda: PARAMETERS.halted(settings.halt_parameter),
        remaining_s=remaining_s,
        progress=progress,
    )
    return desk, live


def price_source(
    name: str, settings: Settings, alpaca: Callable[[], "AlpacaClient"], remaining_s: Callable[[], float]
) -> PriceSource:
    """The source that PRICE_SOURCES names."""
    if name == "file":
        return FilePrices(Path(settings.price_file), settings.bar_interval)
    if name == "yahoo":
        from trader.prices.yahoo import YahooPrices

        return YahooPrices(settings.bar_interval, remaining_s=remaining_s)
    from trader.prices.alpaca import AlpacaPrices

    return AlpacaPrices(alpaca(), settings.bar_interval, remaining_s=remaining_s)


def broker(
    this: Run, prices: Prices, alpaca: Callable[[], "AlpacaClient"], clock: Callable[[], datetime]
) -> LiveBroker:
    """The broker that BROKER names; the embedded one is filled at the run's own prices."""
    settings = this.settings
    if settings.broker == "alpaca":
        from trader.broker.alpaca import AlpacaBroker

        return AlpacaBroker(alpaca(), clock)
    from trader.broker.embedded import EmbeddedBroker

    return EmbeddedBroker(
        Path(settings.account_file),
        now=this.now,
        starting_cash_usd=settings.starting_cash_usd,
        closes=lambda symbols: prices.bars(symbols).closes,
        is_dry=this.is_dry,
    )


def remaining(context: Context | None) -> Callable[[], float]:
    """Seconds until the function is stopped; endless on a laptop."""
    if context is None:
        return lambda: math.inf
    return lambda: context.get_remaining_time_in_millis() / 1000


def end(now: datetime, remaining_s: float) -> datetime | None:
    """When this run will be over for certain; None if nothing stops it."""
    return None if remaining_s == math.inf else now + timedelta(seconds=remaining_s)
