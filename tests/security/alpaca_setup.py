"""Prices for a stand-in for Alpaca, and the settings of a run that trades there."""

from datetime import UTC, datetime

from scripts.testkit import services
from scripts.testkit.alpaca import AlpacaFake

BARS = 60


def give_bars(fake: AlpacaFake) -> None:
    """Give each symbol daily closes on a rising line, ending at its price."""
    for symbol, last in fake.prices.items():
        closes = [*services.trend_closes(BARS)[:-1], float(last)]
        fake.bars[symbol] = services.daily_bars(closes, datetime.now(UTC))


def settings_for(fake: AlpacaFake) -> dict[str, str]:
    """Return the environment of a run at this stand-in, without keys or a journal."""
    return {
        "BROKER": "alpaca",
        "APCA_API_BASE_URL": fake.url,
        "APCA_API_DATA_URL": fake.url,
        "PRICE_SOURCES": "alpaca",
        "ENGINE": "map",
        "UNIVERSE": "KO,PEP",
        "HISTORY_BARS": str(BARS),
        "UNIVERSE_LOOKBACK_BARS": "20",
        "MAX_PRICE_AGE_S": "600000",
    }
