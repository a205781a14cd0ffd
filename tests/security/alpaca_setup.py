"""Alpaca with prices of two stocks that are to be bought, and the settings of a run that trades them."""

from datetime import datetime, timedelta

import numpy as np

from scripts.testkit.alpaca import AlpacaFake
from trader.model import NEW_YORK

BARS = 60


def give_bars(fake: AlpacaFake) -> None:
    """A rising line of daily closes for each symbol, the last of them at its price."""
    noise = np.random.default_rng(1).normal(0, 0.002, BARS)
    today = datetime.now(NEW_YORK).replace(hour=0, minute=0, second=0, microsecond=0)
    for symbol, last in fake.prices.items():
        closes = [*(np.linspace(100, 110, BARS) * np.exp(noise))[:-1].tolist(), float(last)]
        fake.bars[symbol] = [(today - timedelta(days=BARS - 1 - day), each) for day, each in enumerate(closes)]


def settings_for(fake: AlpacaFake) -> dict[str, str]:
    """The environment of a run at this Alpaca, but for keys and journal."""
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
