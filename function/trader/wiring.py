"""Wiring: the only module that names adapters. It imports the costly ones only if the settings select them."""

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, assert_never
from urllib.parse import urlsplit

from trader.alpha import loader
from trader.app import Invocation
from trader.broker.base import LiveBroker, OrderHistory
from trader.deadline import ORDER_TIME_S, Deadline
from trader.forecasting.base import Forecaster
from trader.forecasting.map.forecaster import MapForecaster
from trader.forecasting.none import NoForecaster
from trader.forecasting.prophet import ProphetForecaster
from trader.journal.accounts import ENDING, AccountEntry, name_entry
from trader.journal.base import Run
from trader.journal.entry import Journal
from trader.journal.stores import Bucket, Folder
from trader.messages.addresses import Address
from trader.messages.base import Channel
from trader.messages.sns import SnsTopic
from trader.model import Account, BrokerName, Closes, Engine, PriceSourceName
from trader.parameters import Parameters
from trader.prices.base import Coverage, PriceSource
from trader.prices.file import FilePrices
from trader.prices.reader import Prices
from trader.reading import in_turn, side_by_side
from trader.settings import Settings, SettingsError
from trader.stages.pipeline import RunServices

if TYPE_CHECKING:
    from trader.alpaca.client import AlpacaClient

DAYS_OF_BENCHMARK = 40
"""Daily closes of the benchmark that a digest reads: enough for a month of sessions."""

PARAMETERS = Parameters()  # secrets are fetched at cold start and kept while the process lives


OWN_ACCOUNTS: set[tuple[str, str]] = set()
"""Strategies with the entries of their accounts, as far as this process has read them: a warm start reads none."""


def read_settings(env: Mapping[str, str]) -> Settings:
    """Return the settings with their secrets. Raises SettingsError, or botocore's errors if AWS fails."""
    try:
        return Settings.from_env(env, PARAMETERS.fetch)
    except SettingsError:
        PARAMETERS.forget()  # one that is missing, or wrong, may be there at the next run
        raise


def open_journal(location: str, strategy: str) -> Journal:
    """Open a strategy's journal at `location`, which is `folder:PATH` or `s3://bucket/prefix` as in JOURNAL."""
    if location.startswith("folder:"):
        return Journal(Folder(Path(location.removeprefix("folder:"))), strategy)
    parts = urlsplit(location)
    return Journal(Bucket(parts.netloc, parts.path.strip("/")), strategy)


def open_price_file(settings: Settings, present: datetime) -> FilePrices:
    """Return the price source for the file that PRICE_FILE names; `present` is this machine's time."""
    return FilePrices(
        Path(settings.price_file),
        settings.bar_interval,
        settings.universe,
        lambda: present,
        ohlcv=loader.needs_ohlcv(settings),
    )


def last_bar_of_file(settings: Settings, present: datetime) -> datetime:
    """Return the start of the last bar in the price file, the latest moment that it covers."""
    return open_price_file(settings, present).last_bar()


def make_forecaster(settings: Settings) -> Forecaster:
    """Return the Forecaster that ENGINE names, if the rule reads forecasts."""
    spec = loader.load(settings).forecast_spec
    if spec is None:
        return NoForecaster()
    return MapForecaster(spec) if settings.engine is Engine.MAP else ProphetForecaster(spec)


def make_order_history(settings: Settings, now: datetime) -> OrderHistory:
    """Return the broker that BROKER names, for reading earlier orders only; it requests no prices."""
    match settings.broker:
        case BrokerName.ALPACA:
            from trader.broker.alpaca import AlpacaBroker

            return AlpacaBroker(_alpaca_client(settings, lambda _: (settings.alpacauser, settings.alpacapw)))
        case BrokerName.EMBEDDED:
            from trader.broker.embedded import EmbeddedBroker

            return EmbeddedBroker(
                Path(settings.account_file),
                now=now,
                starting_cash_usd=settings.starting_cash_usd,
                series=lambda _: {},
                is_dry=True,
            )
        case other:
            assert_never(other)


def make_channels(settings: Settings) -> list[Channel]:
    """Return the channels that MESSAGE_TOPIC and MESSAGE_URL name; none if neither is set."""
    topics = [SnsTopic(settings.message_topic)] if settings.message_topic else []
    return [*topics, *map(Address, settings.message_url)]


def read_halt_reason(settings: Settings) -> str:
    """Return why trading is halted; empty if it is not."""
    return PARAMETERS.read_halt_reason(settings.halt_parameter)


def read_daily_closes(symbol: str, settings: Settings, invocation: Invocation) -> Closes | None:
    """Return a symbol's daily closes of the last weeks; None if the sources have none of it."""
    daily = replace(settings, bar_interval="1d", signal=loader.DEFAULT, rule_parameters=())

    def alpaca() -> "AlpacaClient":
        return _alpaca_client(daily, lambda _: (settings.alpacauser, settings.alpacapw), invocation.deadline)

    sources = [_price_source(name, daily, alpaca, invocation) for name in daily.price_sources]
    prices = Prices(sources, now=invocation.clock(), count=DAYS_OF_BENCHMARK, max_age_s=math.inf)
    series = prices.series([symbol]).get(symbol)
    return None if series is None else series.closes


def make_services(run: Run, invocation: Invocation, journal: Journal) -> tuple[RunServices, OrderHistory]:
    """Return the services of a run, and its broker again as the order history that recovery reads."""
    settings, deadline = run.settings, invocation.deadline

    @cache
    def alpaca() -> "AlpacaClient":
        return _alpaca_client(settings, lambda refresh: _read_keys(invocation.env, refresh=refresh), deadline)

    prices = Prices(
        [_price_source(name, settings, alpaca, invocation) for name in settings.price_sources],
        now=run.now,
        count=max(settings.history_bars, settings.universe_lookback_bars + 1),
        max_age_s=settings.max_price_age_s,
        progress=invocation.progress,
        ohlcv_for=loader.name_ohlcv(settings),
    )
    broker = _broker(run, prices, alpaca, invocation.clock)
    services = RunServices(
        broker=broker,
        prices=prices,
        forecaster=make_forecaster(settings),
        alpha=loader.load(settings),
        journal=journal.entry(run.slot, is_dry=run.is_dry),
        read_halt_reason=lambda: PARAMETERS.read_halt_reason(settings.halt_parameter),
        deadline=deadline,
        progress=invocation.progress,
        present=None if settings.broker is BrokerName.EMBEDDED else invocation.clock,
        history=broker,
        orders=journal,
        flows=broker,
        coverage=lambda: _find_coverage(settings, invocation.clock()),
        refuse_account=lambda account: _refuse_account(run, journal, account),
        # The embedded broker reads a file: threads would save nothing.
        reading=in_turn if settings.broker is BrokerName.EMBEDDED else side_by_side,
        prepare_prices=lambda: _prepare_prices(settings),
    )
    return services, broker


def _prepare_prices(settings: Settings) -> None:
    """Import what the first price source needs, while the broker's answers are awaited; no request is sent."""
    if settings.price_sources[0] is PriceSourceName.YAHOO:
        from trader.prices.yahoo import prepare_yfinance

        prepare_yfinance()


def _refuse_account(run: Run, journal: Journal, account: Account) -> str:
    """Return why the account is another strategy's; empty if it is not. What was found once is not asked again."""
    settings = run.settings
    if settings.broker is BrokerName.EMBEDDED:
        path = Path(settings.account_file)
        folder = Folder(path.parent, f"ACCOUNT_FILE={path}")
        entry = AccountEntry(folder, f"{path.name}{ENDING}", f"ACCOUNT_FILE={path}", f"{path.parent.as_posix()}/")
    else:
        place = f"{settings.journal.rstrip('/')}/"
        entry = AccountEntry(journal.store, name_entry(account.number), f"account {account.number}", place)
    known = (settings.strategy, f"{entry.place}{entry.name}")
    if known in OWN_ACCOUNTS:
        return ""
    taken = entry.refuse(settings.strategy, is_dry=run.is_dry)
    if not taken and not run.is_dry:
        OWN_ACCOUNTS.add(known)
    return taken


def _find_coverage(settings: Settings, present: datetime) -> Coverage | None:
    """Return what the price file has if it is the only source; None if only a request shows what there is."""
    is_alone = settings.price_sources == (PriceSourceName.FILE,)
    return open_price_file(settings, present).coverage() if is_alone else None


def _alpaca_client(
    settings: Settings, credentials: Callable[[bool], tuple[str, str]], deadline: Deadline | None = None
) -> "AlpacaClient":
    from trader.alpaca.client import AlpacaClient

    remaining_s = (deadline or Deadline.never()).remaining_s
    return AlpacaClient(settings.apca_api_base_url, settings.apca_api_data_url, credentials, remaining_s=remaining_s)


def _read_keys(env: Mapping[str, str], *, refresh: bool) -> tuple[str, str]:
    if refresh:
        PARAMETERS.forget()
    fresh = read_settings(env)
    return fresh.alpacauser, fresh.alpacapw


def _price_source(
    name: PriceSourceName, settings: Settings, alpaca: Callable[[], "AlpacaClient"], invocation: Invocation
) -> PriceSource:
    for_prices = invocation.deadline.before(ORDER_TIME_S)
    match name:
        case PriceSourceName.FILE:
            return open_price_file(settings, invocation.clock())
        case PriceSourceName.YAHOO:
            from trader.prices.yahoo import YahooPrices

            return YahooPrices(settings.bar_interval, deadline=for_prices, ohlcv=loader.needs_ohlcv(settings))
        case PriceSourceName.ALPACA:
            from trader.prices.alpaca import AlpacaPrices

            needs_ohlcv = loader.needs_ohlcv(settings)
            return AlpacaPrices(alpaca(), settings.bar_interval, deadline=for_prices, ohlcv=needs_ohlcv)
        case other:
            assert_never(other)


def _broker(
    run: Run, prices: Prices, alpaca: Callable[[], "AlpacaClient"], clock: Callable[[], datetime]
) -> LiveBroker:
    settings = run.settings
    match settings.broker:
        case BrokerName.ALPACA:
            from trader.broker.alpaca import AlpacaBroker

            return AlpacaBroker(alpaca(), clock)
        case BrokerName.EMBEDDED:
            from trader.broker.embedded import EmbeddedBroker

            return EmbeddedBroker(
                Path(settings.account_file),
                now=run.now,
                starting_cash_usd=settings.starting_cash_usd,
                series=prices.series,  # orders are filled at the run's own prices
                is_dry=run.is_dry,
            )
        case other:
            assert_never(other)
