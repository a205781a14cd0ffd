"""Small values for tests: each builder takes what matters to a test and fills in the rest."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import pandas as pd

from trader.alpha import loader
from trader.forecasting.base import ForecastSpec
from trader.model import NEW_YORK, Account, Closes, Direction, Forecast, Insight, Order, Position, Side, Target
from trader.settings import Settings

SLOT = datetime(2022, 12, 28, 20, 45, tzinfo=UTC)
LAST_DAY = date(2022, 12, 28)


def settings(**variables: object) -> Settings:
    """Return the settings for these variables, e.g. settings(MODE="dry-run", UNIVERSE_SIZE=3)."""
    return Settings.from_env({name: str(value) for name, value in variables.items()}, lambda _: {})


def spec(signal: str = loader.DEFAULT, interval: str = "1d", bars: int = 1) -> ForecastSpec:
    """Return the spec of the forecast that a rule needs, for `bars` bars ahead, but on every trading day."""
    chosen = settings(SIGNAL=signal, BAR_INTERVAL=interval, HORIZON_BARS=bars)
    return replace(loader.RULES[chosen.signal].from_settings(chosen).forecast_spec, every_sessions=1)


def daily(prices: Sequence[float], last: date = LAST_DAY, symbol: str = "AAPL") -> Closes:
    """Return daily closes on business days, the last one on `last`."""
    days = pd.bdate_range(end=pd.Timestamp(last), periods=len(prices), tz=NEW_YORK).tz_convert("UTC")
    return pd.Series([float(price) for price in prices], index=days, name=symbol)


def every(minutes: int, prices: Sequence[float], last: datetime = SLOT) -> Closes:
    """Return closes of consecutive bars, the last of which starts at `last`."""
    times = [last - timedelta(minutes=minutes * back) for back in reversed(range(len(prices)))]
    return pd.Series([float(price) for price in prices], index=pd.DatetimeIndex(times), name="AAPL")


def account(
    equity_usd: float = 100_000,
    *,
    cash_usd: float | None = None,
    last_equity_usd: float | None = None,
    blocked: str = "",
) -> Account:
    """Return an account that holds only cash unless told otherwise."""
    cash = equity_usd if cash_usd is None else cash_usd
    return Account(
        equity_usd=equity_usd,
        last_equity_usd=equity_usd if last_equity_usd is None else last_equity_usd,
        cash_usd=cash,
        buying_power_usd=cash,
        blocked=blocked,
    )


def positions(**quantities: float) -> dict[str, Position]:
    """Return holdings at 100 USD a share."""
    return {
        symbol: Position(symbol=symbol, quantity=quantity, average_price_usd=100.0, price_usd=100.0)
        for symbol, quantity in quantities.items()
    }


def forecast(
    price_usd: float = 100, trend_usd: float = 100, *, lower_usd: float | None = None, upper_usd: float | None = None
) -> Forecast:
    """Return a forecast for AAPL; with `lower_usd` it has an interval one day ahead."""
    return Forecast(
        symbol="AAPL",
        time=SLOT,
        price_usd=price_usd,
        trend_usd=trend_usd,
        horizon_time=None if lower_usd is None else SLOT + timedelta(days=1),
        yhat_usd=None if lower_usd is None else trend_usd,
        lower_usd=lower_usd,
        upper_usd=upper_usd,
    )


def insight(symbol: str, direction: Direction, price_usd: float = 100.0, gap_fraction: float = -0.05) -> Insight:
    """Return an insight with an arbitrary reason."""
    return Insight(symbol=symbol, direction=direction, price_usd=price_usd, gap_fraction=gap_fraction, reason="a test")


def target(
    symbol: str = "AAPL", *, held: float = 0, wanted: float = 10, price_usd: float = 100, gap_fraction: float = -0.05
) -> Target:
    """Return a target, by default for ten shares at 100 USD."""
    return Target(
        symbol=symbol, held=held, wanted=wanted, price_usd=price_usd, gap_fraction=gap_fraction, reason="a test"
    )


def buy(symbol: str = "AAPL", quantity: float = 10, price_usd: float = 100, *, bracket: bool = True) -> Order:
    """Return a planned buy."""
    return Order(
        client_order_id=f"trend-20221228T2045Z-{symbol}-buy",
        symbol=symbol,
        side=Side.BUY,
        quantity=quantity,
        price_usd=price_usd,
        stop_loss_usd=price_usd * 0.97 if bracket else None,
        take_profit_usd=price_usd * 1.4 if bracket else None,
    )


def sell(symbol: str = "AAPL", quantity: float = 10, price_usd: float = 100) -> Order:
    """Return a planned sale."""
    return Order(
        client_order_id=f"trend-20221228T2045Z-{symbol}-sell",
        symbol=symbol,
        side=Side.SELL,
        quantity=quantity,
        price_usd=price_usd,
    )


def price_csv(closes: Mapping[str, Sequence[float | str]], last: date = LAST_DAY) -> str:
    """Return the text of a price file of daily closes; every symbol needs the same number of closes."""
    count = len(next(iter(closes.values())))
    days = pd.bdate_range(end=pd.Timestamp(last), periods=count)
    rows = [
        f"{day:%Y-%m-%d}," + ",".join(str(prices[row]) for prices in closes.values()) for row, day in enumerate(days)
    ]
    return "\n".join([f"timestamp,{','.join(closes)}", *rows]) + "\n"
